# Every target sets up what it needs in .venv; PYTHON=... names another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
WORKERS ?= auto

.PHONY: help setup demo test lint types pytest format docs bench statsmodels-suite clean

help:
	@echo "make demo    fit 73,421 lecture ratings with three crossed factors"
	@echo "make test    all checks: style, floors, types, tests"
	@echo "make lint | types | pytest | format | docs | bench | statsmodels-suite | clean"

$(READY): pyproject.toml .ci/setup
	@PYTHON="$(PYTHON)" ./.ci/setup

setup: $(READY)

demo: $(READY)
	$(BIN)/python examples/insteval.py

test: lint types pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/pyright --pythonpath $(BIN)/python

pytest: $(READY)
	$(BIN)/pytest -q -n $(WORKERS)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/pip install -q -e '.[docs]'
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: $(READY)
	$(BIN)/pip install -q -e '.[bench]'
	cd benchmarks && ../$(BIN)/asv run --python=same --quick

statsmodels-suite: $(READY)
	$(BIN)/python tests/compat/run_statsmodels_suite.py

clean:
	rm -rf $(VENV) build dist docs/_build .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
