#!/bin/sh
# decode_bench.sh BUILD OUT [ARCH]: build the decoder's check and benchmark for one architecture (90: H100), from the static
# libraries of a CMake build folder. The program needs no library but the C and C++ ones and the driver; libnvcomp.so.6 beside it
# is used if there.
set -e
build=$1 out=$2 arch=${3:-90}
root=$(cd "$(dirname "$0")/../.." && pwd)
libraries=/usr/lib/x86_64-linux-gnu
nvcc -std=c++17 -O3 -arch=sm_"$arch" -lineinfo -I"$root/src" -I"$root/include" "$root/bench/gpu/decode_bench.cu" -o "$out" \
    "$build/libdmc_cuda_decode.a" "$build/libdmc_codec.a" "$build/libdmc_base.a" \
    $libraries/libblosc.a $libraries/libsnappy.a $libraries/libzstd.a $libraries/liblz4.a $libraries/libz.a -ldl -lpthread -Xcompiler -no-pie
