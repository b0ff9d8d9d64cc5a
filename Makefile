# Needs python3 (3.10 or newer, with venv), make and git. All it makes is in .venv and .cache.
#
#   make demo ARGS=--check          make test ARGS='tests/ssh -x'          make serve ARGS='--port 23400'

PYTHON ?= python3
ARGS ?=
# Tests at a time, files of them: they wait more than they compute. 0 is one after the other.
JOBS ?= 4

FAULT_TRIES ?= 10
FAULT_VIEWERS ?= 20
SOAK_MINUTES ?= 30

VENV := .venv
CACHE := .cache
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# What remote hosts of our users have; the tests start its viewers.
RUNICORN_VERSIONS := 0.7.2 0.6.0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SECONDARY:
.PHONY: help demo serve test test-paramiko5 faults soak lint clean $(RUNICORN_VERSIONS:%=runicorn-%)

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1~\2/p' Makefile | while IFS='~' read -r target text; do \
		printf '%-24s %s\n' "  $$target" "$$text"; done

demo: $(VENV)/demo.stamp ## an SSH host, the server and a viewer on this machine; ARGS=--check ends by itself
	$(VENV)/bin/python -m runicorn_remote demo $(ARGS)

serve: $(VENV)/demo.stamp ## the server, at http://127.0.0.1:23300
	$(VENV)/bin/python -m runicorn_remote serve $(ARGS)

test: $(VENV)/test.stamp $(RUNICORN_VERSIONS:%=$(CACHE)/runicorn-%/stamp) ## the tests
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-paramiko5: $(CACHE)/paramiko-5/stamp ## the tests of the SSH layer with paramiko 5
	$(CACHE)/paramiko-5/bin/python -m pytest -n $(JOBS) --dist loadfile tests/ssh $(ARGS)

faults: $(VENV)/test.stamp ## break everything, FAULT_TRIES times with FAULT_VIEWERS viewers: docs/reliability.md
	$(VENV)/bin/python -m tests.faults.run --tries $(FAULT_TRIES) --viewers $(FAULT_VIEWERS) \
		--markdown docs/reliability.md $(ARGS)

soak: $(VENV)/test.stamp ## traffic and faults for SOAK_MINUTES: memory, threads, descriptors stay flat
	$(VENV)/bin/python -m tests.faults.soak --minutes $(SOAK_MINUTES) --markdown docs/reliability.md $(ARGS)

bench: $(VENV)/test.stamp $(CACHE)/runicorn-0.7.2/stamp ## the measurements, in ten minutes; ARGS=--quick in three
	$(VENV)/bin/python -m benchmarks.run $(ARGS)

lint: $(VENV)/lint.stamp ## style, types, layers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

clean: ## remove everything made here
	rm -rf $(VENV) $(CACHE) benchmarks/results build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments: each stamp is as new as the setup.cfg that was installed

$(VENV)/demo.stamp: setup.cfg | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP_INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/test.stamp: setup.cfg | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP_INSTALL) -e '.[test]'
	@touch $@

# With the demo's packages, as their types are checked too.
$(VENV)/lint.stamp: setup.cfg | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP_INSTALL) -e '.[lint,demo]'
	@touch $@

$(RUNICORN_VERSIONS:%=runicorn-%): runicorn-%: $(CACHE)/runicorn-%/stamp

$(CACHE)/runicorn-%/stamp: | $(CACHE)/runicorn-%/bin/python
	$(CACHE)/runicorn-$*/bin/python $(PIP_INSTALL) runicorn==$*
	@touch $@

# Without runicorn, which still asks for an older paramiko.
$(CACHE)/paramiko-5/stamp: setup.cfg | $(CACHE)/paramiko-5/bin/python
	$(CACHE)/paramiko-5/bin/python $(PIP_INSTALL) -e '.[test-base]' 'paramiko>=5,<6'
	@touch $@

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$(PYTHON) is missing or older than 3.10; name another: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $*
