"""Whatever goes wrong between the server and us: nothing is lost, nothing is reordered, nothing wrong is delivered, and what fails is
exactly what was made to fail.

The proxy of tests/support/fault_proxy.py makes chosen answers go wrong and keeps a list. Each sample is one chunk in one object, so that
the list of injected faults names the samples.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from remote.conftest import PATIENT, STALLING, crops_of, expect, make_place, pipeline_for, s3_options
from fault_proxy import PASSING, Fault, FaultProxy, Rule, by_chance, lognormal_latency
from reading import PATIENCE, on_host
from servers import READER, Nginx, SeaweedFS

import damacy

COUNT = 48
CHUNK = (1, 32, 32)


@pytest.fixture(scope="module")
def chunks(web_root: Path) -> np.ndarray:
    """One uncompressed chunk a plane, so any wrong byte would be seen."""
    array = zarr.create_array(web_root / "planes.zarr", shape=(COUNT, 32, 32), chunks=CHUNK, dtype="u4", compressors=None)
    data = np.random.default_rng(5).integers(0, 2**32, array.shape, dtype="u4")
    array[...] = data
    return data


@pytest.fixture
def proxy(nginx: Nginx) -> Iterator[FaultProxy]:
    with FaultProxy(nginx.http) as proxy:
        yield proxy


BEGINS = np.stack([np.arange(COUNT), np.zeros(COUNT, int), np.zeros(COUNT, int)], axis=1)


def run_all(proxy: FaultProxy, chunks: np.ndarray, **options: Any) -> damacy.Stats:
    with pipeline_for(PATIENT | options, sample_shape=CHUNK, samples_per_batch=8) as pipeline:
        crops_of(pipeline, f"{proxy.endpoint}/planes.zarr", chunks, BEGINS, CHUNK)
        return pipeline.stats()


HEALED = {
    "503": Rule(Fault.STATUS, r"/c/", times=8, status=503),
    "429 with Retry-After": Rule(Fault.STATUS, r"/c/", times=4, status=429, retry_after="1"),
    "500": Rule(Fault.STATUS, r"/c/", times=5, status=500),
    "502": Rule(Fault.STATUS, r"/c/", times=5, status=502),
    "504": Rule(Fault.STATUS, r"/c/", times=5, status=504),
    "503 for the metadata": Rule(Fault.STATUS, r"zarr\.json", times=2, status=503),
    "reset before the answer": Rule(Fault.RESET, r"/c/", once_each=True, chance=0.5),
    "reset in the body": Rule(Fault.RESET, r"/c/", once_each=True, at=1000),
    "truncated body": Rule(Fault.TRUNCATE, r"/c/", once_each=True, at=2000, chance=0.5),
    "short length": Rule(Fault.SHORT_LENGTH, r"/c/", once_each=True, at=10, needs_range=True, chance=0.5),
    "hanging": Rule(Fault.HANG, r"/c/", times=3),
    "stalled body": Rule(Fault.STALL, r"/c/", times=3, at=1500),
    "slow-loris": Rule(Fault.SLOW, r"/c/", times=2, rate=60),
    "whole object for a range": Rule(Fault.WHOLE, r"/c/", needs_range=True),
}


@pytest.mark.parametrize("name", HEALED)
def test_what_heals(proxy: FaultProxy, chunks: np.ndarray, name: str) -> None:
    rule = HEALED[name]
    rule.seen.clear()
    proxy.rules = [rule]
    run_all(proxy, chunks, **(STALLING if rule.fault in (Fault.HANG, Fault.STALL, Fault.SLOW) else {}))
    if rule.needs_range:  # chunks may be asked for without a range
        return
    assert proxy.injected, "the fault was not met"


COUNTED = {
    "503": (Rule(Fault.STATUS, r"/c/", times=8, status=503), "throttled"),
    "429": (Rule(Fault.STATUS, r"/c/", times=8, status=429, retry_after="0"), "throttled"),
    "500": (Rule(Fault.STATUS, r"/c/", times=8, status=500), "retries"),
    "reset": (Rule(Fault.RESET, r"/c/", times=8), "retries"),
    "reset in the body": (Rule(Fault.RESET, r"/c/", times=8, at=1000), "retries"),
    "truncated": (Rule(Fault.TRUNCATE, r"/c/", times=8, at=1000), "retries"),
    "stalled": (Rule(Fault.STALL, r"/c/", times=4, at=1000), "stalls"),
}


@pytest.mark.parametrize("name", COUNTED)
def test_retries_are_counted(proxy: FaultProxy, chunks: np.ndarray, name: str) -> None:
    """As many as the list of injected faults has, no more and no less, but for what may be taken for a stall."""
    rule, counter = COUNTED[name]
    proxy.rules = [rule]
    patience = STALLING if name == "stalled" else PATIENT
    with pipeline_for(patience | {"hedge_share": 0}, sample_shape=CHUNK, samples_per_batch=8) as pipeline:
        crops_of(pipeline, f"{proxy.endpoint}/planes.zarr", chunks, BEGINS, CHUNK)
        (server,) = pipeline.remote_stats()["servers"].values()
    assert len(proxy.injected) == (4 if name == "stalled" else 8)
    if name == "stalled":
        assert server["retries"] >= server["stalls"] >= len(proxy.injected)
    elif rule.fault is Fault.RESET:  # libcurl makes a connection that it had used before anew without a word, if nothing of the answer came
        assert server["retries"] <= len(proxy.injected)
    else:
        assert server[counter] == len(proxy.injected) >= server["retries"]
    assert server["failures"] == server["hedges"] == 0
    assert server["requests"] == COUNT + 1


def test_retry_after_is_honoured(proxy: FaultProxy, chunks: np.ndarray) -> None:
    proxy.rules = [Rule(Fault.STATUS, r"/c/7/", times=1, status=503, retry_after="2")]
    begin = time.monotonic()
    run_all(proxy, chunks, hedge_share=0)
    assert proxy.count(Fault.STATUS) == 1
    assert time.monotonic() - begin >= 1.9  # a lower bound only: it must not come back sooner than it was told


def test_resume_at_the_missing_byte(proxy: FaultProxy, chunks: np.ndarray) -> None:
    """After an end in the body the retry asks for the rest, not for all of it again. (What came before a reset may be lost with it.)"""
    proxy.rules = [Rule(Fault.TRUNCATE, r"/c/", once_each=True, at=3000, times=10)]
    run_all(proxy, chunks, hedge_share=0)
    begins = [int(found[1]) for _, path, wanted, _ in proxy.requests if (found := re.match(r"bytes=(\d+)-", wanted)) and "/c/" in path]
    assert [begin for begin in begins if begin > 0] == [3000] * 10, "a retry asked for more than the rest"


PERMANENT = {
    "400": Rule(Fault.STATUS, r"/c/(5|17|30|31)/", status=400),
    "401": Rule(Fault.STATUS, r"/c/(5|17|30|31)/", status=401),
    "403": Rule(Fault.STATUS, r"/c/(5|17|30|31)/", status=403),
    "405": Rule(Fault.STATUS, r"/c/(5|17|30|31)/", status=405),
    "501": Rule(Fault.STATUS, r"/c/(5|17|30|31)/", status=501),
    "503 without end": Rule(Fault.STATUS, r"/c/(5|17|30|31)/", status=503),
    "reset without end": Rule(Fault.RESET, r"/c/(5|17|30|31)/"),
    "no HTTP without end": Rule(Fault.GARBAGE, r"/c/(5|17|30|31)/"),
    "headers without end": Rule(Fault.HUGE_HEADER, r"/c/(5|17|30|31)/"),
    "header line without end": Rule(Fault.HUGE_LINE, r"/c/(5|17|30|31)/"),
    "redirect to a file": Rule(Fault.REDIRECT, r"/c/(5|17|30|31)/", location="file:///etc/passwd"),
    "redirect to ftp": Rule(Fault.REDIRECT, r"/c/(5|17|30|31)/", location="ftp://127.0.0.1/x"),
    "redirect to itself": Rule(Fault.REDIRECT, r"/c/(5|17|30|31)/", location="{path}"),
    "redirect to nowhere": Rule(Fault.REDIRECT, r"/c/(5|17|30|31)/", location=""),
}


@pytest.mark.parametrize("name", PERMANENT)
@pytest.mark.parametrize("policy", ["fill", "skip"])
def test_the_report_is_the_list_of_faults(proxy: FaultProxy, chunks: np.ndarray, name: str, policy: str) -> None:
    proxy.rules = [PERMANENT[name]]
    uri = f"{proxy.endpoint}/planes.zarr"
    options = PATIENT | {"retries": 2}
    failed: list[int] = []
    with pipeline_for(options, sample_shape=CHUNK, samples_per_batch=8, on_error=policy) as pipeline:
        pipeline.push(damacy.Sample(uri, [(i, i + 1), (0, 32), (0, 32)], i) for i in range(COUNT))
        delivered = []
        for batch in pipeline.batches():
            info = batch.info
            failed += [row.tag for row in info.failed]
            for row in info.failed:
                assert isinstance(row.error, damacy.StorageError) and row.error.uri == uri
                assert row.error.key == f"c/{row.tag}/0/0", "the error names another object"
            with batch as tensor:
                values = on_host(tensor)
                rows = [row for row in info.rows if row not in info.failed or policy == "fill"]
                assert len(values) == len(rows)
                for row, value in zip(rows, values):
                    if row.tag not in failed:
                        np.testing.assert_array_equal(value, chunks[row.tag : row.tag + 1])
                        delivered.append(row.tag)
    injected = {int(re.search(r"/c/(\d+)/", each.path)[1]) for each in proxy.injected}  # type: ignore[index]
    assert sorted(set(failed)) == sorted(injected) == [5, 17, 30, 31] and len(failed) == 4
    assert delivered == [i for i in range(COUNT) if i not in injected]


def test_permanent_is_not_tried_again(proxy: FaultProxy, chunks: np.ndarray) -> None:
    proxy.rules = [Rule(Fault.STATUS, r"/c/(5|17)/", status=403)]
    with pipeline_for(PATIENT | {"hedge_share": 0}, sample_shape=CHUNK, samples_per_batch=8, on_error="skip") as pipeline:
        pipeline.push(damacy.Sample(f"{proxy.endpoint}/planes.zarr", [(i, i + 1), (0, 32), (0, 32)], i) for i in range(COUNT))
        assert sum(len(batch.info.skipped) for batch in pipeline.batches()) == 2
    assert len(proxy.injected) == 2


def test_absent_is_fill_and_only_404_is_absent(proxy: FaultProxy, chunks: np.ndarray) -> None:
    expected = chunks.copy()
    expected[9] = 0
    proxy.rules = [Rule(Fault.STATUS, r"/c/9/", status=404)]
    with pipeline_for(PATIENT, sample_shape=CHUNK, samples_per_batch=8) as pipeline:
        crops_of(pipeline, f"{proxy.endpoint}/planes.zarr", expected, BEGINS, CHUNK)


@pytest.fixture(scope="module")
def shards(web_root: Path) -> np.ndarray:
    """Sharded, so that every read is a range."""
    array = zarr.create_array(web_root / "shards.zarr", shape=(8, 64, 64), chunks=(1, 16, 16), shards=(4, 64, 64), dtype="u4", compressors=None)
    data = np.random.default_rng(6).integers(0, 2**32, array.shape, dtype="u4")
    array[...] = data
    return data


def shard_begins(seed: int, count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 8, count), rng.integers(0, 33, count), rng.integers(0, 33, count)], axis=1)


RANGE_HEALED = {
    "short length": Rule(Fault.SHORT_LENGTH, r"/c/", once_each=True, at=100, chance=0.5),
    "whole object": Rule(Fault.WHOLE, r"/c/"),
    "wrong place once": Rule(Fault.WRONG_RANGE, r"/c/", times=3),
    "reset in the body": Rule(Fault.RESET, r"/c/", once_each=True, at=500, chance=0.7),
    "truncated": Rule(Fault.TRUNCATE, r"/c/", once_each=True, chance=0.7),
}


@pytest.mark.parametrize("name", RANGE_HEALED)
def test_ranges(proxy: FaultProxy, shards: np.ndarray, seed: int, name: str) -> None:
    """Whatever the server makes of ranges: wrong bytes are never delivered. A wrong place may be an error, and no more than that."""
    rule = RANGE_HEALED[name]
    rule.seen.clear()
    proxy.rules = [rule]
    begins, shape = shard_begins(seed), (1, 32, 32)
    with pipeline_for(PATIENT, sample_shape=shape, samples_per_batch=4, on_error="skip") as pipeline:
        pipeline.push(
            damacy.Sample(f"{proxy.endpoint}/shards.zarr", [(int(b), int(b) + s) for b, s in zip(begin, shape)], i)
            for i, begin in enumerate(begins)
        )
        skipped = 0
        for batch in pipeline.batches():
            skipped += len(batch.info.skipped)
            with batch as tensor:
                for tag, values in zip(batch.info.tags, on_host(tensor)):
                    box = tuple(slice(b, b + s) for b, s in zip(begins[tag], shape))
                    np.testing.assert_array_equal(values, shards[box])
    assert proxy.injected
    assert name == "wrong place once" or skipped == 0


def test_changed_object_is_told(proxy: FaultProxy, shards: np.ndarray, seed: int) -> None:
    """The ETag of an object changes while it is in use."""
    begins, shape = shard_begins(seed), (1, 32, 32)
    uri = f"{proxy.endpoint}/shards.zarr"
    with pipeline_for(PATIENT, sample_shape=shape, samples_per_batch=4, on_error="skip") as pipeline:
        crops_of(pipeline, uri, shards, begins[:20], shape)
        proxy.rules = [Rule(Fault.ETAG, r"/c/0/")]
        pipeline.push(
            damacy.Sample(uri, [(int(b), int(b) + s) for b, s in zip(begin, shape)], i) for i, begin in enumerate(begins)
        )
        pipeline.flush()
        seen = 0
        messages = []
        while seen < len(begins):
            batch = pipeline.pop(timeout=PATIENCE)
            seen += len(batch.info.rows) + len(batch.info.skipped)
            messages += [row.message for row in batch.info.skipped]
            for row in batch.info.skipped:
                assert begins[row.tag][0] < 4, "the other shard did not change"
            with batch as tensor:
                for tag, values in zip(batch.info.tags, on_host(tensor)):
                    box = tuple(slice(b, b + s) for b, s in zip(begins[tag], shape))
                    np.testing.assert_array_equal(values, shards[box])
    assert messages and all("changed" in message for message in messages)


@pytest.mark.parametrize("threads", [1, 3])
def test_random_faults(proxy: FaultProxy, shards: np.ndarray, chunks: np.ndarray, seed: int, threads: int) -> None:
    """A bad day: every kind of transient fault, a long tail, and little bandwidth, all at once."""
    proxy.random.seed(seed)
    proxy.latency = lognormal_latency(0.004, sigma=0.5, tail=0.02, factor=20, seed=seed)
    proxy.rate = 2_000_000
    kinds = PASSING + [{"fault": Fault.STATUS, "status": 429, "retry_after": "0"}, {"fault": Fault.STATUS, "status": 500}]
    proxy.rules = by_chance(kinds, 0.05) + [Rule(Fault.STALL, "/c/", chance=0.02, times=3, at=100)]
    begins, shape = shard_begins(seed, 200), (1, 32, 32)
    with pipeline_for(STALLING | {"network_threads": threads}, sample_shape=shape, samples_per_batch=4) as pipeline:
        crops_of(pipeline, f"{proxy.endpoint}/shards.zarr", shards, begins, shape)
    print(f"{len(proxy.injected)} faults in {len(proxy.requests)} answers")
    assert len(proxy.injected) >= 5


SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@pytest.mark.parametrize("threads", [1, 3])
def test_random_faults_before_s3(
    seaweed: SeaweedFS, web_root: Path, shards: np.ndarray, request: pytest.FixtureRequest, seed: int, threads: int
) -> None:
    """The same bad day in front of S3, with signed requests: what heals is not seen, and what does not is told, object by object."""
    make_place("s3-keys", request).ensure("shards.zarr", web_root / "shards.zarr")
    with FaultProxy(seaweed.port) as proxy:
        proxy.random.seed(seed)
        kinds: list[dict[str, Any]] = [
            {"fault": Fault.STATUS, "status": 503, "body": SLOW_DOWN},
            {"fault": Fault.STATUS, "status": 500},
            {"fault": Fault.RESET},
            {"fault": Fault.RESET, "at": 700},
            {"fault": Fault.TRUNCATE, "at": 300},
        ]
        forever = Rule(Fault.STATUS, r"/c/1/0/0", status=403, body=DENIED)
        first = [Rule(where="", times=1, **kind) for kind in kinds]
        proxy.rules = [forever, *first] + [Rule(where="", chance=0.08, **kind) for kind in kinds]
        begins, shape = shard_begins(seed, 150), (1, 32, 32)
        options = PATIENT | s3_options(proxy.endpoint, READER, network_threads=threads)
        failed, row = [], 0
        with pipeline_for(options, sample_shape=shape, samples_per_batch=5, on_error="skip") as pipeline:
            pipeline.push(
                damacy.Sample("s3://private/shards.zarr", [(int(b), int(b) + s) for b, s in zip(begin, shape)], i) for i, begin in enumerate(begins)
            )
            for batch in pipeline.batches():
                failed += [(skipped.tag, skipped.error) for skipped in batch.info.skipped]
                tags = batch.info.tags
                with batch as tensor:
                    for tag, values in zip(tags, on_host(tensor)):
                        np.testing.assert_array_equal(values, shards[tuple(slice(b, b + s) for b, s in zip(begins[tag], shape))])
                        row += 1
        assert [tag for tag, _ in failed] == [i for i in range(len(begins)) if begins[i][0] >= 4] and row + len(failed) == len(begins)
        for _, error in failed:
            assert error.key == "c/1/0/0" and "403: AccessDenied" in str(error) and "missing_is_403" in str(error)
            assert READER.secret not in str(error)
        assert any(each.status != 403 for each in proxy.injected)


@pytest.mark.parametrize("threads", [1, 3])
def test_hedges_stay_below_their_share(proxy: FaultProxy, chunks: np.ndarray, threads: int) -> None:
    """One request in fifty hangs for long: second requests overtake, and there are few of them."""
    proxy.latency = lognormal_latency(0.005, sigma=0.1, tail=0.02, factor=100, seed=3)
    uri = f"{proxy.endpoint}/planes.zarr"
    with pipeline_for(PATIENT | {"network_threads": threads}, sample_shape=CHUNK, samples_per_batch=8) as pipeline:
        for epoch in range(8):
            crops_of(pipeline, uri, chunks, BEGINS, CHUNK, tag=epoch * COUNT)
        (server,) = pipeline.remote_stats()["servers"].values()
    asked = sum("/c/" in path for _, path, _, _ in proxy.requests)
    assert asked <= 8 * COUNT * 1.05 + 8
    assert server["hedges"] <= server["requests"] * 0.05 + 8
    print(f"{server['hedges']} hedges, {server['hedges_won']} won, of {server['requests']}")


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_batch_has_a_deadline(proxy: FaultProxy, chunks: np.ndarray, policy: str) -> None:
    """One object never comes: its sample fails by the policy when the batch's time is over, and the rest is delivered. A machine that
    stops for so long has more than one that does not come: then once more, with more time."""
    proxy.rules = [Rule(Fault.HANG, r"/c/5/")]
    for batch_timeout in (1.5, 10, 100):
        try:
            return meet_the_deadline(f"{proxy.endpoint}/planes.zarr", chunks, policy, batch_timeout)
        except (AssertionError, damacy.StorageError):
            if batch_timeout == 100:
                raise


def meet_the_deadline(uri: str, chunks: np.ndarray, policy: str, batch_timeout: float) -> None:
    options = PATIENT | {"batch_timeout": batch_timeout, "hedge_share": 0}
    with pipeline_for(options, sample_shape=CHUNK, samples_per_batch=8, on_error=policy) as pipeline:
        pipeline.push(damacy.Sample(uri, [(i, i + 1), (0, 32), (0, 32)], i) for i in range(16))
        pipeline.flush()
        if policy == "raise":
            with pytest.raises(damacy.StorageError, match="batch_timeout") as caught:
                pipeline.pop(timeout=PATIENCE)
            assert caught.value.key and "c/5/0/0" in caught.value.key
        else:
            batch = pipeline.pop(timeout=PATIENCE)
            assert [row.tag for row in batch.info.skipped] == [5] and "batch_timeout" in batch.info.skipped[0].message
            with batch as tensor:
                np.testing.assert_array_equal(on_host(tensor), np.delete(chunks[:8, None], 5, axis=0))
        with pipeline.pop(timeout=PATIENCE) as tensor:
            np.testing.assert_array_equal(on_host(tensor), chunks[8:16, None])


def pop_until_it_hangs(pipeline: damacy.Pipeline, proxy: FaultProxy) -> None:
    """Until the proxy has the request that it will not answer."""
    while not proxy.injected:
        with pytest.raises(damacy.Timeout):
            pipeline.pop(timeout=0.3)


@pytest.mark.parametrize("threads", [1, 3])
def test_close_while_everything_hangs(proxy: FaultProxy, chunks: np.ndarray, threads: int) -> None:
    """It does not wait for the server, which would be for an hour."""
    proxy.rules = [Rule(Fault.HANG, r"/c/")]
    never = {"stall_timeout": 3600, "request_timeout": 3600}
    pipeline = pipeline_for(never | {"network_threads": threads}, sample_shape=CHUNK, samples_per_batch=8)
    pipeline.push(damacy.Sample(f"{proxy.endpoint}/planes.zarr", [(i, i + 1), (0, 32), (0, 32)], i) for i in range(COUNT))
    pop_until_it_hangs(pipeline, proxy)
    pipeline.close()


def test_close_while_a_container_hangs(proxy: FaultProxy, capfd: pytest.CaptureFixture[str]) -> None:
    """References that never come are waited for by the thread that resolves uris: it ends all the same."""
    proxy.rules = [Rule(Fault.HANG, r"refs\.json")]
    pipeline = pipeline_for({"stall_timeout": 3600, "request_timeout": 3600}, sample_shape=CHUNK, samples_per_batch=1)
    pipeline.push([damacy.Sample(f"{proxy.endpoint}/refs.json/x", [(0, 1), (0, 32), (0, 32)])])
    pop_until_it_hangs(pipeline, proxy)
    pipeline.close()
    assert "left behind" not in capfd.readouterr().err


@pytest.mark.usefixtures("nginx")  # which says whether there is one
def test_server_restarts_in_mid_epoch(web_root: Path, chunks: np.ndarray) -> None:
    with Nginx(web_root) as server, pipeline_for(PATIENT, sample_shape=CHUNK, samples_per_batch=4, lookahead_samples=8) as pipeline:
        uri = f"http://127.0.0.1:{server.http}/planes.zarr"
        for epoch in range(4):
            pipeline.push(damacy.Sample(uri, [(i, i + 1), (0, 32), (0, 32)], i) for i in range(8))
            server.kill()
            time.sleep(0.1 * epoch)
            server.start()
            expect(pipeline, chunks, BEGINS[:8], CHUNK)
