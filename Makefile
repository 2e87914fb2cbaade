# Everything a contributor runs. `make` alone lists the targets; none of them needs anything installed
# but Python 3.11 or newer with its venv module: they make .venv themselves.

VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .cache/afp-cli/.made .cache/awscli/.made .cache/boto2/.made .cache/sdk/.made
BENCH_ITEMS := warm cold crowd renewal neighbour footprint million
AXE := .cache/axe/.made
AUDIT := .cache/audit/.made
READERS := .cache/ec2-metadata/.made
PIP_INSTALL := -m pip install --disable-pip-version-check --quiet

# Tried in this order. `make PYTHON=/path/to/python3.13 ...` says which to take.
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-system conformance bench $(BENCH_ITEMS) format lint types units contracts check build deb lock audit sbom clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.demo ## Run the whole thing on loopback, with an embedded AWS and DNS
	@exec $(BIN)/imds-proxy demo

test: $(VENV)/.test $(CLIENTS) ## Test without root and without system packages (a few minutes)
	$(BIN)/python -m pytest -m "not system and not conformance and not patient" --numprocesses 2 --dist loadfile --cov

test-system: $(VENV)/.test $(AXE) $(READERS) .cache/boto2/.made ## Test with network namespaces, real servers, a browser (root; installs Debian packages)
	@test "$$(id -u)" = 0 || { echo "make test-system needs root: it makes network namespaces" >&2; exit 1; }
	tests/system/install-packages
	@$(BIN)/python $(PIP_INSTALL) --editable '.[ldap]' \
		|| echo "python-ldap can't be built: tests that ask a directory skip" >&2
	$(BIN)/python -m pytest -m "system or patient"

# All languages write docs/clients.md, fewer (`make conformance LANGUAGES="go rust"`) are compared with it.
conformance: $(VENV)/.test ## Build real clients of many languages and try each in every mode (root)
	@test "$$(id -u)" = 0 || { echo "make conformance needs root: it makes network namespaces" >&2; exit 1; }
	tests/conformance/install-packages
	CONFORMANCE_LANGUAGES="$(LANGUAGES)" $(BIN)/python -m pytest -m conformance tests/conformance
	$(BIN)/python -m tests.conformance.clients_page $(if $(LANGUAGES),--check)

bench: $(VENV)/.test ## Measure warm requests, cold callers, renewals, noisy neighbours, memory and start (reports only)
	$(BIN)/python -m bench $(filter $(BENCH_ITEMS),$(MAKECMDGOALS)) $(BENCH_FLAGS)

# `make bench million` runs that item alone, `BENCH_FLAGS="--callers 200000"` passes options on.
$(BENCH_ITEMS): bench
	@:

format: $(VENV)/.test ## Put the code into shape
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: $(VENV)/.test ## Check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.test ## Check the types
	$(BIN)/mypy

units: $(VENV)/.test ## Check units, addresses and firewall with the tools that read them (systemd, nft; root)
	.ci/check-units

contracts: $(VENV)/.test ## Check who imports whom
	$(BIN)/lint-imports

check: lint types contracts ## Everything that needs no run: lint, types, contracts

build: $(VENV)/.test ## Build wheel and sdist into dist/ and check what is in them
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m tests.distribution dist

deb: $(VENV)/.test ## Build the Debian package into dist/deb/, for the Debian or Ubuntu this is run on
	rm -rf dist/deb
	packaging/deb/build $(BIN)/python dist/deb

lock: .cache/lock/.made ## Lock what package and image take: versions and hashes (OPTIONS=--upgrade: the newest)
	packaging/lock .cache/lock/bin/uv $(OPTIONS)

# pip-audit passes what it knows nothing of. Here only what was looked at counts, else the status is not 0.
audit: $(VENV)/.test $(AUDIT) ## Look for known vulnerabilities in what package and image take (asks PyPI)
	@rm -f .cache/audit/report.json
	@.cache/audit/bin/pip-audit --requirement packaging/requirements.txt --requirement packaging/requirements-ldap.txt \
		--disable-pip --require-hashes --format json --output .cache/audit/report.json --progress-spinner off \
		>.cache/audit/messages 2>&1 || true
	@$(BIN)/python -m tests.supply_chain audit .cache/audit/report.json

sbom: $(VENV)/.test $(AUDIT) ## List all modules of the package in dist/deb in dist/imds-proxy.cdx.json (CycloneDX)
	packaging/sbom .cache/audit/bin/cyclonedx-py dist/deb dist/imds-proxy.cdx.json
	$(BIN)/python -m tests.supply_chain sbom dist/imds-proxy.cdx.json

clean: ## Remove what was built and cached; the venv stays
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# An unfinished venv (no pip in it) is made anew; a finished one is kept, whichever Python made it.
$(VENV)/.made:
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then touch $@; exit; fi; \
	found=; \
	for python in $(PYTHONS); do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		found=$$($$python -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
		$$python -c 'import ensurepip, venv' 2>/dev/null || continue; \
		echo "making $(VENV) with $$found"; \
		$$python -m venv --clear $(VENV) && touch $@; exit; \
	done; \
	if test -n "$$found"; then \
		echo "$$found lacks its venv module; on Debian and Ubuntu: apt-get install $$found-venv" >&2; \
	else \
		echo "no Python 3.11 or newer among: $(PYTHONS)" >&2; \
		echo "on Debian 12 or Ubuntu 24.04 and newer: apt-get install python3 python3-venv" >&2; \
	fi; exit 1

$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	@echo "installing imds-proxy and what the demo needs into $(VENV)"
	@$(BIN)/python $(PIP_INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.made
	@echo "installing imds-proxy and what development needs into $(VENV)"
	@$(BIN)/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

# Real clients that pin a botocore of their own, or need what nobody else here does, get a venv of their own.
# The tests would make these too, but skip where they can't; here a failure is loud.
.cache/awscli/.made: REQUIREMENTS = 'awscli<2'
.cache/afp-cli/.made: REQUIREMENTS = 'afp-cli==370.326'
.cache/boto2/.made: REQUIREMENTS = 'boto==2.49.0'
.cache/sdk/.made: REQUIREMENTS = $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", \
	"rb"))["project"]["optional-dependencies"]["sdk"])')
$(AXE): REQUIREMENTS = --no-deps axe-playwright-python==0.1.8
$(READERS): REQUIREMENTS = 'ec2-metadata==3.0.0'
$(AUDIT): REQUIREMENTS = 'pip-audit==2.10.1' 'cyclonedx-bom==7.5.0'
.cache/lock/.made: REQUIREMENTS = 'uv==0.13.9'
$(CLIENTS) $(AXE) $(READERS) $(AUDIT) .cache/lock/.made: pyproject.toml | $(VENV)/.made
	@echo "installing tools into $(@D)"
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python $(PIP_INSTALL) $(REQUIREMENTS)
	@touch $@
