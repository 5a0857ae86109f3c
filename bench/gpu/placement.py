"""Where chunks are decoded, and what it costs: decode="gpu", "cpu" and "auto" for chunk sizes of 16 KiB to 4 MiB and each codec, as a
table in Markdown with the ratio of auto to the better of the two.

    placement.py [--quick] [--folder DIR] [--device cuda] [--batch 32] [--seconds 1] [--limit 0] [codecs ...]

Data are made here (uint16 images in one shard of 32 MiB an array), with the libraries that damacy itself is linked to. --quick measures
three sizes, shortly, and starts nothing new after 90 s. gzip on the GPU needs nvcomp: without it its column says so.
"""

import argparse
import ctypes
import json
import os
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import damacy

SHAPE = (64, 512, 512)
CROP = (32, 128, 128)
CHUNKS = {"16 KiB": (8, 32, 32), "64 KiB": (16, 32, 64), "256 KiB": (16, 64, 128), "1 MiB": (32, 128, 128), "4 MiB": (32, 256, 256)}
QUICK = ("16 KiB", "256 KiB", "4 MiB")
ARRAYS = 8
PLACES = ("gpu", "cpu", "auto")


def library(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as reason:
        sys.exit(f"placement: {reason}; put the folder of damacy's libraries into LD_LIBRARY_PATH")


def zstd(data: bytes) -> bytes:
    lib = library("libzstd.so.1")
    lib.ZSTD_compress.restype = ctypes.c_size_t
    out = ctypes.create_string_buffer(len(data) + 4096)
    stored = lib.ZSTD_compress(out, ctypes.c_size_t(len(out)), data, ctypes.c_size_t(len(data)), 3)
    return out.raw[:stored]


def lz4(data: bytes) -> bytes:
    out = ctypes.create_string_buffer(len(data) + len(data) // 255 + 64)
    stored = library("liblz4.so.1").LZ4_compress_default(data, out, len(data), len(out))
    return len(data).to_bytes(4, "little") + out.raw[:stored]


def gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(5, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def blosc(inner: bytes) -> Callable[[bytes], bytes]:
    def encode(data: bytes) -> bytes:
        lib, size = library("libblosc.so.1"), ctypes.c_size_t
        out = ctypes.create_string_buffer(len(data) + 64)
        arguments = (3, 1, size(2), size(len(data)), data, out, size(len(out)), inner, size(0), 1)
        stored = lib.blosc_compress_ctx(*arguments)
        return out.raw[:stored]

    return encode


def blosc_metadata(inner: str) -> dict:
    return {"name": "blosc", "configuration": {"cname": inner, "clevel": 3, "shuffle": "shuffle", "typesize": 2, "blocksize": 0}}


CODECS: dict[str, tuple[dict | None, Callable[[bytes], bytes]]] = {
    "zstd": ({"name": "zstd", "configuration": {"level": 3, "checksum": False}}, zstd),
    "blosc-zstd": (blosc_metadata("zstd"), blosc(b"zstd")),
    "blosc-lz4": (blosc_metadata("lz4"), blosc(b"lz4")),
    "lz4": ({"name": "numcodecs.lz4", "configuration": {"acceleration": 1}}, lz4),
    "gzip": ({"name": "gzip", "configuration": {"level": 5}}, gzip),
    "raw": (None, bytes),
}


def image() -> np.ndarray:
    """Blobs on a background with shot noise: zstd halves it."""
    rng = np.random.default_rng(1)
    small = rng.normal(size=tuple(n // 16 for n in SHAPE)).astype("f4")
    level = np.kron(small, np.ones((16, 16, 16), "f4"))
    return np.clip(120 + 60 * np.maximum(level, 0) + rng.normal(scale=6, size=SHAPE), 0, 65535).astype("<u2")


def write(folder: str, codec: str, size: str, data: np.ndarray) -> list[str]:
    """One shard, and links to it from several arrays."""
    chunk, (metadata, encode) = CHUNKS[size], CODECS[codec]
    uris = [f"{folder}/{codec}-{size.replace(' ', '')}/{i}" for i in range(ARRAYS)]
    if os.path.exists(uris[-1] + "/zarr.json"):
        return uris
    begins = [tuple(i * c for i, c in zip(index, chunk)) for index in np.ndindex(*(n // c for n, c in zip(SHAPE, chunk)))]
    with ThreadPoolExecutor() as pool:
        box = lambda begin: np.ascontiguousarray(data[tuple(slice(b, b + c) for b, c in zip(begin, chunk))]).tobytes()  # noqa: E731
        stored = list(pool.map(lambda begin: encode(box(begin)), begins))
    index = np.empty((len(stored), 2), "<u8")
    index[:, 1] = [len(part) for part in stored]
    index[:, 0] = np.cumsum(index[:, 1]) - index[:, 1]
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    inner = {"chunk_shape": chunk, "codecs": [little] + ([metadata] if metadata else []), "index_codecs": [little], "index_location": "end"}
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": SHAPE,
        "data_type": "uint16",
        "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": SHAPE}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
    }
    for i, uri in enumerate(uris):
        os.makedirs(uri + "/c/0/0", exist_ok=True)
        shard = uri + "/c/0/0/0"
        if i == 0:
            with open(shard, "wb") as file:
                file.writelines(stored)
                file.write(index.tobytes())
        elif not os.path.exists(shard):
            os.link(uris[0] + "/c/0/0/0", shard)
        with open(uri + "/zarr.json", "w") as file:
            json.dump(document, file)
    return uris


def measure(uris: list[str], size: str, decode: str, options: argparse.Namespace) -> tuple[float, float]:
    """GB/s of delivered bf16, and the cores' share of the chunks that were decoded. Crops begin at multiples of the chunk or the crop."""
    rng = np.random.default_rng(3)
    steps = [min(a, b) for a, b in zip(CHUNKS[size], CROP)]
    config = damacy.Config(
        samples_per_batch=options.batch, sample_shape=CROP, dtype="bf16", device=options.device, max_gpu_memory_bytes=options.gpu_memory, decode=decode
    )

    def samples():  # as long as it takes
        while True:
            begin = [int(rng.integers(0, (n - c) // s + 1)) * s for n, c, s in zip(SHAPE, CROP, steps)]
            yield damacy.Sample(uris[int(rng.integers(ARRAYS))], [(b, b + c) for b, c in zip(begin, CROP)])

    with damacy.Pipeline(config) as pipeline:
        pipeline.push(samples())
        pipeline.pop().release()
        begin = time.perf_counter()
        while time.perf_counter() - begin < options.warm:  # also: until placement has settled
            pipeline.pop().release()
        pipeline.stats_reset()
        begin, batches = time.perf_counter(), 0
        while time.perf_counter() - begin < options.seconds:
            pipeline.pop().release()
            batches += 1
        seconds = time.perf_counter() - begin
        stats = pipeline.stats()
    decoded = stats.decode.count + stats.gpu_decode.count
    return batches * options.batch * int(np.prod(CROP)) * 2 / seconds / 1e9, stats.decode.count / max(decoded, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("codecs", nargs="*", metavar="codec", help=f"of {', '.join(CODECS)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", default="/dev/shm/damacy-placement")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--gpu-memory", type=int, default=0)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--warm", type=float)
    parser.add_argument("--limit", type=float, help="seconds after which nothing new is begun")
    options = parser.parse_args()
    for name, quick, full in (("seconds", 0.4, 1.5), ("warm", 0.35, 0.7), ("limit", 90.0, 1e9)):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    start = time.perf_counter()
    data = image()
    worst = 1.0
    left_out = 0
    print(f"{options.device}, batch {options.batch}, {options.seconds} s a cell; GB/s of bf16 delivered\n")
    print("| codec | chunk | GPU only | CPU only | auto | auto / best | chunks on cores |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for codec in options.codecs or CODECS:
        for size in QUICK if options.quick else CHUNKS:
            if time.perf_counter() - start > options.limit:
                left_out += 1
                continue
            uris = write(options.folder, codec, size, data)
            rates: dict[str, float] = {}
            share = 0.0
            for place in PLACES if codec != "raw" else ("auto",):  # nothing to be placed
                try:
                    rates[place], share = measure(uris, size, place, options)
                except damacy.DamacyError as error:
                    if "nvcomp" not in str(error):
                        raise
            others = [rates[place] for place in ("gpu", "cpu") if place in rates]
            ratio = rates["auto"] / max(others) if others else 1.0
            worst = min(worst, ratio)
            cells = [f"{rates[place]:.1f}" if place in rates else "-" if codec == "raw" else "no nvcomp" for place in PLACES]
            print(f"| {codec} | {size} | {' | '.join(cells)} | {ratio:.2f} | {share:.0%} |", flush=True)
    print(f"\nauto / best at least {worst:.2f}; {time.perf_counter() - start:.0f} s" + (f"; {left_out} rows left out for want of time" if left_out else ""))


if __name__ == "__main__":
    main()
