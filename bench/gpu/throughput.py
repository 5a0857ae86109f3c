"""Delivered GB/s of the CUDA backend with default settings on the data sets of the GPU table: microscopy-like uint16 in shards,
zstd and blosc-zstd, chunks of 128 KiB and 1 MiB, random and aligned crops, bf16 output.

    throughput.py [--folder DIR] [--batch 32] [--gpu-memory BYTES] [--seconds 3] [--device cuda] [--gib 4] [names ...]

Data are made once per folder (tmpfs by default) by tensorstore, else by zarr. Prints a line a data set, with the stats of the stages.
"""

import argparse
import os
import time

import numpy as np

import damacy

SHAPE = (4, 64, 1024, 1024)
CROP = (1, 32, 256, 256)
SETS = {
    "zstd-128k": ((1, 16, 64, 64), {"name": "zstd", "configuration": {"level": 3, "checksum": False}}),
    "zstd-1m": ((1, 32, 128, 128), {"name": "zstd", "configuration": {"level": 3, "checksum": False}}),
    "blosc-128k": ((1, 16, 64, 64), "blosc"),
    "blosc-1m": ((1, 32, 128, 128), "blosc"),
    "raw-128k": ((1, 16, 64, 64), None),
}
BLOSC = {"name": "blosc", "configuration": {"cname": "zstd", "clevel": 3, "shuffle": "shuffle", "typesize": 2, "blocksize": 0}}


def image(seed: int) -> np.ndarray:
    """Blobs on a background with shot noise: compresses about 2.3 times."""
    rng = np.random.default_rng(seed)
    out = np.empty(SHAPE, "u2")
    small = rng.normal(size=(SHAPE[1] // 8, SHAPE[2] // 16, SHAPE[3] // 16)).astype("f4")
    for c in range(SHAPE[0]):
        level = np.kron(np.roll(small, c, 0), np.ones((8, 16, 16), "f4"))
        out[c] = np.clip(120 + 60 * np.maximum(level, 0) + rng.normal(scale=6, size=SHAPE[1:]).astype("f4"), 0, 65535).astype("u2")
    return out


def write(folder: str, name: str, count: int) -> list[str]:
    chunks, codec = SETS[name]
    uris = [f"{folder}/{name}/{i}" for i in range(count)]
    missing = [(i, uri) for i, uri in enumerate(uris) if not os.path.exists(uri + "/done")]
    for i, uri in missing:
        inner = [{"name": "bytes", "configuration": {"endian": "little"}}]
        if codec:
            inner.append(BLOSC if codec == "blosc" else codec)
        try:
            import tensorstore as ts

            sharding = {"name": "sharding_indexed", "configuration": {"chunk_shape": chunks, "codecs": inner}}
            metadata = {
                "shape": SHAPE,
                "data_type": "uint16",
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": (1, 64, 512, 512)}},
                "codecs": [sharding],
            }
            store = ts.open({"driver": "zarr3", "kvstore": f"file://{uri}/", "metadata": metadata}, create=True).result()
            store[...] = image(i % 4)
        except ImportError:
            import zarr
            from zarr.codecs import BloscCodec, ZstdCodec

            compressor = None if not codec else BloscCodec(cname="zstd", clevel=3, shuffle="shuffle") if codec == "blosc" else ZstdCodec(level=3)
            array = zarr.create_array(uri, shape=SHAPE, chunks=chunks, shards=(1, 64, 512, 512), dtype="u2", compressors=compressor)
            array[...] = image(i % 4)
        open(uri + "/done", "w").close()
    return uris


def measure(uris: list[str], aligned: bool, chunks: tuple[int, ...], options: argparse.Namespace) -> None:
    rng = np.random.default_rng(3)
    config = damacy.Config(
        samples_per_batch=options.batch,
        sample_shape=CROP,
        dtype="bf16",
        device=options.device,
        max_gpu_memory_bytes=options.gpu_memory,
        decode=options.decode,
    )
    n = 4096
    steps = np.array(chunks if aligned else (1, 1, 1, 1))
    begins = np.stack([rng.integers(0, (SHAPE[a] - CROP[a]) // steps[a] + 1, n) * steps[a] for a in range(4)], 1)
    which = rng.integers(0, len(uris), n).astype("i8")
    start = time.perf_counter()
    with damacy.Pipeline(config) as pipeline:
        made = time.perf_counter()

        def samples():  # as long as it takes
            while True:
                for i in range(n):
                    yield damacy.Sample(uris[which[i]], [(int(b), int(b) + s) for b, s in zip(begins[i], CROP)])

        pipeline.push(samples())
        pipeline.pop().release()
        first = time.perf_counter()
        for _ in range(8):
            pipeline.pop().release()
        pipeline.stats_reset()
        begin = time.perf_counter()
        batches = 0
        while time.perf_counter() - begin < options.seconds:
            pipeline.pop().release()
            batches += 1
        seconds = time.perf_counter() - begin
        stats = pipeline.stats()
    delivered = batches * options.batch * int(np.prod(CROP)) * 2
    print(
        f"  {'aligned' if aligned else 'random ':8} {delivered / seconds / 1e9:7.2f} GB/s bf16, {batches * options.batch / seconds:8.0f} samples/s, "
        f"create {made - start:.2f} s, first batch {first - made:.3f} s, GPU memory {stats.gpu_bytes_committed / 2**30:.2f} GiB, "
        f"bottleneck {stats.bottleneck}"
    )
    for stage in ("read", "read_wait", "decode", "worker_idle", "input_transfer", "gpu_decode", "gpu_assemble", "gpu_retry", "pop_wait"):
        metric = getattr(stats, stage)
        if metric.count:
            print(f"      {stage:15} {metric.count:9} {metric.bytes / seconds / 1e9:8.2f} GB/s {metric.seconds / seconds:7.3f} s/s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(SETS))
    parser.add_argument("--folder", default="/dev/shm/damacy-throughput")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--gpu-memory", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--decode", default="auto")
    parser.add_argument("--arrays", type=int, default=4)
    options = parser.parse_args()
    for name in options.names or list(SETS):
        uris = write(options.folder, name, options.arrays)
        print(f"{name} batch {options.batch}", flush=True)
        for aligned in (False, True):
            measure(uris, aligned, SETS[name][0], options)


if __name__ == "__main__":
    main()
