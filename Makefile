# HealthSphere: `make run` and `make test` are all that is needed.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# The first of these that is recent enough.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
DATA_DIR ?= data
PORT ?= 8000
EXAMPLES ?= 100
AUTH ?= off

.PHONY: help install run test slow check format bench oracle definitions clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One stamp for each set of packages, made again when pyproject.toml changes.
$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: install it" \
		"(Debian 12: sudo apt-get install python3 python3-venv), or say make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "The Python module venv is missing: on Debian, sudo apt-get install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml
	@echo "Installing HealthSphere (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Installing the development tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(VENV)/.run ## Make .venv and install HealthSphere into it

run: $(VENV)/.run ## Start the server on 127.0.0.1:8000, with 100 made-up patients the first time; AUTH=on: with sign-in
	@exec $(BIN)/healthsphere serve --auth $(AUTH) --port $(PORT) --data-dir $(DATA_DIR) --examples $(EXAMPLES)

test: $(VENV)/.dev ## Run all tests but the slow ones
	@$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow"

slow: $(VENV)/.dev ## Run the slow tests: all generated patients, all official definitions
	@$(BIN)/python -m pytest -q -n auto --dist loadfile -m slow

check: $(VENV)/.dev ## Check format, style, types and imports
	@$(BIN)/ruff format --check --quiet . && echo "format: as it should be"
	@$(BIN)/ruff check --quiet . && echo "style: no findings"
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## Format the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure the server and write docs/performance.md
	@$(BIN)/python -m benchmarks

oracle: $(VENV)/.dev ## Compare validation with HL7's own validator (needs Java and npm)
	@$(BIN)/python -m tests.oracle $(DATA)

definitions: $(VENV)/.run ## Make the digest of the R4 definitions again: make definitions PACKAGE=hl7.fhir.r4.core.tgz
	@test -n "$(PACKAGE)" || { echo "Say which package: make definitions PACKAGE=path/to/hl7.fhir.r4.core.tgz"; exit 1; }
	@$(BIN)/python -m profiles.digest $(PACKAGE)

clean: ## Remove what was built; the data folder stays
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
