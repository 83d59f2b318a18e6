# The same commands at the desk and in CI. Needs make and python3-venv (Debian: apt install make python3-venv).
# Variables: HOST and PORT (demo, run), CONFIG (run), ARGS (test, bench, lock), WORKERS (test), EXTRAS (install),
# PYTHON (any from 3.11 on).

PYTHON ?= python3
VENV := .venv
NODE := tests/clients/node_modules
WORKERS ?= 4
BIN := $(VENV)/bin
LISTEN = $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT))
.DEFAULT_GOAL := help
# Every worker, and every server that a test starts, reads what was compiled once; without it half of the time goes there.
unexport PYTHONDONTWRITEBYTECODE

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.demo ## serve a simulated Gemini on 127.0.0.1:8080; needs no key (PORT=… HOST=…)
	@exec $(BIN)/gemproxy serve --demo $(LISTEN)

run: $(VENV)/.run ## serve with the keys of the environment, or of CONFIG=file
	@exec $(BIN)/gemproxy serve $(if $(CONFIG),--config $(CONFIG)) $(LISTEN)

install: ## install as a service, or upgrade the one that runs (sudo; EXTRAS=metrics,speed)
	@PYTHON='$(PYTHON)' EXTRAS='$(EXTRAS)' deploy/install.sh install

back: ## go back to the build before (sudo)
	@deploy/install.sh back

uninstall: ## remove the service; settings and state stay (sudo)
	@deploy/install.sh uninstall

test: $(VENV)/.test ## run every test (ARGS="-k quota -x"; WORKERS=0: in one process, for --pdb)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

test-system: $(VENV)/.test ## the tests that need other programs: proxies, systemd, a bare Debian
	$(BIN)/python -m pytest tests/system $(ARGS)

test-node: $(VENV)/.test $(NODE)/.installed ## real clients on Node, Codex and Claude Code (needs Node 20 or later, and npm)
	$(BIN)/python -m pytest -n $(WORKERS) tests/clients/node $(ARGS)

test-newest: ## every test with the newest packages that pyproject.toml allows, in an environment of its own
test-lowest: ## every test with the lowest ones
test-newest test-lowest:
	@PYTHON='$(PYTHON)' .ci/ranges $(@:test-%=%) $(ARGS)

check: $(VENV)/.dev ## lint, format and types: what CI refuses
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## put the code into its form
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lock: ## pin anew what pyproject.toml asks for, with as few changes as may be (ARGS=--upgrade: everything)
	@tool=$$(mktemp -d) && trap 'rm -rf "$$tool"' EXIT && $(PYTHON) -m venv "$$tool" \
	  && "$$tool/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt \
	  && "$$tool/bin/python" requirements/lock.py $(ARGS)

bench: $(VENV)/.test ## measure: the pure core, the whole proxy, what neighbours feel (ARGS=--quick: two minutes)
	@for each in bench/bench_*.py bench/neighbours.py; do \
	  echo "== $$each"; $(BIN)/python $$each $(ARGS) || exit 1; done

neighbours: $(VENV)/.test ## what one client or the upstream can do to all others (ARGS="--all-at-once --beside 10")
	@$(BIN)/python bench/neighbours.py $(ARGS)

outages: $(VENV)/.test ## what outages look like to operators and clients, as a table (ARGS="clock state")
	@$(BIN)/python bench/outages.py $(ARGS)

bench-guard: $(VENV)/.test # for CI: fail if the pure core got slower than bench/core_speed.toml says
	@$(BIN)/python bench/bench_core.py --guard

bench-record: $(VENV)/.test # write bench/core_speed.toml anew for this Python
	@$(BIN)/python bench/bench_core.py --record

soak: $(VENV)/.test ## hold 200 clients with faults on both sides for SECONDS=1800
	@$(BIN)/python -m bench.soak $(or $(SECONDS),1800)

dev: $(VENV)/.dev ## make .venv with all tools, and check before each commit
	@if [ -d .git/hooks ] && [ ! -e .git/hooks/pre-commit ]; then \
	  printf '#!/bin/sh\nexec make --silent check\n' > .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit; fi

clean: ## remove .venv and all that was made
	rm -rf $(VENV) $(NODE) build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov

# One stamp for each set of packages; a change of pyproject.toml or of what is pinned makes them stale.
$(VENV)/.run: extras = metrics
$(VENV)/.demo: extras = demo
$(VENV)/.test: extras = test
$(VENV)/.dev: extras = dev
$(VENV)/.run $(VENV)/.demo $(VENV)/.test $(VENV)/.dev: pyproject.toml $(wildcard requirements/*) | $(BIN)/pip
	@echo "Installing gemproxy[$(extras)] into $(VENV) …"
	@requirements/install.sh $(VENV) $(extras) --editable && touch $@

$(NODE)/.installed: tests/clients/package.json tests/clients/package-lock.json
	@command -v npm >/dev/null || { echo "test-node needs Node 20 or later, with npm"; exit 1; }
	@cd tests/clients && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "gemproxy needs Python 3.11 or later; name one with PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "On Debian: apt install python3-venv"; exit 1; }

.PHONY: help demo run install back uninstall test test-system test-node test-newest test-lowest check format lock bench neighbours outages bench-guard bench-record soak dev clean
