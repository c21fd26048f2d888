#!/usr/bin/env bash
# The whole check of a GPU, in under eight minutes and without a network: prints a table, writes JSON.
#
#     benchmarks/on_gpu.sh [--wheels FOLDER] [options of benchmarks/gpu.py]
#
# Takes the Python that PYTHON names, else that of .venv, else python3. If it lacks packages, all wheels of FOLDER
# (default: wheels/ in this checkout) are installed into a folder that is removed afterwards; fill it elsewhere with
#     pip download --only-binary=:all: --no-deps -d wheels -c constraints.txt PACKAGES
# PyTorch must be there: its build has to suit the driver.
set -euo pipefail

wheels=wheels
if [ "${1:-}" = --wheels ]; then
    [ -d "${2:-}" ] || { echo "--wheels needs a folder that there is" >&2; exit 2; }
    wheels=$(cd "$2" && pwd)
    shift 2
fi
cd "$(dirname "$0")/.."
if [ -n "${PYTHON:-}" ]; then python=$PYTHON
elif [ -x .venv/bin/python ]; then python=.venv/bin/python
else python=python3
fi
"$python" -c 'import torch' || { echo "$python has no PyTorch: give another by PYTHON=" >&2; exit 2; }

missing=$("$python" - <<'PYTHON_END'
import importlib.metadata as metadata, re, tomllib
for requirement in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)[0]
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        print(name)
PYTHON_END
)
extra=""
if [ -n "$missing" ]; then
    echo "missing, taken from $wheels/:" $missing
    ls "$wheels"/*.whl > /dev/null || { echo "put their wheels there, or name another folder by --wheels" >&2; exit 2; }
    extra=$(mktemp -d)
    trap 'rm -rf "$extra"' EXIT
    "$python" -m pip install -q --no-index --no-deps --target "$extra" "$wheels"/*.whl
fi
options=("$@")
case " $* " in *" --device "*) ;; *) options+=(--device cuda) ;; esac
case " $* " in *" --out "*) ;; *) options+=(--out benchmarks/results/gpu.json) ;; esac
export PYTHONPATH="$PWD${extra:+:$extra}${PYTHONPATH:+:$PYTHONPATH}"
"$python" benchmarks/gpu.py "${options[@]}"
