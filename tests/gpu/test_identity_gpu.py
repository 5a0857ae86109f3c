"""Goal: the CUDA backend gives the same bits as the CPU backend. Method: random crops of arrays of every codec that either of them decodes,
many dtypes, sharded and not, partly absent, read by both into several outputs; chunks large enough to have several blocks. The stats
tell that the device had a part in it. DAMACY_TEST_SEED repeats a run.

tests/python with DAMACY_TEST_DEVICE=cuda compares small arrays of all kinds with what their writers read; here it is about the codecs.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

damacy = pytest.importorskip("damacy")
zarr = pytest.importorskip("zarr")

from reading import on_host  # noqa: E402
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec  # noqa: E402

SHAPE = (16, 50, 77)
EXTENT = (64, 160, 200)
SEED = int(os.environ.get("DAMACY_TEST_SEED") or np.random.SeedSequence().entropy % 2**31)
INNER = ("zstd", "lz4", "lz4hc", "zlib", "blosclz")
LIMITS = {"max_gpu_memory_bytes": 128 << 20, "max_host_memory_bytes": 768 << 20}


def _codecs() -> dict[str, tuple[Any, bool]]:
    """By name: the compressors, and whether the device decodes them."""
    every: dict[str, tuple[Any, bool]] = {
        "raw": ([], False),
        "zstd": ([ZstdCodec(level=3)], True),
        "zstd-checksum": ([ZstdCodec(level=5, checksum=True)], True),
        "zstd-12": ([ZstdCodec(level=12)], True),
        "zstd-crc32c": ([ZstdCodec(level=1), Crc32cCodec()], False),
        "gzip": ([GzipCodec(level=1)], False),
    }
    for inner in INNER:
        for shuffle in ("noshuffle", "shuffle", "bitshuffle"):
            every[f"blosc-{inner}-{shuffle}"] = ([BloscCodec(cname=inner, shuffle=shuffle, clevel=4)], inner in ("zstd", "lz4", "lz4hc"))
    return every


CODECS = _codecs()
DTYPES = ("u1", "i8", "f2", "f4", "f8", "u4", "i2", "?", "c8")
V2 = {"v2-lz4": "LZ4", "v2-zlib": "Zlib", "v2-zstd": "Zstd", "v2-bz2": "BZ2", "v2-lzma": "LZMA"}


def smooth(dtype: str, rng: np.random.Generator) -> np.ndarray:
    """What compresses, and is not all alike."""
    walk = np.cumsum(rng.integers(-20, 20, size=EXTENT), axis=2) + 3000
    if dtype == "?":
        return walk % 3 == 0
    if np.dtype(dtype).kind in "fc":
        return (walk / 7).astype(dtype)
    return walk.astype(dtype)


def read(device: str, uri: Path, begins: list[tuple[int, ...]], dtype: str, pairs: bool, **settings: Any) -> tuple[np.ndarray, Any]:
    shape = SHAPE + (2,) * pairs
    config = damacy.Config(samples_per_batch=8, sample_shape=shape, dtype=dtype, device=device, **(LIMITS | settings))
    rows = []
    with damacy.Pipeline(config) as pipeline:
        pipeline.push(damacy.Sample(uri, [(b, b + s) for b, s in zip(begin + (0,) * pairs, shape)]) for begin in begins)
        for batch in pipeline.batches():
            with batch as tensor:
                rows.append(on_host(tensor).copy().view("u1"))
        return np.concatenate(rows), pipeline.stats()


def compare(uri: Path, rng: np.random.Generator, outputs: tuple[str, ...], pairs: bool = False, **settings: Any) -> int:
    """How many chunks the device decoded."""
    begins = [tuple(int(rng.integers(0, n - s + 1)) for n, s in zip(EXTENT, SHAPE)) for _ in range(21)]
    decoded = 0
    for output in outputs:
        expected, _ = read("cpu", uri, begins, output, pairs)
        found, stats = read("cuda", uri, begins, output, pairs, **settings)
        assert stats.gpu_retry.count == 0, f"DAMACY_TEST_SEED={SEED}: the device gave chunks back: {stats.gpu_retry.count}"
        assert np.array_equal(expected, found), f"DAMACY_TEST_SEED={SEED}: {uri.name} as {output} differs"
        decoded += stats.gpu_decode.count
    return decoded


def write(uri: Path, dtype: str, rng: np.random.Generator, **settings: Any) -> None:
    data = smooth(dtype, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(uri, shape=data.shape, dtype=data.dtype, fill_value=1, **settings)
        array[:48] = data[:48]  # the rest is absent


def test_the_seed_is_told() -> None:
    print(f"DAMACY_TEST_SEED={SEED}")


@pytest.mark.parametrize("sharded", [False, True], ids=["chunks", "shards"])
@pytest.mark.parametrize("name", CODECS)
def test_codec(tmp_path: Path, name: str, sharded: bool) -> None:
    rng = np.random.default_rng([SEED, list(CODECS).index(name), sharded])
    compressors, on_device = CODECS[name]
    write(tmp_path / "a", "u2", rng, chunks=(16, 64, 100), shards=(32, 128, 200) if sharded else None, compressors=compressors)
    decoded = compare(tmp_path / "a", rng, ("bf16", "f32", "native"))
    assert decoded > 0 or not on_device, f"{name} was decoded on the CPU alone"


@pytest.mark.parametrize("name", ["zstd", "blosc-zstd-shuffle", "blosc-lz4-bitshuffle", "raw"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype(tmp_path: Path, dtype: str, name: str) -> None:
    rng = np.random.default_rng([SEED, 100 + DTYPES.index(dtype)])
    write(tmp_path / "a", dtype, rng, chunks=(16, 32, 64), shards=(32, 64, 128), compressors=CODECS[name][0])
    compare(tmp_path / "a", rng, ("native",) if dtype == "?" else ("native", "f32", "bf16", "f16", "f64"), pairs=dtype == "c8")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", V2)
def test_v2(tmp_path: Path, name: str, order: str) -> None:
    numcodecs = pytest.importorskip("numcodecs")
    rng = np.random.default_rng([SEED, 200 + list(V2).index(name)])
    for dtype in ("<u2", ">i4"):
        uri = tmp_path / dtype[1:]
        compressor = getattr(numcodecs, V2[name])()
        write(uri, dtype, rng, chunks=(16, 32, 64), compressors=compressor, zarr_format=2, order=order)
        compare(uri, rng, ("native", "f32"))


@pytest.mark.parametrize("decode", ["auto", "gpu", "cpu"])
@pytest.mark.parametrize("megabytes", [24, 48, 400])
def test_any_limit_and_place(tmp_path: Path, decode: str, megabytes: int) -> None:
    """Waves of a few chunks and of all of them, decoded here or there."""
    rng = np.random.default_rng([SEED, 300 + megabytes])
    write(tmp_path / "a", "u2", rng, chunks=(16, 32, 64), shards=(32, 64, 128), compressors=CODECS["blosc-zstd-shuffle"][0])
    decoded = compare(tmp_path / "a", rng, ("bf16",), decode=decode, max_gpu_memory_bytes=megabytes << 20, batch_slots=2)
    assert (decoded == 0) == (decode == "cpu")


@pytest.mark.parametrize("sharded", [False, True], ids=["chunks", "shards"])
def test_gpu_direct_storage(tmp_path: Path, sharded: bool) -> None:
    """Where libcufile is, in whatever mode it runs: the same bits, and what it did not read is counted."""
    rng = np.random.default_rng([SEED, 400 + sharded])
    write(tmp_path / "a", "u2", rng, chunks=(16, 64, 100), shards=(32, 128, 200) if sharded else None, compressors=[])
    begins = [(0, 0, 0), (3, 50, 71), (20, 110, 123), (40, 11, 2)] * 4
    expected, _ = read("cpu", tmp_path / "a", begins, "f32", False)
    try:
        found, stats = read("cuda", tmp_path / "a", begins, "f32", False, gpu_direct_storage=True, max_gpu_memory_bytes=512 << 20)
    except damacy.Unsupported as error:
        pytest.skip(str(error))
    assert np.array_equal(expected, found)
    assert stats.gpu_direct_read.count + stats.gpu_direct_fallback.count > 0
