#!/bin/sh
# Install what is missing: Debian packages, and for `test` and `demo` a Python environment in .venv. (The benchmark makes one of its
# own, for the many readers that it compares with.)
# Usage: scripts/setup.sh build|test|demo|bench|bench-remote
#
# What is there already is left alone, so a second run needs neither root nor a network.
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-test}

# The library itself.
packages="gcc libc6-dev cmake ninja-build pkg-config libzstd-dev liblz4-dev libblosc-dev libdeflate-dev libisal-dev liburing-dev libbz2-dev
    liblzma-dev libcurl4-openssl-dev"
# libblosc-dev is a static library, too; these are what that one wants.
packages="$packages libsnappy-dev zlib1g-dev"
if [ "$purpose" = test ]; then
    packages="$packages libcmocka-dev clang clang-format cppcheck ccache util-linux"
    packages="$packages nginx openssl" # for tests/python/remote
fi
if [ "$purpose" = bench-remote ]; then
    packages="$packages nginx"
fi

# A Python of 3.11 or newer from PATH, or else Debian's.
python_fits() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}
if [ "$purpose" = build ]; then
    : # the library needs none
elif ! python_fits python3; then
    packages="$packages python3 python3-venv python3-dev"
else
    # Interpreters that were not packaged by Debian bring these along.
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"
    python3 -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        packages="$packages python3-dev"
fi

# persistently COMMAND...: networks and mirrors have bad moments.
persistently() {
    for pause in 5 15 30 60; do
        "$@" && return 0
        echo "failed: $* (again in $pause s)" >&2
        sleep $pause
    done
    "$@"
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages() {
    missing=
    for package in "$@"; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "missing Debian packages:$missing"
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        echo "Neither root nor sudo: ask an administrator to run" >&2
        echo "    apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    persistently fetch_and_install
}

# Waits for others who install something, too, and mends what was interrupted.
fetch_and_install() {
    $as_root dpkg --configure -a &&
        $as_root apt-get -o Acquire::Retries=3 update -q &&
        # shellcheck disable=SC2086 # a list
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends $missing
}

if command -v dpkg-query >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # a list
    install_packages $packages
    # The sanitizers' run-time libraries are a package of their own, named after clang's version.
    if [ "$purpose" = test ] && ! echo 'int main(void) { return 0; }' | clang -fsanitize=address -x c -o /dev/null - 2>/dev/null; then
        install_packages "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
    fi
else
    for tool in cc cmake ninja pkg-config; do
        command -v "$tool" >/dev/null 2>&1 || {
            echo "This is no Debian. Please install: a C compiler, cmake, ninja, pkg-config, zstd, lz4, c-blosc, libdeflate, isa-l, liburing," >&2
            echo "and for the tests cmocka, clang, clang-format, cppcheck. ($tool is missing.)" >&2
            exit 1
        }
    done
fi
case $purpose in build | bench | bench-remote) exit 0 ;; esac

python=python3
python_fits python3 || python=/usr/bin/python3

# install FOLDER OPTIONS...
install() {
    folder=$1
    shift
    "$folder/bin/python" -m pip install -q --disable-pip-version-check --retries 10 --timeout 60 "$@"
}

# environment FOLDER FILE CONSTRAINTS [FILE_WITHOUT_DEPENDENCIES]: a virtual environment with what the files list, made once, in the
# versions of CONSTRAINTS where these can be had. A file of the last kind lists packages whose own wishes (a viewer) are none of ours.
environment() {
    stamp=$1/.installed
    wanted=$("$python" -c 'import sys; print(sys.version)'; cat "$2" "$3" ${4:+"$4"})
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && "$1/bin/python" -c '' 2>/dev/null; then
        return 0
    fi
    # One of another interpreter is made anew.
    [ "$(head -n 1 "$stamp" 2>/dev/null)" = "$(printf '%s' "$wanted" | head -n 1)" ] && "$1/bin/python" -m pip --version >/dev/null 2>&1 ||
        "$python" -m venv --clear "$1"
    rm -f "$stamp" # what is interrupted is made anew
    echo "installing Python packages of $2${4:+ and $4} into $1"
    install "$1" -r "$2" -c "$3" || { sleep 20 && install "$1" -r "$2" -c "$3"; } || { sleep 60 && install "$1" -r "$2" -c "$3"; } || {
        echo "not in the versions of $3: in others" >&2
        persistently install "$1" -r "$2"
    }
    [ -z "${4:-}" ] || persistently install "$1" --no-deps -r "$4"
    printf '%s\n' "$wanted" >"$stamp"
}

environment .venv scripts/requirements_dev.txt scripts/constraints_dev.txt examples/requirements.txt
# zarr-python 2, which excludes zarr-python 3, only writes arrays for the tests.
[ "$purpose" != test ] || environment .venv-zarr2 scripts/requirements_zarr2.txt scripts/constraints_zarr2.txt
