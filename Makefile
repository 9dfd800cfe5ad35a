# make quickstart: installs, runs the main job on real images, says where the report is
# make test:       installs what the tests need, runs them
# make lowest:     the tests on the oldest libraries that pyproject.toml allows

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install dev quickstart test test-fast lowest lint clean

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

LOWEST := .venv-lowest
PRINT_LOWEST := import tomllib; \
	print(*(d.replace(">=", "==") for d in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]), sep="\n")

lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST)/bin/python -c '$(PRINT_LOWEST)' > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --editable '.[dev]' --constraint $(LOWEST)/lowest.txt
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2 --dist worksteal --override-ini filterwarnings=default

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(LOWEST) build dist .mypy_cache .pytest_cache .ruff_cache
