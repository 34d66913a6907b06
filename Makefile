# SPDX-License-Identifier: MIT
# Every target sets up what it needs in .venv and reuses it the next time.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO_ARGS ?=
FUZZ_SECONDS ?= 30
FUZZ_CORPUS ?= build/fuzz
JOBS ?= 1
SOAK_SECONDS ?= 600
PYTEST_ARGS ?=
# The tests of a file run in one process, one after another: they share what its fixtures make.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

# Tests of the native ops, on the CPU and on hostsim.
NATIVE_TESTS := $(addprefix python_tests/ops/test_,hand_center.py depth_crop.py depth_crop_grad.py roi_windows.py \
  pose_roi_pool.py pose_roi_pool_edges.py cascade_refine.py cascade_refine_packed.py cuda_kernels.py) \
  python_tests/fuzz/test_fuzz_ops.py
SANITIZED := .venv-sanitize
FREE := .venv-free-threaded
SANITIZER_FLAGS := -O1 -g1
RACES := build/thread
HOSTSIM := build/hostsim
runtime_of = $(shell $(CXX) -print-file-name=lib$(1).so)
SANITIZERS = $(call runtime_of,asan) $(call runtime_of,ubsan)
FUZZ = -m fuzz --jobs $(JOBS) --corpus $(abspath $(FUZZ_CORPUS))

NATIVE := CMakeLists.txt pyproject.toml $(shell find cmake csrc -type f)
NATIVE_TEST_TOOLS := $(shell find python_tests/hostsim -type f) python_tests/fuzz/blocks.cpp
CXX_SOURCES = $(shell git ls-files '*.h' '*.cpp' '*.cu')

.DEFAULT_GOAL := help
.PHONY: help demo test coverage lint format docs wheel sanitize gpu-check clean locked fuzz soak lock sbom free-threaded

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "$(TORCH)"
	@touch $@

$(VENV)/.build: $(VENV)/.torch requirements/build.txt
	$(PIP) install -r requirements/build.txt
	@touch $@

# Editable: changes of Python files need no second install.
$(VENV)/.package: $(VENV)/.build $(NATIVE)
	$(PIP) install --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.package $(HOSTSIM)/.library requirements/test.txt
	$(PIP) install -r requirements/test.txt
	@touch $@

$(VENV)/.lint: $(VENV)/.test requirements/lint.txt
	$(PIP) install -r requirements/lint.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.package requirements/docs.txt
	$(PIP) install -r requirements/docs.txt
	@touch $@

$(VENV)/.wheel: $(VENV)/.build requirements/wheel.txt
	$(PIP) install -r requirements/wheel.txt
	@touch $@

$(VENV)/.fuzz: $(VENV)/.test requirements/fuzz.txt
	$(PIP) install -r requirements/fuzz.txt
	@touch $@

$(VENV)/.supply: $(VENV)/.torch requirements/supply.txt
	$(PIP) install -r requirements/supply.txt
	@touch $@

demo: $(VENV)/.package  ## run the bundled model on unseen synthetic hands and write demo.png
	$(BIN)/poseren demo --overwrite $(DEMO_ARGS)

test: $(VENV)/.test  ## the whole test suite, in parallel on all cores
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

coverage: $(VENV)/.test  ## the whole test suite with the statement coverage of poseren_ext; below 95 % is a failure
	$(BIN)/python -m pytest $(PARALLEL) --cov=poseren_ext --cov-report=term:skip-covered --cov-fail-under=95 $(PYTEST_ARGS)

lint: $(VENV)/.lint  ## ruff, mypy, import layers, clang-format, and that versions agree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES)
	$(BIN)/python tools/check_versions.py

format: $(VENV)/.lint  ## rewrite the sources in the house's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES)

docs: $(VENV)/.docs  ## the documentation as a site in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

wheel: $(VENV)/.wheel  ## dist/: source archive and manylinux wheels, each tried in an environment of its own
	$(BIN)/python tools/build_wheels.py
	$(BIN)/python tools/test_wheel.py --torch "$(TORCH)" dist/*.tar.gz dist/*/*-$$($(BIN)/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')-*.whl

fuzz: $(VENV)/.fuzz $(SANITIZED)/.package  ## hostile input to every reader and, under sanitizers, every op: FUZZ_SECONDS each, JOBS at a time
	cd python_tests && status=0; \
	  ../$(BIN)/python $(FUZZ) --seconds $(FUZZ_SECONDS) readers || status=1; \
	  ../$(SANITIZED)/bin/python $(FUZZ) --seconds $(FUZZ_SECONDS) --sanitizers "$(SANITIZERS)" native || status=1; \
	  exit $$status

soak: $(VENV)/.test  ## a live session of SOAK_SECONDS with a faulty camera, 100,000 calls of the ops, 60 kills of each command
	POSEREN_SOAK_SECONDS=$(SOAK_SECONDS) POSEREN_LEAK_CALLS=100000 POSEREN_KILLS=60 $(BIN)/python -m pytest \
	  -o timeout=3600 python_tests/live/test_soak_live.py python_tests/ops/test_concurrency.py python_tests/cli/test_faults_kill.py \
	  $(PYTEST_ARGS)

# Of the dependencies torch and numpy alone have wheels for it; of torch, not each version.
free-threaded:  ## the ops from many threads in a free-threaded Python: PYTHON=python3.13t
	$(PYTHON) -m venv $(FREE)
	$(FREE)/bin/pip install --quiet --only-binary=torch,numpy "torch>=2.11" numpy -r requirements/build.txt
	$(FREE)/bin/pip install --quiet --no-deps --no-build-isolation --config-settings=build-dir=build/free-threaded \
	  --config-settings=cmake.define.POSEREN_CUDA=OFF .
	cd python_tests && ../$(FREE)/bin/python -m helpers.free_threaded 1000

locked: $(VENV)/.torch  ## install what the tests need in the locked versions, every file checked by its hash
	$(PIP) install --require-hashes --no-deps -r requirements/lock.txt

lock: $(VENV)/.supply  ## rewrite requirements/lock.txt with the versions of today
	$(BIN)/python tools/lock.py lock

sbom: $(VENV)/.supply  ## dist/sbom.cdx.json: the locked environment as a CycloneDX bill of materials
	@mkdir -p dist
	$(BIN)/python tools/lock.py sbom dist/sbom.cdx.json

# A library of the test-only targets in a build folder of its own: $(call build_hostsim,FOLDER,CMAKE_OPTIONS).
define build_hostsim
	$(BIN)/cmake -S . -B $(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) --log-level=WARNING \
	  -DPython_EXECUTABLE=$(abspath $(BIN)/python) -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)" \
	  -DPOSEREN_CUDA=OFF -DPOSEREN_HOSTSIM=ON $(2)
	$(BIN)/cmake --build $(1) --target poseren_hostsim
endef

# The CUDA kernels for the host: the tests run them on the CPU.
$(HOSTSIM)/.library: $(VENV)/.build $(NATIVE) $(NATIVE_TEST_TOOLS)
	$(call build_hostsim,$(HOSTSIM),-DCMAKE_BUILD_TYPE=Release)
	@touch $@

# The package with AddressSanitizer and UBSan, in an environment that sees the other packages of $(VENV).
$(SANITIZED)/.package: $(VENV)/.test $(NATIVE) $(NATIVE_TEST_TOOLS)
	$(PYTHON) -m venv --clear --without-pip $(SANITIZED)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > \
	  "$$($(SANITIZED)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth"
	$(PIP) --python $(SANITIZED)/bin/python install --no-deps --no-build-isolation --editable . \
	  --config-settings=build-dir=build/address --config-settings=cmake.build-type=Debug \
	  --config-settings='cmake.define.CMAKE_CXX_FLAGS_DEBUG=$(SANITIZER_FLAGS)' \
	  --config-settings=cmake.define.POSEREN_CUDA=OFF --config-settings=cmake.define.POSEREN_HOSTSIM=ON \
	  --config-settings=cmake.define.POSEREN_SANITIZE=address,undefined --config-settings=cmake.define.POSEREN_COVERAGE=ON
	@touch $@

# The CUDA kernels for the host with ThreadSanitizer: to it a fiber is a thread, so it sees races in shared memory.
$(RACES)/.library: $(VENV)/.test $(NATIVE) $(NATIVE_TEST_TOOLS)
	$(call build_hostsim,$(RACES),-DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="$(SANITIZER_FLAGS)" -DPOSEREN_SANITIZE=thread)
	@touch $@

sanitize: $(SANITIZED)/.package $(RACES)/.library $(VENV)/.fuzz  ## native tests under AddressSanitizer and UBSan, CUDA kernels also under ThreadSanitizer
	LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 \
	  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  $(SANITIZED)/bin/python -m pytest -p no:cacheprovider $(NATIVE_TESTS) $(PYTEST_ARGS) \
	  --deselect python_tests/ops/test_cuda_kernels.py::test_same_bits_in_any_order_of_threads_and_each_time
	cd python_tests && ../$(SANITIZED)/bin/python $(FUZZ) --seconds 5 --sanitizers "$(SANITIZERS)" native
	for order in forward random:3; do \
	  OMP_NUM_THREADS=1 LD_PRELOAD=$(call runtime_of,tsan) POSEREN_HOSTSIM_ORDER=$$order \
	  POSEREN_HOSTSIM_LIBRARY=$(RACES)/libposeren_hostsim.so \
	  $(BIN)/python -m pytest -s python_tests/ops/test_cuda_kernels.py -k every_kernel || exit 1; done
	$(BIN)/python -m pytest python_tests/ops/test_hostsim.py

gpu-check:  ## build, test, sanitize and time on a machine with an NVIDIA GPU; writes gpu-check.json
	$(PYTHON) tools/gpu_check.py

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(SANITIZED) $(FREE) build dist site demo.png
