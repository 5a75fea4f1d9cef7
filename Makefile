# The two commands that matter: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3.11
BIN := .venv/bin
BUF := npx --yes @bufbuild/buf@1.75.0
STAMP := .venv/.installed
EXPERIMENTS := maze2d door-human horizon steps random-walk latents world-model
SCALE := small
BENCHMARKS := sampler serving replicas learner training

.PHONY: help setup demo results bench test test-full test-gpu test-observability test-compose docs lint format proto proto-lint

help: ## say what there is to make
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## install everything into .venv

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: setup ## the whole pipeline on generated PointMaze data, in minutes on two CPU cores
	$(BIN)/ldcq run configs/demo.yaml --store runs/demo

results: setup ## run all experiments and rewrite docs/results; goes on where it was interrupted
	set -e; for name in $(EXPERIMENTS); do \
	  if [ $$name = door-human ] && [ -z "$$LDCQ_THIRD_PARTY_DATA" ]; then \
	    echo "door-human left out: set LDCQ_THIRD_PARTY_DATA to the folder of its demonstrations"; continue; fi; \
	  echo "== $$name"; \
	  $(BIN)/ldcq experiment $$name --scale $(SCALE) --store runs/results --out docs/results/$$name; \
	done
	$(BIN)/python -m experiments.index docs/results

bench: demo ## measure everything, one after the other, and rewrite benchmarks/RESULTS.md
	mkdir -p runs/bench
	set -e; for name in $(BENCHMARKS); do $(BIN)/ldcq bench $$name --json > runs/bench/$$name.json; done
	$(BIN)/ldcq bench solvers configs/demo.yaml --store runs/demo --json > runs/bench/solvers.json
	$(BIN)/python -m benchmarks.record runs/bench

test: setup ## the fast tests, under 10 minutes on two cores
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow and not gpu and not engine"

test-full: setup ## all tests that this machine can run
	$(BIN)/pytest -n 2 --dist loadgroup -m "not engine"

test-gpu: setup ## the tests that need a CUDA device
	$(BIN)/pytest -m gpu

test-observability: setup ## dashboards and alerts, against a real Prometheus (Debian: apt install prometheus)
	$(BIN)/pytest tests/deploy/test_metrics.py tests/deploy/test_observability.py

test-compose: setup ## the containers, scaled, swapped and broken; needs a Docker engine with Compose
	$(BIN)/pytest -m engine tests/deploy

docs: setup ## the documentation site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lint: setup ## style, types, the arrows between packages, the generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/proto

format: setup ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: setup ## generate the Python code of the contracts
	proto/generate.sh

proto-lint: ## check the contracts with buf (needs npx)
	$(BUF) lint
