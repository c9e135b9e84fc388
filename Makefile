# Run `make` to see the targets.
PYTHON ?= python3
TESTS ?= tests
ARGS ?=
# Test files that run side by side: more than there are cores, since most of them wait for servers.
JOBS ?= 4

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

PY := .venv/bin/python
SETUP := .venv/.setup
SERVERS := .servers/.fetched
KERNEL := migrations_app/engine/kernel.py
# A command with the settings of a test run: throw-away keys, a temporary data folder.
SETTINGS := $(PY) -m tests.support.environment
CODE := manage.py events migrations_app portal scripts tests

# Longer runs of the same tests: more kill -9, more random seeds.
export SWITCHYARD_TEST_KILLS := $(KILLS)
export SWITCHYARD_TEST_SEEDS := $(SEEDS)
# Where the browser test keeps its picture of a task, for the README.
export SWITCHYARD_TEST_PICTURE := $(PICTURE)

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(SETUP) ## make the environment in .venv (PYTHON=python3.12 names another interpreter)

.venv/.installed: requirements/test.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements/test.txt
	@touch $@

# The engine's hot path is compiled where there is a compiler; without one the same file runs interpreted.
$(SETUP): .venv/.installed scripts/kernel.py $(wildcard $(KERNEL))
	$(PY) -m scripts.kernel
	@touch $@

.PHONY: servers
servers: $(SETUP) ## fetch the servers that the tests run against into .servers, and try again for what is missing
	$(PY) -m scripts.servers
	@touch $(SERVERS)

$(SERVERS): $(wildcard scripts/servers/*.py) | $(SETUP)
	$(PY) -m scripts.servers
	@touch $@

.PHONY: demo
demo: $(SETUP) ## a migration to look at, on two embedded servers (ONCE=1: run, verify, exit)
	$(PY) manage.py demo $(if $(filter 1,$(ONCE)),--once)

.PHONY: run
run: $(SETUP) ## the portal and its clusters on your own settings
	$(PY) manage.py serve

.PHONY: test
test: $(SETUP) $(SERVERS) ## all tests (TESTS=path, ARGS='-k name', JOBS=0, KILLS=100, SEEDS=1000)
	$(PY) -m pytest --numprocesses $(JOBS) --dist loadfile $(TESTS) $(ARGS)

.PHONY: bench
bench: $(SETUP) $(SERVERS) ## speed beside native replication (SETS=A,F,stream ROUNDS=5 SCALE=0.2 SERVER=redis-7.0 FORMAT=json)
	@$(PY) -m tests.benchmarks

# Findings and what the fuzzer has learnt stay in test-results/fuzz; atheris gets a folder of its own, .venv/fuzz.
.PHONY: fuzz
fuzz: $(SETUP) $(SERVERS) ## look for bytes that the engine's parsers do not stand, guided by coverage (SECONDS=600)
	$(SETTINGS) $(PY) -m tests.fuzz --seconds $(or $(SECONDS),60)

.PHONY: lint
lint: $(SETUP) ## style, types, import rules, Django's checks, models without their migration
	.venv/bin/ruff check $(CODE)
	.venv/bin/ruff format --check $(CODE)
	$(SETTINGS) .venv/bin/mypy $(CODE)
	.venv/bin/lint-imports
	$(SETTINGS) sh -c '$(PY) manage.py collectstatic --no-input --verbosity 0 && \
		SECURE_SSL=on SITE_URL=https://console.example $(PY) manage.py check --deploy --fail-level WARNING'
	$(SETTINGS) $(PY) manage.py makemigrations --check --dry-run

.PHONY: check
check: lint test ## lint and test

.PHONY: format
format: $(SETUP) ## format the code and fix what can be fixed
	.venv/bin/ruff check --fix --exit-zero $(CODE)
	.venv/bin/ruff format $(CODE)

COMPILE = .venv/lock/bin/uv pip compile --quiet --no-config --no-emit-index-url --universal --python-version 3.11 \
	--generate-hashes --no-strip-extras --custom-compile-command 'make requirements' $(if $(UPGRADE),--upgrade)

.PHONY: requirements
requirements: $(SETUP) ## compile requirements/*.txt anew from pyproject.toml (UPGRADE=1: newest versions)
	test -x .venv/lock/bin/uv || { $(PY) -m venv .venv/lock && .venv/lock/bin/pip install --quiet --disable-pip-version-check \
		--require-hashes --requirement requirements/lock.txt; }
	$(COMPILE) pyproject.toml --output-file requirements/run.txt
	$(COMPILE) pyproject.toml --group test --constraint requirements/run.txt --output-file requirements/test.txt
	$(COMPILE) --group lock --output-file requirements/lock.txt
	$(COMPILE) --group fuzz --output-file requirements/fuzz.txt

.PHONY: clean
clean: ## remove what make made: the environment, the servers, caches (their download cache stays: SWITCHYARD_CACHE)
	rm -rf .venv .servers build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache test-results
	rm -f migrations_app/engine/kernel.c migrations_app/engine/kernel.*.so
