# `make demo` and `make test` are all that a newcomer needs: both prepare .venv by themselves.
# Needed on the machine: make, and Python 3.11 or newer. PYTHON=... chooses another interpreter.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The first interpreter on the PATH that is new enough; empty when there is none.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c "$(NEW_ENOUGH)" 2>/dev/null && { echo "$$candidate"; break; }; done)

# Two workers: the tests start real processes, and more of them than cores would only wait for each other.
PYTEST := $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help install demo test lint typecheck fast-tests slow-tests bench proto format clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

install: $(INSTALLED)  ## Create .venv and install everything, the development tools too

# Again only when the dependencies changed: the package itself is installed editable.
$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on the PATH (PYTHON=/path/to/python chooses one)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(INSTALLED)

demo: $(INSTALLED)  ## Durable functions survive kill -9 of the app and of the node; under a minute
	$(BIN)/python -m examples.demo

test: lint fast-tests slow-tests  ## Everything that CI runs

lint: $(INSTALLED) typecheck  ## Style, types and freshness of the generated stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python proto/generate.py --check

typecheck: $(INSTALLED)
	$(BIN)/mypy

fast-tests: $(INSTALLED)  ## What takes seconds
	$(PYTEST) -m "not slow"

slow-tests: fast-tests  ## Real processes, many kills, long runs
	$(PYTEST) -m slow

bench: $(INSTALLED)  ## Print the benchmark tables (BENCH="--json" for rows to keep)
	@set -e; for program in benchmarks/[a-z]*.py; do echo "== $$program"; $(BIN)/python "$$program" $(BENCH); done

proto: $(INSTALLED)  ## Regenerate the protobuf stubs
	$(BIN)/python proto/generate.py

format: $(INSTALLED)  ## Format the code and fix what can be fixed mechanically
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove the environment, caches and leftovers of demo and benchmarks
	rm -rf $(VENV) .demo .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
