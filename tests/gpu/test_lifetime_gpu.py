"""Goal: a batch on the device holds what it should for as long as anyone uses it, whoever that is and on whatever stream; budgets hold;
pipelines do not know each other.

Method: crops of an array whose elements are the number of their plane, so that a slot that is written again too early shows as another
number. Consumers are slow on purpose, by work that is put into their stream before the look at the batch, while there are only two or
three slots and many batches. What must hold a buffer back is always just one thing: the event, the stream at release, or the stream
when the last tensor goes. No result depends on how long anything takes.
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import HEIGHT, PLANES, WIDTH

damacy = pytest.importorskip("damacy")

from reading import exported, on_host  # noqa: E402

SAMPLES = 16
BATCHES = 40
LIMITS = {"max_gpu_memory_bytes": 96 << 20, "max_host_memory_bytes": 512 << 20}


def config(**settings: Any) -> Any:
    """Batches of 16 planes as float32, 1 MiB each, in two slots."""
    usual = {"samples_per_batch": SAMPLES, "sample_shape": (1, HEIGHT, WIDTH), "dtype": "f32", "device": "cuda", "batch_slots": 2}
    return damacy.Config(**(usual | LIMITS | settings))


def sample(uri: str, plane: int) -> Any:
    return damacy.Sample(uri, [(plane, plane + 1), (0, HEIGHT), (0, WIDTH)], tag=plane)


def stream(uri: str, batches: int = BATCHES, seed: int = 1, **settings: Any) -> Iterator[Any]:
    """Batches of random planes. Each must be released by whoever takes it."""
    draw = random.Random(seed)
    with damacy.Pipeline(config(**settings)) as pipeline:
        pipeline.push(sample(uri, draw.randrange(PLANES)) for _ in range(batches * SAMPLES))
        count = 0
        for batch in pipeline.batches():
            count += 1
            yield batch
        assert count == batches


class Raw:
    """A batch's memory by its address alone, as __cuda_array_interface__: whoever takes it tells damacy nothing."""

    def __init__(self, batch: Any) -> None:
        shape = (len(batch.info.rows), 1, HEIGHT, WIDTH)
        self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "data": (batch.info.device_ptr, False), "version": 3, "strides": None}


def values_are(values: np.ndarray, tags: tuple[int, ...]) -> bool:
    return bool((values == np.array(tags, values.dtype).reshape(-1, 1, 1, 1)).all())


class Driver:
    """The CUDA driver's functions; each call must do. Holds the first device's context, which else would come and go, and all in it."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.context = ctypes.c_void_p()
        self.cuInit(0)
        self.cuDevicePrimaryCtxRetain(ctypes.byref(self.context), 0)

    def __getattr__(self, name: str) -> Callable[..., None]:
        function = getattr(self.library, name)

        def call(*arguments: Any) -> None:
            result = function(*arguments)
            assert result == 0, f"{name} answered {result}"

        return call

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The context is the thread's."""
        self.cuCtxPushCurrent_v2(self.context)
        try:
            yield
        finally:
            self.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


@cache
def the_driver() -> Driver:
    return Driver()


# --- consumers: each makes streams, keeps one busy for some milliseconds, and counts elements that are not what they should be ---


class DriverConsumer:
    """Nothing but the driver: copies in a stream keep it busy, and what was in a batch is looked at at the end."""

    BALLAST = 4096 if "DAMACY_TEST_FAKE" in os.environ else 64 << 20  # copied as fast as the CPU can by the tests' own driver

    def __init__(self) -> None:
        self.driver = the_driver()
        self.local = threading.local()
        self.streams: list[ctypes.c_void_p] = []
        self.events: list[ctypes.c_void_p] = []
        self.looks: list[tuple[ctypes.c_void_p, int, np.ndarray]] = []
        self.wrong: list[int] = []
        self.ballast = [ctypes.c_uint64(), ctypes.c_uint64()]
        with self.driver.entered():
            for address in self.ballast:
                self.driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(self.BALLAST))

    def stream(self) -> Any:
        made = ctypes.c_void_p()
        with self.driver.entered():
            self.driver.cuStreamCreate(ctypes.byref(made), 1)
        self.streams.append(made)
        return made

    @contextmanager
    def on(self, side: Any) -> Iterator[None]:
        with self.driver.entered():
            self.local.stream = side
            yield

    def busy(self) -> None:
        for _ in range(100):
            self.driver.cuMemcpyDtoDAsync_v2(*self.ballast, ctypes.c_size_t(self.BALLAST), self.local.stream)

    def expected(self, tags: tuple[int, ...]) -> np.ndarray:
        return np.array(tags, "f4").reshape(-1, 1, 1, 1)

    def take(self, tensor: Any) -> Any:
        capsule, described = exported(tensor, self.local.stream.value)
        return SimpleNamespace(address=described.data, held=capsule)

    def raw(self, batch: Any) -> Any:
        return SimpleNamespace(address=batch.info.device_ptr)

    def look(self, values: Any, expected: np.ndarray) -> None:
        pinned, size = ctypes.c_void_p(), 4 * len(expected) * HEIGHT * WIDTH
        self.driver.cuMemHostAlloc(ctypes.byref(pinned), ctypes.c_size_t(size), 1)
        self.driver.cuMemcpyDtoHAsync_v2(pinned, ctypes.c_uint64(values.address), ctypes.c_size_t(size), self.local.stream)
        self.looks.append((pinned, size, expected))

    def event(self, side: Any) -> Any:
        event = ctypes.c_void_p()
        self.driver.cuEventCreate(ctypes.byref(event), 2)
        self.driver.cuEventRecord(event, side)
        self.events.append(event)
        return event.value

    def finish(self) -> int:
        with self.driver.entered():
            for side in self.streams:
                self.driver.cuStreamSynchronize(side)
            for pinned, size, expected in self.looks:
                found = np.frombuffer((ctypes.c_uint8 * size).from_address(pinned.value), "f4").reshape(len(expected), 1, HEIGHT, WIDTH)
                self.wrong.append(int((found != expected).sum()))
                self.driver.cuMemFreeHost(pinned)
            self.looks.clear()
        return sum(self.wrong)

    def close(self) -> None:
        with self.driver.entered():
            for event in self.events:
                self.driver.cuEventDestroy_v2(event)
            for side in self.streams:
                self.driver.cuStreamDestroy_v2(side)
            for address in self.ballast:
                self.driver.cuMemFree_v2(address)


class LibraryConsumer:
    """What torch and cupy do alike: arrays on the device that are compared there, and counted at the end."""

    def __init__(self, cuda: Any, synchronize: Callable[[], None]) -> None:
        self.cuda, self.synchronize = cuda, synchronize
        self.wrong: list[Any] = []
        synchronize()

    def look(self, values: Any, expected: Any) -> None:
        self.wrong.append((values != expected).sum())

    def event(self, side: Any) -> Any:
        event = self.cuda.Event()
        event.record(side)
        return event

    def finish(self) -> int:
        self.synchronize()
        return sum(int(count) for count in self.wrong)


class TorchConsumer(LibraryConsumer):
    def __init__(self) -> None:
        self.torch = pytest.importorskip("torch")
        if not self.torch.cuda.is_available():
            pytest.skip("torch has no CUDA device")
        self.ballast = self.torch.zeros(1 << 26, device="cuda")
        super().__init__(self.torch.cuda, self.torch.cuda.synchronize)

    def stream(self) -> Any:
        return self.torch.cuda.Stream()

    def on(self, side: Any) -> Any:
        return self.torch.cuda.stream(side)

    def busy(self) -> None:
        for _ in range(60):
            self.ballast.add_(1)

    def expected(self, tags: tuple[int, ...]) -> Any:
        return self.torch.tensor(tags, device="cuda", dtype=self.torch.float32).reshape(-1, 1, 1, 1)

    def take(self, tensor: Any) -> Any:
        return self.torch.from_dlpack(tensor)

    def raw(self, batch: Any) -> Any:
        return self.torch.as_tensor(Raw(batch), device="cuda")

    def close(self) -> None:
        del self.ballast
        self.torch.cuda.empty_cache()


class CupyConsumer(LibraryConsumer):
    def __init__(self) -> None:
        self.cupy = pytest.importorskip("cupy")
        try:
            self.ballast = self.cupy.zeros(1 << 26, "f4")
            self.busy()
        except Exception as reason:  # of many kinds: no driver, no device, no compiler
            pytest.skip(f"cupy cannot use the device: {reason}")
        super().__init__(self.cupy.cuda, self.cupy.cuda.Device().synchronize)

    def stream(self) -> Any:
        return self.cupy.cuda.Stream(non_blocking=True)

    def on(self, side: Any) -> Any:
        return side

    def busy(self) -> None:
        for _ in range(60):
            self.ballast += 1

    def expected(self, tags: tuple[int, ...]) -> Any:
        return self.cupy.asarray(np.array(tags, "f4")).reshape(-1, 1, 1, 1)

    def take(self, tensor: Any) -> Any:
        return self.cupy.from_dlpack(tensor)

    def raw(self, batch: Any) -> Any:
        return self.cupy.asarray(Raw(batch))

    def close(self) -> None:
        del self.ballast
        self.cupy.get_default_memory_pool().free_all_blocks()


@pytest.fixture(params=[DriverConsumer, TorchConsumer, CupyConsumer], ids=["driver", "torch", "cupy"])
def consumer(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    made.finish()
    made.close()


def test_release_waits_for_the_event(planes: str, consumer: Any) -> None:
    """Taken by its address, so that nothing but the event holds the slot back."""
    side = consumer.stream()
    for batch in stream(planes):
        with consumer.on(side):
            expected = consumer.expected(batch.info.tags)
            consumer.busy()
            consumer.look(consumer.raw(batch), expected)
            event = consumer.event(side)
        batch.release(event=event)
        del event  # may go at once
    assert consumer.finish() == 0


def test_events_gate_only_their_own_slot(planes: str, consumer: Any) -> None:
    """The slot of a batch whose event comes late stays where it is; the others go round meanwhile."""
    slow, quick = consumer.stream(), consumer.stream()
    batches = stream(planes, batch_slots=3)
    first = next(batches)
    with consumer.on(slow):
        expected = consumer.expected(first.info.tags)
        for _ in range(5):
            consumer.busy()
        consumer.look(consumer.raw(first), expected)
        event = consumer.event(slow)
    first.release(event=event)
    for batch in batches:
        with consumer.on(quick):
            consumer.look(consumer.raw(batch), consumer.expected(batch.info.tags))
            event = consumer.event(quick)
        batch.release(event=event)
    assert consumer.finish() == 0


def test_release_waits_for_the_consumers_stream(planes: str, consumer: Any) -> None:
    """Without an event: what __dlpack__(stream=) named, as it was at release. The tensor goes first, so release is the last."""
    side = consumer.stream()
    for batch in stream(planes):
        with consumer.on(side):
            values = consumer.take(batch)
            expected = consumer.expected(batch.info.tags)
            consumer.busy()
            consumer.look(values, expected)
            del values
        batch.release()
    assert consumer.finish() == 0


def test_the_last_tensor_waits_for_its_stream(planes: str, consumer: Any) -> None:
    """Released at once; the tensor is used afterwards, and what is in its stream when it goes counts."""
    side = consumer.stream()
    for batch in stream(planes):
        tags = batch.info.tags
        with consumer.on(side):
            values = consumer.take(batch)
        batch.release()
        with consumer.on(side):
            expected = consumer.expected(tags)
            consumer.busy()
            consumer.look(values, expected)
            del values, batch
    assert consumer.finish() == 0


def test_tensors_outlive_the_pipeline(planes: str, consumer: Any) -> None:
    side = consumer.stream()
    kept = []
    with damacy.Pipeline(config(batch_slots=4)) as pipeline:
        pipeline.push(sample(planes, plane) for plane in range(4 * SAMPLES))
        for batch in pipeline.batches():
            with consumer.on(side), batch as tensor:
                kept.append((consumer.take(tensor), batch.info.tags))
    del pipeline, batch, tensor
    gc.collect()
    with consumer.on(side):
        for values, tags in kept:
            consumer.look(values, consumer.expected(tags))
        while kept:
            kept.pop()
        del values
    assert consumer.finish() == 0


def test_many_threads_and_streams(planes: str, consumer: Any) -> None:
    """Four threads, each with a stream of its own, take batches of one pipeline."""
    errors: list[BaseException] = []
    with damacy.Pipeline(config(batch_slots=8)) as pipeline:
        pipeline.push(sample(planes, (7 * i) % PLANES) for i in range(4 * BATCHES * SAMPLES))

        def work() -> None:
            try:
                side = consumer.stream()
                for batch in pipeline.batches():
                    with consumer.on(side):
                        consumer.look(consumer.take(batch), consumer.expected(batch.info.tags))
                        event = consumer.event(side)
                    batch.release(event=event)
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=100)
            assert not thread.is_alive()
    assert not errors, errors
    assert consumer.finish() == 0 and len(consumer.wrong) == 4 * BATCHES


def test_a_stream_that_is_gone_before_release(run_program: Callable[..., Any]) -> None:
    """cupy destroys a stream with its object. In a process of its own: a driver that minds might end it."""
    pytest.importorskip("cupy")
    CupyConsumer()
    done = run_program(
        """
import sys, gc
sys.path.insert(0, sys.argv[2])
import cupy, numpy as np, damacy
from reading import on_host
config = damacy.Config(samples_per_batch=4, sample_shape=(1, 64, 256), dtype="f32", device="cuda", batch_slots=2,
                       max_gpu_memory_bytes=96 << 20, max_host_memory_bytes=512 << 20)
with damacy.Pipeline(config) as pipeline:
    pipeline.push(damacy.Sample(sys.argv[1], [(z, z + 1), (0, 64), (0, 256)], tag=z) for z in range(200))
    for batch in pipeline.batches():
        tags = np.array(batch.info.tags, "f4").reshape(-1, 1, 1, 1)
        side = cupy.cuda.Stream(non_blocking=True)
        with side:
            values = cupy.from_dlpack(batch)
            assert (values.get() == tags).all()
        del side
        gc.collect()
        if tags[0, 0, 0, 0] % 8 == 0:
            del values
            batch.release()
        else:
            batch.release()
            del values
print("done")
"""
    )
    assert done.returncode == 0 and "done" in done.stdout, done.stdout + done.stderr


def test_jax(run_program: Callable[..., Any]) -> None:
    """jax computes asynchronously on streams of its own. In a process of its own, since it takes most of the device's memory unless told."""
    done = run_program(
        """
import sys
try:
    import jax, jax.numpy as jnp
    device = jax.devices("gpu")[0]
except Exception as reason:
    print("skip:", reason)
    sys.exit(0)
import damacy
config = damacy.Config(samples_per_batch=16, sample_shape=(1, 64, 256), dtype="f32", device="cuda", batch_slots=4,
                       max_gpu_memory_bytes=96 << 20, max_host_memory_bytes=512 << 20)
@jax.jit
def look(ballast, values, expected):
    for _ in range(20):
        ballast = ballast + 1
    return ballast, (values + ballast[:1].sum() * 0 != expected).sum()
ballast = jnp.zeros(1 << 24)
wrong = []
with damacy.Pipeline(config) as pipeline:
    pipeline.push(damacy.Sample(sys.argv[1], [(7 * z % 256, 7 * z % 256 + 1), (0, 64), (0, 256)], tag=7 * z % 256) for z in range(640))
    for batch in pipeline.batches():
        expected = jnp.asarray(batch.info.tags, "float32").reshape(-1, 1, 1, 1)
        with batch as tensor:
            values = jax.dlpack.from_dlpack(tensor)
        ballast, count = look(ballast, values, expected)
        del values
        if wrong:  # jax holds what it was given until it has computed with it
            wrong[-1].block_until_ready()
        wrong.append(count)
assert len(wrong) == 40 and sum(int(count) for count in wrong) == 0, wrong
print("done")
""",
        XLA_PYTHON_CLIENT_PREALLOCATE="false",
    )
    if done.stdout.startswith("skip:"):
        pytest.skip(f"jax cannot use the device: {done.stdout[6:].strip()}")
    assert done.returncode == 0 and "done" in done.stdout, done.stdout + done.stderr


def test_a_training_step_beside_it(planes: str) -> None:
    """Forward, backward and a step on each batch, which is released with an event while they are still to be computed."""
    consumer = TorchConsumer()
    torch = consumer.torch
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 1, 3, padding=1)).cuda()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    losses = []
    side = consumer.stream()
    side.wait_stream(torch.cuda.current_stream())
    for batch in stream(planes, batch_slots=3):
        with consumer.on(side):
            expected = consumer.expected(batch.info.tags)
            values = consumer.take(batch)
            loss = ((net(values / PLANES) - expected / PLANES) ** 2).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            losses.append(loss.detach())
            consumer.look(values, expected)
            del values, loss
            event = consumer.event(side)
        batch.release(event=event)
    assert consumer.finish() == 0 and len(losses) == BATCHES
    assert all(bool(torch.isfinite(loss)) for loss in losses) and float(losses[-1]) < float(losses[0])


# --- budgets ---


def free_bytes() -> int:
    """Of the first device, by the driver."""
    driver, free, total = the_driver(), ctypes.c_size_t(), ctypes.c_size_t()
    with driver.entered():
        driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    return free.value


@pytest.mark.parametrize("megabytes", [48, 200, 800])
def test_the_limit_is_a_hard_cap(planes: str, megabytes: int) -> None:
    limit = megabytes << 20
    settings = {"max_gpu_memory_bytes": limit, "max_host_memory_bytes": 2 << 30, "batch_slots": 3}
    for _ in stream(planes, 4, **settings):  # what a context and its first kernels take is there now
        pass
    before = free_bytes()
    with damacy.Pipeline(config(**settings)) as pipeline:
        pipeline.push(sample(planes, i % PLANES) for i in range(20 * SAMPLES))
        for batch in pipeline.batches():
            batch.release()
            stats = pipeline.stats()
            assert stats.gpu_bytes_limit == limit and 0 < stats.gpu_bytes_committed <= limit
        taken = before - free_bytes()
        # Besides what is counted: the driver rounds, and keeps kernels and streams somewhere.
        assert taken <= limit + (48 << 20), f"{taken} bytes of the device are gone, the limit is {limit}"
    assert before - free_bytes() < 48 << 20


def test_no_limit_is_a_quarter_at_most_and_what_is_needed() -> None:
    before = free_bytes()
    with damacy.Pipeline(config(max_gpu_memory_bytes=0, max_host_memory_bytes=0)) as pipeline:
        stats = pipeline.stats()
        assert 0 < stats.gpu_bytes_committed <= stats.gpu_bytes_limit <= before // 4 + (64 << 20)


@pytest.mark.parametrize("limit", [1, 1 << 20, 4 << 20])
def test_too_small_a_limit_is_told_with_a_breakdown(limit: int) -> None:
    with pytest.raises(damacy.BudgetExceeded) as caught:
        damacy.Pipeline(config(max_gpu_memory_bytes=limit))
    text = str(caught.value)
    assert all(part in text for part in ("batch buffers", "batch_slots 2", "waves", "max_gpu_memory_bytes", "full speed needs")), text
    assert caught.value.status is damacy.Status.BUDGET and caught.value.stage == "config"


@pytest.mark.skipif("DAMACY_TEST_FAKE" not in os.environ, reason="a real driver does not fail when asked to")
@pytest.mark.parametrize("once", [True, False], ids=["once", "for ever"])
def test_calls_that_fail(planes: str, once: bool) -> None:
    """Whichever call of the driver fails: CudaError, and nothing else, and whatever was delivered before is right."""
    driver = ctypes.CDLL("libcuda.so.1")
    fail_at = driver.fake_fail_at
    fail_at.argtypes = [ctypes.c_uint64, ctypes.c_bool]
    failures = 0
    with damacy.Pipeline(config()):
        pass  # the driver is looked for once a process
    for n in [*range(1, 60, 4), *range(60, 400, 17)]:
        fail_at(n, once)
        try:
            for batch in stream(planes, 3, seed=n):
                count = len(batch.info.rows)  # this driver's memory is the host's: looked at without a call that might fail
                floats = (ctypes.c_float * (count * HEIGHT * WIDTH)).from_address(batch.info.device_ptr)
                assert values_are(np.frombuffer(floats, "f4").reshape(count, 1, HEIGHT, WIDTH), batch.info.tags)
                batch.release()
        except damacy.CudaError as error:
            assert error.status is damacy.Status.CUDA and "CUDA_ERROR_LAUNCH_FAILED" in str(error)
            failures += 1
        finally:
            gc.collect()
            fail_at(0, False)
    assert failures > 10


# --- several pipelines, several devices, processes ---


def check_all(uri: str, seed: int, **settings: Any) -> None:
    for batch in stream(uri, seed=seed, **settings):
        with batch as tensor:
            assert values_are(on_host(tensor), batch.info.tags)


def test_two_pipelines_on_one_device(planes: str) -> None:
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            check_all(planes, seed, batch_slots=2 + seed % 2)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
        assert not thread.is_alive()
    assert not errors, errors


def test_two_pipelines_turn_by_turn(planes: str) -> None:
    for pair in zip(stream(planes, seed=1), stream(planes, seed=2, dtype="f64"), strict=True):
        for batch in pair:
            with batch as tensor:
                assert values_are(on_host(tensor), batch.info.tags)


def test_auto_and_ordinals_are_this_device(planes: str) -> None:
    for device in ("auto", "cuda", "cuda:0", 0):
        with damacy.Pipeline(config(device=device)) as pipeline:
            assert pipeline.device == "cuda:0"
            pipeline.push([sample(planes, 5)])
            pipeline.flush()
            batch = pipeline.pop(timeout=60)
            assert batch[""].__dlpack_device__() == (2, 0) and batch.info.device == "cuda:0" and batch.info.device_ptr
            assert values_are(on_host(batch), (5,))
            batch.release()


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(damacy.InvalidArgument, match="device 999"):
        damacy.Pipeline(config(device="cuda:999"))


START = """
import sys
sys.path.insert(0, sys.argv[2])
import damacy
from reading import on_host
def pipeline_on(device):
    config = damacy.Config(samples_per_batch=4, sample_shape=(1, 64, 256), dtype="f32", device=device, batch_slots=3,
                           max_gpu_memory_bytes=96 << 20, max_host_memory_bytes=512 << 20)
    pipeline = damacy.Pipeline(config)
    pipeline.push(damacy.Sample(sys.argv[1], [(z, z + 1), (0, 64), (0, 256)], tag=z) for z in range(100))
    return pipeline
"""


def test_the_process_ends_with_everything_held(run_program: Callable[..., Any]) -> None:
    done = run_program(
        START
        + """
import builtins
pipeline = pipeline_on("cuda")
builtins.kept = [pipeline, pipeline.pop(), pipeline.pop()[""], pipeline.pop().__dlpack__()]
print("done")
"""
    )
    assert done.returncode == 0 and "done" in done.stdout, done.stdout + done.stderr


def test_a_forked_child_gets_errors(run_program: Callable[..., Any]) -> None:
    done = run_program(
        START
        + """
import os
pipeline = pipeline_on("cuda")
batch = pipeline.pop()
tensor = batch[""]
if os.fork() == 0:
    for use in (pipeline.pop, lambda: tensor.__dlpack__(), lambda: batch.info):
        try:
            use()
            os._exit(1)
        except damacy.Forked:
            pass
    del tensor, batch, pipeline
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert (on_host(batch)[3] == 3).all() and pipeline.pop() is not None
print("done")
"""
    )
    assert done.returncode == 0 and "done" in done.stdout, done.stdout + done.stderr


def test_local_rank_that_is_another_two_gpus(run_program: Callable[..., Any]) -> None:
    source = START + 'pipeline_on("cuda:1").pop().release()'
    told = run_program(source, LOCAL_RANK="0")
    assert told.returncode == 0 and "LOCAL_RANK is 0" in told.stderr, told.stderr
    quiet = run_program(source, LOCAL_RANK="1")
    assert quiet.returncode == 0 and "LOCAL_RANK" not in quiet.stderr, quiet.stderr


def test_two_gpus(planes: str) -> None:
    """One pipeline each, in one process, by turns and at once."""
    for pair in zip(stream(planes, device="cuda:0"), stream(planes, seed=2, device="cuda:1"), strict=True):
        for ordinal, batch in enumerate(pair):
            assert batch.info.device == f"cuda:{ordinal}" and batch[""].__dlpack_device__() == (2, ordinal)
            with batch as tensor:
                assert values_are(on_host(tensor), batch.info.tags)
    errors: list[BaseException] = []

    def work(ordinal: int) -> None:
        try:
            check_all(planes, ordinal, device=ordinal)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(ordinal,)) for ordinal in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
        assert not thread.is_alive()
    assert not errors, errors


def test_torch_on_two_gpus(planes: str) -> None:
    """A consumer on each; the current device is the other one's half of the time."""
    torch = TorchConsumer().torch
    if torch.cuda.device_count() < 2:
        pytest.skip("torch sees one device")
    for pair in zip(stream(planes, device="cuda:0"), stream(planes, seed=2, device="cuda:1"), strict=True):
        for ordinal, batch in enumerate(pair):
            tags = batch.info.tags
            torch.cuda.set_device(1 - ordinal)
            with batch as tensor:
                values = torch.from_dlpack(tensor)
            assert values.device == torch.device("cuda", ordinal)
            assert (values.cpu().numpy() == np.array(tags, "f4").reshape(-1, 1, 1, 1)).all()
            del values
    torch.cuda.set_device(0)
