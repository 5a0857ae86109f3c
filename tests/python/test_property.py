"""Random arrays and random crops: damacy reads what zarr-python and tensorstore read, to the bit.

Each case draws an array (rank, shape, chunks, shards, codecs, dtype, byte order, key encoding, fill value, which parts are written) and
several crops of it. DAMACY_TEST_SEED repeats a run, DAMACY_TEST_CASES says how many arrays are made.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
from reading import config, on_host
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

import damacy

CASES = int(os.environ.get("DAMACY_TEST_CASES", "200"))
CROPS = 12
NAMES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
BLOSC = ["lz4", "lz4hc", "blosclz", "zstd", "zlib"]


def chance(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def random_values(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Any bit pattern, or something that compresses."""
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if chance(rng, 0.5):
        return rng.integers(0, 100, shape).astype(dtype)
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def random_fill(rng: np.random.Generator, dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return chance(rng, 0.5)
    if dtype.kind == "f":
        return rng.choice([0.0, -0.0, 1.5, -1e4, np.nan, np.inf, -np.inf]).astype(dtype)
    limits = np.iinfo(dtype)
    return dtype.type(rng.choice([0, limits.min, limits.max, 7]) if dtype.itemsize < 8 else (limits.max, 0)[rng.integers(2)])


def random_compressors(rng: np.random.Generator, dtype: np.dtype) -> list[Any]:
    kind = rng.integers(6)
    chain: list[Any] = []
    if kind == 1:
        chain = [ZstdCodec(level=int(rng.integers(1, 6)), checksum=chance(rng, 0.5))]
    elif kind == 2:
        chain = [GzipCodec(level=int(rng.integers(0, 7)))]
    elif kind in (3, 4):
        chain = [
            BloscCodec(
                cname=str(rng.choice(BLOSC)),
                clevel=int(rng.integers(0, 7)),
                shuffle=str(rng.choice(["noshuffle", "shuffle", "bitshuffle"])),
                typesize=int(rng.choice([dtype.itemsize, 1, 2, 3])),
                blocksize=int(rng.choice([0, 0, 256, 1024])),
            )
        ]
    elif kind == 5:
        chain = [Crc32cCodec(), ZstdCodec()]
    return chain + ([Crc32cCodec()] if chance(rng, 0.3) else [])


@dataclass
class Case:
    uri: Path
    data: np.ndarray
    text: str


def random_array(rng: np.random.Generator, uri: Path, rank: int | None = None) -> Case:
    rank = rank or int(rng.integers(1, 5))
    most = (200, 40, 16, 9)[rank - 1]
    dtype = np.dtype(str(rng.choice(NAMES)))
    shape = tuple(int(n) for n in rng.integers(1, most + 1, rank))
    chunks = tuple(int(n) for n in rng.integers(1, max(2, most // 2) + 1, rank))
    settings: dict[str, Any] = {"shape": shape, "chunks": chunks, "dtype": dtype, "fill_value": random_fill(rng, dtype)}
    if chance(rng, 0.6):
        settings["shards"] = {
            "shape": tuple(c * int(n) for c, n in zip(chunks, rng.integers(1, 4, rank))),
            "index_location": str(rng.choice(["start", "end"])),
            "index_codecs": [BytesCodec(endian=str(rng.choice(["little", "big"])))] + ([Crc32cCodec()] if chance(rng, 0.7) else []),
        }
    settings["filters"] = [TransposeCodec(order=tuple(map(int, rng.permutation(rank))))] if chance(rng, 0.3) else []
    settings["serializer"] = BytesCodec(endian=str(rng.choice(["little", "big"])) if dtype.itemsize > 1 else None)
    settings["compressors"] = random_compressors(rng, dtype)
    settings["chunk_key_encoding"] = {"name": str(rng.choice(["default", "v2"])), "separator": str(rng.choice(["/", "."]))}
    text = f"{settings}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(uri, **settings, config={"write_empty_chunks": chance(rng, 0.5)})
        if chance(rng, 0.5):
            array[...] = random_values(rng, shape, dtype)
        else:  # a few boxes; the rest of the chunks and shards is missing
            for _ in range(int(rng.integers(0, 3))):
                ends = [sorted(map(int, rng.integers(0, extent + 1, 2))) for extent in shape]
                box = tuple(slice(b, e) for b, e in ends)
                array[box] = random_values(rng, tuple(e - b for b, e in ends), dtype)
        data = np.asarray(array[...])
    return Case(uri, data, text)


def read_by_tensorstore(uri: Path) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(uri)}}
    return tensorstore.open(spec, open=True, read=True).result().read().result()


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal to the bit, but that any NaN is like another."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind == "f":
        nan = np.isnan(left)
        if not (nan == np.isnan(right)).all():
            return False
        left, right = np.where(nan, 0, left), np.where(nan, 0, right)
    return left.tobytes() == right.tobytes()


def outputs(dtype: np.dtype) -> list[str]:
    """What this dtype may become without loss, and every float."""
    names = ["native"] if dtype.kind == "b" else []
    safe = [name for name in NAMES if name != "?" and np.dtype(name).kind != "f" and np.can_cast(dtype, name, "safe")]
    return names + [np.dtype(name).name for name in safe] + ["native", "float16", "float32", "float64"]


def converted(data: np.ndarray, output: str) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return data if output == "native" else data.astype(output)


def exact_in_one_step(data: np.ndarray, output: str) -> bool:
    """NumPy goes through another type from 64-bit integers to float16; elsewhere it rounds once, like damacy."""
    return not (output == "float16" and data.dtype.kind in "iu" and data.dtype.itemsize >= 4)


def test_random_arrays_one_by_one(tmp_path: Path, seed: int) -> None:
    compared = 0
    for number in range(CASES):
        rng = np.random.default_rng([seed, number])
        case = random_array(rng, tmp_path / str(number))
        where = f"DAMACY_TEST_SEED={seed}, array {number}: {case.text}"
        data = case.data
        assert same(np.asarray(read_by_tensorstore(case.uri)), data), f"tensorstore and zarr-python disagree; {where}"
        output = str(rng.choice(outputs(data.dtype)))
        if not exact_in_one_step(data, output):
            output = "float32"
        shape = tuple(int(rng.integers(1, extent + 1)) for extent in data.shape)
        settings = config(
            samples_per_batch=int(rng.integers(1, 6)),
            sample_shape=shape,
            dtype=output,
            worker_count=int(rng.integers(1, 4)),
            verify=str(rng.choice(["needed", "full"])),
            coalesce_gap_bytes=int(rng.choice([0, 1, 64])),
            io_uring=str(rng.choice(["auto", "never"])),
        )
        begins = np.stack([rng.integers(0, extent - size + 1, CROPS) for extent, size in zip(data.shape, shape)], axis=1)
        expected = converted(data, output)
        with damacy.Pipeline(settings) as pipeline:
            if chance(rng, 0.5):
                pipeline.push(damacy.Sample(case.uri, [(b, b + s) for b, s in zip(begin, shape)], i) for i, begin in enumerate(begins))
            else:
                pipeline.push_arrays([case.uri], np.zeros(CROPS, "u1"), begins)
            row = 0
            for batch in pipeline.batches():
                assert list(batch.info.tags) == list(range(row, row + len(batch.info.rows))), where
                for values in on_host(batch):
                    box = tuple(slice(b, b + s) for b, s in zip(begins[row], shape))
                    assert same(values, np.ascontiguousarray(expected[box])), f"crop {box} as {output}; {where}"
                    row += 1
            assert row == CROPS, where
        compared += row
    print(f"{compared} crops of {CASES} arrays agree")


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_random_arrays_in_one_stream(tmp_path: Path, seed: int, rank: int) -> None:
    """Many arrays at once, crops of all of them in any order, into one dtype."""
    rng = np.random.default_rng([seed, 1000 + rank])
    cases = [random_array(rng, tmp_path / str(number), rank) for number in range(max(1, CASES // 8))]
    shape = (1,) * rank
    output = "float64"
    draws = []
    for _ in range(40 * len(cases)):
        index = int(rng.integers(len(cases)))
        draws.append((index, [int(rng.integers(extent)) for extent in cases[index].data.shape]))
    with damacy.Pipeline(config(samples_per_batch=32, sample_shape=shape, dtype=output, batch_slots=3)) as pipeline:
        pipeline.push(damacy.Sample(cases[i].uri, [(b, b + 1) for b in begin]) for i, begin in draws)
        row = 0
        for batch in pipeline.batches():
            with batch as tensor:
                for values in on_host(tensor):
                    index, begin = draws[row]
                    expected = converted(cases[index].data[tuple(slice(b, b + 1) for b in begin)], output)
                    assert same(values, expected), f"DAMACY_TEST_SEED={seed}, rank {rank}, {begin} of array {index}: {cases[index].text}"
                    row += 1
        assert row == len(draws)


def test_big_chunks_are_decoded_in_part(tmp_path: Path, seed: int) -> None:
    """Chunks of several blosc blocks and zstd blocks, of which small crops need few."""
    rng = np.random.default_rng([seed, 2000])
    data = (rng.integers(0, 1000, (64, 128, 128)) // 8).astype("u2")
    for name, compressor in {
        "zstd": ZstdCodec(),
        "gzip": GzipCodec(),
        **{f"{c}-{s}": BloscCodec(cname=c, shuffle=s, typesize=2) for c in BLOSC for s in ("noshuffle", "shuffle", "bitshuffle")},
        "raw": None,
    }.items():
        compressors = [] if compressor is None else [compressor]
        array = zarr.create_array(tmp_path / name, shape=data.shape, chunks=(64, 128, 64), dtype="u2", compressors=compressors)
        array[...] = data
        shape = (5, 17, 33)
        begins = np.stack([rng.integers(0, extent - size + 1, 24) for extent, size in zip(data.shape, shape)], axis=1)
        with damacy.Pipeline(config(samples_per_batch=3, sample_shape=shape, dtype="native")) as pipeline:
            pipeline.push_arrays([tmp_path / name], np.zeros(24, int), begins)
            rows = [row for batch in pipeline.batches() for row in on_host(batch).copy()]
        for begin, row in zip(begins, rows, strict=True):
            expected = data[tuple(slice(b, b + s) for b, s in zip(begin, shape))]
            np.testing.assert_array_equal(row, expected, err_msg=f"DAMACY_TEST_SEED={seed}, {name}, {begin}")


def test_metadata_with_other_words(tmp_path: Path) -> None:
    """Forms that zarr-python does not write but others do: hexadecimal fill values, attributes, unknown members to be ignored."""
    zarr.create_array(tmp_path / "a", shape=(4,), chunks=(2,), dtype="f4", fill_value=1.0)
    document = json.loads((tmp_path / "a" / "zarr.json").read_text())
    document |= {"fill_value": "0x40490fdb", "attributes": {"nested": [None, {"x": 1e300}]}}
    document["some_extension"] = {"must_understand": False}
    (tmp_path / "a" / "zarr.json").write_text(json.dumps(document))
    with damacy.Pipeline(config(samples_per_batch=1, sample_shape=(4,), dtype="native")) as pipeline:
        pipeline.push(damacy.Sample(tmp_path / "a", [(0, 4)]))
        assert (on_host(pipeline.pop()) == np.float32(np.pi)).all()
