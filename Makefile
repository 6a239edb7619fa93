# `make demo` and `make test` need Python 3.11 and nothing else.
PYTHON ?= $(firstword $(shell command -v python3.11 python3))
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo up test lint chart proto bench plan train-setup train models clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready  ## Make the virtual environment with everything in it

$(VENV)/.ready: pyproject.toml constraints.txt embedded.txt hatch_build.py $(wildcard protos/lungmesh/v1/*.proto)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	$(INSTALL) --no-deps --requirement embedded.txt
	@touch $@

demo: setup  ## Read a real CT (LIDC-IDRI-0001) end to end; the results go to out/demo
	$(BIN)/lungmesh demo --out out/demo

up: setup  ## Start the whole mesh on this machine
	$(BIN)/lungmesh up

test: setup  ## Run all tests: unit, integration, end to end
	$(BIN)/python -m pytest --numprocesses 2 tests/unit
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile tests/integration
	$(BIN)/python -m pytest tests/e2e

lint: setup  ## ruff, mypy --strict, buf lint and buf breaking
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd protos && ../$(BIN)/buf lint
	PATH="$(abspath $(BIN)):$$PATH" ./protos/breaking.sh

chart: setup  ## Write the chart's schema, lint it, and render every profile to out/chart (real helm)
	$(BIN)/python -m deploy.schema
	mkdir -p out/chart
	for profile in laptop hospital region; do \
	  values=deploy/helm/lungmesh/values-$$profile.yaml; \
	  $(BIN)/python -m tests.support.kube helm lint --strict deploy/helm/lungmesh --values $$values \
	  && $(BIN)/python -m tests.support.kube helm template lungmesh deploy/helm/lungmesh \
	    --namespace mesh --values $$values > out/chart/$$profile.yaml || exit 1; \
	done

proto: setup  ## Make the protobuf modules again from protos/
	$(BIN)/python hatch_build.py

bench: setup  ## Print the measured ratios (see bench/README.md)
	status=0; for script in $(filter-out bench/accept.py,$(wildcard bench/*.py)); do \
	  echo "== $$script"; $(BIN)/python $$script || status=1; done; exit $$status

plan: setup  ## Print what hardware and money a region needs, with plots (docs/capacity.md)
	$(BIN)/python -m bench.plan --agree 150 --out out/plan

train-setup: setup  ## Add PyTorch and the training data to the environment
	$(INSTALL) --constraint constraints.txt --editable '.[dev,train]'
	$(INSTALL) --no-deps --requirement training.txt

train: train-setup  ## Train all networks again (about 3 hours on 2 cores; minutes on a GPU)
	$(BIN)/python -m models.training.detector --minutes 85 --threads 2
	$(BIN)/python -m models.training.segmenter --minutes 52 --threads 2
	$(BIN)/python -m models.training.reducer --minutes 25 --threads 2

models: train-setup  ## Write the trained networks as ONNX, with their cards
	$(BIN)/python -m models.training.export

clean:  ## Remove the environment, generated code and results
	rm -rf $(VENV) services/lungmesh/v1 out build dist .lungmesh
