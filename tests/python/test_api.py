"""The surface: Config, Field, Sample, Dtype, batches and what they tell. Values are compared with what zarr-python wrote."""

from __future__ import annotations

import copy
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHAPE, Example, sample_of
from reading import DEVICE, ON_CPU, on_host

import damacy
from damacy import Config, Dtype, Field, Sample


# --- Sample ---


@pytest.mark.parametrize(
    "aabb",
    [
        [(0, 4), (1, 17), (2, 18)],
        ((0, 4), (1, 17), (2, 18)),
        np.s_[0:4, 1:17, 2:18],
        np.s_[:4, 1:17:1, 2:18],
        [[0, 4], (np.int64(1), np.uint16(17)), slice(np.int32(2), 18)],
        np.array([[0, 4], [1, 17], [2, 18]]),
        ((b, e) for b, e in [(0, 4), (1, 17), (2, 18)]),
    ],
)
def test_boxes_in_every_form(aabb: object) -> None:
    assert Sample("x", aabb).aabb == ((0, 4), (1, 17), (2, 18))


def test_one_axis_as_a_bare_slice() -> None:
    assert Sample("x", np.s_[3:5]).aabb == ((3, 5),)


@pytest.mark.parametrize(
    ("aabb", "error", "says"),
    [
        ([(0, 4, 5)], TypeError, r"axis 0 of the box is \(0, 4, 5\), expected a pair"),
        ([(0, 1), 5], TypeError, r"axis 1 of the box is 5, .* a single index i is \(i, i \+ 1\)"),
        (np.s_[..., 0:4], TypeError, "axis 0 of the box is Ellipsis, expected a pair"),
        (["ab"], TypeError, "'ab'"),
        ([(0, 1), (0.0, 4)], TypeError, "the begin of the box in axis 1 is 0.0, expected an integer"),
        (np.array([[0, 4.5]]), TypeError, "the begin of the box in axis 0 is .*0.0.*, expected an integer"),
        ([(None, 4)], TypeError, "the begin of the box in axis 0 is None"),
        (7, TypeError, "the box is 7, expected a pair"),
        (None, TypeError, "the box is None, expected a pair"),
        (np.s_[0:1, 0:4:2], damacy.InvalidArgument, r"axis 1 of the box is slice\(0, 4, 2\): .*no step; damacy.open"),
        (np.s_[0:], damacy.InvalidArgument, r"axis 0 of the box is slice\(0, None, None\): a slice of a box needs an end"),
        ([(0, 2**63)], damacy.InvalidArgument, "the end of the box in axis 0 is 9223372036854775808, expected what fits 64 bits"),
        ([(0, 1)] * 32, damacy.InvalidArgument, "32 axes"),
    ],
)
def test_wrong_boxes(aabb: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Sample("x", aabb)


def test_what_an_index_raises_is_kept() -> None:
    class Broken:
        def __index__(self) -> int:
            raise TypeError("mine")

    with pytest.raises(TypeError, match="^mine$"):
        Sample("x", [(Broken(), 4)])


def test_uris() -> None:
    assert Sample(Path("/a") / "b", []).uri == "/a/b"
    assert Sample("/ä/ü 5", []).uri == "/ä/ü 5"
    raw = os.fsdecode(b"/a/\xff")
    assert Sample(raw, []).uri == raw
    with pytest.raises(TypeError):
        Sample(5, [])
    with pytest.raises(damacy.InvalidArgument):
        Sample("a\0b", [])


def test_tags() -> None:
    assert Sample("x", [], 2**64 - 1).tag == 2**64 - 1
    assert Sample("x", [], tag=np.uint8(200)).tag == 200
    for wrong in (-1, 2**64):
        with pytest.raises(damacy.InvalidArgument, match=rf"the tag is {wrong}, expected 0 to 2\*\*64 - 1"):
            Sample("x", [], wrong)
    with pytest.raises(TypeError, match="the tag is '1', expected an integer"):
        Sample("x", [], "1")


def test_samples_are_values() -> None:
    one, same, other = Sample("x", [(0, 1)], 3), Sample("x", ((0, 1),), 3), Sample("x", [(0, 1)], 4)
    assert one == same and hash(one) == hash(same) and one != other and one != 5
    several = Sample({"a": "x", "b": "y"}, {"b": [(0, 1)], "a": [(1, 2)]}, tag=5)
    turned = Sample({"b": "y", "a": "x"}, {"b": [(0, 1)], "a": [(1, 2)]}, tag=5)
    assert several == turned and hash(several) == hash(turned)
    for sample in (one, several):
        assert pickle.loads(pickle.dumps(sample)) == sample
        assert copy.copy(sample) == sample
        assert eval(repr(sample)) == sample
    with pytest.raises(AttributeError):
        one.tag = 7  # type: ignore[misc]


@pytest.mark.parametrize("aabb", [{"a": [(0, 1)]}, {"a": [(0, 1)], "c": [(0, 1)]}, {}])
def test_fields_of_a_sample_agree(aabb: dict[str, object]) -> None:
    with pytest.raises(damacy.InvalidArgument):
        Sample({"a": "x", "b": "y"}, aabb)


# --- Dtype ---


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("f32", Dtype.F32),
        ("float32", Dtype.F32),
        ("torch.float32", Dtype.F32),
        (np.float32, Dtype.F32),
        (np.dtype("f4"), Dtype.F32),
        (np.dtype(">u2"), Dtype.U16),
        (np.bool_, Dtype.BOOL),
        (bool, Dtype.BOOL),
        (int, Dtype.I64),
        (float, Dtype.F64),
        ("bf16", Dtype.BF16),
        ("bfloat16", Dtype.BF16),
        ("native", Dtype.NATIVE),
        (Dtype.U8, Dtype.U8),
        ("u8", Dtype.U8),
    ],
)
def test_dtypes_by_every_name(value: object, expected: Dtype) -> None:
    assert Dtype.parse(value) is expected


@pytest.mark.parametrize("value", ["complex64", np.complex64, "u1", 4, None, "", object()])
def test_unknown_dtypes(value: object) -> None:
    with pytest.raises(damacy.InvalidArgument, match="dtype"):
        Dtype.parse(value)


@pytest.mark.parametrize("value", ["f4", "<f4", ">u2", "u1", "<i8"])
def test_dtypes_as_the_array_protocol_has_them(value: str) -> None:
    with pytest.raises(damacy.InvalidArgument, match=rf"counts bytes, .* pass np.dtype\('{value}'\)"):
        Dtype.parse(value)
    assert Dtype.parse(np.dtype(value)).itemsize == np.dtype(value).itemsize


def test_ml_dtypes_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert Dtype.parse(ml_dtypes.bfloat16) is Dtype.BF16
    assert Dtype.parse(np.dtype(ml_dtypes.bfloat16)) is Dtype.BF16


# --- Config ---


def test_config_shows_itself() -> None:
    config = Config(samples_per_batch=8, sample_shape=[4, np.int64(5)], dtype=np.uint16, batch_slots=3, on_error="fill")
    assert repr(config) == "Config(samples_per_batch=8, sample_shape=(4, 5), dtype='u16', on_error='fill', batch_slots=3)"
    assert eval(repr(config)) == config and hash(eval(repr(config))) == hash(config)
    assert pickle.loads(pickle.dumps(config)) == config
    assert config.sample_shape == (4, 5) and config.dtype is Dtype.U16 and config.batch_slots == 3 and config.device == "cpu"
    assert config.tuning["batch_slots"] == 3 and config.tuning["worker_count"] >= 1
    several = Config(samples_per_batch=2, fields={"image": Field((2, 2), "f32"), "label": Field((2, 2), "native")})
    assert eval(repr(several)) == several and several.dtype is None and list(several.fields) == ["image", "label"]
    with pytest.raises(AttributeError):
        config.batch_slots = 5
    with pytest.raises(AttributeError):
        config.nonsense  # noqa: B018
    assert config.replace(sample_shape=(3,), dtype="u8").sample_shape == (3,)


def test_devices_as_numbers() -> None:
    config = Config(samples_per_batch=1, sample_shape=(1,), dtype="u8", device=np.int64(0))
    assert config.device == "cuda:0" and eval(repr(config)) == config == config.replace(device=0) == config.replace(device="cuda:0")
    assert config.replace(device="cpu").device == "cpu"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"samples_per_batch": 0}, "samples_per_batch is 0, expected 1 to"),
        ({"sample_shape": (4, 0)}, r"^sample_shape\[1\] is 0, expected 1 to"),
        ({"sample_shape": (4, 8.0)}, r"sample_shape\[1\] is 8.0, expected an integer"),
        ({"sample_shape": 8}, "sample_shape is 8, expected an extent for each axis"),
        ({"sample_shape": "88"}, "sample_shape is '88', expected an extent for each axis"),
        ({"worker_count": -1}, "worker_count is -1, expected 0 to"),
    ],
)
def test_wrong_settings_say_what_is_expected(settings: dict[str, object], says: str) -> None:
    with pytest.raises(damacy.InvalidArgument, match=says):
        Config(**({"samples_per_batch": 4, "sample_shape": (4, 4), "dtype": "u8"} | settings))


def test_describe_adds_up_before_anything_is_allocated() -> None:
    huge = Config(samples_per_batch=1, sample_shape=(1024,) * 4, dtype="f64")
    assert "batch buffers" in huge.describe() and "worker_count" in huge.describe()
    with pytest.raises(damacy.BudgetExceeded, match="max_host_memory_bytes"):
        damacy.Pipeline(huge)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sample_shape": (4,)},
        {"dtype": "f32"},
        {"sample_shape": (), "dtype": "f32"},
        {"sample_shape": (0,), "dtype": "f32"},
        {"sample_shape": (-1,), "dtype": "f32"},
        {"sample_shape": 5, "dtype": "f32"},
        {"sample_shape": ("a",), "dtype": "f32"},
        {"sample_shape": (1,) * 32, "dtype": "f32"},
        {"sample_shape": (4,), "dtype": "f32", "samples_per_batch": 0},
        {"sample_shape": (4,), "dtype": "f32", "samples_per_batch": 2**32},
        {"sample_shape": (4,), "dtype": "f32", "samples_per_batch": 2.5},
        {"sample_shape": (4,), "dtype": "f32", "worker_count": -1},
        {"sample_shape": (4,), "dtype": "f32", "worker_count": 2**31},
        {"sample_shape": (4,), "dtype": "f32", "batch_slots": 1},
        {"sample_shape": (4,), "dtype": "f32", "on_error": "ignore"},
        {"sample_shape": (4,), "dtype": "f32", "verify": True},
        {"sample_shape": (4,), "dtype": "f32", "io_uring": "maybe"},
        {"sample_shape": (4,), "dtype": "f32", "bypass_decode": 2},
        {"sample_shape": (4,), "dtype": "f32", "numa": "on"},
        {"sample_shape": (4,), "dtype": "f32", "numa": -1},
        {"sample_shape": (4,), "dtype": "f32", "gpu_direct_storage": "on"},
        {"sample_shape": (4,), "dtype": "f32", "gpu_direct_storage": True},
        {"sample_shape": (4,), "dtype": "f32", "device": "tpu"},
        {"sample_shape": (4,), "dtype": "f32", "device": "cuda:x"},
        {"fields": {}},
        {"fields": {"": Field((4,), "f32")}},
        {"fields": {"a\0b": Field((4,), "f32")}},
        {"fields": {"a" * 64: Field((4,), "f32")}},
        {"fields": {"a": "f32"}},
        {"fields": {"a": Field((4,), "f32")}, "dtype": "f32"},
    ],
)
def test_wrong_configurations(settings: dict[str, object]) -> None:
    with pytest.raises(damacy.InvalidArgument) as caught:
        Config(**({"samples_per_batch": 4} | settings))
    assert caught.value.stage == "config" and caught.value.status == damacy.Status.INVAL


@pytest.mark.skipif(not ON_CPU, reason="it is there")
def test_cuda_is_not_there_yet() -> None:
    with pytest.raises(damacy.Unsupported, match="CUDA"):
        damacy.Pipeline(Config(samples_per_batch=1, sample_shape=(1,), dtype="f32", device="cuda:0"))


@pytest.mark.skipif(not ON_CPU, reason="there is a GPU")
def test_gpu_direct_storage_without_a_gpu() -> None:
    config = Config(samples_per_batch=1, sample_shape=(1,), dtype="f32", device="auto", gpu_direct_storage=True)
    assert config.replace(device="auto") == config and "gpu_direct_storage=True" in repr(config)
    with damacy.Pipeline(config) as pipeline:
        assert pipeline.stats().gpu_direct_read.count == pipeline.stats().gpu_direct_fallback.count == 0
    with pytest.raises(damacy.InvalidArgument, match="gpu_direct_storage is on, but device is cpu"):
        config.replace(device="cpu")


@pytest.mark.skipif(ON_CPU, reason="wants a GPU")
def test_gpu_direct_storage_names_what_is_missing(run_python: Callable[..., Any]) -> None:
    done = run_python(
        """
import os
os.environ["DAMACY_CUFILE"] = "/nowhere/libcufile.so.0"
import damacy
try:
    damacy.Pipeline(damacy.Config(samples_per_batch=1, sample_shape=(4,), dtype="f32", device="cuda", gpu_direct_storage=True))
except damacy.Unsupported as error:
    print(error)
"""
    )
    assert "/nowhere/libcufile.so.0" in done.stdout and "pip install nvidia-cufile" in done.stdout, done.stderr


def test_a_pipeline_wants_a_config() -> None:
    with pytest.raises(TypeError, match="Config"):
        damacy.Pipeline({"samples_per_batch": 4})  # type: ignore[arg-type]


# --- batches ---


def test_batches_hold_what_zarr_python_reads(example: Example, make_pipeline) -> None:
    begins = [(z, y, x) for z in (0, 5, 28) for y in (0, 33, 80) for x in (7, 80)]
    pipeline = make_pipeline()
    pipeline.push(sample_of(example, begin, tag=1000 + i) for i, begin in enumerate(begins))
    rows, ids = [], []
    for batch in pipeline.batches():
        info = batch.info
        ids.append(info.batch_id)
        with batch as tensor:
            assert tensor.shape == (len(info.rows), *SHAPE) and tensor.dtype is Dtype.F32
            assert info.tensors[""] == (tensor.shape, Dtype.F32, tensor.nbytes)
            rows += list(zip(info.rows, on_host(tensor).copy()))
    assert ids == list(range(5)) and len(rows) == len(begins)
    for i, (row, values) in enumerate(rows):
        assert row == (i, 1000 + i, damacy.Status.OK, None) and row.message == ""
        np.testing.assert_array_equal(values, example.crop(*begins[i], shape=SHAPE))


def test_several_fields(example: Example, labels: Example, make_pipeline) -> None:
    pipeline = make_pipeline(fields={"image": Field(SHAPE, "f32"), "label": Field((1, 8, 8), "native")})

    def samples():
        for z in range(6):
            uris = {"image": example.uri, "label": labels.uri}
            boxes = {"label": labels.box(z, 0, 1, shape=(1, 8, 8)), "image": example.box(z, 0, 1, shape=SHAPE)}
            yield Sample(uri=uris if z % 2 else dict(reversed(uris.items())), aabb=boxes, tag=z)

    pipeline.push(samples())
    seen = 0
    for batch in pipeline.batches():
        assert list(batch) == batch.keys() == ["image", "label"] and len(batch) == 2 and "label" in batch and "x" not in batch
        with pytest.raises(KeyError, match=r"no field 'x', but \['image', 'label'\]"):
            batch["x"]
        with pytest.raises(BufferError):
            np.from_dlpack(batch)
        with batch as tensors:
            assert list(tensors) == ["image", "label"] and tensors["label"].dtype is Dtype.U8
            image, label = (on_host(tensors[name]) for name in tensors)
            for i, row in enumerate(batch.info.rows):
                np.testing.assert_array_equal(image[i], example.crop(row.tag, 0, 1, shape=SHAPE))
                np.testing.assert_array_equal(label[i], labels.crop(row.tag, 0, 1, shape=(1, 8, 8)))
                seen += 1
    assert seen == 6


def test_bypass_decode_gives_fill_values(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(bypass_decode=True, metadata_latency_ns=1000)
    pipeline.push(sample_of(example, (z, 0, 1), tag=z) for z in range(8))
    for batch in pipeline.batches():
        with batch as tensor:
            assert not on_host(tensor).any()
    stats = pipeline.stats()
    assert stats.samples_delivered == 8 and stats.read.count > 0 and stats.decode.count == 0
    config = Config(samples_per_batch=1, sample_shape=(4,), dtype="u8", bypass_decode=True)
    assert config.bypass_decode is True and config.tuning["bypass_decode"] == 1 and "bypass_decode=True" in repr(config)


def test_one_box_for_all_fields(example: Example, labels: Example, make_pipeline) -> None:
    pipeline = make_pipeline(fields={"image": Field(SHAPE, "u16"), "label": Field(SHAPE, "u8")}, samples_per_batch=1)
    pipeline.push(Sample({"image": example.uri, "label": labels.uri}, example.box(1, 2, 3, shape=SHAPE)))
    with pipeline.pop() as tensors:
        np.testing.assert_array_equal(on_host(tensors["image"])[0], example.crop(1, 2, 3, shape=SHAPE))
        np.testing.assert_array_equal(on_host(tensors["label"])[0], labels.crop(1, 2, 3, shape=SHAPE))


@pytest.mark.parametrize("names", [None, ("image",), ("image", "label", "more"), ("image", "other")])
def test_samples_with_other_fields(example: Example, make_pipeline, names: tuple[str, ...] | None) -> None:
    pipeline = make_pipeline(fields={"image": Field(SHAPE, "u16"), "label": Field(SHAPE, "u8")})
    box = example.box(0, 0, 0, shape=SHAPE)
    pipeline.push(Sample(example.uri if names is None else dict.fromkeys(names, example.uri), box))
    has = "a single field without a name" if names is None else f"the fields {names}"
    with pytest.raises(damacy.InvalidArgument, match=re.escape(f"the sample has {has}, the configuration has the fields ('image', 'label')")):
        pipeline.pop()


def test_named_fields_where_none_has_a_name(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()
    pipeline.push(Sample({"image": example.uri}, example.box(0, 0, 0, shape=SHAPE)))
    with pytest.raises(damacy.InvalidArgument, match="the configuration has a single field without a name"):
        pipeline.pop()


def test_pipeline_tells_about_itself(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()
    assert pipeline.device.partition(":")[0] == DEVICE.partition(":")[0] and pipeline.config.samples_per_batch == 4 and not pipeline.closed and not pipeline.pending
    assert pipeline.stats().bottleneck == "none"
    pipeline.push([sample_of(example, (z, 0, 0)) for z in range(6)])
    assert pipeline.pending == (1, 0) and pipeline.pending
    pipeline.pop().release()
    assert pipeline.pending == (0, 2)
    pipeline.flush()
    assert len(pipeline.pop().info.rows) == 2 and pipeline.pop() is None and not pipeline.pending
    stats = pipeline.stats()
    assert (stats.samples_pushed, stats.samples_delivered, stats.batches_delivered, stats.samples_failed) == (6, 6, 2, 0)
    assert stats.bytes_delivered == 6 * 4 * np.prod(SHAPE) and (stats.decode if ON_CPU else stats.gpu_decode).seconds > 0
    assert stats.bottleneck in ("storage", "decode", "consumer", "producer") and stats.read_amplification > 0
    assert f"bottleneck: {stats.bottleneck}" in str(stats)
    pipeline.stats_reset()
    assert pipeline.stats().samples_delivered == 0
    pipeline.close()
    assert pipeline.closed and "closed" in repr(pipeline)


def test_logging() -> None:
    damacy.set_log_level("debug")
    damacy.set_log_quiet(True)
    damacy.set_log_quiet(False)
    damacy.set_log_level("warn")
    with pytest.raises(damacy.InvalidArgument):
        damacy.set_log_level("loud")  # type: ignore[arg-type]
