# make report               everything: set-up, all stages that are out of date, the report
# make predict IMAGE=x.jpg  boxes, masks, classes and scores on one picture
# make test                 lint, types, import contracts, all tests
# make bench                speeds beside torchvision's, after `make report`; writes benchmarks/README.md
# PYTHON=/path/to/python    chooses the interpreter (3.10 to 3.13) that .venv is made with

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

CANDIDATES := $(or $(PYTHON),python3.12 python3.11 python3.13 python3.10 python3)
IS_FIT := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))

.PHONY: help report predict test lint types unit bench deps lock clean

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

report: .venv/ready
	@mkdir -p .cache && touch .cache/report-started
	@dvc repro
	@if ! [ report/index.html -nt .cache/report-started ]; then python -m tools.headline; fi

predict: .venv/ready
	@[ -n "$(IMAGE)" ] || { echo "make predict: say which picture: make predict IMAGE=my.jpg" >&2; exit 2; }
	@python -m stages.predict "$(IMAGE)"

test: lint types unit

lint: .venv/ready-to-test
	@ruff check .
	@ruff format --check .
	@lint-imports
	@python -m tools.code_deps

# The last numpy for Python 3.10 asks for type arguments that later ones default; types do not depend on the version.
types: .venv/ready-to-test
	@if python -c "import sys; sys.exit(sys.version_info < (3, 11))"; then mypy; else echo "mypy: on Python 3.11 and up"; fi

unit: .venv/ready-to-test
	@python -m pytest

bench: .venv/ready-to-test
	@dvc repro
	@python -m benchmarks

deps: .venv/ready
	@python -m tools.code_deps --write

# Resolves pyproject.toml's ranges around requirements.in. The libraries of torch's GPU build are left to torch, which
# pins them itself: its build for processors alone needs none.
GPU_LIBRARIES := triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
	nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand \
	nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink \
	nvidia-nvshmem-cu13 nvidia-nvtx
LOCK_OPTIONS := --quiet --universal --python-version 3.10 --no-annotate --no-emit-index-url \
	--custom-compile-command "make lock" $(GPU_LIBRARIES:%=--no-emit-package %)

lock: .venv/made
	@python -m pip install --quiet uv
	@python -m uv pip compile $(LOCK_OPTIONS) --constraint requirements.in pyproject.toml --output-file requirements.txt
	@python -m uv pip compile $(LOCK_OPTIONS) --constraint requirements.txt --group test --output-file requirements-test.txt

clean:
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Stamps stand for finished steps: an interrupted one is done again.
.venv/made:
	@for python in $(CANDIDATES); do \
	    if "$$python" -c "$(IS_FIT)" 2>/dev/null; then \
	        echo "Making .venv with $$("$$python" --version)"; "$$python" -m venv --clear .venv && touch $@; exit; \
	    fi; \
	done; \
	echo "make: no Python 3.10 to 3.13 with venv among: $(CANDIDATES); install one, or name it: make PYTHON=..." >&2; \
	exit 1

.venv/ready: requirements.txt | .venv/made
	@echo "Installing the pinned requirements (once)"
	@python -m pip install --quiet --requirement requirements.txt
	@python -m tools.plots_page
	@touch $@

.venv/ready-to-test: requirements-test.txt .venv/ready
	@echo "Installing what the tests need (once)"
	@python -m pip install --quiet --requirement requirements-test.txt
	@touch $@
