"""What a pipeline tells of its servers agrees with what it did, and no secret is told."""

from __future__ import annotations

import numpy as np
import pytest
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
        (origin, server), *more = pipeline.remote_stats()["servers"].items()
        assert not more and uri.startswith(origin + "/")
        stats = pipeline.stats()
        assert server["requests"] >= stats.read.count > 0
        assert server["attempts"] == server["requests"] + server["retries"] + server["hedges"] + server["redirects"]
        assert server["failures"] == 0 and server["bytes_received"] >= server["bytes_used"] >= stats.read.bytes
        assert 0 < server["latency_p50_ns"] <= server["latency_p90_ns"] <= server["latency_p99_ns"]
        assert server["hedges"] <= max(1, 0.05 * server["requests"])


def test_uri_secrets_are_not_told(request: pytest.FixtureRequest) -> None:
    place = make_place("http", request)
    uri = "http://me:sesame@127.0.0.1:1/a.zarr?sig=sesame"
    options = {**(place.options or {}), "retries_max": 0}
    with pipeline_for(options, samples_per_batch=1) as pipeline:
        pipeline.push([damacy.Sample(uri, tuple((0, n) for n in SHAPE))])
        with pytest.raises(damacy.DamacyError) as caught:
            pipeline.pop(timeout=60)
    assert "sesame" not in str(caught.value) and "sesame" not in repr(caught.value)
    assert "***@127.0.0.1:1/a.zarr?***" in str(caught.value)
