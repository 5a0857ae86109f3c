"""ngff-zarr: OME-Zarr images of 0.4, 0.5 and 0.6, sharded or not, in folders and in .ozx files; each level is read by its fragment."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import ngff_zarr as nz  # noqa: E402
import numpy as np  # noqa: E402
from common import Cases, main, values_of  # noqa: E402

warnings.simplefilter("ignore")
AXES = [("y", "x"), ("z", "y", "x"), ("c", "z", "y", "x"), ("t", "c", "z", "y", "x")]
EXTENTS = {"t": 2, "c": 3, "z": 8, "y": 26, "x": 30}
SCALES = {"t": 3.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25}


def write_one(cases: Cases, rng: np.random.Generator, version: str, dims: tuple[str, ...], dtype: str, sharded: bool, zipped: bool) -> None:
    shape = tuple(EXTENTS[d] for d in dims)
    data = values_of(rng, shape, np.dtype(dtype))
    if dtype.startswith("float"):
        data = np.nan_to_num(data, posinf=3, neginf=4)
    image = nz.to_ngff_image(data, dims=dims, scale={d: SCALES[d] for d in dims}, axes_units={d: "micrometer" for d in dims if d in "zyx"})
    spatial = [{d: 2 ** (i + 1) for d in dims if d in "zyx"} for i in range(1)]
    scales = nz.to_multiscales(image, scale_factors=spatial, method=nz.Methods.ITKWASM_BIN_SHRINK, chunks=8)
    path = cases.folder / f"image{len(cases.cases)}{'.ozx' if zipped else '.ome.zarr'}"
    nz.to_ngff_zarr(str(path), scales, version=version, chunks_per_shard=2 if sharded else None)
    for level, scaled in enumerate(scales.images):
        truth = np.asarray(scaled.data)
        if level == 0:
            assert (truth == data).all()
        text = f"ngff-zarr {nz.__version__}: OME-Zarr {version}, {dims}, {dtype}, {'sharded, ' if sharded else ''}level {level} of {path.name}"
        cases.add(truth, text, f"{path}#level={level}")
    finest = np.asarray(scales.images[1].data)
    cases.add(finest, f"ngff-zarr: the level that is as fine as level 1, {version}, {dims}", f"{path}#scale={scale_of(dims)}")


def scale_of(dims: tuple[str, ...]) -> str:
    """What level 1 has in its spatial axes."""
    return ",".join(str(2 * SCALES[d]) for d in dims if d in "zyx")


def write(cases: Cases, rng: np.random.Generator) -> None:
    for version, kinds in (("0.4", AXES), ("0.5", AXES[1:3]), ("0.6", AXES[1:3])):
        for dims in kinds:
            write_one(cases, rng, version, dims, str(rng.choice(["uint8", "uint16", "float32", "int32"])), False, False)
    write_one(cases, rng, "0.5", AXES[1], "uint16", True, False)
    write_one(cases, rng, "0.5", AXES[2], "uint8", False, True)
    write_one(cases, rng, "0.5", AXES[1], "uint16", True, True)


if __name__ == "__main__":
    main(write)
