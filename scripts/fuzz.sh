#!/bin/sh
# Run every fuzz target for FUZZ_SECONDS each, one after the other. New inputs go to build/fuzz/found/NAME; what crashed, to
# build/fuzz/crash-NAME-*. An argument names the only target to run.
set -eu
cd "$(dirname "$0")/.."
scripts/build.sh fuzz
status=0
for target in build/fuzz/fuzz_${1:-*}; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    name=${target##*/fuzz_}
    mkdir -p "build/fuzz/found/$name"
    printf '== fuzz %s, %s s\n' "$name" "${FUZZ_SECONDS:-60}"
    "$target" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/crash-$name-" "build/fuzz/found/$name" "fuzz/corpus/$name" 2>&1 | grep -v '^#' >build/fuzz/"$name".log &&
        grep -E 'number_of_executed_units|ERROR|SUMMARY' build/fuzz/"$name".log || status=1
    if grep -q -E 'ERROR|SUMMARY' build/fuzz/"$name".log; then
        cat build/fuzz/"$name".log
        status=1
    fi
done
exit $status
