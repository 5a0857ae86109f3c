#!/bin/sh
# Print how many things to do at once: the cores that this process may use, no more than a container's quota of CPU time allows, and a
# GiB of memory for each.
set -u
least() {
    [ "$1" -lt 1 ] || [ "$1" -ge "$jobs" ] || jobs=$1
}
jobs=$(nproc)

# Of the group that a container sees as its own; "max" or -1: no limit.
read -r quota period 2>/dev/null </sys/fs/cgroup/cpu.max || {
    quota=$(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || echo max)
    period=$(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null || echo 100000)
}
case $quota in max | -1 | '') ;; *) least $(((quota + period - 1) / period)) ;; esac

memory=$(awk '/^MemTotal:/ { print int($2 / 1048576 + 0.5) }' /proc/meminfo 2>/dev/null || echo 0)
least "${memory:-0}"
bytes=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || echo max)
# Version 1 writes "no limit" as a number with 19 digits.
case $bytes in max | '' | ???????????????*) ;; *) least $(((bytes + 1073741823) / 1073741824)) ;; esac
echo "$jobs"
