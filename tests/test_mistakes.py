"""What a model gets wrong, in words: sentences counted by hand."""

import numpy as np
import pytest

from cxr_core.cards import list_models, load_evaluation, load_predictions
from cxr_core.evaluation import wilson
from cxr_core.mistakes import Coverage, coverage, coverage_in_words, mistakes_in_words
from cxr_core.predictions import PredictionTable, evaluate_table
from cxr_core.wording import percent


def table(labels, truth, scores, **facts):
    truth, scores = np.array(truth), np.array(scores, float)
    if truth.ndim == 1:
        truth, scores = truth[:, None], scores[:, None]
    names = tuple(f"film-{row}.png" for row in range(len(truth)))
    return PredictionTable(
        files=names, patients=names, labels=labels, y_true=truth, y_score=scores, split="test",
        **facts,
    )  # fmt: skip


def told(made, points, exclusive=False):
    return mistakes_in_words(evaluate_table(made, points, exclusive=exclusive), made)


def test_misses_and_false_flags_are_counted():
    """Twelve films score 0.9 or more, two of them wrongly; of eleven at 0.1 or less one is."""
    truth = [1] * 10 + [0] * 2 + [0] * 10 + [1] + [1, 0]
    scores = [0.95] * 12 + [0.05] * 11 + [0.6, 0.3]
    made = table(("Pneumonia",), truth, scores)
    rates, high, low = told(made, [0.5])
    assert rates == (
        f"It misses 1 of 12 films with pneumonia ({percent(1, 12)}) and flags 2 of 13 films "
        f"without it ({percent(2, 13)})."
    )
    assert high == (
        f"Of 12 films that score 0.90 or more, 2 were flagged by mistake ({percent(2, 12)})."
    )
    assert low == f"Of 11 films that score 0.10 or less, 1 was missed ({percent(1, 11)})."


def test_an_adjective_reads_as_one_and_few_films_are_not_called_safe():
    made = table(("Abnormal",), [1, 1, 0, 0], [0.8, 0.4, 0.6, 0.2])
    rates, blind, high, low = told(made, [0.5])
    assert "1 of 2 abnormal films" in rates and "1 of 2 other films" in rates
    assert blind == (
        "Whether it recognises abnormal at all is not shown: the interval of the AUROC reaches 0.5."
    )
    assert high == "Too few films score 0.90 or more to say how often that is wrong (0)."
    assert low == "Too few films score 0.10 or less to say how often that is wrong (0)."


def test_a_faultless_model_is_not_accused():
    made = table(("Pneumonia",), [1] * 20 + [0] * 20, [0.9] * 20 + [0.1] * 20)
    assert told(made, [0.5]) == [
        f"It misses 0 of 20 films with pneumonia ({percent(0, 20)}) and flags 0 of 20 films "
        f"without it ({percent(0, 20)}).",
        f"Of 20 films that score 0.90 or more, 0 were flagged by mistake ({percent(0, 20)}).",
        f"Of 20 films that score 0.10 or less, 0 were missed ({percent(0, 20)}).",
    ]


def test_answers_confused_most_come_first():
    """Of 4 viral films 2 are called bacterial, of 3 bacterial 1 viral, of 10 normal 1 viral."""
    rows = [(0, 0)] * 9 + [(0, 2)] + [(1, 1)] * 2 + [(1, 2)] + [(2, 2)] * 2 + [(2, 1)] * 2
    truth = np.eye(3, dtype=int)[[true for true, _ in rows]]
    scores = np.eye(3)[[called for _, called in rows]] * 0.7 + 0.1
    made = table(("Normal", "Bacterial pneumonia", "Viral pneumonia"), truth, scores)
    assert told(made, [None] * 3, exclusive=True) == [
        f"Of 4 films with viral pneumonia, 2 were called bacterial pneumonia ({percent(2, 4)}).",
        f"Of 3 films with bacterial pneumonia, 1 was called viral pneumonia ({percent(1, 3)}).",
        f"Of 10 normal films, 1 was called viral pneumonia ({percent(1, 10)}).",
    ]


def test_of_many_findings_the_worst_are_named_and_few_films_are_not_called_often():
    truth = np.zeros((40, 3), int)
    truth[:20, 0] = truth[10:30, 1] = 1
    truth[:5, 2] = 1  # too few to call anything often
    scores = np.where(truth == 1, 0.9, 0.1)
    scores[:12, 0] = 0.2  # 12 of 20 missed
    scores[30:35, 1] = 0.8  # 5 of 20 flagged without reason
    scores[:5, 2] = 0.2
    made = table(("Mass", "Pleural_Thickening", "Hernia"), truth, scores)
    misses, alarms = told(made, [0.5, 0.5, 0.5])
    assert misses == f"Misses most often: mass in 12 of 20 films ({percent(12, 20)})."
    assert alarms == (
        f"Flags without reason most often: pleural thickening in 5 of 20 films ({percent(5, 20)})."
    )


def test_findings_without_operating_point_are_named():
    made = table(("Mass", "Hernia"), [[1, 0], [0, 1]] * 10, [[0.9, 0.1], [0.1, 0.9]] * 10)
    assert told(made, [0.5, None]) == ["Never flags hernia: there is no operating point."]


def test_a_group_is_named_only_where_its_mistakes_are_clearly_more():
    """Of 40 AP films without it 30 are flagged, of 40 PA films 4: the intervals lie apart."""
    truth = [0] * 80 + [1] * 20
    scores = [0.8] * 30 + [0.2] * 10 + [0.8] * 4 + [0.2] * 36 + [0.9] * 20
    views = ("AP",) * 40 + ("PA",) * 40 + ("AP",) * 10 + ("PA",) * 10
    sexes = ("F", "M") * 50
    made = table(("Mass",), truth, scores, view=views, sex=sexes)
    assert told(made, [0.5])[3:] == [
        f"Films without it that are flagged, by view: AP 30 of 40 ({percent(30, 40)}), "
        f"others 4 of 40 ({percent(4, 40)})."
    ]


@pytest.mark.parametrize("name", [card.name for card in list_models()])
def test_every_shipped_model_admits_something(name):
    sentences = mistakes_in_words(load_evaluation(name), load_predictions(name))
    assert sentences
    assert all(one.endswith(".") and "None" not in one for one in sentences)


# --- the cannot-tell bands ---


def test_what_is_told_outside_the_band_is_counted():
    """At 0.5, band 0.3 to 0.6: two films missed below it, one flagged by mistake above it."""
    truth = [1, 1, 1, 1, 0, 0, 0]
    scores = [0.1, 0.2, 0.3, 0.9, 0.61, 0.6, 0.1]
    (one,) = coverage(table(("Pneumonia",), truth, scores), [0.5], [(0.3, 0.6)])
    assert one == Coverage("Pneumonia", positives=4, missed=2, negatives=3, alarmed=1, undecided=2)


def test_a_label_that_never_flags_tells_everybody_no():
    truth, scores = [1, 1, 0], [0.1, 0.9, 0.9]
    (one,) = coverage(table(("Mass",), truth, scores), [None], [(0.2, 0.5)])
    assert (one.missed, one.alarmed, one.undecided) == (2, 0, 0)


def test_labels_without_a_band_promise_nothing():
    made = table(("A", "B"), [[0, 1], [1, 0]], [[0.1, 0.9], [0.9, 0.1]])
    assert [one.label for one in coverage(made, [0.5, 0.5], [None, (0.4, 0.6)])] == ["B"]


def test_of_exclusive_labels_the_largest_is_told_yes():
    made = table(("A", "B"), [[1, 0], [0, 1]], [[0.2, 0.8], [0.1, 0.9]])
    told = coverage(made, [None, None], [(0.4, 0.6)] * 2, exclusive=True)
    assert [(one.missed, one.alarmed) for one in told] == [(1, 0), (0, 1)]


@pytest.mark.parametrize(
    ("missed", "films", "held"),
    [
        (0, 10, True),
        (1, 10, True),  # 10 %, but 1.8 to 40.4 %: so few films contradict nothing
        (8, 100, True),  # 8 %, 4.1 to 15.0 %
        (10, 100, False),  # 10 %, 5.5 to 17.4 %
        (0, 0, True),
    ],
)
def test_a_promise_fails_when_the_whole_interval_lies_above_it(missed, films, held):
    assert Coverage("A", films, missed, 50, 0, 3).held == held
    assert Coverage("A", 50, 0, films, missed, 3).held == held


def test_a_promise_is_kept_with_its_intervals():
    told = Coverage("Mass", 20, 8, 200, 2, 30).to_json()
    share = wilson(8, 20)
    assert told["missed_share"] == {"value": 0.4, "low": share.low, "high": share.high}
    assert (told["positives"], told["missed"], told["undecided"]) == (20, 8, 30)
    assert (told["promised"], told["held"]) == (0.05, False)


def test_promises_are_told_in_words():
    held = Coverage("Pneumonia", 390, 9, 234, 5, 20)
    failed = Coverage("Mass", 20, 8, 200, 2, 30)
    (told,) = coverage_in_words([held])
    assert told == (
        "Outside its cannot-tell band at most 5 % of either kind of film should be told wrongly. "
        f"On test: 9 of 390 films with pneumonia told no ({percent(9, 390)}), 5 of 234 others "
        f"told yes ({percent(5, 234)}); 20 of 624 films lay in the band: the promise held."
    )
    first, second = coverage_in_words([held, held, held, failed])
    assert first.endswith("should be told wrongly: held on test for 3 of 4 labels.")
    assert second.startswith("8 of 20 films with mass told no")
    assert second.endswith("30 of 220 films lay in the band: the promise failed.")
    assert len(coverage_in_words([held, failed])) == 3, "of few, all are named"
    assert coverage_in_words([]) == []


def test_few_films_keep_no_promise():
    few = Coverage("Mass", 19, 0, 200, 2, 30)
    (told,) = coverage_in_words([few])
    assert told.endswith("the promise can neither fail nor hold on so few films.")
    many, failed = Coverage("Mass", 20, 0, 200, 2, 30), Coverage("Mass", 19, 9, 200, 2, 30)
    assert (many.verdict, failed.verdict) == ("held", "failed")
    first, *_ = coverage_in_words([few, many, many, failed])
    assert first.endswith(": held on test for 2 of 4 labels, too few films to tell for 1.")


def test_the_shipped_cards_hold_what_their_tables_say():
    for card in list_models():
        if "cannot_tell_on_test" not in card.training:  # shipped without weights, as it was
            continue
        again = coverage(
            load_predictions(card.name),
            card.operating_points,
            card.cannot_tell,
            exclusive=card.activation == "softmax",
        )
        for kept, counted in zip(card.training["cannot_tell_on_test"], again, strict=True):
            told = counted.to_json()
            shares = [f"{name}_share" for name in ("missed", "alarmed")]
            assert [kept.pop(name) for name in shares] == [
                pytest.approx(told.pop(name)) for name in shares
            ]
            assert kept == told
