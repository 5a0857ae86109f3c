"""What may be pushed, when it is pulled, and where its errors surface."""

from __future__ import annotations

import gc
import itertools
import time
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import SHAPE, Example, sample_of
from reading import PATIENCE, config, on_host

import damacy
from damacy import Sample


def endless(example: Example, taken: list[int]) -> Iterator[Sample]:
    for i in itertools.count():
        taken.append(i)
        yield sample_of(example, (i % 8, 0, 0), tag=i)


def test_an_endless_generator_is_pulled_as_far_as_there_is_room(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(lookahead_samples=16, prefetch_samples=8, batch_slots=2)
    taken: list[int] = []
    pipeline.push(endless(example, taken))
    assert taken == []  # push returns at once
    tags: list[int] = []
    for batch in pipeline.batches(50):
        with batch:
            tags += batch.info.tags
        # lookahead, prefetcher, and two batches in work, besides what was delivered
        assert len(taken) <= len(tags) + 16 + 8 + 2 * 4
    assert tags == list(range(200))


def test_push_takes_any_iterable_and_keeps_order(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()
    parts = [[sample_of(example, (0, 0, 0), tag=10 * part + i) for i in range(3)] for part in range(5)]
    pipeline.push(parts[0])
    pipeline.push(iter(parts[1]))
    pipeline.push(tuple(parts[2]))
    for sample in parts[3]:
        pipeline.push(sample)
    pipeline.push(sample for sample in parts[4])
    pipeline.push([])
    tags = [tag for batch in pipeline.batches() for tag in batch.info.tags]
    assert tags == [10 * part + i for part in range(5) for i in range(3)]


def test_batches_end_where_nothing_comes(make_pipeline) -> None:
    assert list(make_pipeline().batches()) == []
    pipeline = make_pipeline()
    pipeline.push([])
    assert list(pipeline.batches()) == []
    pipeline = make_pipeline()
    pipeline.push([Sample("/nowhere", [(0, 1)] * (len(SHAPE) + 1))])
    batches = pipeline.batches()
    with pytest.raises(damacy.RankMismatch):
        next(batches)
    assert list(batches) == []


def test_what_the_lookahead_refuses_is_not_lost(example: Example, make_pipeline) -> None:
    """Uris so long that far fewer samples fit than there are places: the rest of what was taken from the iterator waits."""
    folder, _, name = example.uri.rpartition("/")
    uri = folder + "/." * ((3900 - len(example.uri)) // 2) + "/" + name
    pipeline = make_pipeline(lookahead_samples=64, prefetch_samples=8)
    pipeline.push(Sample(uri, example.box(i % 8, 0, 0, shape=SHAPE), tag=i) for i in range(200))
    assert [tag for batch in pipeline.batches() for tag in batch.info.tags] == list(range(200))


def test_a_slow_source_keeps_nobody_past_the_time(example: Example, make_pipeline) -> None:
    def slow() -> Iterator[Sample]:
        for i in itertools.count():
            time.sleep(0.01)
            yield sample_of(example, (0, 0, 0), tag=i)

    pipeline = make_pipeline(samples_per_batch=64)
    pipeline.push(slow())
    for timeout in (0, 0.02, 0.1):
        taken = pipeline.pending.samples
        with pytest.raises(damacy.Timeout):
            pipeline.pop(timeout)
        assert pipeline.pending.samples > taken  # but it was asked
    assert pipeline.pending.samples < 64
    assert pipeline.pop(timeout=PATIENCE).info.tags == tuple(range(64))


def test_many_single_samples(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(lookahead_samples=8, prefetch_samples=8)
    for i in range(500):
        pipeline.push(sample_of(example, (i % 8, 0, 0), tag=i))
    assert [tag for batch in pipeline.batches() for tag in batch.info.tags] == list(range(500))


@pytest.mark.parametrize("source", [5, None, 1.5])
def test_what_is_no_iterable(make_pipeline, source: object) -> None:
    with pytest.raises(TypeError):
        make_pipeline().push(source)


def test_errors_of_an_iterable_surface_in_pop_and_end_it_alone(example: Example, make_pipeline) -> None:
    def failing() -> Iterator[Sample]:
        yield sample_of(example, (0, 0, 0), tag=0)
        yield sample_of(example, (0, 0, 0), tag=1)
        raise KeyError("no more")

    pipeline = make_pipeline(samples_per_batch=2)
    pipeline.push(failing())
    pipeline.push([sample_of(example, (0, 0, 0), tag=2)])
    batches = pipeline.batches()
    with pytest.raises(KeyError, match="no more"):
        next(batches)
    assert [batch.info.tags for batch in batches] == [(0, 1), (2,)]


def test_what_is_no_sample_is_left_out(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(samples_per_batch=2)
    pipeline.push([sample_of(example, (0, 0, 0), tag=0), "sample", sample_of(example, (0, 0, 0), tag=1)])
    batches = pipeline.batches()
    with pytest.raises(TypeError, match="'sample'"):
        next(batches)
    assert [batch.info.tags for batch in batches] == [(0, 1)]


@pytest.mark.parametrize(
    ("aabb", "error"),
    [
        ([(0, 4), (0, 16)], damacy.RankMismatch),
        ([(0, 4), (0, 16), (0, 17)], damacy.RankMismatch),
        ([(-1, 3), (0, 16), (0, 16)], damacy.InvalidArgument),
    ],
)
def test_samples_that_are_wrong_in_themselves(example: Example, make_pipeline, aabb, error) -> None:
    pipeline = make_pipeline(samples_per_batch=2)
    pipeline.push([sample_of(example, (0, 0, 0), tag=0), Sample(example.uri, aabb), sample_of(example, (0, 0, 0), tag=1)])
    pipeline.push(Sample(example.uri, aabb))
    batches = pipeline.batches()
    with pytest.raises(error) as caught:
        next(batches)
    assert caught.value.uri == example.uri and caught.value.stage == "push"
    outcomes: list[object] = []  # the other bad one and the batch, whichever is first
    while True:
        try:
            outcomes.append(next(batches).info.tags)
        except error:
            outcomes.append(error)
        except StopIteration:
            break
    assert outcomes in ([error, (0, 1)], [(0, 1), error])


def test_flush_stands_behind_what_was_pushed_before(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()
    for count in (3, 5, 4, 1):
        pipeline.push(sample_of(example, (0, 0, 0)) for _ in range(count))
        pipeline.flush()
    pipeline.flush()
    sizes = []
    while (batch := pipeline.pop(timeout=PATIENCE)) is not None:
        sizes.append(len(batch.info.rows))
    assert sizes == [3, 4, 1, 4, 1]
    assert pipeline.pop() is None  # as often as one asks
    pipeline.push(sample_of(example, (0, 0, 0)))
    with pytest.raises(damacy.Timeout):
        pipeline.pop(timeout=0.01)
    pipeline.flush()
    assert len(pipeline.pop(timeout=PATIENCE).info.rows) == 1


def test_batches_counts_and_flushes(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()
    pipeline.push(sample_of(example, (0, 0, 0), tag=i) for i in range(10))
    assert [len(b.info.rows) for b in pipeline.batches(1)] == [4]
    assert [len(b.info.rows) for b in pipeline.batches(0)] == []
    assert [len(b.info.rows) for b in pipeline.batches(5)] == [4, 2]
    assert list(pipeline.batches()) == []
    pipeline.push(sample_of(example, (0, 0, 0), tag=i) for i in range(4))
    assert [len(b.info.rows) for b in pipeline.batches(np.int64(7))] == [4]
    for wrong in (-1, 2.5, "x"):
        with pytest.raises((TypeError, damacy.InvalidArgument)):
            pipeline.batches(wrong)
    pipeline.push(sample_of(example, (0, 0, 0), tag=i) for i in range(6))
    assert [len(b.info.rows) for b in pipeline] == [4, 2]
    pipeline.close()
    with pytest.raises(damacy.ShutdownError):
        iter(pipeline)


def test_a_source_may_use_its_pipeline(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(samples_per_batch=1)

    def growing(depth: int) -> Iterator[Sample]:
        yield sample_of(example, (0, 0, 0), tag=depth)
        if depth < 5:
            pipeline.push(growing(depth + 1))
            pipeline.flush()
            assert pipeline.pending.sources >= 2

    pipeline.push(growing(0))
    assert [batch.info.tags[0] for batch in pipeline.batches()] == list(range(6))


def test_a_source_may_close_its_pipeline(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()

    def closing() -> Iterator[Sample]:
        yield sample_of(example, (0, 0, 0))
        pipeline.close()
        yield sample_of(example, (0, 0, 0))

    pipeline.push(closing())
    with pytest.raises(damacy.ShutdownError):
        pipeline.pop()


def test_a_source_that_pops_gets_no_deadlock(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline(samples_per_batch=1)
    tags: list[int] = []

    def popping() -> Iterator[Sample]:
        pipeline.push(sample_of(example, (0, 0, 0), tag=8))
        yield sample_of(example, (0, 0, 0), tag=7)
        try:
            tags.extend(pipeline.pop(timeout=0.02).info.tags)  # the one above, if it is on its way already
        except damacy.Timeout:
            pass  # it is not, and cannot be while this very source is being asked

    pipeline.push(popping())
    for batch in pipeline.batches():
        tags.extend(batch.info.tags)
    assert tags == [7, 8]


def test_sources_that_hold_their_pipeline_are_collected(example: Example) -> None:
    class Marker:
        pass

    def cycle(pipeline: damacy.Pipeline, marker: Marker) -> Iterator[Sample]:
        while True:
            yield sample_of(example, (0, 0, 0))
            assert pipeline and marker

    marker = Marker()
    seen = weakref.ref(marker)
    pipeline = damacy.Pipeline(config(samples_per_batch=1, sample_shape=SHAPE, dtype="f32"))
    pipeline.push(cycle(pipeline, marker))
    pipeline.pop().release()
    del pipeline, marker
    gc.collect()
    assert seen() is None


# --- arrays ---


@pytest.mark.parametrize("integer", ["i8", "u8", "i4", "u2"])
def test_arrays_without_sample_objects(example: Example, labels: Example, make_pipeline, integer: str) -> None:
    rng = np.random.default_rng(3)
    count = 700  # several blocks
    begins = np.stack([rng.integers(0, 28, count), rng.integers(0, 80, count), rng.integers(0, 80, count)], axis=1).astype(integer)
    index = rng.integers(0, 2, count).astype(integer)
    tags = rng.integers(0, 2**63, count).astype("u8") * np.uint64(2)
    pipeline = make_pipeline(samples_per_batch=16)
    pipeline.push_arrays([example.uri, labels.uri], index, begins, tags)
    kept = begins.copy(), index.copy()
    begins[...], index[...] = 0, 0  # the caller's again
    row = 0
    for batch in pipeline.batches():
        with batch as tensor:
            for tag, values in zip(batch.info.tags, on_host(tensor)):
                source = (example, labels)[int(kept[1][row])]
                np.testing.assert_array_equal(values, source.crop(*map(int, kept[0][row]), shape=SHAPE))
                assert tag == tags[row]
                row += 1
    assert row == count


def test_arrays_of_several_fields(example: Example, labels: Example, make_pipeline) -> None:
    pipeline = make_pipeline(fields={"image": damacy.Field(SHAPE, "u16"), "label": damacy.Field((1, 4, 4), "u8")})
    begins = {"image": np.zeros((4, 3), int), "label": np.arange(12).reshape(4, 3)[::-1]}  # not contiguous
    pipeline.push_arrays({"image": [example.uri], "label": [labels.uri]}, np.zeros(4, int), begins)
    batch = pipeline.pop()
    assert batch.info.tags == (0, 1, 2, 3)
    for i in range(4):
        np.testing.assert_array_equal(on_host(batch["label"])[i], labels.crop(*begins["label"][i], shape=(1, 4, 4)))


def test_wrong_arrays(example: Example, make_pipeline) -> None:
    pipeline = make_pipeline()
    index, begins = np.zeros(3, int), np.zeros((3, 3), int)
    with pytest.raises(damacy.InvalidArgument, match=r"uri_index\[1\] is 1"):
        pipeline.push_arrays([example.uri], np.array([0, 1, 0]), begins)
    with pytest.raises(damacy.InvalidArgument, match="uri_index"):
        pipeline.push_arrays([example.uri], np.array([0, -1, 0]), begins)
    with pytest.raises(damacy.InvalidArgument, match="begins has 3 rows"):
        pipeline.push_arrays([example.uri], np.zeros(2, int), begins)
    with pytest.raises(damacy.RankMismatch):
        pipeline.push_arrays([example.uri], index, np.zeros((3, 2), int))
    with pytest.raises(damacy.InvalidArgument, match="format"):
        pipeline.push_arrays([example.uri], index, begins.astype("f8"))
    with pytest.raises(damacy.InvalidArgument, match="axes"):
        pipeline.push_arrays([example.uri], index, index)
    with pytest.raises(damacy.InvalidArgument, match="tags"):
        pipeline.push_arrays([example.uri], index, begins, np.zeros(2, int))
    with pytest.raises(TypeError):
        pipeline.push_arrays(example.uri, index, begins)
    with pytest.raises(TypeError):
        pipeline.push_arrays([5], index, begins)
    with pytest.raises(TypeError):
        pipeline.push_arrays([example.uri], 5, begins)
    begins[1, 0] = -1
    pipeline.push_arrays([example.uri], index, begins)
    batches = pipeline.batches()
    with pytest.raises(damacy.InvalidArgument, match="-1"):
        next(batches)
    assert [batch.info.tags for batch in batches] == [(0, 2)]
