# The commands of a fresh clone. Each sets up what it needs in .venv first; nothing is installed outside it.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: help setup test test-slow lint demo clean

help:
	@echo "make demo       generate gestures, train with depth, test on RGB, write $(DEMO)/report.html"
	@echo "make test       run the tests (test-slow: those that take minutes)"
	@echo "make lint       ruff and mypy"
	@echo "make setup      only create .venv"

setup: .venv/.installed

# torch first and by itself: with it in place no other package can pull the CUDA build.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

# Without a GPU, if there is one: tests compare bit for bit. On it: pytest tests/test_on_gpu.py tests/test_synth_render.py
test: setup
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -n 2

# Among them the page names gestures by the demo's network.
test-slow: demo
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -n 2 -m slow

# Types also as on Windows, which lacks what is in os and signal elsewhere.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32

# An interrupted demo goes on where it stopped. One thread: of two cores the data worker needs the second, and the result
# does not depend on the number of cores (docs/speed.md).
demo: setup
	$(BIN)/dynagest data synth $(DEMO)/gestures --preset demo
	$(BIN)/dynagest train demo --data $(DEMO)/gestures/manifest.csv --out $(DEMO) --set threads=1 --resume
	$(BIN)/dynagest evaluate $(DEMO) --split test
	@echo "Open $(DEMO)/report.html"

clean:
	rm -rf .venv build dist src/*.egg-info
