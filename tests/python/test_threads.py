"""Several Python threads at once: popping, pushing, closing."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest
from conftest import SHAPE, Example, sample_of
from reading import config, on_host

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
        thread.join(timeout=60)
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
            with pipeline.pop(timeout=30) as _:
                pass
            tags.extend([0] * 4)

    run_threads(produce, consume)
    assert not pipeline.pending


def test_a_sleeping_popper_notices_what_others_push(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()
    got: list[tuple[int, ...]] = []
    popper = threading.Thread(target=lambda: got.append(pipeline.pop(timeout=30).info.tags))
    popper.start()
    time.sleep(0.1)
    pipeline.push(sample_of(example, (i, 0, 0), tag=i) for i in range(4))
    popper.join(timeout=30)
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


def test_waiting_lets_others_run(make_pipeline) -> None:
    """The interpreter's lock is free while pop waits."""
    pipeline = make_pipeline()
    steps = 0

    def count() -> None:
        nonlocal steps
        while steps < 20:
            time.sleep(0.005)
            steps += 1

    def pop() -> None:
        with pytest.raises(damacy.Timeout):
            pipeline.pop(timeout=0.3)
        assert steps == 20

    run_threads(count, pop)


def test_release_from_any_thread(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(batch_slots=3)
    pipeline.push(sample_of(example, (i % 8, 0, 0), tag=i) for i in range(400))
    queue: list[damacy.Batch] = []
    done = threading.Event()

    def pop() -> None:
        while True:
            try:
                batch = pipeline.pop(timeout=0.5)
            except damacy.PoolStarved:
                time.sleep(0.0005)
                continue
            except damacy.Timeout:
                break
            queue.append(batch)
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
