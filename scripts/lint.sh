#!/bin/sh
# The checks that need no run: include graph, clang's warnings with thread safety, cppcheck, formatting.
# Wants build/release configured, for its compile_commands.json. Goes on after a failure, so that all findings are seen.
set -u
cd "$(dirname "$0")/.."
failed=

check() {
    title=$1
    shift
    printf -- '-- %s\n' "$title"
    "$@" || failed="$failed, $title"
}

# Names only: the whole story of a file is `clang-format --dry-run FILE`, its end `clang-format -i FILE`. Tables that a program wrote
# are left as it wrote them.
format() {
    unformatted=
    for file in $(git ls-files -- 'include/*.h' 'src/*.[ch]' 'tests/*.[ch]' 'fuzz/*.[ch]' 'bench/*.[ch]' 'python/*.[ch]' \
        ':!tests/*_examples.h'); do
        [ ! -f "$file" ] || clang-format --dry-run -Werror "$file" 2>/dev/null || unformatted="$unformatted $file"
    done
    [ -z "$unformatted" ] || printf 'not formatted: clang-format -i%s\n' "$unformatted"
    [ -z "$unformatted" ]
}

mkdir -p build/cppcheck
check "include graph and file names" python3 scripts/check_includes.py
check "clang, thread safety" python3 scripts/check_clang.py build/release/compile_commands.json
check "cppcheck" cppcheck -q -j "${JOBS:-2}" --std=c11 -I include -I src -D_GNU_SOURCE -D__GNUC__=12 -D__x86_64__ --cppcheck-build-dir=build/cppcheck \
    --enable=warning,performance,portability --inline-suppr --error-exitcode=1 --suppressions-list=scripts/cppcheck_suppressions.txt src
check "clang-format" format

if [ -n "$failed" ]; then
    echo "lint failed: ${failed#, }"
    exit 1
fi
