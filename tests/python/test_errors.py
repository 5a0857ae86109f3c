"""Errors as exceptions: class, status and the parts that programs look at; policies; and that a pipeline goes on afterwards."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import SHAPE, Example, sample_of
from reading import PATIENCE, on_host

import damacy
from damacy import Sample, Status


def test_every_status_has_its_exception() -> None:
    from damacy._errors import BY_STATUS

    assert set(BY_STATUS) == set(Status) - {Status.OK, Status.END}
    for status, error in BY_STATUS.items():
        made = error("text", uri="u", key="k", byte_range=(1, 2))
        assert made.status is status and issubclass(error, damacy.DamacyError) and str(made) == "text"
        copied = pickle.loads(pickle.dumps(made))
        assert type(copied) is error and copied.uri == "u" and copied.byte_range == (1, 2) and copied.hint is None
    assert issubclass(damacy.Timeout, TimeoutError) and issubclass(damacy.InvalidArgument, ValueError)


def broken(example: Example, folder: Path, **changes: object) -> str:
    """A copy of the example with other metadata."""
    uri = folder / "broken"
    shutil.copytree(example.uri, uri)
    document = json.loads((uri / "zarr.json").read_text())
    (uri / "zarr.json").write_text(json.dumps(document | changes))
    return str(uri)


def raised(pipeline: damacy.Pipeline, uri: str) -> damacy.DamacyError:
    """What pop raises for a batch of one sample; the next one is sound again."""
    pipeline.push(Sample(uri, [(0, s) for s in SHAPE]))
    pipeline.flush()
    with pytest.raises(damacy.DamacyError) as caught:
        pipeline.pop(timeout=PATIENCE)
    assert uri in str(caught.value) and caught.value.uri == uri
    return caught.value


def test_missing_array(tmp_path: Path, make_pipeline) -> None:
    error = raised(make_pipeline(), str(tmp_path / "nothing"))
    assert isinstance(error, damacy.NotFound) and error.key == "zarr.json" and error.hint and error.field is None


def test_codec_that_is_unknown(example: Example, tmp_path: Path, make_pipeline) -> None:
    error = raised(make_pipeline(), broken(example, tmp_path, codecs=[{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "morse"}]))
    assert isinstance(error, damacy.Unsupported) and "morse" in str(error)


def test_metadata_that_are_no_json(example: Example, tmp_path: Path, make_pipeline) -> None:
    uri = Path(broken(example, tmp_path))
    (uri / "zarr.json").write_text('{"zarr_format": 3,')
    error = raised(make_pipeline(), str(uri))
    assert isinstance(error, damacy.DecodeError) and error.key == "zarr.json"


def test_array_of_another_rank(tmp_path: Path, make_pipeline) -> None:
    zarr.create_array(tmp_path / "flat", shape=(64, 64), chunks=(32, 32), dtype="u1")
    assert isinstance(raised(make_pipeline(), str(tmp_path / "flat")), damacy.RankMismatch)


def test_dtype_that_loses(example: Example, make_pipeline) -> None:
    error = raised(make_pipeline(dtype="u8"), example.uri)
    assert isinstance(error, damacy.DtypeMismatch) and "u16" in str(error) and error.hint


def test_box_outside_the_array(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(samples_per_batch=1)
    pipeline.push(sample_of(example, (30, 0, 0)))
    with pytest.raises(damacy.RankMismatch):
        pipeline.pop()


def test_corrupt_shard_index(example: Example, tmp_path: Path, make_pipeline) -> None:
    uri = Path(broken(example, tmp_path))
    shard = uri / "c" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[-20] ^= 1
    shard.write_bytes(content)
    error = raised(make_pipeline(), str(uri))
    assert isinstance(error, damacy.DecodeError) and error.key == "c/0/0/0" and "crc32c" in str(error)
    begin, end = error.byte_range
    assert end == len(content) and 0 < begin < end


def test_truncated_shard(example: Example, tmp_path: Path, make_pipeline) -> None:
    uri = Path(broken(example, tmp_path))
    (uri / "c" / "0" / "0" / "0").write_bytes(b"short")
    assert isinstance(raised(make_pipeline(), str(uri)), damacy.DecodeError)


def test_folder_in_place_of_a_file(example: Example, tmp_path: Path, make_pipeline) -> None:
    uri = Path(broken(example, tmp_path))
    (uri / "c" / "0" / "0" / "0").unlink()
    (uri / "c" / "0" / "0" / "0").mkdir()
    assert isinstance(raised(make_pipeline(), str(uri)), damacy.StorageError)


def test_missing_shard_is_the_fill_value(tmp_path: Path, make_pipeline) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(8, 32, 32), chunks=(4, 16, 16), shards=(4, 32, 32), dtype="i4", fill_value=-7)
    array[...] = 3
    (tmp_path / "a" / "c" / "1" / "0" / "0").unlink()
    pipeline = make_pipeline(samples_per_batch=1)
    pipeline.push(Sample(tmp_path / "a", np.s_[2:6, 0:16, 0:16]))
    values = on_host(pipeline.pop())
    assert (values[0, :2] == 3).all() and (values[0, 2:] == -7).all()


def mixed(example: Example, tmp_path: Path) -> list[Sample]:
    """Sound, missing, sound, missing, sound."""
    bad = Example(str(tmp_path / "nothing"), example.data)
    return [sample_of(bad if i % 2 else example, (i, 0, 0), tag=i) for i in range(5)]


def test_raise_names_every_bad_sample_and_goes_on(example: Example, tmp_path: Path, make_pipeline) -> None:
    pipeline = make_pipeline()
    pipeline.push(mixed(example, tmp_path))
    batches = pipeline.batches()
    with pytest.raises(damacy.NotFound, match=r"2 of 4 samples failed \(1, 3\)"):
        next(batches)
    assert next(batches).info.tags == (4,)
    with pytest.raises(StopIteration):
        next(batches)
    assert not pipeline.pending


def test_skip_leaves_out(example: Example, tmp_path: Path, make_pipeline) -> None:
    pipeline = make_pipeline(on_error="skip")
    pipeline.push(mixed(example, tmp_path))
    batch = next(pipeline.batches())
    info = batch.info
    assert info.tags == (0, 2) and [row.tag for row in info.skipped] == [1, 3] and info.failed == info.skipped
    assert info.skipped[0].status is Status.NOTFOUND and isinstance(info.skipped[0].error, damacy.NotFound)
    assert info.skipped[0].message == str(info.skipped[0].error) and info.skipped[0].ordinal == 1
    values = on_host(batch)
    assert values.shape == (2, *SHAPE)
    np.testing.assert_array_equal(values[1], example.crop(2, 0, 0, shape=SHAPE))


def test_fill_marks(example: Example, tmp_path: Path, make_pipeline) -> None:
    pipeline = make_pipeline(on_error="fill")
    pipeline.push(mixed(example, tmp_path))
    batch = next(pipeline.batches())
    assert [row.status for row in batch.info.rows] == [Status.OK, Status.NOTFOUND] * 2
    assert [row.tag for row in batch.info.failed] == [1, 3]
    values = on_host(batch)
    assert (values[1] == 0).all()
    np.testing.assert_array_equal(values[2], example.crop(2, 0, 0, shape=SHAPE))


def test_every_batch_held(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(samples_per_batch=1, batch_slots=2)
    pipeline.push(sample_of(example, (z, 0, 0)) for z in range(4))
    held = [pipeline.pop(), pipeline.pop()]
    with pytest.raises(damacy.PoolStarved, match="batch_slots") as caught:
        pipeline.pop()
    assert caught.value.hint
    held.pop()
    assert pipeline.pop().info.batch_id == 2


def test_timeout(make_pipeline) -> None:
    pipeline = make_pipeline()
    for timeout in (0, 0.05):
        with pytest.raises(TimeoutError) as caught:
            pipeline.pop(timeout)
        assert isinstance(caught.value, damacy.Timeout)
    for wrong in (-1, float("nan")):
        with pytest.raises(damacy.InvalidArgument):
            pipeline.pop(wrong)
    with pytest.raises(TypeError, match="timeout is 'soon', expected seconds"):
        pipeline.pop("soon")


def test_a_wait_that_nothing_ends_is_told_of(example: Example, make_pipeline) -> None:
    """A batch that is not full, no source, no flush: after five seconds a warning, then pop goes on waiting, here until the batch is
    flushed because of it."""
    pipeline = make_pipeline(samples_per_batch=4)
    with pytest.raises(damacy.Timeout, match="batch 0 was not ready in time: it has 0 of 4 samples; push more, or flush"):
        pipeline.pop(0)
    pipeline.push(sample_of(example, (0, 0, 0)) for _ in range(5))
    pipeline.pop().release()
    told: list[str] = []
    heard = threading.Event()

    def hear(message: Warning | str, category: type[Warning], *_: object) -> None:
        told.append(f"{category.__name__}: {message}")
        heard.set()

    def flush() -> None:
        heard.wait(PATIENCE)
        pipeline.flush()

    late = threading.Thread(target=flush)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = hear
        late.start()
        assert len(pipeline.pop().info.rows) == 1
    late.join()
    assert len(told) == 1 and told[0].startswith("RuntimeWarning: ") and "batch 1 has 1 of 4 samples; push more, call flush" in told[0]
    assert pipeline.pop() is None


def test_closed(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()
    batches = pipeline.batches()
    pipeline.close()
    pipeline.close()
    for call in (pipeline.pop, pipeline.flush, pipeline.stats, pipeline.stats_reset, pipeline.batches, lambda: next(batches)):
        with pytest.raises(damacy.ShutdownError):
            call()
    with pytest.raises(damacy.ShutdownError):
        pipeline.push(sample_of(example, (0, 0, 0)))
    with pytest.raises(damacy.ShutdownError), pipeline:
        pass


def test_names_of_fields_in_errors(example: Example, tmp_path: Path, make_pipeline) -> None:
    pipeline = make_pipeline(fields={"image": damacy.Field(SHAPE, "u16"), "label": damacy.Field(SHAPE, "u8")}, samples_per_batch=1)
    pipeline.push(Sample({"image": example.uri, "label": tmp_path / "no"}, example.box(0, 0, 0, shape=SHAPE)))
    with pytest.raises(damacy.NotFound) as caught:
        pipeline.pop()
    assert caught.value.field == "label"
