"""The benchmark over a network, one command: `make bench-remote`, or `python bench/remote/run_remote.py` with options for quick looks.

nginx serves the benchmark's arrays as S3 does to anonymous readers (path style), and bench/remote/latency_proxy.c in front of it holds
every request back: log-normal around a median of 0, 20 or 100 ms, with 1 % of the requests ten times as long. Client, proxy and server share
this machine; nginx and the proxy take about 100 us of CPU a request of 100 KB, which SeaweedFS would not. There is one of each for every four
cores, and all proxies listen on the same port, so that no reader waits for a single core of a server. Every reader is a process that does rounds
on command; in each round all readers deliver the same crops, one after the other in shuffled order, with the same number of batches under
way. Before that every reader's samples are compared with what the others read. The proxies count requests and bytes. Readers that are many
times slower than the fastest one sit out after two rounds.

The same, with damacy twice, for samples that are whole arrays of one small shard each: once as it is, once with `index_ahead_bytes_max` 0.

Then, without latency and proxy: damacy against a bare loop over libcurl's multi interface on the very ranges that damacy asked for; and damacy
alone over latencies from 0 to 200 ms. A whole run writes bench/RESULTS-remote.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import select
import statistics
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(PROJECT / "tests" / "support")]

from run import install_damacy_python, make_environment, run  # noqa: E402
from servers import Nginx, end_with_parent, take_ports  # noqa: E402
from workload import REMOTE_SCENARIOS, SCENARIOS, make_workload, write_chunks  # noqa: E402

PEERS = ["tensorstore", "zarr+obstore", "zarr+fsspec"]
READERS = ["damacy", *PEERS]
ALONE = "damacy, index alone"  # as damacy, with these options
ALONE_OPTIONS = {"index_ahead_bytes_max": 0}
TAIL, FACTOR = 0.01, 10
CURVE_AHEAD = 16  # batches under way: 128 samples, which at 200 ms allows 640 samples/s
REPLY_SECONDS = 240


class Child:
    """A process that answers lines with lines of JSON."""

    def __init__(self, command: list[Any], log: Path, **variables: str) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        environment = os.environ | {"AWS_EC2_METADATA_DISABLED": "true"} | variables
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            preexec_fn=end_with_parent,
            env=environment,
        )
        self.pending = b""
        self.first = self.reply()

    def reply(self) -> dict[str, Any]:
        assert self.process.stdout
        deadline = time.monotonic() + REPLY_SECONDS
        while b"\n" not in self.pending:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            got = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            if not got:
                self.process.kill()
                lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
                return {"error": f"ended: {lines[-1][:300] if lines else 'no message'}" if ready else "no answer in time"}
            self.pending += got
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)

    def ask(self, command: str) -> dict[str, Any]:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        return self.reply()

    def close(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cpu_seconds(pid: int) -> float:
    """Of a process with one thread; 0 where the kernel does not say."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


class Proxies:
    """One for each server, all on the same port; the kernel deals connections out."""

    def __init__(self, servers: list[Nginx]) -> None:
        self.children: list[Child] = []
        self.servers = servers

    def ask(self, command: str) -> dict[str, Any]:
        answers = [child.ask(command) for child in self.children]
        total = {key: sum(answer[key] for answer in answers) for key in answers[0]}
        pids = [child.process.pid for child in self.children] + [server.process.pid for server in self.servers if server.process]
        return total | {"cpu": sum(map(cpu_seconds, pids))}


class Setup:
    """Programs, data and servers."""

    libraries = ""  # where damacy finds its own; "" this machine's

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.root = PROJECT / "data" / "bench"
        self.work = self.root / "work-remote"
        if args.carry:
            self.unpack(args.carry.resolve())
            return
        self.python = make_environment(PROJECT / ".venv-bench")
        stamp, wanted = PROJECT / ".venv-bench" / "remote.txt", HERE / "requirements_remote.txt"
        if not stamp.exists() or stamp.read_text() != wanted.read_text():
            run([self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:", "-r", wanted])
            stamp.write_text(wanted.read_text())
        if not args.no_install:
            install_damacy_python(self.python)
        self.programs = PROJECT / "build" / "bench_programs"
        self.programs.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        for name, libraries in (("latency_proxy", ["-lm"]), ("range_loop", ["-lcurl"])):
            run([compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-o", self.programs / name, HERE / f"{name}.c", *libraries])

    def unpack(self, carry: Path) -> None:
        """What bench/remote/carry_remote.sh put together: nothing is built or installed, numpy and tensorstore are this Python's."""
        site = PROJECT / "build" / "remote-bench" / "site"
        for wheel in sorted((carry / "wheels").glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
        os.environ["PYTHONPATH"] = str(site)
        os.environ["PATH"] = f"{carry / 'bin'}:{os.environ['PATH']}"
        self.libraries = str(carry / "lib")
        self.python, self.programs = Path(sys.executable), carry / "bin"

    def workload(self, name: str) -> Any:
        scenario = (SCENARIOS | REMOTE_SCENARIOS)[name]
        if not (self.root / scenario.data).exists():
            run([self.python, HERE.parent / "data.py", "--root", self.root, "--set", scenario.data])
        return make_workload(self.root, self.work, scenario, 16)

    def reader(self, name: str, workload: Any, endpoint: str, label: str, ahead: int = 0) -> Child:
        log = self.work / "logs" / f"{label}-{name.replace('+', '_').replace(', ', '_').replace(' ', '_')}.log"
        kind = "damacy" if name == ALONE else name
        command = [self.python, HERE / "remote_readers.py", kind, workload.crops_path, workload.scenario.data, endpoint]
        variables = {"LD_LIBRARY_PATH": self.libraries} if self.libraries and kind == "damacy" else {}
        if name == ALONE:
            options = json.loads(os.environ.get("DAMACY_BENCH_OPTIONS", "{}")) | ALONE_OPTIONS
            variables["DAMACY_BENCH_OPTIONS"] = json.dumps(options)
        return Child([*command, "--ahead", ahead or self.args.ahead], log, **variables)

    @contextlib.contextmanager
    def servers(self):
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(Nginx(self.root)) for _ in range(self.args.servers)]

    @contextlib.contextmanager
    def proxy(self, servers: list[Nginx], median_ms: float, tail: float):
        (listen,) = take_ports(1)
        proxies = Proxies(servers)
        try:
            for index, server in enumerate(servers):
                command = [self.programs / "latency_proxy", listen, server.http, median_ms, tail, FACTOR, index + 1]
                proxies.children.append(Child(command, self.work / "logs" / f"proxy-{index}.log"))
            yield proxies, f"http://127.0.0.1:{listen}"
        finally:
            for child in proxies.children:
                child.close()


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def hedges_of(stats: Any) -> int:
    """All members called hedges, wherever they are."""
    if isinstance(stats, dict):
        return sum(value if key == "hedges" and isinstance(value, int) else hedges_of(value) for key, value in stats.items())
    return sum(map(hedges_of, stats)) if isinstance(stats, list) else 0


def sits_out(rounds: list[dict[str, Any]], others: list[list[dict[str, Any]]]) -> bool:
    """Two rounds tell enough of a reader that takes more than four times as long as the fastest one."""
    times = [statistics.median(r["wall"] for r in rows) for rows in others if rows]
    return len(rounds) >= 2 and statistics.median(r["wall"] for r in rounds) > 4 * min(times)


def compare(setup: Setup, workload: Any, servers: list[Nginx], median_ms: float, names: list[str]) -> dict[str, dict[str, Any]]:
    """Rounds of all readers at one latency."""
    args, found, order = setup.args, {name: [] for name in names}, random.Random(1)
    problems: dict[str, str] = {}
    with setup.proxy(servers, median_ms, TAIL) as (proxy, endpoint):
        children = {}
        for name in names:
            child = setup.reader(name, workload, endpoint, f"{median_ms:g}")
            children[name] = child
            if "error" in child.first:
                problems[name] = child.first["error"]
        try:
            hashes = {name: child.ask("check 16") for name, child in children.items() if name not in problems}
            for name, answer in hashes.items():
                if "error" in answer:
                    problems[name] = answer["error"]
            rows = {name: answer["hashes"] for name, answer in hashes.items() if "hashes" in answer}
            judge = "tensorstore" if "tensorstore" in rows else next(iter(rows), "")
            for name, row in rows.items():
                if row != rows[judge]:
                    problems[name] = f"WRONG: other samples than {judge}"
            count = args.samples if median_ms < 50 else args.samples // 2
            hedged = dict.fromkeys(names, 0)
            begin = time.monotonic()
            for index in range(args.rounds):
                if args.seconds and index >= 2 and time.monotonic() - begin > args.seconds:
                    break
                ready = [name for name in names if name not in problems and not sits_out(found[name], list(found.values()))]
                order.shuffle(ready)
                for name in ready:
                    before = proxy.ask("reset")["cpu"]
                    answer = children[name].ask(f"round {workload.slice_of(index + 1, count)} {count}")
                    if "error" in answer:
                        problems[name] = answer["error"]
                        continue
                    answer["proxy"], answer["index"] = proxy.ask("stats"), index
                    answer["served"] = answer["proxy"]["cpu"] - before
                    if "stats" in answer:
                        total = hedges_of(answer.pop("stats"))
                        answer["hedges"] = total - hedged[name]
                        hedged[name] = total
                    found[name].append(answer)
                    print(f"  {median_ms:g} ms {name}: {count / answer['wall']:.1f} samples/s", flush=True)
        finally:
            for child in children.values():
                child.close()
    needed: dict[int, float] = {}  # stored bytes of the chunks that a round's very crops touch, each once a batch
    for index in {r["index"] for rounds in found.values() for r in rounds}:
        first = workload.slice_of(index + 1, count)
        part = workload.crops[first : first + count]
        needed[index] = write_chunks(setup.root, workload.scenario, part, setup.work / "part.chunks")[1] / count
    results = {}
    for name, rounds in found.items():
        if name in problems or not rounds:
            results[name] = {"problem": problems.get(name, "nothing measured")}
            continue
        samples = sum(r["samples"] for r in rounds)
        waits = [wait for r in rounds for wait in r["waits"]]
        requests = sum(r["proxy"]["requests"] for r in rounds)
        results[name] = {
            "rate": statistics.median(r["samples"] / r["wall"] for r in rounds),
            "p99": percentile(waits, 0.99) * 1000,
            "worst": max(waits) * 1000,
            "requests": requests / samples,
            "bytes": sum(r["proxy"]["bytes"] for r in rounds) / samples,
            "needed": statistics.mean(needed[r["index"]] for r in rounds),
            "hedges": sum(r.get("hedges", 0) for r in rounds) / max(1, requests),
            "cpu": sum(r["cpu"] for r in rounds) / samples * 1000,
            "busiest": statistics.median(r["busiest"] / r["wall"] for r in rounds),
            "served": sum(r["served"] for r in rounds) / samples * 1000,
        }
    return results


def bare(setup: Setup, workload: Any) -> dict[str, Any]:
    """damacy against the bare loop, straight to nginx; the ranges are read off nginx's log of one round."""
    count, ratios, rates = setup.args.samples, [], []
    listing = setup.work / "ranges.txt"
    with Nginx(setup.root, log_requests=True) as nginx:
        child = setup.reader("damacy", workload, f"http://127.0.0.1:{nginx.http}", "ranges")
        answer = child.ask(f"round 0 {count}") if "error" not in child.first else child.first
        child.close()
        if "error" in answer:
            return {"problem": answer["error"]}
        # $http_range is what was asked: "bytes=BEGIN-END"
        rows = (line.rsplit(" ", 5) for line in nginx.requests())
        lines = []
        for row in rows:
            if len(row) == 6 and row[2] == "206" and row[4].startswith("bytes=") and not row[4].startswith("bytes=-"):
                begin, _, end = row[4][6:].partition("-")
                lines.append(f"{row[1]} {begin} {end}")
        listing.write_text("\n".join(lines) + "\n")
    with Nginx(setup.root) as nginx:
        url = f"http://127.0.0.1:{nginx.http}"
        child = setup.reader("damacy", workload, url, "bare")
        child.ask(f"round 0 {count}")
        for _ in range(max(3, setup.args.rounds)):
            loop = json.loads(run([setup.programs / "range_loop", url, listing, setup.args.concurrency]))
            answer = child.ask(f"round 0 {count}")
            if "error" in answer:
                return {"problem": answer["error"]}
            ratios.append(loop["wall"] / answer["wall"])
            rates.append((count / answer["wall"], loop["bytes"] / loop["wall"] / 1e6, loop["requests"] / loop["wall"], answer["cpu"], answer["wall"]))
        child.close()
    return {"ratio": statistics.median(ratios), "ranges": len(lines), "rates": [statistics.median(column) for column in zip(*rates)]}


def curve(setup: Setup, workload: Any, servers: list[Nginx]) -> list[tuple[float, float, float]]:
    """A new process for each latency: one round to get to know it, one that counts."""
    rows, count = [], 4 * setup.args.samples  # so long that beginning and end do not count for much
    for latency in (0, 5, 10, 20, 50, 100, 200):
        with setup.proxy(servers, latency, 0) as (proxy, endpoint):
            child = setup.reader("damacy", workload, endpoint, "curve", CURVE_AHEAD)
            answer = child.ask(f"round 0 {count}")
            proxy.ask("reset")
            if "error" not in answer:
                answer = child.ask(f"round {workload.slice_of(1, count)} {count}")
            asked = proxy.ask("stats")["requests"]
            child.close()
        if "error" in answer:
            print(f"  curve {latency} ms: {answer['error']}", flush=True)
            continue
        rows.append((latency, answer["samples"] / answer["wall"], asked / answer["wall"]))
        print(f"  curve {latency} ms: {rows[-1][1]:.1f} samples/s", flush=True)
    return rows


TABLE_HEAD = [
    "| latency | reader | samples/s | p99 batch wait, ms | longest, ms | requests / sample | KB / sample | amplification | hedges | CPU ms / sample | busiest thread | servers' CPU ms / sample |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
]


def table(results: dict[float, dict[str, dict[str, Any]]]) -> list[str]:
    text = [*TABLE_HEAD]
    for latency, readers in results.items():
        for name, row in readers.items():
            if "problem" in row:
                text.append(f"| {latency:g} ms | {name} | {row['problem']} | | | | | | | | | |")
                continue
            hedges = f"{row['hedges'] * 100:.1f} %" if name in ("damacy", ALONE) else "-"
            text.append(
                f"| {latency:g} ms | {name} | {row['rate']:.1f} | {row['p99']:.0f} | {row['worst']:.0f} | {row['requests']:.1f} | "
                f"{row['bytes'] / 1e3:.0f} | {row['bytes'] / row['needed']:.2f} | {hedges} | {row['cpu']:.2f} | {row['busiest']:.2f} | {row['served']:.2f} |"
            )
    return text


def report(results: dict[float, dict[str, dict[str, Any]]], small: dict[float, dict[str, dict[str, Any]]], loops: dict[str, dict[str, Any]], line: list[tuple[float, float, float]], args: argparse.Namespace) -> str:
    cores = len(os.sched_getaffinity(0))
    text = [
        "# Reading over a network: measured",
        "",
        f"`make bench-remote`. {cores} cores shared by readers, {args.servers} nginx and as many proxies, {platform.machine()}, kernel {platform.release().split('-')[0]}. "
        f"Crops of 1x16x128x128 uint16 to float32 out of zstd chunks of 128 KiB in shards, {args.ahead} batches of 8 under way for every reader, "
        f"{args.rounds} interleaved rounds of {args.samples} samples, half as many from 50 ms on. Latency is log-normal around the median, 1 % of requests take ten times as long. "
        "`amplification`: bytes received / stored bytes of the chunks needed, each counted once a batch. `CPU`: of the reader's process, and of "
        "its busiest thread as a share of the wall time (at 1.00 more cores do not help it); `servers`: CPU of nginx and proxies together.",
        "",
        *table(results),
    ]
    text += ["", "| latency | samples/s against the best peer (at least 1.5) | p99 against the best peer (at most 0.5) | requests (at most 1) | bytes (at most 1) | CPU of that peer's process / damacy's |", "| --- | --- | --- | --- | --- | --- |"]
    for latency, readers in results.items():
        ours, peers = readers.get("damacy", {}), [readers[name] for name in PEERS if "rate" in readers.get(name, {})]
        if "rate" in ours and peers:
            best = max(peers, key=lambda row: row["rate"])
            text.append(
                f"| {latency:g} ms | {ours['rate'] / best['rate']:.2f} | {ours['p99'] / min(row['p99'] for row in peers):.2f} | "
                f"{ours['requests'] / best['requests']:.2f} | {ours['bytes'] / best['bytes']:.2f} | {best['cpu'] / ours['cpu']:.2f} |"
            )
    if small:
        scenario = REMOTE_SCENARIOS["whole"]
        text += ["", "## Whole arrays of one small shard each", ""]
        text += [f"Samples of {'x'.join(map(str, scenario.sample))} out of {scenario.data_set.count} arrays, each read for the first time: its metadata, index and chunks. `{ALONE}`: with `index_ahead_bytes_max` 0.", ""]
        text += table(small)
    text += ["", "## No latency: against a bare loop over libcurl's multi interface", ""]
    text += ["Straight to nginx, the ranges that damacy asked for, wall time of the loop (which does not decode) / wall time of damacy; to be at least 0.85 where nothing is to be decoded.", ""]
    text += ["| data | ratio | samples/s | loop, MB/s | loop, requests/s | damacy's CPU / wall |", "| --- | --- | --- | --- | --- | --- |"]
    for name, loop in loops.items():
        if "problem" in loop:
            text.append(f"| {name} | {loop['problem']} | | | | |")
        else:
            rate, mb, requests, cpu, wall = loop["rates"]
            text.append(f"| {name} | {loop['ratio']:.2f} | {rate:.0f} | {mb:.0f} | {requests:.0f} | {cpu / wall:.2f} of {cores} |")
    if line:
        text += ["", f"## damacy over latency, no tail, {CURVE_AHEAD} batches under way", "", "| latency, ms | samples/s | requests/s |", "| --- | --- | --- |"]
        text += [f"| {latency:g} | {rate:.1f} | {asked:.0f} |" for latency, rate, asked in line]
    return "\n".join(text) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmark reading over a network.")
    parser.add_argument("--latencies", type=float, nargs="*", default=[0, 20, 100])
    parser.add_argument("--readers", nargs="*", default=READERS)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--samples", type=int, default=256, help="of a round; half as many from 50 ms on")
    parser.add_argument("--seconds", type=float, default=0, help="at a latency: after so long no further round begins, but two are always done")
    parser.add_argument("--servers", type=int, default=max(1, len(os.sched_getaffinity(0)) // 4), help="nginx and proxies, one each")
    parser.add_argument("--ahead", type=int, default=6, help="batches under way")
    parser.add_argument("--concurrency", type=int, default=64, help="of the bare loop")
    parser.add_argument("--no-curve", action="store_true")
    parser.add_argument("--no-bare", action="store_true")
    parser.add_argument("--no-small", action="store_true", help="without the small shards")
    parser.add_argument("--only-small", action="store_true", help="the small shards alone")
    parser.add_argument("--no-install", action="store_true", help="take the damacy that is in the environment")
    parser.add_argument("--carry", type=Path, help="a folder that carry_remote.sh made: nothing is built or installed")
    parser.add_argument("--quick", action="store_true", help="the table alone, 3 rounds of 128 samples: below 4 minutes")
    parser.add_argument("--output", type=Path, help="write the report there, too")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.samples, args.no_curve, args.no_bare, args.no_small = 3, 128, True, True, True
    setup = Setup(args)
    small: dict[float, dict[str, dict[str, Any]]] = {}
    if not args.no_small:
        workload, readers = setup.workload("whole"), [*args.readers, *([ALONE] if "damacy" in args.readers else [])]
        with setup.servers() as servers:
            small = {latency: compare(setup, workload, servers, latency, readers) for latency in args.latencies}
    if args.only_small:
        print("\n".join(table(small)))
        return 0
    workload = setup.workload("zstd")
    with setup.servers() as servers:
        results = {latency: compare(setup, workload, servers, latency, args.readers) for latency in args.latencies}
        line = [] if args.no_curve else curve(setup, workload, servers)
    loops = {} if args.no_bare else {"uncompressed": bare(setup, setup.workload("raw")), "zstd": bare(setup, workload)}
    text = report(results, small, loops, line, args)
    print(text)
    if args.output:
        args.output.write_text(text)
    if sys.argv[1:] in ([], ["--no-install"]):
        (HERE.parent / "RESULTS-remote.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
