"""The charts of the evaluation page: they hold the report's numbers, and say them in words.

What a chart draws is read from its specification; what the browser makes of it is in
test_browser.
"""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from sklearn.metrics import precision_recall_curve as sk_precision_recall
from sklearn.metrics import roc_curve as sk_roc

from cxr_core.evaluation import EvaluationReport, LabelReport, evaluate, threshold_report
from cxr_core.figures import PALETTES
from cxr_core.ranking import NO_INTERVAL, Interval
from cxr_core.ui import charts, matrices, numerals
from cxr_core.ui.vega import Chart

DARK = PALETTES["dark"]
# Two films of each kind on the right side of 0.5, one with the finding and none without missed.
TRUTH = np.array([0, 0, 0, 1, 1, 1], np.int8)
SCORES = np.array([0.1, 0.2, 0.6, 0.3, 0.8, 0.9])
# 95 % score intervals of 2 of 3, by statsmodels' proportion_confint(2, 3, method="wilson").
LOW, HIGH = 0.2076595, 0.9385081


def report_of(truth: np.ndarray, scores: np.ndarray, point: float | None = 0.5) -> LabelReport:
    return evaluate(
        truth[:, None], scores[:, None], ["Mass"], operating_points=[point], rounds=20
    ).labels[0]


def spread(films: int, share: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and distinct scores of many films, the higher the likelier true."""
    random = np.random.default_rng(seed)
    truth = (np.arange(films) < share * films).astype(np.int8)
    return truth, random.beta(2 + 2 * truth, 4 - 2 * truth)


def data(chart: Chart, name: str) -> list[dict[str, Any]]:
    """What a layer is given to draw."""
    return chart.spec["datasets"][name]


def without_data(chart: Chart) -> str:
    """Everything that would make the browser draw the chart anew."""
    spec = {name: part for name, part in chart.spec.items() if name != "datasets"}
    return json.dumps(spec, sort_keys=True)


def moving(threshold: float) -> dict[str, Chart]:
    """Every chart that a threshold moves."""
    one, at = report_of(TRUTH, SCORES), threshold_report(TRUTH, SCORES, threshold)
    return {
        "confusion": matrices.confusion_chart(at, DARK),
        "roc": charts.roc_chart(TRUTH, SCORES, one, at, DARK),
        "precision-recall": charts.precision_recall_chart(TRUTH, SCORES, one, at, DARK),
        "calibration": charts.calibration_chart(one, at, DARK),
        "histogram": charts.histogram_chart(TRUTH, SCORES, one, at, DARK),
    }


# --- the matrix ---


def test_cells_hold_the_counts_and_shares_of_their_row() -> None:
    chart = matrices.confusion_chart(report_of(TRUTH, SCORES), DARK)
    rows = {row["cell"]: row for row in data(chart, "cells")}
    assert {cell: row["films"] for cell, row in rows.items()} == dict(tn=2, fp=1, fn=1, tp=2)
    assert [(rows[cell]["truth"], rows[cell]["said"]) for cell in ("tn", "fp", "fn", "tp")] == [
        ("Absent", "Not flagged"),
        ("Absent", "Flagged"),
        ("Present", "Not flagged"),
        ("Present", "Flagged"),
    ]
    for cell in ("tn", "tp"):
        assert rows[cell]["share"] == pytest.approx(2 / 3)
        assert rows[cell]["bounds"] == f"{LOW:.2f}-{HIGH:.2f}"
    for cell in ("fp", "fn"):
        assert rows[cell]["share"] == pytest.approx(1 / 3)
        assert rows[cell]["bounds"] == f"{1 - HIGH:.2f}-{1 - LOW:.2f}"
    assert rows["fn"]["line"] == "missed 0.33"
    assert chart.alt == (
        "Confusion matrix of 6 films: cleared 2; false alarms 1; missed 1; found 2."
    )


def test_a_row_without_films_has_no_share() -> None:
    none = np.zeros(6, np.int8)
    chart = matrices.confusion_chart(report_of(none, SCORES), DARK)
    rows = {row["cell"]: row for row in data(chart, "cells")}
    assert rows["tp"]["line"] == "found not known"
    assert (rows["tp"]["share"], rows["tp"]["bounds"], rows["tp"]["films"]) == (0, "", 0)
    everyone = matrices.confusion_chart(report_of(none + 1, SCORES), DARK)
    rows = {row["cell"]: row for row in data(everyone, "cells")}
    assert rows["tp"]["bounds"], "the other row keeps its intervals"
    assert "bounds" in without_data(everyone)


def three_answers() -> EvaluationReport:
    truth = np.eye(3, dtype=int)[[0, 0, 0, 1, 1, 2]]
    scores = np.eye(3)[[0, 0, 2, 1, 0, 1]] * 0.8 + 0.05
    names = ["Normal", "Bacterial pneumonia", "Viral pneumonia"]
    return evaluate(truth, scores, names, operating_points=[None] * 3, exclusive=True, rounds=5)


def test_the_matrix_of_one_answer_says_which_side_is_true() -> None:
    report = three_answers()
    assert report.matrix == ((2, 0, 1), (1, 1, 0), (0, 1, 0))
    chart = matrices.matrix_chart(report, DARK)
    rows = {row["cell"]: row for row in data(chart, "cells")}
    names = [one.label for one in report.labels]
    counted = tuple(tuple(rows[f"{truth}>{said}"]["films"] for said in names) for truth in names)
    assert counted == report.matrix
    assert rows["Normal>Viral pneumonia"]["line"] == "0.33"
    drawn = without_data(chart)
    assert '"title": "The model says"' in drawn
    assert '"title": "What is true"' in drawn
    assert "1 with Bacterial pneumonia called Normal" in chart.alt


def test_a_click_on_a_cell_selects_its_name() -> None:
    for chart in (
        matrices.confusion_chart(report_of(TRUTH, SCORES), DARK),
        matrices.matrix_chart(three_answers(), DARK),
    ):
        (chosen,) = chart.spec["params"]
        assert chosen["name"] == "cell"
        assert chosen["select"]["fields"] == ["cell"]


# --- what a threshold moves ---


@pytest.mark.parametrize("name", moving(0.5))
def test_a_threshold_changes_data_alone(name: str) -> None:
    first, *others = (moving(threshold)[name] for threshold in (0.5, 0.0, 0.25, 0.75, 1.0))
    assert {without_data(chart) for chart in others} == {without_data(first)}
    assert any(chart.spec["datasets"] != first.spec["datasets"] for chart in others)


def test_marks_stand_where_the_threshold_works() -> None:
    found = moving(0.7)  # every film without it cleared, two of three found
    (mark,) = data(found["roc"], "point")
    assert mark["x"] == 0
    assert mark["y"] == pytest.approx(2 / 3)
    assert (mark["low"], mark["high"]) == pytest.approx((LOW, HIGH))
    assert (mark["left"], mark["right"]) == pytest.approx((0, 0.5614970), abs=1e-6)
    (mark,) = data(found["precision-recall"], "point")
    assert (mark["x"], mark["y"]) == pytest.approx((2 / 3, 1))
    assert data(found["histogram"], "threshold") == [{"x": 0.7}]
    assert data(found["calibration"], "threshold") == [{"x": 0.7}]
    assert "At threshold 0.70: sensitivity 0.67, false alarms 0.00." in found["roc"].alt
    assert "At threshold 0.70: sensitivity 0.67, PPV 1.00." in found["precision-recall"].alt
    assert found["histogram"].alt == (
        "Scores of the films: 3 films with Mass, 2 of them flagged at threshold 0.70; "
        "3 without, 0 of them flagged."
    )


def test_a_threshold_of_zero_is_marked_too() -> None:
    assert data(moving(0.0)["calibration"], "threshold") == [{"x": 0.0}]


def test_nothing_is_marked_where_nothing_decides() -> None:
    one = report_of(TRUTH, SCORES, None)
    roc = charts.roc_chart(TRUTH, SCORES, one, one, DARK)
    assert data(roc, "point") == []
    assert "At no operating point: sensitivity not known" in roc.alt
    assert data(charts.histogram_chart(TRUTH, SCORES, one, one, DARK), "threshold") == []


def test_no_precision_without_a_flag_and_so_no_mark() -> None:
    assert data(moving(1.0)["precision-recall"], "point") == []
    assert data(moving(1.0)["roc"], "point")[0]["y"] == 0


# --- curves ---


def curves(truth: np.ndarray, scores: np.ndarray) -> tuple[Chart, Chart]:
    one = report_of(truth, scores)
    return (
        charts.roc_chart(truth, scores, one, one, DARK),
        charts.precision_recall_chart(truth, scores, one, one, DARK),
    )


def corners(chart: Chart) -> list[tuple[float, float]]:
    return [(row["x"], row["y"]) for row in data(chart, "curve")]


def test_short_curves_are_drawn_as_scikit_learn_has_them() -> None:
    roc, precision = curves(TRUTH, SCORES)
    x, y, _ = sk_roc(TRUTH, SCORES, drop_intermediate=False)
    assert np.allclose(corners(roc), np.column_stack((x, y)))
    y, x, _ = sk_precision_recall(TRUTH, SCORES)
    assert np.allclose(corners(precision), np.column_stack((x, y))[::-1])
    assert [row["threshold"] for row in data(roc, "curve")][:2] == ["above all", "0.900"]
    assert data(precision, "chance") == [{"x": 0.0, "y": 0.5}, {"x": 1.0, "y": 0.5}]


@settings(deadline=None, max_examples=25)
@given(
    films=some.integers(2, 5000),
    share=some.sampled_from((0.001, 0.02, 0.5, 0.99)),
    digits=some.sampled_from((1, 3, 12)),
    seed=some.integers(0, 99),
)
def test_thinned_curves_keep_their_ends_and_order(
    films: int, share: float, digits: int, seed: int
) -> None:
    truth, scores = spread(films, share, seed)
    truth[0], truth[-1] = 1, 0
    for chart in curves(truth, scores.round(digits)):
        rows = data(chart, "curve")
        assert 2 <= len(rows) <= charts.MOST_POINTS
        assert [row["i"] for row in rows] == list(range(len(rows)))
        xs = [row["x"] for row in rows]
        assert xs == sorted(xs)
        assert (xs[0], xs[-1]) == (0, 1)
        assert rows[0]["threshold"] == "above all"
    last = data(chart, "curve")[-1]
    assert last["y"] == pytest.approx(truth.mean()), "at last every film is flagged"


@pytest.mark.parametrize("share", [0.002, 0.3])
def test_a_thinned_curve_leaves_out_nothing_that_could_be_seen(share: float) -> None:
    truth, scores = spread(20_000, share)
    x, y, _ = sk_roc(truth, scores, drop_intermediate=False)
    roc, _ = curves(truth, scores)
    drawn = np.array(corners(roc))
    gaps = np.abs(np.diff(drawn, axis=0)).sum(axis=1)
    # Twice the height of the chart in pixels, at most, for one step.
    assert gaps.max() <= 2 / (charts.MOST_POINTS - 2) + 1 / truth.sum() + 1e-9
    exact = set(zip(x.round(9).tolist(), y.round(9).tolist(), strict=True))
    assert exact >= set(map(tuple, drawn.round(9).tolist()))


def test_one_class_has_no_curve() -> None:
    for truth in (np.zeros(6, np.int8), np.ones(6, np.int8)):
        for chart in curves(truth, SCORES):
            assert data(chart, "curve") == []
            assert "not known" in chart.alt


# --- calibration ---


def test_calibration_groups_are_the_reports() -> None:
    truth, scores = spread(200)
    one = report_of(truth, scores)
    chart = charts.calibration_chart(one, one, DARK)
    rows = data(chart, "groups")
    assert len(rows) == len(one.calibration) == 10
    for row, expected in zip(rows, one.calibration, strict=True):
        assert (row["x"], row["y"], row["films"]) == (
            expected.mean_score,
            expected.observed.value,
            expected.n,
        )
        assert (row["low"], row["high"]) == (expected.observed.low, expected.observed.high)
    assert chart.alt.startswith("Calibration, 10 groups: predicted ")
    assert chart.alt.count(" of 20") == 10


@pytest.mark.parametrize(
    ("scale", "end", "marked"), [(0.05, 0.1, False), (0.15, 0.2, False), (0.9, 1.0, True)]
)
def test_a_rare_finding_has_its_corner_drawn_larger(scale: float, end: float, marked: bool) -> None:
    scores = np.linspace(0, scale, 4000)
    truth = (np.arange(4000) % 50 == 0).astype(np.int8)
    one = report_of(truth, scores)
    chart = charts.calibration_chart(one, one, DARK)
    assert data(chart, "even")[-1] == {"x": end, "y": end}
    assert bool(data(chart, "threshold")) == marked, "a mark outside would stretch the chart"
    highest = max(max(row["x"], row["high"]) for row in data(chart, "groups"))
    assert end / 2 < highest <= end or end == 0.1


# --- the scores ---


def test_every_film_stands_in_the_histogram() -> None:
    truth, scores = spread(500)
    scores[:3] = 0, 1, 0.975
    one = report_of(truth, scores)
    rows = data(charts.histogram_chart(truth, scores, one, one, DARK), "bars")
    for name, films, sign in (("Present", truth == 1, 1), ("Absent", truth == 0, -1)):
        mine = [row for row in rows if row["truth"] == name]
        assert len(mine) == charts.BINS
        for row in mine:
            inside = (scores[films] >= row["low"]) & (scores[films] < row["high"])
            last = row["high"] == 1
            assert row["films"] == (inside | (last & (scores[films] == 1))).sum()
            assert row["y"] == pytest.approx(sign * row["films"] ** 0.5)
        assert sum(row["films"] for row in mine) == films.sum()


# --- groups, trainings ---


def group(number: Interval, n: int = 100, positives: int = 40, **more: object) -> LabelReport:
    one = report_of(TRUTH, SCORES)
    return replace(one, n=n, positives=positives, auroc=number, ppv=number, **more)


def test_groups_are_drawn_with_their_intervals_and_small_ones_round() -> None:
    whole = report_of(TRUTH, SCORES)
    groups = {
        "view": {
            "AP": group(Interval(0.8, 0.7, 0.9)),
            "PA": group(Interval(0.6, 0.3, 0.8), n=29),
            "LL": group(Interval(0.5, None, None), notes=("A single film in one class.",)),
        },
        "age": {"0 to 17": group(NO_INTERVAL, positives=9)},
    }
    chart = charts.forest_chart(groups, "auroc", whole, DARK)
    rows = {row["group"]: row for row in data(chart, "groups")}
    assert list(rows) == ["View: AP", "View: PA", "View: LL", "Age: 0 to 17"]
    assert [row["few"] for row in rows.values()] == [False, True, False, True]
    assert (rows["View: AP"]["low"], rows["View: AP"]["value"], rows["View: AP"]["high"]) == (
        0.7,
        0.8,
        0.9,
    )
    assert rows["Age: 0 to 17"]["value"] is None
    assert data(chart, "whole") == [{"value": whole.auroc.value}]
    assert chart.alt == (
        "AUROC by group: View: AP 0.80 (0.70-0.90); View: PA 0.60 (0.30-0.80); View: LL 0.50; "
        "Age: 0 to 17 not known."
    )
    assert '"title": "PPV"' in without_data(charts.forest_chart(groups, "ppv", whole, DARK))


def test_nothing_is_drawn_as_the_whole_where_it_is_not_known() -> None:
    whole = replace(report_of(TRUTH, SCORES), auroc=NO_INTERVAL)
    groups = {"sex": {"F": group(NO_INTERVAL)}}
    assert data(charts.forest_chart(groups, "auroc", whole, DARK), "whole") == []


def test_trainings_lie_over_each_other_with_the_chosen_epoch_ringed() -> None:
    histories = {
        "first": {"loss": [0.5, 0.25, 0.125]},
        "second": {"loss": [0.75, float("nan")]},
        "third": {"validation_loss": [1.0]},
    }
    chart = charts.histories_chart(
        histories, {"first": 2, "second": 1}, ("loss", "Training loss"), DARK
    )
    rows = data(chart, "epochs")
    assert [(row["model"], row["epoch"], row["value"]) for row in rows] == [
        ("first", 1, 0.5),
        ("first", 2, 0.25),
        ("first", 3, 0.125),
        ("second", 1, 0.75),
    ]
    assert [(row["model"], row["epoch"]) for row in rows if row["chosen"]] == [
        ("first", 2),
        ("second", 1),
    ]
    assert "first from 0.500 to 0.125 in 3 epochs, 0.250 at the chosen epoch 2" in chart.alt
    assert "third not recorded" in chart.alt


# --- many findings ---


def test_each_of_fifteen_findings_has_its_charts_and_none_is_fifteen_wide() -> None:
    random = np.random.default_rng(3)
    truth = (random.random((80, 15)) < 0.3).astype(np.int8)
    scores = random.random((80, 15))
    names = [f"Finding {k}" for k in range(15)]
    report = evaluate(truth, scores, names, operating_points=[0.5] * 15, rounds=5)
    for k, one in enumerate(report.labels):
        rows = data(matrices.confusion_chart(one, DARK), "cells")
        assert len(rows) == 4
        assert sum(row["films"] for row in rows) == 80
        told = charts.histogram_chart(truth[:, k], scores[:, k], one, one, DARK).alt
        assert f"{truth[:, k].sum()} films with Finding {k}, " in told


@pytest.mark.parametrize(
    ("share", "digits", "expected"),
    [
        (Interval(0.5, 0.25, 0.75), 2, ("0.50", "0.25-0.75")),
        (Interval(0.5, None, None), 3, ("0.500", "")),
        (NO_INTERVAL, 2, ("not known", "")),
    ],
)
def test_intervals_in_words(share: Interval, digits: int, expected: tuple[str, str]) -> None:
    assert numerals.words(share, digits) == expected


def test_the_rest_of_a_share_has_its_interval_turned() -> None:
    turned = numerals.rest(Interval(0.75, 0.5, 1.0))
    assert (turned.value, turned.low, turned.high) == (0.25, 0.0, 0.5)
    assert numerals.rest(NO_INTERVAL) == NO_INTERVAL
    assert numerals.rest(Interval(1.0, None, None)) == Interval(0.0, None, None)


def test_a_number_and_its_interval_are_written_in_one_piece() -> None:
    assert numerals.with_bounds(Interval(0.62, 0.43, 0.8)) == "0.62 (0.43-0.80)"
    assert numerals.with_bounds(Interval(-2.2, -3.14, -1.26)) == "-2.20 (-3.14 to -1.26)"
    assert numerals.with_bounds(Interval(0.5, None, None), 3) == "0.500"
    assert numerals.with_bounds(Interval(None, None, None)) == "not known"
