# The few commands of this repository. Each sets up what it needs; nothing is assumed but a python3 of version 3.11 or later.

PYTHON      ?= python3
VENV        := .venv
VENV312     := .venv312
BIN         := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check -c constraints.txt
INPUT       ?=
DEMO_ARGS   ?=
PYTEST_ARGS ?=
BENCH_ARGS  ?=
PYTHON312   ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint test-py312 bench-first-table clean

help:
	@echo "make demo [INPUT=file.nc]   compress a field, verify every value, draw what changed"
	@echo "make test                   lint, types, import contracts, tests with coverage"
	@echo "make test-py312             the tests without torch, on Python 3.12 with the newest zarr"
	@echo "make bench-first-table      our bytes beside the classical codecs' (needs LATENTZARR_DATA)"
	@echo "make clean                  remove environments, caches and demo outputs"

# One environment per purpose would be cleaner and slower; one, with a stamp for each set of extras, is enough.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("latentzarr needs Python 3.11 or later, found " + sys.version.split()[0] + "; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e '.[plot,netcdf]'
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/.stamp-bench: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) -e '.[bench]'
	@touch $@

demo: $(VENV)/.stamp-demo
	$(BIN)/latentzarr demo $(INPUT) $(DEMO_ARGS)

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What fails in lint still lets the tests speak; pytest's summary is the last line either way.
test: $(VENV)/.stamp-dev
	@failed=0; \
	$(MAKE) --no-print-directory --keep-going lint || failed=1; \
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(PYTEST_ARGS) || failed=1; \
	exit $$failed

# A 3.12 found by running it: a pyenv shim is on PATH even where its version is not switched on.
$(VENV312)/.stamp: pyproject.toml constraints.txt
	@found=; \
	for candidate in "$(PYTHON312)" python3.12 $$(ls -d "$$(pyenv root 2>/dev/null)"/versions/3.12*/bin/python3.12 2>/dev/null) python3; do \
	    if [ -n "$$candidate" ] && "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "no Python 3.12 found; name one: make test-py312 PYTHON312=/path/to/python3.12" >&2; exit 1; fi; \
	echo "Python 3.12: $$found"; \
	"$$found" -m venv $(VENV312)
	$(VENV312)/bin/python $(PIP_INSTALL) --upgrade --upgrade-strategy eager -e '.[test]'
	@touch $@

test-py312: $(VENV312)/.stamp
	@$(VENV312)/bin/python -c 'import sys, zarr, numpy; print("Python", sys.version.split()[0], "zarr", zarr.__version__, "numpy", numpy.__version__)'
	@! $(VENV312)/bin/python -c 'import torch' 2>/dev/null || { echo "torch must not be installed in $(VENV312)" >&2; exit 1; }
	$(VENV312)/bin/python -m pytest -m 'not torch' $(PYTEST_ARGS)

bench-first-table: $(VENV)/.stamp-bench
	$(BIN)/python benchmarks/first_table.py $(BENCH_ARGS)

clean:
	rm -rf $(VENV) $(VENV312) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov dist build demo-out
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
