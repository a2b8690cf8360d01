"""Reports say what a hand count, scikit-learn and the textbook formulas say."""

import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from math import log
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from cxr_core import ranking
from cxr_core.errors import ArgumentError, DataError, UnknownName
from cxr_core.evaluation import (
    Averages,
    CalibrationBin,
    EvaluationReport,
    at_prevalence,
    brier,
    calibration_bins,
    confusion,
    ece,
    evaluate,
    log_loss,
    similar_scores,
    threshold_report,
    wilson,
)
from cxr_core.predictions import (
    PredictionTable,
    evaluate_table,
    flagged,
    groupings,
    read_predictions,
    shared_patients,
    subgroups,
    write_predictions,
)
from cxr_core.ranking import (
    Interval,
    auprc,
    auroc,
    average_precision,
    compare,
    precision_recall_curve,
    roc_curve,
)

ROOT = Path(__file__).resolve().parents[1]
NOTHING = Interval(None, None, None)

# A busy machine must not fail a property: no deadline.
relaxed = settings(max_examples=40, deadline=None)

# Scores on a coarse grid, so that ties are common; both classes are present.
both_classes = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda tenth: tenth / 20)),
    min_size=4,
    max_size=40,
).filter(lambda films: len({truth for truth, _ in films}) == 2)


def columns(films: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    truth, scores = zip(*films, strict=True)
    return np.array(truth), np.array(scores)


def drawn(films: int, seed: int = 0, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores = generator.random(films)
    truth = (generator.random(films) < scores).astype(int)
    return truth, np.round(scores, 2) if ties else scores


def table(**changes: object) -> PredictionTable:
    values = {
        "files": ("a.png", "b.png", "c.png", "d.png", "e.png"),
        "patients": ("p1", "p1", "p2", "p3", "p4"),
        "labels": ("Effusion", "No Finding"),
        "y_true": np.array([[1, 0], [0, 1], [1, 0], [0, 1], [0, 1]]),
        "y_score": np.array([[0.9, 0.1], [0.2, 0.7], [1 / 3, 2 / 3], [0.4, 0.6], [0.0, 1.0]]),
        "split": "test",
        "view": ("PA", "AP", "PA", "", "PA"),
        "age": (5.5, 18.0, None, 64.9, 65.0),
        "sex": ("F", "M", "F", "M", "F"),
    }
    return PredictionTable(**(values | changes))  # type: ignore[arg-type]


# --- one threshold ---


def test_wilson_worked_by_hand():
    # Newcombe 1998, table I, example 1: 81 of 263 gives 0.2553 to 0.3662.
    found = wilson(81, 263)
    assert found.value == 81 / 263
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_touches_the_ends_exactly():
    none, all_ = wilson(0, 20), wilson(20, 20)
    assert none.low == 0.0 and none.high == pytest.approx(0.1611, abs=5e-5)
    assert all_.high == 1.0 and all_.low == pytest.approx(1 - 0.1611, abs=5e-5)


@relaxed
@given(st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_value_and_stays_inside_zero_and_one(counts):
    found = wilson(*counts)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_wilson_widens_with_confidence_and_says_nothing_without_trials():
    assert wilson(3, 10, confidence=0.99).low < wilson(3, 10).low
    assert wilson(0, 0) == NOTHING


@pytest.mark.parametrize("arguments", [(3, 2), (-1, 2), (1, 2, 0.0), (1, 2, 1.0)])
def test_wilson_refuses_impossible_counts(arguments):
    with pytest.raises(ArgumentError):
        wilson(*arguments)


def test_confusion_worked_by_hand():
    assert confusion([0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1]) == ((2, 1), (1, 2))
    assert confusion([1], [True]) == ((0, 0), (0, 1))


def test_confusion_refuses_scores():
    with pytest.raises(ArgumentError, match="decided"):
        confusion([0, 1], [0.2, 0.8])


@relaxed
@given(both_classes, st.integers(0, 20))
def test_threshold_report_agrees_with_scikit_learn(films, twentieth):
    truth, scores = columns(films)
    report = threshold_report(truth, scores, twentieth / 20)
    decided = scores >= twentieth / 20

    assert np.sum(report.confusion) == report.n == len(films)
    assert report.positives == truth.sum()
    np.testing.assert_array_equal(report.confusion, metrics.confusion_matrix(truth, decided))
    assert report.sensitivity.value == pytest.approx(metrics.recall_score(truth, decided))
    assert report.accuracy.value == pytest.approx(metrics.accuracy_score(truth, decided))
    assert report.f1 == pytest.approx(metrics.f1_score(truth, decided))
    assert report.balanced_accuracy == pytest.approx(
        metrics.balanced_accuracy_score(truth, decided)
    )
    if decided.any() and not decided.all():
        assert report.ppv.value == pytest.approx(metrics.precision_score(truth, decided))
        assert report.npv.value == pytest.approx(
            metrics.precision_score(truth, decided, pos_label=0)
        )
        assert report.mcc == pytest.approx(metrics.matthews_corrcoef(truth, decided))
    else:
        assert None in (report.ppv.value, report.npv.value)
        assert report.mcc is None


def test_a_film_at_the_threshold_is_flagged():
    assert threshold_report([0, 1], [0.3, 0.7], 0.7).confusion == ((1, 0), (0, 1))


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf")])
def test_threshold_report_refuses_a_threshold_that_is_no_probability(threshold):
    with pytest.raises(ArgumentError, match="threshold"):
        threshold_report([0, 1], [0.3, 0.7], threshold)


def test_at_prevalence_worked_by_hand():
    # Of 1000: 100 ill, 90 flagged; 900 well, 180 flagged. 90 / 270 and 720 / 730.
    assert at_prevalence(0.9, 0.8, 0.1) == pytest.approx((1 / 3, 72 / 73))


def test_at_prevalence_of_the_films_returns_their_own_values():
    report = threshold_report(*drawn(200), 0.6)
    found = at_prevalence(report.sensitivity.value, report.specificity.value, report.prevalence)
    assert found == pytest.approx((report.ppv.value, report.npv.value))


def test_at_prevalence_without_flagged_films_has_no_ppv():
    assert at_prevalence(0.0, 1.0, 0.2) == (None, 0.8)
    assert at_prevalence(1.0, 0.0, 0.2) == (0.2, None)


@pytest.mark.parametrize("values", [(1.1, 0.5, 0.5), (0.5, -0.1, 0.5), (0.5, 0.5, float("nan"))])
def test_at_prevalence_refuses_what_is_no_share(values):
    with pytest.raises(ArgumentError, match=r"\[0, 1\]"):
        at_prevalence(*values)


# --- all thresholds ---


@relaxed
@given(both_classes)
def test_auroc_agrees_with_scikit_learn(films):
    truth, scores = columns(films)
    found = auroc(truth, scores)
    assert found.value == pytest.approx(metrics.roc_auc_score(truth, scores))
    if found.low is not None:
        assert 0 <= found.low <= found.value <= found.high <= 1


@relaxed
@given(both_classes)
def test_auroc_is_unchanged_by_a_monotone_map_and_mirrored_by_reversal(films):
    truth, scores = columns(films)
    here = auroc(truth, scores)
    mapped, reversed_ = auroc(truth, scores**3 / 2), auroc(truth, 1 - scores)
    assert mapped == here
    assert reversed_.value == pytest.approx(1 - here.value)
    if here.low is not None:
        assert reversed_.high == pytest.approx(1 - here.low)


def direct_delong(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas and covariance from all pairs of films, as DeLong 1988 writes them."""
    positive, negative = scores[truth == 1], scores[truth == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)  # m x n x models
    by_positive, by_negative = wins.mean(axis=1), wins.mean(axis=0)
    spread = np.cov(by_positive.T) / len(positive) + np.cov(by_negative.T) / len(negative)
    return wins.mean(axis=(0, 1)), spread


def test_delong_variance_agrees_with_the_direct_computation():
    truth, scores = drawn(150)
    areas, spread = direct_delong(truth, np.stack([scores, scores], axis=1))
    half = 1.959963984540054 * np.sqrt(spread[0, 0])

    found = auroc(truth, scores)

    assert found.value == pytest.approx(areas[0], rel=1e-12)
    assert (found.low, found.high) == pytest.approx((areas[0] - half, areas[0] + half), rel=1e-12)


def test_delong_worked_by_hand():
    # Positives 0.8, 0.4; negatives 0.6, 0.2. Placements: 1, 1/2 and 1/2, 1. Each class has
    # the variance 1/8, over 2 films: 1/16 + 1/16.
    found = auroc([1, 1, 0, 0], [0.8, 0.4, 0.6, 0.2])
    assert found.value == 0.75
    assert found.low == pytest.approx(0.75 - 1.959963984540054 * np.sqrt(1 / 8))
    assert found.high == 1.0


def test_auroc_without_a_second_film_has_no_interval_and_without_a_class_no_value():
    assert auroc([1, 0, 0], [0.9, 0.2, 0.95]) == Interval(0.5, None, None)
    assert auroc([1, 1], [0.9, 0.2]) == NOTHING
    assert auroc([0, 0], [0.9, 0.2]) == NOTHING


def test_comparison_agrees_with_the_direct_covariance():
    truth, first = drawn(200, ties=False)
    second = np.clip(first + np.random.default_rng(1).normal(0, 0.2, 200), 0, 1)
    areas, spread = direct_delong(truth, np.stack([first, second], axis=1))
    error = np.sqrt(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1])

    found = compare(truth, first, second)

    assert (found.a, found.b) == (auroc(truth, first), auroc(truth, second))
    assert found.difference.value == pytest.approx(areas[0] - areas[1])
    assert found.difference.high - found.difference.low == pytest.approx(2 * 1.95996398 * error)
    # Two-sided normal: p = 0.05 exactly where the interval touches zero.
    assert (found.p_value < 0.05) == (found.difference.low > 0 or found.difference.high < 0)
    swapped = compare(truth, second, first)
    assert swapped.p_value == pytest.approx(found.p_value)
    assert swapped.difference.value == -found.difference.value


def test_comparison_of_a_model_with_itself_finds_no_difference():
    truth, scores = drawn(50)
    found = compare(truth, scores, scores)
    assert found.difference == Interval(0.0, 0.0, 0.0)
    assert found.p_value is None
    assert compare([1, 1], [0.1, 0.2], [0.3, 0.4]).difference == NOTHING


def test_comparison_p_value_is_uniform_enough_when_models_are_equally_good():
    generator = np.random.default_rng(0)
    truth = np.repeat([0, 1], 40)
    pairs = [generator.normal(truth + 4, 1, (2, 80)).clip(0, 10) / 10 for _ in range(400)]
    rejected = np.mean([compare(truth, *pair).p_value < 0.05 for pair in pairs])
    assert 0.02 < rejected < 0.09


@relaxed
@given(both_classes)
def test_roc_curve_agrees_with_scikit_learn(films):
    truth, scores = columns(films)
    found = roc_curve(truth, scores)
    x, y, threshold = metrics.roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.x, x)
    np.testing.assert_allclose(found.y, y)
    np.testing.assert_array_equal(found.threshold, threshold)


@relaxed
@given(both_classes)
def test_precision_recall_curve_agrees_with_scikit_learn(films):
    truth, scores = columns(films)
    found = precision_recall_curve(truth, scores)
    precision, recall, threshold = metrics.precision_recall_curve(truth, scores)
    np.testing.assert_allclose(found.y, precision[::-1])
    np.testing.assert_allclose(found.x, recall[::-1])
    np.testing.assert_array_equal(found.threshold[1:], threshold[::-1])


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
def test_curves_are_locked_and_empty_with_one_class_only(curve):
    assert curve([1, 1], [0.2, 0.3]).x.size == 0
    assert curve([0, 0], [0.2, 0.3]).threshold.size == 0
    with pytest.raises(ValueError, match="read-only"):
        curve([0, 1], [0.2, 0.3]).y[0] = 2


@relaxed
@given(both_classes)
def test_auprc_agrees_with_scikit_learn(films):
    truth, scores = columns(films)
    found = auprc(truth, scores, rounds=5)
    assert found.value == pytest.approx(metrics.average_precision_score(truth, scores))
    assert average_precision(truth, scores) == pytest.approx(found.value)
    assert 0 <= found.low <= found.high <= 1


def test_auprc_worked_by_hand():
    # Down the scores: positive, (positive and negative tied), negative, positive:
    # 1/3 * 1 + 1/3 * 2/3 + 1/3 * 3/5.
    found = auprc([1, 1, 0, 0, 1], [0.9, 0.8, 0.8, 0.3, 0.1], rounds=1)
    assert found.value == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_auprc_bootstrap_agrees_with_drawing_patients_one_by_one():
    truth, scores = drawn(60)
    patients = np.random.default_rng(3).integers(0, 12, 60)
    names, owner = np.unique(patients, return_inverse=True)
    films_of = [np.flatnonzero(owner == patient) for patient in range(len(names))]
    generator = np.random.default_rng(7)
    values = []
    for _ in range(50):
        films = np.concatenate([films_of[p] for p in generator.integers(len(names), size=12)])
        values.append(metrics.average_precision_score(truth[films], scores[films]))

    found = auprc(truth, scores, groups=patients, rounds=50, seed=7)

    expected = np.quantile(values, (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-6)


def test_auprc_does_not_depend_on_how_many_rounds_are_held_at_a_time(monkeypatch):
    truth, scores = drawn(60)
    whole = auprc(truth, scores, rounds=50)
    monkeypatch.setattr(ranking, "BOOTSTRAP_CHUNK", 60 * 7)
    assert auprc(truth, scores, rounds=50) == whole


def test_auprc_is_reproducible_and_counts_a_patient_once():
    truth, scores = drawn(100)
    once = auprc(truth, scores, rounds=200)
    assert auprc(truth, scores, rounds=200) == once
    assert auprc(truth, scores, rounds=200, seed=1) != once

    # Nine copies of every film teach nothing when they belong to the same patient.
    copies = [np.tile(values, 9) for values in (truth, scores, np.arange(100))]
    by_patient = auprc(*copies[:2], groups=copies[2], rounds=200)
    by_film = auprc(*copies[:2], rounds=200)
    assert (by_patient.low, by_patient.high) == pytest.approx((once.low, once.high))
    assert by_film.high - by_film.low < 0.5 * (once.high - once.low)


def test_auprc_leaves_out_rounds_without_a_positive_film():
    found = auprc([1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3], rounds=100)
    assert found == Interval(1.0, 1.0, 1.0)
    assert auprc([0, 0], [0.1, 0.2]) == NOTHING
    assert auprc([1, 1], [0.1, 0.2]) == NOTHING
    assert average_precision([1, 1], [0.1, 0.2]) is None


def test_auprc_refuses_groups_of_another_length_and_no_rounds():
    with pytest.raises(ArgumentError, match="one patient for each of 2"):
        auprc([0, 1], [0.1, 0.2], groups=["a"])
    with pytest.raises(ArgumentError, match="rounds"):
        auprc([0, 1], [0.1, 0.2], rounds=0)


# --- honest probabilities ---


def test_calibration_worked_by_hand():
    truth, scores = [0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9]
    low, high = calibration_bins(truth, scores, bins=2)
    assert (low.mean_score, low.n, low.observed) == (pytest.approx(0.2), 2, wilson(0, 2))
    assert (high.mean_score, high.n, high.observed) == (pytest.approx(0.7), 2, wilson(2, 2))
    assert ece(truth, scores, bins=2) == pytest.approx(0.5 * 0.2 + 0.5 * 0.3)
    assert brier(truth, scores) == pytest.approx((0.01 + 0.09 + 0.25 + 0.01) / 4)


@relaxed
@given(both_classes, st.integers(1, 12), st.randoms())
def test_calibration_does_not_depend_on_the_order_of_films(films, bins, random):
    shuffled = list(films)
    random.shuffle(shuffled)
    here, there = (calibration_bins(*columns(order), bins) for order in (films, shuffled))
    assert [(one.n, one.observed) for one in here] == [(one.n, one.observed) for one in there]
    assert sum(one.n for one in here) == len(films)
    assert all(a.mean_score < b.mean_score for a, b in pairwise(here))


@relaxed
@given(st.integers(10, 200), st.integers(1, 10))
def test_bins_without_ties_are_of_equal_size(films, bins):
    found = calibration_bins(*drawn(films, ties=False), bins)
    sizes = [one.n for one in found]
    assert len(sizes) == bins
    assert max(sizes) - min(sizes) <= 1


def test_brier_agrees_with_scikit_learn():
    assert brier(*drawn(200)) == pytest.approx(metrics.brier_score_loss(*drawn(200)))


@relaxed
@given(both_classes)
def test_log_loss_agrees_with_scikit_learn(films):
    truth, scores = columns(films)
    inside = scores.clip(0.001, 0.999)  # at the very ends scikit-learn 1.9 clips nearer to them
    assert log_loss(truth, inside) == pytest.approx(metrics.log_loss(truth, inside))


def test_log_loss_worked_by_hand():
    assert log_loss([1, 0], [0.5, 0.75]) == pytest.approx((log(2) + log(4)) / 2)
    assert log_loss([0, 1], [1.0, 0.0]) == pytest.approx(15 * log(10), rel=1e-3)
    assert log_loss([0, 1], [0.0, 1.0]) == pytest.approx(0, abs=2e-15)


def test_similar_scores_takes_the_nearest_films():
    truth, scores = [0, 0, 1, 0, 1, 1], [0.0, 0.1, 0.2, 0.3, 0.4, 0.9]
    found = similar_scores(truth, scores, 0.2, k=3, within=0.5)
    assert found.n == 3
    assert found.observed == wilson(1, 3)
    assert found.mean_score == pytest.approx(0.2)


def test_films_that_score_far_off_say_nothing():
    truth, scores = [1, 1, 0, 0], [0.9, 0.88, 0.5, 0.1]
    assert similar_scores(truth, scores, 0.9).n == 2
    assert similar_scores(truth, scores, 0.7) == CalibrationBin(0.7, NOTHING, 0)


def test_similar_scores_counts_all_that_are_equally_near_and_never_more_than_there_are():
    assert similar_scores([0, 1, 1, 0], [0.5, 0.5, 0.5, 0.9], 0.5, k=2).n == 3
    assert similar_scores([0, 1, 1, 0], [0.5, 0.5, 0.5, 0.54], 0.5).n == 4


@pytest.mark.parametrize(("score", "k"), [(1.2, 5), (float("nan"), 5), (0.5, 0)])
def test_similar_scores_refuses_what_it_cannot_use(score, k):
    with pytest.raises(ArgumentError):
        similar_scores([0, 1], [0.2, 0.3], score, k)


# --- the whole report ---


DESIGN_KEYS = {
    *("n", "positives", "operating_point", "confusion", "sensitivity", "specificity", "ppv"),
    *("npv", "f1", "accuracy", "balanced_accuracy", "auroc", "auroc_ci", "auprc", "ece", "brier"),
    "log_loss",
}
EXTRA_KEYS = {
    *("notes", "prevalence", "mcc", "calibration", "auprc_ci", "accuracy_ci"),
    *("sensitivity_ci", "specificity_ci", "ppv_ci", "npv_ci"),
}


def sample_report(**changes: object) -> EvaluationReport:
    truth, scores = (np.stack(pair, axis=1) for pair in zip(drawn(80), drawn(80, 1), strict=True))
    values = {"operating_points": (0.5, 0.4), "model": "m", "rounds": 20} | changes
    return evaluate(truth, scores, ("Effusion", "Mass"), **values)  # type: ignore[arg-type]


def through_json(report: EvaluationReport) -> EvaluationReport:
    return EvaluationReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False)))


def test_report_agrees_with_its_parts():
    truth, scores = drawn(80, 1)
    report = sample_report(seed=3)
    mass = report.label("Mass")

    assert mass.auroc == auroc(truth, scores)
    assert mass.auprc == auprc(truth, scores, rounds=20, seed=3)
    assert mass.calibration == calibration_bins(truth, scores)
    assert (mass.ece, mass.brier) == (ece(truth, scores), brier(truth, scores))
    assert mass.log_loss == log_loss(truth, scores)
    assert mass.confusion == threshold_report(truth, scores, 0.4).confusion
    assert mass.prevalence == truth.mean()
    assert report.macro_auroc == pytest.approx(np.mean([one.auroc.value for one in report.labels]))
    assert report.macro_auprc == pytest.approx(np.mean([one.auprc.value for one in report.labels]))
    assert report.matrix is None and report.accuracy is None


def test_report_json_has_the_keys_of_the_design():
    values = sample_report().to_json()
    assert list(values) == ["model", "split", "n", "labels", "notes", "macro", "micro"]
    assert list(values["labels"]) == ["Effusion", "Mass"]
    assert set(values["labels"]["Mass"]) == DESIGN_KEYS | EXTRA_KEYS
    names = "auroc auprc sensitivity specificity ppv npv f1 balanced_accuracy".split()
    assert list(values["macro"]) == list(values["micro"]) == names
    one = values["labels"]["Mass"]
    (tn, fp), (fn, tp) = one["confusion"]
    assert one["sensitivity"] == tp / (tp + fn)
    assert one["specificity"] == tn / (tn + fp)
    assert one["auroc_ci"][0] < one["auroc"] < one["auroc_ci"][1]
    assert set(one["calibration"][0]) == {"mean_score", "observed", "observed_ci", "n"}


def test_report_survives_json():
    report = sample_report(patients=[str(film // 2) for film in range(80)])
    assert through_json(report) == report


def by_scikit_learn(truth: np.ndarray, scores: np.ndarray, flags: np.ndarray, average: str) -> dict:
    """Average over labels (N, K) as scikit-learn does; balanced accuracy for "micro" only."""
    counting = {"average": average, "zero_division": 0}
    return {
        "auroc": metrics.roc_auc_score(truth, scores, average=average),
        "auprc": metrics.average_precision_score(truth, scores, average=average),
        "sensitivity": metrics.recall_score(truth, flags, **counting),
        "specificity": metrics.recall_score(1 - truth, 1 - flags, **counting),
        "ppv": metrics.precision_score(truth, flags, **counting),
        "npv": metrics.precision_score(1 - truth, 1 - flags, **counting),
        "f1": metrics.f1_score(truth, flags, **counting),
    }


@pytest.mark.parametrize("exclusive", [False, True])
def test_averages_agree_with_scikit_learn(exclusive):
    generator = np.random.default_rng(4)
    scores = np.round(generator.dirichlet((1, 2, 4), 150), 2)
    truth = np.eye(3, dtype=int)[[generator.choice(3, p=one / one.sum()) for one in scores]]
    points = (None,) * 3 if exclusive else (0.2, 0.3, 0.6)
    flags = np.eye(3, dtype=int)[scores.argmax(axis=1)] if exclusive else (scores >= points) * 1

    report = evaluate(
        truth, scores, "ABC", operating_points=points, exclusive=exclusive, rounds=1
    ).to_json()

    balanced = {
        "macro": np.mean(
            [metrics.balanced_accuracy_score(*pair) for pair in zip(truth.T, flags.T, strict=True)]
        ),
        "micro": metrics.balanced_accuracy_score(truth.ravel(), flags.ravel()),
    }
    for average, expected in balanced.items():
        wanted = by_scikit_learn(truth, scores, flags, average) | {"balanced_accuracy": expected}
        assert report[average] == pytest.approx(wanted)


def test_averages_worked_by_hand():
    # A decides (2, 1), (1, 2) and B (1, 0), (0, 1) without its four other films: (5, 0), (0, 1).
    truth = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]]).T
    scores = np.array([[0.1, 0.2, 0.8, 0.3, 0.7, 0.9], [0.1, 0.1, 0.2, 0.2, 0.3, 0.4]]).T
    report = evaluate(truth, scores, "AB", operating_points=(0.5, 0.4), rounds=1)
    assert report.macro.sensitivity == pytest.approx((2 / 3 + 1) / 2)
    assert report.macro.ppv == pytest.approx((2 / 3 + 1) / 2)
    micro = report.micro  # (7, 1), (1, 3)
    assert (micro.sensitivity, micro.specificity) == (3 / 4, 7 / 8)
    assert (micro.ppv, micro.npv, micro.f1) == (3 / 4, 7 / 8, 6 / 8)
    assert micro.balanced_accuracy == (3 / 4 + 7 / 8) / 2
    # Positives 0.3, 0.4, 0.7, 0.9 against 0.1 (3), 0.2 (3), 0.3, 0.8: 6.5, 7, 7 and 8 of 8 below.
    assert micro.auroc == pytest.approx(28.5 / 32)


def test_averages_leave_out_what_a_label_cannot_give():
    truth = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]]).T
    scores = np.array([[0.1, 0.9, 0.6, 0.7], [0.1, 0.2, 0.3, 0.6], [0.2, 0.3, 0.4, 0.1]]).T
    report = evaluate(truth, scores, "ABC", operating_points=(0.5, 0.5, None), rounds=1)
    a, b, c = report.labels
    assert report.macro.auroc == pytest.approx((a.auroc.value + c.auroc.value) / 2)
    assert report.macro.sensitivity == a.sensitivity.value == 1
    assert report.macro.specificity == (a.specificity.value + b.specificity.value) / 2
    assert (report.micro.sensitivity, report.micro.specificity) == (2 / 2, 4 / 6)
    assert report.micro.auroc == pytest.approx(metrics.roc_auc_score(truth.ravel(), scores.ravel()))
    assert report.notes == (
        "The macro averages of AUROC, AUPRC leave out B.",
        "The macro averages of sensitivity, balanced accuracy leave out B, C.",
        "The macro averages of specificity, PPV, NPV, F1 leave out C.",
        "The micro averages of all that is decided at an operating point leave out C.",
    )
    assert through_json(report) == report


def test_averages_of_nothing_are_null():
    report = evaluate([[0], [0]], [[0.1], [0.9]], ["L"], operating_points=[None])
    nothing = Averages(**dict.fromkeys(through_json(report).to_json()["macro"]))
    assert report.macro == report.micro == nothing


def test_exclusive_labels_are_decided_by_the_largest_score():
    truth = np.eye(3, dtype=int)[[0, 0, 1, 2, 2]]
    scores = np.array([[7, 2, 1], [3, 6, 1], [1, 8, 1], [0, 5, 5], [2, 2, 6]]) / 10

    report = evaluate(truth, scores, "ABC", operating_points=(None,) * 3, exclusive=True, rounds=10)

    assert report.matrix == ((1, 1, 0), (0, 1, 0), (0, 1, 1))  # a tie goes to the first label
    assert report.accuracy == wilson(3, 5)
    b = report.label("B")
    assert b.confusion == ((2, 2), (0, 1))
    assert b.operating_point is None
    values = report.to_json()
    assert values["matrix"] == [[1, 1, 0], [0, 1, 0], [0, 1, 1]]
    assert (values["accuracy"], values["accuracy_ci"][0]) == (0.6, report.accuracy.low)
    assert through_json(report) == report


@pytest.mark.parametrize(
    ("truth", "missing", "words"),
    [
        ([0, 0, 0], {"sensitivity", "balanced_accuracy", "auroc", "auprc", "mcc"}, "No film has"),
        ([1, 1, 1], {"specificity", "balanced_accuracy", "auroc", "auprc", "mcc"}, "Every film"),
    ],
)
def test_one_class_only_is_null_with_a_note(truth, missing, words):
    report = evaluate(
        np.array([truth]).T, np.array([[0.1, 0.6, 0.7]]).T, ["L"], operating_points=[0.5]
    )
    values = through_json(report).to_json()["labels"]["L"]
    assert {key for key in DESIGN_KEYS | {"mcc"} if values[key] is None} == missing | {"auroc_ci"}
    assert any(words in note for note in values["notes"])
    assert report.macro_auroc is None
    assert "AUROC, AUPRC, " in report.notes[0] and report.notes[0].endswith("leave out L.")


@pytest.mark.parametrize(
    ("point", "missing", "words"),
    [(0.95, "ppv", "No film is flagged"), (0.0, "npv", "Every film is flagged")],
)
def test_one_decision_only_is_null_with_a_note(point, missing, words):
    report = evaluate(
        [[0], [0], [1], [1]], [[0.1], [0.6], [0.3], [0.9]], ["L"], operating_points=[point]
    )
    values = report.to_json()["labels"]["L"]
    assert {key for key in values if values[key] is None} == {missing, f"{missing}_ci", "mcc"}
    assert len(report.labels[0].notes) == 1
    assert report.labels[0].notes[0].startswith(words)


def test_f1_without_anything_true_or_flagged_is_null_with_a_note():
    report = evaluate([[0], [0]], [[0.1], [0.2]], ["L"], operating_points=[0.5]).labels[0]
    assert report.f1 is None
    assert any("F1" in note for note in report.notes)


def test_without_operating_point_ranking_is_reported_and_decisions_are_null():
    report = sample_report(operating_points=(None, 0.4))
    one = report.label("Effusion")
    assert one.confusion is None and one.f1 is None and one.accuracy == NOTHING
    assert one.auroc.value is not None
    assert "no operating point" in one.notes[0]
    assert through_json(report) == report


@pytest.mark.parametrize(
    ("scores", "words"),
    [([0.1, 0.2, 0.8, 0.9], "no width"), ([0.5] * 4, "no width"), ([0.1, 0.7, 0.6, 0.9], None)],
)
def test_an_interval_without_width_is_explained(scores, words):
    report = evaluate(
        np.array([[0, 0, 1, 1]]).T, np.array([scores]).T, ["L"], operating_points=[0.55]
    ).labels[0]
    assert any("no width" in note for note in report.notes) == (words is not None)


def test_a_single_positive_film_is_explained():
    report = evaluate([[0], [0], [1]], [[0.1], [0.6], [0.3]], ["L"], operating_points=[0.2])
    assert report.labels[0].auroc == Interval(0.5, None, None)
    assert report.to_json()["labels"]["L"]["auroc_ci"] is None
    assert any("single film" in note for note in report.labels[0].notes)


def test_repeated_patients_are_told():
    patients = [str(film // 2) for film in range(80)]
    assert "80 films come from 40 patients" in sample_report(patients=patients).notes[0]
    assert sample_report(patients=[str(film) for film in range(80)]).notes == ()


@pytest.mark.parametrize(
    ("truth", "scores", "labels", "points", "words"),
    [
        ([0, 1], [0.1, 0.2], ["L"], [0.5], "shape"),
        ([[0], [1]], [[0.1, 0.2]], ["L"], [0.5], "shape"),
        (np.empty((0, 1)), np.empty((0, 1)), ["L"], [0.5], "at least one film"),
        ([[0], [1]], [[0.1], [1.2]], ["L"], [0.5], r"\[0, 1\]"),
        ([[0], [1]], [[0.1], [np.nan]], ["L"], [0.5], "NaN"),
        ([[0], [2]], [[0.1], [0.2]], ["L"], [0.5], "0 and 1"),
        ([["x"]], [["y"]], ["L"], [0.5], "numbers"),
        ([[0], [1]], [[0.1], [0.2]], ["L", "M"], [0.5], "labels must name each of 1"),
        ([[0], [1]], [[0.1], [0.2]], [""], [0.5], "labels must name"),
        ([[0, 1]], [[0.1, 0.2]], ["L", "L"], [0.5, 0.5], "'L' came more than once"),
        ([[0], [1]], [[0.1], [0.2]], ["L"], [], "operating_points must have one"),
        ([[0], [1]], [[0.1], [0.2]], ["L"], [1.5], "operating point must lie"),
    ],
)
def test_evaluate_refuses_what_it_cannot_use(truth, scores, labels, points, words):
    with pytest.raises(ArgumentError, match=words):
        evaluate(truth, scores, labels, operating_points=points)


@pytest.mark.parametrize(
    ("truth", "points", "words"),
    [([[1, 1]], [None, None], "exactly one 1"), ([[1, 0]], [0.5, None], "no operating point")],
)
def test_exclusive_labels_refuse_two_truths_and_operating_points(truth, points, words):
    with pytest.raises(ArgumentError, match=words):
        evaluate(truth, [[0.4, 0.6]], ["A", "B"], operating_points=points, exclusive=True)


def test_an_unknown_label_is_named():
    with pytest.raises(UnknownName, match="Did you mean 'Mass'"):
        sample_report().label("Maas")


@pytest.mark.parametrize("damage", [{}, {"labels": []}, {"labels": {"L": {"n": 1}}}])
def test_damaged_evaluations_are_refused(damage):
    with pytest.raises(DataError, match=r"Restore the file, or train the model again\.$"):
        EvaluationReport.from_json(damage)


# --- scores whose answers are known in closed form ---


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Map normal draws to probabilities, keeping their order."""
    return np.array([NormalDist().cdf(value) for value in values.tolist()])


def binormal(films: int, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw films of two classes whose scores are normal, `apart` standard deviations away."""
    generator = np.random.default_rng(seed)
    truth = (generator.random(films) < 0.3).astype(int)
    return truth, normal_scores(generator.normal(truth * apart, 1))


def binormal_area(apart: float) -> float:
    return NormalDist().cdf(apart / np.sqrt(2))


@pytest.mark.parametrize("apart", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_binormal_quantiles_have_the_area_of_the_formula(apart):
    # The midpoints of 400 slices of like probability stand for the whole of each class.
    middles = [NormalDist().inv_cdf((slice_ + 0.5) / 400) for slice_ in range(400)]
    scores = normal_scores(np.concatenate([middles, np.add(middles, apart)]))
    truth = np.repeat([0, 1], 400)
    report = evaluate(
        truth[:, None], scores[:, None], ["L"], operating_points=[0.5], rounds=1
    ).labels[0]
    assert report.auroc.value == pytest.approx(binormal_area(apart), abs=2e-4)
    assert report.specificity.value == 0.5
    # Flagged from a normal value of 0: so many of the positives lie above it.
    assert report.sensitivity.value == pytest.approx(NormalDist().cdf(apart), abs=1 / 400)


def test_intervals_of_large_binormal_samples_hold_the_area_of_the_formula():
    aparts = (0.3, 0.8, 1.2, 1.7, 2.5)
    samples = [binormal(20_000, apart, seed) for seed, apart in enumerate(aparts)]
    for (truth, scores), apart in zip(samples, aparts, strict=True):
        report = evaluate(
            truth[:, None], scores[:, None], ["L"], operating_points=[0.5], rounds=1
        ).labels[0]
        assert report.auroc.low < binormal_area(apart) < report.auroc.high
        assert report.auroc.high - report.auroc.low < 0.02


def test_nineteen_of_twenty_intervals_hold_the_area_of_the_formula():
    areas = [auroc(*binormal(200, 1.2, seed)) for seed in range(400)]
    held = np.mean([area.low < binormal_area(1.2) < area.high for area in areas])
    assert 0.92 < held < 0.98


@relaxed
@given(st.tuples(*[st.integers(0, 60)] * 4).filter(any), st.integers(1, 100), st.randoms())
def test_a_matrix_built_cell_by_cell_comes_out_exactly(cells, percent, random):
    point = percent / 100
    below = np.nextafter(point, 0)
    tn, fp, fn, tp = cells
    films = [(0, below)] * tn + [(0, point)] * fp + [(1, below)] * fn + [(1, point)] * tp
    random.shuffle(films)
    truth, scores = columns(films)
    report = evaluate(truth[:, None], scores[:, None], ["L"], operating_points=[point], rounds=1)
    assert report.labels[0].confusion == ((tn, fp), (fn, tp))
    if tn + fp and fn + tp:
        sensitivity, specificity = tp / (fn + tp), tn / (tn + fp)
        # Two scores only: the curve is two straight lines through the one point between them.
        assert report.labels[0].auroc.value == pytest.approx((sensitivity + specificity) / 2)
        assert report.micro.balanced_accuracy == report.labels[0].balanced_accuracy


@relaxed
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_a_matrix_of_exclusive_labels_comes_out_exactly(films):
    rows, winners = np.array(films).T
    scores = np.eye(4)[winners] * 0.6 + 0.1
    report = evaluate(
        np.eye(4)[rows], scores, "ABCD", operating_points=(None,) * 4, exclusive=True, rounds=1
    )
    expected = np.zeros((4, 4), dtype=int)
    np.add.at(expected, (rows, winners), 1)
    np.testing.assert_array_equal(report.matrix, expected)
    assert report.accuracy.value == np.mean(rows == winners)


# --- size ---


def test_a_test_split_of_an_archive_fits_in_memory():
    # As many films, patients and findings as the NIH test split, with full bootstrap.
    films, labels, patients = 22_433, 14, 2_797
    generator = np.random.default_rng(0)
    scores = generator.random((films, labels))
    truth = generator.random((films, labels)) < np.linspace(0.003, 0.3, labels) * scores
    owners = [str(owner) for owner in generator.integers(patients, size=films)]
    tracemalloc.start()
    try:
        report = evaluate(
            truth,
            scores,
            [f"finding {k}" for k in range(labels)],
            operating_points=[0.5] * labels,
            patients=owners,
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 27 MB when written; all rounds of a label at once would take 135 MB.
    assert peak < 60e6
    for k, one in enumerate(report.labels):
        assert one.auprc.value == pytest.approx(
            metrics.average_precision_score(truth[:, k], scores[:, k]), rel=1e-6
        )
        assert one.auprc.low < one.auprc.value < one.auprc.high
    assert report.micro.auroc == pytest.approx(
        metrics.roc_auc_score(truth, scores, average="micro")
    )


# --- tables ---


def test_table_evaluates_as_its_arrays_do():
    films = table()
    report = evaluate_table(films, (0.3, 0.5), model="m")
    assert report == evaluate(
        films.y_true,
        films.y_score,
        films.labels,
        operating_points=(0.3, 0.5),
        model="m",
        split="test",
        patients=films.patients,
    )
    assert report.label("Effusion").confusion == ((2, 1), (0, 2))
    exclusive = evaluate_table(films, (None, None), exclusive=True)
    assert exclusive.matrix == ((1, 1), (0, 3))


@pytest.mark.parametrize(
    ("by", "sizes"),
    [
        ("view", {"AP": 1, "PA": 3, "unknown": 1}),
        ("sex", {"F": 3, "M": 2}),
        ("age", {"0 to 17": 1, "18 to 39": 1, "40 to 64": 1, "65 and over": 1, "unknown": 1}),
    ],
)
def test_subgroups_part_the_films(by, sizes):
    reports = subgroups(table(), "Effusion", 0.3, by)
    assert {name: report.n for name, report in reports.items()} == sizes
    assert list(reports) == list(sizes)
    assert sum(np.array(report.confusion) for report in reports.values()).tolist() == [
        [2, 1],
        [0, 2],
    ]


def test_a_subgroup_is_the_report_of_its_films_alone():
    films = table()
    women = [0, 2, 4]
    expected = evaluate(
        films.y_true[women, :1],
        films.y_score[women, :1],
        ["Effusion"],
        operating_points=[0.3],
        patients=["p1", "p2", "p4"],
    )
    found = subgroups(films, "Effusion", 0.3, "sex")["F"]
    assert found == replace(expected.labels[0], notes=found.notes)
    assert found.notes[1:] == expected.labels[0].notes


@pytest.mark.parametrize(
    ("films", "positives", "few"),
    [
        (12, 3, "12 films, 3 of them with Mass"),
        (29, 14, "29 films, 14 of them with Mass"),
        (1, 1, "one film"),
        (40, 9, "9 of 40 films with Mass"),
        (40, 31, "9 of 40 films without Mass"),
        (30, 10, None),
        (30, 20, None),
    ],
)
def test_small_groups_say_so(films, positives, few):
    people = 100 + films
    report = subgroups(
        PredictionTable(
            files=tuple(map(str, range(people))),
            patients=tuple(map(str, range(people))),
            labels=("Mass",),
            y_true=np.append(np.arange(films) < positives, np.arange(100) < 50)[:, None],
            y_score=np.linspace(0.9, 0.1, people)[:, None],
            split="test",
            sex=("F",) * films + ("M",) * 100,
        ),
        "Mass",
        0.5,
        "sex",
    )
    warnings = [note for note in report["F"].notes if "read the interval" in note]
    assert warnings == ([f"Only {few}: read the interval, not the number."] if few else [])
    assert not any("read the interval" in note for note in report["M"].notes)


def test_groupings_are_those_that_part_the_films():
    assert groupings(table()) == ("view", "sex", "age")
    assert groupings(table(view=None, sex=("F",) * 5)) == ("age",)
    assert groupings(table(age=(1.0, 2.0, 3.0, 4.0, 5.0), sex=None)) == ("view",)
    assert groupings(table(view=("PA", "", "PA", "PA", "PA"), sex=None, age=None)) == ("view",)


def test_flagged_films_are_those_of_the_confusion_matrix():
    films = table()
    assert flagged(films, "Effusion", 0.4).tolist() == [True, False, False, True, False]
    assert flagged(films, "Effusion", None) is None
    largest = flagged(films, "Effusion", None, exclusive=True)
    assert largest.tolist() == [True, False, False, False, False]
    with pytest.raises(UnknownName, match="label"):
        flagged(films, "Mass", 0.4)
    with pytest.raises(ArgumentError, match="operating point"):
        flagged(films, "Effusion", 1.5)
    with pytest.raises(ArgumentError, match="largest score"):
        flagged(films, "Effusion", 0.5, exclusive=True)


def test_subgroups_of_exclusive_labels_keep_the_largest_score_rule():
    reports = subgroups(table(), "Effusion", None, "sex", exclusive=True)
    assert reports["F"].confusion == ((1, 0), (1, 1))


def test_subgroups_refuse_what_is_not_there():
    with pytest.raises(ArgumentError, match="record no view"):
        subgroups(table(view=None), "Effusion", 0.3, "view")
    with pytest.raises(UnknownName, match="grouping"):
        subgroups(table(), "Effusion", 0.3, "race")
    with pytest.raises(UnknownName, match="label"):
        subgroups(table(), "Effusions", 0.3, "sex")


def test_shared_patients_are_found():
    other = table(patients=("p9", "p4", "p1", "p8", "p8"))
    assert shared_patients(table(), other) == ("p1", "p4")
    assert shared_patients(table(), table(patients=tuple("vwxyz"))) == ()


def test_table_locks_its_arrays_and_leaves_the_callers_alone():
    scores = np.full((5, 2), 0.5)
    films = table(y_score=scores)
    scores[0, 0] = 0.7
    assert films.y_score[0, 0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        films.y_true[0, 0] = 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": ("a.png",) * 5}, "'a.png' came more than once"),
        ({"patients": ("p1",)}, "patients must have one entry for each of 5 films, but 1"),
        ({"patients": ("p1", "", "p2", "p3", "p4")}, "a patient"),
        ({"split": ""}, "a split"),
        ({"labels": ("Effusion",)}, "labels"),
        ({"age": (float("nan"),) * 5}, "age"),
        ({"age": (1.0,)}, "age"),
        ({"y_score": np.full((5, 2), 1.5)}, "y_score"),
    ],
)
def test_table_refuses_what_does_not_fit_together(changes, words):
    with pytest.raises(ArgumentError, match=words):
        table(**changes)


def same(a: PredictionTable, b: PredictionTable) -> bool:
    plain = ("files", "patients", "labels", "split", "view", "age", "sex")
    return all(getattr(a, name) == getattr(b, name) for name in plain) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("y_true", "y_score")
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"view": None, "age": None, "sex": None},
        {"labels": ('Nodule, "small"', "Épanchement"), "files": tuple("ab,c\"'")[:5]},
    ],
)
def test_predictions_survive_the_file_to_the_last_digit(tmp_path, changes):
    films = table(**changes)
    write_predictions(tmp_path / "p.csv", films)
    assert same(read_predictions(tmp_path / "p.csv"), films)


@relaxed
@given(st.lists(st.floats(0, 1), min_size=10, max_size=10))
def test_every_score_survives_the_file(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("scores") / "p.csv"
    films = table(y_score=np.reshape(scores, (5, 2)))
    write_predictions(path, films)
    np.testing.assert_array_equal(read_predictions(path).y_score, films.y_score)


def test_the_file_is_as_the_contract_says(tmp_path):
    write_predictions(tmp_path / "p.csv", table())
    first, second = (tmp_path / "p.csv").read_text("utf-8").splitlines()[:2]
    assert first == (
        "file,patient,split,view,age,sex,true_Effusion,score_Effusion,"
        "true_No Finding,score_No Finding"
    )
    assert second == "a.png,p1,test,PA,5.5,F,1,0.9,0,0.1"


def test_reading_tolerates_other_column_orders_a_byte_order_mark_and_no_view(tmp_path):
    text = "score_L,true_L,extra,split,patient,file\n0.25,1,x,val,p1,a.png\n"
    (tmp_path / "p.csv").write_text(text, "utf-8-sig")
    films = read_predictions(tmp_path / "p.csv")
    assert (films.files, films.split, films.view, films.y_score.item()) == (
        ("a.png",),
        "val",
        None,
        0.25,
    )


HEADER = "file,patient,split,age,true_L,score_L\n"
GOOD = "a.png,p1,test,40,1,0.5\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no film"),
        (HEADER, "no film"),
        (HEADER + GOOD + "b.png,p1,test,40,2,0.5\n", "line 3, column 'true_L': 0 or 1"),
        (HEADER + GOOD + "b.png,p1,test,40,1,high\n", "line 3, column 'score_L'.*'high' came"),
        (HEADER + GOOD + "b.png,p1,test,40,1,1.5\n", "line 3, column 'score_L'.*'1.5' came"),
        (HEADER + GOOD + "b.png,p1,test,40,1,nan\n", "line 3, column 'score_L'"),
        (HEADER + GOOD + "b.png,p1,test,-1,1,0.5\n", "line 3, column 'age'"),
        (HEADER + GOOD + "b.png,,test,40,1,0.5\n", "line 3, column 'patient': a name"),
        (HEADER + GOOD + "b.png,p1,test,40,1\n", "line 3: exactly 6 cells"),
        (HEADER + GOOD + "b.png,p1,test,40,1,0.5,9\n", "line 3: exactly 6 cells"),
        (HEADER + GOOD + "b.png,p1,train,40,1,0.5\n", "mixes the splits test, train"),
        (HEADER + GOOD + GOOD, "'a.png' came more than once"),
        (HEADER.replace("score_L", "L") + GOOD, "column 'score_L' is missing"),
        (HEADER.replace("true_L", "L") + GOOD, "must have columns 'true_<label>'"),
        (HEADER.replace("age", "file") + GOOD, "'file' came more than once"),
        (HEADER + '"a.png', "cannot be read"),
    ],
)
def test_malformed_predictions_name_the_place(tmp_path, text, words):
    (tmp_path / "p.csv").write_text(text, "utf-8")
    with pytest.raises(DataError, match=words):
        read_predictions(tmp_path / "p.csv")


def test_predictions_that_are_no_text_or_not_there_are_refused(tmp_path):
    (tmp_path / "p.csv").write_bytes(b"\xff\xfe\x00\x01")
    for name in ("p.csv", "absent.csv"):
        with pytest.raises(DataError, match="cannot be read"):
            read_predictions(tmp_path / name)


def test_reports_are_frozen():
    with pytest.raises(AttributeError):
        sample_report().model = "other"  # type: ignore[misc]
    assert replace(sample_report(), model="other").model == "other"


def test_importing_evaluation_loads_nothing_heavy():
    code = "import sys, cxr_core.evaluation; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {module.split(".")[0] for module in run.stdout.split()}
    assert not loaded & {"scipy", "sklearn", "pandas", "matplotlib", "tensorflow", "keras"}
