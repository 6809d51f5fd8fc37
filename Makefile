# Installs what is missing (see tools/setup.sh) into .venv, then does what it is asked for.

UV_VERSION := 0.13.9
# make test PYTHON=python3.13; without it, a recent one is looked for. .venv is made anew where it is another's.
export PYTHON

# Passed on: make run ARGS="--timeout 30", make demo ARGS="--port 3081", make test ARGS="-k socks"
ARGS ?=

# The floor of coverage (fail_under in pyproject.toml) is one for all tests: a part of them reaches less.
ANY_COVERAGE = $(if $(strip $(ARGS)),--cov-fail-under=0)

COMPILE = .tools/bin/uv pip compile --quiet --universal --python-version 3.11 --no-sources \
	--custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help demo run test bench fuzz soak check lint format docs lock clean setup ready

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: ready ## Show it all on a private Tor network, then serve on localhost:3080 until Ctrl-C
	@.venv/bin/python -m tortxd.testing.demo $(ARGS)

run: ready ## Run the daemon on the public Tor network; options in ARGS="..."
	@.venv/bin/twistd -n --pidfile= tortxd $(ARGS)

test: ## Run the tests, those on a private Tor network among them, and report coverage
	@tools/setup.sh curl strace faketime chromium chromedriver:chromium-driver firefox-esr node:nodejs /usr/sbin/haproxy:haproxy
	@if .venv/bin/python -m pytest --cov=tortxd $(ANY_COVERAGE) -n 3 --no-loadscope-reorder $(ARGS); then \
	    echo "The tests passed."; \
	else echo "The tests failed."; exit 1; fi

bench: ## Measure tortxd beside other gateways, in 70 minutes; in 3 with ARGS=--quick
	@tools/setup.sh gcc privoxy node:nodejs npm ip:iproute2 /usr/include/openssl/ssl.h:libssl-dev
	@.venv/bin/python -m bench $(ARGS)

fuzz: setup ## Fuzz on with random inputs, FUZZ_SECONDS=60 for each of some 25 properties
	FUZZ_SECONDS=$${FUZZ_SECONDS:-60} .venv/bin/python -m pytest tests/fuzz $(ARGS)

soak: setup ## Load and faults on a daemon for 10 minutes; ARGS="--seed 7 --seconds 120"
	@.venv/bin/python -m tests.soak $(ARGS)

check: setup ## Check style, format and types
	@failed=0; \
	for check in "ruff check ." "ruff format --check ." mypy; do \
	    echo "$$check"; .venv/bin/$$check || failed=1; \
	done; exit $$failed

lint: check

format: setup ## Bring the code into its format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: setup ## Build the documentation's site in site/, and check every link within it
	@.venv/bin/mkdocs build --strict # not --quiet, which counts no warnings
	@echo "The site is built: site/index.html"

lock: ## Write both lock files anew from pyproject.toml; newest versions with ARGS=--upgrade
	@test -x .tools/bin/uv || { $(or $(PYTHON),python3) -m venv .tools && \
	    .tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	$(COMPILE) --group dev --extra testing --output-file requirements-dev.lock $(ARGS) pyproject.toml
	$(COMPILE) --group run --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml

clean: ## Remove all that was installed or made here
	rm -rf .venv .tools .bench build dist site tortxd.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .coverage .coverage.* htmlcov _trial_temp* twisted/plugins/dropin.cache
	find tortxd tests twisted docs bench -type d -name __pycache__ -prune -exec rm -rf {} +

setup:
	@tools/setup.sh

ready:
	@tools/setup.sh --run
