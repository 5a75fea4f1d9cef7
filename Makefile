# The two main commands are `make demo` and `make test`. Both install what they need.
PYTHON ?= python3.11
BIN := .venv/bin
BUF := npx --yes @bufbuild/buf@1.75.0
AGAINST ?= $(or $(shell git describe --tags --abbrev=0 2>/dev/null),main)
STAMP := .venv/.installed
EXPERIMENTS := demo maze2d door-human horizon steps random-walk latents world-model pixels antmaze manipulation adroit locomotion
THIRD_PARTY := door-human locomotion adroit
SCALE := small
BENCHMARKS := sampler serving replicas learner targets training
GPU := build/gpu
GPU_PYTHON := 3.12

.PHONY: help setup demo results results-avx2 peers bench test test-full test-gpu gpu-check gpu-wheels test-observability test-compose docs lint format chaos soak fuzz proto proto-lint proto-breaking

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## install everything into .venv

$(STAMP): pyproject.toml
	@echo "Installing the project with torch and MuJoCo into .venv; pip is silent, and takes minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: setup ## run the whole pipeline on generated PointMaze data, in minutes on two CPU cores
	$(BIN)/ldcq run configs/demo.yaml --store runs/demo

results: setup ## run all experiments and rewrite docs/results; an interrupted run resumes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[ogbench]'
	set -e; for name in $(EXPERIMENTS); do \
	  case " $(THIRD_PARTY) " in *" $$name "*) if [ -z "$$LDCQ_THIRD_PARTY_DATA" ]; then \
	    echo "$$name is skipped: set LDCQ_THIRD_PARTY_DATA to the folder of others' demonstrations and policies"; \
	    continue; fi;; esac; \
	  echo "== $$name"; \
	  $(BIN)/ldcq experiment $$name --scale $(SCALE) --store runs/results --out docs/results/$$name; \
	done
	$(BIN)/python -m experiments.index docs/results README.md

results-avx2: setup ## play the demo's experiment with AVX2 alone; its page shows these rows beside its own
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 $(BIN)/ldcq experiment demo \
	  --scale $(SCALE) --store runs/results-avx2 --out docs/results/demo/avx2

peers: .venv-peers/.installed ## install d3rlpy beside the project, for python -m experiments.peers

.venv-peers/.installed: experiments/peers/requirements.txt
	@echo "Installing d3rlpy into .venv-peers; pip is silent, and takes minutes."
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

bench: demo ## run all benchmarks in turn and rewrite benchmarks/RESULTS.md
	mkdir -p runs/bench
	set -e; for name in $(BENCHMARKS); do $(BIN)/ldcq bench $$name --json > runs/bench/$$name.json; done
	$(BIN)/ldcq bench solvers configs/demo.yaml --store runs/demo --json > runs/bench/solvers.json
	$(BIN)/python -m benchmarks.result runs/bench

test: setup ## run the fast tests, under 10 minutes on two cores
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder -m "not slow and not gpu and not engine"

test-full: setup ## run all tests that this machine can run
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder -m "not engine"

test-gpu: setup ## run the tests that need a CUDA device
	$(BIN)/pytest -m gpu

gpu-check: $(if $(wildcard $(GPU)/wheels),$(GPU)/.installed,setup) ## test and measure a GPU, play the demo on it, and write docs/results/gpu; 8 minutes
	$(if $(wildcard $(GPU)/wheels),PYTHONPATH=$(CURDIR)/$(GPU)/site python3,$(BIN)/python) -m campaigns.gpu_check

# On a machine without network: its own torch and Triton, and the wheels for all else.
$(GPU)/.installed: $(wildcard $(GPU)/wheels/*.whl)
	python3 -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target $(GPU)/site $^
	touch $@

gpu-wheels: setup ## fetch what gpu-check needs on a machine without network, into build/gpu/wheels (GPU_PYTHON=3.12)
	$(BIN)/python -m campaigns.gpu_wheels $(GPU)/wheels --python $(GPU_PYTHON)

test-observability: setup ## test dashboards and alerts with a real Prometheus (Debian: apt install prometheus)
	$(BIN)/pytest tests/deploy/test_metrics.py tests/deploy/test_observability.py

test-compose: setup ## test the containers with scaling, swapping and failures; needs a Docker engine with Compose
	$(BIN)/pytest -m engine tests/deploy

chaos: setup ## small runs under 100 random kills, full disks and moved pointers: the same critic, nothing left behind
	$(BIN)/python -m campaigns.chaos

soak: setup ## 100,000 calls of a prior and an actor with swaps and cancels: none fails, memory and threads stay flat
	$(BIN)/python -m campaigns.soak

fuzz: setup ## 20,000 requests and raw bytes at every port: documented codes alone, no crash, no trace
	$(BIN)/python -m campaigns.fuzz

docs: setup ## build the documentation site into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lint: setup ## check style, types, the arrows between packages and the generated code
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

proto-breaking: ## check that the contracts still fit those of the last release (needs npx); AGAINST=REF: of another commit
	$(BUF) breaking --against "$$(git rev-parse --path-format=absolute --git-common-dir)#ref=$(AGAINST)"
