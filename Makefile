# Two commands on a fresh machine: make demo, make test. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
T ?= tests

.DEFAULT_GOAL := help
.PHONY: help demo test serve fix lint check bench faults docs clean

help:  ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Strop needs Python 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[server,engine,postgres]'
	@touch $@

$(VENV)/full: $(VENV)/run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/develop: $(VENV)/full
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	@touch $@

demo: $(VENV)/run  ## set up, optimize a real model through the service, print the report, stop
	$(BIN)/python examples/demo.py

test: $(VENV)/develop lint  ## set up and run exactly what CI runs
	$(BIN)/python -m pytest -n 2 --dist loadgroup --durations=25 $(T)

serve: $(VENV)/full  ## the service on http://127.0.0.1:8000
	$(BIN)/strop serve

fix: $(VENV)/develop  ## format, and mend what can be mended
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lint: $(VENV)/develop
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

check: $(VENV)/develop  ## a part, fast: make check T=tests/engine
	$(BIN)/python -m pytest -x $(T)

bench: $(VENV)/develop  ## benchmarks, as ratios taken side by side
	$(BIN)/python -m benchmarks

faults: $(VENV)/develop  ## the whole fault harness, with its figures
	STROP_FAULTS=full $(BIN)/python -m pytest tests/faults -s

docs: $(VENV)/develop  ## write what is generated: docs/steps.md, docs/openapi.json
	$(BIN)/python docs/generate.py

clean:  ## remove the environment and all that was generated
	rm -rf $(VENV) demo-output build dist *.egg-info
