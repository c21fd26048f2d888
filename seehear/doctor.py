"""What this machine has and lacks."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from seehear.commands import command


@dataclass(frozen=True)
class Check:
    """One finding. `status` is ok, note (works, but...) or missing (something will fail)."""

    name: str
    status: str
    found: str
    remedy: str = ""


def _text(checks: list[Check], _: object) -> str:
    lines = []
    for check in checks:
        lines.append(f"{check.status:<7} {check.name}: {check.found}")
        lines += [f"        -> {check.remedy}"] if check.remedy else []
    return "\n".join(lines)


@command(
    "doctor",
    group="know",
    example="seehear doctor",
    text=_text,
    as_json=lambda checks: [asdict(check) for check in checks],
    exit_code=lambda checks: 3 if any(check.status == "missing" for check in checks) else 0,
)
def examine() -> list[Check]:
    """Say what this machine has, what it lacks and what that means.

    Looks at Python, PyTorch, decoding, encoders of the page's thumbnails, GPU, cores, memory and disk.
    """
    return [_python(), _torch(), *_decoding(), _torchcodec(), _gpu(), _cores(), _memory(), _disk()]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return Check("Python", "ok" if ok else "missing", version, "" if ok else "install Python 3.11 or newer")


def _torch() -> Check:
    try:
        import torch
    except ImportError as error:
        return Check("PyTorch", "missing", str(error), "pip install torch")
    return Check("PyTorch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")


def _decoding() -> list[Check]:
    try:
        import av
    except ImportError as error:
        return [Check("PyAV", "missing", str(error), "pip install av")]
    checks = [Check("PyAV", "ok", av.__version__)]
    for codec in ("libx264", "aac"):
        try:
            av.codec.Codec(codec, "w")
            checks.append(Check(f"encoder {codec}", "ok", "there, for the report's thumbnails"))
        except ValueError:
            checks.append(Check(f"encoder {codec}", "note", "absent", "the report will have no moving thumbnails"))
    return checks


def _torchcodec() -> Check:
    if importlib.util.find_spec("torchcodec") is None:
        return Check("torchcodec", "note", "absent; PyAV decodes, which is as fast here")
    try:
        import torchcodec

        return Check("torchcodec", "ok", getattr(torchcodec, "__version__", "there"))
    except Exception as error:  # noqa: BLE001 - its loader raises RuntimeError, OSError or ImportError
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Check("torchcodec", "note", f"does not load: {first}", "PyAV is used instead")


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("GPU", "note", "none that PyTorch can use", "use --recipe small; full recipes need a GPU")
    properties = torch.cuda.get_device_properties(0)
    bf16 = "bfloat16" if torch.cuda.is_bf16_supported() else "float32 only"
    return Check("GPU", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}")


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("cores", "ok" if cores > 1 else "note", str(cores))


def _memory() -> Check:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20
    except (OSError, StopIteration):
        return Check("memory", "note", "unknown on this system")
    enough = free >= 4
    return Check(
        "memory", "ok" if enough else "note", f"{free:.1f} GiB free", "" if enough else "training wants 4 GiB or more"
    )


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    enough = free >= 10
    return Check(
        "disk here", "ok" if enough else "note", f"{free:.0f} GiB free",
        "" if enough else "lower data.cache_gib, or set data.cache_folder to another disk",
    )  # fmt: skip
