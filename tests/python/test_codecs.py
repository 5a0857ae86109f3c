"""Codecs decoded by Python functions: what they are given and may give, errors, many threads, exits. Arrays are written by hand, or by
numcodecs for codecs that damacy refuses."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reading import Reader, config, on_host

import damacy

DATA = np.arange(20 * 30, dtype="u2").reshape(20, 30)
CHUNKS = (6, 8)


def write(path: Path, encode: Any, codecs: list[Any], v2: dict[str, Any] | None = None) -> str:
    """DATA in chunks, each encoded by a function of its bytes."""
    path.mkdir(parents=True)
    if v2 is not None:
        metadata = {"zarr_format": 2, "shape": DATA.shape, "chunks": CHUNKS, "dtype": "<u2", "fill_value": 0, "order": "C", "filters": None}
        (path / ".zarray").write_text(json.dumps(metadata | v2))
    else:
        metadata = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": DATA.shape,
            "data_type": "uint16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": CHUNKS}},
            "chunk_key_encoding": {"name": "v2"},
            "codecs": codecs,
            "fill_value": 0,
        }
        (path / "zarr.json").write_text(json.dumps(metadata))
    for row in range(4):
        for column in range(4):
            chunk = np.zeros(CHUNKS, "u2")
            part = DATA[row * 6 : row * 6 + 6, column * 8 : column * 8 + 8]
            chunk[: part.shape[0], : part.shape[1]] = part
            (path / f"{row}.{column}").write_bytes(encode(chunk.tobytes()))
    return str(path)


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


@pytest.fixture
def register() -> Iterator[Any]:
    """register_codec(), undone at the end."""
    names: list[str] = []

    def add(name: str, function: Any, **settings: Any) -> None:
        damacy.register_codec(name, function, **settings)
        names.append(name)

    yield add
    for name in names:
        damacy.unregister_codec(name)


def read(uri: str) -> np.ndarray:
    with Reader() as reader:
        return reader.whole(uri, DATA.shape, "uint16")


def test_a_codec_of_ones_own(tmp_path: Path, register: Any) -> None:
    calls = []

    def decode(data: bytes, configuration: Any, size: int) -> bytes:
        calls.append((type(data), configuration, size, threading.current_thread() is threading.main_thread()))
        return bytes(byte ^ configuration["key"] for byte in data)

    register("test.xor", decode)
    uri = write(tmp_path / "a", lambda raw: bytes(b ^ 0x5A for b in raw), [LITTLE, {"name": "test.xor", "configuration": {"key": 0x5A}}])
    assert (read(uri) == DATA).all()
    assert len(calls) == 16
    assert {call[0] for call in calls} == {bytes} and {call[2] for call in calls} == {96} and not any(call[3] for call in calls)
    assert all(call[1] == {"key": 0x5A} for call in calls)


def test_behind_and_in_front_of_other_codecs(tmp_path: Path, register: Any) -> None:
    import numcodecs

    register("test.reverse", lambda data, configuration, size: data[::-1])
    zstd = numcodecs.Zstd()
    behind = write(tmp_path / "a", lambda raw: zstd.encode(raw)[::-1], [LITTLE, {"name": "zstd"}, {"name": "test.reverse"}])
    front = write(tmp_path / "b", lambda raw: zstd.encode(raw[::-1]), [LITTLE, "test.reverse", {"name": "zstd"}])
    assert (read(behind) == DATA).all() and (read(front) == DATA).all()


def test_as_a_compressor_of_v2(tmp_path: Path, register: Any) -> None:
    register("numcodecs.mine", lambda data, configuration, size: data[: configuration["n"] * 0 + size])
    uri = write(tmp_path / "a", lambda raw: raw + b"tail", [], {"compressor": {"id": "mine", "n": 3}})
    assert (read(uri) == DATA).all()


def test_what_numcodecs_has_and_damacy_has_not(tmp_path: Path, register: Any) -> None:
    import base64

    import numcodecs

    uri = write(tmp_path / "a", numcodecs.Base64().encode, [], {"compressor": {"id": "base64"}})
    with pytest.raises(damacy.Unsupported, match="base64"):
        read(uri)
    register("numcodecs.base64", lambda data, configuration, size: base64.standard_b64decode(data))
    assert (read(uri) == DATA).all()


def test_in_the_place_of_bytes(tmp_path: Path, register: Any) -> None:
    register("test.text", lambda data, configuration, size: np.array(data.decode().split(), "u2"), array_to_bytes=True)
    uri = write(tmp_path / "a", lambda raw: " ".join(map(str, np.frombuffer(raw, "u2"))).encode(), [{"name": "test.text"}])
    assert (read(uri) == DATA).all()


def test_arrays_views_and_bytearrays_are_bytes_too(tmp_path: Path, register: Any) -> None:
    kinds: list[Any] = [lambda data: np.frombuffer(data, "u2").reshape(CHUNKS), bytearray, memoryview]
    turn = itertools.count()
    register("test.kinds", lambda data, configuration, size: kinds[next(turn) % 3](data))
    assert (read(write(tmp_path / "a", bytes, [LITTLE, {"name": "test.kinds"}])) == DATA).all()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda data, configuration, size: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda data, configuration, size: None, "gave a NoneType"),
        (lambda data, configuration, size: "text", "gave a str"),
        (lambda data, configuration, size: np.zeros((8, 12), "u2").T, "gave a ndarray"),
        (lambda data, configuration, size: data * 2, "192 bytes, expected 96"),
        (lambda data, configuration, size: data[:-1], "95"),
        (lambda data: data, "TypeError"),
    ],
)
def test_wrong_functions(tmp_path: Path, register: Any, function: Any, message: str) -> None:
    register("test.wrong", function)
    uri = write(tmp_path / "a", bytes, [LITTLE, {"name": "test.wrong"}])
    with pytest.raises(damacy.DecodeError) as caught:
        read(uri)
    assert message in str(caught.value) and "test.wrong" in str(caught.value) and caught.value.key == "0.0"


def test_names_that_are_taken(register: Any) -> None:
    register("test.once", lambda *arguments: b"")
    for name in ("test.once", "zstd", "bytes", ""):
        with pytest.raises(damacy.InvalidArgument):
            damacy.register_codec(name, lambda *arguments: b"")
    with pytest.raises(damacy.NotFound):
        damacy.unregister_codec("test.never")
    for function in (None, 5):
        with pytest.raises(TypeError):
            damacy.register_codec("test.other", function)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        damacy.unregister_codec(5)  # type: ignore[arg-type]


def test_functions_are_let_go(tmp_path: Path) -> None:
    import gc
    import weakref

    class Decode:
        def __call__(self, data: bytes, configuration: Any, size: int) -> bytes:
            return data

    decode = Decode()
    seen = weakref.ref(decode)
    damacy.register_codec("test.gone", decode)
    uri = write(tmp_path / "a", bytes, [LITTLE, {"name": "test.gone"}])
    pipeline = damacy.Pipeline(config(samples_per_batch=1, sample_shape=DATA.shape, dtype="native"))
    pipeline.push(damacy.Sample(uri, [(0, n) for n in DATA.shape]))
    pipeline.pop().release()
    damacy.unregister_codec("test.gone")
    del decode
    gc.collect()
    assert seen() is not None, "an open array still uses it"
    pipeline.push(damacy.Sample(uri, [(0, n) for n in DATA.shape]))
    assert (on_host(pipeline.pop())[0] == DATA).all()
    pipeline.close()
    gc.collect()
    assert seen() is None


def test_many_threads_and_a_consumer_that_computes(tmp_path: Path, register: Any) -> None:
    register("test.slow", lambda data, configuration, size: bytes(bytearray(data)))
    uri = write(tmp_path / "a", bytes, [LITTLE, {"name": "test.slow"}])
    settings = config(samples_per_batch=4, sample_shape=(5, 7), dtype="u16", worker_count=4)
    rng = np.random.default_rng(1)
    begins = np.stack([rng.integers(0, 15, 400), rng.integers(0, 23, 400)], axis=1)
    with damacy.Pipeline(settings) as pipeline:
        pipeline.push_arrays([uri], np.zeros(400, int), begins)
        row = 0
        for batch in pipeline.batches():
            for values in on_host(batch):
                y, x = begins[row]
                assert (values == DATA[y : y + 5, x : x + 7]).all()
                row += 1
    assert row == 400


def test_the_interpreter_may_end_at_any_time(tmp_path: Path, run_python: Any) -> None:
    uri = write(tmp_path / "a", bytes, [LITTLE, {"name": "test.slow"}])
    program = """
import sys, time, damacy
def slow(data, configuration, size):
    time.sleep(0.002)
    return data
damacy.register_codec("test.slow", slow)
pipeline = damacy.Pipeline(damacy.Config(samples_per_batch=1, sample_shape=(20, 30), dtype="native", worker_count=4))
pipeline.push(damacy.Sample(sys.argv[1], [(0, 20), (0, 30)]) for _ in range(1000))
pipeline.pop()
if sys.argv[2] == "kept":
    import builtins
    builtins.kept = pipeline
if sys.argv[2] == "fork":
    import os
    if os.fork() == 0:
        other = damacy.Pipeline(damacy.Config(samples_per_batch=1, sample_shape=(20, 30), dtype="native"))
        other.push(damacy.Sample(sys.argv[1], [(0, 20), (0, 30)]))
        assert other.pop() is not None
        print("child", flush=True)
        sys.exit(0)
    assert os.wait()[1] == 0
print("done", flush=True)
"""
    for how in ("dropped", "kept", "fork"):
        done = run_python(program, uri, how)
        assert done.returncode == 0 and "done" in done.stdout, f"{how}: {done.stderr}"
        assert how != "fork" or "child" in done.stdout
