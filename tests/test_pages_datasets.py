"""The data folder page: its numbers, its warnings, its samples, and what it may not open."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from cxr_core.datasets import index, summarise
from cxr_core.errors import DataError
from cxr_core.figures import PALETTES
from cxr_core.ui import access, datafolder
from cxr_core.ui.datafolder import PER_FINDING, Folder

ROOT = Path(__file__).parents[1]
PAGE = str(ROOT / "pages" / "datasets.py")


@pytest.fixture(autouse=True)
def nobody_fences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXR_DATA", raising=False)


@pytest.fixture
def copy(phantom_folder: Path, tmp_path: Path) -> Path:
    """The made folder, to be spoilt."""
    return Path(shutil.copytree(phantom_folder, tmp_path / "films"))


@pytest.fixture
def served_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    known = datafolder.st.get_option

    def option(name: str) -> Any:
        return "0.0.0.0" if name == "server.address" else known(name)

    monkeypatch.setattr(datafolder.st, "get_option", option)
    # An administrator has signed in, without whom nothing is open (test_access).
    monkeypatch.setattr(access, "expected", lambda: None)


def open_page() -> AppTest:
    return AppTest.from_file(PAGE, default_timeout=120).run()


def press(page: AppTest, label: str) -> AppTest:
    next(button for button in page.button if button.label == label).click()
    return page.run()


def look(folder: Path | str, page: AppTest | None = None) -> AppTest:
    page = page or open_page()
    page.text_input(key="folder").set_value(str(folder))
    return press(page, "Look")


def html(page: AppTest) -> str:
    return "\n".join(element.proto.body for element in page.get("html"))


def told(page: AppTest) -> str:
    """The sentence of the one error, as it is read."""
    assert not page.exception
    assert len(page.error) == 1
    return str(page.error[0].value).replace("\\", "")


def check_sound(page: AppTest) -> None:
    assert not page.exception
    assert not page.error


def pictures(page: AppTest) -> list[str]:
    return [image.proto.imgs[0].url for image in page.get("image")]


def folder_of(path: Path) -> Folder:
    dataset = index(path)
    return Folder(dataset, summarise(dataset))


def leak(folder: Path) -> str:
    """Put a second film of a training patient into the test split; return the patient."""
    film = next((folder / "train" / "PNEUMONIA").iterdir())
    person, kind, _ = film.stem.split("_")
    Image.new("L", (64, 64), 90).save(folder / "test" / "PNEUMONIA" / f"{person}_{kind}_9.jpeg")
    return f"{person}_{kind}"


# --- what a folder holds ---


def test_nothing_is_read_before_a_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datafolder, "index", lambda *_: pytest.fail("read"))
    page = open_page()
    check_sound(page)
    assert page.text_input(key="folder").value == ""
    assert "machine that runs this app" in html(page)
    assert "Name the folder" in told(press(page, "Look"))


def test_the_numbers_are_those_of_summarise(phantom_folder: Path) -> None:
    page = look(phantom_folder)
    check_sound(page)
    counted = summarise(index(phantom_folder))
    said = html(page)
    assert (
        f"{counted['films']} films of {counted['patients']} patients in two splits; "
        "no patient is in more than one split." in said
    )
    assert 'class="cxr-answer clear"' in said
    for name, split in counted["splits"].items():
        assert f"{split['films']} films of {split['patients']} patients" in said, name
    for finding in counted["splits"]["train"]["findings"]:
        cells = [counted["splits"][name]["findings"][finding] for name in ("train", "test")]
        row = "".join(f'<td class="number">{number}</td>' for number in cells)
        assert f'<th scope="row">{datafolder.shown(finding)}</th>{row}' in said
    assert "(none)" not in said


def test_every_bar_says_its_split_and_number(phantom_folder: Path) -> None:
    splits = summarise(index(phantom_folder))["splits"]
    rows = datafolder.bars(splits, PALETTES["dark"])["data"]["values"]
    assert {(row["finding"], row["split"], row["films"]) for row in rows} == {
        (datafolder.shown(finding), split, number)
        for split, held in splits.items()
        for finding, number in held["findings"].items()
    }
    assert all(row["label"] == f"{row['films']} {row['split']}" for row in rows)
    assert rows[0]["finding"] == "No finding"


def test_a_folder_without_splits_says_so(phantom_folder: Path) -> None:
    page = look(phantom_folder / "train")
    check_sound(page)
    assert "patients, not split." in html(page)
    assert "more than one split" not in html(page)


def test_moving_a_widget_does_not_index_again(
    phantom_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = look(phantom_folder)
    monkeypatch.setattr(datafolder, "index", lambda *_: pytest.fail("indexed again"))
    page.selectbox(key="layout").set_value("class-folders").run()
    press(page, "Others")
    check_sound(page)
    assert "no patient is in more than one split" in html(page)


def test_what_was_found_belongs_to_one_reader(phantom_folder: Path) -> None:
    look(phantom_folder)
    assert "no patient is in more than one split" not in html(open_page())


# --- whether the splits can be trusted ---


def test_a_shared_patient_is_told_first_and_in_amber(copy: Path) -> None:
    patient = leak(copy)
    said = html(look(copy))
    assert 'class="cxr-answer flag"' in said
    assert "1 patient is in more than one split:" in said
    assert "test figures from these splits would be worth nothing." in said
    assert patient in datafolder.facts(folder_of(copy))["Patients in several splits"]


def test_a_film_that_lies_in_two_splits_is_told(copy: Path) -> None:
    film = next((copy / "train" / "NORMAL").iterdir())
    shutil.copy(film, copy / "test" / "NORMAL" / "another name.jpeg")
    said = html(look(copy))
    assert "1 byte-identical film is in more than one split:" in said
    assert "another name.jpeg" in said


def test_films_of_unknown_patients_prove_nothing(copy: Path) -> None:
    for number, film in enumerate(sorted(copy.rglob("*.jpeg"))):
        film.rename(film.with_name(f"scan {number}.jpeg"))
    said = html(look(copy))
    assert "unknown patients in two splits; whether these share a patient cannot be told." in said
    assert "no patient is in more" not in said
    assert "each counted as a patient of its own" in said


# --- films drawn by chance ---


def test_a_few_films_of_each_finding_are_drawn_and_then_others(phantom_folder: Path) -> None:
    page = look(phantom_folder)
    findings = summarise(index(phantom_folder))["splits"]["train"]["findings"]
    first = pictures(page)
    assert len(first) == PER_FINDING * len(findings)
    names = {film.file.rpartition("/")[2] for film in index(phantom_folder).films}
    plain = html(page).replace("<wbr>", "")
    assert sum(f"<strong>{name}</strong>" in plain for name in names) >= PER_FINDING * 2
    press(page, "Others")
    check_sound(page)
    assert len(pictures(page)) == len(first)
    assert set(pictures(page)) != set(first)


def test_the_draws_come_round(phantom_folder: Path) -> None:
    folder = folder_of(phantom_folder / "train")
    wanted = {film.file for film in folder.dataset.films if not film.findings}
    seen = set()
    for _ in range(-(-len(wanted) // PER_FINDING)):
        drawn = datafolder.draw_samples(folder)["(none)"]
        seen |= {sample.film.file for sample in drawn}
        folder.draw_others()
    assert seen == wanted


def test_a_film_that_cannot_be_read_says_why_in_its_place(copy: Path) -> None:
    for film in (copy / "train" / "NORMAL").iterdir():
        film.write_bytes(b"SECRET=swordfish\n" + film.name.encode())
    page = look(copy / "train")
    check_sound(page)
    assert "The file is plain text, not a picture" in html(page)
    assert "swordfish" not in html(page)
    assert len(pictures(page)) == PER_FINDING * 3


def test_decoding_tells_sizes_and_what_cannot_be_read(copy: Path) -> None:
    bad = next((copy / "test" / "NORMAL").iterdir())
    bad.write_bytes(b"these are notes")
    page = look(copy)
    assert "whether each film decodes, and its size, are not" in html(page)
    press(page, "Decode every film")
    check_sound(page)
    assert "1 film cannot be read; " in html(page)
    assert "the others have 84 × 96 pixels." in html(page)
    assert bad.name in html(page)
    assert "Decode every film" not in {button.label for button in page.button}
    press(page, "Others")
    assert "1 film cannot be read; " in html(page)


# --- findings that come together ---


def test_kinds_of_one_finding_are_no_multi_label_folder(phantom_folder: Path) -> None:
    assert "Findings on the same film" not in html(look(phantom_folder))


def test_a_heat_map_writes_each_number() -> None:
    pairs = [{"row": "B", "column": "A", "films": 3}, {"row": "C", "column": "A", "films": 0}]
    spec = datafolder.heat_map(pairs, PALETTES["dark"])
    assert spec["data"]["values"] == pairs
    assert spec["layer"][1]["encoding"]["text"]["field"] == "films"


def test_real_films_with_several_findings(data: Path) -> None:
    folder = data / "nih_chestxray14"
    dataset = index(folder)
    page = look(folder)
    check_sound(page)
    said = html(page)
    patients = len({film.patient for film in dataset.films})
    assert f"{len(dataset.films):,} films of {patients:,} patients" in said
    assert "Pleural Thickening" in said
    both = sum({"Infiltration", "Effusion"} <= set(film.findings) for film in dataset.films)
    row = f'Infiltration and Effusion</th><td class="number">{both}</td>'
    assert "Findings on the same film" in said
    assert row in said


def test_the_published_pediatric_split_shares_no_patient(data: Path) -> None:
    said = html(look(data / "pediatric_pneumonia"))
    assert "5,840 films of 4,082 patients in two splits; no patient is in more" in said
    assert "30 groups, such as" in said


# --- what may not be opened ---


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: shutil.rmtree(folder), "There is no folder"),
        (lambda folder: (folder / "notes").mkdir(), "nobody can say what they are for"),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_sentence(
    copy: Path, spoil: Callable[[Path], Any], reason: str
) -> None:
    page = look(copy)
    spoil(copy)
    look(copy, page)
    assert reason in told(page)
    assert "cxr-answer" not in html(page), "nothing old stays beside an error"


@pytest.mark.parametrize("text", ["\0", "a" * 5000, "   ", "no such folder"])
def test_what_is_no_path_is_a_sentence(text: str) -> None:
    assert told(look(text)).endswith(".")


def test_inside_the_named_folder_all_may_be_looked_at(
    phantom_folder: Path, monkeypatch: pytest.MonkeyPatch, served_to_others: None
) -> None:
    monkeypatch.setenv("CXR_DATA", str(phantom_folder.parent))
    page = open_page()
    assert page.text_input(key="folder").value == str(phantom_folder.parent.resolve())
    for text in (phantom_folder, phantom_folder.name, f"{phantom_folder.name}/train/.."):
        check_sound(look(text, page))
        assert "no patient is in more than one split" in html(page)


@pytest.mark.parametrize(
    "way", ["{films}", "../films", "link", "link/train", "/etc", "/", "..", "/no/such/folder"]
)
def test_outside_the_named_folder_nothing_is_opened(
    way: str, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(copy)
    monkeypatch.setenv("CXR_DATA", str(allowed))
    monkeypatch.setattr(datafolder, "index", lambda *_: pytest.fail("opened"))
    text = way.format(films=copy)
    assert told(look(text)).startswith(f"'{text}' leads out of '{allowed}'")


@pytest.mark.parametrize("kind", ["file", "folder", "deep"])
def test_a_link_inside_the_named_folder_leads_nowhere_outside(
    kind: str, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = tmp_path / "allowed"
    shutil.copytree(copy, allowed / "films")
    secret = next(copy.rglob("*.jpeg"))
    place = allowed / "films" / "train" / "NORMAL"
    link, target = {
        "file": (place / "IM-9999-0001.jpeg", secret),
        "folder": (allowed / "films" / "train" / "OTHER", secret.parent),
        "deep": (place / "more", allowed / "beside"),
    }[kind]
    if kind == "deep":  # a link may lead to a neighbour inside, but not on from there
        target.mkdir()
        (target / "out.jpeg").symlink_to(secret)
    link.symlink_to(target)
    monkeypatch.setenv("CXR_DATA", str(allowed))
    with monkeypatch.context() as patch:
        patch.setattr(datafolder, "index", lambda *_: pytest.fail("opened"))
        assert "is a link that leads out of" in told(look("films"))
    monkeypatch.setenv("CXR_DATA", str(tmp_path))  # where all of it lies inside
    if kind == "file":
        check_sound(look("allowed/films"))


def test_links_in_a_circle_inside_are_looked_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    datafolder._check_links(tmp_path, tmp_path)


def test_a_neighbour_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    (tmp_path / "data-private").mkdir()
    with pytest.raises(DataError, match="leads out"):
        datafolder.inside(str(tmp_path / "data-private"), tmp_path / "data")


def test_links_in_a_circle_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    assert "'" in told(look(tmp_path / "one"))


def test_served_to_others_without_a_named_folder_nothing_is_opened(
    served_to_others: None,
) -> None:
    page = open_page()
    assert "CXR_DATA" in told(page)
    assert not page.text_input
    assert not page.button


def test_a_named_folder_that_is_not_there_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_DATA", str(tmp_path / "absent"))
    assert "CXR_DATA" in told(open_page())
