"""Reading small boxes by damacy with few pipelines, for tests that look at thousands of arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from os import PathLike

import numpy as np

import damacy

Box = Sequence[tuple[int, int]]


class Reader:
    """Pipelines by sample shape and dtype; the least recently used one is closed when there are many. A context manager."""

    def __init__(self, most: int = 12, **settings: object) -> None:
        self.most, self.settings = most, {"worker_count": 2, "lookahead_samples": 64} | settings
        self.pipelines: OrderedDict[tuple[tuple[int, ...], str], damacy.Pipeline] = OrderedDict()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for pipeline in self.pipelines.values():
            pipeline.close()

    def pipeline(self, shape: tuple[int, ...], dtype: str) -> damacy.Pipeline:
        found = self.pipelines.pop((shape, dtype), None)
        if found is None:
            found = damacy.Pipeline(damacy.Config(samples_per_batch=4, sample_shape=shape, dtype=dtype, **self.settings))
        self.pipelines[shape, dtype] = found
        while len(self.pipelines) > self.most:
            self.pipelines.popitem(last=False)[1].close()
        return found

    def boxes(self, uri: str | PathLike[str], boxes: Sequence[Box], dtype: str) -> np.ndarray:
        """The boxes, all of one shape, stacked. Raises what pop raises."""
        shape = tuple(end - begin for begin, end in boxes[0])
        pipeline = self.pipeline(shape, dtype)
        pipeline.push([damacy.Sample(uri, box) for box in boxes])
        pipeline.flush()
        rows = []
        try:
            while (batch := pipeline.pop(timeout=60)) is not None:
                with batch as tensor:
                    rows.append(np.asarray(tensor).copy())
        except BaseException:
            self.pipelines.pop((shape, dtype)).close()  # what is left in it is nobody's
            raise
        return np.concatenate(rows)

    def whole(self, uri: str | PathLike[str], shape: Sequence[int], dtype: str) -> np.ndarray:
        """A whole array of a known shape."""
        return self.boxes(uri, [[(0, extent) for extent in shape]], dtype)[0]
