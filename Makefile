# self-service-agent. `make` alone lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
FUNCTIONS := $(notdir $(wildcard functions/*))

.DEFAULT_GOAL := help
.PHONY: help install run demo test bench flame chaos check format types lint drift secrets audit migrate dlq operate keys new-integration lock clean generate bump vendor release-archive deploy helm-install build-images build-request-mgr-image build-agent-service-image undeploy test-knative

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## install what everything else needs into .venv

# uv is quicker; where it cannot reach the index that pip is configured for, pip does it.
$(READY): requirements/dev.txt
	@echo "installing into $(VENV) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=…")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[0-9.]*' requirements/dev.txt)"
	@if [ -n "$$PIP_INDEX_URL" ] && [ -z "$$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX="$$PIP_INDEX_URL"; fi; \
	 { $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt \
	   || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt; } && \
	 { $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable . \
	   || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .; }
	@touch $@

run: $(READY) ## the whole platform on this machine: http://localhost:8080 (PORT, STATE_DIR, LLAMA_STACK_URL)
	@exec $(BIN)/python -m infra.local

demo: $(READY) ## the document's four requests and a follow-up, answered before your eyes
	@exec $(BIN)/python -m infra.local.demo

test: $(READY) ## every test, with the real parts (ARGS="-k name" for some, JOBS=1 for one file at a time)
	@$(BIN)/python -m pytest -n $(or $(JOBS),3) --dist loadfile $(ARGS)

bench: $(READY) ## budgets, measured side by side: a quarter of an hour (ARGS="chain" for one part, "--markdown FILE")
	@$(BIN)/python -m benchmarks $(ARGS)

flame: $(READY) ## flame graphs of functions under load, into docs/flames (ARGS="agent-invoke --seconds 20")
	@$(BIN)/python -m benchmarks.flame $(ARGS)

check: lint types drift secrets audit ## what CI checks beside the tests

lint: $(READY) ## style and common mistakes (ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: make format"; $(BIN)/ruff format --diff --quiet . | head -40; exit 1; }

types: $(READY) ## types (mypy, strict)
	@$(BIN)/mypy common infra tests benchmarks
	@for function in $(FUNCTIONS); do \
	   MYPYPATH=.:functions/$$function $(BIN)/mypy functions/$$function/*.py || exit 1; done

drift: $(READY) ## what is generated or said twice still agrees
	@$(BIN)/python -m infra.checks

secrets: $(READY) ## no secret is committed
	@git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline

audit: $(READY) ## known vulnerabilities in what is pinned (asks the network; AUDIT=required fails without it)
	@$(BIN)/python -m infra.checks.audit

format: $(READY) ## format the code
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

migrate: $(READY) ## bring the database of POSTGRES_* to the newest schema
	@$(BIN)/python -m infra.migrations

chaos: $(READY) ## break everything at random while people ask (DURATION, SEED, REQUESTS, SESSIONS, RATE, KILL_EVERY)
	@exec $(BIN)/python -m tests.chaos

dlq: $(READY) ## dead letters (ARGS="list", "show ID", "replay ID… --dry-run", "--help")
	@$(BIN)/python -m infra.operate $(if $(PLATFORM),--platform $(PLATFORM)) dlq $(ARGS)

operate: $(READY) ## every command for operators (ARGS="webhooks list", "--help")
	@$(BIN)/python -m infra.operate $(if $(PLATFORM),--platform $(PLATFORM)) $(ARGS)

keys: $(READY) ## keys and webhook secrets of tools (ARGS="create TOOL", "rotate TOOL --file F", "--help")
	@$(BIN)/python -m infra.keys $(ARGS)

new-integration: $(READY) ## a working integration from templates (NAME=teams)
	@$(BIN)/python -m infra.new_integration $(NAME)

lock: $(READY) ## write the requirements files anew from pyproject.toml
	@$(BIN)/python -m infra.checks.locks --write

clean: ## remove what was installed and the local platform's state
	rm -rf $(VENV) .state build dist

generate: $(READY) ## write func.yaml, requirements and the chart's tables anew from infra/topology.yaml
	@$(BIN)/python -m infra.deploy generate

bump: $(READY) ## a new version of common: pyproject.toml, and everything that names it
	@$(BIN)/python -m infra.deploy bump

vendor: $(READY) ## put the wheel of common into every function's directory, as func deploy needs it (EXTRAS=otel)
	@$(BIN)/python -m infra.deploy vendor

release-archive: $(READY) ## after a release: keep its code for the upgrade tests, in place of the one before (COMMIT)
	@$(BIN)/python -m infra.deploy release-archive $(COMMIT)

deploy: $(READY) ## the chart, then each function by func (REGISTRY, NAMESPACE, VALUES, REMOTE=1, DRY_RUN=1)
	@$(BIN)/python -m infra.deploy.steps deploy

helm-install: $(READY) ## the chart with every function, from images (REGISTRY, TAG, NAMESPACE, VALUES, DRY_RUN=1)
	@$(BIN)/python -m infra.deploy.steps helm-install

build-images: $(READY) ## build and push an image of each function and of the migrations (REGISTRY, TAG, BUILDER, DRY_RUN=1)
	@$(BIN)/python -m infra.deploy.steps build-images

build-request-mgr-image: $(READY) ## of what was the request manager: every function but agent-invoke
	@$(BIN)/python -m infra.deploy.steps build-request-mgr-image

build-agent-service-image: $(READY) ## of what was the agent service: agent-invoke
	@$(BIN)/python -m infra.deploy.steps build-agent-service-image

undeploy: $(READY) ## remove the release and the functions, not the database (NAMESPACE, DRY_RUN=1)
	@$(BIN)/python -m infra.deploy.steps undeploy

test-knative: $(READY) ## the chart and the whole chain by Knative's own code (builds Helm, func and Go modules: minutes at first)
	@$(BIN)/python -m infra.deploy.tools .state/knative
	@KNATIVE_TOOLS=$(CURDIR)/.state/knative $(BIN)/python -m pytest tests/knative $(ARGS)
