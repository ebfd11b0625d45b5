# make quick                a first look: set-up, the whole pipeline and report on few small images, in minutes
# make photos ROOT=folder   the same as report on your own photos, with settings/photos.yaml
# make study NAME=schemes   answers a question by experiment: a file of studies/, its runs, a page of its own
# make check ROOT=folder    reads a labelled set without training: what is in it, what is wrong, whether it is refused
# make report               everything: set-up, all stages that are out of date, the report
# make predict IMAGE=x.jpg  boxes, masks, classes and scores on one picture, or IMAGE=folder, or IMAGE="a.jpg b.jpg"
# make predict IMAGE=x.jpg DETECTOR=one_stage   the same with the one-stage detector, which finds boxes alone
# make export               the trained detector as torch.export and ONNX, with an example and a model card, in export/
# make experiments          all runs: the settings in which they differ, the headline numbers
# make compare A=HEAD B=run  two runs on one page: differences with intervals, objects fixed and broken, curves, settings
# make test                 lint, types, import contracts, all tests
# make faults               the tests of killed stages, with a dozen kills a stage
# make bench                speeds beside torchvision's, after `make report`; writes benchmarks/README.md
# make placed               after the project's folder was moved or renamed: .venv can be activated again
# make audit                known vulnerabilities in the pinned packages; asks PyPI
# make lock                 pins the packages anew; asks PyPI
# JOBS=2                    with quick, photos, report: stages that do not wait for each other at once, each on its part
#                           of the cores; with study: runs at once
# PYTHON=/path/to/python    chooses the interpreter (3.10 to 3.13) that .venv is made with

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

CANDIDATES := $(or $(PYTHON),python3.12 python3.11 python3.13 python3.10 python3)
IS_FIT := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))

.PHONY: help repository identity placed quick photos study check report predict export experiments compare test lint types unit \
	faults bench audit lock clean

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

# A zip of the project is none; said before minutes of installing.
repository:
	@git rev-parse --git-dir > /dev/null 2>&1 || \
	    { echo "make: DVC works in a Git repository, and this folder is none; first: git init" >&2; exit 2; }

# Said before the hours of a run; only `dvc exp run` cannot do without.
identity:
	@git -c user.useConfigOnly=true var GIT_COMMITTER_IDENT > /dev/null 2>&1 || \
	    echo "make: Git does not know your name, which commits and experiments need:" \
	    "git config user.name 'Your Name' && git config user.email you@example.com" >&2

# In a fresh clone of a project that shares its runs, what others have pushed is fetched, and nothing is trained anew.
define pull
	@if [ -f dvc.lock ] && ! [ -e report/index.html ] && dvc config core.remote > /dev/null 2>&1; then \
	    dvc pull --allow-missing || echo "make: not all could be fetched; what is missing is made here" >&2; \
	fi
endef

report: repository identity .venv/ready
	$(pull)
	@mkdir -p .cache && touch .cache/report-started
	@$(if $(JOBS),python -m tools.parallel $(JOBS),python -m dvc repro)
	@if [ -n "$(JOBS)" ] || ! [ report/index.html -nt .cache/report-started ]; then python -m tools.headline; fi
	@git cat-file -e HEAD:dvc.lock 2> /dev/null || echo "  Keep this run as what later ones are compared with:" \
	    "git add dvc.lock metrics && git commit -m 'First run'"

# Runs with a file of settings/. params.yaml stays as it is, so that `make report` makes the full run.
define run_settings
	@mkdir -p .cache && touch .cache/report-started
	@python -m tools.settings run $(1) $(if $(JOBS),--jobs $(JOBS)) $(SET)
	@if [ -n "$(JOBS)" ] || ! [ report/index.html -nt .cache/report-started ]; then python -m tools.headline; fi
endef

# SET="key=value ..." adds single settings.
quick: repository identity .venv/ready
	$(call run_settings,quick)

photos: repository identity .venv/ready
	@[ -n "$(ROOT)" ] || { echo "make photos: say where they are: make photos ROOT=/data/photos" >&2; exit 2; }
	$(call run_settings,photos "data.root='$(ROOT)'")

study: repository .venv/ready
	@[ -n "$(NAME)" ] || { echo "make study: say which: make study NAME=$(notdir $(basename $(firstword $(wildcard studies/*.yaml))))" >&2; exit 2; }
	@python -m tools.study "$(NAME)" $(if $(JOBS),--jobs $(JOBS)) $(if $(SETTINGS),--settings $(SETTINGS))

check: .venv/ready
	@[ -n "$(ROOT)" ] || { echo "make check: say where the set is: make check ROOT=/data/photos" >&2; exit 2; }
	@python -m tools.check_data "$(ROOT)" $(SET)

# The name as it was typed, through the environment: neither make nor a shell reads $, # or quotes in it.
unexport IMAGE DETECTOR
predict: export PICTURES := $(value IMAGE)
predict: export WITH := $(value DETECTOR)
predict: .venv/ready
	@[ -n "$$PICTURES" ] || { echo "make predict: say which picture: make predict IMAGE=my.jpg" >&2; exit 2; }
	@python -m stages.predict $${WITH:+"--detector=$$WITH"} "$$PICTURES"

export: .venv/ready
	@python -m tools.export

experiments: repository .venv/ready
	@python -m tools.experiments

# Each of A and B is `workspace`, a Git revision, or the name of an experiment.
A := HEAD
B := workspace
compare: repository .venv/ready
	@python -m tools.compare "$(A)" "$(B)"

test: lint types unit

lint: .venv/ready-to-test
	@python -m ruff check .
	@python -m ruff format --check .
	@python .venv/bin/lint-imports

# The last numpy for Python 3.10 asks for type arguments that later ones default; types do not depend on the version.
types: .venv/ready-to-test
	@if python -c "import sys; sys.exit(sys.version_info < (3, 11))"; then python -m mypy; else echo "mypy: on Python 3.11 and up"; fi

# Whole runs and tests of several processes take as long as all others: they run beside them and report after them.
RUNS := tests/pipeline tests/processes

unit: .venv/ready-to-test
	@mkdir -p .cache
	@python -m pytest --durations 25 $(RUNS) > .cache/runs.txt 2>&1 & runs=$$!; \
	python -m pytest --durations 25 $(RUNS:%=--ignore %); others=$$?; \
	echo "Waiting for the tests of whole runs"; \
	wait $$runs; runs=$$?; cat .cache/runs.txt; exit $$(( others || runs ))

faults: .venv/ready-to-test
	@python -m pytest tests/pipeline/test_faults.py --kills 12 -v

bench: .venv/ready-to-test
	@python -m dvc repro
	@python -m benchmarks

# --strict: a package that PyPI does not answer for is a failure, not a pass.
audit: placed
	@python -m pip install --quiet pip-audit
	@python -m pip_audit --strict --disable-pip --require-hashes -r requirements.txt -r requirements-test.txt
	@python -m pip_audit --strict --disable-pip --no-deps -r requirements-torch.txt

# Resolves pyproject.toml's ranges around requirements.in, then writes each file of the pinned set with the hashes of all
# its wheels. torch and torchvision stand apart, without: their builds for GPUs and for processors alone bear the same
# version. The libraries of torch's GPU build are left to torch, which pins them itself.
GPU_LIBRARIES := triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
	nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand \
	nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink \
	nvidia-nvshmem-cu13 nvidia-nvtx
COMPILE := python -m uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-emit-index-url \
	--custom-compile-command "make lock"
RESOLVE := $(COMPILE) $(GPU_LIBRARIES:%=--no-emit-package %)
WITH_HASHES := $(COMPILE) --no-deps --generate-hashes --no-emit-package torch --no-emit-package torchvision
LOCKED := .cache/lock

lock: placed
	@python -m pip install --quiet uv
	@mkdir -p $(LOCKED)
	@$(RESOLVE) --constraint requirements.in pyproject.toml --output-file $(LOCKED)/run.txt
	@$(RESOLVE) --constraint $(LOCKED)/run.txt --group test --output-file $(LOCKED)/test.txt
	@$(WITH_HASHES) $(LOCKED)/run.txt --output-file requirements.txt
	@$(WITH_HASHES) $(LOCKED)/test.txt --output-file requirements-test.txt
	@grep -E '^torch(vision)?==' $(LOCKED)/run.txt > requirements-torch.txt

clean:
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Stamps stand for finished steps: an interrupted one is done again.
.venv/made:
	@$(MAKE) --no-print-directory repository
	@for python in $(CANDIDATES); do \
	    if "$$python" -c "$(IS_FIT)" 2>/dev/null; then \
	        echo "Making .venv with $$("$$python" --version)"; "$$python" -m venv --clear .venv && pwd > $@; exit; \
	    fi; \
	done; \
	echo "make: no Python 3.10 to 3.13 with venv among: $(CANDIDATES); install one, or name it: make PYTHON=..." >&2; \
	exit 1

# After the folder was moved or renamed: what activates .venv has its path in it, and is written anew. All else is run as
# `python -m`, for the same reason.
placed: .venv/made
	@[ "$$(cat .venv/made)" = "$$PWD" ] || { python -m venv --without-pip .venv && pwd > .venv/made; }

# The pinned set is whole, so nothing is resolved; torch then finds all it needs but the libraries of its GPU build.
.venv/ready: requirements.txt requirements-torch.txt tools/dvc.sh | placed
	@echo "Installing the pinned requirements (once)"
	@python -m pip install --quiet --no-deps --require-hashes --requirement requirements.txt
	@python -m pip install --quiet --requirement requirements-torch.txt
	@cp tools/dvc.sh .venv/bin/dvc && chmod +x .venv/bin/dvc
	@python -m tools.plots_page
	@touch $@

.venv/ready-to-test: requirements-test.txt .venv/ready
	@echo "Installing what the tests need (once)"
	@python -m pip install --quiet --no-deps --require-hashes --requirement requirements-test.txt
	@touch $@
