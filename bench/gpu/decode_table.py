#!/usr/bin/env python3
"""The tables of bench/RESULTS-gpu.md from what `decode_bench bench` prints: decode_table.py FILE"""

import re
import sys
from collections import OrderedDict


def read(path):
    """Cells {(codec, content, KiB): {chunks: (GB/s, ms, nvcomp's GB/s, times nvcomp, scratch)}}, and libzstd's GB/s per set."""
    cells, libzstd, machine = OrderedDict(), {}, ""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            begin = re.match(r"# (\S+) (\S+) (\d+) KiB: ratio ([\d.]+).*cores ([\d.]+) GB/s", line)
            if begin:
                libzstd[begin[1], begin[2], int(begin[3])] = (float(begin[4]), float(begin[5]))
            elif line.startswith("# NVIDIA"):
                machine = line[2:].strip()
            elif not line.startswith("#") and line.count("\t") > 8:
                codec, content, size, chunks, _, rate, ms, nvcomp, times, phases, verdict = line.rstrip("\n").split("\t")
                if verdict != "ok" or "WRONG" in nvcomp:
                    sys.exit(f"a wrong result: {line}")
                scratch = float(re.search(r"scratch ([\d.]+)", phases)[1])
                cells.setdefault((codec, content, int(size.split()[0])), OrderedDict())[int(chunks)] = (
                    float(rate.split()[0]), float(ms.split()[0]), float(nvcomp.split()[1]), float(times[:-1]), scratch)
    return cells, libzstd, machine


def cell(values):
    rate, ms, nvcomp, times, _ = values
    shown = f"{rate:.0f}" if rate >= 20 else f"{rate:.1f}"
    if rate < 1:
        shown = f"{ms:.2f} ms"
    if times == 0:
        return shown
    return shown + (f" / {nvcomp:.0f}" if nvcomp >= 20 else f" / {nvcomp:.1f}" if rate >= 1 else "") + f" ({times:.1f})"


def table(cells, libzstd, keys):
    counts = sorted({count for key in keys for count in cells[key]})
    print("| data | ratio | libzstd, 16 cores | " + " | ".join(f"{count:,}" for count in counts) + " |")
    print("| --- " * (3 + len(counts)) + "|")
    for key in keys:
        codec, content, size = key
        ratio, cores = libzstd[key]
        row = [f"{codec}, {content}, {size:,} KiB", f"{ratio:.1f}", f"{cores:.1f}" if cores else "-"]
        row += [cell(cells[key][count]) if count in cells[key] else "-" for count in counts]
        print("| " + " | ".join(row) + " |")
    print()


def main():
    cells, libzstd, machine = read(sys.argv[1])
    print(machine + "\n")
    contents = list(dict.fromkeys(key[1] for key in cells))
    zstd = sorted((key for key in cells if key[0] == "zstd"), key=lambda key: (contents.index(key[1]), key[2]))
    for small in (True, False):
        table(cells, libzstd, [key for key in zstd if (key[2] < 64) == small])
    table(cells, libzstd, [key for key in cells if key[0] != "zstd"])
    against = [(values[3], key, count) for key in zstd for count, values in cells[key].items()]
    least = min(against)
    print(f"Least against nvcomp: {least[0]:.2f} ({least[1][1]}, {least[1][2]} KiB, {least[2]:,} chunks); most: {max(against)[0]:.1f}.")
    many = [(key, count) for key in zstd if key[2] == 128 for count in cells[key] if count >= 256]
    beaten = [(cells[key][count][0] / libzstd[key][1], key, count) for key, count in many]
    least = min(beaten)
    print(f"From 256 chunks of 128 KiB on, least against libzstd on all cores: {least[0]:.2f} ({least[1][1]}, {least[2]:,} chunks).")
    for content in dict.fromkeys(key[1] for key in zstd):
        scratch = [values[4] for key in zstd if key[1] == content for values in cells[key].values()]
        print(f"Scratch, {content}: {min(scratch):.2f} to {max(scratch):.2f} of the decoded bytes.")


if __name__ == "__main__":
    main()
