"""A small shard that a sample needs whole comes in one request, index and chunks together; what needs only a part of a shard costs as
many requests and bytes as without; and whatever happens on the way, the samples are what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from fault_proxy import PASSING, FaultProxy, by_chance, lognormal_latency
from reading import PATIENCE, on_host
from remote.conftest import PATIENT, Place, make_place, pipeline_for
from servers import Nginx

import damacy

COUNT, SHAPE = 24, (40, 48)
KINDS: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": zarr.codecs.ZstdCodec()},
    "raw": {"compressors": None},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays of one shard each, of two kinds, and one long array of many shards; one small array has nothing stored."""
    root = tmp_path_factory.mktemp("ahead")
    rng = np.random.default_rng(5)
    for kind, settings in KINDS.items():
        for i in range(COUNT):
            array = zarr.create_array(root / f"{kind}{i}", shape=SHAPE, chunks=(20, 16), shards=SHAPE, dtype="u2", fill_value=3, **settings)
            if i != 7:
                array[...] = rng.integers(0, 50 * (i + 1), SHAPE)
    long = zarr.create_array(root / "long", shape=(COUNT * 40, 48), chunks=(20, 16), shards=SHAPE, dtype="u2", **KINDS["zstd"])
    long[...] = rng.integers(0, 4096, long.shape)
    return root


Totals = tuple[int, int]


def read(place: Place, names: list[str], boxes: list[list[tuple[int, int]]], ahead: bool) -> tuple[list[np.ndarray], Totals]:
    """The samples, and how many requests went out and how many bytes came in for them."""
    options = place.options | PATIENT | {"hedge_share": 0} | ({} if ahead else {"index_ahead_bytes_max": 0})
    shape = tuple(end - begin for begin, end in boxes[0])
    for _ in range(5):
        rows, server = read_once(place, names, boxes, options, shape)
        assert server["failures"] == 0
        if server["retries"] == 0:
            break  # else the server was not ready for some of it, and the numbers tell of that, too
    return rows, (server["attempts"], server["bytes_received"])


def read_once(
    place: Place, names: list[str], boxes: list[list[tuple[int, int]]], options: dict[str, Any], shape: tuple[int, ...]
) -> tuple[list[np.ndarray], dict[str, int]]:
    rows: list[np.ndarray] = []
    with pipeline_for(options, sample_shape=shape, dtype="u16", samples_per_batch=4, coalesce_gap_bytes=8192) as pipeline:
        for name, box in zip(names, boxes):  # one after the other: the first tells how far away the server is
            pipeline.push([damacy.Sample(place.uri(name), box)])
            pipeline.flush()
            with pipeline.pop(timeout=PATIENCE) as tensor:
                rows += [values.copy() for values in on_host(tensor)]
        (server,) = pipeline.remote_stats()["servers"].values()
    return rows, server


def compare(place: Place, folder: Path, names: list[str], boxes: list[list[tuple[int, int]]]) -> tuple[Totals, Totals]:
    """With and without, to the bit."""
    for name in set(names):
        place.ensure(name, folder / name)
    plain_rows, plain = read(place, names, boxes, ahead=False)
    rows, totals = read(place, names, boxes, ahead=True)
    for name, box, row, plain_row in zip(names, boxes, rows, plain_rows, strict=True):
        expected = zarr.open_array(folder / name, mode="r")[tuple(slice(*interval) for interval in box)]
        np.testing.assert_array_equal(row, expected, err_msg=name)
        np.testing.assert_array_equal(plain_row, expected, err_msg=name)
    return totals, plain


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["http", "https-h2", "s3-keys", "http-noranges"])
def test_one_request_a_shard(request: pytest.FixtureRequest, folder: Path, where: str, kind: str) -> None:
    place = make_place(where, request)
    names = [f"{kind}{i}" for i in range(COUNT)]
    boxes = [[(0, extent) for extent in SHAPE]] * COUNT
    (attempts, received), (plain_attempts, plain_received) = compare(place, folder, names, boxes)
    assert plain_attempts - attempts == COUNT - 1  # all but the absent one, which costs one request either way
    if where != "http-noranges":
        assert received == plain_received


@pytest.mark.parametrize("box", [[(5, 25), (3, 30)], [(0, 20), (0, 48)]])
def test_a_part_costs_what_it_did(request: pytest.FixtureRequest, folder: Path, box: list[tuple[int, int]]) -> None:
    place = make_place("http", request)
    boxes = [[(40 * i + box[0][0], 40 * i + box[0][1]), box[1]] for i in range(COUNT)]
    totals, plain = compare(place, folder, ["long"] * COUNT, boxes)
    assert totals == plain


@pytest.mark.parametrize("threads", [1, 3])
def test_a_bad_day(request: pytest.FixtureRequest, nginx: Nginx, folder: Path, seed: int, threads: int) -> None:
    """Every kind of transient fault, while many are under way and arrays come up again."""
    place = make_place("http", request)
    names = [f"{kind}{i}" for kind in KINDS for i in range(COUNT)]
    for name in names:
        place.ensure(name, folder / name)
    expected = {name: zarr.open_array(folder / name, mode="r")[...] for name in names}
    order = np.random.default_rng(seed).integers(0, len(names), 300)
    with FaultProxy(nginx.http) as proxy:
        proxy.random.seed(seed)
        proxy.latency = lognormal_latency(0.004, sigma=0.5, tail=0.02, factor=20, seed=seed)
        proxy.rules = by_chance(PASSING, 0.03)
        with pipeline_for(PATIENT | {"network_threads": threads}, sample_shape=SHAPE, dtype="u16") as pipeline:
            pipeline.push(damacy.Sample(f"{proxy.endpoint}/{names[i]}", [(0, extent) for extent in SHAPE]) for i in order)
            pipeline.flush()
            row = 0
            while row < len(order):
                with pipeline.pop(timeout=PATIENCE) as tensor:
                    for values in on_host(tensor):
                        np.testing.assert_array_equal(values, expected[names[order[row]]], err_msg=names[order[row]])
                        row += 1
            assert pipeline.remote_stats()["shared_requests"] > 0
        assert len(proxy.injected) >= 5
