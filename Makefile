# Every command of the project, one target each: `make` lists them. They run from .venv, which is filled from the
# hash-locked requirements the first time, and again only when these or pyproject.toml change.

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

# The first of these that is a Python 3.11-3.13 makes the environment: `make setup PYTHON=/path/to/python3.12` to choose.
PYTHON ?= python3.13 python3.12 python3.11 python3
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

PIP := $(PY) -m pip --disable-pip-version-check install --quiet --quiet --progress-bar off --no-deps
# Two requirements come as source: they are built with the pinned tools of requirements/build.txt, not with the newest.
LOCKED := $(PIP) --require-hashes --use-pep517 --no-build-isolation

# Threads of torch in every test process would fight for the same cores.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest
MINUTES ?= 10
WORKERS ?= -n auto --maxprocesses 8 --dist worksteal

UV := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
      --no-emit-index-url --no-annotate --custom-compile-command "make lock" $(LOCK)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo bench soak fingerprint test test-fast test-all check fmt fmt-check lint types imports configs docs wheel lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## Make .venv and install everything that is locked into it, once
	@echo "$(VENV) is ready"

demo: $(READY) ## Learn the default scenario, small enough for a CPU (ARGS="..." are Hydra overrides)
	$(PY) -m cl_lightning $(ARGS)

test: $(READY) ## Run the tests, within 8 minutes on 2 cores (ARGS="..." are pytest's)
	$(PYTEST) $(WORKERS) -m "not long" $(ARGS)

test-fast: $(READY) ## Run the quick tests, within 2 minutes
	$(PYTEST) $(WORKERS) -m "not slow and not long" $(ARGS)

test-all: $(READY) ## Run every test, the long ones too
	$(PYTEST) $(WORKERS) $(ARGS)

bench: $(READY) ## Measure speed, as ratios in one run, within 10 minutes on 2 cores (ARGS="--gpu", "--only herding loop" ...)
	$(PY) -m scripts.bench $(ARGS)

soak: $(READY) ## Attack the program for MINUTES=10: kills, damaged files, odd command lines (ARGS="--seed 7 --only kills,bundles")
	$(PY) -m scripts.soak --minutes $(MINUTES) $(ARGS)

fingerprint: $(READY) ## Run every method briefly and write its numbers (OUT=FILE); AGAINST=COMMIT or COMPARE=FILE: name what differs
	$(PY) -m scripts.fingerprint $(if $(OUT),--out "$(OUT)") $(if $(AGAINST),--against "$(AGAINST)") $(if $(COMPARE),--compare "$(COMPARE)") $(ARGS)

check: fmt-check lint types imports configs ## Check format, lint, types, directions of imports, configurations

fmt: $(READY) ## Format the code, and fix what lint can fix
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

fmt-check: $(READY) ## Check the format
	$(PY) -m ruff format --check .

lint: $(READY) ## Check the code with ruff, the asserts, how docstrings begin and which names tests use
	$(PY) -m ruff check .
	$(PY) scripts/check_asserts.py
	$(PY) scripts/check_docstrings.py
	$(PY) scripts/check_tests.py

types: $(READY) ## Check the types with mypy
	$(PY) -m mypy

imports: $(READY) ## Check which module imports which
	$(VENV)/bin/lint-imports --no-logo
	$(PY) scripts/check_imports.py
	$(PY) scripts/import_map.py --check

configs: $(READY) ## Compose and check every configuration
	$(PYTEST) --quiet tests/test_configs.py

docs: $(READY) ## Build the documentation, strictly and without a network: build/docs/index.html
	$(PY) -m sphinx --fail-on-warning --nitpicky --keep-going --fresh-env --quiet --doctree-dir build/doctrees docs build/docs
	@echo "open build/docs/index.html"

wheel: $(READY) ## Build dist/, and run the wheel's command away from the checkout
	rm -rf dist
	$(PY) -m hatchling build
	@set -eu; place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; new="$$place/venv/bin/python"; \
	site() { "$$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }; \
	$(PY) -m venv --without-pip "$$place/venv"; \
	site $(PY) > "$$(site "$$new")/dependencies.pth"; \
	$(PY) -m pip --python "$$new" --disable-pip-version-check install --quiet --quiet --no-deps dist/*.whl; \
	cd "$$place"; venv/bin/cl_lightning --cfg job > composed.yaml; venv/bin/cl-lightning --cfg job | cmp - composed.yaml; \
	echo "the wheel composes its configuration: $$(wc -l < composed.yaml) lines"

lock: ## Resolve requirements/*.txt anew, keeping pins that fit (LOCK=--upgrade for the newest)
	@test -x $(VENV)/bin/uv || { echo "no uv in $(VENV): type make setup first" >&2; exit 1; }
	$(UV) pyproject.toml --extra dev --output-file requirements/dev.txt
	$(UV) pyproject.toml --constraint requirements/dev.txt --output-file requirements/run.txt
	$(UV) --group build --constraint requirements/dev.txt --output-file requirements/build.txt

clean: ## Remove what tools leave behind (not .venv, not runs)
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find cl_lightning scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@for python in $(PYTHON); do \
	  if "$$python" -c '$(SUITABLE)' 2>/dev/null; then exec "$$python" -m venv --clear $(VENV); fi; \
	done; \
	echo "no Python 3.11, 3.12 or 3.13 with venv among '$(PYTHON)': type make setup PYTHON=/path/to/python3.11" >&2; exit 1

$(READY): pyproject.toml requirements/build.txt requirements/dev.txt | $(PY)
	@echo "Filling $(VENV) from requirements/: some 6.4 GB, PyTorch with its CUDA libraries among them; this takes minutes."
	@$(LOCKED) -r requirements/build.txt
	@$(LOCKED) -r requirements/dev.txt
	@$(PIP) --no-build-isolation --editable .
	@touch $@
