"""What changed between two films: whose they are, and when a difference is a change."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from readings import WHO, made_card

from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.prior import changes, related, taken_on


def on(day: str, time: str = "", **more: str):
    return replace(WHO, study_date=day, study_time=time, **more)


@pytest.mark.parametrize(
    ("prior", "current", "relation"),
    [
        (on("20250503"), on("20250510"), "earlier"),
        (on("20250510"), on("20250503"), "later"),
        (on("20250503", "0900"), on("20250503", "1000"), "earlier"),
        (on("20250503", "1000"), on("20250503", "0900"), "later"),
        (on("20250503", "1000"), on("20250503", "1000"), "undated"),
        (on("20250503", "1000"), on("20250503"), "undated"),
        (on(""), on("20250503"), "undated"),
        (on("20259999"), on("20250503"), "undated"),
        (on("20250503", patient_id="A"), on("20250510", patient_id="B"), "another patient"),
        (on("20250503", patient_id="A "), on("20250510", patient_id="A"), "earlier"),
        (on("20250503", birth_date="19500101"), on("20250510"), "another patient"),
        (on("20250503", birth_date=""), on("20250510"), "earlier"),
        (on("20250503", sex="M"), on("20250510"), "another patient"),
        (on("20250503", patient_id=""), on("20250510"), "unchecked"),
        (on("20250503", patient_id=""), on("20250510", patient_id=""), "unchecked"),
        (None, on("20250510"), "unchecked"),
        (on("20250503"), None, "unchecked"),
        (on("20250503", patient_id="", sex="M"), on("20250510"), "another patient"),
        (on("20250503", patient_name="OTHER^ONE"), on("20250510"), "unchecked"),
        (on("20250503", patient_name="Quillon Zebedee"), on("20250510"), "earlier"),
        (on("20250503", patient_name="", birth_date=""), on("20250510"), "unchecked"),
        (on("20250503", patient_name=""), on("20250510"), "earlier"),
        (on("20250503", sex="O"), on("20250510"), "earlier"),
        (on("20250503", sex="f"), on("20250510"), "earlier"),
        (on("20250503", birth_date="1951"), on("20250510"), "earlier"),
        (on("20250503", "0900"), on("20250503", "090000"), "undated"),
        (on("20250503", issuer="NORTH"), on("20250510", issuer="NORTH "), "earlier"),
        (on("20250503", issuer="NORTH"), on("20250510"), "earlier"),
        (on("20250503", issuer="NORTH"), on("20250510", issuer="SOUTH"), "unchecked"),
        (
            on("20250503", patient_id="A", issuer="NORTH"),
            on("20250510", patient_id="B", issuer="SOUTH"),
            "unchecked",
        ),
    ],
)
def test_only_headers_say_whose_films_they_are_and_which_came_first(prior, current, relation):
    assert related(prior, current) == relation


def test_a_day_that_cannot_be_is_none():
    assert taken_on(on("20250503")) == date(2025, 5, 3)
    assert taken_on(on("20250231")) is None
    assert taken_on(on("")) is None
    assert taken_on(None) is None


def answered(card, *logits: float) -> Prediction:
    """A prediction whose probabilities are those of the logits as they are."""
    scores = 1 / (1 + np.exp(-np.array(logits)))
    return Prediction(
        card.name,
        tuple(
            LabelPrediction(label, logit, float(score), point, bool(score >= (point or 2)), False)
            for label, logit, score, point in zip(
                card.labels, logits, scores, card.operating_points, strict=True
            )
        ),
        np.zeros((1, 1, 1), np.float32),
    )


def test_a_difference_within_repeatability_is_no_change():
    card = made_card(("Mass", "Nodule", "Edema"), (0.5, 0.5, 0.5))
    limits = {"Mass": 1.0, "Nodule": 1.0, "Edema": 0.1}
    before, after = answered(card, -0.4, 0.0, 1.0), answered(card, 0.6, 2.5, 0.5)
    found = changes(card, before, after, limits)

    assert [one.label for one in found.changes] == ["Nodule", "Edema", "Mass"]  # worse first
    assert [one.verdict for one in found.changes] == ["more", "less", "within repeatability"]
    assert [one.difference for one in found.changes] == pytest.approx([2.5, -0.5, 1.0])
    assert [one.crossed for one in found.changes] == [False, False, True]
    assert found.measured
    assert not found.reason


def test_what_is_newly_flagged_comes_before_what_changed_further():
    """Of a label that means that nothing was found, less is worse."""
    card = made_card(("Hernia", "Edema", "Mass", "No Finding"), (0.5,) * 4)
    before, after = answered(card, 9.0, -1.0, 1.0, 9.0), answered(card, -9.0, 1.0, 4.0, 4.0)
    found = changes(card, before, after, dict.fromkeys(card.labels, 1.0))
    assert [one.label for one in found.changes] == ["Edema", "No Finding", "Mass", "Hernia"]


def test_differences_are_of_log_odds_so_that_calibration_moves_no_verdict():
    card = made_card(("Mass",), (0.5,))
    before, after = answered(card, -6.0), answered(card, -3.0)  # 0.002 and 0.05
    (one,) = changes(card, before, after, {"Mass": 2.9}).changes
    assert one.verdict == "more"
    (one,) = changes(card, before, after, {"Mass": 3.1}).changes
    assert one.verdict == "within repeatability"


def test_of_labels_that_exclude_each_other_each_is_held_against_all_others():
    """Adding the same to every logit changes no probability, and so no answer."""
    card = made_card(("Normal", "Bacterial", "Viral"), (None, None, None), exclusive=True)
    before, after = answered(card, 1.0, 0.0, -1.0), answered(card, 4.0, 3.0, 2.0)
    found = changes(card, before, after, dict.fromkeys(card.labels, 0.01))
    assert [one.difference for one in found.changes] == pytest.approx([0, 0, 0])


def test_a_film_without_an_answer_gives_no_change_and_the_reason():
    card = made_card(("Mass",), (0.5,))
    answer = answered(card, 0.0)
    assert (
        changes(card, None, answer, {}).reason == "No change is told: the prior film was refused."
    )
    assert changes(card, answer, None, {}).reason == "No change is told: this film was refused."
    assert changes(card, None, None, {}).reason == "No change is told: neither film got an answer."
    assert changes(card, None, answer, {}).changes == ()


def test_without_a_measured_limit_nothing_is_called_a_change():
    card = made_card(("Mass",), (0.5,))
    found = changes(card, answered(card, -5.0), answered(card, 5.0), {})
    assert [one.verdict for one in found.changes] == ["not known"]
    assert not found.changes[0].changed
    assert not found.measured
