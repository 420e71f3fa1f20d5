# `make help` lists the targets. A bare machine with Python 3.11+ and make is enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCHMARKS := $(sort $(wildcard benchmarks/*.py))

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo docs federation test campaign lint licences lock sbom vulnerabilities wheel wheelhouse \
	bench clean

help: ## show this list
	@echo "make TARGET [PYTHON=python3.12]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1	\2/p' $(MAKEFILE_LIST) | expand -t 17

setup: $(VENV)/dev.stamp ## create .venv with everything that runs, tests and checks the project

demo: $(VENV)/run.stamp ## train, aggregate and prune on the embedded data: results in runs/demo
	@echo "training: minutes; bars on a terminal, and a table at the end"
	$(BIN)/fedprune-sim run --out runs/demo

docs: setup ## renew the reference from the code and build the documentation into build/docs
	@$(BIN)/python -m tests.docs.reference
	@$(BIN)/python -m tests.reference.commands
	@$(BIN)/properdocs build --quiet
	@echo "build/docs/index.html"

federation: setup ## a server and three institutions on loopback over TLS: train, prune, take down
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.deployment.loopback

# One thread a worker: torch would otherwise start as many as there are cores in each. Three of
# them for two cores: one has the federations, which wait more than they work (tests/conftest.py).
test: setup $(VENV)/postgresql.stamp $(VENV)/chromium.stamp ## run every test but the campaign
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not long"

# One after the other: each has a federation of its own, which two cores carry once.
campaign: setup ## processes killed, networks cut, hosts apart, a release, on a real engine: 10 minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m long

lint: licences ## check style, format, types, the layers of the packages and licences
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

licences: setup ## check the licence of every package the lock installs against the allow list
	$(BIN)/python -m tests.supply.licences

sbom: setup ## write the bill of materials of the lock, CycloneDX, into dist/
	$(BIN)/python -m tests.supply.sbom

vulnerabilities: setup ## ask a registry, if one answers, for known vulnerabilities in the lock
	$(BIN)/python -m tests.supply.vulnerabilities

wheel: setup ## build fedprune's wheel into dist/, the same bytes wherever and whenever
	$(BIN)/python -m tests.supply.wheels

wheelhouse: setup ## fill dist/wheelhouse with the lock's wheels and fedprune's, hashes beside them
	$(BIN)/python -m tests.supply.wheels wheelhouse

bench: $(VENV)/run.stamp ## run every benchmark in benchmarks/, one file a question
	@echo "benchmarks: $(or $(BENCHMARKS),none yet)"
	@set -e; for file in $(BENCHMARKS); do echo "== $$file"; $(BIN)/python $$file; done

# No hashes and no index in the locks: torch 2.13.0 has a CPU and several CUDA builds, and
# pip's own configuration says where this machine takes its build from. One lock serves
# Python 3.11 and later on every platform (universal), by environment markers.
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
	--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate pyproject.toml

lock: setup ## renew the locks from pyproject.toml; LOCK_ARGS=--upgrade for the newest versions
	@$(COMPILE) $(LOCK_ARGS) --output-file requirements.lock
	@$(COMPILE) $(LOCK_ARGS) --extra dev --constraint requirements.lock \
		--output-file requirements-dev.lock
	@echo "requirements.lock and requirements-dev.lock fit pyproject.toml"

clean: ## remove .venv, build products and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was installed from, so a second call does nothing.
$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"Python \
	{sys.version.split()[0]} is too old: name one from 3.11 on, as in make PYTHON=python3.12")'
	@echo "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run.stamp: $(VENV)/python.stamp requirements.lock pyproject.toml
	@echo "installing requirements.lock into $(VENV): minutes, most of it torch"
	@$(BIN)/pip install -qq --requirement requirements.lock
# setuptools comes with the lock; build isolation would fetch another, unlocked one.
	@$(BIN)/pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.lock
	@echo "installing what tests and checks need from requirements-dev.lock"
	@$(BIN)/pip install -qq --requirement requirements-dev.lock
	@touch $@

# What a test needs beside Python: found by $(1), Debian's package $(2), for the tests of $(3).
define debian
	@{ $(1); } >/dev/null 2>&1 || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing $(2) for the tests of $(3)"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -qq -y --no-install-recommends $(2); } >/dev/null \
			|| echo "$(2) cannot be installed: its tests will skip"; \
	else echo "no $(2), and no root to install it: its tests will skip"; fi
	@touch $@
endef

# The tests start a PostgreSQL of their own.
$(VENV)/postgresql.stamp: $(VENV)/python.stamp
	$(call debian,command -v initdb || ls /usr/lib/postgresql/*/bin/initdb,postgresql,databases)

# The tests look at pages in a headless Chromium.
$(VENV)/chromium.stamp: $(VENV)/python.stamp
	$(call debian,command -v chromium,chromium,pages)
