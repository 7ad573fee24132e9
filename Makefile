# `make demo` and `make test` need Python 3.11+ and nothing else; each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check

.PHONY: demo test lint bench clean

demo: .venv/runtime
	$(BIN)/python train_main.py --data=demo/gear --output_dir=runs/demo \
		--image_size=64 --stem=imagenet --epochs=4 --steps_per_epoch=96
	$(BIN)/python eval_main.py --run_dir=runs/demo

test: lint
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/dev
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.pipeline --tasks
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.dense

clean:
	rm -rf .venv demo runs

.venv/runtime: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install -r requirements.txt
	touch $@

.venv/dev: .venv/runtime pyproject.toml
	$(PIP) install --upgrade 'pip>=25.1,<27'
	$(PIP) install --group dev
	touch $@
