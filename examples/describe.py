"""What is in a Zarr hierarchy, and a batch of crops by the names of axes: python examples/describe.py [URI]

Without a uri it writes a small OME-Zarr image first.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import damacy


def write_image(folder: Path) -> Path:
    """An OME-Zarr 0.5 image of two channels and three levels, uncompressed and unsharded: metadata and bytes by hand."""
    datasets = []
    for level in range(3):
        shape = (2, 32 >> level, 128 >> level, 128 >> level)
        values = np.random.default_rng(level).integers(0, 4096, shape).astype("<u2")
        chunk = (1, *shape[1:])
        metadata = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": "uint16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "chunk_key_encoding": {"name": "default"},
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "fill_value": 0,
        }
        for channel in range(2):
            path = folder / str(level) / "c" / str(channel) / "0" / "0" / "0"
            path.parent.mkdir(parents=True)
            path.write_bytes(values[channel].tobytes())
        (folder / str(level) / "zarr.json").write_text(json.dumps(metadata))
        scale = [1.0, 2.0 * 2**level, 0.5 * 2**level, 0.5 * 2**level]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    axes = [{"name": "c", "type": "channel"}] + [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    attributes = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}}
    (folder / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}))
    return folder


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        uri = sys.argv[1] if len(sys.argv) > 1 else write_image(Path(folder) / "image.zarr")
        node = damacy.open(uri)
        print(node)
        if len(sys.argv) > 1:
            return
        level = node.levels[1]
        boxes = [level.box(c=1, z=slice(4, 12), y=(y, y + 32), x=(x, x + 32)) for y in (0, 16) for x in (0, 32)]
        config = damacy.Config(samples_per_batch=4, sample_shape=(1, 8, 32, 32), dtype="f32")
        with damacy.Pipeline(config) as pipeline:
            pipeline.push(damacy.Sample(level.uri, box) for box in boxes)
            for batch in pipeline.batches():
                with batch as tensor:
                    print(np.from_dlpack(tensor).shape, "at a scale of", level.scale)


if __name__ == "__main__":
    main()
