#!/bin/sh
# Configure and build one flavour into build/FLAVOUR.
# Usage: scripts/build.sh [--configure] library|release|asan|tsan|coverage|fuzz
# `library` is release without its tests, in the same folder: what people build who only want to use it.
set -eu
cd "$(dirname "$0")/.."
configure_only=
[ "$1" != --configure ] || { configure_only=yes; shift; }
flavour=$1
case $flavour in
library) flavour=release options=-DDAMACY_TESTS=OFF ;;
release) options=-DDAMACY_TESTS=ON ;;
# clang for the sanitizers: with it -Wthread-safety checks the locks in the same build.
asan) options="-DCMAKE_C_COMPILER=clang -DDAMACY_SANITIZE=address,undefined -DCMAKE_C_FLAGS_RELWITHDEBINFO='-O1 -g'" ;;
tsan) options="-DCMAKE_C_COMPILER=clang -DDAMACY_SANITIZE=thread -DCMAKE_C_FLAGS_RELWITHDEBINFO='-O1 -g'" ;;
coverage) options="-DDAMACY_COVERAGE=ON -DCMAKE_C_FLAGS_RELWITHDEBINFO='-O0 -g'" ;;
fuzz) options="-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DDAMACY_FUZZ=ON -DDAMACY_TESTS=OFF -DCMAKE_C_FLAGS_RELWITHDEBINFO='-O1 -g'" ;;
*)
    echo "unknown flavour $flavour" >&2
    exit 1
    ;;
esac
mkdir -p build
# Only a compiler cache that has somewhere to keep what it caches.
echo 'int try_ccache;' >build/"$flavour".try.c
if command -v ccache >/dev/null 2>&1 && ccache cc -c build/"$flavour".try.c -o build/"$flavour".try.o 2>/dev/null; then
    options="$options -DCMAKE_C_COMPILER_LAUNCHER=ccache"
fi
rm -f build/"$flavour".try.?
configure() {
    eval "cmake -S . -B build/$flavour -G Ninja $options" >build/"$flavour".log 2>&1
}
# What was configured elsewhere, or only half, is configured anew.
configure || { rm -rf "build/$flavour/CMakeCache.txt" "build/$flavour/CMakeFiles" && configure; } || {
    cat build/"$flavour".log
    exit 1
}
[ -z "$configure_only" ] || exit 0
# Compilers that had too little memory beside each other get another try, one by one.
ninja -C "build/$flavour" -k 0 -j "${JOBS:-$(scripts/jobs.sh)}" || ninja -C "build/$flavour" -j 1
