"""The benchmark of the CUDA backend: every figure of bench/RESULTS-gpu.md but the decoders alone (bench/gpu/decode_bench.sh).

    python bench/gpu/run_gpu.py [--output FILE] [--root /dev/shm/damacy-bench] [--rows NAME,...] [--device cuda] PART ...

Parts, each a process of its own with a time limit, so that one that fails does not end the others:

    table      delivered GB/s of every row at batch 32, batch 128, 4 GiB of GPU memory and as f32, with the goals; cores, memory, times
    decoders   every row of zstd and blosc with our own decoder and with nvcomp's (DAMACY_GPU_DECODER), one after the other; needs nvcomp
    placement  decode="gpu", "cpu" and "auto" for chunks of 16 KiB to 4 MiB of each codec
    cpu        the CPU backend at 1, 4 and 16 threads beside tensorstore and (--bare PROGRAM) the bare loop
    timeline   a second of one row as a Chrome trace (--trace FILE), and how busy copies, decode and assemble were
    train      a training step beside the loader: how much each slows the other; needs torch
    scaling    bench/scaling.py for chunks of 1 MiB, arrays without shards and v2; needs --bare and --damacy (bench/gpu/carry.sh builds them)

Data are written once to --root (bench/gpu/sets.py). Prints Markdown, progress goes to stderr. --stacks 1 --seconds 0.3 --device cpu tries
it on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent
sys.path[:0] = [str(HERE), str(BENCH)]

from data import CHUNK_128K, CHUNK_1M, DataSet, array_path  # noqa: E402
from sets import CHUNKS, HAND_WRITTEN, PLACED_CODECS, STACKS, known_sets, make, opened, scaled  # noqa: E402

CROP = (1, 32, 256, 256)
SMALL_CROP = (1, 32, 128, 128)
CROPS = 4096  # drawn once per row, then again from the first
CHECKED = 64  # samples compared with tensorstore's before timing
POP_SECONDS = 30.0
STAGES = (
    *("read", "read_wait", "bind_wait", "decode", "worker_idle", "slot_wait", "pop_wait"),
    *("input_transfer", "gpu_decode", "decode_gap", "gpu_assemble", "post_decode", "gpu_retry"),
)
ROUND_CROPS = 512  # of `cpu`: a round is at most all of them
GIB = 1 << 30
STEP_SECONDS = 8e-3  # about how long a training step is to take


@dataclass(frozen=True)
class Row:
    """One line of the tables: crops out of a set. Goals are GB/s of delivered bf16."""

    name: str
    title: str
    data: str
    crop: tuple[int, ...] = CROP
    align: tuple[int, ...] | None = None
    goals: dict[str, float] = field(default_factory=dict)


def goals(b32: float, b128: float | None, small: float) -> dict[str, float]:
    return {"b32": b32, "4gib": small} | ({"b128": b128} if b128 else {})


ROWS = {
    row.name: row
    for row in (
        Row("zstd-128k", "zstd, 128 KiB chunks", "zstd-128k", goals=goals(35, 22, 28)),
        Row("zstd-128k-aligned", "the same, aligned crops", "zstd-128k", align=CHUNK_128K, goals=goals(70, 43, 56)),
        Row("zstd-1m", "zstd, 1 MiB chunks", "zstd-1m", goals=goals(19, 10, 15.2)),
        Row("zstd-1m-aligned", "the same, aligned crops", "zstd-1m", align=CHUNK_1M, goals=goals(45, 34, 36)),
        Row("blosc-128k", "blosc-zstd shuffle, 128 KiB", "blosc-zstd-128k", goals=goals(42, 29, 33.6)),
        Row("blosc-128k-aligned", "the same, aligned crops", "blosc-zstd-128k", align=CHUNK_128K),
        Row("blosc-1m", "blosc-zstd shuffle, 1 MiB", "blosc-zstd-1m", goals=goals(24, 19, 19.2)),
        Row("blosc-1m-aligned", "the same, aligned crops", "blosc-zstd-1m", align=CHUNK_1M),
        Row("raw-128k", "uncompressed, 128 KiB", "raw-128k", goals=goals(20, None, 20)),
        Row("small", "1,024 small arrays, crop 1x32x128x128", "small-3d", crop=SMALL_CROP, goals=goals(25, 15, 20)),
        Row("lz4-128k", "lz4, 128 KiB", "lz4-128k"),
        Row("gzip-128k", "gzip, 128 KiB", "gzip-128k"),
        Row("zlib-128k", "zlib, 128 KiB", "zlib-128k"),
    )
}
PLACED = {
    f"{codec}-{size}": Row(f"{codec}-{size}", f"{codec}, {size.upper()}", f"placed-{codec}-{size}")
    for codec in PLACED_CODECS
    for size in CHUNKS
}
PARTS = {"table": 240, "decoders": 180, "placement": 200, "cpu": 320, "timeline": 60, "train": 90, "scaling": 220}  # seconds at most
SCALING = {
    "zstd-1m": "zstd-1m",
    "blosc-zstd-1m": "blosc-zstd-1m",
    "plain": "plain-128k",
    "v2-gzip": "v2-gzip-128k",
    "v2-blosc-lz4": "v2-blosc-lz4-128k",
}  # scenarios of bench/workload.py and their sets


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def say(*lines: str) -> None:
    print("\n".join(lines), flush=True)


class Data:
    """The sets of one run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.root: Path = options.root
        self.stacks: int = options.stacks

    def of(self, name: str) -> DataSet:
        return scaled(known_sets()[name], self.stacks)

    def uris(self, row: Row) -> list[str]:
        data_set = self.of(row.data)
        return [str(array_path(self.root, data_set, index)) for index in range(data_set.count)]

    def draw(self, row: Row) -> list[tuple[int, tuple[int, ...]]]:
        """Which array, and where the crop begins; the same every time."""
        rng, data_set = np.random.default_rng(3), self.of(row.data)
        steps = row.align or (1,) * len(row.crop)
        places = [rng.integers(0, (n - c) // s + 1, CROPS) * s for n, c, s in zip(data_set.shape, row.crop, steps)]
        which = rng.integers(0, data_set.count, CROPS)
        return [(int(a), tuple(map(int, begin))) for a, *begin in zip(which, *places)]

    def expected(self, row: Row, count: int) -> np.ndarray:
        """The first samples as tensorstore reads them; those of a codec it does not know, out of the uncompressed set."""
        data_set = self.of(row.data)
        if data_set.codec in HAND_WRITTEN:
            data_set = self.of("raw-128k")
        stores: dict[int, Any] = {}
        under_way = []
        for array, begin in self.draw(row)[:count]:
            if array not in stores:
                stores[array] = opened(array_path(self.root, data_set, array), data_set)
            under_way.append(stores[array][tuple(slice(b, b + c) for b, c in zip(begin, row.crop))].read())
        return np.stack([future.result() for future in under_way])


def as_bf16(values: np.ndarray) -> np.ndarray:
    """Bits of the nearest bf16, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def on_host(tensor: Any, device: str, dtype: str) -> np.ndarray:
    """A copy of a damacy.Tensor: f32, or the bits of bf16, for which NumPy has no type."""
    kind: Any = np.float32 if dtype == "f32" else np.uint16
    if device != "cpu":
        import torch

        found = torch.from_dlpack(tensor)
        return (found if dtype == "f32" else found.view(torch.int16)).cpu().numpy().view(kind)
    capsule = tensor.__dlpack__()
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.POINTER(ctypes.c_void_p), [ctypes.py_object, ctypes.c_char_p]
    data = pointer_of(capsule, b"dltensor")[0]  # the first member of DLManagedTensor is DLTensor, whose first is the address
    return np.frombuffer(ctypes.string_at(data, tensor.nbytes), kind).reshape(tensor.shape)


def check(got: np.ndarray, wanted: np.ndarray, row: Row) -> None:
    """Ends the part when a sample differs: figures of wrong data are worth nothing."""
    for sample, (a, b) in enumerate(zip(got, wanted, strict=True)):
        if not np.array_equal(a, b):
            raise RuntimeError(f"{row.name}: sample {sample} differs from tensorstore's in {np.count_nonzero(a != b)} elements")


def samples_of(data: Data, row: Row) -> list[Any]:
    import damacy

    uris = data.uris(row)
    return [damacy.Sample(uris[array], [(b, b + c) for b, c in zip(begin, row.crop)]) for array, begin in data.draw(row)]


def pop(pipeline: Any) -> Any:
    batch = pipeline.pop(POP_SECONDS)
    if batch is None:
        raise RuntimeError("the pipeline ended")
    return batch


def measure(
    row: Row, samples: Sequence[Any], seconds: float, wanted: np.ndarray | None = None, dtype: str = "bf16", batch: int = 32, **settings: Any
) -> dict[str, Any]:
    """One pipeline: create, first batches checked, a warm-up, then as many batches as `seconds` hold."""
    import damacy

    config = damacy.Config(samples_per_batch=batch, sample_shape=row.crop, dtype=dtype, **settings)
    start = time.perf_counter()
    with damacy.Pipeline(config) as pipeline:
        created = time.perf_counter()
        pipeline.push(itertools.cycle(samples))
        first = pop(pipeline)
        got_first = time.perf_counter()
        if wanted is not None:
            device = config.device
            parts = [on_host(first.values()[0], device, dtype)]
            first.release()
            while sum(map(len, parts)) < len(wanted):
                with pop(pipeline) as tensor:
                    parts.append(on_host(tensor, device, dtype))
            check(np.concatenate(parts)[: len(wanted)], wanted, row)
            del parts
        first.release()
        warm = time.perf_counter() + min(0.4, seconds / 2)
        while time.perf_counter() < warm:
            pop(pipeline).release()
        pipeline.stats_reset()
        begin, cpu, count = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - begin < seconds:
            pop(pipeline).release()
            count += 1
        wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
        stats = pipeline.stats()
    delivered = count * batch / wall
    return {
        "samples": delivered,
        "rate": delivered * int(np.prod(row.crop)) * 2 / 1e9,
        "cores": cpu / wall,
        "create": created - start,
        "first": got_first - created,
        "gpu": stats.gpu_bytes_committed,
        "host": stats.host_bytes_committed,
        "bottleneck": str(stats.bottleneck),
        "decoding": stats.gpu_decode_busy_ns / 1e9 / wall,
        "stages": {
            name: {"count": m.count, "GB/s": m.bytes / wall / 1e9, "busy": m.seconds / wall}
            for name in STAGES
            for m in (getattr(stats, name),)
        },
    }


def measured(what: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """None when it failed; why goes to both outputs."""
    try:
        return work()
    except Exception as error:
        progress(f"  {what}: FAILED: {type(error).__name__}: {error}")
        say(f"<!-- {what}: {type(error).__name__}: {error} -->")
        return None


def against(result: dict[str, Any] | None, goal: float | None) -> str:
    if result is None:
        return "failed"
    if goal is None:
        return f"{result['rate']:.1f}"
    return f"{result['rate']:.1f} / {goal:g} {'met' if result['rate'] >= goal else 'MISSED'}"


def chosen(options: argparse.Namespace, rows: dict[str, Row]) -> list[Row]:
    names = options.rows.split(",") if options.rows else list(rows)
    return [rows[name] for name in names if name in rows]


def table(options: argparse.Namespace, end: float) -> None:
    data, device = Data(options), options.device
    columns: dict[str, dict[str, Any]] = {
        "b32": {},
        "b128": {"batch": 128},
        "4gib": {"max_gpu_memory_bytes": 4 * GIB} if device != "cpu" else {"max_host_memory_bytes": 4 * GIB},
        "f32": {"dtype": "f32"},
    }
    say(
        "| data | default, batch 32 | batch 128 | 4 GiB, batch 32 | f32: samples/s of bf16's |",
        "| --- | --- | --- | --- | --- |",
    )
    details: list[tuple[Row, dict[str, Any]]] = []
    everything: dict[str, dict[str, Any]] = {}
    for row in chosen(options, ROWS):
        if time.monotonic() > end - 4 * (options.seconds + 2):
            progress(f"  {row.name} and what follows: left out, no time")
            break
        samples, wanted = samples_of(data, row), data.expected(row, CHECKED)
        references = {"bf16": as_bf16(wanted), "f32": wanted.astype(np.float32)}
        results: dict[str, dict[str, Any] | None] = {}
        for name, settings in columns.items():
            reference = references[settings.get("dtype", "bf16")]
            results[name] = result = measured(
                f"{row.name} {name}", lambda s=settings, r=reference: measure(row, samples, options.seconds, r, device=device, **s)
            )
            if result:
                progress(f"  {row.name:20} {name:5} {result['rate']:6.1f} GB/s, {result['cores']:.1f} cores, {result['bottleneck']}")
        base, f32 = results["b32"], results["f32"]
        kept = f"{f32['samples'] / base['samples']:.2f} {'met' if f32['samples'] >= 0.9 * base['samples'] else 'MISSED'}" if base and f32 else "failed"
        cells = [against(results[name], row.goals.get(name)) for name in ("b32", "b128", "4gib")]
        say(f"| {row.title} | {' | '.join(cells)} | {kept} |")
        if base:
            details.append((row, base))
        everything[row.name] = results
    say(
        "",
        "At batch 32 with the default budget (decode: share of the time in which the device decoded at all; copy: time of copies to the device over wall time):",
        "",
        "| data | samples/s | cores | GPU memory, GiB | host memory, GiB | create, s | first batch, s | decode | copy | bottleneck |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    )
    for row, result in details:
        stages = result["stages"]
        say(
            f"| {row.title} | {result['samples']:,.0f} | {result['cores']:.1f} | {result['gpu'] / GIB:.2f} | {result['host'] / GIB:.2f} | "
            f"{result['create']:.2f} | {result['first']:.3f} | {result['decoding']:.0%} | {stages['input_transfer']['busy']:.0%} | "
            f"{result['bottleneck']} |"
        )
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))
    first = chosen(options, ROWS)[0]
    command = [*own_command(options, "startup"), "--rows", first.name]
    reply = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout
    times = json.loads(reply)
    say(
        "",
        f"A process of its own, {first.title}, batch 32: CUDA context {times['context']:.2f} s; then create {times['create']:.2f} s and first batch "
        f"{times['first']:.3f} s (goal: under 1 s together); again in the same process {times['create again']:.2f} s and {times['first again']:.3f} s.",
        "",
    )


DECODERS = ("own", "nvcomp")
DECODED = [name for name, row in ROWS.items() if row.data.split("-")[0] in ("zstd", "blosc", "small")]
CELL_SECONDS = 3.2  # of a cell, beside what is timed: create, the checked batches, warming up (measured)


def decoders(options: argparse.Namespace, end: float) -> None:
    """The two take turns cell by cell, so that what else goes on on a shared host meets both."""
    data, batches = Data(options), (32, 128)
    rows = chosen(options, {name: ROWS[name] for name in DECODED})
    say(
        f"| data | {' | '.join(f'batch {batch}: own, GB/s | nvcomp, GB/s | own / nvcomp' for batch in batches)} |",
        f"| --- {'| --- | --- | --- ' * len(batches)}|",
    )
    details: list[tuple[Row, dict[str, dict[str, Any] | None]]] = []
    for number, row in enumerate(rows):
        cells_left = (len(rows) - number) * len(batches) * len(DECODERS)
        samples, wanted = samples_of(data, row), as_bf16(data.expected(row, CHECKED))
        seconds = min(options.seconds, (end - time.monotonic()) / cells_left - CELL_SECONDS)
        if seconds < min(options.seconds, 0.2):
            progress(f"  {row.name} and what follows: left out, no time")
            break
        cells = []
        for batch in batches:
            results: dict[str, dict[str, Any] | None] = {}
            for decoder in DECODERS:
                os.environ["DAMACY_GPU_DECODER"] = decoder  # looked at when a pipeline is created
                results[decoder] = result = measured(
                    f"{row.name} batch {batch} {decoder}",
                    lambda b=batch: measure(row, samples, seconds, wanted, device=options.device, batch=b),
                )
                if result and (count := result["stages"]["gpu_retry"]["count"]):
                    say(f"<!-- {row.name} batch {batch} {decoder}: {count} chunks given back to the CPU -->")
            rates = [result["rate"] if result else 0.0 for result in results.values()]
            ratio = rates[0] / rates[1] if all(rates) else 0.0
            cells += [*(f"{rate:.1f}" if rate else "failed" for rate in rates)]
            cells.append(f"{ratio:.2f} {'met' if ratio >= 1 else 'MISSED'}" if ratio else "-")
            progress(f"  {row.name:20} batch {batch:3}: " + ", ".join(f"{d} {r:.1f} GB/s" for d, r in zip(DECODERS, rates)))
            if batch == batches[0]:
                details.append((row, results))
        say(f"| {row.title} | {' | '.join(cells)} |")
    os.environ.pop("DAMACY_GPU_DECODER", None)
    say(
        "",
        f"At batch {batches[0]} (by the cores: their share of the decoded bytes; decode: share of the time in which the device decoded at all):",
        "",
        "| data | decoder | samples/s | cores | by the cores | decode | GPU memory, GiB | host memory, GiB | first batch, s | bottleneck |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    )
    for row, results in details:
        for decoder, result in results.items():
            if result is None:
                continue
            cores, device = (result["stages"][stage]["GB/s"] for stage in ("decode", "gpu_decode"))
            say(
                f"| {row.title} | {decoder} | {result['samples']:,.0f} | {result['cores']:.1f} | {cores / max(cores + device, 1e-9):.0%} | "
                f"{result['decoding']:.0%} | {result['gpu'] / GIB:.2f} | {result['host'] / GIB:.2f} | {result['first']:.3f} | {result['bottleneck']} |"
            )
    say("")


def startup(options: argparse.Namespace, end: float) -> None:
    """In a fresh process: how long the context, the first and the second pipeline take. One line of JSON."""
    row, times = chosen(options, ROWS)[0], {"context": 0.0}
    samples = samples_of(Data(options), row)
    import damacy

    if options.device != "cpu":
        begin = time.perf_counter()
        driver, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
        if driver.cuInit(0) or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0):
            raise RuntimeError("no CUDA context")
        times["context"] = time.perf_counter() - begin
    for suffix in ("", " again"):
        config = damacy.Config(samples_per_batch=32, sample_shape=row.crop, dtype="bf16", device=options.device)
        begin = time.perf_counter()
        with damacy.Pipeline(config) as pipeline:
            times["create" + suffix] = time.perf_counter() - begin
            begin = time.perf_counter()
            pipeline.push(samples[:128])
            pop(pipeline).release()
            times["first" + suffix] = time.perf_counter() - begin
    say(json.dumps(times))


def placement(options: argparse.Namespace, end: float) -> None:
    data = Data(options)
    say(
        "| chunks | gpu, GB/s | cpu, GB/s | auto, GB/s | auto / best |",
        "| --- | --- | --- | --- | --- |",
    )
    for row in chosen(options, PLACED):
        if time.monotonic() > end - 3 * (options.seconds + 2):
            progress(f"  {row.name} and what follows: left out, no time")
            break
        samples, rates = samples_of(data, row), {}
        wanted = as_bf16(data.expected(row, 32))
        for mode in ("gpu", "cpu", "auto"):
            result = measured(
                f"{row.name} {mode}", lambda m=mode: measure(row, samples, options.seconds, wanted, device=options.device, decode=m)
            )
            rates[mode] = result["rate"] if result else 0.0
        progress(f"  {row.name:20} " + " ".join(f"{mode} {rate:.1f}" for mode, rate in rates.items()))
        ratio = rates["auto"] / max(max(rates.values()), 1e-9)
        cells = " | ".join(f"{rate:.1f}" if rate else "-" for rate in rates.values())
        say(f"| {row.title} | {cells} | {ratio:.2f} {'met' if ratio >= 0.9 else 'MISSED'} |")


def cpu(options: argparse.Namespace, end: float) -> None:
    """Programs that do rounds on command, as in bench/run.py: f32, batches of 8, crops and way of pairing alike for all."""
    from scaling import Reader
    from workload import BARE_CODECS, Scenario, make_workload

    data = Data(options)

    @dataclass(frozen=True)
    class RowScenario(Scenario):
        @property
        def data_set(self) -> DataSet:
            return data.of(self.data)

    work = options.root / "work"
    cores = len(os.sched_getaffinity(0))
    say(
        f"f32, batches of 8, {cores} cores; samples/s (GB/s of delivered f32), medians of {options.rounds} interleaved rounds. `-`: does not read it.",
        "",
        "| data | threads | damacy | tensorstore | bare loop | damacy / tensorstore | damacy / bare loop |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    )
    for row in chosen(options, ROWS):
        scenario = RowScenario(row.name, row.title, row.data, row.crop, ROUND_CROPS, 64, align=row.align)
        workload = make_workload(options.root, work, scenario, 1)
        crops = str(workload.crops_path)
        for threads in sorted({min(n, cores) for n in map(int, options.threads.split(","))}):
            if time.monotonic() > end - 8:
                progress(f"  {row.name} with {threads} threads and what follows: left out, no time")
                return
            script = [sys.executable, str(BENCH / "readers.py")]
            commands = {"damacy": [*script, "damacy-py", crops]}
            if scenario.data_set.codec not in HAND_WRITTEN:
                commands["tensorstore"] = [*script, "tensorstore", crops]
            if options.bare and scenario.data_set.codec in BARE_CODECS:
                commands["bare"] = [str(options.bare), str(workload.chunks_path)]
                if scenario.data_set.codec == "none":
                    commands["bare"] += ["--spans", "2"]
            readers = {name: Reader([*command, "--threads", str(threads)]) for name, command in commands.items()}
            speeds: dict[str, float] = {}
            try:
                counts = {}
                for name, reader in readers.items():
                    first = 32 if threads == 1 else 64  # more batches than a reader has buffers
                    speed = first / reader.round(0, first)["wall"]
                    counts[name] = max(16, min(ROUND_CROPS, int(speed * options.round_seconds)) // 8 * 8)
                walls: dict[str, list[float]] = {name: [] for name in readers}
                for number in range(options.rounds):
                    for name, reader in readers.items():
                        count = counts[name]
                        walls[name].append(reader.round(number % (ROUND_CROPS // count) * count, count)["wall"] / count)
                speeds = {name: 1 / statistics.median(times) for name, times in walls.items()}
            except (OSError, RuntimeError, ValueError) as error:
                progress(f"  {row.name} with {threads} threads: {error}")
            finally:
                for reader in readers.values():
                    try:
                        reader.close()
                    except OSError:
                        pass  # it has gone already, which was told above
            sample_bytes = int(np.prod(row.crop)) * 4
            cells = [f"{speeds[n]:,.0f} ({speeds[n] * sample_bytes / 1e9:.2f})" if n in speeds else "-" for n in ("damacy", "tensorstore", "bare")]
            cells += [f"{speeds['damacy'] / speeds[n]:.2f}" if n in speeds and "damacy" in speeds else "-" for n in ("tensorstore", "bare")]
            say(f"| {row.title} | {threads} | {' | '.join(cells)} |")
            progress(f"  {row.name:20} {threads:2} threads: " + ", ".join(f"{n} {s:.0f}" for n, s in speeds.items()))


def union(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return joined


def length(spans: list[tuple[float, float]]) -> float:
    return sum(end - begin for begin, end in spans)


def meet(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> float:
    """How long both hold; of two unions."""
    return length(a) + length(b) - length(union(a + b))


def traced(options: argparse.Namespace, end: float) -> None:
    """Child of `timeline`, with DAMACY_TRACE set: one row for a moment, then the trace is written at exit."""
    row = chosen(options, ROWS)[0]
    result = measure(row, samples_of(Data(options), row), 1.2, device=options.device)
    say(json.dumps(result))


def timeline(options: argparse.Namespace, end: float) -> None:
    say(
        "One second, from the trace: share of it in which at least one wave was in that stage.",
        "",
        "| data | GB/s | copy | decode | assemble | copy beside decode or assemble | spans |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    )
    rows = chosen(options, ROWS) if options.rows else [ROWS[name] for name in ("zstd-128k", "zstd-1m", "blosc-128k")]
    for row in rows:
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            environment = os.environ | {"DAMACY_TRACE": file.name}
            command = [*own_command(options, "traced"), "--rows", row.name]
            try:
                reply = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=40, check=True).stdout
            except subprocess.SubprocessError as error:
                progress(f"  {row.name}: {error}")
                continue
            result, trace = json.loads(reply), json.loads(Path(file.name).read_text())
        events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
        pops = [event["ts"] + event["dur"] for event in events if event["name"] in ("pop_wait", "batch")]
        last = max(pops) if pops else max(event["ts"] for event in events)
        first = last - 1e6
        inside = [event for event in events if event["ts"] < last and event["ts"] + event["dur"] > first]
        spans = {
            name: union([(max(e["ts"], first), min(e["ts"] + e["dur"], last)) for e in inside if e["name"] == name])
            for name in ("copy", "decode", "assemble")
        }
        shares = " | ".join(f"{length(spans[name]) / 1e6:.0%}" for name in spans)
        beside = meet(spans["copy"], union(spans["decode"] + spans["assemble"])) / max(length(spans["copy"]), 1e-9)
        say(
            f"| {row.title} | {result['rate']:.1f} | {shares} | {beside:.0%} of it | {len(inside):,} |"
        )
        names = [event for event in trace["traceEvents"] if event["ph"] == "M"]
        target = options.trace.with_name(f"{options.trace.stem}-{row.name}{options.trace.suffix}") if len(rows) > 1 else options.trace
        target.write_text(json.dumps({"traceEvents": names + inside}, separators=(",", ":")))
        progress(f"  {row.name}: decode {length(spans['decode']) / 1e6:.0%}, trace in {target}")


class Training:
    """A small 3D network of bf16, deep enough that a step on a batch takes some milliseconds."""

    def __init__(self, batch: Any) -> None:
        import torch

        self.torch = torch
        torch.backends.cudnn.benchmark = True
        times = []
        for depth in (1, 3):
            self.make(depth)
            times.append(self.time(batch, 10))
        slope = max((times[1] - times[0]) / 2, 1e-5)
        self.make(max(1, min(40, round((STEP_SECONDS - times[0]) / slope) + 1)))
        self.time(batch, 10)

    def make(self, depth: int) -> None:
        nn = self.torch.nn
        self.depth = depth
        layers: list[Any] = [nn.Conv3d(1, 64, 4, stride=4), nn.ReLU()]
        for _ in range(depth):
            layers += [nn.Conv3d(64, 64, 3, padding=1), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(64, 10)).to("cuda", self.torch.bfloat16)
        self.optimizer = self.torch.optim.SGD(self.network.parameters(), 1e-4)

    def step(self, batch: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.network(batch * (1 / 256)).float().square().mean().backward()
        self.optimizer.step()

    def time(self, batch: Any, steps: int) -> float:
        """Seconds a step, the first three left out."""
        for number in range(steps + 3):
            if number == 3:
                self.torch.cuda.synchronize()
                begin = time.perf_counter()
            self.step(batch)
        self.torch.cuda.synchronize()
        return (time.perf_counter() - begin) / steps


def train(options: argparse.Namespace, end: float) -> None:
    import torch

    import damacy

    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU")
    data = Data(options)
    say(
        "| data | step, layers | step alone, ms | loader alone, ms a batch | a batch each step, ms | over the slower one | "
        "both unbound: step, ms | loader, ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    )
    rows = chosen(options, ROWS) if options.rows else [ROWS[name] for name in ("zstd-128k", "zstd-1m", "blosc-128k", "raw-128k")]
    for row in rows:
        if time.monotonic() > end - 10:
            progress(f"  {row.name} and what follows: left out, no time")
            break
        config = damacy.Config(samples_per_batch=32, sample_shape=row.crop, dtype="bf16", device=options.device)
        with damacy.Pipeline(config) as pipeline:
            pipeline.push(itertools.cycle(samples_of(data, row)))
            with pop(pipeline) as tensor:
                fixed = torch.from_dlpack(tensor).clone()
            training = Training(fixed)
            steps = max(20, int(options.seconds / STEP_SECONDS))
            alone = training.time(fixed, steps)

            def load(seconds: float) -> float:
                """Seconds a batch that nobody uses."""
                begin, count = time.perf_counter(), 0
                while time.perf_counter() - begin < seconds:
                    pop(pipeline).release()
                    count += 1
                return (time.perf_counter() - begin) / count

            load(0.3)
            loading = load(options.seconds)
            for number in range(steps + 3):
                if number == 3:
                    torch.cuda.synchronize()
                    begin = time.perf_counter()
                batch = pop(pipeline)
                tensor = torch.from_dlpack(batch)
                training.step(tensor)
                used = torch.cuda.Event()
                used.record()
                del tensor
                batch.release(event=used)
            torch.cuda.synchronize()
            together = (time.perf_counter() - begin) / steps

            # Unbound: the loader runs at full speed while steps go on with the fixed batch.
            stop, loaded = threading.Event(), [0]

            def drain() -> None:
                while not stop.is_set():
                    pop(pipeline).release()
                    loaded[0] += 1

            thread = threading.Thread(target=drain)
            thread.start()
            try:
                training.time(fixed, 10)
                before, begin = loaded[0], time.perf_counter()
                beside = training.time(fixed, steps)
                loading_beside = (time.perf_counter() - begin) / max(loaded[0] - before, 1)
            finally:
                stop.set()
                thread.join()
        slower = max(alone, loading)
        say(
            f"| {row.title} | {training.depth} | {alone * 1e3:.2f} | {loading * 1e3:.2f} | {together * 1e3:.2f} | {together / slower - 1:+.0%} | "
            f"{beside * 1e3:.2f} ({beside / alone - 1:+.0%}) | {loading_beside * 1e3:.2f} ({loading_beside / loading - 1:+.0%}) |"
        )
        progress(f"  {row.name}: step {alone * 1e3:.1f}, loader {loading * 1e3:.1f}, together {together * 1e3:.1f} ms")
        del fixed, training
        torch.cuda.empty_cache()


def scaling(options: argparse.Namespace, end: float) -> None:
    if not options.bare or not options.damacy:
        raise RuntimeError("scaling needs --bare and --damacy (bench/gpu/carry.sh builds them)")
    command = [sys.executable, str(BENCH / "scaling.py"), "--data", str(options.root), "--damacy", str(options.damacy), "--bare", str(options.bare)]
    command += ["--threads", "1,2,4,8,16", "--rounds", str(options.scaling_rounds)]
    for name in options.scenarios.split(",") if options.scenarios else SCALING:
        if time.monotonic() > end - 10:
            progress(f"  {name} and what follows: left out, no time")
            break
        begin = time.monotonic()
        reply = subprocess.run([*command, "--scenario", name], stdout=subprocess.PIPE, text=True, timeout=max(10.0, end - begin), check=True).stdout
        say(*(line for line in reply.splitlines() if line.startswith("| ")))
        progress(f"  {name}: {time.monotonic() - begin:.0f} s")


RUN: dict[str, Callable[[argparse.Namespace, float], None]] = {
    "table": table,
    "decoders": decoders,
    "placement": placement,
    "cpu": cpu,
    "timeline": timeline,
    "train": train,
    "scaling": scaling,
    "startup": startup,
    "traced": traced,
}


def sets_of(part: str, options: argparse.Namespace) -> set[str]:
    """What a part reads."""
    if part == "placement":
        found = {row.data for row in chosen(options, PLACED)}
        return found | ({"raw-128k"} if any(name.split("-")[1] in HAND_WRITTEN for name in found) else set())
    if part == "scaling":
        return {SCALING[name] for name in (options.scenarios.split(",") if options.scenarios else SCALING)}
    rows = [row for row in chosen(options, ROWS) if part != "decoders" or row.name in DECODED]
    if part in ("timeline", "train") and not options.rows:
        rows = [ROWS[name] for name in ("zstd-128k", "zstd-1m", "blosc-128k", "raw-128k")]
    found = {row.data for row in rows}
    return found | ({"raw-128k"} if any(row.data.split("-")[0] in HAND_WRITTEN for row in rows) else set())


def own_command(options: argparse.Namespace, part: str) -> list[str]:
    """This program again, with the same options, to do one part in its own process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--inside", part]
    for name, value in vars(options).items():
        if name not in ("parts", "inside", "output") and value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    return command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; none: table")
    parser.add_argument("--output", type=Path, help="append the Markdown to this file, too")
    parser.add_argument("--root", type=Path, default=Path("/dev/shm/damacy-bench"), help="where data are, or are to be")
    parser.add_argument("--rows", help="only these, comma-separated")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--stacks", type=int, default=STACKS, choices=(1, 2, 4, 8), help="of 128 MiB; 8: the whole data")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a timed run")
    parser.add_argument("--limit", type=int, help="seconds of a part at most; none: what suits it")
    parser.add_argument("--rounds", type=int, default=3, help="of `cpu`")
    parser.add_argument("--round-seconds", type=float, default=0.3, help="of `cpu`")
    parser.add_argument("--threads", default="1,4,16", help="of `cpu`")
    parser.add_argument("--scaling-rounds", type=int, default=11)
    parser.add_argument("--scenarios", help="of `scaling`, comma-separated")
    parser.add_argument("--bare", type=Path, help="the program bare_loop")
    parser.add_argument("--damacy", type=Path, help="the program bench_damacy")
    parser.add_argument("--trace", type=Path, default=Path("timeline.json"))
    parser.add_argument("--json", type=Path, help="everything that `table` measured")
    parser.add_argument("--inside", choices=list(RUN), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        limit = options.limit or PARTS.get(options.inside, 60)
        RUN[options.inside](options, time.monotonic() + limit)
        return 0
    parts = options.parts or ["table"]
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    known = ROWS | PLACED
    if unknown := [name for name in (options.rows or "").split(",") if name and name not in known]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(known)}")
    data, failed = Data(options), 0
    for part in parts:
        begin = time.monotonic()
        writing = make(options.root, [data.of(name) for name in sorted(sets_of(part, options))])
        limit = options.limit or PARTS[part]
        lines = [f"## {part}", ""]
        print("\n".join(lines), flush=True)
        # What a part says is kept line by line, so that its time limit takes nothing that was measured.
        process = subprocess.Popen([*own_command(options, part), "--limit", str(limit)], stdout=subprocess.PIPE, text=True)
        stopper = threading.Timer(limit + 20, process.kill)
        stopper.start()
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
        stopper.cancel()
        if process.wait():
            failed = 1
            progress(f"{part}: FAILED ({process.returncode})")
        progress(f"{part}: {time.monotonic() - begin:.0f} s, {writing:.0f} of them to write data")
        if options.output:
            with options.output.open("a") as file:
                file.write("\n".join([*lines, "", ""]))
    return failed


if __name__ == "__main__":
    sys.exit(main())
