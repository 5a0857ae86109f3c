"""damacy's CPU backend beside the bare loop at 1, 2, 4, ... threads, warm: does the ratio hold on a machine with many cores?

    python bench/scaling.py --threads 1,2,4,8,16 --rounds 15 --output bench/RESULTS-scaling.md

Data, crops, programs and the way of pairing rounds are those of bench/run.py; only the thread count varies. CFLAGS and LDFLAGS of the
environment are used to compile the bare loop; --damacy names a bench_damacy that was built elsewhere, --bare a bare_loop, so that it
also runs on a machine that has no development packages.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH))

from data import DATA_SETS, is_ready, write_sets  # noqa: E402
from workload import SCENARIOS, make_workload  # noqa: E402

ROUND_SECONDS = 0.15  # long enough that starting a round does not count, short enough for many of them
PROCESS_ROUNDS = 3  # then both programs start anew: where a process's pages come to lie moves its speed by several percent


class Reader:
    """One of the two programs, doing rounds on command."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def round(self, first: int, count: int) -> dict[str, float]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"round {first} {count}\n")
        self.process.stdin.flush()
        while line := self.process.stdout.readline():
            answer: dict[str, float] = json.loads(line)
            if "cpu" in answer:
                return answer
        raise RuntimeError(f"{self.process.args} ended")

    def close(self) -> None:
        self.process.communicate("quit\n")


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def measure(commands: dict[str, list[str]], crops: int, rounds: int) -> tuple[str, str, float, float]:
    """Median and quartiles of bare/damacy by wall and by CPU time, and both speeds in samples per second."""
    wall: dict[str, list[float]] = {"bare": [], "damacy": []}
    cpu: dict[str, list[float]] = {"bare": [], "damacy": []}
    count, slices = 0, 1
    for first in range(0, rounds, PROCESS_ROUNDS):
        readers = {name: Reader(commands[name]) for name in commands}
        try:
            if not count:
                speed = max(reader.round(0, 64) and 64 / reader.round(0, 64)["wall"] for reader in readers.values())
                count = max(64, min(crops, int(speed * ROUND_SECONDS)) // 8 * 8)
                slices = max(1, crops // count)
            for number in range(first - 1, min(first + PROCESS_ROUNDS, rounds)):  # the first one warms caches and buffers
                for name in random.sample(list(readers), 2):
                    answer = readers[name].round(number % slices * count, count)
                    if number >= first:
                        wall[name].append(answer["wall"])
                        cpu[name].append(answer["cpu"])
        finally:
            for reader in readers.values():
                reader.close()
    by_wall = [a / b for a, b in zip(wall["bare"], wall["damacy"], strict=True)]
    by_cpu = [a / b for a, b in zip(cpu["bare"], cpu["damacy"], strict=True)]
    return (
        quartiles(by_wall),
        quartiles(by_cpu),
        count / statistics.median(wall["bare"]),
        count / statistics.median(wall["damacy"]),
    )


def compile_bare(program: Path) -> Path:
    """The yardstick, for this machine's processor."""
    flags, libraries = os.environ.get("CFLAGS", "").split(), os.environ.get("LDFLAGS", "").split()
    command = ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O3", "-march=native", *flags, "-o", str(program), str(BENCH / "c" / "bare_loop.c")]
    subprocess.run([*command, *libraries, "-lzstd", "-lblosc", "-ldeflate", "-lpthread", "-lm"], check=True)
    return program


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2", help="comma-separated")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scenario", action="append", help="only this one (may be given again)")
    parser.add_argument("--data", type=Path, default=BENCH.parent / "data" / "bench")
    parser.add_argument("--damacy", type=Path, required=True, help="bench_damacy; bench/run.py builds one in build/bench")
    parser.add_argument("--bare", type=Path, help="bare_loop, if it was built elsewhere, too")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    names = options.scenario or [name for name, scenario in SCENARIOS.items() if not scenario.fresh and not scenario.opens]
    missing = [
        DATA_SETS[name]
        for name in sorted({SCENARIOS[name].data for name in names})
        if not is_ready(options.data, DATA_SETS[name])
    ]
    if missing:
        write_sets(options.data, missing)
    work = options.data / "work"
    work.mkdir(parents=True, exist_ok=True)
    bare = options.bare or compile_bare(work / "bare_loop")

    lines = [
        "| data | threads | bare loop, samples/s | damacy, samples/s | ratio by wall time | by CPU time |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    for name in names:
        workload = make_workload(options.data, work, SCENARIOS[name], 4)
        for threads in options.threads.split(","):
            loop = [str(bare), str(workload.chunks_path), "--threads", threads]
            reader = [str(options.damacy), str(workload.crops_path), "--threads", threads]
            wall, cpu, bare_speed, damacy_speed = measure({"bare": loop, "damacy": reader}, len(workload.crops), options.rounds)
            line = f"| {SCENARIOS[name].title} | {threads} | {bare_speed:,.0f} | {damacy_speed:,.0f} | {wall} | {cpu} |"
            lines.append(line)
            print(line, flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
