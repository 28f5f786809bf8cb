# One word per job. `make` alone prints this help.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DURATION ?= 10m
TRACE ?=
ARGS ?=
BENCHES := gateway runtime experts sparsity operator-scale cluster decision $(if $(R1_TRACES),priorities seat-reservation elastic leaderboard forecast holdout forecaster)

help: ## this help
	@grep -hE '^[a-z][a-z-]*%?:.*##' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  \033[1mmake %-14s\033[0m %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## make .venv and install everything into it, from the hash-locked constraints

$(VENV)/.ready: pyproject.toml constraints/all.txt constraints/models.txt tools/setup hatch_build.py $(wildcard runtime/r1_runtime/native/src/*)
	PYTHON=$(PYTHON) tools/setup

demo: setup ## the whole thing on a real cluster: install, play a recorded day, draw it (DURATION=2m, TRACE=FILE)
	$(BIN)/python -m r1_demo --duration $(DURATION) $(if $(TRACE),--trace $(TRACE))

test: setup ## all tests: lint, unit, properties, contract, and on a real cluster
	tools/test

lint: setup ## format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

fmt: setup ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-clients: setup ## lm-eval, vLLM's and guidellm's load generators against the runtime (6 GB in .venv-clients)
	tools/setup-clients
	$(BIN)/python -m pytest tests/clients -q

unit: setup ## the fast tests alone (no cluster)
	$(BIN)/python -m pytest tests/unit tests/properties tests/contract -n 2 -q

crds: setup ## write crds/ (and the chart's copy) out of the Python types
	for kind in r1inferences r1backtests; do $(BIN)/r1 crd $$kind > crds/deepseek.ai_$$kind.yaml || exit 1; done
	$(BIN)/python -m r1_operator.api.reference
	tools/chart-crd

docs: setup ## the documentation as a site in out/site, offline
	tools/docs

up: setup ## boot the local cluster and leave it running
	$(BIN)/r1-cluster up

down: setup ## take the local cluster away without a trace
	$(BIN)/r1-cluster down

images: setup ## build the six full images (three with torch, 5 GB each; 25 GB of disk at the peak)
	$(BIN)/python -m r1_runtime.native.build --all
	$(BIN)/r1-cluster build-image --all

bench: setup ## every benchmark (R1_TRACES=FOLDER for those on recorded load); rows go to out/bench-*.json
	@missed=; for name in $(BENCHES); do $(MAKE) bench-$$name || missed="$$missed $$name"; done; \
	  [ -z "$$missed" ] || { echo "bars missed or not run:$$missed"; exit 1; }

bench-%: setup ## one benchmark, e.g. make bench-gateway (ARGS="..." for options of its own)
	@mkdir -p out
	$(BIN)/python -m r1_bench.$(subst -,_,$*) $(ARGS)

gpu-check: setup ## check and measure the CUDA backend on this machine's GPU (8 minutes); out/gpu-check.md
	$(BIN)/python tools/gpu_check.py

knative: setup ## Knative's own autoscaler for the test that checks ours against it (minutes)
	$(BIN)/python -m r1_cluster.programs.knative

lock: setup ## rewrite constraints/*.txt
	tools/lock

clean: ## remove what was built here (the cache outside the clone stays)
	rm -rf $(VENV) .venv-clients out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help setup demo test test-clients lint fmt unit crds docs up down images bench gpu-check knative lock clean
