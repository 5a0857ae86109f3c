#!/bin/sh
# Builds what bench/gpu/run_gpu.py needs on a machine without development packages, into build/gpu-bench/carry (about 10 MB): the programs bare_loop
# and bench_damacy with the libraries that they load, found beside them, and damacy's wheel, unpacked, in site/ (for PYTHONPATH).
#
#   bench/gpu/carry.sh [programs]      programs: without the wheel
#
# MARCH (x86-64-v4) is the processor that bare_loop is compiled for; PYTHON (.venv/bin/python) builds the wheel.
set -eu
cd "$(dirname "$0")/../.."
build=build/gpu-bench
carry=$build/carry
rpath='-Wl,--disable-new-dtags'
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DDAMACY_BENCH=ON -DDAMACY_TESTS=OFF ${CMAKE_FLAGS:-} -DCMAKE_BUILD_RPATH="\$ORIGIN/lib" -DCMAKE_EXE_LINKER_FLAGS="$rpath" >/dev/null
ninja -j"${JOBS:-2}" -C $build bench_damacy >$build/log || { tail -30 $build/log; exit 1; }
rm -rf $carry && mkdir -p $carry/lib
cp $build/bench_damacy $carry
cc -std=gnu11 -D_GNU_SOURCE -O3 -march="${MARCH:-x86-64-v4}" -o $carry/bare_loop bench/c/bare_loop.c $rpath -Wl,-rpath,'$ORIGIN/lib' -lzstd -lblosc -ldeflate -lpthread -lm
strip $carry/bench_damacy $carry/bare_loop
ldd $carry/bench_damacy $carry/bare_loop | awk '$3 ~ /^\// && $3 !~ /\/(libc|libm|libdl|libpthread|librt)\.so/ && !seen[$1]++ {print $3}' |
    grep -v "^$PWD/" | xargs -I{} cp -L {} $carry/lib
if [ "${1:-}" != programs ]; then
    python=${PYTHON:-.venv/bin/python}
    $python -m pip wheel -q --no-build-isolation --no-deps -w $carry -C build-dir=$build/python .
    $python -m pip install -q --no-deps --target $carry/site $carry/*.whl
    rm $carry/*.whl
fi
du -sh $carry
