# `make demo` and `make test` need Python 3.11+ and nothing else; each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check

.PHONY: demo test test-slow lint bench clean

demo: .venv/runtime
	$(BIN)/python train_main.py --data=demo/gear --output_dir=runs/demo $(DEMO_FLAGS)
	$(BIN)/python eval_main.py --run_dir=runs/demo

test: lint
	$(BIN)/python -m pytest

test-slow: .venv/dev
	$(BIN)/python -m pytest -m slow

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

bench: .venv/dev
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.training

clean:
	rm -rf .venv demo runs

.venv/runtime: requirements.txt
	$(PYTHON) -m venv .venv
	$(PIP) install -r requirements.txt
	touch $@

.venv/dev: .venv/runtime pyproject.toml
	$(PIP) install --upgrade 'pip>=25.1,<27'
	$(PIP) install --group dev
	touch $@
