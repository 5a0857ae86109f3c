"""CUDA against CPU, bit for bit: random crops of arrays of every codec and many dtypes, into several output types.

Needs zarr and torch. The seed is printed, and taken from DAMACY_TEST_SEED if that is set. Exits 1 when anything differs.
"""

import os
import shutil
import sys
import tempfile
import time

import numpy as np

import damacy

try:
    import torch
    import zarr
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
except ImportError as missing:
    print(f"identity: left out, {missing}")
    sys.exit(0)

SHAPE = (16, 50, 77)
seed = int(os.environ.get("DAMACY_TEST_SEED", time.time_ns() % 2**31))
rng = np.random.default_rng(seed)
print(f"identity: DAMACY_TEST_SEED={seed}")


def codecs() -> dict[str, object]:
    every: dict[str, object] = {"raw": None, "zstd": ZstdCodec(level=3), "zstd-checksum": ZstdCodec(level=5, checksum=True)}
    every["gzip"] = GzipCodec(level=1)
    for inner in ("zstd", "lz4", "zlib", "blosclz", "lz4hc"):
        for shuffle in ("noshuffle", "shuffle", "bitshuffle"):
            every[f"blosc-{inner}-{shuffle}"] = BloscCodec(cname=inner, shuffle=shuffle, clevel=4)
    return every


def read(device: str, uri: str, begins: list[tuple[int, ...]], dtype: str, on_error: str = "raise") -> tuple[np.ndarray, damacy.Stats]:
    config = damacy.Config(samples_per_batch=8, sample_shape=SHAPE, dtype=dtype, device=device, on_error=on_error)
    rows = []
    with damacy.Pipeline(config) as pipeline:
        pipeline.push(damacy.Sample(uri, [(b, b + s) for b, s in zip(begin, SHAPE)]) for begin in begins)
        for batch in pipeline.batches():
            with batch as tensor:
                rows.append(torch.from_dlpack(tensor).contiguous().view(torch.uint8).cpu().numpy().copy())
        return np.concatenate(rows), pipeline.stats()


def main() -> int:
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    smooth = np.cumsum(rng.integers(-20, 20, size=(96, 200, 264)), axis=2) + 3000
    bad = count = on_device = 0
    for source in ("u2", "f4", "u1", "i8", "f2", "u4", "f8", "bool"):
        data = (smooth % 3 == 0) if source == "bool" else smooth.astype(source) if source != "f4" else smooth.astype("f4") / 7
        for name, codec in codecs().items():
            if source != "u2" and name not in ("zstd", "blosc-zstd-shuffle", "blosc-lz4-bitshuffle", "raw"):
                continue
            for shards in (None, (32, 64, 128)):
                uri = f"{folder}/{source}-{name}-{'shards' if shards else 'chunks'}"
                array = zarr.create_array(uri, shape=data.shape, chunks=(16, 32, 64), shards=shards, dtype=data.dtype, compressors=codec, fill_value=1)
                array[:80] = data[:80]  # the rest is absent: fill values
                begins = [tuple(int(rng.integers(0, n - s + 1)) for n, s in zip(data.shape, SHAPE)) for _ in range(61)]
                for output in ("f32", "bf16", "f16", "native"):
                    expected, _ = read("cpu", uri, begins, output)
                    found, stats = read("cuda", uri, begins, output)
                    count += 1
                    on_device += stats.gpu_decode.count
                    if expected.shape != found.shape or not np.array_equal(expected, found):
                        bad += 1
                        print(f"identity: {uri} as {output} differs")
    shutil.rmtree(folder)
    print(f"identity: {count} runs, {bad} differ; {on_device} chunks were decoded on the device")
    return 1 if bad or not on_device else 0


if __name__ == "__main__":
    sys.exit(main())
