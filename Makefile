# make demo: the whole thing on the project's own scene.   make test: the whole test suite.
# Both install what they need into .venv first (make setup), and as root with apt-get what the system has not: a compiler,
# venv, Python's headers. PYTHON chooses the interpreter, 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS := $(shell getconf _NPROCESSORS_ONLN)
STAMP := $(VENV)/.neurfield-installed
NATIVE := setup.py pyproject.toml $(shell find csrc -type f)
# Two halves side by side: most tests keep little more than one core busy. A module stays whole, with what it has trained.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadscope

.PHONY: setup browser demo test test-isa check test-native wheel test-packaging test-oldest test-cuda-build test-cuda-host test-arm64 benchmark clean

setup: $(STAMP)

$(VENV)/.neurfield-requirements: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "neurfield needs Python 3.11 or newer; $(PYTHON) is older: set PYTHON=python3.x" >&2; exit 2; }
	@lacking() { \
	  command -v g++ >/dev/null || command -v c++ >/dev/null || echo g++; \
	  test -x $(BIN)/python || $(PYTHON) -c "$$no_venv" 2>/dev/null || echo $$python-venv; \
	  $(PYTHON) -c "$$no_headers" || echo $$python-dev; \
	}; \
	no_venv='import ensurepip, venv'; \
	no_headers='import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; \
	python=$$($(PYTHON) -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
	if [ -n "$$(lacking)" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$(lacking) >/dev/null; \
	fi; \
	[ -z "$$(lacking)" ] || { echo "neurfield needs, by Debian's names:" $$(lacking) >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(STAMP): $(VENV)/.neurfield-requirements $(NATIVE)
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: setup
	$(BIN)/python benchmarks/demo.py

test: setup browser
	$(PYTEST)

# The viewer's tests open a real page. Without a browser, and where this may not install one, they skip and say so.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null \
	    || echo "no Chromium could be installed: the viewer's browser tests will skip" >&2; \
	else echo "no Chromium: the viewer's browser tests will skip (Debian: apt-get install chromium)" >&2; fi

# What runs native code, on the instruction sets of this machine below the best one, which `make test` takes.
test-isa: setup
	@isas=$$($(BIN)/python -c 'from neurfield._native import supported_isas; print(*supported_isas()[1:])') || exit 1; \
	for isa in $$isas; do \
	  echo "instruction set $$isa"; \
	  NEURFIELD_ISA=$$isa $(PYTEST) tests/ops tests/encodings tests/networks \
	    tests/training/test_trainer.py::test_learns_the_ball || exit 1; \
	done

# Formatting, lint, types: those of the package as it is installed, in which viewer/ is neurfield.viewer.
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'tests/*.cpp' 'tests/*.h' 'tests/*.cu')
	@rm -rf build/typing/neurfield
	$(BIN)/python setup.py --quiet build_py --build-lib build/typing
	cd build/typing && "$(abspath $(BIN))/mypy" --config-file "$(CURDIR)/pyproject.toml"

# The native tests under the address and undefined-behaviour sanitizers, once per instruction set of this machine.
test-native: setup
	$(BIN)/cmake -S tests/cpp -B build/native-tests
	$(BIN)/cmake --build build/native-tests --parallel $(JOBS)
	$(BIN)/ctest --test-dir build/native-tests --parallel $(JOBS) --output-on-failure

# What is needed to build wheels that run on older systems than this one (csrc/manylinux.cmake).
$(VENV)/.neurfield-wheel: $(VENV)/.neurfield-requirements requirements-wheel.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-wheel.txt
	@touch $@
PORTABLE := PATH="$(abspath $(BIN)):$$PATH" CMAKE_TOOLCHAIN_FILE="$(abspath csrc/manylinux.cmake)" NEURFIELD_CUDA=0

# dist/: an sdist, and a wheel for the version of PYTHON that installs without a compiler on Linux with glibc 2.28 or newer.
wheel: $(VENV)/.neurfield-wheel
	@mkdir -p dist
	$(PORTABLE) $(BIN)/python tests/packaging.py dist

# The same, built quicker, as what optimisation makes of the sources the other checks see; nothing is kept.
test-packaging: $(VENV)/.neurfield-wheel
	$(PORTABLE) CMAKE_BUILD_TYPE=None CXXFLAGS=-O1 $(BIN)/python tests/packaging.py

# The suite with the oldest packages that pyproject.toml allows at run time, all extras but lpips; what builds is the newest.
# In a clone of what is committed, of 6 GB until `make clean`: the oldest torch comes with CUDA from PyPI.
OLDEST := build/oldest
test-oldest:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "the oldest packages are those of Python 3.11; $(PYTHON) is another: set PYTHON=python3.11" >&2; exit 2; }
	rm -rf $(OLDEST)
	git clone --quiet . $(OLDEST)
	$(PYTHON) -m venv $(OLDEST)/.venv
	cd $(OLDEST) && .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-oldest.txt
	cd $(OLDEST) && NEURFIELD_CUDA=0 UV_CACHE_DIR=.venv/uv UV_LINK_MODE=hardlink .venv/bin/uv pip install --quiet \
	  --python .venv/bin/python --resolution lowest-direct --editable '.[mesh,photos,volume,dev]'
	data=$$(realpath -m "$${NEURFIELD_DATA:-../shared/data}") && cd $(OLDEST) && NEURFIELD_DATA="$$data" $(PYTEST)

# Builds the CUDA module in build/cuda, and all of csrc/math as device code, for sm_90 where nvcc is found; compares what
# ptxas says with docs/cuda.md.
test-cuda-build: setup
	@if command -v nvcc >/dev/null; then PYTHON=$(abspath $(BIN)/python) bash csrc/cuda/check_build.sh; else echo "nvcc not found: CUDA build not checked"; fi

# The CUDA kernels on the host, thread by thread, against the CPU's: needs neither nvcc nor a GPU.
test-cuda-host: setup
	$(BIN)/cmake -S tests/cuda/host -B build/cuda-host -DPython_EXECUTABLE=$(abspath $(BIN)/python)
	$(BIN)/cmake --build build/cuda-host --parallel $(JOBS)
	NEURFIELD_CUDA_ON_HOST=$$(ls $(CURDIR)/build/cuda-host/_cuda_on_host*.so) $(PYTEST) tests/cuda -k host

# Compiles the kernels as far as their meaning for arm64, and runs their native tests, where its compiler and an emulator
# are found (Debian, Ubuntu: g++-aarch64-linux-gnu, qemu-user). The bindings are left out: they need the headers of an
# arm64 Python, and know no machine.
ARM64_CXX := aarch64-linux-gnu-g++
ARM64_TESTS := build/native-tests-arm64
test-arm64: $(VENV)/.neurfield-requirements
	@if command -v $(ARM64_CXX) >/dev/null; then \
	  printf '%s\n' csrc/core/*.cpp csrc/cpu/*.cpp | xargs -P 2 -n 1 $(ARM64_CXX) -std=gnu++17 -Icsrc -fsyntax-only \
	    -Wall -Wextra -Werror -Wno-psabi && echo "arm64: csrc/core and csrc/cpu compile"; \
	else echo "$(ARM64_CXX) not found: arm64 build not checked"; fi
	@if command -v $(ARM64_CXX) >/dev/null && command -v qemu-aarch64 >/dev/null; then \
	  $(BIN)/cmake -S tests/cpp -B $(ARM64_TESTS) -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	    -DCMAKE_CXX_COMPILER=$(ARM64_CXX) "-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64;-L;/usr/aarch64-linux-gnu" \
	  && $(BIN)/cmake --build $(ARM64_TESTS) --parallel $(JOBS) \
	  && $(BIN)/ctest --test-dir $(ARM64_TESTS) --parallel $(JOBS) --output-on-failure; \
	else echo "$(ARM64_CXX) or qemu-aarch64 not found: arm64 tests not run"; fi

benchmark: setup
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf build dist *.egg-info
