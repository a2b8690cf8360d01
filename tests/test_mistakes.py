"""What a model gets wrong, in words: sentences counted by hand."""

import numpy as np
import pytest

from cxr_core.cards import list_models, load_evaluation, load_predictions
from cxr_core.mistakes import mistakes_in_words
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
