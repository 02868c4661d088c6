# Every target sets up what it needs: a machine with Python 3.11 or newer and make is enough.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DB ?= sqlite
QUEUES := critical default mailers background low

# Development defaults for the targets that start the product; the process environment wins.
DEV := DEBUG=$${DEBUG:-1}

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# --- set-up: made once, made again only when a lock file changes -----------------------------

# The lock names every package, so nothing is left to resolve; resolving anew would fail over an extra (`coverage[toml]`)
# as soon as its package has a newer release than the lock's.
FROM_LOCK := --disable-pip-version-check --require-hashes --no-deps --progress-bar off
# Of pip's many lines, one for each long step.
STEPS := awk '/^Collecting / {n++} /^Installing collected/ {printf "  %d packages collected, unpacking ...\n", n; fflush()}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Jiki needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	       "Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed: requirements.txt | $(BIN)/python
	@echo "Installing the product's requirements into $(VENV) ..."
	@$(BIN)/python -m pip install $(FROM_LOCK) -r requirements.txt | $(STEPS)
	@touch $@

# What restarts the worker when code changes; of the development tools `make run` needs this one alone.
$(VENV)/.installed-run: requirements-dev.txt $(VENV)/.installed
	@echo "Installing the reloader into $(VENV) ..."
	@awk '/^[a-z]/ {on = /^watchfiles==/} on' requirements-dev.txt > $(VENV)/reloader.txt
	@$(BIN)/python -m pip install $(FROM_LOCK) -r $(VENV)/reloader.txt | $(STEPS)
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing the development tools into $(VENV) ..."
	@$(BIN)/python -m pip install $(FROM_LOCK) -r requirements-dev.txt | $(STEPS)
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed-dev ## Make .venv and install everything, without running anything

# --- use it ----------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.installed ## Sign a learner up and watch a worker send the welcome mail
	@$(DEV) $(BIN)/python manage.py demo $(ARGS)

.PHONY: run
run: $(VENV)/.installed-run ## Web server on :8000, one worker and a Valkey; Ctrl-C stops all
	@$(DEV) $(BIN)/python manage.py dev $(ARGS)

# --- check it --------------------------------------------------------------------------------

APT_GET := apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20

.PHONY: chromium
# Never fails: without a Chromium the browser tests are skipped, and say so.
chromium: ## Install the browser of the browser tests, if there is none and we may
	@for name in chromium chromium-browser google-chrome; do command -v $$name > /dev/null && exit 0; done; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	    echo "Installing Chromium for the browser tests ..."; \
	    $(APT_GET) update && DEBIAN_FRONTEND=noninteractive $(APT_GET) install --no-install-recommends chromium fonts-dejavu-core > /dev/null || true; \
	  fi; \
	  command -v chromium > /dev/null || \
	    echo "No Chromium: the browser tests are skipped. To have them run: sudo apt-get install chromium"

.PHONY: mariadb
mariadb: ## Install the server of `make test DB=mariadb`, if it is missing; needs root
	@PATH=$$PATH:/usr/sbin command -v mariadbd > /dev/null || { \
	  echo "Installing MariaDB for DB=mariadb ..."; \
	  $(APT_GET) update && DEBIAN_FRONTEND=noninteractive $(APT_GET) install --no-install-recommends mariadb-server-core > /dev/null || \
	  { echo "DB=mariadb needs a MariaDB: sudo apt-get install mariadb-server-core" >&2; exit 1; }; }

.PHONY: screenshots
screenshots: $(VENV)/.installed-dev chromium ## Take the pictures of the dashboard in docs/images anew
	$(BIN)/python -m pytest -q -rP tests/browser/screenshots.py

.PHONY: test
test: $(VENV)/.installed-dev chromium $(if $(filter mariadb,$(DB)),mariadb) ## The whole test suite (DB=postgres, DB=mariadb: on those; ARGS=... to pytest)
	DB=$(DB) $(BIN)/python -m pytest $(ARGS)

.PHONY: test-matrix
# The lock gives Django 5.2 to Python 3.11 and Django 6.1 to 3.12 and newer.
NEWER_PYTHON ?= $(firstword $(foreach v,14 13 12,$(shell python3.$(v) -c 'import sys; print(sys.executable)' 2>/dev/null)) \
  $(lastword $(sort $(wildcard $(HOME)/.pyenv/versions/3.1[2-9].*/bin/python3))))
test-matrix: ## The suite on SQLite, PostgreSQL and MariaDB, and on a newer Python with Django 6.1 if there is one
	$(MAKE) test DB=sqlite
	$(MAKE) test DB=postgres
	$(MAKE) test DB=mariadb
	$(if $(NEWER_PYTHON),$(MAKE) test VENV=.venv-newer PYTHON=$(NEWER_PYTHON),@echo "No Python 3.12 or newer on this machine: Django 6.1 was not tested.")

.PHONY: lint
lint: $(VENV)/.installed-dev ## Style, types, layers, deployment checks, missing migrations, known holes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	DEBUG=1 $(BIN)/mypy
	$(BIN)/lint-imports
	SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(50))') \
	  REDIS_URL=redis://localhost:6379/0 SITE_URL=https://jiki.example \
	  $(BIN)/python -W error manage.py check --deploy --fail-level WARNING
	DEBUG=1 $(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python .ci/audit.py

.PHONY: audit
audit: $(VENV)/.installed-dev ## Known holes in what the locks name, where that can be asked
	$(BIN)/python .ci/audit.py

.PHONY: fix
fix: $(VENV)/.installed-dev ## Format, and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

PRODUCT := $(foreach extra,dashboard cli profile server,--extra $(extra)) --group product
.PHONY: lock
# `make lock UPGRADE=--upgrade` takes the newest versions that pyproject.toml allows.
lock: $(VENV)/.installed-dev ## Write requirements*.txt from pyproject.toml
	$(BIN)/uv pip compile -q pyproject.toml $(UPGRADE) $(PRODUCT) --universal --generate-hashes --python-version 3.11 \
	  --no-emit-index-url --custom-compile-command "make lock" -o requirements.txt
	$(BIN)/uv pip compile -q pyproject.toml $(UPGRADE) $(PRODUCT) --group dev --group docs -c requirements.txt --universal --generate-hashes \
	  --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" -o requirements-dev.txt

# --- read it ----------------------------------------------------------------------------------

.PHONY: docs
docs: $(VENV)/.installed-dev ## The pages as a site with a search, in var/site; a broken link fails
	$(BIN)/sphinx-build -q -W --keep-going -n -c docs -d var/doctrees . var/site
	@echo "file://$(CURDIR)/var/site/index.html"

# --- break it ---------------------------------------------------------------------------------

.PHONY: chaos
chaos: $(VENV)/.installed-dev ## Break things at random under load, then check the books (SECONDS=300, SEED=)
	DB=postgres CHAOS_SECONDS=$(or $(SECONDS),300) SEED=$(SEED) $(BIN)/python -m pytest tests/chaos -q -p no:randomly

# --- measure it ------------------------------------------------------------------------------

# Of the same interpreter as ours: one peer needs Python 3.12.
PEERS := $(VENV)-peers

$(PEERS)/.installed: benchmarks/requirements.txt | $(BIN)/python
	@echo "Installing the peers into $(PEERS) ..."
	@test -x $(PEERS)/bin/python || $(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install $(FROM_LOCK) -r benchmarks/requirements.txt | $(STEPS)
	@touch $@

.PHONY: bench
# What Sidekiq needs besides SIDEKIQ=<its checkout>, or RUBY=<a Ruby with Sidekiq 8>: docs/benchmarks.md.
bench: $(VENV)/.installed-dev $(PEERS)/.installed ## Us and the peers side by side (QUICK=1, SIDEKIQ=path, RUBY=path, ARGS=...)
	$(BIN)/python -m benchmarks --peers $(PEERS) $(if $(QUICK),--quick) $(if $(SIDEKIQ),--sidekiq $(SIDEKIQ)) $(if $(RUBY),--ruby $(RUBY)) $(ARGS)

.PHONY: bench-pages
bench-pages: $(VENV)/.installed-dev ## How long the dashboard's pages take over a million jobs (QUICK=1, ARGS=...)
	$(BIN)/python -m benchmarks.pages $(if $(QUICK),--quick) $(ARGS)

.PHONY: bench-lock
bench-lock: $(VENV)/.installed-dev ## Write benchmarks/requirements.txt: the peers at their newest releases
	$(BIN)/uv pip compile -q benchmarks/requirements.in --upgrade --universal --generate-hashes --python-version 3.11 \
	  --no-emit-index-url --custom-compile-command "make bench-lock" -o benchmarks/requirements.txt
