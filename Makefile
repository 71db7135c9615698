# The words that people type. Each sets up what it needs; `make` alone lists them.
# ARGS goes to the program behind a word: make test ARGS="tests/unit -k mel"

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

ARGS :=
PYTHON :=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Containers like to set it. Without compiled files, each of Ray's workers compiles PyTorch and pandas anew: 9 s of CPU.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test drills check docs pictures bench dist sbom audit lock clean

help: ## list these words
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile

setup: $(READY) ## install into .venv what the other words need (they do it themselves)

demo: $(READY) ## the whole way on a small synthetic catalog: index, prepare, train, evaluate, label
	@$(BIN)/python -m pipelines.demo $(ARGS)

test: $(READY) ## the tests, object store included
	@$(BIN)/python -m pytest -n 2 $(ARGS)

drills: $(READY) ## kill a worker, a node, the driver, at three moments each, and other long proofs; prints what was done twice
	@$(BIN)/python -m pytest tests -m "drill or kill or draws" $(ARGS)

check: $(READY) ## style, types, import contracts, layout, pinned versions, licences, the files in infra/, the documentation
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m infra.house --quiet
	$(BIN)/python infra/lock.py --check
	$(BIN)/python -m infra.licences
	$(BIN)/python -m infra.check
	$(MAKE) docs VENV=$(VENV)

docs: $(READY) ## build the documentation site into build/docs; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)
	echo "$(CURDIR)/build/docs/index.html"

pictures: $(READY) ## take the pictures in docs/images anew; needs Chromium
	@$(BIN)/python -m tests.support.pictures docs/images

bench: $(READY) ## speed and memory: front end, label job, excerpts, planning a night; writes bench.json (half an hour)
	@$(BIN)/python -m tests.benchmarks.bench $(ARGS)

dist: $(READY) ## build the wheel and the source distribution of the last commit into dist/, the same bytes each time
	@$(BIN)/python -m infra.dist

sbom: $(READY) ## what an image redistributes, in build/: a CycloneDX list of packages, and the texts of their licences
	@$(BIN)/python -m infra.sbom

audit: $(READY) ## ask a database whether a package of the lock has a known weakness; needs the network
	@$(BIN)/python -m infra.audit $(ARGS)

lock: $(VENV)/pyvenv.cfg ## pin anew, for every Python and processor, after pyproject.toml asks for something else
	@$(BIN)/python -m pip install --quiet --only-binary :all: packaging uv
	$(BIN)/python infra/lock.py $(ARGS)

clean: ## remove what make wrote here: .venv (6 GB), the demo's files, caches
	@rm -rf .venv demo .object-store build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One that was left half made is not kept (.DELETE_ON_ERROR), and --clear starts it afresh.
$(VENV)/pyvenv.cfg:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do
		if "$$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then break; fi
		python=
	done
	if [ -z "$$python" ]; then
		echo '$(or $(PYTHON),The PATH) has no Python 3.11 to 3.14 with venv, which mgc needs: install one (Debian: python3-venv), or name it: make PYTHON=/path/to/python3.13' >&2
		exit 1
	fi
	"$$python" -m venv --clear $(VENV)

$(READY): requirements.lock pyproject.toml $(VENV)/pyvenv.cfg
	@if ! $(BIN)/python -c 'import sys, pip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
		echo '$(VENV) is no working Python 3.11 to 3.14: remove it (make clean), then try again.' >&2
		exit 1
	fi
	if [ -e $@ ]; then
		echo 'Bringing $(VENV) up to requirements.lock.'
	else
		echo "Setting up $(VENV), once: 6 GB, two to three minutes on a fast line."
	fi
	$(BIN)/python -m pip install --require-hashes --only-binary :all: --requirement requirements.lock \
		| sed -unE 's/^ +(Downloading|Using cached) (.*\([0-9.]{4,} MB\))/  \2/p; s/^Installing collected packages.*/  unpacking and compiling/p'
	$(BIN)/python -m pip install --quiet --quiet --no-deps --no-build-isolation --editable .
	touch $@
	# Better labels than the shipped bundle's, where the network has them. Nothing depends on it.
	$(BIN)/python -m pipelines.pull mn04 --or musicnn --try 3 >/dev/null || true
	echo "Set up in $$SECONDS s."
