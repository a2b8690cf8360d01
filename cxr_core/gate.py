"""Is this a film that this model may speak about? Each check says what it measured and why.

A check is "ok", a "caution" that the reader should know of, or a reason to "refuse"; the
report's verdict is the worst of its checks. What cannot be known (a PNG carries no age)
is a caution where it matters, never a guess.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import floor
from typing import Any, Literal

from cxr_core.cards import ModelCard
from cxr_core.images import Radiograph

Verdict = Literal["ok", "caution", "refuse"]
_SEVERITY: tuple[Verdict, ...] = ("ok", "caution", "refuse")

# Mean difference between the strongest and the weakest channel, in [0, 1]. Films saved in
# colour stay below the first; a photograph lies above the second.
TINTED, COLOURED = 0.02, 0.08
# Spread of pixels in [0, 1] below which a film shows next to nothing.
FAINT = 0.04
LATERAL_VIEWS = frozenset({"LL", "RL", "LLD", "RLD"})
RADIOGRAPHY = frozenset({"CR", "DX", "RG", "XR", "DR"})
CHEST_WORDS = ("CHEST", "THORA", "TORA", "RIB", "LUNG", "PULM", "CXR")
OTHER_PARTS = (
    *("SKULL", "HEAD", "BRAIN", "NECK", "SPINE", "ABDOMEN", "PELVIS", "HIP", "BREAST", "HEART"),
    *("HAND", "WRIST", "FINGER", "ARM", "ELBOW", "HUMERUS", "SHOULDER", "CLAVICLE", "RADIUS"),
    *("LEG", "KNEE", "FEMUR", "TIBIA", "FIBULA", "ANKLE", "FOOT", "TOE", "JAW", "EXTREMITY"),
)


@dataclass(frozen=True)
class GateCheck:
    """One thing that was checked.

    Attributes:
        name: What ("age", "view", ...).
        value: What was measured or stated, or None when unknown.
        limit: What is allowed.
        verdict: "ok", "caution" or "refuse".
        reason: One sentence.
        mend: What to do about it; empty when nothing is needed.
    """

    name: str
    value: float | str | None
    limit: str
    verdict: Verdict
    reason: str
    mend: str = ""


@dataclass(frozen=True)
class GateReport:
    """All checks of one film for one model."""

    checks: tuple[GateCheck, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all checks."""
        return max((check.verdict for check in self.checks), key=_SEVERITY.index, default="ok")

    @property
    def refused(self) -> bool:
        """Whether the model must not speak."""
        return self.verdict == "refuse"

    def by_verdict(self, verdict: Verdict) -> tuple[GateCheck, ...]:
        """Return the checks that ended so."""
        return tuple(check for check in self.checks if check.verdict == verdict)

    def to_json(self) -> dict[str, Any]:
        """Return the report as `predict --json` prints it."""
        return {"verdict": self.verdict, "checks": [asdict(check) for check in self.checks]}


def check(radiograph: Radiograph, card: ModelCard, *, age_years: float | None = None) -> GateReport:
    """Compare a film with what a model was trained on.

    Args:
        radiograph: The film.
        card: The model's.
        age_years: The patient's age as the reader states it; otherwise the file's counts.
    """
    if not card.training.get("gate", True):
        reason = "No gate fits: this model was trained on a user's own two classes."
        return GateReport((GateCheck("gate", None, "any", "caution", reason),))
    stated = radiograph.facts.age_years if age_years is None else age_years
    return GateReport(
        (
            _age(stated, card),
            *(run(radiograph, card) for run in _CHECKS),
        )
    )


def _age(age: float | None, card: ModelCard) -> GateCheck:
    """Completed years count: a child of 5 years and 11 months is 5."""
    if card.age_range is None:
        return GateCheck("age", age, "any", "ok", "The model states no age range.")
    low, high = card.age_range
    limit = f"{low:g} to {high:g} years"
    if age is None:
        reason = f"Age not stated; this model knows patients of {low:g}-{high:g} years."
        return GateCheck("age", None, limit, "caution", reason, "State the patient's age.")
    if low <= floor(age) <= high:
        return GateCheck("age", age, limit, "ok", f"Trained on patients of {limit}.")
    reason = f"The patient is {age:.3g} years old; this model knows only patients of {limit}."
    mend = "Choose a model for this age, or correct the age if it is wrong."
    return GateCheck("age", age, limit, "refuse", reason, mend)


def _view(radiograph: Radiograph, card: ModelCard) -> GateCheck:
    view, limit = radiograph.facts.view, " or ".join(card.views) or "any"
    if view is None or not card.views or view in card.views:
        told = f"The file says {view}." if view else "The file does not say which view it is."
        return GateCheck("view", view, limit, "ok", told)
    lateral = view in LATERAL_VIEWS or "LAT" in view
    verdict: Verdict = "refuse" if lateral else "caution"
    reason = f"The file says the view is {view}; this model knows {limit}."
    return GateCheck("view", view, limit, verdict, reason, "Use the frontal film of this study.")


def _body_part(radiograph: Radiograph, card: ModelCard) -> GateCheck:
    part, limit = radiograph.facts.body_part, "chest"
    if part is None or any(word in part.upper() for word in CHEST_WORDS):
        told = f"The file says {part}." if part else "The file names no body part."
        return GateCheck("body part", part, limit, "ok", told)
    other = any(word in part.upper() for word in OTHER_PARTS)
    verdict: Verdict = "refuse" if other else "caution"
    reason = f"The file says the body part is {part}, not the chest."
    mend = "Use a chest film, or correct the file's header if it is wrong."
    return GateCheck("body part", part, limit, verdict, reason, mend)


def _modality(radiograph: Radiograph, card: ModelCard) -> GateCheck:
    modality, limit = radiograph.facts.modality, "CR, DX or RG"
    if modality is None or modality.upper() in RADIOGRAPHY:
        told = f"The file says {modality}." if modality else "The file names no modality."
        return GateCheck("modality", modality, limit, "ok", told)
    verdict: Verdict = "caution" if modality.upper() in {"OT", "SC"} else "refuse"
    reason = f"The file's modality is {modality}; this model knows radiographs."
    mend = "Use the original radiograph (modality CR or DX)."
    return GateCheck("modality", modality, limit, verdict, reason, mend)


def _resolution(radiograph: Radiograph, card: ModelCard) -> GateCheck:
    side, wanted = min(radiograph.pixels.shape), card.preprocessing.size
    limit = f"at least {wanted} pixels"
    if side >= wanted:
        return GateCheck("resolution", side, limit, "ok", f"The shorter side has {side} pixels.")
    verdict: Verdict = "caution" if side >= wanted // 2 else "refuse"
    reason = f"The shorter side has {side} pixels; the model reads {wanted}."
    return GateCheck("resolution", side, limit, verdict, reason, "Use the film at full size.")


def _colour(radiograph: Radiograph, card: ModelCard) -> GateCheck:
    tint, limit = round(radiograph.facts.colourfulness, 4), f"below {TINTED:g}"
    if tint < TINTED:
        return GateCheck("colour", tint, limit, "ok", "The picture is grey, as a film should be.")
    verdict: Verdict = "caution" if tint < COLOURED else "refuse"
    reason = "The picture is coloured; a radiograph is grey."
    mend = "Use the film itself, not a photograph, a screenshot or a film with drawings on it."
    return GateCheck("colour", tint, limit, verdict, reason, mend)


def _contrast(radiograph: Radiograph, card: ModelCard) -> GateCheck:
    spread, limit = round(float(radiograph.pixels.std()), 4), f"at least {FAINT:g}"
    if spread >= FAINT:
        return GateCheck("contrast", spread, limit, "ok", "The film uses its grey scale.")
    reason = "The film has almost no contrast; the window may be wrong."
    mend = "Export the film with its window applied, or use the original DICOM file."
    return GateCheck("contrast", spread, limit, "refuse", reason, mend)


_CHECKS: tuple[Callable[[Radiograph, ModelCard], GateCheck], ...] = (
    _view,
    _body_part,
    _modality,
    _resolution,
    _colour,
    _contrast,
)
