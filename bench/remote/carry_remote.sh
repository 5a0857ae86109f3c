#!/bin/sh
# Puts what bench/remote/run_remote.py needs on a machine without development packages and package registry into build/remote-bench/carry (49 MB):
# nginx, latency_proxy and range_loop with the libraries that they load, found beside them; wheels of the peers but numpy and tensorstore, which must
# be there; damacy's wheel, which PYTHON (.venv/bin/python) builds. There:
#
#   python bench/remote/run_remote.py --carry build/remote-bench/carry --quick --output FILE
#
# PYTHON_VERSION (3.12) is that of the other machine's Python.
set -eu
cd "$(dirname "$0")/../.."
carry=build/remote-bench/carry
python=${PYTHON:-.venv/bin/python}
nginx=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx) || { echo "nginx is not installed" >&2; exit 1; }
rm -rf $carry && mkdir -p $carry/lib $carry/bin $carry/programs $carry/wheels
cc -std=gnu11 -D_GNU_SOURCE -O2 -o $carry/programs/latency_proxy bench/remote/latency_proxy.c -lm
cc -std=gnu11 -D_GNU_SOURCE -O2 -o $carry/programs/range_loop bench/remote/range_loop.c -lcurl
cp "$nginx" $carry/programs/nginx
strip $carry/programs/*
$python -m pip wheel -q --no-build-isolation --no-deps -w $carry/wheels -C build-dir=build/remote-bench/python .
platforms="--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64"
$python -m pip download -q --disable-pip-version-check -d $carry/wheels --python-version "${PYTHON_VERSION:-3.12}" --only-binary :all: $platforms \
    -r bench/remote/requirements_remote.txt zarr
rm -f $carry/wheels/numpy-* $carry/wheels/tensorstore-*
for program in latency_proxy range_loop nginx; do
    printf '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")\nLD_LIBRARY_PATH=$here/../lib exec "$here/../programs/%s" "$@"\n' $program >$carry/bin/$program
    chmod +x $carry/bin/$program
done
# damacy's own libraries, too: libcurl is what it looks for when it runs.
$python -m zipfile -e $carry/wheels/damacy-*.whl build/remote-bench/unpacked
find build/remote-bench/unpacked -name '*.so*' | xargs ldd $carry/programs/* 2>/dev/null |
    awk '$3 ~ /^\// && $3 !~ /\/(libc|libm|libdl|libpthread|librt|libresolv|libstdc\+\+|libgcc_s)\.so/ && !seen[$1]++ {print $3}' |
    grep -v "^$PWD/" | xargs -I{} cp -L {} $carry/lib
du -sh $carry
