"""The benchmark, one command: `make bench`, or `python bench/run.py` with options for quick looks.

It needs Python 3.11 or newer with venv, a C compiler, cmake, libzstd, libblosc and libdeflate with headers. The first run makes an
environment (.venv-bench) from bench/requirements.txt and writes about 6 GB of data (data/bench); later runs use them again. A
whole run ends by writing bench/RESULTS.md; a run that was narrowed down by options only prints.

How it measures. Every reader is a process that lives as long as its scenario and does rounds on command
(bench/c/bench_common.h tells the commands), so that starting up does not count. Those that are compared to a few hundredths,
damacy's and the bare loop, are started anew every few rounds: where its pages happen to lie makes a process up to 4 % faster or
slower than its twin for as long as it lives. In each round all readers deliver the same
crops, one after the other and in shuffled order; a ratio is taken within a round, and what is reported is the median of these
ratios with its quartiles. Where others used more than a twentieth of the machine during one of the two runs of a pair, the pair
counts by CPU time instead of wall time. Before anything is timed, every reader's samples are checked against hashes of what
zarr-python reads.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import random
import select
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
PROJECT = BENCH.parent
PROGRAMS = PROJECT / "build" / "bench_programs"
sys.path.insert(0, str(BENCH))

from workload import SCENARIOS, Scenario, Workload, make_workload  # noqa: E402

from data import DATA_SETS, data_files, is_ready  # noqa: E402

BARE, BARE_OPEN, DAMACY_C, DAMACY_PY = "bare loop", "bare loop, opening", "damacy (C)", "damacy (Python)"
PEERS = ["tensorstore", "tensorstore-cache", "zarr-python", "zarr-fused", "zarrs", "zarrista", "z5py"]
READERS = [BARE, DAMACY_C, DAMACY_PY, *PEERS]
OPENERS = [DAMACY_C, DAMACY_PY, "tensorstore", "zarr-python"]  # those that describe arrays
TRUTH = "zarr-python"
CHECK_SAMPLES = 48
FIRST_SAMPLES = 16
FIRST_BLOCKS = 4  # of first batches, at most
DISTURBED = 0.05  # of the machine's time, used by others during a run
SLOW = 2.5  # a peer this many times slower than the best one does fewer and shorter rounds
RENEW_ROUNDS = 3  # after so many rounds, new processes for damacy and the bare loop
REPLY_SECONDS_MAX = 300

WARM, PARTIAL, OPENING = "warm, C / bare loop", "1 MiB chunks, C / bare loop", "opening 2,000 arrays, C / bare loop"
DESCRIBE = "describing 10,000 arrays, C / best peer"
PEER, PYTHON = "warm, C / best peer", "Python / C"
COLD, COLD_MEAN, BYTES = "cold, C / best peer", "cold, geometric mean of C / best peer", "cold, bytes read / needed"
FIRST, GROWTH = "first batch, ms", "resident growth beyond batch buffers, MB"
PROMISES = {  # the limit, and whether it is the least (True) or the most that is allowed
    WARM: (0.95, True),
    PARTIAL: (1.25, True),
    OPENING: (0.90, True),
    DESCRIBE: (1.0, True),
    PEER: (1.0, True),
    PYTHON: (0.97, True),
    COLD: (1.0, True),
    COLD_MEAN: (1.1, True),
    BYTES: (1.2, False),
    FIRST: (50.0, False),
    GROWTH: (64.0, False),
}


# --- Preparing ----------------------------------------------------------------------------------------------------------------


def run(command: list[Any], **options: Any) -> str:
    """Run a command; its output is shown only when it fails."""
    result: subprocess.CompletedProcess[str] = subprocess.run(
        [str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{result.stdout}")
    return result.stdout


def find_python() -> str:
    """The newest interpreter from 3.12 on, where the peers have their current versions; else the one that runs this."""
    candidates = []
    for minor in (13, 12):
        if found := shutil.which(f"python3.{minor}"):
            candidates.append(found)
        if pyenv := shutil.which("pyenv"):
            root = subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip()
            candidates += sorted(map(str, Path(root).glob(f"versions/3.{minor}.*/bin/python3.{minor}")), reverse=True)
    for candidate in candidates:
        if subprocess.run([candidate, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
            return candidate
    return sys.executable


def make_environment(folder: Path) -> Path:
    """A virtual environment with the peers; what has no wheel here is left out, and its readers are skipped."""
    python, requirements = folder / "bin" / "python", BENCH / "requirements.txt"
    stamp = folder / "bench-requirements.txt"
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return python
    print("installing the peers into a virtual environment", flush=True)
    if not python.exists():
        run([find_python(), "-m", "venv", folder])
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    try:
        run([*pip, "-r", requirements])
    except RuntimeError:
        for line in requirements.read_text().splitlines():
            if line and not line.startswith("#"):
                try:
                    run([*pip, line])
                except RuntimeError:
                    print(f"  {line}: not to be had for this Python")
    stamp.write_text(requirements.read_text())
    return python


def compile_c(source: str, target: Path, *options: Any) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    run(
        [
            compiler,
            "-std=gnu11",
            "-D_GNU_SOURCE",
            "-O3",
            "-march=native",
            "-Wall",
            "-Wextra",
            "-o",
            target,
            BENCH / "c" / source,
            *options,
        ]
    )
    return target


def build_damacy_c(folder: Path) -> Path:
    """The C library as users get it (no -march=native), and the program that drives it."""
    configure = ["cmake", "-S", PROJECT, "-B", folder, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DDAMACY_TESTS=OFF"]
    if shutil.which("ninja"):
        configure += ["-G", "Ninja"]
    run(configure)
    run(["cmake", "--build", folder, "--target", "damacy", "--parallel", str(os.cpu_count() or 1)])
    return compile_c(
        "bench_damacy.c",
        PROGRAMS / "bench_damacy",
        f"-I{PROJECT / 'include'}",
        f"-L{folder}",
        "-ldamacy",
        f"-Wl,-rpath,{folder}",
    )


def install_damacy_python(python: Path) -> None:
    """The package as users get it, built in a folder of its own beside other builds."""
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--force-reinstall", "--no-deps"]
    run([*pip, f"--config-settings=build-dir={PROJECT / 'build' / 'bench_python'}", PROJECT])


# --- Readers as processes -----------------------------------------------------------------------------------------------------


class ReaderFailed(Exception):
    """A reader said that it cannot, or died."""


def machine_busy_s() -> float:
    """Seconds of CPU that the machine has spent so far, all cores together, with what a hypervisor took."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, words[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Process:
    """A reader under way."""

    def __init__(self, name: str, command: list[Any], threads: int, log: Path) -> None:
        self.name = name
        cores = sorted(os.sched_getaffinity(0))
        pinned = set(cores[-threads:]) if threads < len(cores) else None
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            preexec_fn=(lambda: os.sched_setaffinity(0, pinned)) if pinned else None,
        )
        self.pending = b""
        self.version = str(self._reply().get("version", ""))

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        deadline = time.monotonic() + REPLY_SECONDS_MAX
        while b"\n" not in self.pending:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.process.kill()
                raise ReaderFailed(f"said nothing for {REPLY_SECONDS_MAX} s")
            got = os.read(self.process.stdout.fileno(), 1 << 16)
            if not got:
                lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
                raise ReaderFailed(f"ended with {self.process.wait()}: {lines[-1] if lines else 'no message'}")
            self.pending += got
        line, _, self.pending = self.pending.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ReaderFailed(reply["error"])
        return reply

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command and wait for its answer; adds `others`, the share of the machine that others used meanwhile."""
        assert self.process.stdin is not None
        busy, begin = machine_busy_s(), time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # the reply below says how it ended
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        reply = self._reply()
        if "cpu" in reply and "wall" in reply:
            elapsed = max(time.monotonic() - begin, 1e-9) * (os.cpu_count() or 1)
            reply["others"] = max(0.0, machine_busy_s() - busy - reply["cpu"]) / elapsed
        return reply

    def cpu_s(self) -> float:
        """Seconds of CPU that the process has spent so far, with its threads that have ended."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Plan:
    """How the readers are started."""

    python: Path | None
    bare_loop: Path
    bench_damacy: Path | None
    readers: list[str]
    logs: Path

    def command(self, name: str, workload: Workload, threads: int) -> list[Any] | None:
        """None if the reader is not there."""
        if name in (BARE, BARE_OPEN):
            return [self.bare_loop, workload.chunks_path, "--threads", threads]
        if name == DAMACY_C:
            chosen = threads if threads < len(os.sched_getaffinity(0)) else 0
            return [self.bench_damacy, workload.crops_path, "--threads", chosen] if self.bench_damacy else None
        if self.python is None:
            return None
        reader = "damacy-py" if name == DAMACY_PY else name
        return [self.python, BENCH / "readers.py", reader, workload.crops_path, "--threads", threads]

    def start(self, workload: Workload, threads: int, names: Iterable[str], problems: dict[str, str]) -> dict[str, Process]:
        started = {}
        for name in names:
            if command := self.command(name, workload, threads):
                try:
                    log = self.logs / f"{workload.scenario.name}-{threads}-{name.replace(' ', '_')}.log"
                    started[name] = Process(name, command, threads, log)
                except ReaderFailed as problem:
                    problems[name] = str(problem)
        return started


# --- Measuring ----------------------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """Everything measured of one scenario at one number of threads."""

    scenario: str
    threads: int
    chunks_a_sample: float
    warm: list[dict[str, dict[str, Any]]] = field(default_factory=list)  # a dict per round: reader -> reply
    cold: list[dict[str, dict[str, Any]]] = field(default_factory=list)
    first: dict[str, list[float]] = field(default_factory=dict)  # milliseconds
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def find_truth(plan: Plan, workload: Workload, folder: Path) -> list[str]:
    """Hashes of the first samples as zarr-python reads them, kept beside the workload."""
    path = folder / f"{workload.scenario.name}.truth"
    stamp = workload.folder / "stamp.json"
    if not path.exists() or path.stat().st_mtime < stamp.stat().st_mtime:
        problems: dict[str, str] = {}
        process = plan.start(workload, len(os.sched_getaffinity(0)), [TRUTH], problems).get(TRUTH)
        if process is None:
            raise RuntimeError(f"{TRUTH} must be there to tell what is right: {problems}")
        process.ask(f"check {CHECK_SAMPLES} {path}.new")
        process.close()
        os.replace(f"{path}.new", path)
    return path.read_text().split()


def check_readers(processes: dict[str, Process], truth: list[str], folder: Path, problems: dict[str, str]) -> None:
    """Every reader must deliver what zarr-python reads."""
    hashes = {}
    for name, process in processes.items():
        path = folder / f"hashes-{name.replace(' ', '_')}.txt"
        try:
            process.ask(f"check {CHECK_SAMPLES} {path}")
            hashes[name] = path.read_text().split()
        except ReaderFailed as problem:
            problems[name] = str(problem)
    for name, found in hashes.items():
        if found != truth or len(found) != CHECK_SAMPLES:
            wrong = sum(a != b for a, b in zip(found, truth)) + abs(len(truth) - len(found))
            problems[name] = f"WRONG: {wrong} of {len(truth)} samples differ from {TRUTH}"
    for name in problems:
        if name in processes:
            processes.pop(name).close()


def drop_cache(files: list[Path]) -> float:
    """Drop the files' pages; returns the share of files whose beginning is still cached."""
    kept = 0
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.preadv(handle, [bytearray(1)], 0, os.RWF_NOWAIT)
            kept += 1
        except OSError:
            pass  # EAGAIN: not cached, as wanted; a file system that does not support the question counts as dropped
        finally:
            os.close(handle)
    return kept / max(1, len(files))


def warm_cache(files: list[Path]) -> None:
    buffer = bytearray(4 << 20)
    for path in files:
        with path.open("rb", buffering=0) as handle:
            while handle.readinto(buffer):
                pass


def do_rounds(
    processes: dict[str, Process],
    rounds: int,
    command: Callable[[str, int], str],
    problems: dict[str, str],
    slow: Set[str] = frozenset(),
    prepare: Callable[[], None] = lambda: None,
    renew: Callable[[], None] = lambda: None,
) -> list[dict[str, dict[str, Any]]]:
    """`rounds` rounds of all readers in shuffled order; the slow ones do only the first three."""
    results: list[dict[str, dict[str, Any]]] = []
    order = random.Random(1)
    for index in range(rounds):
        if index and index % RENEW_ROUNDS == 0:
            renew()
        names = [name for name in processes if index < 3 or name not in slow]
        order.shuffle(names)
        found = {}
        for name in names:
            prepare()
            try:
                found[name] = processes[name].ask(command(name, index))
            except ReaderFailed as problem:
                problems[name] = str(problem)
                processes.pop(name).close()
        results.append(found)
    return results


def first_batches(process: Process, count: int) -> list[float]:
    """Milliseconds of `count` first batches. One is too short to tell whether others disturbed it, a block of them is not: where
    they did, another block is taken, and the least disturbed one counts."""
    least = math.inf
    chosen: list[float] = []
    for _ in range(FIRST_BLOCKS):
        busy, own, begin = machine_busy_s(), process.cpu_s(), time.monotonic()
        found = [1e3 * process.ask(f"first {FIRST_SAMPLES}")["wall"] for _ in range(count)]
        elapsed = max(time.monotonic() - begin, 1e-9) * (os.cpu_count() or 1)
        others = max(0.0, machine_busy_s() - busy - (process.cpu_s() - own)) / elapsed
        if others < least:
            least, chosen = others, found
        if least <= DISTURBED:
            break
    return chosen


def measure(
    plan: Plan,
    workload: Workload,
    files: list[Path],
    threads: int,
    rounds: int,
    cold_rounds: int,
    names: list[str],
    folder: Path,
) -> Result:
    scenario = workload.scenario
    result = Result(scenario.name, threads, workload.chunks_a_sample)
    warm_cache(files)
    if scenario.fresh or scenario.file_a_chunk:
        names = [BARE, BARE_OPEN, *names[1:]] if names[:1] == [BARE] else names
    if scenario.opens:
        names = [name for name in names if name in OPENERS]
    processes = plan.start(workload, threads, names, result.problems)
    try:
        check_readers(processes, find_truth(plan, workload, folder), folder, result.problems)
        result.versions = {name: process.version for name, process in processes.items()}

        few = min(scenario.round_samples, 160)
        (warm_up,) = do_rounds(processes, 1, lambda _name, _index: f"round 0 {few}", result.problems)
        best = min((reply["wall"] for name, reply in warm_up.items() if name in PEERS), default=0.0)
        slow = {name for name, reply in warm_up.items() if name in PEERS and reply["wall"] > SLOW * best}

        def warm_command(name: str, index: int) -> str:
            count = few if name in slow and not scenario.opens else scenario.round_samples
            fresh = name != BARE if scenario.fresh else name == BARE_OPEN
            kind = "open" if scenario.opens else "fresh" if fresh else "round"
            return f"{kind} {workload.slice_of(index, count)} {count}"

        def cold_command(_name: str, index: int) -> str:
            return f"round {workload.slice_of(index, scenario.cold_samples)} {scenario.cold_samples}"

        def renew() -> None:
            names = [name for name in (BARE, BARE_OPEN, DAMACY_C, DAMACY_PY) if name in processes]
            for name in names:
                processes.pop(name).close()
            new = plan.start(workload, threads, names, result.problems)
            do_rounds(new, 1, lambda _name, _index: f"round 0 {few}", result.problems)
            processes.update(new)

        result.warm = do_rounds(processes, rounds, warm_command, result.problems, slow, renew=renew)
        for name, process in processes.items():
            result.memory[name] = process.ask("memory")
        if cold_rounds and scenario.cold_samples:
            result.cold = do_rounds(
                processes, cold_rounds, cold_command, result.problems, slow, lambda: note_kept(drop_cache(files))
            )
            if workload.scenario.data_set.codec == "none":
                for index, found in enumerate(result.cold):
                    begin = workload.slice_of(index, scenario.cold_samples)
                    found.get(DAMACY_C, {})["page_bytes"] = workload.page_bytes(begin, scenario.cold_samples)
            warm_cache(files)
            for name, process in processes.items():
                if name not in (BARE, BARE_OPEN):
                    try:
                        result.first[name] = first_batches(process, min(rounds, 9))
                    except ReaderFailed as problem:
                        result.problems[f"{name}, first batch"] = str(problem)
    finally:
        for process in processes.values():
            process.close()
    return result


KEPT: list[float] = []  # shares of files that stayed cached although they were dropped


def note_kept(share: float) -> None:
    KEPT.append(share)


# --- Reporting ----------------------------------------------------------------------------------------------------------------


@dataclass
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float
    count: int
    by_cpu: int = 0  # pairs that counted by CPU time

    @classmethod
    def of(cls, values: list[float], by_cpu: int = 0) -> Spread | None:
        if not values:
            return None
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(middle, low, high, len(values), by_cpu)

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def speed(rounds: list[dict[str, dict[str, Any]]], name: str) -> float | None:
    """Median samples per second of wall time."""
    values = [r[name]["samples"] / r[name]["wall"] for r in rounds if name in r]
    return statistics.median(values) if values else None


def ratio(rounds: list[dict[str, dict[str, Any]]], name: str, other: str, by: str = "both") -> Spread | None:
    """How many times as fast `name` is as `other`, paired by round. `by` is wall, cpu or both (CPU for disturbed pairs)."""
    values, by_cpu = [], 0
    for found in rounds:
        if name in found and other in found:
            disturbed = max(found[name].get("others", 0), found[other].get("others", 0)) > DISTURBED
            clock = ("cpu" if disturbed else "wall") if by == "both" else by
            by_cpu += clock == "cpu"
            a, b = found[name], found[other]
            values.append((b[clock] / b["samples"]) / (a[clock] / a["samples"]))
    return Spread.of(values, by_cpu)


def best_peer(rounds: list[dict[str, dict[str, Any]]]) -> str | None:
    speeds = {name: speed(rounds, name) or 0.0 for name in PEERS}
    name = max(speeds, key=lambda n: speeds[n])
    return name if speeds[name] > 0 else None


def total(rounds: list[dict[str, dict[str, Any]]], name: str, key: str) -> float:
    return float(sum(found[name].get(key, 0) for found in rounds if name in found))


def amplification(rounds: list[dict[str, dict[str, Any]]]) -> float | None:
    """Bytes read over bytes needed by damacy (C).

    Chunks with a codec are needed whole, so single bytes are counted. Of an uncompressed chunk only the rows of a crop are needed, and
    there the unit is the page of 4 KiB, in which devices and the page cache hold data: needed are the pages that hold an element of a
    crop (each once a batch, as everywhere), read is what the kernel says came from the device, its readahead included, and without what
    an earlier batch of the round had left in the page cache, some 3 %. In single bytes the rows of crops of the 128 KiB chunks
    are 0.54 of their pages, so whatever reads no page in vain reads 1.85 times the bytes."""
    pages, device = total(rounds, DAMACY_C, "page_bytes"), total(rounds, DAMACY_C, "device_bytes")
    if pages and device:
        return device / pages
    needed = total(rounds, DAMACY_C, "needed_bytes")
    return total(rounds, DAMACY_C, "read_bytes") / needed if needed else None


def yardstick(scenario: str) -> str:
    """The bare loop that does the same work: one that opens the files it reads, where each chunk is a file of its own."""
    return BARE_OPEN if SCENARIOS[scenario].file_a_chunk else BARE


def overhead(result: Result) -> tuple[float, float, float, float] | None:
    """Microseconds over the bare loop: wall clock times threads, and CPU time; each per sample and chunk."""
    wall, cpu, bare = [], [], yardstick(result.scenario)
    for found in result.warm:
        if bare in found and DAMACY_C in found:
            ours, theirs = found[DAMACY_C], found[bare]
            wall.append(1e6 * result.threads * (ours["wall"] - theirs["wall"]) / ours["samples"])
            cpu.append(1e6 * (ours["cpu"] - theirs["cpu"]) / ours["samples"])
    if not wall:
        return None
    a, b = statistics.median(wall), statistics.median(cpu)
    return a, a / result.chunks_a_sample, b, b / result.chunks_a_sample


def threads_text(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join("-" if cell is None else str(cell) for cell in line) + " |" for line in lines) + "\n"


def number(value: float | None, digits: int = 0) -> str | None:
    return None if value is None else f"{value:,.{digits}f}"


def targets(results: list[Result]) -> list[list[Any]]:
    """What damacy promises, with the worst that was found of each: rows of promise, found, where, met or not."""
    found: dict[str, list[tuple[float, str]]] = {}

    def note(promise: str, value: float | Spread | None, where: str) -> None:
        if value is not None:
            found.setdefault(promise, []).append((value.median if isinstance(value, Spread) else value, where))

    full = max((r.threads for r in results), default=1)
    gains: list[float] = []
    for r in results:
        where = f"{r.scenario}, {threads_text(r.threads)}"
        if SCENARIOS[r.scenario].opens:
            peer = best_peer(r.warm)
            note(DESCRIBE, ratio(r.warm, DAMACY_C, peer) if peer else None, f"{where}, {peer}")
            continue
        scenario, bare, peer = SCENARIOS[r.scenario], ratio(r.warm, DAMACY_C, yardstick(r.scenario)), best_peer(r.warm)
        if scenario.fresh:  # against the loop that does the same work: it opens and closes its files inside the run, too
            note(OPENING, ratio(r.warm, DAMACY_C, BARE_OPEN), where)
        elif scenario.whole_chunks:
            note(PARTIAL, bare, where)
        else:
            note(WARM, bare, where)
        if r.threads != full:
            continue
        note(PEER, ratio(r.warm, DAMACY_C, peer) if peer else None, f"{where}, {peer}")
        note(PYTHON, ratio(r.warm, DAMACY_PY, DAMACY_C), where)
        if r.cold and (peer := best_peer(r.cold)):
            gain = ratio(r.cold, DAMACY_C, peer, "wall")
            note(COLD, gain, f"{where}, {peer}")
            gains += [gain.median] if gain else []
        note(BYTES, amplification(r.cold), where)
        if DAMACY_C in r.first:
            note(FIRST, statistics.median(r.first[DAMACY_C]), where)
        if DAMACY_C in r.memory:
            memory = r.memory[DAMACY_C]
            note(GROWTH, (memory["peak"] - memory["base"] - memory["batch_buffers"]) / 1e6, where)
    if gains:
        note(COLD_MEAN, math.exp(statistics.fmean(map(math.log, gains))), f"{len(gains)} scenarios")
    rows = []
    for promise, (limit, least) in PROMISES.items():
        if values := found.get(promise):
            value, where = min(values) if least else max(values)
            met = value >= limit if least else value <= limit
            rows.append(
                [f"{promise} {'at least' if least else 'at most'} {limit:g}", f"{value:.2f}", where, "yes" if met else "NO"]
            )
    return rows


def report(results: list[Result], facts: dict[str, str]) -> str:
    out: list[str] = []
    title = {scenario.name: scenario.title for scenario in SCENARIOS.values()}
    full = max((r.threads for r in results), default=1)
    steady = [r for r in results if not SCENARIOS[r.scenario].fresh and not SCENARIOS[r.scenario].opens]
    whole = [r for r in steady if r.threads == full]

    out.append(
        "Ratios are medians over paired rounds, with quartiles in brackets; above 1 damacy is faster. A pair that others "
        'disturbed counts by CPU time; "by CPU" says how many of the pairs those were.\n'
    )

    if rows := targets(results):
        out.append("## Targets, each at its worst\n")
        out.append(table(["target", "found", "where", "met"], rows))

    out.append("## Warm: samples per second\n")
    present = [name for name in READERS if any(name in found for r in whole for found in r.warm)]
    out.append(
        table(["data", *present], [[title[r.scenario], *(number(speed(r.warm, name)) for name in present)] for r in whole])
    )

    out.append("## Warm: damacy against the bare loop\n")
    if any(SCENARIOS[r.scenario].file_a_chunk for r in steady):
        out.append(
            "Where every chunk is a file, any reader has to open as many as it reads, so there the yardstick is the bare loop that does: "
            "it opens each file once a round and closes it, where damacy keeps as many open as its limit allows. The last column has the "
            "loop whose thousands of files are open before the clock starts.\n"
        )
    rows = []
    for r in sorted(steady, key=lambda r: (-r.threads, list(SCENARIOS).index(r.scenario))):
        bare = yardstick(r.scenario)
        settled = ratio(r.warm, DAMACY_C, bare)
        rows.append(
            [
                title[r.scenario],
                r.threads,
                settled,
                ratio(r.warm, DAMACY_C, bare, "wall"),
                ratio(r.warm, DAMACY_C, bare, "cpu"),
                f"{settled.by_cpu} of {settled.count}" if settled else None,
                ratio(r.warm, DAMACY_C, BARE) if bare != BARE else None,
            ]
        )
    out.append(table(["data", "threads", "ratio", "by wall time", "by CPU time", "by CPU", "files open beforehand"], rows))

    out.append("## Warm: damacy against the best peer, and Python against C\n")
    rows = []
    for r in whole:
        peer = best_peer(r.warm)
        rows.append(
            [
                title[r.scenario],
                peer,
                ratio(r.warm, DAMACY_C, peer) if peer else None,
                ratio(r.warm, DAMACY_PY, peer) if peer else None,
                ratio(r.warm, DAMACY_PY, DAMACY_C),
            ]
        )
    out.append(table(["data", "best peer", "C / best peer", "Python / best peer", "Python / C"], rows))

    out.append("## Overhead over the bare loop, microseconds\n")
    rows = []
    for r in whole:
        if found := overhead(r):
            rows.append([title[r.scenario], *(number(value, 1) for value in found), number(r.chunks_a_sample, 1)])
    out.append(table(["data", "core time a sample", "a chunk", "CPU time a sample", "a chunk", "chunks a sample"], rows))

    opening = [r for r in results if SCENARIOS[r.scenario].fresh]
    if opening:
        out.append("## Opening 2,000 arrays inside the run\n")
        out.append(
            "Everything is made anew, and each array is met once. The bare loop has its list of chunks either way; "
            "it has the files open beforehand, or opens and closes them inside the run.\n"
        )
        for r in opening:
            present = [name for name in [BARE, BARE_OPEN, *READERS[1:]] if any(name in found for found in r.warm)]
            out.append(
                table(
                    ["", *present],
                    [
                        ["samples per second", *(number(speed(r.warm, name)) for name in present)],
                        [
                            "damacy (C) against it",
                            *(None if name == DAMACY_C else ratio(r.warm, DAMACY_C, name) for name in present),
                        ],
                    ],
                )
            )

    described = [r for r in results if SCENARIOS[r.scenario].opens]
    if described:
        out.append("## Describing 10,000 arrays: metadata only, each array opened anew\n")
        out.append(
            "damacy.open(), from as many threads as there are cores; tensorstore with all opens under way at once; zarr-python through "
            "its asynchronous interface, all at once, too.\n"
        )
        for r in described:
            present = [name for name in OPENERS if any(name in found for found in r.warm)]
            against = [None if name == DAMACY_C else ratio(r.warm, DAMACY_C, name) for name in present]
            speeds = ["arrays per second", *(number(speed(r.warm, name)) for name in present)]
            out.append(table(["", *present], [speeds, ["damacy (C) against it", *against]]))

    cold = [r for r in whole if r.cold]
    if cold:
        out.append("## Cold: the data's page cache dropped before each run\n")
        present = [name for name in READERS if any(name in found for r in cold for found in r.cold)]
        rows, gains = [], []
        for r in cold:
            peer = best_peer(r.cold)
            gain = ratio(r.cold, DAMACY_C, peer, "wall") if peer else None
            if gain:
                gains.append(gain.median)
            rows.append(
                [
                    title[r.scenario],
                    *(number(speed(r.cold, name)) for name in present),
                    peer,
                    gain,
                    number(amplification(r.cold), 2),
                ]
            )
        out.append(
            table(["data, samples per second", *present, "best peer", "damacy (C) / best peer", "bytes read / needed"], rows)
        )
        if gains:
            mean = math.exp(statistics.fmean(map(math.log, gains)))
            kept = 100 * statistics.fmean(KEPT or [0])
            out.append(
                f"Geometric mean of damacy (C) / best peer: {mean:.2f}. Files still cached after dropping: {kept:.1f} %.\n"
            )
        out.append(
            "Bytes read / needed: of uncompressed chunks in pages of 4 KiB, the unit of devices and page cache: pages that came from the "
            "device over pages that hold an element of a crop. In single bytes those pages alone are 1.85 times what crops need.\n"
        )

    firsts = [r for r in whole if r.first]
    if firsts:
        present = [name for name in READERS if any(name in r.first for r in firsts)]
        out.append(f"## First batch: milliseconds from creating the reader to {FIRST_SAMPLES} samples\n")
        out.append(
            table(
                ["data", *present],
                [
                    [
                        title[r.scenario],
                        *(number(statistics.median(r.first[name]), 1) if name in r.first else None for name in present),
                    ]
                    for r in firsts
                ],
            )
        )
    grown = [r for r in whole if r.memory]
    if grown:
        present = [name for name in READERS if any(name in r.memory for r in grown)]
        out.append("## Resident growth from before the reader was created, at most, MB\n")
        rows = []
        for r in grown:
            grown_mb = {name: (r.memory[name]["peak"] - r.memory[name]["base"]) / 1e6 for name in r.memory}
            buffers = r.memory.get(DAMACY_C, {}).get("batch_buffers")
            beyond = grown_mb[DAMACY_C] - buffers / 1e6 if buffers is not None else None
            rows.append(
                [
                    title[r.scenario],
                    *(number(grown_mb.get(name)) for name in present),
                    number(buffers / 1e6 if buffers is not None else None),
                    number(beyond),
                ]
            )
        out.append(table(["data", *present, "damacy (C): its batch buffers", "the rest"], rows))

    problems = sorted({(r.scenario, name, text) for r in results for name, text in r.problems.items()})
    if problems:
        out.append("## Readers that did not run\n")
        out.append(table(["data", "reader", "why"], [list(problem) for problem in problems]))
    out.append("## Machine, versions, command\n")
    versions: dict[str, str] = {}
    for r in results:
        versions.update(r.versions)
    out.append(table(["what", "which"], [*map(list, facts.items()), *([name, text] for name, text in versions.items())]))
    return "\n".join(out)


def machine_facts(plan: Plan, arguments: list[str]) -> dict[str, str]:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    memory = next(
        int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
    )
    compiler = run([os.environ.get("CC", "cc"), "--version"]).splitlines()[0]
    commit = subprocess.run(
        ["git", "-C", PROJECT, "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    python = run([plan.python, "-c", "import platform; print(platform.python_version())"]).strip() if plan.python else "none"
    return {
        "command": "python bench/run.py " + " ".join(arguments) if arguments else "make bench",
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit or "?",
        "processor": f"{cpu}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "compiler": compiler,
        "Python of the readers": python,
    }


def progress(result: Result) -> None:
    """One line on what came out."""
    parts = []
    for name in [BARE, BARE_OPEN, *READERS[1:]]:
        if value := speed(result.warm, name):
            parts.append(f"{name} {value:,.0f}")
    settled = ratio(result.warm, DAMACY_C, yardstick(result.scenario))
    print(f"  {', '.join(parts)}" + (f"; damacy/bare {settled}" if settled else ""), flush=True)
    for name, text in result.problems.items():
        print(f"  {name}: {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure damacy beside the bare loop and its peers.")
    parser.add_argument("--rounds", type=int, default=15, help="paired rounds per scenario (15)")
    parser.add_argument("--cold-rounds", type=int, help="rounds with a cold page cache (as many as --rounds; 0 for none)")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only this one (may be given again)")
    parser.add_argument(
        "--threads",
        action="append",
        type=int,
        help="this many threads (may be given again); default: all cores, and 1 for the C readers",
    )
    parser.add_argument("--readers", help="comma-separated, of: " + ", ".join(READERS))
    parser.add_argument("--data", type=Path, default=PROJECT / "data" / "bench", help="folder of the data sets")
    parser.add_argument("--no-build", action="store_true", help="take what is built already")
    parser.add_argument("--output", type=Path, help="write the report there, also for a narrowed run")
    args = parser.parse_args()
    begin = time.monotonic()
    cores = len(os.sched_getaffinity(0))
    cold_rounds = args.rounds if args.cold_rounds is None else args.cold_rounds
    names = [name.strip() for name in args.readers.split(",")] if args.readers else READERS
    if unknown := set(names) - set(READERS):
        parser.error(f"no such reader: {', '.join(sorted(unknown))}")
    chosen: list[Scenario] = [SCENARIOS[name] for name in args.scenario or SCENARIOS]
    narrowed = bool(args.scenario or args.threads or args.readers or args.rounds < 15 or cold_rounds < args.rounds)

    python = make_environment(PROJECT / ".venv-bench")
    folder = PROJECT / "build" / "bench"
    plan = Plan(python, PROGRAMS / "bare_loop", PROGRAMS / "bench_damacy", names, args.data / "work" / "logs")
    if not args.no_build:
        print("building", flush=True)
        compile_c("bare_loop.c", plan.bare_loop, "-lzstd", "-lblosc", "-ldeflate", "-lpthread")
        for name, step in ((DAMACY_C, lambda: build_damacy_c(folder)), (DAMACY_PY, lambda: install_damacy_python(python))):
            if name in names:
                try:
                    step()
                except RuntimeError as problem:
                    print(f"  {name} cannot be built: {problem}", file=sys.stderr)
                    names = [n for n in names if n != name]
    missing = {scenario.data for scenario in chosen if not is_ready(args.data, DATA_SETS[scenario.data])}
    if missing:
        command = [
            python,
            BENCH / "data.py",
            "--root",
            args.data,
            *(word for name in sorted(missing) for word in ("--set", name)),
        ]
        subprocess.run([str(word) for word in command], check=True)

    results: list[Result] = []
    for scenario in chosen:
        workload = make_workload(args.data, args.data / "work", scenario, args.rounds)
        files = data_files(args.data, scenario.data_set)
        for threads in args.threads or sorted({cores, 1}, reverse=True):
            # At fewer threads than cores the question is whether damacy keeps its ratio; the peers answered theirs already.
            everyone = bool(args.threads or args.readers) or threads == cores
            if not everyone and (scenario.fresh or scenario.opens):
                continue
            readers = names if everyone else [name for name in names if name in (BARE, DAMACY_C, "tensorstore")]
            print(f"{scenario.title}, {threads_text(threads)}", flush=True)
            result = measure(
                plan, workload, files, threads, args.rounds, cold_rounds if everyone else 0, readers, args.data / "work"
            )
            progress(result)
            results.append(result)
    text = report(results, machine_facts(plan, sys.argv[1:]))
    (args.data / "work" / "results.json").write_text(json.dumps([vars(r) for r in results], indent=1))
    heading = "# Benchmark results\n\nWritten by `make bench`; bench/run.py says how it measures, bench/workload.py what.\n\n"
    heading += "Over a network: [RESULTS-remote.md](RESULTS-remote.md), by `make bench-remote`; on a GPU: [RESULTS-gpu.md](RESULTS-gpu.md), by "
    heading += "`bench/gpu/run_gpu.py`;\nover many threads: [RESULTS-scaling.md](RESULTS-scaling.md), by `bench/scaling.py`.\n\n"
    target = args.output or (None if narrowed else BENCH / "RESULTS.md")
    if target:
        target.write_text(heading + text)
    print(text)
    print(f"took {(time.monotonic() - begin) / 60:.1f} minutes" + (f"; written to {target.name}" if target else ""))
    wrong = [text for r in results for text in r.problems.values() if text.startswith("WRONG")]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
