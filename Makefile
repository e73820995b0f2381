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
# The engine of the tests with containers, which start one of their own. Where systemd runs, the
# package would start another one at once, so there it is left to whoever owns the machine.
ENGINE_PACKAGE := docker.io
# What `testbed kernel build` needs. .github/workflows/test.yml keeps what it builds.
KERNEL_PACKAGES := gcc libc6-dev make flex bison bc xz-utils patch

# What is installed is locked: first what running needs, below $(DEVELOPMENT) the rest.
LOCK := requirements.lock
DEVELOPMENT := \# -- development --
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
# `compat` puts the clone itself on Python's path. The usual way, a finder, comes after the path:
# beside a clone named testbed, `import testbed` would take the clone's folder for the package.
EDITABLE := --config-settings editable_mode=compat -e
UV := build/uv/bin/uv
UV_COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 \
    --generate-hashes --no-header --no-annotate pyproject.toml build/backend.in

.DEFAULT_GOAL := help
.PHONY: help topo-docomo test test-virtual test-uml test-latest coverage kernel lint format docs lock \
    benchmark images clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

topo-docomo: $(VENV)/.run ## reproduce the docomo case: one second late behind a TCP setup proxy
	@$(BIN)/testbed run topologies/docomo.yaml $(if $(CLOCK),--clock $(CLOCK))

test: $(VENV)/.dev ## lint, type check and the whole test suite
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory kernel
	$(BIN)/pytest -n 2 $(PYTEST_ARGS) tests/unit
	$(BIN)/pytest $(PYTEST_ARGS) $(filter-out $(TIMED),$(wildcard tests/integration/*)) tests/browser
	@if $(HAS_KERNEL); then \
	    echo "Some of what depends on time, by the real clock:"; \
	    $(BIN)/pytest $(PYTEST_ARGS) -m 'smoke and not long' $(TIMED); \
	else \
	    echo "What depends on time, by the real clock:"; $(BIN)/pytest $(PYTEST_ARGS) $(TIMED); \
	fi
	@$(MAKE) --no-print-directory test-virtual test-uml

# What depends on time: by the virtual clock exact, by the real one with tolerances.
TIMED_FIRST := $(addprefix tests/integration/,middlebox traffic trace)
TIMED_SECOND := $(addprefix tests/integration/,scenarios links netem virtual)
TIMED := $(TIMED_FIRST) $(TIMED_SECOND)
HAS_KERNEL = $(BIN)/testbed kernel list --json | grep -q '"current": true'

test-virtual: $(VENV)/.dev ## tests by the virtual clock, in a kernel that is built once
	@if $(HAS_KERNEL); then \
	    $(MAKE) --no-print-directory --jobs 2 --output-sync=target test-virtual-first test-virtual-second; \
	else \
	    echo "Skipped: the tests by the virtual clock need a kernel, see \`make kernel\`"; \
	fi

# Two kernels at a time, each on a processor of its own.
PROCESSORS = $(shell $(PYTHON) -c 'import os; print(*os.sched_getaffinity(0))')
VIRTUAL_PYTEST = $(BIN)/pytest --testbed-clock=virtual -p no:cacheprovider $(PYTEST_ARGS)
.PHONY: test-virtual-first test-virtual-second
test-virtual-first:
	taskset --cpu-list $(firstword $(PROCESSORS)) $(VIRTUAL_PYTEST) $(TIMED_FIRST)
test-virtual-second:
	taskset --cpu-list $(lastword $(PROCESSORS)) $(VIRTUAL_PYTEST) $(TIMED_SECOND)

kernel: $(VENV)/.dev ## build the kernel with the virtual clock, unless it is there (minutes, once)
	@test "$$(id -u)" -ne 0 || $(MAKE) --no-print-directory kernel-packages
	@$(BIN)/testbed kernel build || echo "Without it the tests by the virtual clock are skipped."

.PHONY: kernel-packages
kernel-packages:
	$(call install_packages,$(KERNEL_PACKAGES))

# Links are tested there only where they cannot be by the virtual clock.
test-uml: $(VENV)/.dev ## the tests of the netem emulator, inside User-Mode Linux
	@if command -v linux.uml >/dev/null; then \
	    echo "Inside User-Mode Linux:"; \
	    $(BIN)/python -m testbed.kernel.uml -- \
	        $(abspath $(BIN))/python -m pytest -p no:cacheprovider -k 'not userspace' \
	        tests/integration/netem $$($(HAS_KERNEL) || echo tests/integration/links); \
	else \
	    echo "Skipped: the tests inside User-Mode Linux need the package $(UML_PACKAGE)"; \
	fi

test-latest: ## the unit tests with the newest packages that pyproject.toml allows
	@$(PYTHON) -m venv --clear build/latest
	@build/latest/bin/pip install --quiet --disable-pip-version-check $(EDITABLE) '.[dev]'
	build/latest/bin/pytest tests/unit

coverage: $(VENV)/.dev ## how much of testbed/ its unit tests execute
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest -n 2 --timeout 1200 tests/unit
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

docs: $(VENV)/.dev ## the docs as a site, in site/; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Read site/index.html"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	@find tests -name conftest.py | sort | xargs -n 1 $(BIN)/mypy --config-file tests/mypy.ini

format: $(VENV)/.dev ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## renew requirements.lock with the newest packages that pyproject.toml allows
	@mkdir -p build
	@test -x $(UV) || { $(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet uv; }
	@$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))[ \
	    "build-system"]["requires"], sep="\n")' >build/backend.in
	@$(UV_COMPILE) --upgrade --extra dev --extra docs --output-file build/all.txt
	@$(UV_COMPILE) --constraints build/all.txt --output-file build/run.txt
	@split='FNR == NR { if (/^[^ ]/) run[$$1]; next } /^[^ ]/ { runs = $$1 in run } '; \
	{ echo '# Written by `make lock`, for Python 3.11 to 3.13. What running needs:'; \
	  awk -F= "$$split runs" build/run.txt build/all.txt; \
	  echo '$(DEVELOPMENT)'; \
	  awk -F= "$$split !runs" build/run.txt build/all.txt; } >$(LOCK)

benchmark: $(VENV)/.dev ## measure, beside the named peers
	@for one in build trace_reader emulation middlebox; do \
	    echo "benchmarks/$$one.py"; $(BIN)/python benchmarks/$$one.py || exit 1; done

images: $(VENV)/.run ## build the images of images/, where no registry is with a base of our own
	@$(BIN)/python images/build.py

clean: ## remove the virtual environment, all results and the site
	rm -rf $(VENV) results build site *.egg-info

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

$(VENV)/.run: pyproject.toml $(LOCK)
	$(call install_packages,$(RUN_PACKAGES))
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing testbed into $(VENV)"
	@$(PIP_INSTALL) --require-hashes -r <(sed '/^$(DEVELOPMENT)/,$$d' $(LOCK))
	@$(PIP_INSTALL) --no-deps --no-build-isolation $(EDITABLE) .
	@touch $@

$(VENV)/.dev: pyproject.toml $(LOCK)
	$(call install_packages,$(TEST_PACKAGES))
	@command -v linux.uml >/dev/null || test "$$(id -u)" -ne 0 \
	    || { echo "Installing $(UML_PACKAGE)"; export DEBIAN_FRONTEND=noninteractive; \
	         apt-get -qq update && \
	         apt-get -qq install -y --no-install-recommends $(UML_PACKAGE) >/dev/null; } \
	    || echo "$(UML_PACKAGE) cannot be had here: \`make test-uml\` will be skipped"
	@command -v dockerd >/dev/null || test "$$(id -u)" -ne 0 || test -d /run/systemd/system \
	    || { echo "Installing $(ENGINE_PACKAGE)"; export DEBIAN_FRONTEND=noninteractive; \
	         apt-get -qq update && \
	         apt-get -qq install -y --no-install-recommends $(ENGINE_PACKAGE) >/dev/null; } \
	    || echo "$(ENGINE_PACKAGE) cannot be had here: tests with containers will be skipped"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing testbed and its development tools into $(VENV)"
	@$(PIP_INSTALL) --require-hashes -r $(LOCK)
	@$(PIP_INSTALL) --no-deps --no-build-isolation $(EDITABLE) .
	@touch $@ $(VENV)/.run
