"""Two models are compared as a hand count, statsmodels and DeLong's formula compare them."""

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from cxr_core.comparison import ModelComparison, PairedDecisions, compare_models, mcnemar
from cxr_core.errors import ArgumentError, DataError, UnknownName
from cxr_core.evaluation import threshold_report, wilson
from cxr_core.predictions import PredictionTable
from cxr_core.ranking import Interval, compare

NOTHING = Interval(None, None, None)
relaxed = settings(max_examples=40, deadline=None)


def scored(
    truth: dict[str, int], scores: dict[str, float], split: str = "test", **facts: object
) -> PredictionTable:
    """Return a table of one label, "Mass", of the films that have a score."""
    values = {
        "files": tuple(scores),
        "patients": tuple(scores),
        "labels": ("Mass",),
        "y_true": np.array([[truth[film]] for film in scores]),
        "y_score": np.array([[score] for score in scores.values()]),
        "split": split,
    }
    return PredictionTable(**(values | facts))  # type: ignore[arg-type]


def by_outcome(counts: dict[tuple[int, bool, bool], int]) -> tuple[PredictionTable, ...]:
    """Build two tables from how many films have (truth, a is right, b is right).

    A model is right with a score on the side of 0.5 where the truth lies.
    """
    truth, first, second = {}, {}, {}
    for (true, a, b), films in counts.items():
        for number in range(films):
            film = f"{true}{a:d}{b:d}-{number}.png"
            truth[film] = true
            first[film] = 0.9 if a == bool(true) else 0.1
            second[film] = 0.8 if b == bool(true) else 0.2
    return scored(truth, first), scored(truth, second)


def sample() -> tuple[PredictionTable, PredictionTable]:
    # With Mass: both right 4, only a 3, only b 1, neither 2. Without: 20, 1, 6, 3.
    outcomes = product((1, 0), (True, False), (True, False))
    return by_outcome(dict(zip(outcomes, (4, 3, 1, 2, 20, 1, 6, 3), strict=True)))


# --- McNemar's test ---


def test_mcnemar_worked_by_hand():
    # Of 10 coins, 2 or fewer heads: (1 + 10 + 45) / 1024; twice that for both sides.
    assert mcnemar(2, 8) == mcnemar(8, 2) == pytest.approx(112 / 1024)
    assert mcnemar(0, 1) == 1.0
    assert mcnemar(0, 6) == pytest.approx(2 / 64)
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 0) is None


@relaxed
@given(st.tuples(*[st.integers(0, 400)] * 4).filter(lambda cells: cells[1] + cells[2] > 0))
def test_mcnemar_agrees_with_statsmodels(cells):
    both, only_a, only_b, neither = cells
    expected = statsmodels_mcnemar([[both, only_a], [only_b, neither]], exact=True)
    assert mcnemar(only_a, only_b) == pytest.approx(expected.pvalue, rel=1e-9)


def test_mcnemar_of_equal_models_rejects_no_more_often_than_it_says():
    coins = np.random.default_rng(0).binomial(60, 0.5, 4000)
    rejected = np.mean([mcnemar(int(heads), 60 - int(heads)) < 0.05 for heads in coins])
    assert 0.01 < rejected <= 0.05


# --- the comparison ---


def test_decisions_worked_by_hand():
    found = compare_models(*sample(), "Mass", (0.5, 0.5))

    assert (found.n, found.positives, found.n_a_only, found.n_b_only) == (40, 10, 0, 0)
    assert found.a.confusion == ((21, 9), (3, 7))
    assert found.b.confusion == ((26, 4), (5, 5))
    assert (found.a.sensitivity, found.b.sensitivity) == (wilson(7, 10), wilson(5, 10))
    assert (found.a.specificity, found.b.specificity) == (wilson(21, 30), wilson(26, 30))
    assert found.with_finding == PairedDecisions(
        both_right=4, only_a=3, only_b=1, neither=2, p_value=pytest.approx(2 * (1 + 4) / 16)
    )
    assert found.without_finding == PairedDecisions(
        both_right=20, only_a=1, only_b=6, neither=3, p_value=pytest.approx(2 * (1 + 7) / 128)
    )
    # 4 against 7: twice (1 + 11 + 55 + 165 + 330) of 2048.
    assert found.all_films == PairedDecisions(
        both_right=24, only_a=4, only_b=7, neither=5, p_value=pytest.approx(2 * 562 / 2048)
    )
    assert found.notes == ()


@relaxed
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 10), st.integers(0, 10)),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 10),
    st.integers(0, 10),
)
def test_counts_add_up_and_swapping_the_models_swaps_them(films, tenth, other):
    truth = {f"{row}.png": film[0] for row, film in enumerate(films)}
    a, b = (
        scored(truth, {f"{row}.png": film[one] / 10 for row, film in enumerate(films)})
        for one in (1, 2)
    )
    found = compare_models(a, b, "Mass", (tenth / 10, other / 10))
    swapped = compare_models(b, a, "Mass", (other / 10, tenth / 10))

    for name, films_of_it in (
        ("all_films", found.n),
        ("with_finding", found.positives),
        ("without_finding", found.n - found.positives),
    ):
        here, there = getattr(found, name), getattr(swapped, name)
        assert here.both_right + here.only_a + here.only_b + here.neither == films_of_it
        assert (here.only_a, here.only_b) == (there.only_b, there.only_a)
        assert here.p_value == there.p_value
        assert (here.p_value is None) == (here.only_a + here.only_b == 0)
    (tn, _), (_, tp) = found.a.confusion
    assert found.all_films.both_right + found.all_films.only_a == tn + tp
    assert found.a == swapped.b
    assert found.auroc.a == swapped.auroc.b
    if found.auroc.difference.value is not None:
        assert swapped.auroc.difference.value == pytest.approx(-found.auroc.difference.value)


def random_tables(films: int = 120) -> tuple[PredictionTable, PredictionTable]:
    generator = np.random.default_rng(2)
    scores = generator.random(films)
    truth = {f"{row}.png": int(generator.random() < score) for row, score in enumerate(scores)}
    noisy = np.clip(scores + generator.normal(0, 0.3, films), 0, 1)
    return tuple(
        scored(truth, dict(zip(truth, one.tolist(), strict=True))) for one in (scores, noisy)
    )


def test_areas_are_compared_by_delong_on_the_same_films():
    a, b = random_tables()
    found = compare_models(a, b, "Mass", (0.5, 0.6))
    assert found.auroc == compare(a.y_true[:, 0], a.y_score[:, 0], b.y_score[:, 0])
    assert found.b == threshold_report(b.y_true[:, 0], b.y_score[:, 0], 0.6)


def test_films_are_matched_by_name_in_any_order_and_the_others_left_out():
    a, b = random_tables()
    order = np.random.default_rng(5).permutation(120)
    chosen, also = order[:90], order[20:]  # 70 in common
    films = [a.files[row] for row in chosen], [b.files[row] for row in also]
    parts = [
        scored(
            dict(zip(table.files, table.y_true[:, 0].tolist(), strict=True)),
            {file: float(table.y_score[table.files.index(file), 0]) for file in names},
        )
        for table, names in zip((a, b), films, strict=True)
    ]
    found = compare_models(*parts, "Mass", (0.5, 0.5))
    common = order[20:90]

    assert (found.n, found.n_a_only, found.n_b_only) == (70, 20, 30)
    assert found.auroc.difference.value == pytest.approx(
        compare(a.y_true[common, 0], a.y_score[common, 0], b.y_score[common, 0]).difference.value
    )
    assert found.a == threshold_report(a.y_true[common, 0], a.y_score[common, 0], 0.5)


def test_the_largest_score_decides_for_exclusive_labels():
    truth = {"a.png": 1, "b.png": 0, "c.png": 1}
    sigmoid = scored(truth, {"a.png": 0.45, "b.png": 0.3, "c.png": 0.1})
    softmax = PredictionTable(
        files=("c.png", "b.png", "a.png"),
        patients=("c", "b", "a"),
        labels=("Normal", "Mass", "Edema"),
        y_true=np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0]]),
        y_score=np.array([[0.3, 0.4, 0.3], [0.1, 0.4, 0.5], [0.6, 0.3, 0.1]]),
        split="test",
    )
    found = compare_models(sigmoid, softmax, "Mass", (0.4, None), exclusive=(False, True))
    assert found.b.confusion == ((1, 0), (1, 1))
    assert found.b.operating_point is None
    assert (found.with_finding.only_a, found.with_finding.only_b) == (1, 1)
    with pytest.raises(ArgumentError, match="largest score"):
        compare_models(sigmoid, softmax, "Mass", (0.4, 0.4), exclusive=(False, True))


# --- what cannot be compared ---


def test_without_operating_point_only_the_areas_are_compared():
    found = compare_models(*random_tables(), "Mass", (0.5, None))
    assert found.all_films is None and found.with_finding is None and found.without_finding is None
    assert found.a.sensitivity.value is not None
    assert found.b.confusion is None and found.b.sensitivity == NOTHING
    assert found.auroc.p_value is not None
    assert found.notes == (
        "The second model has no operating point for Mass, so decisions are not compared.",
    )


def test_a_model_against_itself_has_no_test_and_says_so():
    a, _ = sample()
    found = compare_models(a, a, "Mass", (0.5, 0.5))
    assert found.auroc.p_value is None and found.all_films.p_value is None
    assert [note.split(":")[0] for note in found.notes] == [
        "Of the films there is none that only one model has right",
        "Of the films with Mass there is none that only one model has right",
        "Of the films without Mass there is none that only one model has right",
        "Both rank these films so alike that the AUROC shows no difference to test.",
    ]


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        ((0, 0, 0), "No film has Mass: AUROC"),
        ((1, 1, 1), "Every film has Mass: AUROC"),
        ((0, 1, 0), "A single film in one class"),
    ],
)
def test_areas_that_cannot_be_had_are_explained(truth, words):
    films = dict(zip("abc", truth, strict=True))
    a = scored(films, {"a": 0.1, "b": 0.6, "c": 0.9})
    b = scored(films, {"a": 0.3, "b": 0.4, "c": 0.2})
    found = compare_models(a, b, "Mass", (0.5, 0.5))
    assert found.auroc.p_value is None
    assert any(note.startswith(words) for note in found.notes)


def test_repeated_patients_and_other_splits_are_told():
    a, b = sample()
    owners = tuple(str(row // 2) for row in range(40))
    twice = PredictionTable(**{**vars(a), "patients": owners})
    learned = PredictionTable(**{**vars(b), "split": "train"})
    notes = compare_models(twice, learned, "Mass", (0.5, 0.5)).notes
    assert "test films of the first model and train films of the second" in notes[0]
    assert notes[1].startswith("40 films come from 20 patients")


def test_a_dispute_about_the_truth_names_the_film():
    a = scored({"a.png": 1, "b.png": 0, "c.png": 1}, {"a.png": 0.1, "b.png": 0.2, "c.png": 0.3})
    b = scored({"c.png": 0, "b.png": 1, "a.png": 1}, {"c.png": 0.1, "b.png": 0.2, "a.png": 0.3})
    words = "2 of 3 films: b.png is without Mass in the first and with in the second"
    with pytest.raises(DataError, match=words):
        compare_models(a, b, "Mass", (0.5, 0.5))


def test_tables_without_a_common_film_are_refused():
    a, b = scored({"a.png": 1}, {"a.png": 0.1}), scored({"b.png": 1}, {"b.png": 0.1})
    with pytest.raises(DataError, match=r"share no film.*a\.png.*b\.png"):
        compare_models(a, b, "Mass", (0.5, 0.5))


def test_a_label_that_one_table_lacks_is_named():
    a, b = sample()
    other = PredictionTable(**{**vars(b), "labels": ("Nodule",)})
    with pytest.raises(UnknownName, match=r"label in the second table named 'Mass'.*Nodule"):
        compare_models(a, other, "Mass", (0.5, 0.5))
    with pytest.raises(UnknownName, match="label in the first table named 'Nodule'"):
        compare_models(a, other, "Nodule", (0.5, 0.5))


def test_an_operating_point_that_is_no_probability_is_refused():
    with pytest.raises(ArgumentError, match="operating point"):
        compare_models(*sample(), "Mass", (0.5, 1.5))


# --- JSON ---


def test_a_comparison_becomes_json():
    found = compare_models(*sample(), "Mass", (0.5, 0.5))
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(values) == list(ModelComparison.__dataclass_fields__)
    assert values["a"]["sensitivity"] == 0.7
    assert values["b"]["specificity_ci"] == [found.b.specificity.low, found.b.specificity.high]
    assert values["with_finding"] == {
        "both_right": 4,
        "only_a": 3,
        "only_b": 1,
        "neither": 2,
        "p_value": 0.625,
    }
    assert values["auroc"]["difference"] == found.auroc.difference.value
    assert len(values["auroc"]["difference_ci"]) == 2
    silent = compare_models(*sample(), "Mass", (None, None)).to_json()
    assert silent["all_films"] is None and silent["a"]["confusion"] is None
