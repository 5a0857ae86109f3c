#!/bin/sh
# Build the Python package and install it into .venv. Without build isolation: what the build needs is in .venv already, so that
# this works without a network.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall .
