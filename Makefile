# make demo [ONCE=1]   everything on this machine: sets up, starts, runs a plan, shows its page (ONCE=1: ends with its status)
# make serve           web and workers (PORT=8000, BIND=127.0.0.1); data under VAR_DIR (default var/)
# make test            lint, then all tests        make lint / make format / make bench
# make chaos           10,000 executions under faults, then every promise checked (SEED, EXECUTIONS, MINUTES, HOSTS, PAUSE)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
MADE := $(VENV)/.made
RUNTIME := $(VENV)/.runtime-installed
INSTALL := $(PYTHON) -m pip install --quiet --disable-pip-version-check
DEVELOPMENT := $(VENV)/.development-installed
# Checks import the settings, but need no database: this one is never contacted.
UNCONNECTED := env -u SECRET_KEY_FILE -u DATABASE_URL_FILE DATABASE_URL=postgresql:///unconnected SECRET_KEY=only-for-checks-that-contact-nothing

.PHONY: help demo serve test lint format bench chaos

help:
	@sed -n '/^# make/s/^# //p' Makefile

$(MADE):
	@found=; for name in python3.11 python3.12 python3.13 python3; do \
		if "$$name" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$name"; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "OpsConductor needs Python 3.11 or newer with venv (on Debian: apt install python3-venv)." >&2; exit 1; fi; \
	"$$found" -m venv $(VENV); touch $(MADE)

# The stamps hold what was installed: pip runs again only when the list has changed, not when a checkout touched the file.
$(RUNTIME): requirements.txt | $(MADE)
	@cmp -s $< $@ || { echo "Installing what OpsConductor needs into $(VENV) ..."; $(INSTALL) -r requirements.txt; }
	@cp $< $@

LISTS := requirements.txt requirements-vault.txt requirements-aws.txt requirements-windows.txt requirements-ansible.txt requirements-dev.txt

$(DEVELOPMENT): $(LISTS) | $(MADE)
	@cat $(LISTS) | cmp -s - $@ || \
		{ echo "Installing what the tests need into $(VENV) ..."; $(INSTALL) -r requirements-dev.txt; }
	@cat $(LISTS) > $@
	@cp requirements.txt $(RUNTIME)

# What runs in the foreground ends when make does, even when make is killed; exec, so that no shell stands between.
FOREGROUND := exec $(PYTHON) -I -S opsconductor/launch.py --parent $$PPID --death-signal 15 \
	$(if $(filter Linux,$(shell uname -s)),,--monitor) --

demo: $(RUNTIME)
	@unset DATABASE_URL DATABASE_URL_FILE; $(FOREGROUND) $(abspath $(PYTHON)) manage.py demo $(if $(ONCE),--once)

serve: $(RUNTIME)
	@$(FOREGROUND) $(abspath $(PYTHON)) manage.py serve

# Compiled first: where PYTHONDONTWRITEBYTECODE is set, each of the thousand processes that tests start would do it anew.
test: lint
	@$(PYTHON) -m compileall -q opsconductor executions safety queueing monitoring tests
	@code=0; $(PYTHON) -m pytest -n 3 --dist loadfile --no-loadscope-reorder || code=$$?; \
	[ $$code -eq 1 ] || exit $$code; \
	echo "Once more, each by itself, what failed beside the others: what fails again has failed."; \
	$(PYTHON) -m pytest --last-failed --last-failed-no-failures none

lint: $(DEVELOPMENT)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(UNCONNECTED) $(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(UNCONNECTED) $(PYTHON) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run

format: $(DEVELOPMENT)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(RUNTIME)
	$(PYTHON) -m benchmarks $(ARGS)

chaos: $(DEVELOPMENT)
	$(PYTHON) -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(EXECUTIONS),--executions $(EXECUTIONS)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(HOSTS),--hosts $(HOSTS)) $(if $(PAUSE),--pause $(PAUSE)) $(ARGS)
