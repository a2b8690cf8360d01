"""The pages: each alone, the reading story, and what no session may see of another.

They run under Streamlit's AppTest with the tiny bundle of conftest, its operating point
moved so that the answer is known. What the browser draws is in test_browser.
"""

import ast
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import streamlit as st
from dropping import drop
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button, NumberInput

from cxr_core import overlays
from cxr_core.attribution import Attribution, get_method, list_methods, occluded
from cxr_core.attribution.checks import MapCheck
from cxr_core.calibration import Calibration
from cxr_core.cards import ModelCard, models_root
from cxr_core.classifier import Classifier, LabelPrediction, Prediction, load_classifier
from cxr_core.errors import ModelError
from cxr_core.evaluation import CalibrationBin, Interval, evaluate
from cxr_core.figures import PALETTES
from cxr_core.gate import GateCheck, GateReport
from cxr_core.images import MAX_BYTES, Facts, Radiograph
from cxr_core.phantom import png_bytes, thorax
from cxr_core.preprocess import region_at
from cxr_core.ui import arrivals, canvas, session
from cxr_core.ui import reading as words
from cxr_core.ui import viewer as viewer_module
from cxr_core.ui.arrivals import Upload
from cxr_core.wording import NOTICE

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "pages").glob("*.py"))
LEAD = "Age not stated; this model knows children of 1-5 years."
SHIPPED = ROOT / "models" / "pediatric-pneumonia"


@pytest.fixture(scope="session")
def load_once() -> Callable[..., Classifier]:
    """Load and trace each bundle once: sessions may share classifiers, so tests may too."""
    return cache(load_classifier)


@pytest.fixture(autouse=True)
def empty_caches(load_once: Callable[..., Classifier], monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's caches outlive an AppTest."""
    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr(session, "load_classifier", load_once)


@pytest.fixture(scope="session")
def two_models(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle twice: one that flags every film, one that flags none."""
    root = tmp_path_factory.mktemp("models")
    for name, point in (("always-flags", 1e-6), ("never-flags", 1 - 1e-6)):
        shutil.copytree(tiny_models / "tiny", root / name)
        path = root / name / "card.json"
        card = json.loads(path.read_text())
        card |= {"name": name, "operating_points": [point], "cannot_tell": [None]}
        path.write_text(json.dumps(card))
    return root


@pytest.fixture
def agreeing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every map holds: for tests that ask for something else."""
    check = MapCheck(agreement=0.5, stability=0.9, outside=0.2, thorax=(0.1, 0.1, 0.9, 0.9))
    monkeypatch.setattr(session, "examine", lambda *_, **__: check)


@pytest.fixture(autouse=True)
def models(two_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_MODELS", str(two_models))


@cache
def film(seed: int = 1) -> bytes:
    return png_bytes(thorax(256, 224, seed=seed))


def dicom_film(age: str) -> bytes:
    """A chest film whose header says how old the patient is, and who."""
    pixels = np.rint(thorax(128, 112, seed=2).pixels * 255).astype(np.uint8)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientAge, dataset.PatientSex = "Doe^Jane", age, "F"
    dataset.Modality, dataset.ViewPosition = "CR", "AP"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def open_page(name: str = "read") -> AppTest:
    return AppTest.from_file(str(ROOT / "pages" / f"{name}.py"), default_timeout=120).run()


def upload(page: AppTest, *files: tuple[str, bytes]) -> AppTest:
    return drop(page, *files)


def html(page: AppTest) -> str:
    return "\n".join(element.proto.body for element in page.get("html"))


def answer(page: AppTest) -> str:
    """The first line, as it is read."""
    section = html(page).partition('<section class="cxr-answer')[2].partition("</section>")[0]
    text = section.partition(">")[2]
    for tag in ("p", "h1", "span", "div"):
        text = text.replace(f"</{tag}>", " ")
    while "<" in text:
        text = text[: text.index("<")] + text[text.index(">") + 1 :]
    return " ".join(text.split())


def viewer(page: AppTest) -> dict[str, Any]:
    """What the viewer was told, without its arrays."""
    (told,) = [
        one.proto.bytes for one in page.get("bidi_component")
        if one.proto.component_name == "cxr_viewer"
    ]  # fmt: skip
    found: dict[str, Any] = json.loads(told[4 : 4 + int.from_bytes(told[:4], "little")])
    return found


def readings(page: AppTest) -> list[session.Reading]:
    """What was read of the films on the page."""
    films = page.session_state["session"].films.values()
    return [reading for film in films for reading in film.readings.values()]


def button(page: AppTest, label: str) -> Button:
    return next(one for one in page.button if one.label == label)


def number(page: AppTest, label: str) -> NumberInput:
    return next(one for one in page.number_input if one.label == label)


def check_sound(page: AppTest) -> None:
    assert not page.exception
    assert not page.error


# --- every page ---


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_page_runs_alone(path: Path) -> None:
    check_sound(open_page(path.stem))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages_are_thin(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert len(text.splitlines()) <= 60
    assert [ast.unparse(one.type) for one in handlers if one.type] == ["CxrError"]
    assert imported == {"streamlit"}


def test_the_notice_is_the_frames_alone() -> None:
    framed = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    check_sound(framed)
    assert html(framed).count(NOTICE) == 1
    assert not any(NOTICE in html(open_page(path.stem)) for path in PAGES)


def test_the_configuration_agrees_with_the_library() -> None:
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert settings["server"]["maxUploadSize"] == MAX_BYTES // 2**20
    assert settings["server"]["address"] == "127.0.0.1"
    assert settings["browser"]["gatherUsageStats"] is False
    for name, palette in PALETTES.items():
        theme = settings["theme"][name]
        assert theme["backgroundColor"] == palette.ground
        assert theme["textColor"] == palette.text
        assert theme["primaryColor"] == palette.accent
        assert theme["orangeColor"] == palette.flagged


def test_nothing_names_an_outside_address() -> None:
    files = [*(ROOT / "cxr_core" / "ui").rglob("*"), *PAGES, ROOT / "app.py"]
    texts = [path.read_text() for path in files if path.suffix in {".py", ".css", ".js", ".html"}]
    assert len(texts) > 20
    assert not [text for text in texts if "://" in text or ":material/" in text]


def test_the_record_opens_without_tensorflow(two_models: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from streamlit.testing.v1 import AppTest\n"
        "for name in ('evaluation', 'models'):\n"
        "    page = AppTest.from_file(str(Path(f'pages/{name}.py').resolve())).run(timeout=120)\n"
        "    assert not page.exception and not page.error, name\n"
        "heavy = {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_model_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    for name in {path.stem for path in PAGES} - {"datasets"}:  # a data folder needs no model
        page = open_page(name)
        assert not page.exception
        assert "Train one with" in page.error[0].value


def test_a_damaged_model_is_named_and_takes_no_other_along(
    two_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = sorted(path.name for path in two_models.iterdir())
    for name in (first, *others):
        shutil.copytree(two_models / name, tmp_path / name)
    (tmp_path / first / "card.json").write_text("{")
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    assert not page.exception and not page.error
    assert [one.value.replace("\\", "")[:40] for one in page.warning] == [
        f"'card.json' of model '{first}' cannot be read"[:40]
    ]
    assert [card.name for card in session.cards()] == others
    for name in others:
        shutil.rmtree(tmp_path / name)
    page = open_page("read")
    assert first in page.error[0].value.replace("\\", ""), "not that there is no model"


def test_the_sample_film_on_a_full_page_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_FILMS", 0)
    state = session.Session()
    state.take_sample()
    assert state.failures[0].startswith("Sample film (computer-made) was left out")


def test_readers_are_offered_no_replica_while_there_is_another_model(
    two_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(path.name for path in two_models.iterdir())
    for name in names:
        shutil.copytree(two_models / name, tmp_path / name)
    path = tmp_path / names[0] / "card.json"
    card = json.loads(path.read_text())
    card["training"]["replica"] = True
    path.write_text(json.dumps(card))
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    assert [card.name for card in session.cards()] == names
    assert [card.name for card in session.for_reading()] == names[1:]
    for name in names[1:]:
        shutil.rmtree(tmp_path / name)
    assert [card.name for card in session.for_reading()] == names[:1]


# --- the reading story ---


def test_reading_story(agreeing: None) -> None:
    page = upload(open_page(), ("good.png", film()), ("notes.png", b"these are notes"))
    assert not page.exception
    assert answer(page).startswith(f"{LEAD} Flag: pneumonia ")
    assert "operating point 0.00" in answer(page)
    assert [error.value.replace("\\", "") for error in page.error] == [
        "notes.png: The file is plain text, not a picture; choose a DICOM, PNG, JPEG, TIFF or "
        "BMP file."
    ]
    assert "good.png" in html(page)
    assert "test films scoring like this" in html(page)
    assert [pane["title"] for pane in viewer(page)["panes"]] == [
        "Chest film good.png with Grad-CAM, for pneumonia"
    ]

    page.selectbox(key="method").set_value("integrated-gradients").run()
    assert "its parts add up to the score" in html(page)
    assert viewer(page)["panes"][0]["layer"]["signed"]
    page.selectbox(key="method").set_value("grad-cam").run()
    assert "its parts add up to the score" not in html(page)
    assert not viewer(page)["panes"][0]["layer"]["signed"]
    upload(page, ("other.png", film(2)))
    assert page.error, "what is said of a bad file outlives the next that is dropped right after it"
    page.session_state["session"].came -= session.LATELY
    check_sound(upload(page, ("another.png", film(3))))


def test_the_sample_film_says_that_it_is_computer_made() -> None:
    page = open_page()
    page.button[0].click().run()
    check_sound(page)
    assert "Sample film (computer-made)" in html(page)
    assert "Flag: pneumonia" in answer(page)


def test_a_film_outside_the_age_range_is_refused_without_numbers() -> None:
    page = upload(open_page(), ("film.png", film()))
    number(page, "Age, years").set_value(40.0).run()
    check_sound(page)
    assert answer(page).startswith("No answer: the patient is 40 years old")
    assert "cxr-bar" not in html(page)
    assert "No explanation" in html(page)
    assert viewer(page)["panes"][0]["layer"] is None
    assert not viewer(page)["asks"], "there is no answer that could move"
    number(page, "Age, years").set_value(3.0).run()
    assert answer(page).startswith("Flag: pneumonia")


def test_an_age_in_the_file_is_believed_and_not_asked_for() -> None:
    page = upload(open_page(), ("adult", dicom_film("045Y")))
    check_sound(page)
    assert "Age, years" not in {one.label for one in page.number_input}
    assert answer(page).startswith("No answer: the patient is 45 years old")
    page = upload(open_page(), ("child", dicom_film("003Y")))
    assert answer(page).startswith("Flag: pneumonia")
    assert "AP view · age 3 years · female" in html(page)
    assert "Doe" not in html(page)


def test_no_explanation_below_the_operating_point() -> None:
    page = open_page()
    page.selectbox(key="model").set_value("never-flags").run()
    upload(page, ("film.png", film()))
    check_sound(page)
    assert answer(page).startswith(f"{LEAD} No flag: pneumonia ")
    assert "No explanation: pneumonia was not flagged" in html(page)
    assert viewer(page)["panes"][0]["layer"] is None
    page.selectbox(key="method").set_value("integrated-gradients").run()
    assert "its parts add up" not in html(page)
    (reading,) = readings(page)
    assert not reading.maps


def test_a_finding_that_was_not_flagged_is_explained_to_those_who_insist(agreeing: None) -> None:
    page = open_page()
    page.selectbox(key="model").set_value("never-flags").run()
    upload(page, ("film.png", film()))
    page.selectbox(key="method").set_value("integrated-gradients").run()
    button(page, "Show it all the same").click().run()
    check_sound(page)
    assert "This explains pneumonia, which was not flagged." in html(page)
    assert viewer(page)["panes"][0]["layer"]["ends"] == ["against pneumonia", "for pneumonia"]
    page.toggle(key="against").set_value(True).run()
    check_sound(page)
    assert viewer(page)["panes"][0]["layer"]["ends"] == ["for pneumonia", "against pneumonia"]
    assert "Integrated gradients of the opposite score, for no pneumonia" in html(page)
    (reading,) = readings(page)
    found, against = (
        reading.maps[session.Explained("Pneumonia", "integrated-gradients", absence)].values
        for absence in (False, True)
    )
    np.testing.assert_allclose(against, -found, atol=1e-4 * np.abs(found).max())
    upload(page, ("another.png", film(4)))
    assert "No explanation: pneumonia was not flagged" in html(page), "for that film only"


def test_the_map_is_on_screen_after_one_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    page = upload(open_page(), ("film.png", film()))
    passes, until_shown = [], []
    forward, show = Classifier.forward, canvas.show
    monkeypatch.setattr(
        Classifier, "forward", lambda self, x: passes.append(self.card.kind) or forward(self, x)
    )
    monkeypatch.setattr(
        canvas, "show", lambda *told: until_shown.append(list(passes)) or show(*told)
    )
    upload(page, ("other.png", film(3)))
    check_sound(page)
    assert page.selectbox(key="method").value == "grad-cam"
    (kinds,) = until_shown
    assert kinds.count("classifier") == 1
    assert len(kinds) <= 2, "beside it, the gate looks once"


def test_the_interval_of_this_film_comes_after_its_map(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    show, steady = canvas.show, session.steadiness
    monkeypatch.setattr(canvas, "show", lambda *told: order.append("film") or show(*told))
    monkeypatch.setattr(
        session, "steadiness", lambda *asked: order.append("interval") or steady(*asked)
    )
    page = upload(open_page(), ("film.png", film()))
    check_sound(page)
    assert order[-1] == "interval"
    assert order.count("interval") == 1
    (reading,) = readings(page)
    low, high = reading.steadiness["Pneumonia"]
    assert f"{low:.2f} to {high:.2f} when the film is moved" in html(page)
    assert f'class="steady" style="left:{100 * low:.2f}%' in html(page)
    page.selectbox(key="method").set_value("layer-cam").run()
    assert order.count("interval") == 1, "kept with the film's reading"
    assert 'class="steady"' in html(page)


def test_a_site_states_its_prevalence_and_no_flag_moves() -> None:
    page = upload(open_page(), ("film.png", film()))
    asked = "Of 100 of your films, how many show pneumonia?"
    said = answer(page)
    assert "Where" not in html(page)
    assert "Calibrated on " in html(page)
    number(page, asked).set_value(2.0).run()
    check_sound(page)
    assert answer(page) == said
    assert "Where 2 % of films show pneumonia: " in html(page)
    assert "the flag stays. This takes for granted" in html(page)
    page.run()
    assert number(page, asked).value == 2.0


def test_what_was_explained_and_checked_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    page = upload(open_page(), ("film.png", film()))
    page.selectbox(key="method").set_value("integrated-gradients").run()
    for name in ("explain", "examine"):
        monkeypatch.setattr(session, name, lambda *_, **__: pytest.fail("again"))
    page.selectbox(key="beside").set_value("grad-cam").run()
    check_sound(page)
    assert [pane["name"] for pane in viewer(page)["panes"]] == ["Integrated gradients", "Grad-CAM"]
    assert "its parts add up to the score" in html(page)
    assert html(page).count("% of it outside the lungs") == 2


@pytest.mark.parametrize("method", list_methods())
def test_every_method_is_offered_and_drawn(agreeing: None, method: str) -> None:
    page = upload(open_page(), ("film.png", film()))
    page.selectbox(key="method").set_value(method).run()
    check_sound(page)
    (pane,) = viewer(page)["panes"]
    known = get_method(method)
    assert pane["name"] == known.title
    (reading,) = readings(page)
    found = reading.maps[session.Explained("Pneumonia", method)]
    assert (pane["layer"] is not None) == bool(found.values.any())
    assert f"{known.title}: {known.shows}." in html(page) or not found.values.any()
    assert f"**{known.title}**: {known.shows}." in page.selectbox(key="method").help


def test_the_original_stands_beside_its_map(agreeing: None) -> None:
    page = upload(open_page(), ("film.png", film()))
    page.selectbox(key="beside").set_value("original").run()
    check_sound(page)
    drawn, plain = viewer(page)["panes"]
    assert drawn["layer"] is not None
    assert (plain["name"], plain["layer"]) == ("Original", None)
    assert drawn["film"] == plain["film"]


def test_a_map_that_another_method_contradicts_is_withheld(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check = MapCheck(agreement=-0.21, stability=0.9, outside=0.3, thorax=(0.1, 0.1, 0.9, 0.9))
    monkeypatch.setattr(session, "examine", lambda *_, **__: check)
    page = upload(open_page(), ("film.png", film()))
    check_sound(page)
    assert viewer(page)["panes"][0]["layer"] is None
    assert (
        "Map withheld: on this film Grad-CAM and integrated gradients point at different places "
        "(agreement -0.21, least 0.00)." in html(page)
    )
    button(page, "Show it all the same").click().run()
    check_sound(page)
    assert viewer(page)["panes"][0]["layer"] is not None
    assert "contradicts integrated gradients (-0.21)" in html(page)
    page.selectbox(key="method").set_value("layer-cam").run()
    assert viewer(page)["panes"][0]["layer"] is None, "insisted for that method only"


def test_a_map_is_checked_only_once_it_is_on_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    happened = []
    show, examine = canvas.show, session.examine
    monkeypatch.setattr(canvas, "show", lambda *told: happened.append("shown") or show(*told))
    monkeypatch.setattr(
        session, "examine", lambda *a, **k: happened.append("checked") or examine(*a, **k)
    )
    check_sound(upload(open_page(), ("film.png", film())))
    assert happened == ["shown", "checked"]


def test_the_film_does_not_wait_for_a_slow_map(
    monkeypatch: pytest.MonkeyPatch, agreeing: None
) -> None:
    page = upload(open_page(), ("film.png", film()))
    happened = []
    show, explain = canvas.show, session.explain
    monkeypatch.setattr(
        canvas, "show", lambda *told: happened.append(told[1][0].layer is not None) or show(*told)
    )
    monkeypatch.setattr(
        session, "explain", lambda *a, **k: happened.append(a[3]) or explain(*a, **k)
    )
    page.selectbox(key="method").set_value("occlusion").run()
    check_sound(page)
    assert happened == [False, "occlusion", True], "the film alone, the work, the film with its map"


def test_an_interrupted_explanation_leaves_nothing_behind() -> None:
    class Left(BaseException):
        """As Streamlit stops a run whose reader has moved on."""

    def leave(done: int, total: int) -> None:
        if done:
            raise Left

    page = upload(open_page(), ("film.png", film()))
    (reading,) = readings(page)
    card = session.for_reading()[0]
    asked = session.Explained("Pneumonia", "occlusion")
    before = dict(reading.maps), dict(reading.checks)
    with pytest.raises(Left):
        session.attribution(reading, card, asked, leave)
    (shown,) = page.session_state["session"].films.values()
    with pytest.raises(Left):
        session.examined(shown, reading, card, asked._replace(method="layer-cam"), leave)
    assert (reading.maps.keys() - {asked._replace(method="layer-cam")}) == before[0].keys()
    assert reading.checks == before[1]


def test_a_region_is_asked_about_and_taken_back() -> None:
    page = upload(open_page(), ("film.png", film()))
    assert viewer(page)["asks"]
    (reading,) = readings(page)
    card = session.for_reading()[0]
    session.ask_about(reading, card, (0.4, 0.6))
    page.run()
    check_sound(page)
    before = reading.prediction.labels[0]
    after = (
        load_classifier(card.name, models_root())
        .predict(occluded(reading.model_input, region_at(0.4, 0.6, reading.model_input.placement)))
        .labels[0]
    )
    assert after.probability != before.probability
    assert words.region_in_words(before, after) in html(page)
    assert viewer(page)["region"] == list(region_at(0.4, 0.6, reading.model_input.placement))
    button(page, "Clear the region").click().run()
    assert "Without this region" not in html(page)
    assert viewer(page)["region"] is None


def test_the_download_shows_the_map_on_screen_at_full_size(agreeing: None) -> None:
    page = upload(open_page(), ("film.png", film()))
    (shown,) = page.session_state["session"].films.values()
    (reading,) = readings(page)
    asked = session.Explained("Pneumonia", "grad-cam")
    found = viewer_module.Shown(asked, reading.maps[asked], "")
    drawn = np.asarray(Image.open(BytesIO(viewer_module._picture(shown, reading, found))))
    pixels = shown.radiograph.pixels
    laid = session.laid_over(reading.maps[asked].values, reading, pixels)
    np.testing.assert_array_equal(drawn, overlays.overlay(pixels, laid, style="both"))
    withheld = viewer_module.Shown(asked, reading.maps[asked], "Withheld.")
    plain = np.asarray(Image.open(BytesIO(viewer_module._picture(shown, reading, withheld))))
    np.testing.assert_array_equal(plain, overlays.to_grey(pixels))


@pytest.mark.parametrize(("ready", "order"), [(True, "map film"), (False, "film map film")])
def test_the_film_does_not_wait_for_its_map(
    ready: bool, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no graph gives gradients, the first map comes when Keras has been loaded."""
    done: list[str] = []
    draw, make = canvas.show, session.explain
    monkeypatch.setattr(session, "explains", lambda card: ready)
    monkeypatch.setattr(canvas, "show", lambda *args: done.append("film") or draw(*args))
    monkeypatch.setattr(
        session, "explain", lambda *args, **more: done.append("map") or make(*args, **more)
    )
    page = upload(open_page(), ("film.png", film()))
    check_sound(page)
    assert " ".join(done).startswith(order)
    (reading,) = readings(page)
    assert session.Explained("Pneumonia", "grad-cam") in reading.maps


def test_several_films_are_listed_flagged_first() -> None:
    page = upload(open_page(), ("a.png", film(1)), ("old", dicom_film("080Y")), ("b.png", film(2)))
    check_sound(page)
    listed = page.radio(key="film").options
    assert len(listed) == 3
    assert "No answer" in listed[-1]
    assert all("Flag" in line for line in listed[:2])
    page.radio(key="film").set_value(page.radio(key="film").options[-1]).run()
    assert answer(page).startswith("No answer")


def test_films_survive_a_visit_to_another_page() -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    upload(page, ("film.png", film()))
    number(page, "Age, years").set_value(4.0).run()
    page.switch_page("pages/evaluation.py").run()
    assert "film.png" not in html(page)
    page.switch_page("pages/read.py").run()
    check_sound(page)
    assert "film.png" in html(page)
    assert answer(page).startswith("Flag: pneumonia")
    assert number(page, "Age, years").value == 4.0


def test_a_removed_film_is_forgotten() -> None:
    page = upload(open_page(), ("film.png", film()))
    next(button for button in page.button if button.label == "Remove film").click().run()
    check_sound(page)
    assert not page.session_state["session"].films
    assert "film.png" not in html(page)


def test_what_came_is_taken_once_as_it_was_dropped_and_held_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = MemoryUploadedFileManager("/upload")
    mine = SimpleNamespace(session_id="mine", uploaded_file_mgr=manager)
    monkeypatch.setattr(arrivals, "get_script_run_ctx", lambda: mine)
    assert arrivals.collect("read") == []
    came = ("read-2-of-1", "list-3-of-3", "read-1-of-1", "of another uploader")
    for session_id in ("mine", "another's"):
        for one in came:
            record = UploadedFileRec(one, f"{one} of {session_id}", "", b"film")
            manager.add_file(session_id, record)

    taken = arrivals.collect("read")

    names = ["read-1-of-1 of mine", "read-2-of-1 of mine"]
    assert taken == [Upload(name, b"film", "1") for name in names]
    assert arrivals.collect("read") == []
    assert set(manager.file_storage["mine"]) == {"list-3-of-3", "of another uploader"}
    assert set(manager.file_storage["another's"]) == set(came)


def test_the_rest_of_a_drop_leaves_on_screen_what_is_there() -> None:
    dropped = [Upload(f"{k}.png", film(k), "1") for k in range(5)]
    state = session.Session()
    state.take(dropped[:4])
    assert state.chosen is None, "the most suspicious of them"
    state.take(dropped[4:])
    assert state.chosen is None, "the page has not shown any yet"
    state.chosen = next(iter(state.films))
    state.take([Upload("5.png", film(5), "1")])
    assert (len(state.films), state.film().name) == (6, "0.png")
    state.take([Upload("6.png", film(6), "2")])
    assert state.film().name == "6.png", "another drop"
    state.take([Upload("7.png", film(7))])
    assert state.film().name == "7.png"


def test_names_of_files_cannot_become_markup() -> None:
    name = "<img src=x onerror=alert(1)> **bold** [a](http://b).png"
    page = upload(open_page(), (name, film()), (f"bad {name}", b"text"))
    assert not page.exception
    assert "<img" not in html(page)
    assert "\\[a\\]" in page.error[0].value


# --- what belongs to one reader stays with him ---


def test_two_sessions_never_see_each_others_film() -> None:
    first, second = open_page(), open_page()
    upload(first, ("first-patient.png", film(1)))
    second.run()
    assert "cxr-answer" not in html(second)
    assert "first-patient" not in html(second)
    upload(second, ("second-patient.png", film(2)))
    first.run()
    for page, own, other in ((first, "first", "second"), (second, "second", "first")):
        check_sound(page)
        assert f"{own}-patient" in html(page)
        assert f"{other}-patient" not in html(page)
        assert len(page.session_state["session"].films) == 1


def test_sessions_share_the_classifier_and_nothing_of_a_patient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = []
    load = session.load_classifier
    monkeypatch.setattr(session, "load_classifier", lambda *args: loads.append(args) or load(*args))
    for seed in (1, 2):
        check_sound(upload(open_page(), (f"{seed}.png", film(seed))))
    assert len(loads) == 1


def test_a_run_of_a_page_leaves_the_shared_networks_alone() -> None:
    from keras.src.backend.common import global_state

    page = upload(open_page(), ("film.png", film()))
    held = global_state.GLOBAL_STATE_TRACKER
    page.run()
    assert global_state.GLOBAL_STATE_TRACKER is held


def test_a_model_that_failed_to_load_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ModelError("The disk was away.")

    with monkeypatch.context() as patch:
        patch.setattr(session, "load_classifier", fail)
        page = upload(open_page(), ("film.png", film()))
        assert page.error[0].value.replace("\\", "") == "The disk was away."
    page.run()
    check_sound(page)
    assert "Flag: pneumonia" in answer(page)


# --- words ---


def said(card: ModelCard, *answers: LabelPrediction, age_stated: bool = True) -> words.Answer:
    prediction = Prediction(card.name, answers, np.zeros((1, 1, 1), np.float32))
    gate = GateReport((GateCheck("age", 3.0, "", "ok", "Fine."),))
    return words.answer_in_words(card, gate, prediction, age_stated=age_stated)


def one(
    label: str = "Pneumonia",
    probability: float = 0.91,
    point: float | None = 0.47,
    *,
    flag: bool | None = None,
    cannot_tell: bool = False,
) -> LabelPrediction:
    decided = probability >= (point or 0) if flag is None else flag
    return LabelPrediction(label, 0.0, probability, point, decided, cannot_tell)


def test_the_answer_names_the_decision_first(made_card: ModelCard) -> None:
    flagged, cleared = said(made_card, one()), said(made_card, one(probability=0.12))
    assert flagged.headline == "Flag: pneumonia 0.91, operating point 0.47"
    assert (flagged.tone, flagged.lead) == ("flag", "")
    assert cleared.headline == "No flag: pneumonia 0.12, operating point 0.47"
    assert cleared.tone == "clear"


def test_the_answer_begins_with_an_age_that_is_not_stated(made_card: ModelCard) -> None:
    assert said(made_card, one(), age_stated=False).lead == LEAD
    anyone = replace(made_card, age_range=None)
    assert said(anyone, one(), age_stated=False).lead == ""


def test_cannot_tell_never_hides_the_flag(made_card: ModelCard) -> None:
    unsure = said(made_card, one(probability=0.48, cannot_tell=True))
    assert unsure.headline.startswith("Flag, but cannot tell: pneumonia 0.48")
    assert unsure.unsure
    assert "0.30 and 0.50" in unsure.detail[0]


def test_what_it_cannot_tell_is_not_excluded(made_card: ModelCard) -> None:
    told = said(made_card, one(probability=0.35, point=0.47, cannot_tell=True))
    assert told.headline == ("No flag, but cannot exclude pneumonia: 0.35, operating point 0.47")
    assert told.unsure
    several = replace(
        made_card,
        labels=("Mass", "Nodule"),
        operating_points=(0.5, 0.5),
        cannot_tell=((0.3, 0.5), (0.3, 0.5)),
    )
    told = said(several, one("Mass", 0.4, 0.5, cannot_tell=True), one("Nodule", 0.1, 0.5))
    assert told.headline == (
        "No flag in 2 findings, but cannot exclude mass: 0.40, operating point 0.50"
    )
    healthy = replace(made_card, labels=("No Finding",))
    told = said(healthy, one("No Finding", 0.35, 0.47, cannot_tell=True))
    assert told.headline.startswith("No flag, but cannot tell: no finding 0.35")


def test_what_it_cannot_tell_of_several_findings_is_one_sentence(made_card: ModelCard) -> None:
    labels = ("Effusion", "Mass", "Nodule")
    bands = ((0.1, 0.9),) * 3
    card = replace(made_card, labels=labels, operating_points=(0.5,) * 3, cannot_tell=bands)
    told = said(card, *(one(label, 0.6, 0.5, cannot_tell=True) for label in labels))
    assert len(told.detail) == 1
    assert "effusion, mass and nodule, neither answer" in told.detail[0]


def test_several_findings_are_counted(made_card: ModelCard) -> None:
    labels = ("Effusion", "Pleural_Thickening", "COVID-19", "Mass")
    card = replace(made_card, labels=labels, operating_points=(0.5,) * 4, cannot_tell=(None,) * 4)
    quiet = [one(label, 0.1 + k / 100, 0.5) for k, label in enumerate(labels)]
    loud = [one(label, 0.8 + k / 100, 0.5) for k, label in enumerate(labels)]
    assert said(card, *quiet).headline == (
        "No flag in 4 findings; nearest: mass 0.13, operating point 0.50"
    )
    assert said(card, *loud[:2], *quiet[2:]).headline == (
        "Flag: pleural thickening 0.81, effusion 0.80 (2 of 4 findings)"
    )
    assert said(card, *loud).headline == (
        "Flag: mass 0.83, COVID-19 0.82, pleural thickening 0.81 and 1 more (4 of 4 findings)"
    )


def test_the_largest_of_several_wins_without_alarm_when_it_is_normal(
    made_card: ModelCard,
) -> None:
    labels = ("Normal", "Viral pneumonia")
    card = replace(
        made_card,
        labels=labels,
        activation="softmax",
        operating_points=(None, None),
        cannot_tell=(None, None),
    )
    normal = said(card, one("Normal", 0.7, None, flag=True), one(labels[1], 0.3, None, flag=False))
    viral = said(card, one("Normal", 0.4, None, flag=False), one(labels[1], 0.6, None, flag=True))
    assert normal.headline == "Most likely: normal 0.70, the largest of 2"
    assert (normal.tone, viral.tone) == ("clear", "flag")


def test_a_refusal_gives_every_reason_and_what_mends_it(made_card: ModelCard) -> None:
    gate = GateReport(
        (
            GateCheck("age", 40.0, "", "refuse", "The patient is 40.", "Choose another model."),
            GateCheck("view", "LL", "", "refuse", "A lateral film.", "Use the frontal film."),
            GateCheck("colour", 0.0, "", "ok", "Grey."),
        )
    )
    refused = words.answer_in_words(made_card, gate, None, age_stated=True)
    assert refused.headline == "No answer: the patient is 40."
    assert refused.detail == (
        "A lateral film.", "Choose another model.", "Use the frontal film.",
    )  # fmt: skip
    assert refused.tone == "refused"


@pytest.mark.parametrize(
    ("probability", "point", "text"),
    [
        (0.912, 0.47, "0.91"),
        (0.4681, 0.4699, "0.468"),  # two digits would read as reached
        (0.5, 0.5, "0.50"),
        (0.999, 0.47, ">0.99"),
        (0.0004, 0.47, "<0.01"),
        (0.7, None, "0.70"),
    ],
)
def test_scores_show_on_which_side_they_lie(
    probability: float, point: float | None, text: str
) -> None:
    assert words.score(one(probability=probability, point=point)) == text


@pytest.mark.parametrize(
    ("ages", "text"),
    [
        ((1.0, 5.0), "children of 1-5 years"),
        ((18.0, 120.0), "adults of 18 years and over"),
        ((0.0, 65.0), "patients of 0-65 years"),
    ],
)
def test_age_groups_are_named(ages: tuple[float, float], text: str) -> None:
    assert words.age_group(ages) == text


def test_ages_below_two_are_told_in_months() -> None:
    assert words.age_words(0.5) == "6 months"
    assert words.age_words(1 / 12) == "1 month"
    assert words.age_words(5.9) == "5 years"


def test_facts_name_what_the_file_is_silent_about() -> None:
    pixels = np.zeros((20, 30), np.float32)
    silent = Radiograph(pixels, Facts("PNG", 8, "MONOCHROME2"), "")
    told = Radiograph(
        pixels,
        Facts("DICOM", 12, "MONOCHROME1", window=(2048.0, 4096.0), view="PA", sex="M"),
        "",
    )
    assert words.facts_in_words(silent, None) == (
        "30 × 20 pixels · PNG, 8 bit · view, age and sex not stated"
    )
    assert words.facts_in_words(told, 4.0) == (
        "PA view · age 4 years · male · 30 × 20 pixels · DICOM, 12 bit · window 2048 / 4096 · "
        "MONOCHROME1, shown white on black"
    )


def test_similar_films_are_counted_with_their_interval() -> None:
    found = CalibrationBin(0.9, Interval(0.87, 0.79, 0.92), 100)
    assert words.similar_in_words(found) == (
        "Of 100 test films scoring like this, 87 had it (95 % CI 79-92 %)."
    )


def test_the_films_behind_a_probability_are_named(made_card: ModelCard) -> None:
    assert words.calibrated_in_words(made_card, "Pneumonia") == (
        "Calibrated on 200 validation films, 40 % with pneumonia."
    )
    abnormal = replace(made_card, labels=("Abnormal",))
    assert words.calibrated_in_words(abnormal, "Abnormal").endswith("films, 40 % abnormal.")
    bare = replace(made_card, calibration=Calibration())
    assert "nobody calibrated it" in words.calibrated_in_words(bare, "Pneumonia")
    assert not words.can_be_elsewhere(bare, "Pneumonia")


def test_another_prevalence_moves_score_and_point_alike(made_card: ModelCard) -> None:
    """Four in ten on validation, prior odds 2/3; here one in ten, 1/9: a sixth of the odds."""
    assert words.can_be_elsewhere(made_card, "Pneumonia")
    told = words.elsewhere_in_words(made_card, one(probability=0.8, point=0.4), 0.1)
    # Odds 4 become 2/3: 0.40; the point's 2/3 become 1/9: 0.10.
    assert told.startswith(
        "Where 10 % of films show pneumonia: 0.40, operating point 0.10: the flag stays."
    )
    alone = words.elsewhere_in_words(made_card, one(probability=0.8, point=None), 0.1)
    assert alone.startswith("Where 10 % of films show pneumonia: 0.40. This takes for granted")
    exclusive = replace(made_card, labels=("Normal", "Ill"), activation="softmax",
                        operating_points=(None, None), cannot_tell=(None, None))  # fmt: skip
    assert not words.can_be_elsewhere(exclusive, "Ill")


def test_reliability_is_a_line_for_each_split(made_card: ModelCard) -> None:
    before = {"ece": 0.2, "brier": 0.1, "log_loss": 0.5}
    after = {"ece": 0.1, "brier": 0.05, "log_loss": 0.25}
    worse = {"ece": 0.3, "brier": 0.15, "log_loss": 0.75}
    one_label = {"Pneumonia": {"before": before, "after": after}}
    two = one_label | {"Mass": {"before": before, "after": worse}}
    card = replace(made_card, training={"reliability": {"validation": one_label, "test": two}})
    assert words.reliability_in_words(card) == {
        "Calibration, validation": "ECE 0.200 → 0.100, Brier 0.100 → 0.050, log loss 0.500 → "
        "0.250 (before → after)",
        "Calibration, test": "ECE 0.200 → 0.200, Brier 0.100 → 0.100, log loss 0.500 → 0.500 "
        "(before → after, means of 2 labels)",
    }
    assert words.reliability_in_words(made_card) == {}


@pytest.mark.parametrize(("borders", "caution"), [(0.9, True), (0.55, False)])
def test_what_the_borders_alone_score_is_told(
    made_card: ModelCard, borders: float, caution: bool
) -> None:
    truth, scores = np.array([[0], [0], [1], [1]]), np.array([[0.1], [0.2], [0.7], [0.9]])
    report = evaluate(truth, scores, made_card.labels, operating_points=[0.4])
    assert words.shortcut_in_words(made_card, report) == []
    control = {"blacked_out": 0.8, "auroc": {"Pneumonia": [borders, None, None]}}
    (told,) = words.shortcut_in_words(replace(made_card, training={"control": control}), report)
    assert f"AUROC {borders:.2f} for pneumonia with the lungs blacked out, 1.00 with them" in told
    assert ("may not come from the lungs" in told) == told.startswith("Caution") == caution


def mapped(method: str = "grad-cam", **facts: Any) -> Attribution:
    return Attribution(np.ones((7, 7), np.float32), "Pneumonia", method, signed=False, **facts)


def test_an_empty_map_is_called_empty() -> None:
    empty = replace(mapped(), values=np.zeros((7, 7), np.float32))
    assert "empty" in words.map_in_words(empty, "Faithful.", None)


def test_a_map_says_what_it_shows_and_how_far_it_holds() -> None:
    told = words.map_in_words(mapped(), "Faithful to the score.", None)
    assert told == "Grad-CAM: the region that raised the score, coarsely. Faithful to the score."
    check = MapCheck(agreement=0.42, stability=0.91, outside=0.085, thorax=(0.1, 0.1, 0.9, 0.9))
    assert words.map_in_words(mapped(), "", check).endswith(
        " On this film: agreement with integrated gradients 0.42 of at most 1, steady when the "
        "film is moved a little (0.91), 8 % of it outside the lungs."
    )
    weak = MapCheck(agreement=None, stability=0.2, outside=None, thorax=None)
    assert words.map_in_words(mapped(), "", weak).endswith(
        " On this film: not steady when the film is moved a little (0.20), the lungs were not "
        "found."
    )
    noted = words.map_in_words(mapped(note="Too coarse to point."), "Not tested.", None)
    assert noted.endswith("coarsely. Too coarse to point. Not tested.")


@pytest.mark.parametrize(
    ("gap", "text"),
    [
        (0.0001, "its parts add up to the score within 0.1 %"),
        (0.004, "its parts add up to the score within 0.4 %"),
        (0.2, "Integrated gradients: which pixels"),
    ],
)
def test_completeness_is_told_in_plain_words(gap: float, text: str) -> None:
    found = mapped("integrated-gradients", completeness_gap=gap, relative_gap=gap)
    told = words.map_in_words(found, "", None)
    assert text in told
    assert ("add up" in told) == (gap < 0.01)


@pytest.mark.parametrize(
    ("agreement", "withheld"), [(None, False), (0.3, False), (0.0, False), (-0.01, True)]
)
def test_a_contradiction_is_below_the_bound(agreement: float | None, withheld: bool) -> None:
    check = MapCheck(agreement=agreement, stability=0.9, outside=0.1, thorax=None)
    assert bool(words.contradiction("grad-cam", check)) == withheld


def test_a_region_moves_the_answer_in_words() -> None:
    assert words.region_in_words(one(), one(probability=0.34)) == (
        "Without this region: pneumonia 0.91 → 0.34."
    )


# --- the shipped model ---


@pytest.mark.slow
def test_the_shipped_model_reads_the_sample_film(monkeypatch: pytest.MonkeyPatch) -> None:
    if not SHIPPED.is_dir():
        pytest.skip("no model is shipped yet: models/pediatric-pneumonia is absent")
    monkeypatch.delenv("CXR_MODELS")
    for path in PAGES:
        check_sound(open_page(path.stem))
    page = open_page()
    page.button[0].click().run()
    check_sound(page)
    assert "pneumonia" in answer(page)


def test_films_are_shown_at_a_size_for_screens() -> None:
    stream = BytesIO()
    Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (2600, 8))).save(stream, "PNG")
    page = upload(open_page(), ("large.png", stream.getvalue()))
    check_sound(page)
    shown = next(iter(page.session_state["session"].films.values())).shown
    assert shown.shape == (1280, 788)
    assert 0 <= shown.min() <= shown.max() <= 1
