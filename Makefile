# Two commands are enough: `make demo` and `make test`; each installs what it needs first. docs/build.md says more.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
NATIVE := build/native
INSTALLED := tfq_int4_delegate tfq_runner
CPP_FILES = $(shell git ls-files --cached --others --exclude-standard '*.cc' '*.h')
QEMU_CPUS := cortex-a53 cortex-a76 max
THREAD_TESTS := int4_thread_pool_test int4_concurrency_test

cmake = >/dev/null cmake --no-warn-unused-cli -G Ninja -S . --log-level=WARNING -DCMAKE_BUILD_TYPE=Release
ctest = ctest --output-on-failure --no-tests=error -j $(JOBS)
heading = @printf '\n== %s\n' "$(1)"

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1|/' | column -t -s '|'

.PHONY: setup
setup: bootstrap native  ## .venv with everything in it, and the native files that it loads

.PHONY: bootstrap
bootstrap:
	$(call heading,system packages and .venv)
	@tools/bootstrap.sh

.PHONY: native
native:  ## the delegate and the runner into tfq_pipeline/_native, for this machine and for arm64 Linux
	$(call heading,native build)
	@$(cmake) -B $(NATIVE)/host
	@cmake --build $(NATIVE)/host -j $(JOBS) --target $(INSTALLED) -- --quiet
	@cmake --install $(NATIVE)/host --prefix . >/dev/null
	@if command -v aarch64-linux-gnu-g++ >/dev/null; then \
	  $(cmake) -B $(NATIVE)/linux_arm64 -DCMAKE_TOOLCHAIN_FILE=cmake/linux_arm64.cmake; \
	  cmake --build $(NATIVE)/linux_arm64 -j $(JOBS) --target $(INSTALLED) -- --quiet; \
	  cmake --install $(NATIVE)/linux_arm64 --prefix . >/dev/null; \
	else \
	  echo "no aarch64-linux-gnu-g++: built for this machine alone, so tfq benchmark --device emulator will not work"; \
	fi

.PHONY: demo
demo: setup  ## quantize a real model, run it here and on an emulated arm64 device, write the report
	$(call heading,demo)
	@$(PY) -m examples.fashion_mnist.demo

.PHONY: test
test: setup lint native-test bazel-test wheel-test pytest  ## all tests but the long ones; what CI runs

.PHONY: test-long
test-long: setup lint native-test bazel-test wheel-test pytest-long  ## all tests

.PHONY: lint
lint:  ## style, types, import contracts
	$(call heading,lint)
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@clang-format --dry-run -Werror $(CPP_FILES)

.PHONY: format
format:  ## rewrite the sources as lint wants them
	@.venv/bin/ruff check --quiet --fix-only .
	@.venv/bin/ruff format --quiet .
	@clang-format -i $(CPP_FILES)

.PHONY: native-test
native-test: native  ## C++ tests: here, under ASan, UBSan and TSan, and on emulated arm64 CPUs
	$(call heading,C++ tests)
	@cmake --build $(NATIVE)/host -j $(JOBS) -- --quiet
	@$(ctest) --test-dir $(NATIVE)/host
	$(call heading,C++ tests under ASan and UBSan)
	@$(cmake) -B $(NATIVE)/sanitize -DTFQ_SANITIZE=address,undefined
	@cmake --build $(NATIVE)/sanitize -j $(JOBS) -- --quiet
	@$(ctest) --test-dir $(NATIVE)/sanitize
	$(call heading,C++ tests of threads under TSan)
	@$(cmake) -B $(NATIVE)/tsan -DTFQ_SANITIZE=thread
	@cmake --build $(NATIVE)/tsan -j $(JOBS) --target $(THREAD_TESTS) -- --quiet
	@for test in $(THREAD_TESTS); do $(NATIVE)/tsan/delegates/int4/$$test --gtest_brief=1; done
	@if [ -d $(NATIVE)/linux_arm64 ] && command -v qemu-aarch64-static qemu-aarch64 >/dev/null; then \
	  cmake --build $(NATIVE)/linux_arm64 -j $(JOBS) -- --quiet; \
	  for cpu in $(QEMU_CPUS); do \
	    printf '\n== C++ tests on an emulated %s\n' $$cpu; \
	    QEMU_CPU=$$cpu $(ctest) --test-dir $(NATIVE)/linux_arm64; \
	  done; \
	else \
	  echo "no cross compiler or no qemu-aarch64: the arm64 kernels were not tested"; \
	fi

.PHONY: fuzz
fuzz:  ## damaged models through the delegate for FUZZ_SECONDS (60), under ASan and UBSan
	$(call heading,fuzzing)
	@command -v clang++ >/dev/null || { echo "make fuzz needs clang++ with libFuzzer: apt-get install clang libclang-rt-dev"; exit 2; }
	@$(cmake) -B $(NATIVE)/fuzz -DCMAKE_CXX_COMPILER=clang++ -DTFQ_FUZZ=ON -DTFQ_SANITIZE=address,undefined
	@cmake --build $(NATIVE)/fuzz -j $(JOBS) --target int4_graph_fuzzer -- --quiet
	@mkdir -p $(NATIVE)/fuzz/corpus
	@# Damaged shapes ask for more memory than there is, which ASan refuses (test/damaged_graph.cc): no limit of libFuzzer's.
	@cd $(NATIVE)/fuzz && delegates/int4/int4_graph_fuzzer -max_total_time=$(FUZZ_SECONDS) -max_len=256 -timeout=20 \
	  -malloc_limit_mb=100000000 -close_fd_mask=2 -print_final_stats=1 corpus

.PHONY: bazel-test
bazel-test:  ## the same C++ and some Python tests through Bazel
	$(call heading,Bazel)
	@tools/bazel_test.sh

.PHONY: wheel-test
wheel-test: native  ## the wheel, installed alone: the command and a delegate that loads
	$(call heading,wheel)
	@tools/wheel_test.sh

.PHONY: pytest
pytest:
	$(call heading,Python tests)
	@$(PY) -m pytest -n 2 -m "not slow"

.PHONY: pytest-long
pytest-long:
	$(call heading,Python tests with the slow ones)
	@$(PY) -m pytest -n 2

.PHONY: bench
bench: native  ## speed of kernels and whole models here, beside targets; docs/performance.md's tables anew
	$(call heading,bench)
	@$(cmake) -B $(NATIVE)/host -DTFQ_BENCH=ON
	@cmake --build $(NATIVE)/host -j $(JOBS) --target int4_bench -- --quiet
	@$(PY) -m delegates.int4.bench --document docs/performance.md

.PHONY: techniques
techniques:  ## accuracy of every post-training technique on every example net; docs/techniques/README.md's table anew
	$(call heading,techniques)
	@$(PY) -m examples.fashion_mnist.techniques --document docs/techniques/README.md

.PHONY: techniques-qat
techniques-qat:  ## accuracy of quantization-aware training on three data sets, and the time of a step; docs/techniques/qat.md's tables anew
	$(call heading,techniques of training)
	@$(PY) -m examples.techniques_qat --document docs/techniques/qat.md

.PHONY: bench-arm
bench-arm: native  ## ARM without an ARM machine: modelled inner loops, instructions that emulated CPUs execute
	$(call heading,bench for ARM (modelled and emulated))
	@$(PY) -m delegates.int4.bench.arm --document docs/performance.md

.PHONY: lock
lock:  ## requirements/lock.txt anew, from pyproject.toml and the package index that pip is set up with
	@.venv/bin/pip-compile --quiet --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras \
	  --allow-unsafe --no-header --output-file requirements/lock.txt pyproject.toml

.PHONY: clean
clean:  ## removes what was built, not .venv
	@rm -rf build dist out bazel-* tfq_pipeline/_native .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
