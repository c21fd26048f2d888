# `make help` lists the targets. Needs Python 3.11 or later and network access for the first set-up;
# everything is installed into .venv beside this file and nothing outside it (pip's cache apart).

PYTHON ?=
VIDEOS ?=
ARGS ?=

# Relative paths only, so that a folder with spaces in its name will do.
PY = .venv/bin/python
ALL = test,lint
EXTRAS = $(ALL)
QUICK = $(if $(EXTRAS),,--no-compile)
PIP = .venv/bin/python -m pip --disable-pip-version-check
RECORDER = --only-binary=vizdoom,cyal,pygame-ce
comma = ,

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench docs clean

help:
	@echo 'make setup    .venv with seehear and all that it needs; done again only when the pins change'
	@echo 'make demo     from footage without labels to clusters to name in the browser, a page and honest scores'
	@echo '              make demo VIDEOS=folder takes your own videos; ARGS=--help shows the options'
	@echo 'make test     the tests, on all cores; ARGS="-k words -x" goes to pytest'
	@echo 'make lint     ruff, mypy and the direction of imports'
	@echo 'make format   put the code into the house style'
	@echo 'make bench    the benchmarks, one after another, and a table of the ratios they found'
	@echo 'make docs     the documentation as pages in site/'
	@echo 'make clean    remove .venv, caches and built pages (demo/ stays)'
	@echo
	@echo 'PYTHON=python3.12 chooses the interpreter; pip.conf and PIP_* variables are honoured.'

# The stamp holds the folder, a checksum of the pins and the extras: a moved checkout, a changed pin or a wish for more is
# set up anew. The demo goes without what tests and lint need, and without compiling what it will never import.
setup:
	@set -eu; \
	key="$$(pwd) $$(cat pyproject.toml constraints.txt | cksum)"; \
	all="$$key $(ALL)"; key="$$key $(EXTRAS)"; \
	works() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }; \
	version() { "$$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }; \
	wanted='$(PYTHON)'; \
	if [ -n "$$wanted" ] && ! works "$$wanted"; then \
	    found="$$("$$wanted" --version 2>&1 || true)"; \
	    echo "PYTHON=$$wanted is no Python 3.11 or later (it says: $$found)." >&2; exit 1; \
	fi; \
	stamp="$$(cat .venv/.setup 2>/dev/null || true)"; \
	if { [ "$$stamp" = "$$key" ] || [ "$$stamp" = "$$all" ]; } && works $(PY); then \
	    if [ -z "$$wanted" ] || [ "$$(version "$$wanted")" = "$$(version $(PY))" ]; then exit 0; fi; \
	fi; \
	if [ -z "$$wanted" ]; then \
	    for candidate in python3 python3.13 python3.12 python3.11 python; do \
	        if command -v $$candidate >/dev/null && works $$candidate; then wanted=$$candidate; break; fi; \
	    done; \
	fi; \
	if [ -z "$$wanted" ]; then \
	    echo "seehear needs Python 3.11 or later; python3 here is: $$(python3 --version 2>&1 || true)." >&2; \
	    echo "Install one, then run: make setup PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! works $(PY) || [ "$$(version $(PY))" != "$$(version "$$wanted")" ]; then \
	    echo "Making .venv with $$("$$wanted" --version) ..."; \
	    rm -rf .venv; \
	    "$$wanted" -m venv .venv || { rm -rf .venv; \
	        echo "$$wanted cannot make a virtual environment (Debian and Ubuntu: install python3-venv)." >&2; exit 1; }; \
	fi; \
	rm -f .venv/.setup .venv/setup.log; \
	echo "Installing seehear and its pinned packages (the log is .venv/setup.log) ..."; \
	{ $(PIP) install -q $(QUICK) -c constraints.txt setuptools && { \
	      $(PIP) install $(QUICK) -c constraints.txt --no-build-isolation $(RECORDER) -e '.[$(if $(EXTRAS),$(EXTRAS)$(comma))demo]' || { \
	      echo 'no recorder'; \
	      $(PIP) install $(QUICK) -c constraints.txt --no-build-isolation -e '.$(if $(EXTRAS),[$(EXTRAS)])'; }; }; \
	  echo "ended with $$?"; } 2>&1 | while IFS= read -r line; do \
	    printf '%s\n' "$$line" >> .venv/setup.log; \
	    case "$$line" in \
	        'Collecting '*) name="$${line#Collecting }"; printf ' %s' "$${name%%[!A-Za-z0-9._-]*}" ;; \
	        'Processing '*.whl) name="$${line##*/}"; printf ' %s' "$${name%%-*}" ;; \
	        'Installing collected '*) printf '\nUnpacking ...\n' ;; \
	        'no recorder') printf '\nThe package that records footage for the demo cannot be installed here;\n'; \
	            echo 'everything else is, and then this works: make demo VIDEOS=folder' ;; \
	        'ended with 0') ;; \
	        'ended with '*) printf '\n'; tail -n 15 .venv/setup.log | grep -v '^ended with' >&2; \
	            echo 'The set-up failed; see above and .venv/setup.log. Run it again to go on.' >&2; exit 1 ;; \
	    esac; \
	done; \
	printf '%s\n' "$$key" > .venv/.setup; \
	echo "Ready: .venv/bin/seehear"

demo: EXTRAS =
demo: setup
	@$(PY) examples/demo.py $(if $(VIDEOS),--videos '$(VIDEOS)') $(ARGS)

test: setup
	@$(PY) -m pytest -q -n auto $(ARGS)

lint: setup
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

format: setup
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: setup
	@set -e; BENCH_RATIOS="$$(mktemp)"; export BENCH_RATIOS; for script in benchmarks/*.py; do \
	    case "$$script" in */scale.py) echo "== $$script is left out: it takes hours"; continue;; esac; \
	    echo "== $$script"; $(PY) "$$script" $(ARGS); \
	done; cd benchmarks; \
	../$(PY) -c 'import os, pathlib, support; support.print_ratios(pathlib.Path(os.environ["BENCH_RATIOS"]))'; \
	rm -f "$$BENCH_RATIOS"

docs: setup
	@$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[docs]'
	@.venv/bin/zensical build --clean $(ARGS)

clean:
	rm -rf .venv build dist site seehear.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find seehear tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
