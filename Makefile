# Everything that people do with this repository. Needs Python 3.11+, make and a POSIX shell.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
COMPILE := CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/pip-compile --quiet $(UPGRADE) \
	--generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

# Processes that tests run in. A file's tests stay together, the long ones come first.
JOBS := 2
XDIST := --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

# What make bench compares with.
LITELLM := .bench/litellm

# What deploy/ has manifests of, made from deploy/examples.
TARGETS := kubernetes istio envoy-gateway

.PHONY: help setup up test retest lint bench figures parts wrk browser manifests requirements proto clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMPS)/dev ## Create .venv with everything that developers need

up: $(STAMPS)/up ## Start Envoy, the services and the emulator: a page to talk to
	@$(BIN)/ringback up $(ARGS)

test: $(STAMPS)/dev browser ## Run every test, the browser's included
	$(BIN)/python -m pytest $(XDIST) $(ARGS)

retest: $(STAMPS)/dev ## Run what failed last, one test after the other
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS)

lint: $(STAMPS)/dev ## Check style, types, import rules and generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/yamllint --strict .
	$(BIN)/python proto/generate.py --check
	$(BIN)/ringback check --envoy envoy/envoy.yaml
	$(BIN)/envoy --mode validate -c envoy/envoy.yaml --log-level error

bench: $(STAMPS)/dev $(LITELLM)/stamp wrk ## Compare with LiteLLM and bare Envoy, on a quiet machine: 12 minutes
	PYTHONPATH=.:tests $(BIN)/python -m bench.compare $(ARGS)

figures: $(STAMPS)/dev ## Write what make bench measured last into README.md and docs/performance.md
	PYTHONPATH=.:tests $(BIN)/python -m bench.compare.publish

parts: $(STAMPS)/dev ## Print how long the parts take that every request runs through
	$(BIN)/python bench/sdp.py
	$(BIN)/python bench/tokens.py
	PYTHONPATH=.:tests $(BIN)/python bench/keys.py
	PYTHONPATH=.:tests $(BIN)/python bench/gateway.py

# What make bench compares with, in a virtual environment of its own.
$(LITELLM)/stamp: bench/compare/litellm.txt | $(BIN)/python
	@echo "Installing LiteLLM into $(LITELLM): about a minute, once"
	@$(BIN)/python -m venv --clear $(LITELLM)
	@$(LITELLM)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# What makes the load.
wrk:
	@command -v wrk >/dev/null || sh bench/compare/install-wrk.sh

# Chromium for the browser tests, where none is installed yet. CHROMIUM names another one.
browser:
	@command -v $${CHROMIUM:-chromium} >/dev/null || sh tests/install-chromium.sh

manifests: $(STAMPS)/dev ## Write the manifests in deploy/ again
	@set -e; for target in $(TARGETS); do rm -rf build/manifests; \
		$(BIN)/ringback render $$target --config deploy/examples/litellm.yaml \
			--settings deploy/examples/ringback.yaml --output build/manifests; \
		rm -rf deploy/$$target; mv build/manifests deploy/$$target; done

requirements: $(STAMPS)/dev ## Pin what pyproject.toml asks for; UPGRADE=--upgrade takes newer versions
	$(PIP) install pip-tools dependency-groups
	$(COMPILE) --extra azure,otel --output-file requirements.txt pyproject.toml
	$(COMPILE) --extra azure,otel,envoy,emulator --constraint requirements.txt --output-file requirements-up.txt pyproject.toml
	$(BIN)/python -m dependency_groups dev | $(COMPILE) --extra azure,otel,envoy,emulator --constraint requirements-up.txt \
		--output-file requirements-dev.txt pyproject.toml -

proto: $(STAMPS)/dev ## Regenerate the stubs from proto/
	$(BIN)/python proto/generate.py

clean: ## Remove .venv and all caches
	rm -rf $(VENV) .bench build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(STAMPS)/up: requirements-up.txt pyproject.toml | $(BIN)/python
	@echo "Installing what ringback up needs into $(VENV): about a minute, once"
	@$(PIP) install --require-hashes -r requirements-up.txt
	@$(PIP) install --no-deps -e .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dev: requirements-dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing what tests and checks need into $(VENV): about a minute, once"
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@$(PIP) install --no-deps -e .
	@mkdir -p $(STAMPS) && touch $@ $(STAMPS)/up

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
