"""The films behind a number: which they are, in what order, and what may be seen of them.

The first half holds the selection to values worked by hand and to the report's own counts;
the second runs the page under AppTest on computer-made films.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from dropping import drop
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

from cxr_core.cards import (
    ModelCard,
    list_models,
    load_card,
    load_evaluation,
    load_predictions,
    split_integrity,
)
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.errors import ArgumentError, CxrError, DataError
from cxr_core.evaluation import similar_scores
from cxr_core.phantom import png_bytes, thorax
from cxr_core.predictions import PredictionTable, evaluate_table, subgroups, write_predictions
from cxr_core.ui import gallery, numerals, record, selection, session
from cxr_core.ui.selection import PAGE, Asked

ROOT = Path(__file__).parents[1]
SHIPPED = [card.name for card in list_models(ROOT / "models")]


# --- a few films, by hand ---


def made_table(scores: Sequence[float], truth: Sequence[int], **more: object) -> PredictionTable:
    files = tuple(f"test/film{k}.png" for k in range(len(scores)))
    return PredictionTable(
        files=files,
        patients=tuple(f"p{k}" for k in range(len(scores))),
        labels=("Pneumonia",),
        y_true=np.array(truth).reshape(-1, 1),
        y_score=np.array(scores, float).reshape(-1, 1),
        split="test",
        **more,
    )


@pytest.fixture
def few() -> PredictionTable:
    """With an operating point of 0.4: film 0 missed, 1 and 4 found, 2 clear, 3 and 5 wrong."""
    return made_table(
        (0.1, 0.9, 0.3, 0.6, 0.4, 0.8),
        (1, 1, 0, 0, 1, 0),
        sex=("F", "M", "", "F", "F", "M"),
        age=(3.0, 17.9, 18.0, None, 65.0, 64.9),
    )


@pytest.fixture
def exclusive(made_card: ModelCard) -> tuple[ModelCard, PredictionTable]:
    """Three labels of which the largest score wins, and five films."""
    labels = ("Normal", "Bacterial pneumonia", "COVID-19")
    card = replace(
        made_card,
        labels=labels,
        activation="softmax",
        operating_points=(None,) * 3,
        cannot_tell=(None,) * 3,
    )
    truth = np.eye(3, dtype=int)[[0, 0, 1, 2, 1]]
    scores = np.array(
        [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.1, 0.8, 0.1], [0.5, 0.1, 0.4], [0.0, 0.3, 0.7]]
    )
    names = tuple("abcde")
    table = PredictionTable(
        files=names, patients=names, labels=labels, y_true=truth, y_score=scores, split="test"
    )
    return card, table


def asked(cell: str = "all", **more: object) -> Asked:
    return Asked(model="made", label="Pneumonia", cell=cell, **more)


def rows(wanted: Asked, card: ModelCard, table: PredictionTable) -> list[int]:
    return selection.select(wanted, card, table).rows.tolist()


@pytest.mark.parametrize(
    ("cell", "films"),
    [("fn", [0]), ("fp", [5, 3]), ("tp", [4, 1]), ("tn", [2]), ("all", [5, 0, 3, 4, 2, 1])],
)
def test_films_of_a_cell_come_most_confidently_or_most_nearly_wrong_first(
    cell: str, films: list[int], made_card: ModelCard, few: PredictionTable
) -> None:
    assert rows(asked(cell), made_card, few) == films
    assert rows(asked(cell, order="right"), made_card, few) == films[::-1]
    high = sorted(films, key=lambda row: -few.y_score[row, 0])
    assert rows(asked(cell, order="high"), made_card, few) == high
    assert rows(asked(cell, order="low"), made_card, few) == high[::-1]
    assert rows(asked(cell, order="file"), made_card, few) == sorted(films)


def test_a_threshold_that_was_moved_decides(made_card: ModelCard, few: PredictionTable) -> None:
    assert rows(asked("fn", threshold=0.5), made_card, few) == [0, 4]
    assert rows(asked("fp", threshold=0.7), made_card, few) == [5]
    assert rows(asked("tp", threshold=0.0), made_card, few) == [0, 4, 1]


def test_scores_text_and_group_narrow(made_card: ModelCard, few: PredictionTable) -> None:
    assert rows(asked(low=0.3, high=0.6, order="file"), made_card, few) == [2, 3, 4]
    assert rows(asked(text=" P5 "), made_card, few) == [5]
    assert rows(asked(text="FILM", order="file"), made_card, few) == list(range(6))
    assert rows(asked(text="no such"), made_card, few) == []
    assert rows(asked(group=("sex", "F"), order="file"), made_card, few) == [0, 3, 4]
    assert rows(asked("fp", group=("sex", "F")), made_card, few) == [3]
    assert rows(asked(group=("age", "unknown")), made_card, few) == [3]


def test_groups_are_those_of_the_report(made_card: ModelCard, few: PredictionTable) -> None:
    found = selection.groups(few)
    assert {by for by, _ in found} == {"sex", "age"}, "no film has a view"
    for by in ("sex", "age"):
        reports = subgroups(few, "Pneumonia", 0.4, by)
        assert [name for one, name in found if one == by] == list(reports)
        for name, report in reports.items():
            chosen = selection.select(asked(group=(by, name)), made_card, few)
            (tn, fp), (fn, tp) = report.confusion
            assert chosen.counts == {"tn": tn, "fp": fp, "fn": fn, "tp": tp, "all": report.n}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_cell_holds_as_many_films_as_the_report_counts(name: str) -> None:
    root = ROOT / "models"
    card, table, report = (
        load(name, root) for load in (load_card, load_predictions, load_evaluation)
    )
    for label in card.labels:
        chosen = selection.select(Asked(model=name, label=label), card, table)
        if report.label(label).confusion is None:
            assert chosen.counts == {"all": report.n}, "nothing is flagged"
            continue
        (tn, fp), (fn, tp) = report.label(label).confusion
        cells = {cell: chosen.counts[cell] for cell in ("tn", "fp", "fn", "tp", "all")}
        assert cells == {"tn": tn, "fp": fp, "fn": fn, "tp": tp, "all": report.n}
        for cell, films in cells.items():
            wanted = Asked(model=name, label=label, cell=cell)
            assert len(rows(wanted, card, table)) == films
    for row, truth in enumerate(card.labels if report.matrix else ()):
        for column, said in enumerate(card.labels):
            wanted = Asked(model=name, label=truth, truth=truth, said=said)
            assert len(rows(wanted, card, table)) == report.matrix[row][column]


def test_pairs_of_exclusive_labels(exclusive: tuple[ModelCard, PredictionTable]) -> None:
    card, table = exclusive

    def of(**more: object) -> list[int]:
        return rows(Asked(model="made", label="COVID-19", **more), card, table)

    assert of(truth="Normal", said="COVID-19") == [1]
    assert of(truth="COVID-19", said="COVID-19") == []
    assert of(cell="fp") == [4, 1], "ahead of the largest other by 0.4 and 0.3"
    assert of(cell="fn") == [3]
    assert of(cell="tn") == [0, 2], "behind the largest other by 0.6 and 0.7"
    assert of(cell="fp", threshold=0.62) == [4]


def test_a_pair_is_ordered_by_its_lead_over_what_is_true(
    exclusive: tuple[ModelCard, PredictionTable],
) -> None:
    card, table = exclusive
    scores = np.array([[0.3, 0.1, 0.6], [0.01, 0.44, 0.55]])
    table = replace(
        table, files=("a", "b"), patients=("a", "b"), y_true=table.y_true[:2], y_score=scores
    )
    wanted = Asked(model="made", label="Normal", truth="Normal", said="COVID-19")
    assert rows(wanted, card, table) == [1, 0]


def test_where_nothing_decides_there_are_no_cells(
    made_card: ModelCard, few: PredictionTable
) -> None:
    card = replace(made_card, operating_points=(None,), cannot_tell=(None,))
    assert selection.first(card).cell == "all"
    assert set(selection.select(asked(), card, few).counts) == {"all"}
    assert rows(asked(), card, few)[0] == 0, "the farthest from the truth"
    with pytest.raises(ArgumentError, match="no operating point"):
        selection.require_fitting(asked("fn"), card)
    selection.require_fitting(asked("fn", threshold=0.5), card)


def test_pages_hold_what_they_say(made_card: ModelCard) -> None:
    films = 2 * PAGE + 2
    table = made_table(np.linspace(0, 1, films), [k % 2 for k in range(films)])
    pages = [
        selection.select(asked(order="low", page=page), made_card, table).shown().tolist()
        for page in (1, 2, 3)
    ]
    assert list(map(len, pages)) == [PAGE, PAGE, 2]
    assert [row for page in pages for row in page] == list(range(films))
    with pytest.raises(ArgumentError, match="no page 4 of these films; the last is 3"):
        selection.select(asked(page=4), made_card, table).shown()
    assert selection.select(asked(text="none"), made_card, table).shown().size == 0


@given(
    scores=some.lists(some.floats(0, 1), min_size=1, max_size=40),
    score=some.floats(0, 1),
    k=some.integers(1, 50),
)
def test_similar_films_are_those_that_the_sentence_counts(
    scores: list[float], score: float, k: int
) -> None:
    card = load_card("pediatric-pneumonia", ROOT / "models")
    table = made_table(scores, [1] * len(scores))
    counted = similar_scores(table.y_true[:, 0], table.y_score[:, 0], score, k=k)
    wanted = selection.similar(card, table, "Pneumonia", score, k=k)
    assert (wanted is None) == (counted.n == 0)
    if wanted is not None:
        assert len(rows(wanted, card, table)) == counted.n


# --- links ---


@given(
    some.builds(
        Asked,
        model=some.just("made"),
        label=some.just("Pneumonia"),
        cell=some.sampled_from(list(selection.CELLS)),
        threshold=some.none() | some.floats(0, 1),
        low=some.floats(0, 0.5),
        high=some.floats(0.5, 1),
        group=some.none() | some.tuples(some.sampled_from(["sex", "age", "view"]), some.text()),
        text=some.text(),
        order=some.sampled_from(selection.ORDERS),
        page=some.integers(1, 10**6),
    )
)
def test_a_link_says_all_that_was_asked(wanted: Asked) -> None:
    card = replace(load_card("pediatric-pneumonia", ROOT / "models"), name="made")
    written = selection.to_parameters(wanted)
    assert set(written) <= selection.PARAMETERS
    assert selection.from_parameters(written, [card]) == wanted


def test_a_link_may_name_a_pair(exclusive: tuple[ModelCard, PredictionTable]) -> None:
    card = exclusive[0]
    wanted = Asked(model="made", label="Normal", truth="Normal", said="COVID-19", page=2)
    assert selection.from_parameters(selection.to_parameters(wanted), [card]) == wanted


def test_what_a_link_leaves_out_is_the_default(made_card: ModelCard) -> None:
    assert selection.from_parameters({}, [made_card]) == asked("fn")
    assert selection.from_parameters({"cell": "tp"}, [made_card]) == asked("tp")


BAD = {
    "model=../x": "no model named '../x'",
    "model=/etc/passwd": "no model named",
    "label=Mass": "no label named 'Mass'",
    "cell=<b>": "no cell named",
    "cell=missed": "no cell named",
    "order=random": "no order named",
    "threshold=high": "threshold must be a number",
    "threshold=nan": "must lie in",
    "threshold=1.5": "must lie in",
    "low=-1": "must lie in",
    "low=0.9&high=0.1": "low must not exceed high",
    "page=0": "at least 1",
    "page=two": "whole number",
    "page=99": "no page 99 of these films; the last is 1",
    "by=sex": "by and group go together",
    "group=F": "by and group go together",
    "by=name&group=F": "no grouping named 'name'",
    "by=sex&group=F": "record no sex",
    "truth=Pneumonia": "truth and said go together",
    "truth=Pneumonia&said=Pneumonia": "Several labels",
    "cell=fn&truth=Pneumonia&said=Pneumonia": "already name a cell",
}


def parameters(link: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in link.split("&"))


@pytest.mark.parametrize("link", BAD)
def test_a_link_to_what_cannot_be_is_refused(
    link: str, made_card: ModelCard, few: PredictionTable
) -> None:
    table = replace(few, sex=None)
    with pytest.raises(CxrError) as refused:
        wanted = selection.from_parameters(parameters(link), [made_card])
        selection.require_fitting(wanted, made_card)
        selection.select(wanted, made_card, table).shown()
    assert BAD[link] in str(refused.value)


# --- in words ---


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            asked("fn"),
            "1 of 3 films with pneumonia scored below the operating point 0.40: missed. "
            "Most confidently wrong first.",
        ),
        (
            asked("fp", threshold=0.7, order="high"),
            "1 of 3 films without pneumonia scored at or above the threshold 0.70: flagged "
            "wrongly. Highest score first.",
        ),
        (
            asked("tp"),
            "2 of 3 films with pneumonia scored at or above the operating point 0.40: found. "
            "Nearly wrong first.",
        ),
        (
            asked("tn", threshold=0.0),
            "None of 3 films without pneumonia scored below the threshold 0.000: rightly not "
            "flagged. Nearly wrong first.",
        ),
        (
            asked(low=0.25, high=0.65),
            "6 test films, 3 with pneumonia. 3 of them scored 0.25 to 0.65, 1 with pneumonia. "
            "Most confidently wrong first.",
        ),
        (
            asked("fp", group=("sex", "F"), text="film3", order="file"),
            "1 of 1 film without pneumonia (sex F) scored at or above the operating point 0.40: "
            "flagged wrongly. 1 of them matches 'film3'. By file name.",
        ),
    ],
)
def test_films_in_words(
    wanted: Asked, sentence: str, made_card: ModelCard, few: PredictionTable
) -> None:
    assert selection.in_words(selection.select(wanted, made_card, few), made_card) == sentence


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("fn", "1 of 3 normal films scored below the operating point 0.40: not called normal, "),
        ("fp", "2 of 3 abnormal films scored at or above the operating point 0.40: called normal"),
        ("tp", "2 of 3 normal films scored at or above the operating point 0.40: rightly called "),
        ("tn", "1 of 3 abnormal films scored below the operating point 0.40: rightly not called "),
        ("all", "6 test films, 3 normal. Most"),
    ],
)
@pytest.mark.parametrize("label", ["No_Finding", "Normal"])
def test_a_flag_that_says_that_all_is_well_is_not_called_a_miss(
    cell: str, sentence: str, label: str, made_card: ModelCard, few: PredictionTable
) -> None:
    card, table = replace(made_card, labels=(label,)), replace(few, labels=(label,))
    found = selection.select(Asked(model="made", label=label, cell=cell), card, table)
    assert selection.in_words(found, card).startswith(sentence)
    narrowed = replace(found.asked, low=0.05, group=("sex", "F"))
    said = [selection.in_words(selection.select(narrowed, card, table), card)]
    for row in range(6):
        said.append(selection.truth_in_words(found, card, table, row))
        said.append(selection.state_in_words(found, card, table, row))
    said += [selection.choice_name(choice, card, label) for choice in found.counts]
    wrong = ("ith no", "ithout no", "issed", "lagged", "Found")
    assert not [text for text in said if any(word in text for word in wrong)]
    assert said[1:3] == ["Normal", "Not called normal, though normal"]
    assert said[5:7] == ["Abnormal", "Rightly not called normal"]


def test_cells_are_named_for_their_label(exclusive: tuple[ModelCard, PredictionTable]) -> None:
    assert selection.cell_names("Pneumonia") == selection.CELLS
    assert set(selection.cell_names("No Finding")) == set(selection.CELLS)
    assert selection.cell_names("Normal")["fp"] == "Called normal, though not"
    card = exclusive[0]
    assert selection.choice_name("fp", card, "COVID-19") == "Called wrongly"
    assert selection.choice_name("fn", card, "Normal") == "Not called normal, though normal"


def test_small_thresholds_keep_a_third_digit(made_card: ModelCard, few: PredictionTable) -> None:
    card = replace(made_card, operating_points=(0.003025,), cannot_tell=((0.00112, 0.0999),))
    told = selection.in_words(selection.select(asked("tp", low=0.0042, high=0.25), card, few), card)
    assert "at or above the operating point 0.003: found" in told
    assert "scored 0.004 to 0.25." in told
    facts = record._answering(card)
    assert facts["Pneumonia"] == "flags from 0.003, cannot tell from 0.001 to 0.100"
    assert list(map(numerals.probability, (0.0994, 0.1, 0.5))) == ["0.099", "0.10", "0.50"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"truth": "Normal", "said": "COVID-19"}, "1 of 2 films labelled normal was called COVID"),
        ({"truth": "Normal", "said": "Normal"}, "1 of 2 films labelled normal was called that."),
        ({"cell": "fp"}, "2 of 4 films not labelled COVID-19 were called COVID-19."),
        ({"cell": "fn"}, "1 of 1 film labelled COVID-19 was not called that."),
        ({"cell": "tn"}, "2 of 4 films not labelled COVID-19 were not called COVID-19."),
        ({}, "5 test films, 1 labelled COVID-19."),
    ],
)
def test_films_of_exclusive_labels_in_words(
    more: dict[str, str], sentence: str, exclusive: tuple[ModelCard, PredictionTable]
) -> None:
    card, table = exclusive
    found = selection.select(Asked(model="made", label="COVID-19", **more), card, table)
    assert selection.in_words(found, card).startswith(sentence)


def test_one_film_in_words(
    made_card: ModelCard, few: PredictionTable, exclusive: tuple[ModelCard, PredictionTable]
) -> None:
    found = selection.select(asked(), made_card, few)
    truths = [selection.truth_in_words(found, made_card, few, row) for row in (0, 2)]
    assert truths == ["With pneumonia", "Without pneumonia"]
    states = [selection.state_in_words(found, made_card, few, row) for row in range(4)]
    assert states == ["Missed", "Found", "Rightly not flagged", "Flagged wrongly"]
    assert [selection.raises_alarm(found, made_card, row) for row in (0, 3)] == [False, True]
    assert selection.score_in_words(found, made_card, 4) == "0.40"
    card, table = exclusive
    found = selection.select(Asked(model="made", label="COVID-19"), card, table)
    assert selection.truth_in_words(found, card, table, 1) == "Normal, called COVID-19"
    assert selection.state_in_words(found, card, table, 1) == "normal 0.10"
    assert selection.state_in_words(found, card, table, 3) == "normal 0.50"
    assert selection.truth_in_words(found, card, table, 2) == "Bacterial pneumonia, called that"
    assert selection.state_in_words(found, card, table, 2) == ""


# --- the page ---


@pytest.fixture(scope="session")
def load_once() -> Callable[..., Classifier]:
    return cache(load_classifier)


@pytest.fixture(autouse=True)
def empty_caches(load_once: Callable[..., Classifier], monkeypatch: pytest.MonkeyPatch) -> None:
    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr(session, "load_classifier", load_once)
    monkeypatch.delenv("CXR_DATA", raising=False)


def change(root: Path, name: str, table: PredictionTable | None = None, **changes: object) -> None:
    """Change the card of a model, and its record with it, which nobody then remembers."""
    st.cache_data.clear()
    path = root / name / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": name} | changes))
    table = table or load_predictions(name, root)
    write_predictions(root / name / "predictions.csv", table)
    card = load_card(name, root)
    report = evaluate_table(
        table, card.operating_points, model=name, exclusive=card.activation == "softmax"
    )
    (root / name / "evaluation.json").write_text(json.dumps(report.to_json()))


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny bundle, with an operating point that misses some films; a second, a replica."""
    root = tmp_path / "models"
    shutil.copytree(tiny_models / "tiny", root / "tiny")
    shutil.copytree(tiny_models / "tiny", root / "zz-copy")
    table = load_predictions("tiny", root)
    middle = float(np.median(table.y_score[table.y_true == 1]))
    change(root, "tiny", operating_points=[middle], cannot_tell=[None])
    training = load_card("tiny", root).training | {"replica": True}
    change(root, "zz-copy", operating_points=[middle], training=training)
    monkeypatch.setenv("CXR_MODELS", str(root))
    return root


@pytest.fixture
def films(phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that holds the computer-made films beside another; returns the former."""
    place = tmp_path / "data" / "phantoms"
    shutil.copytree(phantom_folder, place)
    (tmp_path / "data" / "another").mkdir()
    monkeypatch.setenv("CXR_DATA", str(tmp_path / "data"))
    return place


def open_app(link: str = "") -> AppTest:
    """Open the app on the films page, by a link or by its name in the menu."""
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    page.switch_page("pages/films.py")
    for name, value in parameters(link).items() if link else ():
        page.query_params[name] = value
    return page.run()


def html(page: AppTest) -> str:
    return "\n".join(element.proto.body for element in page.get("html"))


def headline(page: AppTest) -> str:
    """The line in words."""
    check_sound(page)
    return html(page).partition("<h1>")[2].partition("</h1>")[0]


def check_sound(page: AppTest) -> None:
    assert not page.exception
    assert not page.error


def cards(page: AppTest) -> list[str]:
    return [text for text in html(page).split('<div class="cxr-film')[1:]]


def alts(page: AppTest) -> list[str]:
    return [image.proto.imgs[0].alt for image in page.get("image")]


def press(page: AppTest, label: str) -> AppTest:
    next(button for button in page.button if button.label == label).click()
    return page.run()


def address(page: AppTest) -> dict[str, str]:
    return {name: "".join(value) for name, value in page.query_params.items()}


def test_the_page_opens_with_what_was_missed_and_needs_no_film(models: Path) -> None:
    page = open_app()
    (_, _), (fn, tp) = load_evaluation("tiny", models).labels[0].confusion
    assert fn > 0
    assert headline(page).startswith(f"{fn} of {fn + tp} films with pneumonia scored below")
    assert len(cards(page)) == fn
    assert "set the environment variable CXR_DATA" in html(page)
    assert not page.get("image")
    assert "Open film" not in {button.label for button in page.button}
    assert address(page) == {"model": "tiny", "label": "Pneumonia", "cell": "fn"}


@pytest.mark.parametrize("cell", ["fn", "fp", "tp", "tn"])
def test_a_link_shows_the_films_of_its_cell(cell: str, models: Path) -> None:
    page = open_app(f"model=tiny&cell={cell}")
    (tn, fp), (fn, tp) = load_evaluation("tiny", models).labels[0].confusion
    films = {"tn": tn, "fp": fp, "fn": fn, "tp": tp}[cell]
    assert len(cards(page)) == films
    assert f"{films or 'None'} of " in headline(page)
    assert page.selectbox(key="films-choice").value == cell


def test_a_split_that_leaks_is_told_above_its_films_and_lends_no_counts(models: Path) -> None:
    card, table = load_card("tiny", models), load_predictions("tiny", models)
    assert not split_integrity(card, table).leaks
    sound = open_app()
    assert html(sound).count('class="cxr-note"', 0, html(sound).index("</section>")) == 1
    assert sound.selectbox(key="films-choice").options[-1] == f"All films ({len(table.files)})"
    change(models, "tiny", training=card.training | {"in_two_parts": 481})
    leak = split_integrity(load_card("tiny", models), table).sentences[0]
    assert leak.startswith("481 patients or identical films")
    page = open_app()
    check_sound(page)
    above, _, below = html(page).partition('<div class="cxr-film')
    assert below
    assert leak in above
    options = page.selectbox(key="films-choice").options
    assert options == list(selection.CELLS.values())


@pytest.mark.parametrize("link", ["model=../x", "threshold=high", "page=99", "by=sex&group=F"])
def test_a_link_that_cannot_be_followed_is_a_sentence_and_can_be_left(
    link: str, models: Path
) -> None:
    page = open_app(link)
    assert not page.exception
    assert len(page.error) == 1
    assert BAD[link] in page.error[0].value.replace("\\", "")
    press(page, "Leave this link")
    assert headline(page).endswith("Most confidently wrong first.")
    assert address(page) == {"model": "tiny", "label": "Pneumonia", "cell": "fn"}


@pytest.mark.parametrize("bounds", [(0.29, 0.57), (0.07, 0.07), (0.0, 1.0)])
def test_the_score_stays_where_it_was_put(bounds: tuple[float, float], models: Path) -> None:
    page = open_app("cell=all")
    page.slider(key="films-scores").set_value(bounds).run()
    check_sound(page)
    assert page.run().slider(key="films-scores").value == bounds


def test_what_the_reader_changes_stands_in_the_address(models: Path) -> None:
    page = open_app()
    page.selectbox(key="films-choice").set_value("all").run()
    page.selectbox(key="films-order").set_value("low").run()
    page.slider(key="films-scores").set_value((0.2, 0.9)).run()
    page.text_input(key="films-text").set_value("person").run()
    told = address(page)
    assert told == {
        "model": "tiny",
        "label": "Pneumonia",
        "cell": "all",
        "order": "low",
        "low": "0.2",
        "high": "0.9",
        "text": "person",
    }
    link = "&".join(f"{name}={value}" for name, value in told.items())
    assert headline(open_app(link)) == headline(page)
    assert cards(open_app(link)) == cards(page)


def test_another_page_asks_and_the_last_question_stays(models: Path) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    wanted = Asked(model="zz-copy", label="Pneumonia", cell="tp", threshold=0.0)
    page.session_state[selection.NEWS] = wanted
    page.switch_page("pages/films.py").run()
    assert "scored at or above the threshold 0.000: found" in headline(page)
    assert page.selectbox(key="model").value == "zz-copy"
    page.switch_page("pages/models.py").run()
    page.switch_page("pages/films.py").run()
    assert "threshold 0.000" in headline(page)
    press(page, "The model's own rule")
    assert "operating point" in headline(page)
    page.selectbox(key="model").set_value("tiny").run()
    assert address(page)["model"] == "tiny"


def test_a_question_that_no_model_answers_is_a_sentence(models: Path) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    page.session_state[selection.NEWS] = Asked(model="gone", label="Pneumonia")
    page.switch_page("pages/films.py").run()
    assert "no model named 'gone'" in page.error[0].value.replace("\\", "")


def test_pages_are_turned(models: Path) -> None:
    films = PAGE + 3
    table = made_table(np.linspace(0, 1, films), [k % 2 for k in range(films)])
    change(models, "tiny", table, operating_points=[0.5])
    page = open_app("model=tiny&cell=all&order=file")
    assert f"1-{PAGE} of {films}" in html(page)
    assert len(cards(page)) == PAGE
    press(page, "Next")
    assert f"{PAGE + 1}-{films} of {films}" in html(page)
    assert len(cards(page)) == 3
    assert address(page)["page"] == "2"
    assert [button.disabled for button in page.button[:2]] == [False, True]
    page.selectbox(key="films-order").set_value("high").run()
    assert f"1-{PAGE} of {films}" in html(page)


def test_subgroups_are_offered_where_they_are_known(models: Path, few: PredictionTable) -> None:
    assert "films-group" not in {box.key for box in open_app().selectbox}
    change(models, "tiny", few, operating_points=[0.4])
    page = open_app("model=tiny&cell=all")
    page.selectbox(key="films-group").set_value(("sex", "F")).run()
    assert headline(page).startswith("3 test films (sex F), 2 with pneumonia.")
    assert (address(page)["by"], address(page)["group"]) == ("sex", "F")


def test_exclusive_labels_and_their_pairs(
    models: Path, exclusive: tuple[ModelCard, PredictionTable]
) -> None:
    card, table = exclusive
    change(
        models,
        "tiny",
        table,
        labels=card.labels,
        activation="softmax",
        operating_points=[None] * 3,
        cannot_tell=[None] * 3,
    )
    page = open_app("model=tiny&truth=Normal&said=COVID-19")
    assert headline(page).startswith("1 of 2 films labelled normal was called COVID-19.")
    assert page.selectbox(key="films-label").value == "COVID-19"
    page.selectbox(key="films-choice").set_value("fn").run()
    assert headline(page).startswith("1 of 1 film labelled COVID-19 was not called that.")
    page.selectbox(key="films-label").set_value("Normal").run()
    assert headline(page).startswith("1 of 2 films labelled normal was not called that.")
    page.selectbox(key="films-choice").set_value(("Bacterial pneumonia", "COVID-19")).run()
    assert "labelled bacterial pneumonia was called COVID-19" in headline(page)


def test_names_of_films_cannot_become_markup(models: Path) -> None:
    table = replace(made_table([0.9], [1]), files=("<img src=x>.png",), patients=("<b>p</b>",))
    change(models, "tiny", table, operating_points=[0.5])
    said = html(open_app("model=tiny&cell=all&text=<img"))
    assert "<img" not in said
    assert "&lt;b&gt;p&lt;/b&gt;" in said


def test_the_page_opens_without_tensorflow(models: Path, films: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from streamlit.testing.v1 import AppTest\n"
        "page = AppTest.from_file(str(Path('pages/films.py').resolve())).run(timeout=120)\n"
        "assert not page.exception and not page.error\n"
        "assert page.get('image'), 'no film was shown'\n"
        "heavy = {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]


# --- pictures ---


def test_pictures_say_what_they_show(models: Path, films: Path) -> None:
    page = open_app("cell=all")
    table = load_predictions("tiny", models)
    shown = alts(page)
    assert len(shown) == len(cards(page)) == min(PAGE, len(table.files))
    assert all("pneumonia, score 0." in alt for alt in shown)
    assert not any(patient in alt for alt in shown for patient in table.patients)
    assert "No pictures" not in html(page)


@pytest.mark.parametrize("inner", ["", "phantoms"])
def test_the_folder_of_the_films_is_found(
    inner: str, models: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = load_predictions("tiny", models).files
    limit = films.parent / inner
    found = gallery.find_source(limit, files)
    assert found is not None
    assert found.root == films
    assert gallery.find_source(films.parent / "another", files) is None


def test_the_folder_that_holds_most_is_taken(films: Path, models: Path) -> None:
    files = load_predictions("tiny", models).files
    copied = films.parent / "another" / files[0]
    copied.parent.mkdir(parents=True)
    shutil.copy(films / files[0], copied)
    found = gallery.find_source(films.parent, files)
    assert found is not None
    assert found.root == films


def test_films_that_are_elsewhere_are_told_once(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, reason in (("empty", "lie neither in"), ("absent", "which is no folder")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        monkeypatch.setenv("CXR_DATA", str(tmp_path / name))
        page = open_app("cell=all")
        check_sound(page)
        assert html(page).count("No pictures") == 1
        assert reason in html(page)
        assert cards(page)


def test_a_film_that_cannot_be_shown_says_why_in_its_place(models: Path, films: Path) -> None:
    files = load_predictions("tiny", models).files
    (films / files[0]).write_bytes(b"SECRET=swordfish\n")
    (films / files[1]).unlink()
    page = open_app("cell=all&order=file")
    check_sound(page)
    assert "The file is plain text, not a picture" in html(page)
    assert "no such film in the folder" in html(page)
    assert "swordfish" not in html(page)
    assert len(page.get("image")) == len(cards(page)) - 2


@pytest.mark.parametrize(
    "way", ["../../secret.png", "{secret}", "link.png", "folder/secret.png", "a\0b"]
)
def test_no_film_outside_the_data_folder_is_opened(
    way: str, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png_bytes(thorax(64, 64, seed=1)))
    (films / "link.png").symlink_to(secret)
    (films / "folder").symlink_to(tmp_path)
    source = gallery.Source(films.parent, films)
    with pytest.raises(DataError, match="leads out of the data folder"):
        source.path(way.format(secret=secret))


def test_a_record_that_leads_out_shows_no_film(models: Path, films: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png_bytes(thorax(64, 64, seed=1)))
    known = load_predictions("tiny", models).files[0]
    table = replace(made_table([0.9, 0.8], [1, 1]), files=(known, "../../secret.png"))
    change(models, "tiny", table, operating_points=[0.5])
    page = open_app("model=tiny&cell=all")
    assert len(page.get("image")) == 1
    assert "leads out of the data folder" in html(page)
    page.button(key="open-../../secret.png").click().run()
    assert "leads out of the data folder" in page.error[0].value.replace("\\", "")
    assert not page.session_state["session"].films


def test_a_folder_that_is_a_link_out_is_not_searched(
    films: Path, models: Path, tmp_path: Path
) -> None:
    files = load_predictions("tiny", models).files
    (tmp_path / "data" / "another" / "link").symlink_to(films)
    assert gallery.find_source(tmp_path / "data" / "another", files) is None


def test_few_pictures_are_held(models: Path, films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "MOST_PICTURES", 2)
    state = gallery.Gallery()
    paths = [films / file for file in load_predictions("tiny", models).files[:3]]
    for path in (*paths[:2], paths[0], paths[2]):
        assert gallery._thumbnail(state, path).startswith(b"\x89PNG")
    assert list(state.pictures) == [paths[0], paths[2]]
    monkeypatch.setattr(gallery, "load_radiograph", lambda _: pytest.fail("read again"))
    gallery._thumbnail(state, paths[0])


# --- there and back ---


def test_a_film_is_opened_where_the_model_reads_it(models: Path, films: Path) -> None:
    card, table = load_card("tiny", models), load_predictions("tiny", models)
    page = open_app("model=tiny&cell=fn")
    row = rows(asked("fn"), card, table)[0]
    page.button(key=f"open-{table.files[row]}").click().run()
    check_sound(page)
    (film,) = page.session_state["session"].films.values()
    assert film.name == table.files[row].rpartition("/")[2]
    read = film.readings["tiny", card.version].prediction.labels[0]
    assert read.probability == pytest.approx(table.y_score[row, 0], abs=1e-4)
    assert 'aria-label="Answer"' in html(page)
    assert page.selectbox(key="method").value == "grad-cam"
    page.switch_page("pages/films.py").run()
    assert ": missed." in headline(page), "what was asked for stays"


def test_a_film_is_opened_with_its_model_and_finding(
    models: Path,
    films: Path,
    exclusive: tuple[ModelCard, PredictionTable],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = load_predictions("tiny", models).files
    shutil.copytree(models / "tiny", models / "zy-three")
    card, table = exclusive
    of_three = {
        "labels": card.labels,
        "activation": "softmax",
        "operating_points": [None] * 3,
        "cannot_tell": [None] * 3,
    }
    change(models, "zy-three", replace(table, files=known[:5]), **of_three)
    page = open_app("model=zy-three&label=COVID-19&cell=fp")
    monkeypatch.setattr(gallery.st, "switch_page", lambda _: gallery.st.stop())
    press(page, "Open film")
    (digest,) = page.session_state["session"].films
    assert page.session_state["model"] == "zy-three"
    assert page.session_state[f"finding-zy-three-{digest}"] == "COVID-19"


def test_a_replica_opens_no_film_and_says_why(models: Path, films: Path) -> None:
    page = open_app("model=zz-copy&cell=all")
    assert page.get("image")
    assert "zz-copy repeats what others published" in html(page)
    assert "Open film" not in {button.label for button in page.button}


def test_similar_films_are_a_click_away(models: Path, films: Path) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    drop(page, ("film.png", png_bytes(thorax(256, 224, seed=1))))
    (film,) = page.session_state["session"].films.values()
    score = next(iter(film.readings.values())).prediction.labels[0].probability
    table = load_predictions("tiny", models)
    counted = similar_scores(table.y_true[:, 0], table.y_score[:, 0], score)
    offers = [button for button in page.button if button.label == "Show these films"]
    assert len(offers) == (counted.n > 0)
    if offers:
        offers[0].click().run()
        assert address(page)["cell"] == "all"
        found = selection.select(page.session_state["gallery"].asked, load_card("tiny"), table)
        assert len(found.rows) == counted.n


def test_what_is_looked_at_belongs_to_one_reader(models: Path, films: Path) -> None:
    first, second = open_app("cell=all"), open_app()
    assert first.session_state["gallery"] is not second.session_state["gallery"]
    assert first.session_state["gallery"].asked.cell == "all"
    assert second.session_state["gallery"].asked.cell == "fn"
    held = second.session_state["gallery"].pictures
    assert len(held) < len(first.session_state["gallery"].pictures)
    press(first, "Open film")
    press(AppTest.switch_page(second, "pages/read.py").run(), "Try the sample film")
    (sample,) = second.session_state["session"].films.values()
    assert sample.name == session.SAMPLE_NAME
