"""open(): arrays, groups, OME-Zarr images, labels, plates, zip files and references, described and then read by the uris it gives; what
cannot be read; and the command-line tool."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from conftest import Example
from reading import PATIENCE, Reader

import damacy

SHAPE = (6, 20, 24)
DATA = np.arange(np.prod(SHAPE), dtype="u2").reshape(SHAPE)
AXES = [{"name": "z", "type": "space", "unit": "micrometer"}, {"name": "y", "type": "space", "unit": "micrometer"}, {"name": "x", "type": "space", "unit": "micrometer"}]


def levels_of(data: np.ndarray) -> list[np.ndarray]:
    return [data, data[::2, ::2, ::2], data[::4, ::4, ::4]]


def image(folder: Path, data: np.ndarray, version: str, **more: Any) -> Path:
    """An OME-Zarr image of three levels, with metadata by hand."""
    datasets = []
    for level, values in enumerate(levels_of(data)):
        v2 = {"zarr_format": 2} if version == "0.4" else {}
        array = zarr.create_array(folder / str(level), shape=values.shape, chunks=(4, 8, 8), dtype=values.dtype, **v2)
        array[...] = values
        scale = [2.0 * 2**level, 0.5 * 2**level, 0.25 * 2**level]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}, {"type": "translation", "translation": [0.0, level, 0.0]}]})
    multiscale = {"axes": AXES, "datasets": datasets, "name": "made up"}
    if version == "0.4":
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps({"multiscales": [multiscale | {"version": version}], **more}))
    else:
        ome = {"version": version, "multiscales": [multiscale], **more}
        (folder / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}))
    return folder


def group(folder: Path, attributes: dict[str, Any], version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(attributes))
    else:
        document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": version, **attributes}}}
        (folder / "zarr.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def reader():
    with Reader() as made:
        yield made


# --- arrays ---


def test_an_array(example: Example) -> None:
    node = damacy.open(example.uri)
    assert node.kind == "array" and node.zarr_format == 3 and node.error is None and node.path == "" and node.complete
    assert (node.shape, node.chunks, node.shards, node.ndim) == ((32, 96, 96), (8, 32, 32), (16, 64, 64), 3)
    assert node.dtype is damacy.Dtype.U16 and node.data_type == "uint16" and node.nbytes == 2 * 32 * 96 * 96
    assert node.codecs[0]["name"] == "sharding_indexed" and node.fill_value == 0 and node.attributes == {}
    assert node.scale is None and node.levels == () and node.labels == {} and node.members == ()
    assert node.arrays == {"": node} and list(node) == [] and node
    assert damacy.open(Path(example.uri)).shape == node.shape
    text = repr(node)
    assert "32 x 96 x 96" in text and "sharding_indexed [bytes, zstd]" in text and example.uri in text


def test_an_array_of_v2(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(5, 7), chunks=(2, 7), dtype=">f4", zarr_format=2, order="F", fill_value=np.nan)
    array.attrs["unit"] = {"name": "ä"}
    node = damacy.open(tmp_path / "a")
    assert node.zarr_format == 2 and node.data_type == ">f4" and node.dtype is damacy.Dtype.F32 and node.fill_value == "NaN"
    assert node.codecs["order"] == "F" and node.chunk_grid is None and node.chunk_key_encoding == "." and node.attributes == {"unit": {"name": "ä"}}
    assert "order F" in repr(node)


def test_boxes_by_name_and_place(tmp_path: Path) -> None:
    node = damacy.open(image(tmp_path / "a", DATA, "0.5"))
    assert node.box() == ((0, 6), (0, 20), (0, 24))
    assert node.box(x=(3, 7), z=2) == ((2, 3), (0, 20), (3, 7))
    assert node.box(slice(1, 3), x=slice(5)) == ((1, 3), (0, 20), (0, 5))
    assert node.box(np.int64(5), np.s_[2:]) == ((5, 6), (2, 20), (0, 24))
    for wrong in ({"c": 0}, {"x": slice(0, 4, 2)}):
        with pytest.raises(damacy.InvalidArgument):
            node.box(**wrong)
    with pytest.raises(damacy.InvalidArgument, match="twice"):
        node.box(0, z=1)
    for wrong in ({"x": (3, 25)}, {"z": -1}, {"y": (7, 5)}):
        with pytest.raises(damacy.RankMismatch):
            node.box(**wrong)
    with pytest.raises(damacy.RankMismatch):
        node.box(0, 0, 0, 0)
    with pytest.raises(TypeError):
        node.box(x=0.5)
    with pytest.raises(TypeError, match=r"axis 'x' of .*: \(1, 2, 3\), expected \(begin, end\)"):
        node.box(x=(1, 2, 3))
    with pytest.raises(damacy.RankMismatch, match=r"axis 'x': \[20, 30\) is outside of \[0, 24\)"):
        node.box(x=(20, 30))


def test_kinds_of_elements_that_are_delivered_otherwise(tmp_path: Path, reader: Reader) -> None:
    zarr.create_array(tmp_path / "c", shape=(4, 5), chunks=(2, 2), dtype="c8", fill_value=1 + 2j)
    complex_node = damacy.open(tmp_path / "c")
    assert complex_node.shape == (4, 5, 2) and complex_node.chunks == (2, 2, 2) and complex_node.dtype is damacy.Dtype.F32
    assert (reader.whole(complex_node.uri, (4, 5, 2), "f32") == [1, 2]).all()
    record = np.dtype([("x", "<i2"), ("y", ">f4")])
    zarr.create_array(tmp_path / "r", shape=(4,), chunks=(2,), dtype=record, zarr_format=2)
    node = damacy.open(tmp_path / "r")
    assert node.members == ("x", "y") and node.dtype is None and "member" in str(node.error)
    assert damacy.open(f"{node.uri}#member=y").dtype is damacy.Dtype.F32
    with pytest.raises(damacy.DamacyError, match="nothing"):
        reader.whole(f"{node.uri}#member=nothing", (4,), "f32")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"codecs": [{"name": "bytes"}, {"name": "morse"}]}, "morse"),
        ({"data_type": "string"}, "string"),
        ({"data_type": "variable_length_bytes"}, "variable_length_bytes"),
        ({"chunk_grid": {"name": "hexagonal"}}, "hexagonal"),
        ({"chunk_key_encoding": {"name": "rot13"}}, "rot13"),
        ({"storage_transformers": [{"name": "cipher"}]}, "storage_transformers"),
        ({"later": {"name": "x"}}, "later"),
    ],
)
def test_what_is_refused_is_described_and_named(tmp_path: Path, changes: dict[str, Any], word: str, reader: Reader) -> None:
    zarr.create_array(tmp_path / "a", shape=(4,), chunks=(2,), dtype="u1")
    path = tmp_path / "a" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    node = damacy.open(tmp_path / "a")
    assert node.kind == "array" and node.shape == (4,) and isinstance(node.error, damacy.Unsupported) and word in str(node.error)
    assert node.dtype is None and word in repr(node)
    with pytest.raises(damacy.Unsupported, match=word):
        reader.whole(tmp_path / "a", (4,), "u8")


def test_what_is_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(damacy.NotFound):
        damacy.open(tmp_path / "nothing")
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": ')
    with pytest.raises(damacy.DecodeError):
        damacy.open(tmp_path)
    with pytest.raises(damacy.InvalidArgument):
        damacy.open("a\0b")
    with pytest.raises(damacy.Unsupported):
        damacy.open("gopher://somewhere/a")
    with pytest.raises(damacy.InvalidArgument):
        damacy.open(tmp_path, timeout=-1)
    with pytest.raises(TypeError, match="timeout is '1', expected seconds"):
        damacy.open(tmp_path, timeout="1")  # type: ignore[arg-type]
    with pytest.raises(damacy.DecodeError):
        damacy.open(tmp_path, timeout=float("inf"))
    with pytest.raises(TypeError):
        damacy.open(5)  # type: ignore[arg-type]


def test_many_at_once(example: Example, tmp_path: Path) -> None:
    first, missing, last = damacy.open_many([example.uri, tmp_path / "nothing", example.uri])
    assert isinstance(first, damacy.Node) and isinstance(last, damacy.Node) and first.shape == last.shape
    assert isinstance(missing, damacy.NotFound) and "nothing" in str(missing)
    assert damacy.open_many([]) == []
    with pytest.raises(TypeError, match="expected several"):
        damacy.open_many(example.uri)


# --- groups ---


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
def test_groups(tmp_path: Path, version: int, consolidated: bool, reader: Reader) -> None:
    root = zarr.open_group(tmp_path / "g", mode="w", zarr_format=version, attributes={"title": "t"})
    root.create_array("b/c/d", shape=(4, 4), chunks=(2, 2), dtype="i4")[...] = 7
    root.create_array("a", shape=(3,), chunks=(2,), dtype="f8")[...] = 1.5
    if consolidated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(tmp_path / "g")
    node = damacy.open(tmp_path / "g")
    assert node.kind == "group" and node.attributes == {"title": "t"} and list(node.arrays) == ["a", "b/c/d"]
    assert node["b/c/d"].shape == (4, 4) and node["b"].kind in ("group", "folder") and [child.name for child in node] == ["a", "b"]
    assert (reader.whole(node["b/c/d"].uri, (4, 4), "i32") == 7).all()
    assert list(node["b"].arrays) == ["c/d"] and "b/c/d" in repr(node) and len(damacy.open(tmp_path / "g", shallow=True)) <= 2
    with pytest.raises(AttributeError, match="group has no shape"):
        node.shape  # noqa: B018
    with pytest.raises(KeyError):
        node["nothing"]


# --- OME-Zarr ---


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_images(tmp_path: Path, version: str, reader: Reader) -> None:
    path = image(tmp_path / "image.zarr", DATA, version)
    node = damacy.open(path)
    assert node.kind == "image" and node.ome_version == version and [level.path for level in node.levels] == ["0", "1", "2"]
    assert node.axes == tuple(damacy.Axis(axis["name"], axis["type"], axis["unit"]) for axis in AXES)
    assert node.scale == (2.0, 0.5, 0.25) and node.levels[1].scale == (4.0, 1.0, 0.5) and node.levels[1].translation == (0.0, 1.0, 0.0)
    assert node.shape == SHAPE and node.dtype is damacy.Dtype.U16 and [axis.name for axis in node.levels[2].axes] == ["z", "y", "x"]
    assert "scale 4, 1, 0.5" in repr(node) and f"OME-Zarr {version}" in repr(node)
    for level, values in enumerate(levels_of(DATA)):
        assert (reader.whole(node.levels[level].uri, values.shape, "u16") == values).all()
        assert (reader.whole(f"{path}#level={level}", values.shape, "u16") == values).all()
    assert (reader.whole(node.uri, SHAPE, "u16") == DATA).all() and (reader.whole(path, SHAPE, "u16") == DATA).all()
    for scale, level in (("0.25", 0), ("2", 0), ("4", 1), ("4,1,0.5", 1), ("4,1,0.4", 0), ("100", 2), ("8,2,1", 2), ("0.01", 0)):
        values = levels_of(DATA)[level]
        assert (reader.whole(f"{path}#scale={scale}", values.shape, "u16") == values).all(), scale
    with pytest.raises(damacy.DamacyError, match="level"):
        reader.whole(f"{path}#level=3", SHAPE, "u16")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels(tmp_path: Path, version: str, reader: Reader) -> None:
    path = image(tmp_path / "image.zarr", DATA, version)
    group(path / "labels", {"labels": ["nuclei"]}, version)
    image(path / "labels" / "nuclei", (DATA % 7).astype("u1"), version, **{"image-label": {"version": version}})
    node = damacy.open(path)
    assert list(node.labels) == ["nuclei"] and node.labels["nuclei"].kind == "label" and node.labels["nuclei"].dtype is damacy.Dtype.U8
    assert (reader.whole(f"{path}#label=nuclei&level=1", levels_of(DATA)[1].shape, "u8") == levels_of(DATA)[1] % 7).all()
    assert (reader.whole(node.labels["nuclei"].uri, SHAPE, "u8") == DATA % 7).all() and "nuclei" in repr(node)
    with pytest.raises(damacy.DamacyError, match="cells"):
        reader.whole(f"{path}#label=cells", SHAPE, "u8")


def test_an_image_without_labels(tmp_path: Path, reader: Reader) -> None:
    path = image(tmp_path / "image", DATA, "0.5")
    for read in (damacy.open, lambda uri: reader.whole(uri, SHAPE, "u8")):
        with pytest.raises(damacy.NotFound, match="the image seems to have no labels"):
            read(f"{path}#label=nuclei")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plates(tmp_path: Path, version: str, reader: Reader) -> None:
    path = tmp_path / "plate.zarr"
    wells = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}, {"path": "B/03", "rowIndex": 1, "columnIndex": 1}]
    plate = {"columns": [{"name": "1"}, {"name": "03"}], "rows": [{"name": "A"}, {"name": "B"}], "wells": wells, "version": version}
    group(path, {"plate": plate}, version)
    for number, well in enumerate(wells):
        group(path / well["path"].split("/")[0], {}, version)
        group(path / well["path"], {"well": {"images": [{"path": "0"}, {"path": "1"}], "version": version}}, version)
        for field in range(2):
            image(path / well["path"] / str(field), DATA + 100 * number + field, version)
    node = damacy.open(path)
    assert node.kind == "plate" and list(node.wells) == ["A/1", "B/03"]
    well = damacy.open(node.wells["B/03"])
    assert well.kind == "well" and well.fields == ("0", "1") and well["1"].kind == "image"
    assert (reader.whole(f"{path}#well=B/03&field=1", SHAPE, "u16") == DATA + 101).all()
    assert (reader.whole(f"{path}#well=A/1&field=0&level=2", levels_of(DATA)[2].shape, "u16") == levels_of(DATA)[2]).all()
    assert len(damacy.open(path, wells=True).arrays) == 12
    with pytest.raises(damacy.DamacyError, match="C/1"):
        reader.whole(f"{path}#well=C/1&field=0", SHAPE, "u16")


def test_a_hash_may_belong_to_the_path(tmp_path: Path, reader: Reader) -> None:
    zarr.create_array(tmp_path / "a#b=c", shape=(4,), chunks=(2,), dtype="u1")[...] = 3
    assert (reader.whole(tmp_path / "a#b=c", (4,), "u8") == 3).all() and damacy.open(tmp_path / "a#b=c").shape == (4,)
    with pytest.raises(damacy.InvalidArgument):
        damacy.open(f"{tmp_path}/a#level=first")


# --- containers ---


@pytest.mark.parametrize("ending", ["zarr.zip", "ozx"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_files(tmp_path: Path, ending: str, method: int, reader: Reader) -> None:
    path = image(tmp_path / "image.zarr", DATA, "0.5")
    with zipfile.ZipFile(tmp_path / f"image.{ending}", "w", method) as file:
        for inner in sorted(path.rglob("*")):
            if inner.is_file():
                with file.open(str(inner.relative_to(path)), "w", force_zip64=inner.name == "zarr.json") as entry:
                    entry.write(inner.read_bytes())
    packed = tmp_path / f"image.{ending}"
    node = damacy.open(packed)
    assert node.kind == "image" and node.shape == SHAPE
    assert (reader.whole(f"{packed}#level=1", levels_of(DATA)[1].shape, "u16") == levels_of(DATA)[1]).all()
    assert (reader.whole(f"{packed}/0", SHAPE, "u16") == DATA).all() and (reader.whole(node.levels[2].uri, node.levels[2].shape, "u16") == levels_of(DATA)[2]).all()


def test_damaged_zip_files(tmp_path: Path, reader: Reader) -> None:
    for name, content in (("empty.zip", b""), ("text.zip", b"no zip file at all" * 9), ("cut.zip", b"PK\x03\x04" + bytes(100))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(damacy.DamacyError, match=name):
            reader.whole(tmp_path / name / "a", (4,), "u8")


def test_kerchunk_references(tmp_path: Path, reader: Reader) -> None:
    flat = np.arange(40, dtype="<i4").reshape(8, 5)
    (tmp_path / "data.bin").write_bytes(b"header" + flat.tobytes())
    metadata = {"zarr_format": 2, "shape": [8, 5], "chunks": [4, 5], "dtype": "<i4", "compressor": None, "filters": None, "order": "C", "fill_value": 0}
    refs = {
        ".zgroup": '{"zarr_format": 2}',
        "temp/.zarray": json.dumps(metadata),
        "temp/.zattrs": '{"_ARRAY_DIMENSIONS": ["t", "x"]}',
        "temp/0.0": [str(tmp_path / "data.bin"), 6, 80],
        "temp/1.0": ["{{folder}}/data.bin", 86, 80],
    }
    (tmp_path / "refs.json").write_text(json.dumps({"version": 1, "templates": {"folder": str(tmp_path)}, "refs": refs}))
    uri = tmp_path / "refs.json" / "temp"
    assert (reader.whole(uri, (8, 5), "i32") == flat).all()
    node = damacy.open(tmp_path / "refs.json")
    assert list(node.arrays) == ["temp"] and node["temp"].shape == (8, 5) and node["temp"].box(t=2, x=(1, 3)) == ((2, 3), (1, 3))


def packed(folder: Path, name: Path) -> Path:
    with zipfile.ZipFile(name, "w") as file:
        for inner in sorted(folder.rglob("*")):
            if inner.is_file():
                file.write(inner, str(inner.relative_to(folder)))
    return name


def test_errors_name_the_key_from_the_uri_on(tmp_path: Path, reader: Reader) -> None:
    """Of chunks and of shard indices: in an array of its own, one that a group led to, inside a zip file, through references."""
    path = image(tmp_path / "image.zarr", DATA, "0.5")
    (path / "0" / "c" / "1" / "2" / "0").write_bytes(b"no zstd")
    shards = zarr.create_array(path / "1" / "again", shape=(4, 8), chunks=(2, 2), shards=(4, 4), dtype="u2")
    shards[...] = 1
    index = path / "1" / "again" / "c" / "0" / "1"
    index.write_bytes(index.read_bytes()[:-1] + b"!")
    shutil.copytree(path / "1" / "again", tmp_path / "other.zarr" / "0")
    group(tmp_path / "other.zarr", {"multiscales": [{"axes": AXES[1:], "datasets": [{"path": "0"}]}]}, "0.5")
    refs = {str(file.relative_to(path)): [str(file)] for file in path.rglob("*") if file.is_file()}
    (tmp_path / "refs.json").write_text(json.dumps({"version": 1, "refs": refs}))
    file = packed(path, tmp_path / "image.zip")
    for uri, shape, key in [
        (f"{path}/0", SHAPE, "c/1/2/0"),
        (f"{path}", SHAPE, "0/c/1/2/0"),
        (f"{path}#level=0", SHAPE, "0/c/1/2/0"),
        (f"{file}", SHAPE, "0/c/1/2/0"),
        (f"{file}/0", SHAPE, "c/1/2/0"),
        (f"{file}#level=0", SHAPE, "0/c/1/2/0"),
        (f"{tmp_path}/refs.json", SHAPE, "0/c/1/2/0"),
        (f"{tmp_path}/refs.json/0", SHAPE, "c/1/2/0"),
        (f"{path}/1/again", (4, 8), "c/0/1"),
        (f"{tmp_path}/other.zarr", (4, 8), "0/c/0/1"),
        (f"{file}/1/again", (4, 8), "c/0/1"),
        (f"{tmp_path}/refs.json/1/again", (4, 8), "c/0/1"),
    ]:
        with pytest.raises(damacy.DecodeError) as caught:
            reader.whole(uri, shape, "u16")
        assert caught.value.uri == uri and caught.value.key == key and f"{uri}: {key} " in str(caught.value), str(caught.value)


# --- what does harm ---


def test_what_is_no_file_does_not_hang(tmp_path: Path, reader: Reader) -> None:
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "zarr.json")
    with pytest.raises(damacy.DamacyError):
        reader.whole(tmp_path / "a", (4,), "u8")
    with pytest.raises(damacy.DamacyError):
        damacy.open(tmp_path / "a", timeout=PATIENCE)
    zarr.create_array(tmp_path / "b", shape=(4,), chunks=(4,), dtype="u1", compressors=None)
    (tmp_path / "b" / "c").mkdir()
    os.mkfifo(tmp_path / "b" / "c" / "0")
    with pytest.raises(damacy.DamacyError):
        reader.whole(tmp_path / "b", (4,), "u8")


@pytest.mark.parametrize(
    ("compressor", "stored"),
    [
        ({"id": "zstd"}, b"\x28\xb5\x2f\xfd\xe0" + (10**11).to_bytes(8, "little") + b"\x01\x00\x00"),
        ({"id": "blosc"}, b"\x02\x01\x21\x01" + b"\xff\xff\xff\x7f" + b"\x00\x01\x00\x00" + b"\x20\x00\x00\x00" + bytes(16)),
        ({"id": "lz4"}, b"\xff\xff\xff\x7f" + bytes(20)),
        ({"id": "gzip"}, b"\x1f\x8b\x08\x00" + bytes(20)),
        ({"id": "bz2"}, b"BZh91AY&SY" + bytes(20)),
        ({"id": "lzma"}, b"\xfd7zXZ\x00" + bytes(20)),
        ({"id": "zlib"}, b"\x78\x9c" + b"\xff" * 20),
        ({"id": "blosc"}, b"\x02\x01"),
        ({"id": "zstd"}, b""),
    ],
)
def test_headers_that_lie(tmp_path: Path, compressor: dict[str, Any], stored: bytes, reader: Reader) -> None:
    metadata = {"zarr_format": 2, "shape": [64], "chunks": [64], "dtype": "<u2", "compressor": compressor, "filters": None, "order": "C", "fill_value": 0}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".zarray").write_text(json.dumps(metadata))
    (tmp_path / "a" / "0").write_bytes(stored)
    with pytest.raises(damacy.DecodeError) as caught:
        reader.whole(tmp_path / "a", (64,), "u16")
    assert caught.value.key == "0" and str(tmp_path / "a") in str(caught.value)


@pytest.mark.parametrize("name", ["gzip", "zlib", "bz2", "lzma", "zstd"])
def test_bombs(tmp_path: Path, name: str, reader: Reader) -> None:
    """32 MiB of zeros where 128 bytes are expected."""
    import bz2
    import gzip
    import lzma
    import zlib

    import numcodecs

    encode = {"gzip": gzip.compress, "zlib": zlib.compress, "bz2": bz2.compress, "lzma": lzma.compress, "zstd": numcodecs.Zstd().encode}[name]
    metadata = {"zarr_format": 2, "shape": [64], "chunks": [64], "dtype": "<u2", "compressor": {"id": name}, "filters": None, "order": "C", "fill_value": 0}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".zarray").write_text(json.dumps(metadata))
    (tmp_path / "a" / "0").write_bytes(encode(bytes(32 << 20)))
    with pytest.raises(damacy.DecodeError):
        reader.whole(tmp_path / "a", (64,), "u16")


@pytest.mark.parametrize(
    "text",
    [
        '{"zarr_format": 3, "zarr_format": 2}',
        "[" * 100000,
        '{"a": NaN}',
        '{"zarr_format": 3, "node_type": "array", "shape": [1e400]}',
        '{"zarr_format": 3, "node_type": "array", "shape": [-1]}',
        '{"zarr_format": 4, "node_type": "array"}',
        '{"zarr_format": 3, "node_type": "array", "shape": "4"}',
        '"text"',
        "",
    ],
)
def test_metadata_that_make_no_sense(tmp_path: Path, text: str, reader: Reader) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "zarr.json").write_text(text)
    with pytest.raises((damacy.DecodeError, damacy.Unsupported)) as caught:
        reader.whole(tmp_path / "a", (4,), "u8")
    assert caught.value.key == "zarr.json"


# --- secrets ---


def test_storage_options_keep_their_secrets(example: Example) -> None:
    options = {"key": "AKIA-SECRET-1", "secret": "SECRET-2", "endpoint_url": "http://localhost:1", "anon": False}
    config = damacy.Config(samples_per_batch=1, sample_shape=(1, 1, 1), dtype="u16", storage_options=options)
    with damacy.Pipeline(config) as pipeline:
        pipeline.push(damacy.Sample(example.uri, [(0, 1)] * 3))
        pipeline.pop().release()
        shown = [repr(config), str(config), repr(pipeline), config.describe(), repr(config.storage_options), f"{config.storage_options}"]
    assert not any("SECRET" in text for text in shown) and "endpoint_url" in shown[0]
    assert dict(config.storage_options) == options and config.replace(on_error="skip").storage_options["secret"] == "SECRET-2"
    import pickle

    assert pickle.loads(pickle.dumps(config)) == config
    for wrong in ({"key": object()}, {5: "x"}, "text", {"a": float("nan")}):
        with pytest.raises(damacy.InvalidArgument) as caught:
            damacy.Config(samples_per_batch=1, sample_shape=(1,), dtype="u16", storage_options=wrong)  # type: ignore[arg-type]
        assert "SECRET" not in str(caught.value)


# --- the command ---


def command(*words: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "damacy", *map(str, words)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == expect, done.stderr
    return done


def test_the_command(example: Example, tmp_path: Path) -> None:
    assert command("--version").stdout == f"damacy {damacy.__version__}\n"
    assert "stream" in command("--help").stdout
    assert "32 x 96 x 96" in command("info", example.uri).stdout
    found = json.loads(command("info", "--json", example.uri).stdout)
    assert found["shape"] == [32, 96, 96] and found["dtype"] == "u16"
    streamed = json.loads(command("stream", "--shape", "4,16,16", "--batches", "3", "--json", "--quiet", example.uri).stdout)
    assert streamed
    assert "NOTFOUND" in command("info", tmp_path / "nothing", expect=1).stderr
    assert command("frobnicate", expect=2).stderr and command("info", expect=2).stderr
    entries = importlib.metadata.distribution("damacy").entry_points
    assert [entry.value for entry in entries if entry.group == "console_scripts" and entry.name == "damacy"]
