# What people type. The work is done by CMake (CMakeLists.txt) and by the scripts in scripts/; each runs on its own, too.
#
#   make build    the library, optimised, in build/release
#   make test     everything that must hold, from lint to Python (what .ci/run calls)
#   make demo     stream crops of real images, and save a picture of a batch
#   make bench    the benchmark table
#   make bench-remote   the same over a network, with injected latency
#   make lint     the checks that need no run
#   make format   let clang-format write what lint wants
#   make formats  docs/formats.md, from the code's own tables
#   make fuzz     every fuzz target for FUZZ_SECONDS
#   make setup    install what is missing
#   make clean    remove build/ and dist/; the Python environment in .venv stays

# Least share of lines in src/ that the C tests must run, in percent.
COVERAGE_LINES_MIN ?= 90
FUZZ_SECONDS ?= 60
# 1: lint fails where clang-format would write a file differently; 0: it only tells.
FORMAT_ENFORCED ?= 1
JOBS ?= $(shell scripts/jobs.sh)

# Random tests draw the same cases in each run; `make test DAMACY_TEST_SEED=7` draws others.

export COVERAGE_LINES_MIN FUZZ_SECONDS FORMAT_ENFORCED JOBS

.PHONY: build test demo bench bench-remote lint format formats fuzz setup clean

build:
	@scripts/setup.sh build
	@scripts/build.sh library

test:
	@scripts/test.sh

demo:
	@scripts/demo.sh

bench:
	@scripts/bench.sh

bench-remote:
	@scripts/setup.sh bench-remote
	@python3 bench/remote/run_remote.py

lint:
	@scripts/setup.sh test
	@scripts/build.sh --configure release
	@scripts/lint.sh

format:
	@scripts/lint.sh --format

formats:
	@scripts/setup.sh build
	@scripts/build.sh --configure release
	@cmake --build build/release --target generate_formats
	@build/release/generate_formats >docs/formats.md.new && mv docs/formats.md.new docs/formats.md

fuzz:
	@scripts/setup.sh test
	@scripts/fuzz.sh

setup:
	@scripts/setup.sh test

clean:
	rm -rf build dist
