"""The shortest whole program: write a small array, stream random crops of it as NumPy arrays.

python examples/quickstart.py [an array with three axes]
"""

import random
import sys
import tempfile

import numpy as np

import damacy

CROP = (16, 64, 64)


def crops(uri: str, shape: tuple[int, ...], count: int):
    for _ in range(count):
        begin = [random.randrange(extent - size + 1) for extent, size in zip(shape, CROP)]
        yield damacy.Sample(uri=uri, aabb=[(b, b + size) for b, size in zip(begin, CROP)])


def main(uri: str, shape: tuple[int, ...]) -> None:
    config = damacy.Config(samples_per_batch=8, sample_shape=CROP, dtype="f32")
    with damacy.Pipeline(config) as pipeline:
        pipeline.push(crops(uri, shape, 100))
        for batch in pipeline.batches():
            with batch as tensor:
                x = np.from_dlpack(tensor)  # or torch.from_dlpack(tensor): no copy
                print(x.shape, x.dtype, f"mean {x.mean():.1f}")
        print(pipeline.stats())


if __name__ == "__main__":
    import zarr

    if len(sys.argv) > 1:
        main(sys.argv[1], zarr.open_array(sys.argv[1], mode="r").shape)
    else:
        with tempfile.TemporaryDirectory() as folder:
            array = zarr.create_array(folder + "/array", shape=(64, 256, 256), chunks=(16, 64, 64), shards=(32, 256, 256), dtype="u2")
            array[...] = np.random.default_rng(0).poisson(100, array.shape)
            main(folder + "/array", array.shape)
