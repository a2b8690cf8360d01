"""Temperatures recover what was distorted; operating points and bands keep their promises."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_core.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    Calibration,
    cannot_tell_band,
    fit_temperature,
    operating_point,
    probabilities,
)
from cxr_core.errors import ArgumentError

PLAIN = Calibration("none", ())

# A busy machine must not fail a property: no deadline.
relaxed = settings(max_examples=40, deadline=None)


def overconfident(films: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw truths from honest logits, and return the logits multiplied by the temperature."""
    generator = np.random.default_rng(seed)
    honest = generator.normal(0, 2, films)
    truth = generator.random(films) < 1 / (1 + np.exp(-honest))
    return honest * temperature, truth.astype(int)


def nll(logits: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    p = probabilities(logits, Calibration("temperature", (temperature,)), "sigmoid")
    return -float(np.mean(np.log(np.where(truth == 1, p, 1 - p))))


def test_temperature_recovers_the_distortion_of_each_label():
    columns = [overconfident(20_000, 3.0), overconfident(20_000, 0.5, seed=1)]
    logits, truth = (np.stack(parts, axis=1) for parts in zip(*columns, strict=True))

    found = fit_temperature(logits, truth, "sigmoid")

    assert found.method == "temperature"
    np.testing.assert_allclose(found.parameters, (3.0, 0.5), rtol=0.05)


def test_temperature_is_the_minimum_of_the_negative_log_likelihood():
    logits, truth = overconfident(300, 2.0)

    (found,) = fit_temperature(logits[:, None], truth[:, None], "sigmoid").parameters

    best = nll(logits[:, None], truth[:, None], found)
    others = [nll(logits[:, None], truth[:, None], found * factor) for factor in (0.5, 0.97, 1.03)]
    assert best < min(others)


def test_temperature_worked_by_hand():
    # Three of four films at logit 1 are positive: p = 3/4 needs 1 / T = log 3.
    logits, truth = np.ones((4, 1)), np.array([[1], [1], [1], [0]])
    (found,) = fit_temperature(logits, truth, "sigmoid").parameters
    assert found == pytest.approx(1 / np.log(3), rel=1e-5)


def test_softmax_of_two_classes_equals_sigmoid_of_their_difference():
    logits, truth = overconfident(500, 2.0)
    pair = np.stack([np.zeros_like(logits), logits], axis=1)

    one = fit_temperature(logits[:, None], truth[:, None], "sigmoid")
    two = fit_temperature(pair, np.stack([1 - truth, truth], axis=1), "softmax")

    assert two.parameters == pytest.approx(one.parameters, rel=1e-4)
    np.testing.assert_allclose(
        probabilities(pair, two, "softmax")[:, 1:],
        probabilities(logits[:, None], one, "sigmoid"),
        atol=1e-4,
    )


def test_temperature_stays_bounded_on_separable_and_on_reversed_films():
    logits = np.array([[-3.0, 3.0], [-1.0, 1.0], [1.0, -1.0], [3.0, -3.0]])
    truth = np.array([[0, 0], [0, 0], [1, 1], [1, 1]])

    separable, reversed_ = fit_temperature(logits, truth, "sigmoid").parameters

    assert LOWEST_TEMPERATURE <= separable < LOWEST_TEMPERATURE * 1.001
    assert HIGHEST_TEMPERATURE * 0.999 < reversed_ <= HIGHEST_TEMPERATURE


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_only_keeps_temperature_one(value):
    truth = np.full((3, 1), value)
    assert fit_temperature(np.ones((3, 1)), truth, "sigmoid").parameters == (1.0,)


def test_one_class_only_keeps_temperature_one_under_softmax():
    truth = np.array([[0, 1], [0, 1]])
    assert fit_temperature(np.eye(2), truth, "softmax").parameters == (1.0,)


@pytest.mark.parametrize(
    ("logits", "truth", "activation", "words"),
    [
        ([[1.0]], [[1, 0]], "sigmoid", "shape"),
        (np.empty((0, 2)), np.empty((0, 2)), "sigmoid", "at least one film"),
        ([[np.nan]], [[1]], "sigmoid", "finite"),
        ([[1.0]], [[2]], "sigmoid", "0 and 1"),
        ([[1.0, 2.0]], [[1, 1]], "softmax", "exactly one"),
        ([[1.0]], [[1]], "tanh", "sigmoid, softmax"),
    ],
)
def test_fit_refuses_what_it_cannot_use(logits, truth, activation, words):
    with pytest.raises(ArgumentError, match=words):
        fit_temperature(logits, truth, activation)


def test_probabilities_are_exact_and_do_not_overflow():
    logits = np.array([[-1e4, -700.0, 0.0, np.log(3), 700.0, 1e4]])
    expected = [[0.0, np.exp(-700.0), 0.5, 0.75, 1.0, 1.0]]
    np.testing.assert_allclose(probabilities(logits, PLAIN, "sigmoid"), expected, rtol=1e-12)

    softmax = probabilities(np.array([1e4, 0.0, -1e4]), PLAIN, "softmax")
    np.testing.assert_array_equal(softmax, [1.0, 0.0, 0.0])


@relaxed
@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=5),
    st.sampled_from(["sigmoid", "softmax"]),
    st.floats(0.25, 20),
)
def test_probabilities_keep_the_order_of_logits(logits, activation, temperature):
    count = len(logits) if activation == "sigmoid" else 1
    found = probabilities(logits, Calibration("temperature", (temperature,) * count), activation)

    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found[np.argsort(logits)]) >= 0).all()
    if activation == "softmax":
        assert found.sum() == pytest.approx(1)


def test_probabilities_keep_leading_axes():
    found = probabilities(np.zeros((2, 3, 4)), Calibration("temperature", (2.0,)), "softmax")
    np.testing.assert_allclose(found, np.full((2, 3, 4), 0.25))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_probabilities_refuse_a_wrong_number_of_temperatures(activation):
    with pytest.raises(ArgumentError, match="temperature"):
        probabilities(np.zeros((1, 3)), Calibration("temperature", (1.0, 2.0)), activation)


def test_probabilities_refuse_a_single_number():
    with pytest.raises(ArgumentError, match="last axis"):
        probabilities(1.0, PLAIN, "sigmoid")


def test_calibration_survives_json():
    calibration = Calibration("temperature", (1.2345678901234567, 2.0))
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration
    assert Calibration.from_json(json.loads(json.dumps(PLAIN.to_json()))) == PLAIN


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("platt", (1.0,)),
        ("temperature", ()),
        ("none", (1.0,)),
        ("temperature", (0.0,)),
        ("temperature", (float("nan"),)),
    ],
)
def test_calibration_refuses_what_cannot_be_applied(method, parameters):
    with pytest.raises(ArgumentError):
        Calibration(method, parameters)


def test_operating_point_worked_by_hand():
    truth = np.array([1] * 20 + [0])
    scores = np.append(np.arange(1, 21) / 20, 0.99)
    # 95 % of 20 positives are 19: the second lowest, 2/20, flags exactly those.
    assert operating_point(truth, scores) == 0.1
    assert operating_point(truth, scores, sensitivity=1.0) == 0.05
    assert operating_point(truth, scores, sensitivity=0.951) == 0.05


@pytest.mark.parametrize("wanted", [7, 14, 28, 29, 55, 56, 57, 58, 95])
def test_operating_point_flags_not_one_film_more_than_a_whole_share_needs(wanted):
    scores = np.arange(1, 101) / 100
    flagged = scores >= operating_point(np.ones(100), scores, sensitivity=wanted / 100)
    assert flagged.sum() == wanted


def test_operating_point_takes_tied_scores_together():
    assert operating_point([1, 1, 1, 1], [0.2, 0.7, 0.7, 0.7], sensitivity=0.5) == 0.7


@relaxed
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=1, max_size=60
    ).filter(lambda films: any(truth for truth, _ in films)),
    st.one_of(st.sampled_from([0.07, 0.29, 0.57, 0.9, 0.95, 1.0]), st.floats(0.01, 1)),
)
def test_operating_point_is_the_highest_that_reaches_the_sensitivity(films, wanted):
    truth, scores = (np.array(column) for column in zip(*films, strict=True))

    threshold = json.loads(json.dumps(operating_point(truth, scores, sensitivity=wanted)))

    def reached(at: float) -> float:
        return float((scores[truth == 1] >= at).mean())

    assert reached(threshold) >= wanted
    assert reached(np.nextafter(threshold, 2)) < wanted


@pytest.mark.parametrize(
    ("truth", "scores", "words"),
    [
        ([0, 0], [0.1, 0.2], "at least one positive"),
        ([0, 1], [0.1], "shape"),
        ([0, 1], [0.1, float("nan")], "NaN"),
        ([0, 1], [0.1, 1.5], r"\[0, 1\]"),
        ([0, 3], [0.1, 0.5], "0 and 1"),
    ],
)
def test_operating_point_refuses_what_it_cannot_use(truth, scores, words):
    with pytest.raises(ArgumentError, match=words):
        operating_point(truth, scores)


@pytest.mark.parametrize("sensitivity", [0, 1.01, float("nan")])
def test_operating_point_refuses_an_impossible_sensitivity(sensitivity):
    with pytest.raises(ArgumentError, match="sensitivity"):
        operating_point([1], [0.5], sensitivity=sensitivity)


def test_band_worked_by_hand():
    # 39 films a class: the conformal rank is floor(0.05 * 40) = 2 from either end.
    positive, negative = np.arange(40, 79) / 100, np.arange(20, 59) / 100
    truth = np.repeat([1, 0], 39)
    assert cannot_tell_band(truth, np.append(positive, negative)) == (0.41, 0.57)


def test_band_of_well_separated_classes_lies_between_them():
    truth = np.repeat([1, 0], 19)
    scores = np.append(np.linspace(0.8, 0.98, 19), np.linspace(0.02, 0.2, 19))
    low, high = cannot_tell_band(truth, scores)
    assert (low, high) == pytest.approx((0.2, 0.8))


def test_band_opens_fully_with_too_few_films():
    assert cannot_tell_band([1, 1, 0, 0], [0.6, 0.9, 0.4, 0.1]) == (0.0, 1.0)


def test_band_keeps_wrong_answers_outside_it_below_the_error():
    generator = np.random.default_rng(0)
    wrong = []
    for _ in range(400):
        positive, negative = generator.beta(3, 2, 50), generator.beta(2, 3, 50)
        low, high = cannot_tell_band(np.repeat([1, 0], 50), np.append(positive, negative))
        fresh_positive, fresh_negative = generator.beta(3, 2, 200), generator.beta(2, 3, 200)
        wrong.append(((fresh_positive < low).mean(), (fresh_negative > high).mean()))
    missed, alarmed = np.mean(wrong, axis=0)
    # Of 50 films, rank floor(0.05 * 51) = 2 is the limit: exactly 2 in 51 fall beyond it.
    assert missed == pytest.approx(2 / 51, abs=0.005)
    assert alarmed == pytest.approx(2 / 51, abs=0.005)


def test_band_needs_both_classes():
    with pytest.raises(ArgumentError, match="with and without"):
        cannot_tell_band([1, 1], [0.2, 0.3])


@pytest.mark.parametrize("error", [0, 1, float("nan")])
def test_band_refuses_an_impossible_error(error):
    with pytest.raises(ArgumentError, match="error"):
        cannot_tell_band([1, 0], [0.2, 0.3], error=error)
