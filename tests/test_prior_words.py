"""What changed since a prior film, in words: on the screen and in files."""

import json

import numpy as np
from readings import AT, SCORES, TRUTH, made_card

from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.evaluation import evaluate
from cxr_core.export import reading_fhir
from cxr_core.gate import GateReport
from cxr_core.phantom import thorax
from cxr_core.prior import Change, Comparison
from cxr_core.registration import UNMOVED, Registration
from cxr_core.ui import prior, report, session


def beside(*told: tuple[str, float, float, float], when: str = "3 May 2025") -> prior.Beside:
    """Two films of which (label, before, after, difference) is told; the limit is 1."""

    def said(label: str, probability: float) -> LabelPrediction:
        return LabelPrediction(label, 0.0, probability, 0.5, probability >= 0.5, False)

    found = [
        Change(said(label, before), said(label, after), difference, 1.0)
        for label, before, after, difference in told
    ]
    laid = Registration(UNMOVED, 0.0, 0.0, 0.0, 1.0, False)
    film = session.Film("old.dcm", thorax(64, 56), np.zeros((64, 56), np.float32))
    return prior.Beside(film, when, laid, Comparison(tuple(found)), (prior.UNREGISTERED,))


def test_a_change_is_said_in_one_sentence() -> None:
    more = ("Pneumonia", 0.41, 0.86, 2.2)
    assert prior.in_words(beside(more)) == (
        "Pneumonia: more than on 3 May 2025 (0.41 to 0.86, now flagged)."
    )
    less = ("Pleural_Thickening", 0.7, 0.6, -1.5)
    assert prior.in_words(beside(more, less, when=prior.UNDATED_PRIOR)) == (
        "Pneumonia: more than on the prior film (0.41 to 0.86, now flagged); "
        "Pleural thickening: less than on the prior film (0.70 to 0.60)."
    )
    assert prior.in_words(beside(more, less, ("Mass", 0.1, 0.3, 1.4))).endswith("; 1 more changed.")


def test_what_the_model_does_by_itself_is_no_change_even_across_the_operating_point() -> None:
    assert prior.in_words(beside(("Pneumonia", 0.46, 0.52, 0.3))) == (
        "No change from the film of 3 May 2025 beyond what the model's own repeatability explains."
    )


def test_a_file_says_what_the_screen_says(monkeypatch) -> None:
    monkeypatch.setattr(report, "belonging", lambda _: ())  # there is no bundle to look into
    found = beside(("Pneumonia", 0.41, 0.86, 2.2))
    assert prior.sentences(found) == (prior.in_words(found), prior.UNREGISTERED)
    card = made_card(("Pneumonia",), (0.5,))
    made = report.reading_record(
        card,
        evaluate(TRUTH[:, None], SCORES[:, None], ("Pneumonia",), operating_points=(0.5,)),
        thorax(64, 56),
        GateReport(()),
        Prediction("made", (found.comparison.changes[0].after,), np.zeros((1, 1, 1), np.float32)),
        at=AT,
        compared=prior.sentences(found),
    )
    assert prior.in_words(found) in made.detail
    assert prior.in_words(found) in json.loads(reading_fhir(made))["conclusion"]


def test_findings_that_changed_stand_first_among_the_bars() -> None:
    found = beside(("Mass", 0.1, 0.6, 3.0), ("Edema", 0.9, 0.9, 0.1))
    answers = [one.after for one in reversed(found.comparison.changes)]
    assert [one.label for one in sorted(answers, key=found.place)] == ["Mass", "Edema"]
