"""Keep the rooms honest: includes point downwards only, every file name is unique in the tree, and what comments name is there.

The arrows are written here a second time, apart from CMakeLists.txt, on purpose: to open a new one, both have to agree.
"""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A room, by its folder, and the rooms whose headers its files may include directly. Each may include itself and the public API.
ROOMS = {
    "include/damacy": set(),
    "src/base": set(),
    "src/zarr": {"src/base"},
    "src/codec": {"src/base"},
    "src/store": {"src/base"},
    "src/plan": {"src/zarr", "src/base"},
    "src/backend/kernels": {"src/base"},
    "src/prefetch": {"src/zarr", "src/codec", "src/store", "src/base"},
    "src/describe": {"src/zarr", "src/codec", "src/store", "src/base"},
    "src/backend": {"src/backend/kernels", "src/plan", "src/codec", "src/store", "src/base"},
    "src/backend/cuda": {"src/backend", "src/backend/kernels", "src/plan", "src/codec", "src/store", "src/base"},
    "src/backend/cpu": {"src/backend", "src/backend/kernels", "src/plan", "src/codec", "src/store", "src/base"},
    "src/pipeline": {"src/prefetch", "src/plan", "src/backend", "src/backend/cpu", "src/backend/cuda", "src/backend/kernels", "src/zarr",
                     "src/codec", "src/store", "src/base"},
}

# Names that tools expect in several folders.
REPEATABLE = {"run", "__init__.py", "__main__.py", "conftest.py", "README.md", "requirements.txt", "CMakeLists.txt", ".gitignore", "py.typed"}

SUFFIXES = {".c", ".h", ".cu", ".cuh", ".S"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<(damacy/[^>]+)>)', re.MULTILINE)

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def room_of(path):
    """The room a path below ROOT is in, or None."""
    inside = [room for room in ROOMS if str(path).startswith(room + "/")]
    return max(inside, key=len, default=None)


def resolve(source, name):
    """The file that an include of `source` means, relative to ROOT, or None."""
    for folder in (source.parent, pathlib.Path("src"), pathlib.Path("include")):
        candidate = folder / name
        if (ROOT / candidate).is_file():
            return pathlib.Path(os.path.normpath(candidate))
    return None


def check_arrows(problems):
    """Check every include; returns the graph of files."""
    graph = {}
    for path in sorted(p.relative_to(ROOT) for top in ("include", "src") for p in (ROOT / top).rglob("*") if p.suffix in SUFFIXES):
        room = room_of(path)
        graph[path] = []
        if room is None:
            problems.append(f"{path}: in no room; name its folder in {pathlib.Path(__file__).name}")
            continue
        for match in INCLUDE.finditer((ROOT / path).read_text(encoding="utf-8")):
            name = match[1] or match[2]
            target = resolve(path, name)
            if target is None:
                problems.append(f"{path}: includes {name}, which is neither in src/ nor in include/")
                continue
            graph[path].append(target)
            to = room_of(target)
            if to not in ROOMS[room] | {room, "include/damacy"}:
                problems.append(f"{path}: {room} may not include {target} of {to}")
    return graph


def check_cycles(graph, problems):
    """No header includes itself through others."""
    done, stack = set(), []

    def visit(path):
        if path in stack:
            problems.append("include cycle: " + " -> ".join(map(str, stack[stack.index(path):] + [path])))
            return
        if path in done:
            return
        stack.append(path)
        for target in graph.get(path, []):
            visit(target)
        stack.pop()
        done.add(path)

    for path in graph:
        visit(path)


def tracked():
    """Every file that git knows and that is there, relative to ROOT."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    return [name for name in files if name and (ROOT / name).is_file()]


def check_comments(problems):
    """Our own functions, types and files that a comment of the library names exist: a stale comment is a bug."""
    names = {pathlib.PurePosixPath(name).name for name in tracked()}
    words, said = set(), []
    for name in tracked():
        if pathlib.PurePosixPath(name).suffix not in SUFFIXES | {".cpp"}:
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        words.update(re.findall(r"\w+", COMMENT.sub(" ", text)))
        names.update(re.findall(r"#[ \t]*include[ \t]*<(?:.*/)?(.+)>", text))  # of the system and of libraries
        if name.startswith(("include/", "src/", "python/", "cli/")):
            said += [(name, comment) for comment in COMMENT.findall(text)]
    for name, comment in said:
        for word in re.findall(r"\b(?:dmc|damacy)_\w*[a-z0-9]\b(?!\*)", comment, re.IGNORECASE):
            if word not in words:
                problems.append(f"{name}: a comment names {word}, which is nowhere")
        for file in re.findall(r"\b[\w-]+\.(?:c|h|cu|cuh|py|md)\b", comment):
            if file not in names:
                problems.append(f"{name}: a comment names {file}, which is nowhere")


def check_names(problems):
    """File names are unique, so that a name alone finds the file."""
    first = {}
    for name in tracked():
        path = pathlib.PurePosixPath(name)
        if path.name in REPEATABLE or path.is_relative_to("fuzz/corpus"):
            continue
        if path.name in first:
            problems.append(f"{name}: the tree has {first[path.name]} already")
        first.setdefault(path.name, name)


def main():
    problems = []
    graph = check_arrows(problems)
    check_cycles(graph, problems)
    check_names(problems)
    check_comments(problems)
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{len(graph)} files, {sum(map(len, graph.values()))} includes, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
