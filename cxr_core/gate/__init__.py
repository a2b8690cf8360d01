"""Is this a film that this model may speak about? Each check says what it measured and why.

A check is "ok", a "caution" that the reader should know of, or a reason to "refuse"; the
report's verdict is the worst of its checks. `facts` reads what the file says, `pixels`
measures the picture, `learned` asks a small network what it shows; `mending` undoes what can
be undone. What cannot be known is a caution where it matters, never a guess.
"""

from cxr_core.cards import ModelCard
from cxr_core.gate.facts import fact_checks
from cxr_core.gate.learned import (
    BONE,
    EXTENTS,
    FRONTAL,
    KINDS,
    LABELS,
    LATERAL,
    LOOK,
    OTHER,
    PHOTOGRAPH,
    QUESTIONS,
    SIDES,
    SLICE,
    TONES,
    TURNS,
    Glimpse,
    checks_of,
    learned_checks,
    load_gate,
    look,
    looked_at,
    parted,
    softmax,
)
from cxr_core.gate.mending import Mend, mend_for, mended
from cxr_core.gate.pixels import glance_at, pixel_checks, resolution, within_borders
from cxr_core.gate.report import GateCheck, GateReport, Verdict
from cxr_core.images import Radiograph

__all__ = [
    "BONE",
    "EXTENTS",
    "FRONTAL",
    "KINDS",
    "LABELS",
    "LATERAL",
    "LOOK",
    "OTHER",
    "PHOTOGRAPH",
    "QUESTIONS",
    "SIDES",
    "SLICE",
    "TONES",
    "TURNS",
    "GateCheck",
    "GateReport",
    "Glimpse",
    "Mend",
    "Verdict",
    "check",
    "checks_of",
    "glance_at",
    "learned_checks",
    "load_gate",
    "look",
    "looked_at",
    "mend_for",
    "mended",
    "parted",
    "pixel_checks",
    "softmax",
    "within_borders",
]


def check(radiograph: Radiograph, card: ModelCard, *, age_years: float | None = None) -> GateReport:
    """Compare a film with what a model was trained on.

    Args:
        radiograph: The film.
        card: The model's.
        age_years: The patient's age as the reader states it; otherwise the file's counts.

    Raises:
        ModelError: When the files of the gate's own network are damaged.
    """
    if not card.training.get("gate", True):
        reason = "No gate fits: this model was trained on a user's own two classes."
        return GateReport((GateCheck("gate", None, "any", "caution", reason),))
    glance = glance_at(radiograph)
    stated = radiograph.facts.age_years if age_years is None else age_years
    return GateReport(
        (
            *fact_checks(radiograph, card, stated),
            resolution(radiograph, card),
            *pixel_checks(radiograph, glance),
            *learned_checks(glance),
        )
    )
