#!/bin/sh
# The benchmark. bench/run.py builds what it measures, makes an environment of its own, and takes the arguments.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh bench
python=python3
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || python=/usr/bin/python3
exec "$python" bench/run.py "$@"
