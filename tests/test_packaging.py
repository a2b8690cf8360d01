"""What a fresh clone holds: pins, commands, and nothing that belongs to one machine."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest

from cxr_core.attribution import list_methods
from cxr_core.phantom import png_bytes, sample_film
from cxr_core.recipes import list_recipes

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = ROOT / "Makefile"
LARGEST_REPOSITORY = 120 * 10**6  # bytes, DESIGN section 4
LARGEST_TEXT = 2_000_000  # bytes; beyond are weights and pictures
# What one command alone needs, which says how to install it; tests need it too.
OPTIONAL = {"ray"}

PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[a-z,]+\])?==[A-Za-z0-9.!+]+")
# Assembled from parts, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(
    r"(?<![\w.~{$-])/(?:" + "|".join(("home", "Users", "root", "work", "tmp")) + r")/\w"
)
URL = re.compile(r"(?:https?:|wss?:)?//(?!127\.0\.0\.1|localhost|www\.w3\.org/)[a-z0-9-]+\.[a-z]")


def normal(name: str) -> str:
    """Write a distribution's name as PEP 503 does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(name: str) -> list[str]:
    lines = (re.split("[#;]", line)[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line]


def pinned(*names: str) -> set[str]:
    matches = (PIN.fullmatch(line) for name in names for line in requirements(name))
    return {normal(match[1]) for match in matches if match}


def third_party(path: Path) -> set[str]:
    """Return the packages a file imports that are neither Python's nor ours."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    ours = {"cxr_core", "benchmarks", "tests"} | {one.stem for one in (ROOT / "tests").glob("*.py")}
    return found - sys.stdlib_module_names - ours


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):(?!=)", MAKEFILE.read_text(), re.MULTILINE))


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run make as a reader would, also when this suite itself runs under make."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=outside, capture_output=True, text=True, timeout=60
    )


def committed() -> list[Path]:
    """Return what git holds or would hold: no ignored file."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = (ROOT / name for name in sorted(set(listing.stdout.split("\0"))) if name)
    return [path for path in paths if path.is_file()]


# --- requirements ---


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned(name):
    loose = [line for line in requirements(name) if not PIN.fullmatch(line)]

    assert loose == (["-r requirements.txt"] if name == "requirements-dev.txt" else [])


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        (("cxr_core", "pages", "app.py"), ("requirements.txt",)),
        (("tests", "benchmarks"), ("requirements.txt", "requirements-dev.txt")),
    ],
    ids=["run time", "tests and benchmarks"],
)
def test_every_imported_package_is_required(folders, files):
    paths = [path for name in folders for path in ((ROOT / name).rglob("*.py"))]
    paths += [ROOT / name for name in folders if name.endswith(".py")]
    providers = packages_distributions()
    allowed = pinned(*files) | OPTIONAL & pinned("requirements-dev.txt")

    missing = {
        f"{package} ({path.relative_to(ROOT)})"
        for path in paths
        for package in third_party(path)
        if not {normal(name) for name in providers.get(package, ())} & allowed
    }
    assert not missing


HIDING = """
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

class Absent:
    \"\"\"Packages that are not among those named do not import.\"\"\"
    def __init__(self, there):
        self.there, self.makers = set(there), packages_distributions()
    def find_spec(self, name, path=None, target=None):
        makers = {one.lower().replace("_", "-") for one in self.makers.get(name.split(".")[0], ())}
        if makers and not makers & self.there:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Absent(sys.argv[1].split()))
"""
ALONE = f"""{HIDING}
film, out = sys.argv[2:]
from cxr_core.__main__ import main
from cxr_core.attribution import list_methods
model = ["--model", "pediatric-pneumonia"]
explain = ["explain", film, *model, "--label", "Pneumonia"]
asked = [
    ["predict", film, *model, "--json", "--no-gate"],
    [*explain, "-o", f"{{out}}/map.png"],
    ["screen", film, *model, "-o", f"{{out}}/scores.parquet", "--contours"],
    *([*explain, "-o", f"{{out}}/{{name}}.png", "--method", name] for name in list_methods()),
    ["explain", film, "--model", "vgg16-codes", "--label", "Normal", "-o", f"{{out}}/no.png"],
    *([command, "--data", out, *model]
      for command in ("evaluate", "reference", "repeatability", "faithfulness")),
    ["train", "pediatric-pneumonia", "--data", out],
    ["index", f"{{out}}/shards"],
]
print([main(one) for one in asked])
import cxr_core.service.server
"""


READING = f"""{HIDING}
from streamlit.testing.v1 import AppTest
page = AppTest.from_file("app.py", default_timeout=120).run()
(sample,) = (button for button in page.button if button.label == "Try the sample film")
sample.click().run()
page.selectbox(key="method").set_value("xrai").run()
assert not page.exception and not page.error, (page.exception, page.error)
(film,) = page.session_state["session"].films.values()
(reading,) = film.readings.values()
heavy = {{"tensorflow", "keras"}} & set(sys.modules)
print(*sorted(asked.method for asked in reading.maps), *heavy)
"""


def closure(file: Path) -> set[str]:
    """Return what is installed by a file of requirements, with all that they need."""
    lines = [line.split("#")[0].strip() for line in file.read_text().splitlines()]
    waiting, found = [line for line in lines if line and line[0] != "-"], set()
    while waiting:
        line = waiting.pop()
        name = normal(re.match(r"[\w.-]+", line)[0])
        if name not in found and "extra ==" not in line:
            found.add(name)
            with suppress(PackageNotFoundError):  # needed on another system
                waiting += distribution(name).requires or ()
    return found


def with_only(there: set[str], code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run code where only these packages import."""
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(there), *arguments],
        cwd=ROOT, env=os.environ | {"CXR_MODELS": str(ROOT / "models"), "CXR_RECORDS": "off"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_the_app_answers_and_points_without_tensorflow():
    """What deploy/requirements.txt promises."""
    there = closure(ROOT / "deploy" / "requirements.txt")
    assert not there & {"tensorflow", "tensorflow-cpu", "keras"} and "streamlit" in there
    done = with_only(there, READING)

    assert done.stdout.splitlines()[-1] == "grad-cam integrated-gradients xrai"


def test_answers_need_no_more_than_their_own_requirements(tmp_path):
    """What deploy/requirements-answers.txt promises: no TensorFlow, and none of the app."""
    there = closure(ROOT / "deploy" / "requirements-answers.txt")
    assert not there & {"tensorflow", "tensorflow-cpu", "keras", "streamlit", "sqlalchemy"}
    (tmp_path / "film.png").write_bytes(png_bytes(sample_film()))
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "000-1.tfrec").write_bytes(b"TFRecords")
    done = with_only(there, ALONE, tmp_path / "film.png", tmp_path)

    answered = 3 + len(list_methods())
    assert json.loads(done.stdout.splitlines()[-1]) == [0] * answered + [1] * 7
    assert done.stderr.count("needs TensorFlow, which is not installed here. Install all") == 7
    assert (tmp_path / "map.png").exists() and (tmp_path / "scores.parquet").exists()


def test_python_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first, last = re.findall(r"\((3, \d+)\)", MAKEFILE.read_text())[:2]
    after = f"3.{int(last.split(', ')[1]) + 1}"

    assert project["requires-python"] == f">={first.replace(', ', '.')},<{after}"


def test_the_license_is_the_one_announced():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "LICENSE").read_text()

    assert project["license"] == "Apache-2.0"
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    assert "END OF TERMS AND CONDITIONS" in text


# --- commands ---


@pytest.mark.parametrize("target", ["app", "test", "lint", "bench", "train"])
def test_the_makefile_has_the_promised_targets(target):
    assert target in targets()
    done = make("--dry-run", target, "PORT=9123")
    assert done.returncode == 0, done.stderr


def test_make_train_names_a_recipe_that_exists():
    (named,) = re.findall(r"^RECIPE \?= (\S+)$", MAKEFILE.read_text(), re.MULTILINE)

    assert named in list_recipes()


def test_the_app_is_served_to_this_machine_only_and_tells_nobody():
    done = make("--dry-run", "app", "PORT=9123")

    for option in (
        "--server.address=127.0.0.1",
        "--server.port=9123",
        "--browser.gatherUsageStats=false",
    ):
        assert option in done.stdout


def test_a_machine_without_python_is_told_so(tmp_path):
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = make("app", "PYTHON=no-such-python", folder=tmp_path)

    assert done.returncode != 0
    assert "None of these runs as Python 3.11, 3.12 or 3.13: no-such-python." in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("name", ["README.md", ".ci/run"])
def test_documented_targets_exist(name):
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"{name} is not written yet")
    # In a document, commands stand in code; prose may well "make sense".
    text = path.read_text()
    code = (
        "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)) if "." in name[1:] else text
    )
    named = set(re.findall(r"\bmake ([a-z]+)\b", code))

    assert named <= targets()


def test_the_check_of_the_whole_repository_can_be_started():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# --- what is committed ---


def test_nothing_is_loaded_from_elsewhere():
    """A hospital's network is closed: the app may name no address but its own."""
    files = [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]
    files += [path for path in (ROOT / "cxr_core" / "ui").rglob("*") if path.is_file()]
    found = []
    for path in files:
        if path.suffix == ".py":
            constants = (node for node in ast.walk(ast.parse(path.read_text())))
            texts = [
                node.value
                for node in constants
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
        elif path.suffix in {".css", ".js", ".html", ".svg"}:
            texts = [path.read_text()]
        else:
            continue
        found += [f"{path.name}: {match}" for text in texts for match in URL.findall(text)]

    assert not found


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("https://fonts.example.com/a.css", True),
        ("//cdn.example.org/x.js", True),
        ("http://127.0.0.1:8501", False),
        ('xmlns="http://www.w3.org/2000/svg"', False),
        ("a // b", False),
    ],
)
def test_an_outside_address_is_recognised(text, hit):
    assert bool(URL.search(text)) == hit


def test_committed_files_name_no_place_on_one_machine():
    found = []
    for path in committed():
        if path.stat().st_size > LARGEST_TEXT:
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        lines = enumerate(text.splitlines(), 1)
        found += [f"{path.relative_to(ROOT)}:{n}" for n, line in lines if MACHINE_PATH.search(line)]

    assert not found


def test_the_repository_stays_small():
    assert sum(path.stat().st_size for path in committed()) < LARGEST_REPOSITORY
