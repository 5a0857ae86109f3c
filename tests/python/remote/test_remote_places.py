"""Over each kind of server: crops equal those of numpy, odd names are found, and errors tell what is wrong without telling secrets."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from remote.conftest import SHAPE, Place, Remote, crops_of, make_place, pipeline_for, random_begins, s3_options
from reading import PATIENCE, on_host
from servers import READER, WRITER, Certificates, Keys, Nginx, SeaweedFS
from test_property import CROPS, converted, exact_in_one_step, outputs, random_array, same

import damacy


def test_crops(place: Place, sharded: Remote, seed: int) -> None:
    """Also across the absent shard, which is fill value."""
    uri = place.ensure("sharded.zarr", sharded.folder)
    begins = random_begins(np.random.default_rng(seed), sharded.data.shape, SHAPE, 80)
    with pipeline_for(place.options, samples_per_batch=8) as pipeline:
        crops_of(pipeline, uri, sharded.data, begins, SHAPE)


def test_whole_array_as_one_crop(place: Place, sharded: Remote) -> None:
    uri = place.ensure("sharded.zarr", sharded.folder)
    with pipeline_for(place.options, samples_per_batch=1, sample_shape=sharded.data.shape) as pipeline:
        crops_of(pipeline, uri, sharded.data, np.zeros((2, 3), int), sharded.data.shape)


NAMES = ["with space/a b.zarr", "plus+sign/a+b.zarr", "größe/ünï-日本.zarr", "per%cent/100%25.zarr", "odd (1)'!*;=@&,$/x~y.zarr"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(request: pytest.FixtureRequest, sharded: Remote, name: str) -> None:
    begins = np.array([[0, 0, 0], [12, 50, 60]])
    for where in ("s3-keys", "s3-anonymous", "http"):
        place = make_place(where, request)
        uri = place.ensure(name, sharded.folder)
        with pipeline_for(place.options, samples_per_batch=2) as pipeline:
            crops_of(pipeline, uri, sharded.data, begins, SHAPE)


def test_random_arrays(place: Place, tmp_path: Path, seed: int) -> None:
    """The property test over a network: arrays of every kind, one stream."""
    cases = {"http-noranges": 6}.get(place.name, 12)
    for number in range(cases):
        rng = np.random.default_rng([seed, 77, number])
        name = f"random-{seed}-{number}.zarr"
        folder = tmp_path / name
        case = random_array(rng, folder)
        kept = tmp_path.parent / f"{place.name}-{name}"
        shutil.copytree(folder, kept)
        uri = place.ensure(f"{place.name}/{name}", kept)
        output = str(rng.choice(outputs(case.data.dtype)))
        if not exact_in_one_step(case.data, output):
            output = "float32"
        shape = tuple(int(rng.integers(1, extent + 1)) for extent in case.data.shape)
        begins = random_begins(rng, case.data.shape, shape, CROPS)
        expected, row = converted(case.data, output), 0
        where = f"DAMACY_TEST_SEED={seed}, array {number} at {place.name}: {case.text}"
        with pipeline_for(place.options, sample_shape=shape, dtype=output, samples_per_batch=int(rng.integers(1, 6))) as pipeline:
            pipeline.push_arrays([uri], np.zeros(CROPS, int), begins)
            for batch in pipeline.batches():
                for values in on_host(batch):
                    box = tuple(slice(b, b + s) for b, s in zip(begins[row], shape))
                    assert same(values, np.ascontiguousarray(expected[box])), f"crop {box} as {output}; {where}"
                    row += 1
        assert row == CROPS, where


def failure(uri: str, options: dict[str, Any]) -> damacy.DamacyError:
    with pipeline_for(options, samples_per_batch=1) as pipeline:
        pipeline.push(damacy.Sample(uri, [(0, s) for s in SHAPE]))
        with pytest.raises(damacy.DamacyError) as caught:
            pipeline.pop(timeout=PATIENCE)
    return caught.value


def test_missing_array(place: Place) -> None:
    error = failure(place.uri("no such array.zarr"), place.options)
    assert isinstance(error, damacy.NotFound)


def test_wrong_keys(seaweed: SeaweedFS, sharded: Remote, request: pytest.FixtureRequest) -> None:
    uri = make_place("s3-keys", request).ensure("sharded.zarr", sharded.folder)
    for keys in (Keys(WRITER.access, "wrong-secret-1234"), Keys("nobody-knows-me", "wrong-secret-1234"), None):
        error = failure(uri, s3_options(seaweed.endpoint, keys))
        assert isinstance(error, damacy.StorageError) and not isinstance(error, damacy.NotFound)
        assert "403" in str(error) and "wrong-secret" not in str(error)
    assert isinstance(failure("s3://no-such-bucket/x.zarr", s3_options(seaweed.endpoint, WRITER)), (damacy.NotFound, damacy.StorageError))
    # The reader may read its bucket only.
    other = failure("s3://damacyother/x.zarr", s3_options(seaweed.endpoint, READER))
    assert isinstance(other, damacy.DamacyError)


def test_keys_from_the_environment_and_files(seaweed: SeaweedFS, sharded: Remote, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> None:
    uri = make_place("s3-keys", request).ensure("sharded.zarr", sharded.folder)
    bare = {"endpoint_url": seaweed.endpoint, "region": "us-east-1"}
    begins = np.array([[0, 0, 0], [12, 50, 60]])

    def works(options: dict[str, Any]) -> None:
        with pipeline_for(options, samples_per_batch=2) as pipeline:
            crops_of(pipeline, uri, sharded.data, begins, SHAPE)

    with monkeypatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", READER.access)
        patch.setenv("AWS_SECRET_ACCESS_KEY", READER.secret)
        works(bare)
    credentials = tmp_path / "credentials"
    credentials.write_text(
        f"[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n\n"
        f"[training]\naws_access_key_id = {READER.access}\naws_secret_access_key={READER.secret}\n"
    )
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
        works(bare | {"profile": "training"})
        patch.setenv("AWS_PROFILE", "training")
        works(bare)


def test_unknown_authority(nginx: Nginx, sharded: Remote, request: pytest.FixtureRequest) -> None:
    uri = make_place("https", request).ensure("sharded.zarr", sharded.folder)
    error = failure(uri, {})
    assert isinstance(error, damacy.StorageError) and "certificate" in str(error).lower()


@pytest.mark.parametrize("variable", ["CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_authority_from_the_environment(nginx: Nginx, certificates: Certificates, sharded: Remote, request: pytest.FixtureRequest, monkeypatch, variable: str) -> None:
    uri = make_place("https", request).ensure("sharded.zarr", sharded.folder)
    for each in ("CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(variable, str(certificates.ca))
    with pipeline_for({}, samples_per_batch=2) as pipeline:
        crops_of(pipeline, uri, sharded.data, np.array([[0, 0, 0], [12, 50, 60]]), SHAPE)


def test_http2_is_spoken_where_it_is_offered(nginx: Nginx, certificates: Certificates, sharded: Remote, tmp_path: Path) -> None:
    """With a server of its own, whose log says what was spoken."""
    os.chmod(tmp_path, 0o755)
    begins = random_begins(np.random.default_rng(4), sharded.data.shape, SHAPE, 40)
    with Nginx(tmp_path, certificates, log_requests=True) as server:
        for port, protocol in ((server.https, "HTTP/1.1"), (server.http2, "HTTP/2.0")):
            name = f"{protocol[-3:]}.zarr"  # one for each, for the server writes its log a moment after its answers
            (tmp_path / name).symlink_to(sharded.folder)
            with pipeline_for({"ca_bundle": str(certificates.ca)}, samples_per_batch=8) as pipeline:
                crops_of(pipeline, f"https://localhost:{port}/{name}", sharded.data, begins, SHAPE)
            asked = [line for line in server.requests() if f"/{name}/" in line]
            assert asked and all(line.endswith(protocol) for line in asked), asked[:3]


def test_hidden_absence(nginx: Nginx, sharded: Remote) -> None:
    """403 is a failure, unless the option says that the store hides absence so."""
    uri = f"http://127.0.0.1:{nginx.http}/hidden/x.zarr"
    error = failure(uri, {})
    assert isinstance(error, damacy.StorageError) and "403" in str(error)
    assert isinstance(failure(uri, {"missing_is_403": True}), damacy.NotFound)


def test_redirects(nginx: Nginx, sharded: Remote, request: pytest.FixtureRequest) -> None:
    make_place("http", request).ensure("sharded.zarr", sharded.folder)
    with pipeline_for({}, samples_per_batch=2) as pipeline:
        uri = f"http://127.0.0.1:{nginx.http}/moved/sharded.zarr"
        crops_of(pipeline, uri, sharded.data, np.array([[0, 0, 0], [12, 50, 60]]), SHAPE)


def test_groups_over_http(nginx: Nginx, web_root: Path) -> None:
    """Nothing lists over http: what is below a group is known from consolidated metadata, or the node says that it is not."""
    endpoint = f"http://127.0.0.1:{nginx.http}"
    for name in ("plain.zarr", "whole.zarr"):
        group = zarr.open_group(web_root / name, mode="w", zarr_format=2)
        group.create_array("x", shape=(4, 4), chunks=(2, 2), dtype="u2")
    zarr.consolidate_metadata(web_root / "whole.zarr")
    plain, whole = damacy.open_many([f"{endpoint}/plain.zarr", f"{endpoint}/whole.zarr"])
    assert plain.kind == whole.kind == "group"
    assert [child.name for child in whole.children] == ["x"] and whole.complete
    assert not plain.children and not plain.complete and "name the arrays" in str(plain)
    assert damacy.open(f"{endpoint}/plain.zarr/x").shape == (4, 4)
    with pytest.raises(damacy.NotFound, match=r"zarr\.json"):
        damacy.open(f"{endpoint}/nowhere")


def test_nobody_listens() -> None:
    from servers import take_ports

    (port,) = take_ports(1)
    error = failure(f"http://127.0.0.1:{port}/x.zarr", {"request_timeout": 2, "retries": 1})
    assert isinstance(error, damacy.StorageError) and "127.0.0.1" in str(error)


def test_https_of_a_server_without(nginx: Nginx) -> None:
    with pytest.raises(damacy.StorageError, match="http:// is for one that does not"):
        damacy.open(f"https://127.0.0.1:{nginx.http}/planes.zarr", storage_options={"retries": 0})


def test_secrets_are_not_told(seaweed: SeaweedFS, capfd: pytest.CaptureFixture[str], monkeypatch) -> None:
    secret, token = "a-very-secret-key-0815", "a-session-token-4711"
    options = {"endpoint_url": seaweed.endpoint, "region": "us-east-1", "key": WRITER.access, "secret": secret, "token": token}
    config = damacy.Config(samples_per_batch=1, sample_shape=SHAPE, dtype="native", storage_options=options)
    texts = [repr(config), str(config)]
    damacy.set_log_level("debug")
    try:
        with damacy.Pipeline(config) as pipeline:
            texts += [repr(pipeline)]
            pipeline.push(damacy.Sample("s3://private/x.zarr", [(0, s) for s in SHAPE]))
            with pytest.raises(damacy.DamacyError) as caught:
                pipeline.pop(timeout=PATIENCE)
            texts += [str(caught.value), repr(caught.value), str(vars(caught.value)), str(pipeline.stats())]
    finally:
        damacy.set_log_level("warn")
    captured = capfd.readouterr()
    for text in [*texts, captured.out, captured.err]:
        assert secret not in text and token not in text
