# `make demo` and `make test` need Python 3.11+ and nothing else; each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check

.PHONY: demo test lint bench clean

# A patch model from scratch. Every seed that was tried learns this task by this schedule; the paper's takes hours.
DEMO := --data=demo/gear --patch_size=64 --stem=imagenet --dense=fast --extract_size=48 --feature=layer1 \
	--proxy_task=cutpaste --base_jitter=0 --learning_rate=0.003 --batch_size=32 --steps_per_epoch=128

demo: .venv/runtime
	$(BIN)/python train_main.py $(DEMO) --output_dir=runs/demo_untrained --epochs=0
	$(BIN)/python eval_main.py --run_dir=runs/demo_untrained
	$(BIN)/python train_main.py $(DEMO) --output_dir=runs/demo --epochs=4
	$(BIN)/python eval_main.py --run_dir=runs/demo --beside=runs/demo_untrained

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
	$(BIN)/python -m benchmarks.waiting
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
