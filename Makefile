# `make lab` and `make test` do all set-up on a fresh machine: Python 3.11 or newer, make and git are enough.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: lab test slow bench soak screenshots check minimum compile interpret clean

lab: $(VENV)/.lab
	$(BIN)/sysadm-nb lab notebooks $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

# Minutes long each: fuzzing, blocked cells, other releases of ipykernel.
slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow --timeout 3600 $(ARGS)

bench: $(VENV)/.bench
	for name in ingest snapshot fanout recording views trends alerts; do \
		echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

soak: $(VENV)/.test
	$(BIN)/python -m benchmarks.soak $(ARGS)

screenshots: $(VENV)/.test
	$(BIN)/python scripts/screenshots.py

check: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "sysadm_nb needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

# The oldest versions of the dependencies that pyproject.toml allows, in an environment of their own.
# Warnings are no errors here, and kernels print none: old releases warn of what newer ones of others changed.
minimum:
	$(PYTHON) -m venv $(VENV)-minimum
	$(PYTHON) scripts/minimum.py > $(VENV)-minimum/constraints.txt
	$(VENV)-minimum/bin/python -m pip install --quiet --editable ".[test]" --constraint $(VENV)-minimum/constraints.txt
	PYTHONWARNINGS=ignore::DeprecationWarning \
	$(VENV)-minimum/bin/python -m pytest -m "not slow and not browser" -W default $(ARGS)

# What fills the tables, compiled beside its source (the list is in hatch_build.py), and back.
compile: $(VENV)/.test
	SYSADM_NB_COMPILE=1 $(BIN)/python -m pip install --quiet --no-deps --editable .

interpret:
	find . -name '*.so' -path './sysadm_nb*' -delete

clean: interpret
	rm -rf $(VENV) $(VENV)-minimum .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
