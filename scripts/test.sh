#!/bin/sh
# Everything that must hold, in order, with a summary at the end. Goes on after a failed step, so that one run shows all of them;
# the exit status is 0 only if none failed.
set -u
cd "$(dirname "$0")/.."
JOBS=${JOBS:-$(scripts/jobs.sh)}
COVERAGE_LINES_MIN=${COVERAGE_LINES_MIN:-90}
# What random tests draw from: the same in each run, so that what fails is due to a change. Another number draws other cases.
DAMACY_TEST_SEED=${DAMACY_TEST_SEED:-20261123}
export JOBS DAMACY_TEST_SEED
# Whoever calls may have settings of their own.
export LC_ALL=C.UTF-8
umask 022
passed= failed= started=$(date +%s)

# step TITLE COMMAND...
step() {
    title=$1
    shift
    begin=$(date +%s)
    printf '\n======== %s\n' "$title"
    if "$@"; then
        passed="$passed, $title"
        printf '======== %s: ok (%d s)\n' "$title" $(($(date +%s) - begin))
    else
        failed="$failed, $title"
        printf '======== %s: FAILED (%d s)\n' "$title" $(($(date +%s) - begin))
        return 1
    fi
}

run_ctest() {
    $addresses ctest --test-dir "build/$1" -j "$JOBS" --output-on-failure --timeout 900 --no-tests=error
}

# Sanitizers of this age cannot place their shadow memory when the kernel randomises more than 28 bits of addresses.
addresses=
fix_addresses() {
    if [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28)" -gt 28 ] && setarch "$(uname -m)" -R true 2>/dev/null; then
        addresses="setarch $(uname -m) -R"
    fi
}

release() {
    scripts/build.sh release && run_ctest release
}

asan() {
    scripts/build.sh asan || return 1
    (
        fix_addresses
        export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:allocator_may_return_null=1
        export UBSAN_OPTIONS=print_stacktrace=1
        run_ctest asan
    )
}

tsan() {
    scripts/build.sh tsan || return 1
    (
        fix_addresses
        # die_after_fork=0: tests fork while threads run, and the child makes threads of its own.
        export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:die_after_fork=0:suppressions=$PWD/scripts/tsan_suppressions.txt
        run_ctest tsan
    )
}

coverage() {
    scripts/build.sh coverage || return 1
    find build/coverage -name '*.gcda' -delete
    run_ctest coverage || return 1
    .venv/bin/gcovr -r . --filter src/ build/coverage -j "$JOBS" --gcov-ignore-parse-errors=negative_hits.warn_once_per_file \
        --gcov-ignore-parse-errors=suspicious_hits.warn_once_per_file --merge-mode-functions=separate \
        --print-summary --sort uncovered-percent --fail-under-line "$COVERAGE_LINES_MIN" && return 0
    echo "line coverage of src/ must be at least $COVERAGE_LINES_MIN %"
    return 1
}

python_tests() {
    scripts/install_package.sh && .venv/bin/python -m pytest -q tests/python
}

lint() {
    scripts/build.sh --configure release && scripts/lint.sh
}

summary() {
    printf '\n======== summary (%d s)\n' $(($(date +%s) - started))
    [ -z "$passed" ] || echo "passed: ${passed#, }"
    if [ -n "$failed" ]; then
        echo "FAILED: ${failed#, }"
        exit 1
    fi
    echo "all passed"
    exit 0
}

step "setup" scripts/setup.sh test || summary
step "lint" lint
step "release build and tests" release
step "address and undefined-behaviour sanitizers" asan
step "thread sanitizer" tsan
step "line coverage" coverage
step "python" python_tests
summary
