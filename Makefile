# make demo and make test are all that a new machine needs: both set up what is missing first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint coverage bench gate wheel docs clean

help:
	@echo 'make demo    set up what is missing, then run the worked example'
	@echo 'make test    set up what is missing, then ruff, mypy and the whole test suite'
	@echo 'make lint    ruff and mypy'
	@echo 'make coverage  the lines that the tests run, kernels by uncompiled runs with every index checked'
	@echo 'make gate    fail where the short benchmarks got slower, as ratios to a reference of the same run'
	@echo 'make bench   timings of the main paths on this machine'
	@echo 'make wheel   build dist/*.whl'
	@echo 'make docs    build the documentation site in build/site; a warning is an error'
	@echo 'make clean   remove the environment, builds and caches'

setup:
	@$(PYTHON) tools/bootstrap.py

# Less than the rest needs: no linters, no Dask, no tests.
demo:
	@$(PYTHON) tools/bootstrap.py demo
	@$(BIN)/fastlmm demo

lint: setup
	@$(BIN)/ruff check . && $(BIN)/mypy

# The kernels are compiled once, beside the linters: each worker of the suite would compile them for itself.
# Those of large systems after the linters, when the half of them that every fit has is there already.
# The suite runs although the linters complain, and its closing line comes last.
test: setup
	@status=0; started=; export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1; \
	for what in fits batches; do $(BIN)/fastlmm compile $$what >/dev/null & started="$$started $$!"; done; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/mypy || status=1; \
	$(BIN)/fastlmm compile large >/dev/null || status=1; \
	for one in $$started; do wait $$one || status=1; done; \
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal || status=1; \
	exit $$status

coverage: setup
	@$(BIN)/python tools/measure_coverage.py --workers $(WORKERS)

gate: setup
	@$(BIN)/python benchmarks/gate.py

bench: setup
	@$(BIN)/python benchmarks/run.py

wheel: setup
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

docs:
	@$(PYTHON) tools/bootstrap.py docs
	@OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python tools/build_site.py --quiet

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
