"""Labels, shares and counts in sentences."""

import numpy as np
import pytest

from cxr_core.evaluation import evaluate
from cxr_core.wording import means_absence, spoken, summary_sentences


def test_summary_says_what_the_operating_point_did():
    truth = np.repeat([0, 1], [234, 390])
    scores = np.concatenate([np.repeat([0.1, 0.9], [215, 19]), np.repeat([0.1, 0.9], [1, 389])])
    report = evaluate(
        truth[:, None], scores[:, None], ["Pneumonia"], operating_points=[0.5], rounds=1
    )
    without, with_ = summary_sentences(report.labels[0])
    assert without == "Of 234 films without Pneumonia, 215 were cleared (91.9 %, 87.7-94.7)."
    assert with_ == "Of 390 films with Pneumonia, 389 were flagged (99.7 %, 98.6-100.0)."


def test_summary_of_exclusive_labels_says_what_films_were_called():
    report = evaluate(
        [[1, 0], [1, 0], [0, 1]],
        [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]],
        ["Normal", "Other"],
        operating_points=[None, None],
        exclusive=True,
    )
    assert summary_sentences(report.labels[0]) == (
        "Called Normal: 1 of the 2 films that are (50.0 %, 9.5-90.5).",
        "and 1 of the 1 film that is not (100.0 %, 20.7-100.0).",
    )


def test_summary_of_few_films_reads_well():
    report = evaluate([[0], [0]], [[0.1], [0.9]], ["Mass"], operating_points=[0.5]).labels[0]
    assert summary_sentences(report) == (
        "Of 2 films without Mass, 1 was cleared (50.0 %, 9.5-90.5).",
        "No film with Mass was scored.",
    )
    undecided = evaluate([[0], [1]], [[0.1], [0.9]], ["Mass"], operating_points=[None]).labels[0]
    assert summary_sentences(undecided) == undecided.notes


@pytest.mark.parametrize(
    ("label", "inside"),
    [("Pleural_Thickening", "pleural thickening"), ("COVID-19", "COVID-19"), ("Mass", "mass")],
)
def test_a_label_inside_a_sentence(label, inside):
    assert spoken(label) == inside


@pytest.mark.parametrize(
    ("label", "healthy"),
    [("No Finding", True), ("No_Finding", True), ("Normal", True), ("Mass", False)],
)
def test_labels_that_mean_that_all_is_well(label, healthy):
    assert means_absence(label) is healthy
