"""Do two versions of the code learn the same, to the last bit?

    python benchmarks/same_results.py --out before.json         # with the one version
    python benchmarks/same_results.py --compare before.json     # with the other, on the same machine

Pretrains XDC, GDT and SeLaVi by the recipe `small` for two rounds on generated videos, through the command line, as a
user would, with labels of segments and scores afterwards. The numbers kept are SHA-256 sums of every tensor of the
model, of the columns of labels and features, and of what `label` and `evaluate` then say. `--package` names the
checkout whose `seehear` is run: the one that holds this script by default.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.csv as pc
import pyarrow.parquet as pq
from safetensors import safe_open

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.corpus import make_collection  # noqa: E402

ROUNDS = {
    "xdc": ("rounds=2", "optim.epochs=2"),
    "gdt": ("optim.epochs=2",),
    "selavi": ("optim.epochs=2", "selavi.heads=3", "selavi.clusterings=8"),
}


def sha(data: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def table_sums(path: Path) -> dict[str, str]:
    """One sum a column of a .csv or .parquet file."""
    table = pc.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    return {name: sha(json.dumps(table[name].to_pylist()).encode()) for name in table.column_names}


def seehear(package: Path, folder: Path, *arguments: str | Path) -> str:
    """What a command of the given checkout prints; it is run in its own process, with its own cache."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(package),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "seehear", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def sums(method: str, package: Path, folder: Path) -> dict[str, str]:
    """Pretrain by one method and sum up all that came of it."""
    run, truth = folder / method, folder / "videos" / "labels.csv"
    settings = [f"--set={s}" for s in ("threads=1", "cluster.k=4", "data.workers=0", *ROUNDS[method])]
    seehear(package, folder, "pretrain", truth, "--out", run, "--method", method, "--quiet", *settings)
    found = {}
    with safe_open(run / "model" / "model.safetensors", "np") as file:
        found |= {f"weights {name}": sha(file.get_tensor(name).tobytes()) for name in sorted(file.keys())}
    for name in ("labels.parquet", "features.parquet"):
        found |= {f"{name} {column}": x for column, x in table_sums(run / name).items()}
    out = folder / f"{method}.csv"
    seehear(package, folder, "label", run, folder / "videos", "--every", "1", "--workers", "1", "--out", out)
    found |= {f"label --every {column}": x for column, x in table_sums(out).items()}
    for arguments in (("clustering", "--labels"), ("linear", "--data"), ("retrieval", "--data")):
        scores = json.loads(seehear(package, folder, "evaluate", arguments[0], run, arguments[1], truth, "--json"))
        found[f"evaluate {arguments[0]}"] = sha(json.dumps(scores["scores"], sort_keys=True).encode())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--package", type=Path, default=ROOT)
    arguments = parser.parse_args()
    if arguments.out is None and arguments.compare is None:
        print("same_results.py compares two versions: --out FILE with the one, then --compare FILE with the other")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_collection(folder / "videos", n=24, classes=4)
        found = {method: sums(method, arguments.package.resolve(), folder) for method in ROUNDS}
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1))
    differing = 0
    before = found if arguments.compare is None else json.loads(arguments.compare.read_text())
    for method, of_method in found.items():
        unlike = sorted(
            k for k in before[method].keys() | of_method.keys() if before[method].get(k) != of_method.get(k)
        )
        differing += len(unlike)
        print(f"{method}: {len(of_method)} sums" + ("" if arguments.compare is None else f", {len(unlike)} differ"))
        print("".join(f"    {name}\n" for name in unlike), end="")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
