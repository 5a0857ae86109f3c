#!/bin/sh
# The demonstration: install what is missing, build the package into .venv, stream crops of real images.
# Arguments go to examples/demo.py.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh demo
scripts/install_package.sh
exec .venv/bin/python examples/demo.py "$@"
