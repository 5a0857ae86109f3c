#!/bin/sh
# The benchmark: builds the bare loop and the package, and runs every reader in every scenario. Arguments go to bench/run.py.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh bench
scripts/build.sh bench
scripts/install_package.sh
exec .venv/bin/python bench/run.py "$@"
