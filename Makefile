# Everything runs in .venv, which the first target that needs it makes. Only Python 3.11+ and make are assumed.
PYTHON ?= python3
BIN := .venv/bin
SHARED ?= ../shared/data

.PHONY: help demo test lint format bench docs clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv/core: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tiebreak needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/dev: .venv/core
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: .venv/core  ## predictions for the sample votes, a quality table and a report, in a minute
	$(BIN)/tiebreak demo -o out/demo

test: lint  ## lint, types and all tests, offline
	$(BIN)/python -m pytest

lint: .venv/dev  ## ruff (lint and format) and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev  ## quality, speed and size against their targets, as JSON in bench/results
	$(BIN)/python -m bench --data $(SHARED)

docs: .venv/dev  ## write the generated pages of docs/ anew
	$(BIN)/python docs/generate.py

clean:  ## remove what the other targets made
	rm -rf .venv out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
