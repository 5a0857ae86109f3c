"""acquire-zarr, the streaming writer of microscopes: v3, always sharded, plain arrays and OME-NGFF pyramids. It has no reader of its own, so
the truth is what was appended."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import acquire_zarr as aqz  # noqa: E402
import numpy as np  # noqa: E402
from common import Cases, main, values_of  # noqa: E402

DTYPES = "uint8 uint16 uint32 uint64 int8 int16 int32 int64 float32 float64".split()
CODECS = [None, (aqz.CompressionCodec.BLOSC_LZ4, 1), (aqz.CompressionCodec.BLOSC_ZSTD, 2), (aqz.CompressionCodec.BLOSC_LZ4, 0)]


def dimensions(shape: tuple[int, ...], chunks: tuple[int, ...], shards: tuple[int, ...]) -> list[aqz.Dimension]:
    names = "tczyx"[-len(shape) :]
    kinds = {"t": aqz.DimensionType.TIME, "c": aqz.DimensionType.CHANNEL}
    return [
        aqz.Dimension(
            name=name, kind=kinds.get(name, aqz.DimensionType.SPACE), array_size_px=n if i else 0, chunk_size_px=c, shard_size_chunks=s
        )
        for i, (name, n, c, s) in enumerate(zip(names, shape, chunks, shards))
    ]


def write_one(cases: Cases, rng: np.random.Generator, dtype: str, codec: tuple | None, pyramid: bool) -> None:
    shape = [(9, 24, 20), (5, 3, 17, 19), (3, 2, 4, 16, 18)][int(rng.integers(3))]
    if pyramid:
        shape = (3, 2, 4, 16, 18)  # 0.10.0 divides by zero when a stack alone becomes a pyramid
    chunks = tuple(int(rng.integers(1, 4)) for _ in shape[:-2]) + tuple(int(rng.choice([5, 8, 10])) for _ in range(2))
    shards = tuple(int(rng.integers(1, 4)) for _ in shape)
    settings = {"dimensions": dimensions(shape, chunks, shards), "data_type": np.dtype(dtype)}
    if codec:
        settings["compression"] = aqz.CompressionSettings(codec=codec[0], compressor=aqz.Compressor.BLOSC1, level=3, shuffle=codec[1])
    if pyramid:
        settings["downsampling_method"] = aqz.DownsamplingMethod.MEAN
    data = values_of(rng, shape, np.dtype(dtype))
    if dtype.startswith("float"):
        data = np.nan_to_num(data, posinf=3, neginf=4)
    path = cases.path()
    stream = aqz.ZarrStream(aqz.StreamSettings(arrays=[aqz.ArraySettings(**settings)], store_path=str(path), overwrite=True))
    stream.append(data)
    stream.close()
    text = f"acquire-zarr: {dtype}, {shape}, chunks {chunks}, shards of {shards} chunks, {codec}{', pyramid' if pyramid else ''}"
    if not (path / "0").exists() and pyramid:
        raise RuntimeError(f"no level 0: {text}")
    cases.add(data, text, f"{path}#level=0" if pyramid else path)


def write(cases: Cases, rng: np.random.Generator) -> None:
    for dtype in DTYPES:
        for codec in CODECS:
            write_one(cases, rng, dtype, codec, False)
    for dtype in ("uint8", "uint16", "float32"):
        write_one(cases, rng, dtype, CODECS[1], True)


if __name__ == "__main__":
    main(write)
