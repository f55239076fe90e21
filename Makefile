# Everything a developer or a reader runs. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# For example PIP_ARGS="--index-url ..." to choose a CPU-only or another CUDA build of torch.
PIP_ARGS ?=
READY := $(VENV)/.ready
BUDGET ?= quick
MINUTES ?= 150
DATA_ROOT := $(if $(SR_DATA),--data-root $(SR_DATA),)

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv and install everything, versions pinned

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[sample,convert,dashboard,slurm,export,engines,report,hub,serve,docs,dev]"
	@touch $@

demo: setup  ## train HFDN x4 on bundled photographs for some minutes, test it, draw the picture
	@$(BIN)/python -m sr_lightning.demo

test: setup  ## the fast tests (oracle tests too where SR_DATA is set)
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

test-all: setup  ## all tests, the slow ones too
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m ""

lint: setup  ## ruff: style and mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## ruff: correct what can be corrected
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: setup  ## mypy --strict
	$(BIN)/mypy

studies: setup  ## list the ablation studies and what the ledger has of them
	@$(BIN)/sr-lightning study list

report: setup  ## published tables beside measured: HTML, Markdown, LaTeX, CSV (runs nothing)
	@$(BIN)/sr-lightning report

reproduce-tables: setup  ## train the main tables and ablations at BUDGET=quick|short|medium|paper, then render every table
	@# Tables are drawn of what there is, and failed cells are still in the exit status.
	@$(BIN)/sr-lightning study reproduce --budget $(BUDGET) $(DATA_ROOT); failed=$$?; \
	$(BIN)/sr-lightning compare $(DATA_ROOT) >/dev/null && $(BIN)/sr-lightning report && exit $$failed

verify-weights: setup  ## the authors' weights in WEIGHTS against their published numbers
	@$(BIN)/sr-lightning weights verify $(if $(WEIGHTS),--weights $(WEIGHTS),) $(DATA_ROOT)

zoo: setup  ## go on with the queue of trainings for MINUTES=150
	@$(BIN)/sr-lightning zoo train --minutes $(MINUTES) $(DATA_ROOT)

slurm-tests: setup  ## the tests that need SLURM, on a SLURM of this machine alone (root, Debian)
	tests/slurm/one_node.sh start
	$(BIN)/python -m pytest -q -m slurm; status=$$?; tests/slurm/one_node.sh stop; exit $$status

bench: setup  ## speed: patches per second, training steps, Lightning's overhead
	$(BIN)/python -m sr_lightning.bench

gpu-check: setup  ## ten minutes on a GPU: tests, trainings in each precision, speed, as a table
	@$(BIN)/python -m sr_lightning.gpu_check

docs: setup  ## a site of docstrings, READMEs and options, in build/docs
	@$(BIN)/python .ci/docs.py

check: lint typecheck test  ## what CI runs, and the linters

clean:  ## remove caches and runs' leftovers (not .venv, not runs/)
	rm -rf .pytest_cache .mypy_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -exec rm -rf {} +

.PHONY: help setup demo test test-all studies report reproduce-tables verify-weights zoo slurm-tests lint format typecheck bench gpu-check docs check clean
