"""A reading as a value to file, in the words of the screen. It knows no Streamlit.

The page's "Save" and `python -m cxr_core report` both make it here, so that a file says the
same wherever it came from.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from cxr_core.answering import answer
from cxr_core.attribution import Attribution, explain, list_methods
from cxr_core.attribution.checks import MapCheck, examine
from cxr_core.cards import ModelCard, is_current, load_evaluation, load_explanations
from cxr_core.classifier import Classifier, LabelPrediction, Prediction
from cxr_core.evaluation import EvaluationReport
from cxr_core.export import Finding, ReadingRecord, ShownMap
from cxr_core.gate import GateReport
from cxr_core.images import Radiograph
from cxr_core.local_check import belonging
from cxr_core.preprocess import ModelInput
from cxr_core.ui import reading as words
from cxr_core.wording import spoken


def reading_record(
    card: ModelCard,
    report: EvaluationReport,
    radiograph: Radiograph,
    checks: GateReport,
    prediction: Prediction | None,
    *,
    at: datetime,
    age_years: float | None = None,
    compared: tuple[str, ...] = (),
    **more: Any,
) -> ReadingRecord:
    """Put one answer into the form that every export takes.

    Args:
        card: The model that spoke.
        report: Its test record.
        radiograph: The film.
        checks: Of the film.
        prediction: The answer; None when the film was refused.
        at: When it was given.
        age_years: As the file or the reader says.
        compared: What changed since a prior film, one sentence each.
        more: What else a `ReadingRecord` holds: `mended`, `shown`, `not_shown`, `opinions`.

    Raises:
        ArgumentError: When these do not belong together.
    """
    said = words.answer_in_words(card, checks, prediction, age_stated=age_years is not None)
    detail = (said.lead, *compared, *said.detail) if said.lead else (*compared, *said.detail)
    if prediction is not None:
        detail += (*words.shortcut_in_words(card, report), *belonging(card))
    return ReadingRecord(
        film=radiograph,
        card=card,
        gate=checks,
        findings=_findings(card, report, prediction),
        split=report.split,
        scored=report.n,
        headline=said.headline,
        detail=detail,
        facts=words.facts_in_words(radiograph, age_years),
        at=at,
        **more,
    )


def _findings(
    card: ModelCard, report: EvaluationReport, prediction: Prediction | None
) -> tuple[Finding, ...]:
    if prediction is None:
        return ()
    return tuple(
        Finding(
            answer=answer,
            band=band,
            record=report.label(answer.label),
            written=words.told_apart(answer.probability, answer.operating_point),
        )
        for answer, band in zip(prediction.labels, card.cannot_tell, strict=True)
    )


def shown_or_why(
    prediction: Prediction,
    model_input: ModelInput,
    found: Attribution,
    *,
    tested: str,
    check: MapCheck | None,
    insisted: Collection[tuple[str, str | None]] = (),
) -> tuple[ShownMap | None, str]:
    """Return a map as the page shows it, or None and why the page withholds it.

    Args:
        prediction: The answer.
        model_input: The film as the model read it.
        found: The map.
        tested: What was measured of such maps of this model, as a sentence.
        check: What was measured on this film; None while it is not known.
        insisted: What the reader chose to see all the same, as `session.Reading` holds it.
    """
    label, method = found.label, found.method
    if not prediction.label(label).flag and (label, None) not in insisted:
        return None, words.unexplained_in_words(prediction, label)
    withheld = words.contradiction(method, check) if check is not None else ""
    if withheld and (label, method) not in insisted:
        return None, withheld
    side = "against" if found.absence else "for"
    shown = ShownMap(
        found=found,
        placement=model_input.placement,
        title=f"{words.method_name(method)}, {side} {spoken(label)}",
        caption=words.map_in_words(found, tested, check),
    )
    return shown, ""


# --- without a page ---


def read_film(classifier: Classifier, radiograph: Radiograph, at: datetime) -> ReadingRecord:
    """Read one film as the page does, with the map that the page would show first.

    Args:
        classifier: The model that speaks.
        radiograph: The film.
        at: The time.

    Raises:
        ModelError: When the model's record, or the gate's own network, is damaged.
    """
    card = classifier.card
    found = answer(radiograph, card, classifier.predict)
    shown, not_shown = None, words.unexplained_in_words(None, None)
    if found.model_input is not None and found.prediction is not None:
        shown, not_shown = _first_map(classifier, radiograph, found.model_input, found.prediction)
    return reading_record(
        card,
        load_evaluation(card.name),
        radiograph,
        found.gate,
        found.prediction,
        at=at,
        age_years=radiograph.facts.age_years,
        shown=shown,
        not_shown=not_shown,
    )


def _first_map(
    classifier: Classifier, radiograph: Radiograph, model_input: ModelInput, prediction: Prediction
) -> tuple[ShownMap | None, str]:
    """Explain the most suspicious label, and check the map, unless it was not flagged."""
    first = max(prediction.labels, key=_excess)
    if not first.flag:
        return None, words.unexplained_in_words(prediction, first.label)
    features, method = prediction.features, list_methods()[0]
    found = explain(classifier, model_input, first.label, method, features=features)
    check = examine(classifier, model_input, radiograph.pixels, found, features=features)
    report = load_explanations(classifier.card.name)
    known = None if report is None else (report, is_current(report, classifier.card))
    tested = words.tested_in_words(known, first.label, method)
    return shown_or_why(prediction, model_input, found, tested=tested, check=check)


def _excess(answer: LabelPrediction) -> tuple[bool, float]:
    return answer.flag, answer.probability - (answer.operating_point or 0.0)
