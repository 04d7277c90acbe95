# `make` alone lists what there is.

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The first of these that is 3.11 or newer and can make an environment; `make PYTHON=... run` names another.
PYTHONS := $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3 python

# Most tests wait for other processes, so more of them run at once than there are cores.
WORKERS ?= 5
# These take a third of the time of all tests, so they have a target of their own. CI runs both.
KILLING := tests/chaos tests/cluster tests/crashes tests/faults

# Hundreds of programs are started here: each of them would compile the same files again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test test-killing chaos lint format screenshots bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: .venv/installed ## watch MutiTask work: an embedded Valkey, four agents, this machine's standard library
	@$(BIN)/mutitask demo $(ARGS)

test: .venv/installed-dev ## run the tests, without those that kill and cut (make test ARGS='-k words')
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(or $(ARGS),$(KILLING:%=--ignore=%))

test-killing: ## kill, freeze and cut processes, Redis and networks, with the short form of make chaos
	$(MAKE) test ARGS="$(KILLING)"

chaos: .venv/installed-dev ## kill, freeze and cut everything, and count the tasks (ARGS=--long: half an hour)
	$(BIN)/python -m tests.chaos $(ARGS)

lint: .venv/installed-dev ## check style, types and import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev ## bring the code into the style that lint checks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: .venv/installed-dev ## make the pictures in screenshots/ from a real run
	$(BIN)/python screenshots/make.py $(ARGS)

bench: .venv/installed-dev ## measure MutiTask beside its peers (make bench ARGS=--quick)
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove what these targets made
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@for python in $(PYTHONS); do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Making .venv with $$python"; exec $$python -m venv .venv; \
		fi; \
	done; \
	echo "Found no Python 3.11 or newer that can make an environment: install one" \
		"(on Debian and Ubuntu: apt-get install python3-venv), or name one: make PYTHON=/path/to/python3 run" >&2; \
	exit 1

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "Installing MutiTask into .venv"
	@$(PIP) install -e .
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing MutiTask and what its tests need into .venv"
	@$(PIP) install -e '.[dev]' -c constraints.txt
	@touch .venv/installed $@
