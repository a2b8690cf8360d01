"""A film in, its checks and its answer out: the one place where the gate and a model meet.

The gate looks first, and a film that it refuses is not asked about. Once the model has spoken,
its own features say how unlike the film is to those that it learned from (`familiarity`): that
check joins the gate's. Who works on many films at once does the two halves apart (`checked`,
`with_likeness`); everybody else calls `answer`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cxr_core.cards import ModelCard
from cxr_core.classifier import Prediction
from cxr_core.familiarity import FILE, Likeness
from cxr_core.gate import GateCheck, GateReport, check
from cxr_core.images import Radiograph
from cxr_core.preprocess import ModelInput, prepare

Predict = Callable[[ModelInput], Prediction]
NAME = "familiarity"


@dataclass(frozen=True)
class Answered:
    """What became of one film.

    Attributes:
        gate: Every check of it.
        model_input: The film as the model reads it; None when it was refused.
        prediction: What the model says; None while it was not asked, and when refused.
    """

    gate: GateReport
    model_input: ModelInput | None = None
    prediction: Prediction | None = None


def answer(
    radiograph: Radiograph, card: ModelCard, predict: Predict, *, age_years: float | None = None
) -> Answered:
    """Check a film and, unless it is refused, ask the model.

    Args:
        radiograph: The film.
        card: Of the model that speaks.
        predict: Asks it; called only when the film is not refused.
        age_years: The patient's age as the reader states it; otherwise the file's counts.

    Raises:
        ModelError: When files of the gate or of the model are damaged.
    """
    found = checked(radiograph, card, age_years=age_years)
    if found.model_input is None:
        return found
    prediction = predict(found.model_input)
    return Answered(with_likeness(found.gate, prediction), found.model_input, prediction)


def checked(
    radiograph: Radiograph,
    card: ModelCard,
    *,
    age_years: float | None = None,
    insist: bool = False,
) -> Answered:
    """Do what comes before the model speaks.

    Args:
        radiograph: The film.
        card: Of the model that will speak.
        age_years: The patient's age as the reader states it; otherwise the file's counts.
        insist: Ready a film for the model even if the gate refuses it.

    Raises:
        ModelError: When the files of the gate's own network are damaged.
    """
    report = check(radiograph, card, age_years=age_years)
    if report.refused and not insist:
        return Answered(report)
    return Answered(report, prepare(radiograph, card.preprocessing))


def with_likeness(report: GateReport, prediction: Prediction) -> GateReport:
    """Add to the checks of a film how unlike it is to those that the model learned from."""
    return GateReport((*report.checks, _familiarity(prediction.likeness)))


def _familiarity(likeness: Likeness | None) -> GateCheck:
    """Put it as a check: never more than a caution, for what is rare need not be wrong."""
    if likeness is None:
        reason = f"Nobody looked whether the film is like the training films: there is no {FILE}."
        return GateCheck(NAME, None, "not known", "ok", reason)
    value, limit = round(likeness.distance, 4), f"at most {likeness.limit:.4g}"
    if not likeness.unfamiliar:
        reason = "To the model, the film is like those that it learned from."
        return GateCheck(NAME, value, limit, "ok", reason)
    reason = "To the model, this film is unlike those that it learned from."
    mend = "Look whether patient and film are what the model is for; if not, read without it."
    return GateCheck(NAME, value, limit, "caution", reason, mend)
