# Every target works from a fresh clone with make and Python 3.11, 3.12 or 3.13, and no other step.
#
#   make app      install the pinned run time, serve the app on http://127.0.0.1:8501
#   make test     install what tests need on top, run all tests
#   make lint     ruff, formatting, mypy --strict
#   make bench    measure again and rewrite the tables of BENCHMARKS.md
#   make train    train a recipe: make train RECIPE=pediatric-pneumonia DATA=path/to/films
#
# Options: PORT=8501 · PYTHON=python3.12 · WORKERS=2 (test processes) · ARGS="..." (handed to pytest,
# benchmarks or train) · WHEELS=folder (install from these wheels, without a network).

PORT ?= 8501
PYTHON ?= python3.13 python3.12 python3.11 python3
WORKERS ?= 2
RECIPE ?= pediatric-pneumonia
DATA ?=
WHEELS ?=
ARGS ?=

# TensorFlow greets at length; only its errors are of interest here.
export TF_CPP_MIN_LOG_LEVEL ?= 3

python := .venv/bin/python
offline = $(if $(WHEELS),--no-index --find-links "$(WHEELS)")
# A name on the PATH proves nothing (pyenv leaves shims of versions that do not run), so try each.
in_range := import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
has_uv := uv --version >/dev/null 2>&1

.PHONY: help app test lint bench train anew

help:
	@sed -n '/^#   make/s/^# *//p' Makefile

app: .venv/.app
	$(python) -m streamlit run app.py --server.headless=true --server.address=127.0.0.1 \
	  --server.port=$(PORT) --server.fileWatcherType=none --browser.gatherUsageStats=false

test: .venv/.dev
	$(python) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: .venv/.dev
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

bench: .venv/.dev
	$(python) -m benchmarks $(ARGS)

# Without DATA there is nothing to learn from but the phantom; such a model goes to runs/, which
# git ignores, and not among those the app offers.
train: .venv/.app
ifeq ($(strip $(DATA)),)
	@echo "No DATA=folder came: training on computer-made films in runs/phantom, model in runs/models." >&2
	test -d runs/phantom || $(python) -c \
	  "from pathlib import Path; from cxr_core.phantom import write_dataset as w; \
	  w(Path('runs/phantom'), patients_per_class=60, size=224)"
	CXR_MODELS=runs/models $(python) -m cxr_core train $(RECIPE) --data runs/phantom $(ARGS)
else
	$(python) -m cxr_core train $(RECIPE) --data "$(DATA)" $(ARGS)
endif

# Stamps: written last, so an interrupted installation is taken up again, and a finished one is not.
.venv/.app: requirements.txt .venv/pyvenv.cfg
	$(call install,requirements.txt)
	@touch $@

.venv/.dev: requirements-dev.txt requirements.txt .venv/pyvenv.cfg
	$(call install,requirements-dev.txt)
	@touch .venv/.app $@

define install
@if $(python) -c 'from importlib.metadata import version; version("tensorflow")' 2>/dev/null && \
  grep -q '^tensorflow-cpu' requirements.txt && [ "$$(uname -m)" = x86_64 ]; then \
  echo "This environment holds TensorFlow with NVIDIA's part, which cannot stand beside the one that is" \
    "installed now (docs/deployment.md): rm -r .venv, and make it anew." >&2; exit 1; fi
@if $(has_uv); then uv pip install --compile-bytecode --python $(python) $(offline) -r $(1); else \
  { $(python) -m pip --version >/dev/null 2>&1 || $(python) -m ensurepip; } && \
  $(python) -m pip install --disable-pip-version-check $(offline) -r $(1); fi
endef

# Made anew also when its interpreter no longer runs, as after an upgrade of the system's Python.
.venv/pyvenv.cfg: $(if $(shell $(python) -c "" 2>&1 || echo broken),anew)
	@for candidate in $(PYTHON); do \
	  "$$candidate" -c '$(in_range)' >/dev/null 2>&1 && break; candidate=; done; \
	if [ -z "$$candidate" ]; then \
	  echo "None of these runs as Python 3.11, 3.12 or 3.13: $(PYTHON)." \
	    "Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	echo "Creating .venv with $$candidate"; \
	if $(has_uv); then uv venv --quiet --clear --python "$$("$$candidate" -c 'import sys; print(sys.executable)')" .venv; \
	else "$$candidate" -m venv --clear .venv || { rm -rf .venv; \
	  echo "$$candidate cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; \
	  exit 1; }; fi
