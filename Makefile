# `make search` and `make test` need Python 3.11 or newer, pip and make; everything else is installed into .venv.

PYTHON ?= python3
BUDGET ?= 10m
ARGS   ?=
JOBS   ?= $(shell $(BIN)/python -c "import os; print(os.cpu_count() + 1)")

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help search test test-slow lint format docs dev lock audit clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 picks the Python of a new .venv; ARGS=... goes to primer-search or pytest"
	@echo "  JOBS=4 is the number of processes that run tests, one more than there are cores otherwise; JOBS=0 runs them in pytest's own process"

search: $(VENV)/.installed ## search for better blocks: make search BUDGET=10m ARGS="--seed 1"
	$(BIN)/primer-search --budget $(BUDGET) $(ARGS)
	@command -v primer-search >/dev/null || echo "here, primer-search is $(BIN)/primer-search, or activate the environment: source $(BIN)/activate" >&2

test: $(VENV)/.installed-test ## run the tests but the slow ones: make test ARGS=tests/configs/test_configs.py
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --maxprocesses=8 --dist=worksteal $(ARGS)

test-slow: $(VENV)/.installed-test ## run the slow tests
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.installed-dev ## check format, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright

format: $(VENV)/.installed-dev ## format the code and fix what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(VENV)/.installed-test ## build the documentation as a site in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

dev: $(VENV)/.installed-dev ## install all that developers need, and the pre-commit hooks
	$(BIN)/pre-commit install

clean: ## remove .venv and caches; runs stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis

# Debian's Python makes a virtual environment without pip unless python3-venv is there; the system's pip can fill it.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "primer-search needs Python 3.11 or newer, and PYTHON=$(PYTHON) is not: try make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
	  { rm -rf $(VENV) && $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install -qq pip; } || \
	  { rm -rf $(VENV); echo "cannot create $(VENV): install pip for $(PYTHON), or its venv module" >&2; exit 1; }

# Each stamp says that an installation is newer than pyproject.toml and the lock file; a larger one includes the smaller. Twice quiet leaves
# errors only: setuptools warns of every editable installation.
$(VENV)/.installed: pyproject.toml $(wildcard requirements/*.txt) | $(BIN)/python
	$(call install,.)
	@touch $(VENV)/.installed

$(VENV)/.installed-test: pyproject.toml $(wildcard requirements/*.txt) | $(BIN)/python
	$(call install,.[test])
	@touch $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-dev: pyproject.toml $(wildcard requirements/*.txt) | $(BIN)/python
	$(call install,.[dev])
	@mkdir -p $(VENV)/typing && ln -sfn ../.. $(VENV)/typing/primer_search
	@touch $(VENV)/.installed $(VENV)/.installed-test $(VENV)/.installed-dev

lock: $(VENV)/.installed-dev ## write the lock file of this Python and the licences, from what is installed
	$(BIN)/python .ci/lock.py

audit: ## compare the pinned versions with the known vulnerabilities; needs network
	@$(PYTHON) -m venv build/audit && build/audit/bin/python -m pip install -qq pip-audit
	build/audit/bin/pip-audit --no-deps --disable-pip --requirement requirements/python3.11.txt

# The versions of CI, if there is a lock file for this Python; LOCKED= takes the newest.
LOCKED = $(addprefix --constraint ,$(wildcard requirements/python$(shell \
  $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt))

define install
	@echo "installing primer-search into $(VENV) (a few minutes the first time)"
	@$(PIP) install -qq --upgrade pip
	@$(PIP) install -qq $(LOCKED) --editable '$(1)'
endef
