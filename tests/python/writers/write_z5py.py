"""z5py, the C++ implementation z5: v2 and v3, with every compressor that it was built with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np  # noqa: E402
import z5py  # noqa: E402
from common import SHAPES, Cases, chunks_of, main, values_of  # noqa: E402

DTYPES = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split()


def options_of(rng: np.random.Generator, name: str, version: int) -> dict[str, Any]:
    if name == "blosc":
        level = "level" if version == 3 else "clevel"
        return {"codec": str(rng.choice(["lz4", "zstd", "blosclz", "zlib", "lz4hc"])), level: int(rng.integers(0, 10)), "shuffle": int(rng.integers(0, 3))}
    return {} if name == "raw" else {"level": int(rng.integers(1, 9))}


def write(cases: Cases, rng: np.random.Generator) -> None:
    versions = (2, 3) if "zarr_format" in z5py.File.__init__.__code__.co_varnames else (2,)
    for version in versions:
        compressors = z5py.dataset.Dataset.compressors_zarr if version == 2 else z5py.dataset.Dataset.compressors_zarr_v3
        for separator in (".", "/") if version == 2 else ("/",):
            folder = cases.folder / f"v{version}{'dot' if separator == '.' else 'slash'}.zarr"
            settings: dict[str, Any] = {"zarr_format": version} if len(versions) > 1 else {}
            file = z5py.File(str(folder), mode="w", use_zarr_format=True, dimension_separator=separator, **settings)
            for name in DTYPES:
                for compression in compressors:
                    shape = SHAPES[int(rng.integers(1, 5))]
                    chunks = tuple(min(c, n) for c, n in zip(chunks_of(rng, shape), shape))
                    more = options_of(rng, compression, version)
                    if version == 3 and rng.random() < 0.4:
                        more["shards"] = tuple(c * int(n) for c, n in zip(chunks, rng.integers(1, 4, len(shape))))
                    if version == 3 and rng.random() < 0.3:
                        more["chunk_key_encoding"] = "v2"
                    path = f"array{len(cases.cases)}"
                    fill = int(rng.choice([0, 0, 5]))
                    text = f"z5py {z5py.__version__}, v{version}, separator {separator}: {name}, {shape}, {chunks}, {compression}, {more}, fill {fill}"
                    array = file.create_dataset(path, shape=shape, dtype=name, chunks=chunks, compression=compression, fillvalue=fill, **more)
                    data = values_of(rng, shape, np.dtype(name))
                    truth = np.full(shape, fill, name)
                    if rng.random() < 0.7:
                        array[:] = data
                        truth = data
                    else:
                        box = tuple(slice(0, int(rng.integers(1, n + 1))) for n in shape)
                        array[box] = data[box]
                        truth[box] = data[box]
                    cases.add(truth, text, folder / path)


if __name__ == "__main__":
    main(write)
