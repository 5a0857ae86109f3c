"""Several Python threads at once: popping, pushing, closing."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest
from conftest import SHAPE, Example, sample_of
from reading import PATIENCE, config, on_host

import damacy


def run_threads(*targets: Callable[[], None]) -> None:
    """Run them all; the first exception of any is raised here."""
    errors: list[BaseException] = []

    def guarded(target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=2 * PATIENCE)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("count", [2, 8])
def test_several_threads_pop_one_stream(example: Example, make_pipeline, count: int) -> None:
    pipeline = make_pipeline(batch_slots=2 * count + 1)  # each thread holds the tensor before, while it waits
    asked: list[int] = []

    def source():
        busy = False
        for i in range(1200):
            assert not busy  # one thread at a time
            busy = True
            asked.append(i)
            sample = sample_of(example, (i % 8, 0, 0), tag=i)
            busy = False
            yield sample

    seen: list[tuple[int, tuple[int, ...]]] = []

    def pop() -> None:
        own = []
        for batch in pipeline.batches():
            with batch as tensor:
                info = batch.info
                values = on_host(tensor)
                for row, tag in enumerate(info.tags):
                    assert values[row, 0, 0, 0] == example.data[tag % 8, 0, 0]
                own.append((info.batch_id, info.tags))
        assert own == sorted(own)  # each thread gets successive batches
        seen.extend(own)

    pipeline.push(source())
    run_threads(*[pop] * count)
    assert [tag for _, tags in sorted(seen) for tag in tags] == list(range(1200)) and asked == list(range(1200))


def test_producer_and_consumer(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()
    count = 2000
    tags: list[int] = []

    def produce() -> None:
        for i in range(count):
            pipeline.push(sample_of(example, (i % 8, 0, 0), tag=i))

    def consume() -> None:
        while len(tags) < count:
            with pipeline.pop(timeout=PATIENCE) as _:
                pass
            tags.extend([0] * 4)

    run_threads(produce, consume)
    assert not pipeline.pending


def test_a_sleeping_popper_notices_what_others_push(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()
    got: list[tuple[int, ...]] = []
    popper = threading.Thread(target=lambda: got.append(pipeline.pop(timeout=PATIENCE).info.tags))
    popper.start()
    time.sleep(0.1)
    pipeline.push(sample_of(example, (i, 0, 0), tag=i) for i in range(4))
    popper.join(timeout=2 * PATIENCE)
    assert got == [(0, 1, 2, 3)]


@pytest.mark.parametrize("endless", [False, True])
def test_close_wakes_those_who_wait(example: Example, make_pipeline, endless: bool) -> None:
    pipeline = make_pipeline(batch_slots=8)
    if endless:
        pipeline.push(sample_of(example, (i % 8, 0, 0)) for i in itertools.count())
    woken: list[type] = []

    def pop() -> None:
        try:
            while True:
                pipeline.pop().release()
        except damacy.DamacyError as error:
            woken.append(type(error))

    def close() -> None:
        time.sleep(0.1)
        pipeline.close()

    run_threads(pop, pop, pop, close, close)
    assert woken == [damacy.ShutdownError] * 3


def test_waiting_lets_others_run(example: Example, make_pipeline) -> None:
    """The interpreter's lock is free while pop waits: what it waits for comes from a thread that has much to do before."""
    pipeline = make_pipeline()
    about_to_wait = threading.Event()
    steps = 0

    def count() -> None:
        nonlocal steps
        about_to_wait.wait()
        while steps < 20:
            time.sleep(0.005)
            steps += 1
        pipeline.push(sample_of(example, (i, 0, 0)) for i in range(4))

    def pop() -> None:
        about_to_wait.set()
        pipeline.pop(timeout=PATIENCE).release()
        assert steps == 20

    run_threads(count, pop)


def test_release_from_any_thread(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(batch_slots=3)
    pipeline.push(sample_of(example, (i % 8, 0, 0), tag=i) for i in range(400))
    queue: list[damacy.Batch] = []
    done = threading.Event()

    def pop() -> None:
        popped = 0
        try:
            while popped < 100:
                try:
                    queue.append(pipeline.pop(timeout=PATIENCE))
                    popped += 1
                except damacy.PoolStarved:
                    time.sleep(0.0005)
        finally:
            done.set()

    def release() -> None:
        while not done.is_set() or queue:
            if queue:
                values = on_host(queue[0])
                queue.pop(0).release()
                assert values.shape == (4, *SHAPE)
                del values
            else:
                time.sleep(0.0005)

    run_threads(pop, release)
    assert pipeline.stats().batches_delivered == 100


def test_pipeline_per_thread(example: Example) -> None:
    def stream() -> None:
        settings = config(samples_per_batch=4, sample_shape=SHAPE, dtype="f32", worker_count=1)
        for _ in range(5):
            with damacy.Pipeline(settings) as pipeline:
                pipeline.push(sample_of(example, (i % 8, 0, 0), tag=i) for i in range(40))
                assert len([batch.release() for batch in pipeline.batches()]) == 10

    run_threads(*[stream] * 4)
