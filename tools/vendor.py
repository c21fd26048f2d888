"""Fetch, verify and write the libraries that the application's pages use, as plain files without a build step.

    python tools/vendor.py                      # write the files that vendor.json names, from npm's registry
    python tools/vendor.py --check              # only compare the files with vendor.json; asks nothing of the network
    python tools/vendor.py --update htm=3.1.1   # take another version, and note its checksums

`seehear/app/static/vendor/vendor.json` names each library with its version, its licence, the integrity of the package
it comes from, and every file with the checksum of what the package holds and of what stands here. The two differ only
where a bare import ("preact"), which a browser cannot resolve, is turned into the path of the file beside it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).resolve().parent.parent / "seehear" / "app" / "static" / "vendor"
MANIFEST = VENDOR / "vendor.json"


def main() -> int:
    """Do what the command line asks; 1 where something does not match."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare the files here with vendor.json")
    parser.add_argument("--update", metavar="NAME=VERSION", help="take this version and note its checksums")
    options = parser.parse_args()
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    if options.check:
        problems = differences(manifest)
        print("\n".join(problems) or "the files are those of vendor.json")
        return 1 if problems else 0
    update = None
    if options.update:
        update, _, version = options.update.partition("=")
        found = [library for library in manifest["libraries"] if library["name"] == update]
        if not found or not version:
            parser.error(f"--update takes NAME=VERSION of one of {[lib['name'] for lib in manifest['libraries']]}")
        found[0]["version"] = version
    for library in manifest["libraries"]:
        write_library(library, pin=library["name"] == update)
    if update:
        MANIFEST.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def differences(manifest: dict[str, Any]) -> list[str]:
    """What does not match between vendor.json and the files beside it, in words."""
    problems = []
    known = {MANIFEST.name}
    for library in manifest["libraries"]:
        for file in library["files"]:
            known.add(file["file"])
            path = VENDOR / file["file"]
            if not path.exists():
                problems.append(f"{file['file']} is missing")
            elif sha256(path.read_bytes()) != file["sha256"]:
                problems.append(f"{file['file']} is not the file of {library['name']} {library['version']}")
    problems += [f"{p.name} is in no library of vendor.json" for p in sorted(VENDOR.iterdir()) if p.name not in known]
    return problems


def write_library(library: dict[str, Any], *, pin: bool) -> None:
    """Fetch one package and write its files; with `pin`, note what was found instead of comparing with it."""
    with tempfile.TemporaryDirectory() as folder:
        archive = fetch(library["name"], library["version"], Path(folder))
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        agree(library, "integrity", integrity, pin, f"the package {library['name']}@{library['version']}")
        with tarfile.open(archive) as package:
            for file in library["files"]:
                member = package.extractfile(f"package/{file['source']}")
                if member is None:
                    raise SystemExit(f"{library['name']} has no file {file['source']}")
                data = member.read()
                agree(file, "source_sha256", sha256(data), pin, file["source"])
                for bare, path in file.get("imports", {}).items():
                    data = rewrite_import(data, bare, path)
                agree(file, "sha256", sha256(data), pin, file["file"])
                (VENDOR / file["file"]).write_bytes(data)
                print(f"{file['file']:<24}{library['name']} {library['version']}  {len(data):,} bytes")


def fetch(name: str, version: str, folder: Path) -> Path:
    """The package as npm serves it, by whatever registry the user's configuration of npm names."""
    command = ["npm", "pack", f"{name}@{version}", "--silent", "--pack-destination", str(folder)]
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        raise SystemExit("npm is needed to fetch packages (it comes with Node.js); --check needs nothing") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"npm could not fetch {name}@{version} (exit code {error.returncode})") from None
    return next(folder.glob("*.tgz"))


def rewrite_import(data: bytes, bare: str, path: str) -> bytes:
    """Turn `from "bare"` into the path of a file, once and no more."""
    for quote in (b'"', b"'"):
        wanted = b"from" + quote + bare.encode() + quote
        if data.count(wanted) == 1:
            return data.replace(wanted, b"from" + quote + path.encode() + quote)
    raise SystemExit(f"the import of {bare!r} was not found exactly once")


def agree(where: dict[str, Any], key: str, found: str, pin: bool, what: str) -> None:
    """Compare a checksum with the one noted, or note it."""
    if pin:
        where[key] = found
    elif where[key] != found:
        raise SystemExit(f"{what} is not what vendor.json notes:\n  noted {where[key]}\n  found {found}")


def sha256(data: bytes) -> str:
    """The checksum in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
