#!/bin/sh
# The checks that need no run: include graph, clang's warnings with thread safety, cppcheck, formatting.
# Wants build/release configured, for its compile_commands.json. Goes on after a failure, so that all findings are seen.
# With --format: only let clang-format write the files.
set -u
cd "$(dirname "$0")/.."
failed=

check() {
    title=$1
    shift
    printf -- '-- %s\n' "$title"
    "$@" || failed="$failed, $title"
}

# Tables that a program wrote are left as it wrote them.
formatted_files() {
    git ls-files -- 'include/*.h' 'src/*.[ch]' 'tests/*.[ch]' 'fuzz/*.[ch]' 'bench/*.[ch]' 'python/*.[ch]' 'cli/*.[ch]' 'examples/*.c' 'docs/*.c' ':!tests/*_examples.h'
}

format() {
    unformatted=
    for file in $(formatted_files); do
        [ ! -f "$file" ] || clang-format --dry-run -Werror "$file" 2>/dev/null || unformatted="$unformatted $file"
    done
    [ -n "$unformatted" ] || return 0
    echo "not as clang-format would write them (make format):$unformatted"
    return 1
}

if [ "${1:-}" = --format ]; then
    formatted_files | xargs clang-format -i
    exit
fi

mkdir -p build/cppcheck
check "include graph, file names, names in comments" python3 scripts/check_includes.py
check "clang, thread safety" python3 scripts/check_clang.py build/release/compile_commands.json
check "cppcheck" cppcheck -q -j "${JOBS:-2}" --std=c11 -I include -I src -D_GNU_SOURCE -D__GNUC__=12 -D__x86_64__ --cppcheck-build-dir=build/cppcheck \
    --enable=warning,performance,portability --inline-suppr --error-exitcode=1 --suppressions-list=scripts/cppcheck_suppressions.txt src
# Other versions of clang-format have other opinions.
if [ "${FORMAT_ENFORCED:-0}" = 1 ] && clang-format --version | grep -q 'version 14\.'; then
    check "clang-format" format
else
    printf -- '-- clang-format (told, not enforced)\n'
    format
fi

if [ -n "$failed" ]; then
    echo "lint failed: ${failed#, }"
    exit 1
fi
