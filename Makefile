# EAsT: thin over the `east` command. `make help` lists what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3##  Python 3.11 or newer that makes .venv
PIP_ARGS ?=##  passed on to pip install
DATA ?= chorales##  clip table, name of a dataset, or folder of audio
TEACHER ?=##  teacher; extract: musicnn; train: the only one there is
STUDENT ?= cnn-small##  student, and whose mels extract writes
STORE ?=##  train: path or URL of a teacher store
FORMAT ?=##  zarr (default) or hdf5
WORKERS ?=##  worker processes (default: one per core or GPU)
DEVICE ?=##  auto (default), cpu, cuda, cuda:0,1
LOSS ?=##  what the student learns from (east losses)
SEED ?=##  seed of initialisation, batches and labelled subset
ARGS ?=##  anything else for the command, such as ARGS="--labelled 200"

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EAST := $(BIN)/east
EXTRAS := demo,dev

option = $(if $(2),$(1) "$(2)")

.PHONY: help setup demo data extract train compare report test check parity format bench bench-teachers bench-training bench-gpu faults clean

help: ## list targets and variables
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'
	@echo "Variables (make TARGET NAME=value):"
	@sed -n 's/^\([A-Z_]*\) ?= *\(.*\)##  *\(.*\)/  \1|\2|\3/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s%s\n", $$1, $$3, ($$2 == "" ? "" : " [" $$2 "]") }'

setup: $(READY) ## make .venv with pinned packages

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is `$(PYTHON) -V 2>&1`; EAsT needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making $(VENV) (about 2 GB; a minute or two)..."
	@$(PYTHON) -m venv $(VENV) || { echo "No venv module: install python3-venv, or name another Python by PYTHON="; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[$(EXTRAS)]'
	@# tinysoundfont's full install wants PortAudio, for playing aloud; rendering does not.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt --no-deps tinysoundfont
	@touch $@

demo: $(READY) ## the whole story on rendered chorales: data, stores, students, table, page
	$(EAST) data build chorales
	$(EAST) extract --data chorales --teacher musicnn --student cnn-small $(call option,--workers,$(WORKERS))
	$(EAST) experiment demo --data chorales $(call option,--loss,$(LOSS)) $(call option,--workers,$(WORKERS))
	$(EAST) report --data chorales

data: $(READY) ## build the dataset DATA, or make the clip table of a folder
	@if [ -e "$(DATA)" ]; then set -x; $(EAST) data from "$(DATA)" $(ARGS); else set -x; $(EAST) data build "$(DATA)" $(ARGS); fi

extract: $(READY) ## stage one: mels of STUDENT and embeddings of TEACHER over DATA
	$(EAST) extract --data "$(DATA)" $(call option,--teacher,$(TEACHER)) $(call option,--student,$(STUDENT)) \
	  $(call option,--format,$(FORMAT)) $(call option,--workers,$(WORKERS)) $(call option,--device,$(DEVICE)) $(ARGS)

train: $(READY) ## stage two: train STUDENT from the stores of DATA
	$(EAST) train --data "$(DATA)" $(call option,--teacher,$(TEACHER)) $(call option,--student,$(STUDENT)) \
	  $(call option,--store,$(STORE)) $(call option,--loss,$(LOSS)) $(call option,--seed,$(SEED)) \
	  $(call option,--device,$(DEVICE)) $(ARGS)

compare: $(READY) ## table and figure over all runs of DATA
	$(EAST) compare --data "$(DATA)" $(ARGS)

report: $(READY) ## the comparison as one HTML page
	$(EAST) report --data "$(DATA)" $(ARGS)

test: $(READY) ## the default tests
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup $(ARGS)

check: $(READY) ## format, lint, types, tests, parity with the PyTorch originals: what must be green
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory test
	$(BIN)/python -m tests.parity --environment torch

parity: $(READY) ## teachers against their original packages (environments in .parity/), into docs/parity.md
	$(BIN)/python -m tests.parity --write $(ARGS)

format: $(READY) ## format the code and sort its imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(READY) ## speed and memory as ratios within one run
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-teachers: $(READY) ## teachers against their original packages: audio-seconds per second, memory
	$(BIN)/python -m tests.benchmarks teachers $(ARGS)

bench-training: $(READY) ## steps, epochs, distance correlation, students and the exported student against the common ways
	$(BIN)/python -m tests.benchmarks training epoch dcor students export $(ARGS)

bench-gpu: $(READY) ## placement, throughput and CPU/GPU agreement, where there is a GPU
	$(BIN)/python -m tests.benchmarks.bench_gpu $(ARGS)

faults: $(READY) ## kill and starve 100 extractions, flip 1,000 bits of stores: what must come back, what must be found
	$(BIN)/python -m tests.faults $(ARGS)

clean: ## remove .venv and caches; data/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
