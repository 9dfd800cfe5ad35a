# make quickstart: installs, runs the main job on real images, says where the report is
# make test:       installs what the tests need, runs them

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install dev quickstart test test-fast lint clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[elpv,imagenet]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

install: $(VENV)/.installed

dev: $(VENV)/.installed-dev

quickstart: install
	@echo "Pictures: elpv-dataset, CC BY-NC-SA 4.0 (Buerhop-Lutz et al. 2018; Deitsch et al. 2019): no commercial use."
	$(BIN)/ssl-defect run experiments/quickstart.yaml

test: dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: dev
	$(BIN)/python -m pytest -m "not slow and not browser"

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
