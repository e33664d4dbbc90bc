# Two commands do everything: `make demo` and `make test`. Both set up the environment first.

PYTHON := .venv/bin/python
SETUP  := .venv/.up-to-date
NEWER  := .venv-newer/.up-to-date
# What touches torch, Composer or transformers; the rest of the trainer's tests would say the same twice.
NEWER_TESTS := $(addprefix tests/trainer/,models context optimization evaluation checkpoints finetuning loggers \
               test_run.py test_export.py test_evaluate.py test_agreement.py test_stopping.py) tests/mixer/test_dataset.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test newer check audit format soak bench docs wheel clean

help:            ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

setup: $(SETUP)  ## the locked environment in .venv (installs uv first if it is missing)

$(SETUP): pyproject.toml uv.lock
	@command -v uv >/dev/null || python3 -m pip install --quiet uv
	@if command -v uv >/dev/null; then uv sync --locked --all-extras --compile-bytecode; else python3 -m uv sync --locked --all-extras --compile-bytecode; fi
	@touch $@

$(NEWER): stacks/newer/pyproject.toml stacks/newer/uv.lock pyproject.toml $(SETUP)
	@uv=$$(command -v uv || echo "python3 -m uv"); UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-newer $$uv sync --project stacks/newer --locked --compile-bytecode
	@touch $@

demo: setup      ## convert, serve, train across a live switchpoint, kill, resume, report (into demo-out/)
	$(PYTHON) -m demo

test: check $(NEWER)  ## lint, types, imports, and all tests; the trainer's on the newer stack too
	$(PYTHON) -m pytest -n auto --maxprocesses 4 --dist loadfile
	@$(MAKE) newer

newer: $(NEWER)  ## the trainer's tests on torch 2.11 and transformers 5 (in .venv-newer, from a second lock)
	.venv-newer/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(NEWER_TESTS)

check: setup     ## ruff, mypy, import-linter
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

audit: setup     ## known vulnerabilities of the locked packages (says so when no source can be reached)
	$(PYTHON) .ci/audit.py

format: setup    ## let ruff mend and format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

soak: setup      ## the long campaigns: hundreds of kills, thousands of random schedules
	$(PYTHON) -m pytest -m soak -s

bench: setup     ## every claim about speed, measured side by side
	@for script in benchmarks/*/run.py; do echo "== $$script"; $(PYTHON) $$script || exit 1; done

docs: setup      ## the documentation as a site, into site/ (fails on a broken link)
	.venv/bin/mkdocs build --strict

wheel: setup     ## the distribution, into dist/
	uv build --wheel

clean:           ## remove everything that was made (but not the environment)
	rm -rf demo-out site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
