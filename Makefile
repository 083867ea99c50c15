# Each target makes what it needs in VENV, once, and again only after pyproject.toml or
# constraints.txt changed. All that a machine must have is Python 3.11 or newer.

VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; exit; }; done; echo python3)
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install -qq --constraint constraints.txt --editable
ARGS ?=

.PHONY: demo test check format bench docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed-core
	$(BIN)/pgnn demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# An environment whose interpreter was removed or upgraded away is made again.
ifneq ($(shell $(BIN)/python -c 'print("works")' 2>/dev/null),works)
.PHONY: $(VENV)/pyvenv.cfg
endif

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "pgnn needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@if [ -f $@ ]; then rm -f $(BIN)/python*; fi
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-core: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	$(INSTALL) .
	@touch $@

$(VENV)/installed-%: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	$(INSTALL) '.[$*]'
	@touch $@
