# Everything here works from a fresh clone with Python 3.11 to 3.13, git and make. The environment is made once, in .venv,
# by infra/local/venv.py; PYTHON=... picks another interpreter.
SHELL := /bin/sh
# Where it is set, as in many images, every process and every worker of Ray would compile all of torch and Ray anew.
export PYTHONDONTWRITEBYTECODE :=
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p infra/local/venv.py --check-python >/dev/null 2>&1 && { echo $$p; break; }; done)
endif
OUT ?= demo-out
TESTS ?= tests
PYTEST_ARGS ?=
# Two processes, each with a cluster of Ray, take one file of tests after the other; one that dies ends the run.
PYTEST := -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
BENCH_ARGS ?=
FAULTS ?= 40
FILES ?= 2400
CUTS ?= 100
SEED ?= $(shell od -An -N2 -tu2 /dev/urandom | tr -d ' ')
VENV_SCRIPT := infra/local/venv.py
RUN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo pictures bench-read bench-models chapter gpu gpu-wheels quick test test-infra soak test-oldest programs programs-infra lint format constraints clean python venv venv-dev

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.13 on the PATH: install one, or say make PYTHON=/path/to/python3" >&2; exit 2; }

venv: python
	@$(PYTHON) $(VENV_SCRIPT) --extras demo

venv-dev: python
	@$(PYTHON) $(VENV_SCRIPT) --extras demo,dev

demo: venv ## photographs -> shards -> training -> colorizing -> Parquet -> report (OUT=demo-out)
	@$(RUN)/condgen demo --out "$(OUT)"

pictures: venv-dev ## the README's picture of the report, from what the demo left (OUT=demo-out)
	@$(RUN)/python infra/local/pictures.py --results "$(OUT)/showcase-results"

bench-read: venv-dev ## this reader against its peers, which live in .venv-peers (BENCH_ARGS="--images 20000")
	@$(PYTHON) $(VENV_SCRIPT) --requirements benchmarks/peers.txt --venv .venv-peers
	@$(RUN)/python benchmarks/read.py $(BENCH_ARGS)

bench-models: venv-dev ## time and memory of every family's training step and draws (BENCH_ARGS="--device cuda")
	@$(RUN)/python benchmarks/models.py $(BENCH_ARGS)

chapter: OUT = chapter-out
chapter: venv-dev ## the chapter's claims, checked by training (BENCH_ARGS=--quick)
	@$(RUN)/condgen chapter "$(OUT)" $(BENCH_ARGS)

# With the environment if it is made, or with any Python that has torch 2.11, lazy_loader and pytest (GPU_PYTHON=...).
# The batch engine needs more; benchmarks/gpu_batch.py says what is missing. Without a network, wheels come in .wheels.
GPU_PYTHON ?= $(if $(wildcard $(RUN)/python),$(RUN)/python,$(PYTHON))
gpu: export PYTHONPATH := $(CURDIR)/.wheels/site:$(PYTHONPATH)
gpu: python ## on a machine with a GPU: its tests, what training steps, draws and the batch engine cost there
	@set -- .wheels/*.whl; ! test -e "$$1" || $(GPU_PYTHON) -m pip install -q --no-index --no-deps --upgrade --target .wheels/site "$$@"
	@$(GPU_PYTHON) -c 'import sys, torch; torch.cuda.is_available() or sys.exit("error: torch sees no GPU here")'
	@$(GPU_PYTHON) -m pytest -c /dev/null --rootdir . --noconftest -p no:cacheprovider -q tests/gpu
	@$(GPU_PYTHON) benchmarks/models.py --device cuda
	@$(GPU_PYTHON) benchmarks/train.py --device cuda
	@$(GPU_PYTHON) benchmarks/gpu_batch.py --device cuda --processes 1,4 --on-gpu model,model+colors+noise,model+colors+noise+jpeg

WHEELS ?= simplejpeg
WHEELS_PYTHON ?= 3.12
gpu-wheels: python ## wheels for a machine with a GPU and no network, into .wheels (WHEELS="simplejpeg numba", WHEELS_PYTHON=3.12)
	@$(PYTHON) -m pip download -q --no-deps --only-binary :all: --implementation cp --python-version $(WHEELS_PYTHON) \
		$(foreach kind,2_28 2_27 2_17 2014 1,--platform manylinux$(if $(findstring _,$(kind)),_)$(kind)_x86_64) \
		-c constraints.txt -d .wheels $(WHEELS)
	@du -h .wheels/*.whl

quick: venv-dev ## the quick tests: none of Ray, S3 and what is slow (TESTS=tests/jobs for a part)
	@$(RUN)/python $(PYTEST) -m "not ray and not s3 and not slow" -q $(TESTS) $(PYTEST_ARGS)

# A test that its own time limit can't end, since it holds Python's lock, ends the process after 15 minutes and tells where.
test: venv-dev ## the whole test suite (TESTS=tests/jobs for a part)
	@$(PYTHON) infra/local/programs.py
	@$(RUN)/python $(PYTEST) -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true $(TESTS) $(PYTEST_ARGS)

test-infra: venv-dev ## what infra/ holds for clusters, checked as far as one machine can
	@$(PYTHON) $(VENV_SCRIPT) --requirements infra/airflow/requirements.txt --venv .venv-airflow
	@$(PYTHON) infra/local/programs.py
	@$(RUN)/python $(PYTEST) -m infra tests/infra $(PYTEST_ARGS)

soak: venv-dev ## the random tests at length, and what takes minutes: faults, cut trainings, machines, bad files, flipped bits (FAULTS=40 CUTS=100 FILES=2400 SEED=a number)
	@SOAK_FAULTS=$(FAULTS) SOAK_CUTS=$(CUTS) SOAK_FILES=$(FILES) SOAK_SEED=$(SEED) $(RUN)/python -m pytest -m "soak or long" -s $(PYTEST_ARGS)

test-oldest: python ## the suite on the oldest versions that pyproject.toml admits (needs Python 3.12)
	@$(PYTHON) $(VENV_SCRIPT) --extras demo,dev --oldest --venv .venv-oldest
	@.venv-oldest/bin/python $(PYTEST) $(TESTS) $(PYTEST_ARGS)

programs: python ## as root: install what only Debian's packages have and tests use (Ceph's gateway, Chromium)
	@$(PYTHON) infra/local/programs.py --system

programs-infra: python ## as root: that, and what test-infra needs besides (Slurm, buildah)
	@$(PYTHON) infra/local/programs.py --infra

lint: venv-dev ## ruff, mypy --strict, import-linter
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy
	@$(RUN)/lint-imports --no-cache

format: venv-dev ## let ruff mend what it can
	@$(RUN)/ruff check --fix-only --quiet .
	@$(RUN)/ruff format .

constraints: python ## resolve constraints.txt anew (newest versions of everything)
	@$(PYTHON) $(VENV_SCRIPT) --compile

clean: ## remove the environment and what the demo and the tools left
	@rm -rf .venv .venv-oldest .venv-airflow .uv .programs .wheels demo-out chapter-out screenshots dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis infra/local/.state
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
