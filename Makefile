# Needs only make and Python >= 3.11; everything else is installed into .venv. `make` lists what there is.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz kill lint docs notebooks clean venv dev

help:
	@echo "make demo    both papers on the embedded model and corpus, with figures and a table"
	@echo "make test    lint, import contract, types, doctests, tests (WORKERS=2 processes; PYTEST_ARGS for more)"
	@echo "make kill    launchers killed at random moments, KILLS=10 times each, and jobs of several processes"
	@echo "make fuzz    reads thousands of damaged files of every kind (PYTEST_ARGS for more)"
	@echo "make notebooks   writes launch/colab/*.ipynb from their scripts (jupytext)"
	@echo "make lint    ruff check, ruff format --check, import contract, pyrefly check"
	@echo "make docs    the pages of docs/ and the reference as HTML, in build/docs"
	@echo "make venv    create $(VENV) with the library and the pinned versions of what it needs"
	@echo "make dev     and with what tests need beside it, PyTorch among it"
	@echo "make clean   remove $(VENV), caches and build output"
	@echo "PYTHON=$(PYTHON) is the interpreter that creates $(VENV)"

venv: $(VENV)/installed

$(VENV)/installed: setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python >= 3.11 is needed, $(PYTHON) is " + sys.version.split()[0] + "; choose one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[report]'
	@touch $@

dev: $(VENV)/dev

$(VENV)/dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: venv
	$(BIN)/python -m launch.demo

test: lint
	$(BIN)/python -m pytest -q -n $(WORKERS) $(PYTEST_ARGS)

KILLS ?= 10
kill: dev
	PROFIT_KILLS=$(KILLS) $(BIN)/python -m pytest -q -s -m 'slow or not slow' tests/test_killed.py tests/test_hosts.py

fuzz: dev
	PROFIT_FUZZ=long $(BIN)/python -m pytest -q tests/fuzz $(PYTEST_ARGS)

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python

notebooks: dev
	$(BIN)/jupytext --quiet --update --to ipynb launch/colab/*.py

docs: $(VENV)/docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo build/docs/index.html

$(VENV)/docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
