"""The evaluation page under AppTest: every number on it is the core's, and views keep their word.

The bundles hold made predictions and no weights, so that nothing here loads a network. What
a click on a chart does is in test_browser.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import streamlit as st
from bundles import KNOWN_AUROC, known_table, random_table, table_of, write_bundle
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest

from cxr_core.cards import load_evaluation, load_predictions
from cxr_core.comparison import compare_models
from cxr_core.evaluation import ThresholdReport, at_prevalence, plain, threshold_report
from cxr_core.predictions import subgroups
from cxr_core.ui import dashboard, selection, session
from cxr_core.ui.dashboard.finding import PREVALENCES
from cxr_core.ui.dashboard.findings import GROUP_NUMBERS
from cxr_core.ui.dashboard.subject import FIXED, MOVED
from cxr_core.ui.numerals import title
from cxr_core.ui.selection import Asked

ROOT = Path(__file__).parents[1]
PAGE = str(ROOT / "pages" / "evaluation.py")
MANY = (
    *("Effusion", "Pleural_Thickening", "Mass", "Nodule", "Hernia", "Edema", "Fibrosis"),
    *("Pneumonia", "Pneumothorax", "Atelectasis", "Cardiomegaly", "Consolidation"),
    *("Emphysema", "Infiltration", "No Finding"),
)
KINDS = ("Normal", "Bacterial pneumonia", "Viral pneumonia")
NAMES = ("known", "leaking", "many", "rival", "types")
OWN = {"known": 0.5, "leaking": 0.5, "rival": 0.4}


# --- bundles ---


@pytest.fixture(scope="module")
def made_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finding, of which a second model differs; many, one undecided; a softmax; a leak."""
    root = tmp_path_factory.mktemp("bundles")
    known = known_table()
    write_bundle(root, "known", known, [0.5])
    write_bundle(root, "leaking", known, [0.5], in_two_parts=12)
    noise = np.random.default_rng(5).normal(scale=0.2, size=known.y_score.shape)
    rival = table_of(known.labels, known.y_true, np.clip(known.y_score + noise, 0, 1).round(4))
    write_bundle(root, "rival", rival, [0.4], patients_known=False)
    random, films = np.random.default_rng(7), 240
    many = random_table(
        MANY,
        films,
        view=tuple(random.choice(["PA", "AP"], films)),
        sex=tuple(random.choice(["F", "M", ""], films, p=[0.5, 0.4, 0.1])),
        age=tuple(map(float, random.integers(1, 95, films))),
    )
    points = [0.3, *(0.45,) * 6, *(0.08,) * 7, 0.5]
    points[MANY.index("Hernia")] = None
    write_bundle(root, "many", many, points)
    truth = np.eye(3, dtype=np.int8)[random.integers(0, 3, 150)]
    scores = random.dirichlet([1, 1, 1], 150) + truth
    types = table_of(KINDS, truth, (scores / scores.sum(axis=1, keepdims=True)).round(6))
    write_bundle(root, "types", types, [None] * 3, exclusive=True)
    return root


@pytest.fixture(autouse=True)
def models(made_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    st.cache_data.clear()
    monkeypatch.setenv("CXR_MODELS", str(made_models))
    return made_models


def record_of(root: Path, name: str) -> dict[str, Any]:
    """What `evaluate --json` prints of a model."""
    return load_evaluation(name, root).to_json()


# --- the page, and what stands on it ---


def open_page(name: str, view: str = "Record", label: str | None = None) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=120).run()
    page.selectbox(key="model").set_value(name).run()
    if label is not None:
        page.selectbox(key=f"label-{name}").set_value(label).run()
    if view != "Record":
        show(page, view)
    return check_sound(page)


def show(page: AppTest, view: str) -> AppTest:
    page.segmented_control(key="view").set_value(view).run()
    return check_sound(page)


def check_sound(page: AppTest) -> AppTest:
    assert not page.exception
    assert not page.error
    return page


def html(page: AppTest) -> str:
    return "\n".join(element.proto.body for element in page.get("html"))


def text(page: AppTest) -> str:
    """What stands on the page to be read, without tags."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html(page))).split())


def table_rows(markup: str) -> dict[str, tuple[str, ...]]:
    """The first two cells of every row that names a number: value and interval."""
    rows: dict[str, tuple[str, ...]] = {}
    for name, cells in re.findall(r'<tr data-number="(\w+)">(.*?)</tr>', markup):
        assert name not in rows, f"{name} stands twice"
        rows[name] = tuple(re.findall(r"<td[^>]*>(.*?)</td>", cells))[:2]
    return rows


def numbers(page: AppTest) -> dict[str, tuple[str, ...]]:
    """The table of numbers of a finding."""
    (markup,) = re.findall(r'<table class="cxr-table numbers">.*?</table>', html(page))
    return table_rows(markup)


def numbers_there(page: AppTest) -> dict[str, tuple[str, ...]]:
    """PPV and NPV at another prevalence."""
    (markup,) = re.findall(r'<table class="cxr-table numbers there">.*?</table>', html(page))
    return table_rows(markup)


def written(values: Mapping[str, Any], name: str, digits: int = 3) -> tuple[str, str]:
    """A number of the core's JSON as the page must write it."""
    value, bounds = values[name], values.get(f"{name}_ci")
    if value is None:
        return "not known", ""
    return f"{value:.{digits}f}", "-".join(f"{end:.{digits}f}" for end in bounds or ())


def drawn(page: AppTest, data: str, chart: int = 0) -> list[dict[str, Any]]:
    """What the chart that has data of that name is given."""
    found = [
        dataset.data.data
        for one in page.get("vega_lite_chart")
        for dataset in one.proto.datasets
        if dataset.name == data
    ]
    rows: list[dict[str, Any]] = convert_arrow_bytes_to_pandas_df(found[chart]).to_dict("records")
    return rows


def cells(page: AppTest) -> dict[str, int]:
    return {row["cell"]: row["films"] for row in drawn(page, "cells")}


def has_matrix(page: AppTest) -> bool:
    names = {dataset.name for one in page.get("vega_lite_chart") for dataset in one.proto.datasets}
    return "cells" in names


def move(page: AppTest, threshold: float, name: str = "known", label: str = "Pneumonia") -> AppTest:
    page.slider(key=f"threshold-{name}-{label}").set_value(threshold).run()
    return check_sound(page)


def counts(report: Mapping[str, Any]) -> dict[str, int]:
    (tn, fp), (fn, tp) = report["confusion"]
    return {"tn": tn, "fp": fp, "fn": fn, "tp": tp}


# --- every view of every model ---


@pytest.mark.parametrize("name", NAMES)
def test_every_view_runs_for_every_model(name: str) -> None:
    page = open_page(name)
    views = list(page.segmented_control(key="view").options)
    assert ("All findings" in views) == ("Groups" in views) == (name == "many")
    assert {"Record", "Compare", "Training", "Split", "Files", "Other scores"} <= set(views)
    for view in views:
        show(page, view)
        assert page.segmented_control(key="view").value == view
    assert set(views) <= set(dashboard.VIEWS)


def test_a_view_that_the_next_model_lacks_gives_way() -> None:
    page = open_page("many", "Groups")
    page.selectbox(key="model").set_value("known").run()
    check_sound(page)
    assert page.segmented_control(key="view").value == "Record"


def test_the_page_opens_without_tensorflow() -> None:
    script = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"page = AppTest.from_file({PAGE!r}).run(timeout=120)\n"
        "for view in list(page.segmented_control(key='view').options):\n"
        "    page.segmented_control(key='view').set_value(view).run(timeout=120)\n"
        "    assert not page.exception and not page.error, view\n"
        "heavy = {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


# --- the closed form ---


def test_films_made_by_hand_come_out_as_they_were_made() -> None:
    page = open_page("known")
    assert cells(page) == {"tn": 215, "fp": 19, "fn": 30, "tp": 360}
    assert numbers(page)["auroc"][0] == f"{KNOWN_AUROC:.3f}" == "0.994"
    assert numbers(page)["sensitivity"][0] == "0.923"  # 360 of 390
    assert numbers(page)["specificity"][0] == "0.919"  # 215 of 234
    told = text(page)
    assert "624 films of 312 patients, 62.5 % with pneumonia, operating point 0.50." in told
    # Score intervals by statsmodels' proportion_confint(215, 234, method="wilson").
    assert "Of 234 films without pneumonia, 215 were cleared (91.9 %, 87.7-94.7)." in told
    assert "Of 390 films with pneumonia, 360 were flagged (92.3 %, 89.2-94.6)." in told
    assert "AUROC 0.994" in told
    assert "No patient and no identical film lies on both sides of the split." in told


@pytest.mark.parametrize(
    ("threshold", "matrix"),
    [
        (0.8, {"tn": 234, "fp": 0, "fn": 30, "tp": 360}),
        (0.25, {"tn": 215, "fp": 19, "fn": 0, "tp": 390}),
        (0.7, {"tn": 215, "fp": 19, "fn": 30, "tp": 360}),  # a score at the threshold is flagged
        (0.2, {"tn": 0, "fp": 234, "fn": 0, "tp": 390}),
        (0.95, {"tn": 234, "fp": 0, "fn": 390, "tp": 0}),
    ],
)
def test_the_threshold_moves_sentences_matrix_marks_and_table(
    threshold: float, matrix: dict[str, int]
) -> None:
    page = move(open_page("known"), threshold)
    assert cells(page) == matrix
    found, cleared = matrix["tp"], matrix["tn"]
    told = text(page)
    assert re.search(f"Of 390 films with pneumonia, {found} (was|were) flagged", told)
    assert re.search(f"Of 234 films without pneumonia, {cleared} (was|were) cleared", told)
    assert f"You are trying threshold {threshold:.2f}; the operating point is 0.50." in told
    assert numbers(page)["sensitivity"][0] == f"{found / 390:.3f}"
    assert numbers(page)["auroc"][0] == "0.994", "no threshold moves the area"
    assert drawn(page, "threshold") == [{"x": threshold}] * 1
    labels = {button.key: button.label for button in page.button}
    assert labels["cell-fn"] == f"Missed: {matrix['fn']}"


def test_moving_back_restores_the_record() -> None:
    page = open_page("known")
    before = (html(page), cells(page))
    assert (html(move(page, 0.8)), cells(page)) != before
    assert (html(move(page, 0.5)), cells(page)) == before
    # Steps of 0.01 in the browser do not always land on what Python would write.
    move(page, 0.1 + 0.4 + 1e-17)
    assert html(page) == before[0]


def test_a_threshold_stays_while_other_views_and_models_are_looked_at() -> None:
    page = move(open_page("known"), 0.8)
    show(page, "Split")
    assert cells(show(page, "Record"))["fp"] == 0
    page.selectbox(key="model").set_value("rival").run()
    assert "You are trying" not in text(page)
    page.selectbox(key="model").set_value("known").run()
    assert cells(check_sound(page))["fp"] == 0


# --- every number is the core's ---


@pytest.mark.parametrize(
    ("name", "label"),
    [("known", "Pneumonia"), ("rival", "Pneumonia"), ("leaking", "Pneumonia")]
    + [("many", label) for label in ("Effusion", "Pleural_Thickening", "No Finding")]
    + [("types", label) for label in KINDS],
)
def test_the_record_equals_the_json(name: str, label: str, models: Path) -> None:
    page = open_page(name, label=None if label == "Pneumonia" else label)
    report = record_of(models, name)["labels"][label]
    found = numbers(page)
    assert set(found) == {*MOVED, *FIXED}
    for number, cell in found.items():
        assert cell == written(report, number), number
    told = text(page)
    for area in ("auroc", "auprc"):
        value, bounds = written(report, area)
        assert f"{area.upper()} {value} ({bounds})" in told
    assert f"ECE {report['ece']:.3f}, Brier {report['brier']:.3f}" in told
    assert f"{report['n']:,} films of " in told
    if has_matrix(page) and name != "types":
        assert cells(page) == counts(report)
    bins = drawn(page, "groups")
    assert [(row["x"], row["y"], row["films"]) for row in bins] == [
        (one["mean_score"], one["observed"], one["n"]) for one in report["calibration"]
    ]


@pytest.mark.parametrize("threshold", [0.0, 0.17, 0.62, 1.0])
def test_a_tried_threshold_shows_the_cores_report_of_it(threshold: float, models: Path) -> None:
    page = move(open_page("rival"), threshold, "rival")
    table = load_predictions("rival", models)
    at = plain(threshold_report(table.y_true[:, 0], table.y_score[:, 0], threshold))
    report, found = record_of(models, "rival")["labels"]["Pneumonia"], numbers(page)
    assert {name: found[name] for name in MOVED} == {name: written(at, name) for name in MOVED}
    assert {name: found[name] for name in FIXED} == {name: written(report, name) for name in FIXED}
    assert cells(page) == counts(at)
    assert [row["x"] for row in drawn(page, "threshold")] == [threshold]


def there(at: ThresholdReport, prevalence: float) -> dict[str, tuple[str, str]]:
    pairs = [
        at_prevalence(sensitivity, specificity, prevalence)
        for sensitivity, specificity in zip(
            (at.sensitivity.value, at.sensitivity.low, at.sensitivity.high),
            (at.specificity.value, at.specificity.low, at.specificity.high),
            strict=True,
        )
    ]
    ppv, npv = zip(*pairs, strict=True)
    return {
        name: (f"{value:.3f}", f"{low:.3f}-{high:.3f}")
        for name, (value, low, high) in (("ppv", ppv), ("npv", npv))
    }


def test_ppv_and_npv_at_another_prevalence_are_by_bayes_rule(models: Path) -> None:
    page = open_page("known")
    one = load_evaluation("known", models).labels[0]
    assert numbers_there(page) == there(one, one.prevalence)
    # Where the prevalence is that of the films, the table above says the same.
    assert numbers_there(page)["ppv"][0] == numbers(page)["ppv"][0]
    slider = page.select_slider(key="prevalence-known-Pneumonia")
    slider.set_value(PREVALENCES[4]).run()
    # By hand: of 1,000 films 20 have it, 18.46 are flagged, beside 79.57 of 980.
    assert numbers_there(page)["ppv"][0] == f"{18.461538 / (18.461538 + 79.572650):.3f}"
    assert numbers_there(page) == there(one, 0.02)
    move(page, 0.8)
    table = load_predictions("known", models)
    tried = threshold_report(table.y_true[:, 0], table.y_score[:, 0], 0.8)
    assert numbers_there(page) == there(tried, 0.02)
    assert numbers_there(page)["ppv"][0] == "1.000", "no false alarm above 0.7"


def test_the_table_of_findings_and_every_small_matrix_equal_the_json(models: Path) -> None:
    page = open_page("many", "All findings")
    report = record_of(models, "many")
    table = page.dataframe[0].value
    assert list(table["Finding"]) == [label.replace("_", " ") for label in MANY]
    for (_, row), (label, expected) in zip(table.iterrows(), report["labels"].items(), strict=True):
        assert row["Films with it"] == expected["positives"]
        for name in (*MOVED, *FIXED):
            shown = row[title(name)]
            if expected[name] is None:
                assert np.isnan(shown), (label, name)
            else:
                assert shown == expected[name], (label, name)
    figures = re.findall(r"<figure><figcaption>(.*?)</figcaption>(.*?)</figure>", html(page))
    assert [name for name, _ in figures] == [label.replace("_", " ") for label in MANY]
    for (_, markup), expected in zip(figures, report["labels"].values(), strict=True):
        found = [int(cell) for cell in re.findall(r"<td>(\d+)</td>", markup)]
        if expected["confusion"] is None:
            assert "no operating point" in markup
        else:
            assert found == [count for row in expected["confusion"] for count in row]
    assert "Hernia" in [name for name, markup in figures if "no operating point" in markup]
    told = text(page)
    for kind in ("macro", "micro"):
        for name in ("auroc", "auprc", "f1"):
            said = f"{kind} {name.upper()} {report[kind][name]:.3f}"
            assert said.lower() in told.lower()


@pytest.mark.parametrize("label", ["Effusion", "Hernia"])
@pytest.mark.parametrize("number", ["auroc", "npv"])
def test_groups_equal_the_cores(label: str, number: str, models: Path) -> None:
    page = open_page("many", "Groups", label)
    page.segmented_control(key="number").set_value(number).run()
    table = load_predictions("many", models)
    point = load_evaluation("many", models).label(label).operating_point
    expected = {
        f"{by.capitalize()}: {name}": one
        for by in ("view", "sex", "age")
        for name, one in subgroups(table, label, point, by).items()
    }
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', html(page))
    assert [name for name, _ in rows] == list(expected)
    for (_, markup), one in zip(rows, expected.values(), strict=True):
        found = [tuple(cell.split("<br>")) for cell in re.findall(r"<td[^>]*>(.*?)</td>", markup)]
        assert found[:2] == [(str(one.n),), (str(one.positives),)]
        for (value, bounds), name in zip(found[2:], GROUP_NUMBERS[:3], strict=True):
            assert (value, re.sub("<[^>]+>", "", bounds)) == written(plain(one), name, 2)
    forest = {row["group"]: row for row in drawn(page, "groups")}
    for name, one in expected.items():
        interval = getattr(one, number)
        for key, value in (("value", interval.value), ("low", interval.low)):
            assert forest[name][key] == value or (value is None and not forest[name][key] > 0)
    small = [name for name, one in expected.items() if any("Only" in each for each in one.notes)]
    assert [name for name, row in forest.items() if row["few"]] == small
    assert f"{number.upper()} by group" in text(page)


def test_two_models_are_compared_as_the_core_compares_them(models: Path) -> None:
    page = open_page("known", "Compare")
    page.selectbox(key="other-known").set_value("rival").run()
    tables = [load_predictions(name, models) for name in ("known", "rival")]
    found = compare_models(*tables, "Pneumonia", (0.5, 0.4)).to_json()
    rows = {
        name: re.findall(r"<td[^>]*>(.*?)</td>", cells)
        for name, cells in re.findall(r'<tr data-number="(\w+)">(.*?)</tr>', html(page))
    }
    assert list(rows) == ["auroc", "sensitivity", "specificity", "accuracy"]

    def cell(values: Mapping[str, Any], name: str) -> str:
        value, bounds = written(values, name)
        return f"{value}<br><small>{bounds}</small>"

    areas = found["auroc"]
    assert rows["auroc"][:3] == [cell(areas, side) for side in ("a", "b", "difference")]
    for name, pair in (
        ("sensitivity", "with_finding"),
        ("specificity", "without_finding"),
        ("accuracy", "all_films"),
    ):
        difference = found["a"][name] - found["b"][name]
        assert rows[name][:2] == [cell(found[side], name) for side in ("a", "b")]
        assert rows[name][2] == f"{difference:.3f}<br><small></small>"
        p_value = found[pair]["p_value"]
        assert rows[name][3] == ("&lt; 0.001" if p_value < 0.001 else f"{p_value:.3f}")
        right = found[pair]
        assert (
            f"both {right['both_right']:,}, only known {right['only_a']:,}, only rival "
            f"{right['only_b']:,}, neither {right['neither']:,}"
        ) in text(page)
    assert "624 films that both scored, 390 with pneumonia; 0 only known scored" in text(page)
    assert "known ranks these films better than rival" in text(page)


def test_a_model_that_leaks_is_named_in_a_comparison() -> None:
    page = open_page("known", "Compare")
    page.selectbox(key="other-known").set_value("leaking").run()
    check_sound(page)
    assert "The split of leaking leaks, which flatters it." in text(page)
    assert "cannot be told apart" in text(page), "the two have the same scores"


def test_models_that_know_other_films_are_not_compared() -> None:
    page = open_page("many", label="Pneumonia")
    page.segmented_control(key="view").set_value("Compare").run()
    assert not page.exception
    # The films of both are called alike, but are others.
    assert "The tables differ about what is true of" in page.error[0].value
    assert show(page, "Split"), "another view is a click away"


def test_a_finding_that_nobody_else_answers_is_not_compared() -> None:
    told = text(open_page("many", "Compare", "Hernia"))
    assert "No other model here has scored hernia on any of these films." in told


# --- one answer of several ---


def test_the_matrix_of_one_answer_equals_the_json(models: Path) -> None:
    page = open_page("types")
    matrix = record_of(models, "types")["matrix"]
    assert cells(page) == {
        f"{truth}>{called}": matrix[row][column]
        for row, truth in enumerate(KINDS)
        for column, called in enumerate(KINDS)
    }
    assert not page.slider, "no threshold decides"
    assert "cell-fn" not in {button.key for button in page.button}


def test_a_pair_can_be_opened_without_a_mouse(asked: list[Asked], models: Path) -> None:
    page = open_app()
    page.selectbox(key="model").set_value("types").run()
    cell = "Normal>Viral pneumonia"
    films = record_of(models, "types")["matrix"][0][2]
    listed = page.selectbox(key="cell-list-types")
    assert f"Normal, called Viral pneumonia: {films}" in listed.options
    listed.set_value(cell).run()
    check_sound(page)
    assert asked == [Asked(model="types", label="Normal", truth="Normal", said="Viral pneumonia")]


# --- from a cell to its films ---


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """The films that were asked for."""
    seen: list[Asked] = []
    ask = selection.ask
    monkeypatch.setattr(selection, "ask", lambda wanted: (seen.append(wanted), ask(wanted)))
    return seen


def open_app() -> AppTest:
    """The page within the app, from which others can be reached."""
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    page.switch_page("pages/evaluation.py")
    return page.run()


@pytest.mark.parametrize("cell", ["fn", "fp", "tp", "tn"])
def test_a_cell_leads_to_its_films(cell: str, asked: list[Asked]) -> None:
    page = open_app()
    assert page.selectbox(key="model").value == "known"
    page.button(key=f"cell-{cell}").click().run()
    check_sound(page)
    assert asked == [Asked(model="known", label="Pneumonia", cell=cell)]
    assert page.selectbox(key="films-choice").value == cell


def test_a_cell_leads_to_the_films_of_the_threshold_that_is_tried(asked: list[Asked]) -> None:
    page = move(open_app(), 0.25)
    page.button(key="cell-tp").click().run()
    check_sound(page)
    assert asked == [Asked(model="known", label="Pneumonia", cell="tp", threshold=0.25)]
    assert "390 of 390 films with pneumonia scored at or above the threshold 0.25" in text(page)


def test_the_cells_of_a_finding_lead_to_that_finding(asked: list[Asked]) -> None:
    page = open_app()
    page.selectbox(key="model").set_value("many").run()
    page.selectbox(key="label-many").set_value("Mass").run()
    page.button(key="cell-fp").click().run()
    assert asked == [Asked(model="many", label="Mass", cell="fp")]


# --- a split that leaks ---


def test_no_matrix_is_drawn_of_a_split_that_leaks() -> None:
    page = open_page("leaking")
    assert not has_matrix(page)
    assert "Not drawn, because the split leaks. 12 patients or identical films" in text(page)
    assert not [button for button in page.button if (button.key or "").startswith("cell")]
    show(page, "Split")
    assert "<h1>This split leaks.</h1>" in html(page)
    assert "12 patients or identical films lie in more than one of training" in text(page)


def test_nor_are_the_small_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path, "many", random_table(MANY, 60), [0.5] * 15, in_two_parts=1)
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    page = AppTest.from_file(PAGE, default_timeout=120).run()
    show(page, "All findings")
    assert "<figure>" not in html(page)
    assert "because the split leaks" in text(page)


def test_a_sound_split_says_so() -> None:
    told = text(open_page("rival", "Split"))
    assert "No identical film lies on both sides of the split." in told
    assert "The data names no patients" in told
    assert "1,000 films trained it, 200 chose its weights and thresholds, 624 films" in told


# --- where nothing decides ---


def test_a_finding_without_operating_point_decides_nothing_until_the_slider_moves(
    models: Path,
) -> None:
    page = open_page("many", label="Hernia")
    assert not has_matrix(page)
    assert "Hernia has no operating point, so no film is flagged or cleared." in text(page)
    assert numbers(page)["sensitivity"] == ("not known", "")
    table = load_predictions("many", models)
    column = MANY.index("Hernia")
    move(page, 0.4, "many", "Hernia")
    at = plain(threshold_report(table.y_true[:, column], table.y_score[:, column], 0.4))
    assert cells(page) == counts(at)
    assert "You are trying threshold 0.40; this finding has none of its own." in text(page)
    show(page, "Files")
    assert "also show threshold 0.40" in text(page)


def test_a_label_that_means_that_all_is_well_is_called_not_flagged(models: Path) -> None:
    page = open_page("many", label="No Finding")
    told = text(page)
    assert "Called normal:" in told and "cleared" not in told
    assert "without no finding" not in told
    assert not [button for button in page.button if button.label.startswith("False alarms")]


def test_a_finding_of_one_class_says_what_it_cannot_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(("Mass",), np.zeros((5, 1), int), np.array([[0.1], [0.2], [0.7], [0.4], [0]]))
    write_bundle(tmp_path, "empty", table, [0.5])
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    page = check_sound(AppTest.from_file(PAGE, default_timeout=120).run())
    assert numbers(page)["auroc"] == numbers(page)["sensitivity"] == ("not known", "")
    assert "No film with mass was scored." in text(page)
    assert "AUROC and AUPRC cannot be computed" in text(page)
    assert numbers_there(page) == {}
    for view in page.segmented_control(key="view").options:
        show(page, view)


def test_small_operating_points_take_small_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = np.array([[0.001], [0.004], [0.006], [0.3]])
    table = table_of(("Hernia",), np.array([[0], [0], [1], [1]]), scores)
    write_bundle(tmp_path, "rare", table, [0.0052])
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    page = check_sound(AppTest.from_file(PAGE, default_timeout=120).run())
    slider = page.slider(key="threshold-rare-Hernia")
    assert (slider.value, slider.step) == (0.005, 0.001)
    assert "operating point 0.005." in text(page)
    assert cells(page) == {"tn": 2, "fp": 0, "fn": 0, "tp": 2}
    move(page, 0.004, "rare", "Hernia")
    assert cells(page)["fp"] == 1
    assert "You are trying threshold 0.004; the operating point is 0.005." in text(page)


# --- trainings ---


def test_trainings_are_those_of_the_history(models: Path) -> None:
    page = open_page("known", "Training")
    page.multiselect(key="trainings-known").set_value(["known", "types"]).run()
    check_sound(page)
    rows = drawn(page, "epochs")
    assert [row["value"] for row in rows if row["model"] == "types"] == [0.6, 0.4, 0.3]
    assert [row["epoch"] for row in rows if row["chosen"]] == [2, 2]
    assert len(page.get("vega_lite_chart")) == 4
    page.multiselect(key="trainings-known").set_value([]).run()
    assert "Choose a model" in text(check_sound(page))


# --- files to take away ---


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], bytes]]:
    """What each download button would make, by its label."""
    found: dict[str, Callable[[], bytes]] = {}
    button = DeltaGenerator.download_button

    def note(self: DeltaGenerator, label: str, data: Any, *args: Any, **more: Any) -> bool:
        found[label] = data
        return button(self, label, data, *args, **more)

    monkeypatch.setattr(DeltaGenerator, "download_button", note)
    return found


@pytest.mark.parametrize("name", ["known", "many", "types"])
def test_the_numbers_to_take_away_are_the_cores(
    name: str, offered: dict[str, Callable[[], bytes]], models: Path
) -> None:
    open_page(name, "Files")
    report = record_of(models, name)
    assert json.loads(offered["Numbers, JSON"]()) == report
    rows = list(csv.DictReader(StringIO(offered["Numbers, CSV"]().decode())))
    found = {(row["label"], row["number"]): row for row in rows}
    for label, values in report["labels"].items():
        row = found[label, "auroc"]
        assert float(row["value"]) == values["auroc"]
        assert [float(row["low"]), float(row["high"])] == values["auroc_ci"]


def test_the_report_to_print_is_a_pdf_and_the_figures_are_png(
    offered: dict[str, Callable[[], bytes]], tmp_path: Path
) -> None:
    page = move(open_page("known"), 0.8)
    show(page, "Files")
    assert "also show threshold 0.80, which you are trying" in text(page)
    assert offered["Evaluation report, PDF"]().startswith(b"%PDF")
    path = tmp_path / "figures.zip"
    path.write_bytes(offered["Figures, PNG"]())
    with ZipFile(path) as archive:
        names = archive.namelist()
        assert {"known-Pneumonia-roc.png", "known-Pneumonia-confusion.png"} <= set(names)
        assert all(archive.read(name).startswith(b"\x89PNG") for name in names)
    offered.clear()
    move(show(page, "Record"), 0.5)
    show(page, "Files")
    assert "you are trying" not in text(page)


def test_a_split_that_leaks_leaves_as_numbers_only(
    offered: dict[str, Callable[[], bytes]],
) -> None:
    page = open_page("leaking", "Files")
    assert set(offered) == {"Numbers, CSV", "Numbers, JSON"}
    assert "no report to print" in text(page)


# --- another system's scores ---

TRUTH = "image,Mass\n" + "".join(f"f{k}.png,{k % 2}\n" for k in range(40))
SCORES = "image,Mass\n" + "".join(f"f{k}.png,{0.02 * k if k % 2 else 0.3}\n" for k in range(40))


def bring(page: AppTest, scores: str, truth: str, name: str = "rival.csv") -> AppTest:
    show(page, "Other scores")
    page.file_uploader(key="outside-scores").set_value((name, scores.encode(), "text/csv"))
    page.file_uploader(key="outside-labels").set_value(("truth.csv", truth.encode(), "text/csv"))
    page.run()
    next(button for button in page.button if button.label == "Evaluate").click()
    return page.run()


def of_theirs(page: AppTest, view: str) -> AppTest:
    """Choose what is shown of the scores from elsewhere."""
    control = next(one for one in page.segmented_control if one.key == "outside-view")
    return check_sound(control.set_value(view).run())


def two_findings(first: str, second: str) -> tuple[str, str]:
    """Scores and truth of 40 films."""
    title = f"image,{first},{second}\n"
    scores = "".join(f"f{k}.png,{k % 7 / 10},{k % 9 / 10}\n" for k in range(40))
    truth = "".join(f"f{k}.png,{k % 2},{k // 2 % 2}\n" for k in range(40))
    return title + scores, title + truth


@pytest.fixture
def outside_page() -> Iterator[AppTest]:
    yield bring(open_page("known"), SCORES, TRUTH)


def test_scores_from_elsewhere_are_evaluated_as_any_others(
    outside_page: AppTest, offered: dict[str, Callable[[], bytes]]
) -> None:
    page = of_theirs(outside_page, "Files")
    report = json.loads(offered["Numbers, JSON"]())
    assert "Evaluation report, PDF" not in offered, "there are no model facts to print"
    page = of_theirs(page, "Record")
    one = report["labels"]["Mass"]
    # Odd films have it and score 0.02 to 0.78; those from 0.5 on are 25 to 39: eight of twenty.
    assert one["confusion"] == [[20, 0], [12, 8]]
    # Of those with it, 12 score above the 0.3 of all others, and film 15 just that.
    assert one["auroc"] == pytest.approx(12.5 / 20)
    assert cells(page) == counts(one)
    assert numbers(page) == {name: written(one, name) for name in (*MOVED, *FIXED)}
    assert "rival. " in text(page)
    assert "0.5 is assumed" in text(page)
    assert "nothing is known of what trained the system" in text(page)
    assert not [button for button in page.button if (button.key or "").startswith("cell")]


def test_scores_from_elsewhere_are_compared_with_a_model_here() -> None:
    """Under names without their folder, and called as the model itself is."""
    record = session.record(next(card for card in session.cards() if card.name == "known"))
    table = record.table
    names = [file.split("/")[-1] for file in table.files]
    truth = "image,Pneumonia\n" + "".join(
        f"{name},{one[0]}\n" for name, one in zip(names, table.y_true, strict=True)
    )
    scores = "image,Pneumonia\n" + "".join(
        f"{name},{one[0]}\n" for name, one in zip(names, table.y_score, strict=True)
    )
    page = of_theirs(bring(open_page("known"), scores, truth, "known.csv"), "Compare")
    page.selectbox(key=next(box.key for box in page.selectbox if box.label == "Compared with"))
    assert f"{len(names):,} films that both scored" in html(page)
    assert "known (uploaded)" in html(page)


def test_groups_of_scores_from_elsewhere(outside_page: AppTest) -> None:
    views = next(one for one in outside_page.segmented_control if one.key == "outside-view")
    assert "Groups" not in views.options, "these files tell of no group"
    truth = "image,Mass,view\n" + "".join(
        f"f{k}.png,{k % 2},{'PA' if k < 20 else 'AP'}\n" for k in range(40)
    )
    page = of_theirs(bring(open_page("known"), SCORES, truth), "Groups")
    assert "AP" in html(page) and "PA" in html(page)


def test_a_file_may_be_called_as_a_model_is(outside_page: AppTest) -> None:
    key = next(one.key for one in outside_page.slider)
    assert key != "threshold-rival-Mass"
    outside_page.slider(key=key).set_value(0.2).run()
    check_sound(outside_page)
    show(outside_page, "Record")
    outside_page.selectbox(key="model").set_value("rival").run()
    assert "You are trying" not in text(check_sound(outside_page))


def test_a_second_upload_replaces_the_first_whatever_its_findings(outside_page: AppTest) -> None:
    page = bring(outside_page, *two_findings("Edema", "Nodule"))
    check_sound(page)
    boxes = [box for box in page.selectbox if box.label == "Finding"]
    assert [box.options for box in boxes] == [["Edema", "Nodule"]]
    boxes[0].set_value("Nodule").run()
    page = bring(page, *two_findings("Hernia", "Mass"))
    check_sound(page)
    boxes = [box for box in page.selectbox if box.label == "Finding"]
    assert boxes[0].options == ["Hernia", "Mass"]
    page = of_theirs(page, "All findings")
    assert "<figure><figcaption>Hernia</figcaption>" in html(page)


@pytest.mark.parametrize(
    ("scores", "truth", "told"),
    [
        ("image,Mass\na.png,0.5\n", "image,Mass\nb.png,1\n", "a.png"),
        ("image,Mass\na.png,0.5\n", "image,Edema\na.png,1\n", "Edema"),
        ("not a table", TRUTH, "rival"),
    ],
)
def test_scores_that_cannot_be_used_are_a_sentence(scores: str, truth: str, told: str) -> None:
    page = bring(open_page("known"), scores, truth)
    assert not page.exception
    (error,) = page.error
    assert told in error.value.replace("\\", "")
    assert "outside" not in page.session_state


def test_scores_from_elsewhere_belong_to_one_reader(outside_page: AppTest) -> None:
    other = open_page("known", "Other scores")
    assert "cxr-summary" not in html(other)
    assert "outside" not in other.session_state
    assert "cxr-summary" in html(outside_page)


# --- what must not happen ---


def test_names_of_files_cannot_become_markup() -> None:
    page = bring(open_page("known"), SCORES, TRUTH, "<img src=x onerror=alert(1)>.csv")
    assert not page.exception
    assert "<img" not in html(page)


def test_every_chart_says_in_words_what_it_shows() -> None:
    for name, view in (("known", "Record"), ("types", "Record"), ("many", "Groups")):
        page = open_page(name, view)
        charts = page.get("vega_lite_chart")
        words = re.findall(r'<p class="cxr-unseen">(.*?)</p>', html(page))
        assert len(charts) == len(words) > 0
        assert all(one.proto.alt for one in charts)
        assert all(re.search(r"\d", told) for told in words)


def test_a_record_that_is_damaged_is_a_sentence(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models / "known", tmp_path / "known")
    (tmp_path / "known" / "evaluation.json").write_text("{}")
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    page = AppTest.from_file(PAGE, default_timeout=120).run()
    assert not page.exception
    assert "is not an evaluation" in page.error[0].value
