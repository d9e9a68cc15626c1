# make demo       Label Studio and the backend with a clip to click in   (ARGS="--video clip.mp4" goes to `ivos demo`)
# make test       linters, types and the tests, except those marked `long`; this is what CI runs
# make test-all   the same with all tests
# All of them first install what they need into .venv. make lock renews both lock files;
# make docs writes the tables of settings in docs/ from the classes.

PYTHON ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/python -m uv
# The tests run every part, so they need every extra; `gpu` is `trackers` with another build of onnxruntime.
EXTRAS := hq sam2 trackers
LOCK_OPTIONS := --universal --python-version 3.10 --generate-hashes --no-emit-index-url

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint docs lock install browser
.DELETE_ON_ERROR:

help:
	@sed -n '1,5s/^# //p' $(firstword $(MAKEFILE_LIST))

demo: install
	@exec $(BIN)/ivos demo $(ARGS)

# tests/conftest.py says which tests share a process, and in which order they run.
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --durations 25

test: lint browser
	$(PYTEST)

test-all: lint browser
	$(PYTEST) -m "not cuda"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.installed

# Exactly what the lock says, then the project itself; its build backend is in the lock, so nothing else is fetched.
$(VENV)/.installed: requirements.lock pyproject.toml $(VENV)/.has-uv
	$(UV) pip sync --require-hashes --python $(BIN)/python requirements.lock
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

# uv comes through pip, in the version and with the hashes of the lock. An environment made by uv has no pip.
$(VENV)/.has-uv: | $(BIN)/python
	@$(BIN)/python -c '$(SUPPORTED)' || { echo "$(VENV) has $$($(BIN)/python -V), but 3.10 to 3.13 is needed: delete $(VENV) and run make again." >&2; exit 1; }
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || { \
	  awk '/^[a-z]/ { wanted = /^uv==/ } wanted' requirements.lock >$(VENV)/uv.lock; \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	  $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(VENV)/uv.lock; }
	@touch $@

SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))

$(BIN)/python:
	@for python in $(or $(PYTHON),python3.12 python3.13 python3.11 python3.10 python3 python); do \
	  "$$python" -c '$(SUPPORTED)' >/dev/null 2>&1 || continue; \
	  echo "creating $(VENV) with $$("$$python" -V)"; \
	  "$$python" -m venv $(VENV) && exit 0; \
	  rm -rf $(VENV); \
	  echo "$$python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	done; \
	echo "No Python 3.10 to 3.13 found$(if $(PYTHON), as $(PYTHON)). Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1

# The end-to-end tests click in a real browser.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if command -v apt-get >/dev/null; then \
	  root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	  echo "installing Chromium for the tests"; \
	  $$root apt-get update -qq \
	    && DEBIAN_FRONTEND=noninteractive $$root apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core \
	    && exit 0; \
	fi; \
	echo "The tests need Chromium, and it could not be installed. Install it (Debian: apt-get install chromium) and run make test again." >&2; \
	exit 1

docs: install
	$(BIN)/python docs/tables.py

# Label Studio's lock is made in an empty folder: the overrides in pyproject.toml are not meant for it.
lock: install
	$(UV) pip compile --quiet pyproject.toml --group dev $(EXTRAS:%=--extra %) $(LOCK_OPTIONS) -o requirements.lock
	folder=$$(mktemp -d) && cp ls_backend/demo/label_studio.in ls_backend/demo/label_studio.lock $$folder \
	  && uv=$(abspath $(BIN))/python && cd $$folder && $$uv -m uv pip compile --quiet label_studio.in $(LOCK_OPTIONS) -o label_studio.lock \
	  && cp label_studio.lock $(CURDIR)/ls_backend/demo/ && rm -r $$folder
