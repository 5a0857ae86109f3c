"""What each scenario asks for: crops drawn from a seed, and for the bare loop the list of chunks behind them.

Two files come out per scenario. NAME.crops is text and goes to every reader:

    damacy-bench 1
    batch 8
    sample 1 16 128 128
    uris 2
    PATH
    PATH
    crops 4096
    0 3 17 405 66          (index of the uri, then where the crop begins)

NAME.chunks is binary and only for the bare loop; bench/c/bare_loop.c describes it. Making it means reading every shard index,
here with struct from the standard library: the yardstick shares no code with what it measures. Where chunks are files of their own
it has their names and sizes instead.
"""

from __future__ import annotations

import itertools
import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path

from data import CHUNK_128K, DATA_SETS, SMALL_SHAPE, DataSet, array_path

SEED = 7
PAGE = 4096
HEADER = "<8s2I4I4I2I2Q"  # of NAME.chunks
BATCH = 8
BARE_CODECS = {"none": 0, "zstd": 1, "blosc-zstd": 2, "blosc-lz4": 2, "gzip": 3}  # numbers in NAME.chunks


@dataclass(frozen=True)
class Scenario:
    """Crops of one shape out of one data set."""

    name: str
    title: str
    data: str  # name of the data set
    sample: tuple[int, ...]
    round_samples: int  # of a warm round: about a third of a second of the bare loop
    cold_samples: int  # of a cold round: few enough that they seldom meet in a page
    align: tuple[int, ...] | None = None  # crops begin at multiples of this
    fresh: bool = False  # everything is opened anew inside the round
    whole_chunks: bool = False  # the bare loop decodes much that crops do not need, and damacy need not
    file_a_chunk: bool = False  # every chunk is a file, so that any reader has to open as many as it reads
    opens: bool = False  # nothing is read but metadata: a sample is an array that gets described

    @property
    def data_set(self) -> DataSet:
        return DATA_SETS[self.data]


CROP = (1, 16, 128, 128)
PLANE = (256, 256)

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("zstd", "zstd, 128 KiB chunks", "zstd-128k", CROP, 256, 64),
        Scenario("blosc-zstd", "blosc-zstd, 128 KiB chunks", "blosc-zstd-128k", CROP, 320, 64),
        Scenario("blosc-lz4", "blosc-lz4, 128 KiB chunks", "blosc-lz4-128k", CROP, 960, 64),
        Scenario("raw", "uncompressed, 128 KiB chunks", "raw-128k", CROP, 1600, 64),
        Scenario("aligned", "aligned crops, zstd, 128 KiB chunks", "zstd-128k", CROP, 880, 128, align=CHUNK_128K),
        Scenario("small", "2,000 small 2D arrays, zstd", "small", PLANE, 1200, 256),
        Scenario("small-open", "opening 2,000 arrays inside the run", "small", PLANE, 2000, 0, fresh=True),
        Scenario("zstd-1m", "zstd, 1 MiB chunks", "zstd-1m", CROP, 80, 32, whole_chunks=True),
        Scenario("blosc-zstd-1m", "blosc-zstd, 1 MiB chunks", "blosc-zstd-1m", CROP, 120, 32, whole_chunks=True),
        Scenario("plain", "v3 without shards, zstd, 128 KiB chunks", "plain-128k", CROP, 256, 64, file_a_chunk=True),
        Scenario("v2-gzip", "v2, gzip, 128 KiB chunks", "v2-gzip-128k", CROP, 112, 64, file_a_chunk=True),
        Scenario("v2-blosc-lz4", "v2, blosc-lz4, 128 KiB chunks", "v2-blosc-lz4-128k", CROP, 960, 64, file_a_chunk=True),
        Scenario("open", "describing 10,000 arrays (metadata only)", "many", PLANE, 10000, 0, opens=True),
    )
}

# Only for bench/remote.
REMOTE_SCENARIOS = {
    scenario.name: scenario
    for scenario in (Scenario("whole", "whole small 2D arrays of one shard each, zstd", "small", SMALL_SHAPE, 256, 64),)
}


@dataclass
class Workload:
    """A scenario with its crops drawn and its files written."""

    scenario: Scenario
    folder: Path  # of the data set
    uris: list[str]
    crops: list[tuple[int, tuple[int, ...]]]
    crops_path: Path
    chunks_path: Path
    chunk_count: int
    needed_bytes: int  # stored bytes of the chunks, each counted once a batch

    def slice_of(self, index: int, count: int) -> int:
        """Where round `index` of `count` samples begins: rounds walk through the crops and start over at the end."""
        return (index % (len(self.crops) // count)) * count

    def page_bytes(self, first: int, count: int) -> int:
        """Bytes of the files' pages that hold an element of these samples, each page once a batch; for uncompressed chunks."""
        data, header = self.chunks_path.read_bytes(), struct.Struct(HEADER)
        _magic, _codec, _batch, *shapes, files, batches, chunk_count, _pieces = header.unpack_from(data)
        at, pitches = header.size, [2 * stride for stride in strides(tuple(shapes[:4]))]
        assert pitches[2] <= PAGE
        for _ in range(files):
            at += 4 + struct.unpack_from("<I", data, at)[0]
        begins = struct.unpack_from(f"<{batches + 1}Q", data, at)
        chunks_at = at + 8 * (batches + 1)
        pieces_at = chunks_at + 32 * chunk_count
        page_count = 0
        for batch in range(first // BATCH, (first + count) // BATCH):
            pages: set[tuple[int, int]] = set()
            for chunk in range(begins[batch], begins[batch + 1]):
                offset, _size, file, piece_begin, piece_count, _ = struct.unpack_from("<QIIQII", data, chunks_at + 32 * chunk)
                for piece in range(piece_begin, piece_begin + piece_count):
                    _target, source, *extent, _ = struct.unpack_from("<QI4HI", data, pieces_at + 24 * piece)
                    span = 2 * extent[3] + (extent[2] - 1) * pitches[2]  # rows of less than a page leave out none
                    for i, j in itertools.product(range(extent[0]), range(extent[1])):
                        begin = offset + 2 * source + i * pitches[0] + j * pitches[1]
                        pages.update((file, page) for page in range(begin // PAGE, (begin + span - 1) // PAGE + 1))
            page_count += len(pages)
        return PAGE * page_count

    @property
    def chunks_a_sample(self) -> float:
        return self.chunk_count / len(self.crops)


def draw_crops(scenario: Scenario, count: int) -> list[tuple[int, tuple[int, ...]]]:
    """`count` crops at random places. Arrays come in shuffled rounds, so that each is met before one is met again."""
    rng = random.Random(f"{SEED} {scenario.data} {scenario.sample} {scenario.align}")
    data_set, order = scenario.data_set, list(range(scenario.data_set.count))
    crops: list[tuple[int, tuple[int, ...]]] = []
    while len(crops) < count:
        if len(crops) % data_set.count == 0:
            rng.shuffle(order)
        begin = []
        for axis, (extent, size) in enumerate(zip(data_set.shape, scenario.sample)):
            step = scenario.align[axis] if scenario.align else 1
            begin.append(rng.randrange((extent - size) // step + 1) * step)
        crops.append((order[len(crops) % data_set.count], tuple(begin)))
    return crops


class Chunks:
    """Where the chunks of arrays lie: (file, offset, bytes), read from the shard indexes, or a file each."""

    def __init__(self, root: Path, data_set: DataSet) -> None:
        self.root, self.data_set = root, data_set
        self.grid = tuple(s // c for s, c in zip(data_set.shard, data_set.chunk))
        self.files: list[str] = []
        self.known: dict[tuple[int, tuple[int, ...]], tuple[int, list[tuple[int, int]]]] = {}
        self.separators: dict[int, str] = {}

    def _load_plain(self, array: int, chunk: tuple[int, ...]) -> tuple[int, list[tuple[int, int]]]:
        """A chunk that is a file."""
        folder = array_path(self.root, self.data_set, array)
        if self.data_set.zarr_format == 2:
            if array not in self.separators:
                metadata = json.loads((folder / ".zarray").read_text())
                if metadata["order"] != "C" or metadata["filters"]:
                    raise RuntimeError(f"{folder}: written in a way that the benchmark does not expect")
                self.separators[array] = metadata.get("dimension_separator") or "."
            path = folder / self.separators[array].join(map(str, chunk))
        else:
            path = folder / "c" / "/".join(map(str, chunk))
        if not path.exists():
            raise RuntimeError(f"{path} is missing, and the bare loop knows no fill value")
        self.files.append(str(path))
        return len(self.files) - 1, [(0, path.stat().st_size)]

    def _load(self, array: int, shard: tuple[int, ...]) -> tuple[int, list[tuple[int, int]]]:
        path = array_path(self.root, self.data_set, array) / "c" / "/".join(map(str, shard))
        metadata = json.loads((array_path(self.root, self.data_set, array) / "zarr.json").read_text())
        (codec,) = metadata["codecs"]
        configuration = codec["configuration"]
        names = [c["name"] for c in configuration["index_codecs"]]
        if (
            codec["name"] != "sharding_indexed"
            or names != ["bytes", "crc32c"]
            or configuration.get("index_location", "end") != "end"
        ):
            raise RuntimeError(f"{path}: written in a way that the benchmark does not expect")
        count = 1
        for extent in self.grid:
            count *= extent
        with path.open("rb") as file:
            file.seek(-(16 * count + 4), 2)
            index = struct.unpack(f"<{2 * count}Q", file.read(16 * count))
        self.files.append(str(path))
        return len(self.files) - 1, list(zip(index[0::2], index[1::2]))

    def find(self, array: int, chunk: tuple[int, ...]) -> tuple[int, int, int]:
        """The file, offset and length of a chunk, given by its place in the array's grid of inner chunks."""
        shard = tuple(c // g for c, g in zip(chunk, self.grid))
        if (array, shard) not in self.known:
            load = self._load if self.data_set.sharded else self._load_plain
            self.known[array, shard] = load(array, shard)
        file, index = self.known[array, shard]
        position = 0
        for c, g in zip(chunk, self.grid):
            position = position * g + c % g
        offset, size = index[position]
        if offset == 2**64 - 1:
            raise RuntimeError(f"{self.files[file]}: chunk {chunk} is missing, and the bare loop knows no fill value")
        return file, offset, size


def padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Four axes, with ones in front."""
    return (1,) * (4 - len(shape)) + tuple(shape)


def strides(shape: tuple[int, ...]) -> list[int]:
    """Elements from one index to the next, per axis, in C order."""
    return [product(shape[axis + 1 :]) for axis in range(len(shape))]


def product(extents: tuple[int, ...]) -> int:
    result = 1
    for extent in extents:
        result *= extent
    return result


def write_chunks(root: Path, scenario: Scenario, crops: list[tuple[int, tuple[int, ...]]], path: Path) -> tuple[int, int]:
    """Write the bare loop's list; returns its number of chunks and their stored bytes."""
    data_set, sample = scenario.data_set, scenario.sample
    shards = Chunks(root, data_set)
    chunk_stride, sample_stride, sample_elements = strides(data_set.chunk), strides(sample), product(sample)
    batch_begin, chunk_records, piece_records = [0], bytearray(), bytearray()
    chunk_count = piece_count = needed_bytes = 0
    for first in range(0, len(crops), BATCH):
        pieces: dict[tuple[int, tuple[int, ...]], list[tuple[int, int, tuple[int, ...]]]] = {}
        for row, (array, begin) in enumerate(crops[first : first + BATCH]):
            ranges = [range(b // c, (b + s - 1) // c + 1) for b, s, c in zip(begin, sample, data_set.chunk)]
            for chunk in itertools.product(*ranges):
                low = [max(b, k * c) for b, k, c in zip(begin, chunk, data_set.chunk)]
                high = [min(b + s, (k + 1) * c) for b, s, k, c in zip(begin, sample, chunk, data_set.chunk)]
                source = sum((lo - k * c) * stride for lo, k, c, stride in zip(low, chunk, data_set.chunk, chunk_stride))
                target = row * sample_elements + sum((lo - b) * stride for lo, b, stride in zip(low, begin, sample_stride))
                extent = padded(tuple(hi - lo for lo, hi in zip(low, high)))
                pieces.setdefault((array, chunk), []).append((target, source, extent))
        for (array, chunk), found in pieces.items():
            file, offset, size = shards.find(array, chunk)
            chunk_records += struct.pack("<QIIQII", offset, size, file, piece_count, len(found), 0)
            for target, source, extent in found:
                piece_records += struct.pack("<QI4HI", target, source, *extent, 0)
            chunk_count += 1
            piece_count += len(found)
            needed_bytes += size
        batch_begin.append(chunk_count)
    codec = BARE_CODECS[data_set.codec]
    header = struct.pack(
        HEADER,
        b"DMCBARE1",
        codec,
        BATCH,
        *padded(data_set.chunk),
        *padded(sample),
        len(shards.files),
        len(batch_begin) - 1,
        chunk_count,
        piece_count,
    )
    names = b"".join(struct.pack("<I", len(name)) + name for name in (file.encode() for file in shards.files))
    path.write_bytes(header + names + struct.pack(f"<{len(batch_begin)}Q", *batch_begin) + chunk_records + piece_records)
    return chunk_count, needed_bytes


def make_workload(root: Path, folder: Path, scenario: Scenario, rounds: int) -> Workload:
    """Draw enough crops for `rounds` different rounds (within reason) and write both files."""
    per_round = max(scenario.round_samples, scenario.cold_samples)
    count = min(max(rounds, 1) * per_round, max(4096, 4 * per_round)) // BATCH * BATCH
    crops = draw_crops(scenario, count)
    uris = [str(array_path(root, scenario.data_set, index)) for index in range(scenario.data_set.count)]
    folder.mkdir(parents=True, exist_ok=True)
    crops_path, chunks_path = folder / f"{scenario.name}.crops", folder / f"{scenario.name}.chunks"
    lines = [
        "damacy-bench 1",
        f"batch {BATCH}",
        "sample " + " ".join(map(str, scenario.sample)),
        f"uris {len(uris)}",
        *uris,
        f"crops {len(crops)}",
    ]
    lines += [" ".join(map(str, (array, *begin))) for array, begin in crops]
    crops_path.write_text("\n".join(lines) + "\n")
    if scenario.opens or scenario.data_set.codec not in BARE_CODECS:  # nothing for the bare loop
        return Workload(scenario, root / scenario.data, uris, crops, crops_path, chunks_path, len(crops), 0)
    chunk_count, needed_bytes = write_chunks(root, scenario, crops, chunks_path)
    return Workload(scenario, root / scenario.data, uris, crops, crops_path, chunks_path, chunk_count, needed_bytes)


def read_crops(path: Path) -> tuple[int, tuple[int, ...], list[str], list[tuple[int, tuple[int, ...]]]]:
    """What a reader is given: samples a batch, sample shape, uris and crops."""
    lines = path.read_text().splitlines()
    if lines[0] != "damacy-bench 1":
        raise RuntimeError(f"{path} is not a list of crops")
    batch = int(lines[1].split()[1])
    sample = tuple(int(word) for word in lines[2].split()[1:])
    uri_count = int(lines[3].split()[1])
    uris = lines[4 : 4 + uri_count]
    rows = (tuple(map(int, line.split())) for line in lines[5 + uri_count :])
    return batch, sample, uris, [(row[0], row[1:]) for row in rows]
