"""DLPack, buffers, and how long memory lives: a tensor stays valid as long as anyone holds it; a released batch is not to be used."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import pytest
from conftest import SHAPE, Example, sample_of
from reading import ON_CPU, PATIENCE, cpu_only

import damacy
from damacy import Dtype

DTYPES = [dtype for dtype in Dtype if dtype is not Dtype.NATIVE]


@pytest.fixture
def batch(example: Example, make_pipeline) -> damacy.Batch:
    pipeline = make_pipeline()
    pipeline.push(sample_of(example, (z, 0, 0), tag=z) for z in range(4))
    return pipeline.pop()


def first_values(example: Example) -> np.ndarray:
    return np.stack([example.crop(z, 0, 0, shape=SHAPE) for z in range(4)]).astype("f4")


@cpu_only
def test_numpy_shares_the_memory(example: Example, batch: damacy.Batch) -> None:
    with batch as tensor:
        one, two, three = np.from_dlpack(tensor), np.asarray(tensor), np.from_dlpack(batch)
        four = np.asarray(memoryview(batch))
        assert len({x.__array_interface__["data"][0] for x in (one, two, three, four)}) == 1
        assert one.__array_interface__["data"][0] % 64 == 0
        assert one.flags.c_contiguous and two.flags.writeable and two.dtype == np.float32
        two[0, 0, 0, 0] = -5
        assert one[0, 0, 0, 0] == -5
        copied = np.from_dlpack(tensor, copy=True)
        assert copied.__array_interface__["data"][0] != one.__array_interface__["data"][0]
        np.testing.assert_array_equal(copied, one)
    np.testing.assert_array_equal(copied, one)


@cpu_only
def test_capsules_of_both_kinds(batch: damacy.Batch) -> None:
    tensor = batch[""]
    assert tensor.__dlpack_device__() == batch.__dlpack_device__() == (1, 0)
    for arguments, name in [
        ({}, "dltensor"),
        ({"max_version": None}, "dltensor"),
        ({"max_version": (0, 8)}, "dltensor"),
        ({"max_version": (1, 0)}, "dltensor_versioned"),
        ({"max_version": (2, 3), "stream": None, "dl_device": (1, 0), "copy": True}, "dltensor_versioned"),
        ({"copy": True}, "dltensor"),
    ]:
        assert f'"{name}"' in repr(tensor.__dlpack__(**arguments))
        assert f'"{name}"' in repr(batch.__dlpack__(**arguments))
    with pytest.raises(damacy.InvalidArgument):
        tensor.__dlpack__(stream=1)
    with pytest.raises(BufferError):
        tensor.__dlpack__(dl_device=(2, 0))
    for wrong in ({"max_version": 1}, {"max_version": ("a", 1)}, {"dl_device": 1}, {"nonsense": 1}):
        with pytest.raises(TypeError):
            tensor.__dlpack__(**wrong)
    with pytest.raises(TypeError, match="keyword arguments only"):
        tensor.__dlpack__(None)


@cpu_only
def test_unused_capsules_give_the_buffer_back(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(batch_slots=2, samples_per_batch=1)
    pipeline.push(sample_of(example, (z % 8, 0, 0)) for z in range(100))
    for batch in pipeline.batches():
        batch.__dlpack__(), batch.__dlpack__(max_version=(1, 0)), batch.__dlpack__(copy=True), memoryview(batch)
        batch.release()
    assert pipeline.stats().batches_delivered == 100


@cpu_only
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(tmp_path, make_pipeline, dtype: Dtype) -> None:
    import zarr

    data = np.array([0, 1, 1, 0, 1, 0, 1, 1], "?")
    zarr.create_array(tmp_path / "a", shape=(8,), chunks=(4,), dtype="?")[...] = data
    pipeline = make_pipeline(sample_shape=(8,), dtype=dtype, samples_per_batch=1)
    pipeline.push(damacy.Sample(tmp_path / "a", [(0, 8)]))
    batch = pipeline.pop()
    assert batch[""].dtype is dtype and batch[""].nbytes == 8 * dtype.itemsize
    if dtype is Dtype.BF16:
        for take in (memoryview, np.asarray):  # which must not make an array of one object
            for whole in (batch, batch[""]):
                with pytest.raises(BufferError, match="bf16; take it by DLPack"):
                    take(whole)
        return
    for values in (np.from_dlpack(batch), np.asarray(batch)):
        assert values.dtype == np.dtype(dtype.numpy_name)
        np.testing.assert_array_equal(values[0].astype(bool), data)


@cpu_only
def test_buffers_of_every_kind(batch: damacy.Batch) -> None:
    view = memoryview(batch)
    assert view.shape == (4, *SHAPE) and view.format == "f" and view.itemsize == 4 and view.c_contiguous and not view.readonly
    assert bytes(batch) == np.asarray(batch).tobytes() == view.tobytes()
    assert np.frombuffer(batch, "u1").nbytes == view.nbytes


@cpu_only
def test_tensors_outlive_release_and_close(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(batch_slots=3)
    pipeline.push(sample_of(example, (z % 4, 0, 0)) for z in range(1000))
    batch = pipeline.pop()
    held, viewed = np.from_dlpack(batch), memoryview(batch)
    batch.release()
    for other in pipeline.batches(20):  # the other two slots go round
        np.asarray(other)[...] = 99
        other.release()
    np.testing.assert_array_equal(held, first_values(example))
    pipeline.close()
    del pipeline, batch, other
    gc.collect()
    np.testing.assert_array_equal(held, first_values(example))
    np.testing.assert_array_equal(np.asarray(viewed), first_values(example))


@cpu_only
def test_a_held_tensor_keeps_its_buffer_out_of_the_pool(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(batch_slots=2)
    pipeline.push(sample_of(example, (z % 8, 0, 0)) for z in range(100))
    tensors = []
    for _ in range(2):
        with pipeline.pop() as tensor:
            tensors.append(np.from_dlpack(tensor))
    with pytest.raises(damacy.PoolStarved):
        pipeline.pop()
    tensors.pop()
    assert pipeline.pop().info.batch_id == 2


@cpu_only
def test_array_of_a_tensor(example: Example, batch: damacy.Batch) -> None:
    """__array__ shares, converts and copies as NumPy's own arrays do."""
    for whole in (batch, batch[""]):
        shared, copied = whole.__array__(), whole.__array__(copy=True)
        assert np.shares_memory(shared, np.from_dlpack(batch)) and not np.shares_memory(copied, shared)
        assert whole.__array__("f8").dtype == whole.__array__(dtype=np.float64).dtype == np.asarray(whole, "f8").dtype == "f8"
        np.testing.assert_array_equal(copied, first_values(example))


@pytest.mark.skipif(ON_CPU, reason="about tensors on a device")
def test_numpy_gets_no_tensor_of_a_device(batch: damacy.Batch) -> None:
    """And makes no array of one object of it."""
    for whole in (batch, batch[""]):
        with pytest.raises(BufferError, match="on a CUDA device; take it by DLPack"):
            np.asarray(whole)


def test_a_batch_that_nobody_holds_is_released(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(batch_slots=2, samples_per_batch=1)
    pipeline.push(sample_of(example, (0, 0, 0)) for _ in range(20))
    for _ in range(20):
        assert pipeline.pop() is not None


@cpu_only
def test_use_after_release_raises(batch: damacy.Batch) -> None:
    tensor, info = batch[""], batch.info
    batch.release()
    batch.release()
    assert batch.released and "released" in repr(batch) and "released" in repr(tensor) and info.tags == (0, 1, 2, 3)
    for use in (
        lambda: batch.info,
        lambda: batch[""],
        lambda: list(batch),
        lambda: len(batch),
        lambda: "" in batch,
        lambda: np.from_dlpack(batch),
        lambda: memoryview(batch),
        lambda: batch.__dlpack_device__(),
        lambda: batch.__enter__(),
        lambda: tensor.shape,
        lambda: tensor.dtype,
        lambda: tensor.nbytes,
        lambda: np.from_dlpack(tensor),
        lambda: np.asarray(memoryview(tensor)),
        lambda: np.asarray(tensor),
        lambda: np.asarray(batch),
    ):
        with pytest.raises(damacy.InvalidArgument, match="released"):
            use()


@pytest.mark.parametrize("kind", ["Batch", "Tensor", "BatchIterator"])
def test_what_is_not_made_by_hand(kind: str) -> None:
    with pytest.raises(TypeError):
        getattr(damacy, kind)()


def test_no_memory_is_lost(example: Example) -> None:
    """Pipelines, samples, capsules and views, many times over: the process does not grow."""
    import resource

    def once() -> None:
        config = damacy.Config(samples_per_batch=4, sample_shape=SHAPE, dtype="f32", worker_count=1)
        with damacy.Pipeline(config) as pipeline:
            pipeline.push(sample_of(example, (z, 0, 0)) for z in range(6))
            pipeline.push([1])
            for _ in range(4):
                try:
                    batch = next(pipeline.batches(), None)
                    if batch is not None:
                        np.from_dlpack(batch), memoryview(batch), batch.__dlpack__(copy=True), batch.info, repr(batch)
                except TypeError:
                    pass

    def measured() -> tuple[int, int]:
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(gc.get_objects())

    # What is lost is lost each time; what allocators, threads that overlap and the interpreter keep for later is found once.
    rounds = []
    while len(rounds) < 10:
        before = measured()
        for _ in range(50):
            once()
        after = measured()
        rounds.append((after[0] - before[0], after[1] - before[1]))
        if rounds[-1][0] < 2 * 1024 and rounds[-1][1] < 50:  # KiB; the batches of 50 pipelines alone are 3,200
            return
    pytest.fail(f"it grows each time, by KiB and objects: {rounds}")


# --- other consumers, where they are installed ---


@cpu_only
def test_torch(example: Example, batch: damacy.Batch) -> None:
    torch = pytest.importorskip("torch")
    with batch as tensor:
        values = torch.from_dlpack(tensor)
        assert values.dtype == torch.float32 and values.data_ptr() == np.asarray(tensor).__array_interface__["data"][0]
    np.testing.assert_array_equal(values.numpy(), first_values(example))
    assert damacy.Dtype.parse(torch.bfloat16) is Dtype.BF16


def test_jax(example: Example) -> None:
    """In a process of its own: jax starts threads, and other tests here fork."""
    if subprocess.run([sys.executable, "-c", "import jax"], capture_output=True).returncode != 0:
        pytest.skip("jax is not installed")
    source = """
import sys, numpy as np, damacy, jax
config = damacy.Config(samples_per_batch=2, sample_shape=(4, 16, 16), dtype="f32")
with damacy.Pipeline(config) as pipeline:
    pipeline.push(damacy.Sample(sys.argv[1], [(z, z + 4), (0, 16), (0, 16)]) for z in range(2))
    with pipeline.pop() as tensor:
        values, same = jax.dlpack.from_dlpack(tensor), np.from_dlpack(tensor)
        assert values.unsafe_buffer_pointer() == same.__array_interface__["data"][0]
        assert (np.asarray(values) == same).all()
"""
    subprocess.run([sys.executable, "-c", source, example.uri], check=True, timeout=PATIENCE)
