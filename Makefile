# Two commands need nothing but Python 3.11-3.13 and a network: `make demo` and `make test`.

PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
JOBS   ?= 2
BIN    := .venv/bin
READY  := .venv/.ready
DEMO   := build/demo
TYPED  := src $(wildcard training benchmarks examples)
PAGE   := build/.page
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-long test-gpu check format bench page page-types chromium clean

help: ## what you are reading
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: $(READY) $(DEMO)/clip.mp4 ## upscale an example clip 4x with the built-in model
	$(BIN)/longtake upscale $(DEMO)/clip.mp4 $(DEMO)/clip_4x.mp4 --scale 4 --engine lite --restart
	$(BIN)/python examples/side_by_side.py $(DEMO)/clip.mp4 $(DEMO)/clip_4x.mp4 $(DEMO)/side_by_side.png

test: $(READY) page chromium ## the whole suite, about fourteen minutes on two cores
	$(BIN)/pytest -n $(JOBS) --dist loadfile

test-long: $(READY) page chromium ## what takes too long for every change: 20 kills, long films
	$(BIN)/pytest -m "long and not gpu"

test-gpu: $(READY) ## what needs a CUDA device
	$(BIN)/pytest -m gpu

check: $(READY) ## format, lint, types, floors, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q tests/test_docs.py

format: $(READY) ## mend what a tool can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## the figures of benchmarks/ on this machine
	@for script in $(wildcard benchmarks/*/[a-z]*.py); do \
	  echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; \
	done

page: $(PAGE) ## the service's page, where there is Node 20.19 or newer

clean: ## remove all that make made
	rm -rf .venv build dist page/node_modules src/longtake/service/page .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up: once, and again when the pins change ------------------------------------------------

# $(call apt,PACKAGE): Debian and its kin only; elsewhere say what is missing. Tests need no more
# than this one package, and that only where Debian has split venv off Python.
as_root := $(if $(filter 0,$(shell id -u)),,sudo)
apt = { $(as_root) apt-get update -q && $(as_root) apt-get install -qy $(1); } \
  || { echo "please install $(1) (or its like on your system), then run make again"; exit 1; }

$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "longtake needs Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || $(call apt,python3-venv)
	"$(PYTHON)" -m venv .venv

$(READY): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(DEMO)/clip.mp4: examples/make_clip.py | $(READY)
	$(BIN)/python examples/make_clip.py $@

# Tests that need the page or a browser are skipped, and say so, where these cannot be had.
$(PAGE): page/package-lock.json page/index.html page/vite.config.ts $(shell find page/src page/public -type f 2>/dev/null)
	@mkdir -p $(@D)
	@if node -e 'let [a,b]=process.versions.node.split(".");process.exit(a>20||a==20&&b>=19?0:1)' 2>/dev/null; \
	  then cd page && npm ci --include=dev --no-audit --no-fund --loglevel=error && npm run --silent build; \
	  else echo "no Node 20.19 or newer: the page is not built"; fi
	@touch $@

page-types: $(READY) ## the page's types, out of the API's contract
	$(BIN)/python page/openapi.py build/openapi.json
	cd page && npm run --silent types

chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null || $(call apt,chromium) \
	  || echo "no Chromium: tests of the page are skipped"
