"""Where decisions and weights do not belong together, it is said wherever that model speaks."""

import json
import shutil
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import pytest
import streamlit as st
from dropping import drop
from streamlit.testing.v1 import AppTest

from cxr_core.__main__ import main
from cxr_core.cards import load_card
from cxr_core.classifier import load_classifier
from cxr_core.local_check import belonging
from cxr_core.phantom import png_bytes, thorax
from cxr_core.service import Desk, Settings
from cxr_core.ui.report import read_film

ROOT = Path(__file__).resolve().parents[1]
BANNER = 'class="cxr-banner"'
PAGES = ("read", "worklist", "evaluation", "films", "models")


def decided_elsewhere(folder: Path) -> None:
    """Make a model one whose decisions come from the films of a site."""
    path = folder / "card.json"
    card = json.loads(path.read_text())
    card["training"]["recalibrated"] = {
        "from": "another",
        "labels": card["labels"],
        "films": 300,
        "source": "the folder 'ward'",
        "weights": None,
    }
    path.write_text(json.dumps(card))


@pytest.fixture(params=[False, True], ids=["as trained", "decided elsewhere"])
def doubtful(
    request: pytest.FixtureRequest,
    tiny_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> bool:
    """Whether the tiny model is one that must be warned of."""
    shutil.copytree(tiny_models / "tiny", tmp_path / "models" / "tiny")
    if request.param:
        decided_elsewhere(tmp_path / "models" / "tiny")
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    st.cache_data.clear()
    st.cache_resource.clear()
    return bool(request.param)


def html(page: AppTest) -> str:
    return "\n".join(unescape(element.proto.body) for element in page.get("html"))


def test_every_page_of_a_model_says_it_once_and_of_others_never(doubtful):
    for name in PAGES:
        page = AppTest.from_file(str(ROOT / "pages" / f"{name}.py"), default_timeout=120).run()
        assert not page.exception and not page.error
        assert html(page).count(BANNER) == doubtful, name
        assert ("come from 300 films of a site" in html(page)) == doubtful


def test_it_stands_above_the_answer_on_a_film(doubtful):
    page = AppTest.from_file(str(ROOT / "pages" / "read.py"), default_timeout=120).run()
    drop(page, ("film.png", png_bytes(thorax(256, 224, seed=1))))
    assert not page.exception and not page.error
    assert html(page).count(BANNER) == doubtful
    if doubtful:
        assert html(page).index(BANNER) < html(page).index("cxr-answer")


def test_the_commands_and_files_say_it_too(doubtful, tmp_path, capsys):
    told = belonging(load_card("tiny"))
    assert len(told) == doubtful
    film = tmp_path / "film.png"
    film.write_bytes(png_bytes(thorax(256, 224, seed=1)))
    for arguments in (
        ["predict", "--model", "tiny", "--json", str(film)],
        ["screen", "--model", "tiny", str(film), "-o", str(tmp_path / "out.parquet")],
        ["report", "--model", "tiny", str(film), "-o", str(tmp_path / "out.csv")],
    ):
        assert main(arguments) == 0
        out, err = capsys.readouterr()
        assert ("of a site" in err) == doubtful, arguments[0]
        assert "of a site" not in out
    assert main(["list"]) == 0
    assert ("of a site" in capsys.readouterr().out) == doubtful
    assert main(["list", "--json"]) == 0
    assert tuple(json.loads(capsys.readouterr().out)["notes"]) == told
    filed = read_film(load_classifier("tiny"), thorax(256, 224, seed=1), datetime.now(UTC))
    assert set(told) <= set(filed.detail)
    assert any("of a site" in one for one in filed.detail) == doubtful


def test_the_service_says_it(doubtful):
    desk = Desk(Settings(models=("tiny",)))
    desk.open()
    desk._opening.result()
    try:
        assert desk.notes() == {"tiny": belonging(load_card("tiny"))}
        assert bool(desk.notes()["tiny"]) == doubtful
    finally:
        desk.close()
