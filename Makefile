# Sets kdspec up, checks it and shows it. Needs Python 3.11 or newer with pip, and make. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON := $(VENV)/bin/python
PIP_INSTALL := $(PYTHON) -m pip install --disable-pip-version-check --quiet --no-build-isolation -c constraints.txt
PLUGINS := $(sort $(wildcard plugins/*/pyproject.toml))

# A stamp is written last and marks a step as done: later calls skip it and need no network.
READY := $(VENV)/.kdspec-ready
READY_PLUGINS := $(VENV)/.kdspec-plugins
# MADE marks an environment that this file may delete; UNFINISHED one that was interrupted and cannot be trusted.
MADE := $(VENV)/.kdspec-made
UNFINISHED := $(VENV)/.kdspec-unfinished

# Tests and examples never reach for a hub, and keep what they cache inside the checkout.
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME="$(CURDIR)/.cache/huggingface" KDSPEC_CACHE="$(CURDIR)/.cache/teachers"
# One thread for each of the parallel workers: more would only make them wait for each other. Bytecode is kept whatever
# the environment says, for tests start many processes.
PYTEST := $(OFFLINE) PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(PYTHON) -m pytest
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile

# The YAML language server that editors use; the tests of the JSON Schema talk to it.
LANGUAGE_SERVER := yaml-language-server@1.25.0
READY_EDITOR := .cache/editor/$(LANGUAGE_SERVER)

.PHONY: help setup fetch quickstart test fast lint editor dist clean

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

quickstart: setup ## set up, fetch a small model and its data, and distil
	$(VENV)/bin/kdspec fetch all-MiniLM-L6-v2 headlines
	$(OFFLINE) $(VENV)/bin/kdspec run specs/quickstart.yaml

test: setup fetch lint editor ## everything: lint, types, all tests and those of each plugin
	$(PYTEST) $(PARALLEL)
	for tests in $(wildcard plugins/*/tests); do $(PYTEST) "$$tests" || exit 1; done

fast: setup ## the tests that take at most a second or two each
	$(PYTEST) $(PARALLEL) -m "not slow"

lint: setup ## ruff and mypy
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy kdspec specs tests/typing $(wildcard plugins/*/kdspec_*)

editor: ## install the YAML language server for its tests, if npm is installed
	@if [ -e $(READY_EDITOR) ]; then exit; fi; \
	if ! command -v npm >/dev/null; then \
	    echo "note: npm is not installed, so the tests with an editor's language server are left out"; exit; \
	fi; \
	mkdir -p .cache/editor; \
	if npm install --prefix .cache/editor --no-save --no-audit --no-fund --loglevel=error $(LANGUAGE_SERVER); then \
	    touch $(READY_EDITOR); \
	else \
	    echo "note: $(LANGUAGE_SERVER) cannot be installed, so the tests with it are left out"; \
	fi

dist: setup ## build the wheel and the source distribution in dist/
	rm -rf dist
	$(PYTHON) -m hatchling build -d dist

setup: $(READY) $(READY_PLUGINS) ## create the environment in .venv (VENV=folder for another)

fetch: setup ## download the models and data of specs/ into specs/assets
	$(VENV)/bin/kdspec fetch

$(READY): pyproject.toml constraints.txt
	@if [ -e $(UNFINISHED) ]; then \
	    echo "$(VENV) was left unfinished: creating it again"; rm -rf $(VENV); \
	fi; \
	if [ ! -e $(PYTHON) ]; then \
	    if [ -n "$$(ls -A $(VENV) 2>/dev/null || true)" ] && [ ! -e $(MADE) ]; then \
	        echo "error: VENV=$(VENV) is a folder of something else; name an environment or a new folder" >&2; exit 1; \
	    fi; \
	    for python in python3.11 python3 python none; do \
	        if [ $$python = none ]; then \
	            echo "error: kdspec needs Python 3.11 or newer, as python3.11 or python3 on the PATH" >&2; exit 1; \
	        fi; \
	        if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	    done; \
	    echo "making $(VENV) with $$($$python --version); a few minutes, most of them for torch"; \
	    mkdir -p $(VENV); touch $(MADE) $(UNFINISHED); \
	    $$python -m venv $(VENV) || exit 1; \
	fi; \
	if [ -e $(MADE) ]; then touch $(UNFINISHED); fi
	$(PIP_INSTALL) hatchling editables
	$(PIP_INSTALL) -e '.[dev]'
	@rm -f $(UNFINISHED)
	@touch $@

$(READY_PLUGINS): $(READY) $(PLUGINS)
	$(if $(PLUGINS),$(PIP_INSTALL) $(foreach plugin,$(PLUGINS),-e $(dir $(plugin))))
	@touch $@

clean: ## delete the environment, caches and builds; keeps runs/ and specs/assets/
	@if [ -e $(MADE) ]; then rm -rf $(VENV); fi
	rm -rf .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
