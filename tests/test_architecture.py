"""The layout of the library, held: who may import whom, what stays light, what stays small.

The levels are those of DESIGN section 2, with the modules that came since in their rooms.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "cxr_core"

# A module imports from levels above its own line here, and from no other.
LEVELS = (
    {"errors", "addresses", "logs"},
    {"images"},
    {"preprocess", "phantom", "overlays", "runtime"},
    {"thorax", "registration", "datasets", "networks", "ranking", "calibration", "augmentation"}
    | {"familiarity"},
    {"evaluation"},
    {"predictions", "explanations", "wording"},
    {"agreement", "cards", "comparison", "scores", "mistakes"},
    {"classifier", "publishing"},
    {"attribution", "gate", "recipes", "uncertainty"},
    {"decisions", "answering"},
    {"parts"},
    {"codes", "heads", "repeatability"},
    {"figures", "prior"},
    {"training", "faithfulness", "records", "export"},
    {"reference"},
    {"screening", "archive", "monitoring", "release", "gate_training", "local_check"},
    {"ui", "service"},
    {"commands"},
    {"__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

DICOM = {"images", "export", "archive"}
# Packages that only some rooms may know; app.py and pages/ count as rooms.
ONLY_IN = {
    "streamlit": {"ui", "app", "pages"},
    "altair": {"ui"},
    "matplotlib": {"figures"},
    "reportlab": {"export"},
    "onnx": {"runtime"},
    "onnxruntime": {"runtime"},
    "fastapi": {"service"},
    "starlette": {"service", "ui"},
    "uvicorn": {"service", "ui"},
    "prometheus_client": {"service"},
    "python_multipart": {"service"},
    "pyarrow": {"screening"},
    "contourpy": {"screening"},
    "ray": {"screening"},
    "pydicom": DICOM,
    "pylibjpeg": DICOM,
    "gdcm": DICOM,
    "highdicom": DICOM,
    "pynetdicom": {"archive"},
    "dicomweb_client": {"archive"},
    "sqlalchemy": {"records", "monitoring"},
    # The rest must run, or train, without it.
    "tensorflow": {"classifier", "attribution", "datasets", "screening"},
}
# Rooms that are opened only to train; in all others keras is imported where it is used.
TRAINING = {"augmentation", "networks", "training", "reference", "release", "gate_training"}
NOWHERE = {"matplotlib.pyplot", "torch", "jax", "cv2"}
MOST_LINES = 450
MOST_PAGE_LINES = 60


class Import(NamedTuple):
    """One imported name, and whether it is imported only when a function runs."""

    name: str
    lazy: bool


def imports(code: str) -> Iterator[Import]:
    """Find every import, also inside functions; those for type checkers only do not count."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield Import(child.module or "", lazy)
                yield from (Import(f"{child.module}.{alias.name}", lazy) for alias in child.names)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, lazy or inside)

    yield from walk(ast.parse(code), False)


def room_of(path: Path) -> str:
    """Name the room of a file: a module of the core, "ui", "app" or "pages"."""
    first = path.relative_to(CORE if path.is_relative_to(CORE) else ROOT).parts[0]
    return first.removesuffix(".py")


def package(name: str) -> str:
    return name.split(".")[0]


def is_ours(name: str) -> bool:
    return name.startswith("cxr_core.")


def lines_of_code(code: str) -> int:
    """Count lines that are neither blank, nor a comment, nor part of a docstring."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node) is not None:
                documented |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in documented
        for number, line in enumerate(code.splitlines(), 1)
    )


def sources(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


CORE_FILES = [path for path in sources(CORE) if path != CORE / "__init__.py"]
PAGES = sources(ROOT / "pages")
APP_FILES = [ROOT / "app.py", *PAGES]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


each_core_file = pytest.mark.parametrize("path", CORE_FILES, ids=name_of)
each_file = pytest.mark.parametrize("path", [*CORE_FILES, *APP_FILES], ids=name_of)


# --- the checks themselves ---


def test_imports_are_found_wherever_they_stand():
    code = """
import numpy as np
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import keras
try:
    from pydicom import dcmread
except ImportError:
    pass
class Reader:
    import html
    def read(self):
        import tensorflow as tf
        from cxr_core import images
"""
    found = set(imports(code))

    assert {Import("numpy", False), Import("pydicom", False), Import("html", False)} <= found
    assert {Import("tensorflow", True), Import("cxr_core.images", True)} <= found
    assert "keras" not in {name for name, _ in found}


def test_lines_of_code_are_those_that_run():
    code = '"""Doc.\n\nMore.\n"""\n\n# why\nx = 1\n\n\ndef f():\n    """Doc."""\n    return x\n'

    assert lines_of_code(code) == 3


# --- who may import whom ---


@each_core_file
def test_every_module_has_its_room(path):
    assert room_of(path) in LEVEL, f"{name_of(path)} has no level yet: put it in its room in LEVELS"


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_there_is_no_drawer_for_odds_and_ends(name):
    assert not [path for path in CORE_FILES if path.stem == name]


@each_core_file
def test_imports_point_strictly_down(path):
    room = room_of(path)
    ours = {one.name.split(".")[1] for one in imports(path.read_text()) if is_ours(one.name)}
    if (CORE / room).is_dir():  # packages know themselves
        ours -= {room}
    upwards = {one for one in ours & LEVEL.keys() if LEVEL[one] >= LEVEL[room]}

    assert not upwards, f"{room} may not import {sorted(upwards)}: see LEVELS"


@each_file
def test_a_package_is_known_only_in_its_rooms(path):
    room = room_of(path)
    known = {package(one.name) for one in imports(path.read_text())}
    astray = {name for name in known & ONLY_IN.keys() if room not in ONLY_IN[name]}

    assert not astray, f"{room} may not know {sorted(astray)}: see ONLY_IN"


@each_file
def test_nothing_imports_what_has_no_place_here(path):
    assert not {one.name for one in imports(path.read_text())} & NOWHERE


@each_file
def test_heavy_packages_are_imported_late(path):
    eager = {package(one.name) for one in imports(path.read_text()) if not one.lazy}
    heavy = {"tensorflow"} if room_of(path) in TRAINING else {"tensorflow", "keras"}

    assert not eager & heavy, "import it inside the function that needs it"


@pytest.mark.parametrize("path", APP_FILES, ids=name_of)
def test_pages_ask_the_core_and_show(path):
    known = {package(one.name) for one in imports(path.read_text())}

    assert known <= {"streamlit", "cxr_core"} | sys.stdlib_module_names


# --- what stays light ---


def heavy_after(code: str) -> set[str]:
    """Run code in a fresh interpreter; return which slow packages it loaded."""
    script = f"""
import sys
sys.stdout = sys.stderr
{code}
slow = ("tensorflow", "keras", "streamlit", "matplotlib", "pandas", "scipy", "pydicom", "numpy")
sys.__stdout__.write(" ".join(name for name in slow if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_help_answers_without_loading_anything_slow():
    code = """
import runpy
sys.argv = ["cxr_core", "--help"]
try:
    runpy.run_module("cxr_core", run_name="__main__", alter_sys=True)
except SystemExit as done:
    assert not done.code, done.code
"""
    assert heavy_after(code) == set()


def test_the_dashboard_opens_without_tensorflow():
    rooms = [path for path in CORE_FILES if room_of(path) not in TRAINING | {"__main__"}]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in rooms]

    assert not heavy_after("\n".join(f"import {name}" for name in modules if name)) & {
        "tensorflow",
        "keras",
    }


def test_a_film_is_read_and_overlaid_without_matplotlib():
    loaded = heavy_after("import cxr_core.images, cxr_core.preprocess, cxr_core.overlays")

    assert loaded <= {"numpy", "pydicom"}


# --- what stays small ---


@each_core_file
def test_a_module_is_one_idea_long(path):
    lines = lines_of_code(path.read_text())

    assert lines <= MOST_LINES, f"{name_of(path)} has {lines} lines of code: split it"


@pytest.mark.parametrize("path", APP_FILES, ids=name_of)
def test_a_page_is_thin(path):
    assert len(path.read_text().splitlines()) <= MOST_PAGE_LINES
