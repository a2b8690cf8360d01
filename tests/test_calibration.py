"""Curves recover what was distorted; operating points and bands keep their promises."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_core.calibration import (
    FARTHEST,
    FOLDS,
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    METHODS,
    Calibration,
    Curve,
    cannot_tell_band,
    choose_calibration,
    fit_curve,
    for_prevalence,
    operating_point,
    out_of_fold,
    probabilities,
)
from cxr_core.errors import ArgumentError

PLAIN = Calibration()

# A busy machine must not fail a property: no deadline.
relaxed = settings(max_examples=40, deadline=None)


def overconfident(films: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw truths from honest logits, and return the logits multiplied by the temperature."""
    generator = np.random.default_rng(seed)
    honest = generator.normal(0, 2, films)
    truth = generator.random(films) < 1 / (1 + np.exp(-honest))
    return honest * temperature, truth.astype(int)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def log_loss_of(curve: Curve, logits: np.ndarray, truth: np.ndarray) -> float:
    p = sigmoid(curve(logits))
    return -float(np.mean(np.log(np.where(truth == 1, p, 1 - p))))


# --- curves ---


def test_a_temperature_recovers_the_distortion():
    for temperature in (3.0, 0.5):
        found = fit_curve("temperature", *overconfident(20_000, temperature))
        assert found.parameters == pytest.approx((temperature,), rel=0.05)


def test_a_temperature_is_the_minimum_of_the_log_loss():
    logits, truth = overconfident(300, 2.0)

    (found,) = fit_curve("temperature", logits, truth).parameters

    best = log_loss_of(Curve("temperature", (found,)), logits, truth)
    for factor in (0.5, 0.97, 1.03):
        assert best < log_loss_of(Curve("temperature", (found * factor,)), logits, truth)


def test_a_temperature_worked_by_hand():
    # Three of four films at logit 1 are positive: p = 3/4 needs 1 / T = log 3.
    (found,) = fit_curve("temperature", np.ones(4), np.array([1, 1, 1, 0])).parameters
    assert found == pytest.approx(1 / np.log(3), rel=1e-5)


def test_softmax_of_two_classes_equals_sigmoid_of_their_difference():
    logits, truth = overconfident(500, 2.0)
    pair = np.stack([np.zeros_like(logits), logits], axis=1)

    one = fit_curve("temperature", logits, truth)
    two = fit_curve("temperature", pair, np.stack([1 - truth, truth], axis=1))

    assert two.parameters == pytest.approx(one.parameters, rel=1e-4)
    np.testing.assert_allclose(
        probabilities(pair, Calibration((two,)), "softmax")[:, 1],
        probabilities(logits[:, None], Calibration((one,)), "sigmoid")[:, 0],
        atol=1e-4,
    )


def test_a_temperature_stays_bounded_on_separable_and_on_reversed_films():
    logits, truth = np.array([-3.0, -1.0, 1.0, 3.0]), np.array([0, 0, 1, 1])

    (separable,) = fit_curve("temperature", logits, truth).parameters
    (reversed_,) = fit_curve("temperature", -logits, truth).parameters

    assert LOWEST_TEMPERATURE <= separable < LOWEST_TEMPERATURE * 1.001
    assert HIGHEST_TEMPERATURE * 0.999 < reversed_ <= HIGHEST_TEMPERATURE


def test_platt_worked_by_hand():
    # Of 10 films at logit -1 two have it, of 10 at logit 3 nine: the line meets both log odds.
    logits = np.repeat([-1.0, 3.0], 10)
    truth = np.array([1] * 2 + [0] * 8 + [1] * 9 + [0])
    slope = (np.log(9) - np.log(0.25)) / 4
    found = fit_curve("platt", logits, truth)
    assert found.parameters == pytest.approx((slope, np.log(9) - 3 * slope), abs=1e-3)


def test_platt_is_what_scikit_learn_finds():
    from sklearn.linear_model import LogisticRegression

    logits, truth = overconfident(400, 1.7)
    logits = logits + 1.5
    reference = LogisticRegression(C=1e10, tol=1e-10).fit(logits[:, None], truth)
    expected = (float(reference.coef_[0, 0]), float(reference.intercept_[0]))
    assert fit_curve("platt", logits, truth).parameters == pytest.approx(expected, abs=2e-3)


def test_platt_stays_bounded_on_separable_and_on_reversed_films():
    logits, truth = np.array([-3.0, -1.0, 1.0, 3.0]), np.array([0, 0, 1, 1])
    for films in (logits, -logits, logits + 100):
        slope, added = fit_curve("platt", films, truth).parameters
        assert 1 / HIGHEST_TEMPERATURE <= slope <= 1 / LOWEST_TEMPERATURE
        assert abs(added) <= FARTHEST


def test_isotonic_worked_by_hand():
    # The films at 1 and 2 break the order and are pooled: two of four there have it.
    logits = np.array([0, 0, 1, 1, 2, 2, 3, 3], float)
    truth = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    found = fit_curve("isotonic", logits, truth)
    # Middles 0, 1.5 and 3; shares 0, 1/2 and 1 become (8 share + 1) / 10.
    expected = [0, 1.5, 3, np.log(0.1 / 0.9), 0, np.log(0.9 / 0.1)]
    assert found.parameters == pytest.approx(expected)
    # Half way between two knots lies half of their rise; beyond them the average goes on.
    assert found(0.75) == pytest.approx(np.log(0.1 / 0.9) / 2)
    assert found(4.0) == pytest.approx(np.log(9) * (1 + 1 / 1.5))


def test_isotonic_pools_as_scikit_learn_does():
    from sklearn.isotonic import IsotonicRegression

    logits, truth = overconfident(300, 2.0)
    knots = np.reshape(fit_curve("isotonic", logits, truth).parameters, (2, -1))
    pooled = np.unique(IsotonicRegression().fit(logits, truth).predict(logits))
    np.testing.assert_allclose(sigmoid(knots[1]), (pooled * 300 + 1) / 302)


def test_an_isotonic_curve_that_would_not_rise_leaves_logits_alone():
    assert fit_curve("isotonic", np.arange(4.0), np.array([1, 1, 0, 0])) == Curve()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0, 1])
def test_films_of_one_class_only_leave_logits_alone(method, value):
    assert fit_curve(method, np.arange(3.0), np.full(3, value)) == Curve()


def test_a_class_that_all_films_have_leaves_logits_alone_under_softmax():
    assert fit_curve("temperature", np.eye(2), np.array([[0, 1], [0, 1]])) == Curve()


curves = st.one_of(
    st.just(Curve()),
    st.floats(0.25, 20).map(lambda t: Curve("temperature", (t,))),
    st.tuples(st.floats(0.05, 4), st.floats(-10, 10)).map(lambda line: Curve("platt", line)),
    st.lists(st.tuples(st.floats(0.01, 5), st.floats(0.01, 5)), min_size=1, max_size=5).map(
        lambda steps: Curve(
            "isotonic", (-3.0, *(np.cumsum(steps, axis=0).T[0] - 3),
                         -2.0, *(np.cumsum(steps, axis=0).T[1] - 2))
        )
    ),
)  # fmt: skip


@relaxed
@given(curves, st.lists(st.floats(-30, 30), min_size=2, max_size=8))
def test_every_curve_rises_and_can_be_undone(curve, logits):
    logits = np.sort(logits)
    found = curve(logits)
    apart = np.diff(logits) > 1e-6
    assert (np.diff(found)[apart] > 0).all()
    np.testing.assert_allclose(curve.inverse(found), logits, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("beta", (1.0,)),
        ("none", (1.0,)),
        ("temperature", ()),
        ("temperature", (0.0,)),
        ("temperature", (float("nan"),)),
        ("platt", (1.0,)),
        ("platt", (-1.0, 0.0)),
        ("isotonic", (0.0, 1.0)),
        ("isotonic", (0.0, 1.0, 2.0, 0.0, 1.0)),
        ("isotonic", (0.0, 0.0, -1.0, 1.0)),
        ("isotonic", (0.0, 1.0, 1.0, -1.0)),
    ],
)
def test_a_curve_refuses_what_cannot_be_applied(method, parameters):
    with pytest.raises(ArgumentError):
        Curve(method, parameters)


def test_several_labels_of_which_one_holds_have_no_line():
    with pytest.raises(ArgumentError, match="none, temperature"):
        fit_curve("platt", np.eye(2), np.eye(2))


# --- the choice ---


def chosen(logits: np.ndarray, truth: np.ndarray, patients: np.ndarray | None = None) -> Curve:
    groups = np.arange(len(logits)) if patients is None else patients
    (curve,) = choose_calibration(logits[:, None], truth[:, None], groups, "sigmoid").curves
    return curve


def test_honest_logits_are_left_alone():
    assert chosen(*overconfident(600, 1.0)) == Curve()


def test_overconfident_logits_get_a_temperature():
    curve = chosen(*overconfident(2000, 3.0))
    assert curve.method == "temperature"
    assert curve.parameters == pytest.approx((3.0,), rel=0.2)


def test_logits_off_by_a_constant_get_a_line():
    logits, truth = overconfident(1000, 1.0)
    curve = chosen(logits - 2, truth)
    assert curve.method == "platt"
    assert curve.parameters == pytest.approx((1, 2), abs=0.4)


def test_logits_bent_as_no_line_is_get_an_isotonic_curve():
    logits, truth = overconfident(6000, 1.0)
    bent = np.where(logits < 0, logits / 20, logits * 20)
    assert chosen(bent, truth).method == "isotonic"


def test_chance_alone_never_buys_an_isotonic_curve():
    methods = {chosen(*overconfident(60, 1.0, seed)).method for seed in range(12)}
    assert "isotonic" not in methods


def test_copies_of_few_patients_are_not_many_films():
    """Thirty patients, fifty alike films of each: what looks certain is thirty answers."""
    logits, truth = (np.repeat(column, 50) for column in overconfident(30, 2.0, seed=3))
    patients = np.repeat(np.arange(30), 50)
    assert chosen(logits, truth).method == "isotonic"  # as if each film were a patient's own
    assert chosen(logits, truth, patients).method in ("none", "temperature")


def test_too_few_patients_of_a_kind_choose_nothing():
    logits, truth = overconfident(500, 5.0)
    first = np.flatnonzero(truth)[: FOLDS - 1]
    few = np.zeros(500, int)
    few[first] = 1
    assert chosen(logits, few) == Curve()


def test_a_calibration_remembers_its_films():
    logits, truth = overconfident(100, 1.0)
    found = choose_calibration(logits[:, None], truth[:, None], np.arange(100), "sigmoid")
    assert found.films == 100
    assert found.prevalence == pytest.approx((truth.mean(),))


def test_softmax_has_one_temperature_for_all_labels():
    logits, truth = overconfident(3000, 3.0)
    pair = np.stack([np.zeros_like(logits), logits], axis=1)
    found = choose_calibration(
        pair, np.stack([1 - truth, truth], axis=1), np.arange(3000), "softmax"
    )
    assert [curve.method for curve in found.curves] == ["temperature"]
    assert found.prevalence == pytest.approx((1 - truth.mean(), truth.mean()))


def test_out_of_fold_probabilities_never_saw_their_own_film():
    """Flipping one patient's truth moves the curves of the others' films, not of its own."""
    logits, truth = overconfident(200, 3.0)
    patients = np.arange(200) // 2
    calibration = Calibration((Curve("temperature", (3.0,)),))
    flipped = truth.copy()
    # Both kinds, so that the patient stays of its kind and all keep their folds.
    two = next(k for k in range(0, 200, 2) if truth[k] != truth[k + 1])
    flipped[two : two + 2] = 1 - truth[two : two + 2]
    one, other = (
        out_of_fold(logits[:, None], y[:, None], patients, calibration, "sigmoid")[:, 0]
        for y in (truth, flipped)
    )
    np.testing.assert_array_equal(one[two : two + 2], other[two : two + 2])
    assert (one != other).any()


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
def test_the_choice_refuses_what_it_cannot_use(logits, truth, activation, words):
    with pytest.raises(ArgumentError, match=words):
        choose_calibration(logits, truth, np.arange(len(logits)), activation)


# --- probabilities ---


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
    curves,
)
def test_probabilities_keep_the_order_of_logits(logits, activation, curve):
    count = len(logits) if activation == "sigmoid" else 1
    found = probabilities(logits, Calibration((curve,) * count), activation)

    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found[np.argsort(logits)]) >= 0).all()
    if activation == "softmax":
        assert found.sum() == pytest.approx(1)


def test_each_label_has_its_own_curve():
    calibration = Calibration((Curve("temperature", (2.0,)), Curve("platt", (1.0, 3.0))))
    found = probabilities([[2.0, -3.0]], calibration, "sigmoid")
    np.testing.assert_allclose(found, [[sigmoid(np.array(1.0)), 0.5]])


def test_probabilities_keep_leading_axes():
    calibration = Calibration((Curve("temperature", (2.0,)),))
    found = probabilities(np.zeros((2, 3, 4)), calibration, "softmax")
    np.testing.assert_allclose(found, np.full((2, 3, 4), 0.25))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_probabilities_refuse_a_wrong_number_of_curves(activation):
    with pytest.raises(ArgumentError, match="curve"):
        probabilities(np.zeros((1, 3)), Calibration((Curve(), Curve())), activation)


def test_probabilities_refuse_a_single_number():
    with pytest.raises(ArgumentError, match="last axis"):
        probabilities(1.0, PLAIN, "sigmoid")


def test_calibration_survives_json():
    curves = (
        Curve("temperature", (1.2345678901234567,)),
        Curve("platt", (0.5, -2.0)),
        Curve("isotonic", (0.0, 1.0, -1.0, 1.0)),
        Curve(),
    )
    for calibration in (Calibration(curves, 12, (0.1, 0.2, 0.3, 0.4)), PLAIN):
        there = json.loads(json.dumps(calibration.to_json(), allow_nan=False))
        assert Calibration.from_json(there) == calibration


def test_calibration_in_words():
    assert PLAIN.in_words() == "none"
    assert Calibration((Curve("platt", (1.5, -2.0)),)).in_words() == "platt, 1.50 × logit -2.00"
    several = (Curve(), Curve("temperature", (2.0,)), Curve("temperature", (3.0,)))
    assert Calibration(several).in_words() == "none for 1, temperature for 2"


# --- another prevalence ---


def test_prevalence_worked_by_hand():
    # Odds 1 at one in two; at one in five the prior odds are a quarter: 1/4 is 0.2.
    assert for_prevalence(0.5, 0.5, 0.2) == pytest.approx(0.2)
    # Odds 4 at one in five (prior odds 1/4); at one in two (1) they are 16: 16/17.
    assert for_prevalence(0.8, 0.2, 0.5) == pytest.approx(16 / 17)


@relaxed
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=6),
    st.floats(0.001, 0.999),
    st.floats(0.001, 0.999),
)
def test_prevalence_keeps_ranks_and_can_be_undone(scores, here, there):
    scores = np.sort(scores)
    found = for_prevalence(scores, here, there)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()
    np.testing.assert_allclose(for_prevalence(found, there, here), scores, atol=1e-9)
    np.testing.assert_allclose(for_prevalence(scores, here, here), scores, atol=1e-12)


def test_prevalence_makes_probabilities_honest_where_findings_are_rarer():
    """Of films drawn with one in two, keep those that make it one in eleven."""
    logits, truth = overconfident(40_000, 1.0)
    random = np.random.default_rng(1)
    kept = (truth == 0) | (random.random(truth.size) < 0.1)
    there = truth[kept].mean()
    adjusted = for_prevalence(sigmoid(logits[kept]), truth.mean(), there)
    assert adjusted.mean() == pytest.approx(there, abs=0.005)
    assert sigmoid(logits[kept]).mean() > 2 * there


@pytest.mark.parametrize(
    ("values", "words"),
    [((0.5, 0.0, 0.2), "prevalence"), ((0.5, 0.2, 1.0), "there"), ((1.1, 0.2, 0.2), "probability")],
)
def test_prevalence_refuses_what_it_cannot_use(values, words):
    with pytest.raises(ArgumentError, match=words):
        for_prevalence(*values)


# --- where to flag, and where nobody can tell ---


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


def band(truth, scores, patients=None, **options):
    groups = np.arange(len(truth)) if patients is None else patients
    return cannot_tell_band(truth, scores, groups, **options)


def test_band_worked_by_hand():
    # 39 films a class: the conformal rank is floor(0.05 * 40) = 2 from either end.
    positive, negative = np.arange(40, 79) / 100, np.arange(20, 59) / 100
    truth = np.repeat([1, 0], 39)
    assert band(truth, np.append(positive, negative)) == (0.41, 0.57)


def test_band_of_well_separated_classes_lies_between_them():
    truth = np.repeat([1, 0], 19)
    scores = np.append(np.linspace(0.8, 0.98, 19), np.linspace(0.02, 0.2, 19))
    low, high = band(truth, scores)
    assert (low, high) == pytest.approx((0.2, 0.8))


def test_band_opens_fully_with_too_few_films():
    assert band([1, 1, 0, 0], [0.6, 0.9, 0.4, 0.1]) == (0.0, 1.0)


def test_band_keeps_wrong_answers_outside_it_below_the_error():
    generator = np.random.default_rng(0)
    wrong = []
    for _ in range(400):
        positive, negative = generator.beta(3, 2, 50), generator.beta(2, 3, 50)
        low, high = band(np.repeat([1, 0], 50), np.append(positive, negative))
        fresh_positive, fresh_negative = generator.beta(3, 2, 200), generator.beta(2, 3, 200)
        wrong.append(((fresh_positive < low).mean(), (fresh_negative > high).mean()))
    missed, alarmed = np.mean(wrong, axis=0)
    # Of 50 films, rank floor(0.05 * 51) = 2 is the limit: exactly 2 in 51 fall beyond it.
    assert missed == pytest.approx(2 / 51, abs=0.005)
    assert alarmed == pytest.approx(2 / 51, abs=0.005)


def test_band_reaches_the_operating_point():
    truth = np.repeat([1, 0], 39)
    scores = np.append(np.arange(40, 79) / 100, np.arange(20, 59) / 100)
    assert band(truth, scores, reach=(0.5,)) == (0.41, 0.57)
    assert band(truth, scores, reach=(0.33, 0.7)) == (0.33, 0.7)


def test_band_counts_patients_and_not_their_films():
    """Ten patients with the finding are too few to exclude it, however often each is seen."""
    truth = np.repeat([1, 0], [200, 100])
    scores = np.append(np.repeat(np.arange(10) / 100 + 0.8, 20), np.arange(100) / 1000)
    patients = np.append(np.repeat(np.arange(10), 20), np.arange(100) + 10)
    low, high = band(truth, scores, patients)
    assert (low, high) == (0.0, 0.095)  # the fifth highest of a hundred without it
    assert band(truth, scores) == (0.095, 0.8)  # as if each film were a patient's own


def test_band_keeps_its_promise_to_patients_with_copies():
    """Patients differ more than their films: only one film of each gives honest ranks."""
    generator = np.random.default_rng(0)
    wrong, naive = [], []
    for _ in range(300):
        centres = generator.normal(0, 1, 80) + np.repeat([1.0, -1.0], 40)
        scores = sigmoid(np.repeat(centres, 5) + generator.normal(0, 0.2, 400))
        truth, patients = np.repeat([1, 0], 200), np.repeat(np.arange(80), 5)
        fresh = sigmoid(generator.normal(0, 1, 400) + 1 + generator.normal(0, 0.2, 400))
        # Far apart, so that the lower end is where "no" begins to be unsafe for the finding.
        low = band(truth, scores, patients)[0]
        wrong.append((fresh < low).mean())
        naive.append((fresh < band(truth, scores)[0]).mean())
    # Of 40 patients, rank floor(0.05 * 41) = 2: 2 in 41 fall beyond it.
    assert np.mean(wrong) == pytest.approx(2 / 41, abs=0.006)
    assert np.mean(naive) > np.mean(wrong)


def test_band_needs_both_classes():
    with pytest.raises(ArgumentError, match="with and without"):
        band([1, 1], [0.2, 0.3])


@pytest.mark.parametrize("error", [0, 1, float("nan")])
def test_band_refuses_an_impossible_error(error):
    with pytest.raises(ArgumentError, match="error"):
        band([1, 0], [0.2, 0.3], error=error)
