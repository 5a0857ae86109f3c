"""What a pipeline tells of its servers agrees with what it did, and no secret is told."""

from __future__ import annotations

import numpy as np
import pytest
from reading import PATIENCE
from remote.conftest import SHAPE, Remote, crops_of, make_place, pipeline_for, random_begins

import damacy


def test_remote_stats(request: pytest.FixtureRequest, sharded: Remote, seed: int) -> None:
    place = make_place("http", request)
    uri = place.ensure("stats.zarr", sharded.folder)
    begins = random_begins(np.random.default_rng(seed), sharded.data.shape, SHAPE, 40)
    with pipeline_for(place.options, samples_per_batch=4) as pipeline:
        before = pipeline.remote_stats()
        assert before["servers"] == {} and before["cache_hits"] == 0
        crops_of(pipeline, uri, sharded.data, begins, SHAPE)
        found = pipeline.remote_stats()
        (origin, server), *more = found["servers"].items()
        assert not more and uri.startswith(origin + "/")
        stats = pipeline.stats()
        assert server["requests"] >= stats.read.count > 0
        # What another request had brought, or was bringing, is not asked for again.
        sent = server["requests"] - found["shared_requests"]
        assert server["attempts"] == sent + server["retries"] + server["hedges"] + server["redirects"]
        assert server["failures"] == 0 and server["bytes_used"] >= stats.read.bytes
        assert server["bytes_received"] + found["shared_bytes"] >= server["bytes_used"]
        assert 0 < server["latency_p50_ns"] <= server["latency_p90_ns"] <= server["latency_p99_ns"]
        assert server["hedges"] <= max(1, 0.05 * server["requests"])


SECRET = "sesame-4711"


def texts_of(thing: object) -> str:
    return f"{thing} {thing!r} {getattr(thing, '__dict__', '')} {getattr(thing, '__notes__', '')}"


def test_uri_secrets_are_not_told(request: pytest.FixtureRequest, sharded: Remote, capfd: pytest.CaptureFixture[str]) -> None:
    """A password and a shared link's signature are in no repr, error or log, whether the uri works or not; and it stays what it is."""
    place = make_place("http", request)
    here = place.ensure("told.zarr", sharded.folder).removeprefix("http://")
    good = f"http://me:{SECRET}@{here}?X-Amz-Signature={SECRET}"
    bad = f"HTTP://me:{SECRET}@127.0.0.1:1/a.zarr?sig={SECRET}"
    box = [(0, s) for s in SHAPE]
    told: list[str] = []
    damacy.set_log_level("debug")
    try:
        with pipeline_for({**place.options, "retries_max": 1}, samples_per_batch=1) as pipeline:
            for uri in (good, bad, f"s3://key:{SECRET}@bucket/a.zarr", f"https://me:{SECRET}/1@host/a.zarr"):
                sample = damacy.Sample(uri, box)
                assert sample.uri == uri
                told += [texts_of(sample)]
                pipeline.push([sample])
                pipeline.flush()
                if uri == good:
                    crops = pipeline.pop(timeout=PATIENCE)
                    told += [texts_of(crops.info)]
                    crops.release()
                    continue
                with pytest.raises(damacy.DamacyError) as caught:
                    pipeline.pop(timeout=PATIENCE)
                told += [texts_of(caught.value)]
                assert caught.value.uri and "***" in caught.value.uri
            told += [texts_of(pipeline), texts_of(pipeline.stats()), texts_of(pipeline.remote_stats())]
        assert "***@127.0.0.1:1/a.zarr?***" in told[3]
        node, failed = damacy.open_many([good, bad], storage_options=place.options | {"retries_max": 1})
        assert isinstance(node, damacy.Node) and node.uri == good and node.name == "told.zarr"
        told += [repr(node), str(node), texts_of(failed)]
        for wrong in (lambda: node.box((0, 1000)), lambda: node.box(1, 2, 3, 4), lambda: node.box(nothing=1)):
            with pytest.raises(damacy.DamacyError) as caught:
                wrong()
            told += [texts_of(caught.value)]
    finally:
        damacy.set_log_level("warn")
    captured = capfd.readouterr()
    for text in [*told, captured.out, captured.err]:
        assert SECRET not in text
    assert captured.err  # there was a log to look at
