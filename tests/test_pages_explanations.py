"""The explanations view of the evaluation page: verdicts in words, curves, maps when asked for."""

import hashlib
import json
import os
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import streamlit as st
from bundles import known_table, random_table, write_bundle
from streamlit.testing.v1 import AppTest
from test_explanations import AROUND, BELOW, FULL, cascade, curves, gain, localised, report

from cxr_core.cards import load_card
from cxr_core.explanations import ExplanationReport, Localisation
from cxr_core.figures import PALETTES
from cxr_core.ranking import NO_INTERVAL, Interval
from cxr_core.ui import charts, session

PAGE = str(Path(__file__).parents[1] / "pages" / "evaluation.py")
DARK = PALETTES["dark"]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Two models without weights, neither of them measured."""
    st.cache_data.clear()
    root = tmp_path / "models"
    write_bundle(root, "known", known_table(), [0.5])
    write_bundle(root, "many", random_table(("Mass", "Nodule"), 60), [0.5, 0.5])
    monkeypatch.setenv("CXR_MODELS", str(root))
    monkeypatch.delenv("CXR_DATA", raising=False)
    return root


def record(root: Path, told: ExplanationReport, name: str = "known") -> None:
    (root / name / "explanations.json").write_text(json.dumps(told.to_json()))


def open_view(name: str = "known") -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=120).run()
    if any(box.key == "model" for box in page.selectbox):  # there is more than one
        page.selectbox(key="model").set_value(name).run()
    page.segmented_control(key="view").set_value("Explanations")
    page.run()
    assert not page.exception, page.exception
    return page


def words(page: AppTest) -> str:
    return "\n".join(element.proto.body for element in page.get("html"))


def test_where_nobody_measured_the_command_is_told(models):
    told = words(open_view())

    assert "python -m cxr_core faithfulness --model known --data FOLDER" in told
    assert "<table" not in told


def test_a_method_fit_to_use_and_one_that_is_not_are_told_apart_in_words(models):
    bad = replace(
        FULL,
        method="layer-cam",
        localisation=localised(BELOW, hits=2),
        faithfulness=curves(deletion=gain(over_random=BELOW)),
    )
    record(models, report(FULL, bad))

    told = words(open_view())

    assert "Faithful to the score: Grad-CAM. Fit to localise: Grad-CAM." in told
    row = told.partition('data-method="layer-cam"')[2]
    assert "do not use to localise" in row and "<strong>do not" not in row
    assert "no better than chance" in row
    assert "Hits 2 of 31 films; a fixed point hits 12." in row
    good = told.partition('data-method="grad-cam"')[2].partition("data-method")[0]
    assert "<strong>points</strong>" in good and "<strong>faithful</strong>" in good
    assert "20 of 31" in good and "centre 4, fixed point 12" in good
    assert "IoU 0.30" in good and "fixed box 0.20" in good
    assert "+0.50" in good and "0.10 to 0.90" in good


@pytest.mark.parametrize(
    ("found", "why"),
    [(None, "no boxes"), (Localisation(boxes=3, films=3), "3 of at least 20 boxes")],
)
def test_too_few_boxes_are_told(models, found, why):
    record(models, report(replace(FULL, localisation=found, repeatability=None)))

    told = words(open_view())

    assert f"Where they point cannot be assessed ({why})." in told
    assert "not measured" in told, "no sister was compared"


def test_another_version_is_told(models):
    record(models, replace(report(FULL), version="0"))

    assert "Measured on version 0; this is 1: measure it again." in words(open_view())


def test_other_weights_of_the_same_version_are_told(models):
    record(models, report(FULL))
    (models / "known" / "model.keras").write_bytes(b"others")

    assert "Measured on other weights than these: measure it again." in words(open_view())


def test_under_a_map_stands_no_verdict_on_other_weights(models):
    def told(of: ExplanationReport | None) -> str:
        if of is not None:
            record(models, of)
            path = models / "known" / "explanations.json"
            os.utime(path, ns=(0, next(moments)))  # clocks of file systems are coarse
        return session.verdict(card, "Pneumonia", "grad-cam")

    card, moments = load_card("known", models), count(10**18, 10**9)
    outdated = "Not tested for this version of the model."

    assert told(None) == "Not tested for this model."
    assert told(report(FULL)).startswith("Points (hits 20 of 31 films")
    assert told(replace(report(FULL), version="0")) == outdated
    assert told(report(replace(FULL, localisation=localised(BELOW, hits=1)))).startswith("Do not")
    (models / "known" / "model.keras").write_bytes(b"weights")
    assert told(None) == outdated
    own = hashlib.sha256(b"weights").hexdigest()
    assert told(replace(report(FULL), digest=own)).startswith("Points")


def test_empty_maps_of_shuffled_weights_are_told(models):
    empty = cascade(0.0)
    counted = replace(empty.stages[-1], similarity=NO_INTERVAL, flat=6)
    other = replace(FULL, method="occlusion")
    record(
        models,
        report(
            replace(FULL, randomisation=empty),
            replace(other, randomisation=replace(empty, stages=(*empty.stages[:1], counted))),
        ),
    )

    told = words(open_view())

    for method in ("grad-cam", "occlusion"):
        row = told.partition(f'data-method="{method}"')[2].partition("data-method")[0]
        assert "The maps of shuffled weights are empty." in row
        assert "depends on the weights" not in row


def test_several_findings_have_a_table_of_methods_and_findings(models):
    entries = (
        replace(FULL, label="Mass"),
        replace(FULL, label="Nodule", method="occlusion", localisation=None),
    )
    record(models, report(*entries), "many")

    told = words(open_view("many"))

    table = told.partition('data-label="Nodule"')[2].partition("</tr>")[0]
    assert table.index("not measured") < table.index("<strong>faithful</strong>")


def test_a_finding_that_was_left_out_is_told(models):
    record(models, report(replace(FULL, label="Nodule")), "many")

    assert "Nothing was measured for mass." in words(open_view("many"))


def test_a_damaged_record_is_one_sentence(models):
    (models / "known" / "explanations.json").write_text("{")

    page = open_view()

    assert "cannot be read" in page.error[0].value


def test_without_a_folder_there_is_no_button(models):
    page = open_view()

    assert "CXR_DATA" in words(page)
    assert "Draw the maps" not in [button.label for button in page.button]


def test_films_that_are_not_there_are_told(models, tmp_path, monkeypatch):
    (tmp_path / "films").mkdir()
    monkeypatch.setenv("CXR_DATA", str(tmp_path / "films"))
    page = open_view()

    next(button for button in page.button if button.label == "Draw the maps").click()
    page.run()

    assert "do not lie in" in page.error[0].value


@pytest.mark.slow
def test_maps_of_all_methods_are_drawn_when_asked_for(
    tiny_models, phantom_folder, monkeypatch, tmp_path
):
    from cxr_core.attribution import get_method, list_methods

    st.cache_data.clear()
    monkeypatch.setenv("CXR_MODELS", str(tiny_models))
    monkeypatch.setenv("CXR_DATA", str(phantom_folder))
    page = open_view("tiny")
    assert not page.get("image"), "nothing is drawn by default"

    next(button for button in page.button if button.label == "Draw the maps").click()
    page.run()

    assert not page.exception and not page.error
    pictures = [image.proto.imgs[0] for image in page.get("image")]
    titles = ["Film", *(get_method(name).title for name in list_methods())]
    assert [picture.caption for picture in pictures] == titles * 3
    assert all("pneumonia" in picture.alt for picture in pictures)
    assert "Draw the maps" not in [button.label for button in page.button]


# --- its charts ---


def points(chart) -> dict[str, list[tuple[float, float]]]:
    rows = chart.spec["datasets"]["points"]
    return {
        name: [(row["x"], row["y"]) for row in rows if row["name"] == name]
        for name in dict.fromkeys(row["name"] for row in rows)
    }


def test_the_curves_of_three_orders_are_drawn_from_the_film_to_the_blur():
    chart = charts.exchange_chart(gain(), "Deletion", "Grad-CAM", DARK)

    assert points(chart) == {
        "Grad-CAM": [(0, 2), (0.5, 0.5), (1, -1)],
        "random": [(0, 2), (0.5, 1), (1, -1)],
        "centre first": [(0, 2), (0.5, 1.5), (1, -1)],
    }
    # (2 + 0.5) / 4 + (0.5 - 1) / 4, and so on.
    assert chart.alt == (
        "Deletion, area under the logit: Grad-CAM 0.50, random 0.75, centre first 1.00."
    )


def test_lines_are_told_apart_without_colour():
    spec = charts.exchange_chart(gain(AROUND), "Insertion", "XRAI", DARK).spec
    dashes = spec["layer"][0]["encoding"]["strokeDash"]["scale"]["range"]

    assert len({tuple(dash) for dash in dashes}) == 3


def test_likeness_begins_at_one_and_falls_by_the_share_of_layers():
    chart = charts.cascade_chart({"Grad-CAM": FULL.randomisation}, DARK)

    assert points(chart) == {"Grad-CAM": [(0, 1), (pytest.approx(1 / 9), 0.8), (1, 0.1)]}
    assert "Grad-CAM 0.10" in chart.alt


@pytest.mark.parametrize("last", [(Interval(0, 0, 0), None), (NO_INTERVAL, 6)])
def test_empty_maps_have_no_likeness_to_draw(last):
    """Neither in records from before they were counted, nor in later ones."""
    found = FULL.randomisation
    emptied = replace(found.stages[-1], similarity=last[0], flat=last[1])

    chart = charts.cascade_chart(
        {"Grad-CAM": replace(found, stages=(*found.stages[:1], emptied))}, DARK
    )

    assert points(chart)["Grad-CAM"][-1] == (1, None)
    assert "0.00" not in chart.alt
