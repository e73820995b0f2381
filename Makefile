# The two commands of the README: `make topo-docomo` and `make test`.
# Both set up what they need: Debian packages (as root, only those missing), a .venv, the project.

SHELL := /bin/bash
# A Python that other users can reach is preferred: the rootless tests run as one of them.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV := .venv
BIN := $(VENV)/bin
RUN_PACKAGES := tcpdump python3-venv
TEST_PACKAGES := $(RUN_PACKAGES) chromium tshark iproute2 iputils-ping util-linux nftables
# A second kernel for the tests of the netem emulator; not to be had for every machine.
UML_PACKAGE := user-mode-linux

.DEFAULT_GOAL := help
.PHONY: help topo-docomo test test-uml lint format benchmark clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

topo-docomo: $(VENV)/.run ## reproduce the docomo case: one second late behind a TCP setup proxy
	@$(BIN)/testbed run topologies/docomo.yaml

test: $(VENV)/.dev ## lint, type check and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(PYTEST_ARGS)
	@$(MAKE) --no-print-directory test-uml

test-uml: $(VENV)/.dev ## the tests of the netem emulator, inside User-Mode Linux
	@if command -v linux.uml >/dev/null; then \
	    echo "Inside User-Mode Linux:"; \
	    $(BIN)/python -m testbed.kernel.uml -- \
	        $(abspath $(BIN))/python -m pytest -p no:cacheprovider -k 'not userspace' \
	        tests/integration/netem tests/integration/links; \
	else \
	    echo "Skipped: the tests inside User-Mode Linux need the package $(UML_PACKAGE)"; \
	fi

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/.dev ## measure, beside the named peers
	@for one in build trace_reader emulation middlebox; do \
	    echo "benchmarks/$$one.py"; $(BIN)/python benchmarks/$$one.py || exit 1; done

clean: ## remove the virtual environment and all results
	rm -rf $(VENV) results build *.egg-info

# Debian packages are installed only where one is missing, and only by root.
define install_packages
	@missing=$$(dpkg-query -W -f '$${Package} $${Status}\n' $(1) 2>/dev/null \
	    | awk '$$NF == "installed" {print $$1}' | sort \
	    | comm -13 - <(printf '%s\n' $(1) | sort)); \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" -ne 0 ]; then \
	        echo "These Debian packages are missing: "$$missing; \
	        echo "Install them: sudo apt-get install -y --no-install-recommends "$$missing; exit 1; \
	    fi; \
	    echo "Installing" $$missing; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get -qq update && apt-get -qq install -y --no-install-recommends $$missing >/dev/null; \
	fi
endef

$(VENV)/.run: pyproject.toml
	$(call install_packages,$(RUN_PACKAGES))
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing testbed into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(call install_packages,$(TEST_PACKAGES))
	@command -v linux.uml >/dev/null || test "$$(id -u)" -ne 0 \
	    || { echo "Installing $(UML_PACKAGE)"; export DEBIAN_FRONTEND=noninteractive; \
	         apt-get -qq update && \
	         apt-get -qq install -y --no-install-recommends $(UML_PACKAGE) >/dev/null; } \
	    || echo "$(UML_PACKAGE) cannot be had here: \`make test-uml\` will be skipped"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing testbed and its development tools into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.run
