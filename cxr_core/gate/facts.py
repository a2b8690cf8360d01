"""What the file says of its film, held against what the model was trained on.

What cannot be known (a PNG carries no age) is a caution where it matters, never a guess.
"""

from math import floor

from cxr_core.cards import ModelCard
from cxr_core.gate.report import GateCheck, Verdict
from cxr_core.images import Radiograph

LATERAL_VIEWS = frozenset({"LL", "RL", "LLD", "RLD"})
RADIOGRAPHY = frozenset({"CR", "DX", "RG", "XR", "DR"})
CHEST_WORDS = ("CHEST", "THORA", "TORA", "RIB", "LUNG", "PULM", "CXR")
# These decide before the chest's words: "THORACIC SPINE" and "CERVICAL RIB" are no chest films.
SPINE_WORDS = ("SPINE", "CERVICAL", "LUMBAR")
OTHER_PARTS = (
    *("SKULL", "HEAD", "BRAIN", "NECK", "ABDOMEN", "PELVIS", "HIP", "BREAST", "HEART"),
    *("HAND", "WRIST", "FINGER", "ARM", "ELBOW", "HUMERUS", "SHOULDER", "CLAVICLE", "RADIUS"),
    *("LEG", "KNEE", "FEMUR", "TIBIA", "FIBULA", "ANKLE", "FOOT", "TOE", "JAW", "EXTREMITY"),
)


def fact_checks(
    radiograph: Radiograph, card: ModelCard, age_years: float | None
) -> tuple[GateCheck, ...]:
    """Check age, view, body part and modality; `age_years` as stated, or from the file."""
    facts = (_view, _body_part, _modality)
    return (_age(age_years, card), *(run(radiograph, card) for run in facts))


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
    spine = part is not None and _says(part, SPINE_WORDS)
    if part is None or (not spine and _says(part, CHEST_WORDS)):
        told = f"The file says {part}." if part else "The file names no body part."
        return GateCheck("body part", part, limit, "ok", told)
    verdict: Verdict = "refuse" if spine or _says(part, OTHER_PARTS) else "caution"
    reason = f"The file says the body part is {part}, not the chest."
    mend = "Use a chest film, or correct the file's header if it is wrong."
    return GateCheck("body part", part, limit, verdict, reason, mend)


def _says(part: str, words: tuple[str, ...]) -> bool:
    return any(word in part.upper() for word in words)


def _modality(radiograph: Radiograph, card: ModelCard) -> GateCheck:
    modality, limit = radiograph.facts.modality, "CR, DX or RG"
    if modality is None or modality.upper() in RADIOGRAPHY:
        told = f"The file says {modality}." if modality else "The file names no modality."
        return GateCheck("modality", modality, limit, "ok", told)
    verdict: Verdict = "caution" if modality.upper() in {"OT", "SC"} else "refuse"
    reason = f"The file's modality is {modality}; this model knows radiographs."
    mend = "Use the original radiograph (modality CR or DX)."
    return GateCheck("modality", modality, limit, verdict, reason, mend)
