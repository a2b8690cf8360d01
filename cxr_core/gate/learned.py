"""What a small network makes of a picture: one whole frontal chest film, hanging as it should?

It looks within even borders, and asks five things of a picture: what it shows, how it was turned,
whether it is mirrored, whether it is inverted, and whether the whole chest is on it. It was
trained from random weights on the training films of the pediatric, COVID-19 and NIH sets, turned,
mirrored, inverted and cut; on two thirds of the photographs, bones, hands, slices and lateral
films of `not_chest_xray`; and on made pictures: parts and pieces of films, collages, screens,
text, textures, shapes, and films' texture in shapes that are no chest (`gate_training`). Held out
of it: the other third by file, a third of the NIH films of patients under 18 years, the test
patients of each set, whole kinds in trainings of their own. They were scored four times: the third
after a redesign that followed the rates of the first two, the fourth after even borders that are
not black were refused; `models/gate/evaluation.json` has every rate with its n, and its card what
it cannot do.

It cannot tell one disease from another, nor a heart on the right from a mirrored film, which is
why that is a caution. Six lateral films and six slices of a chest by computed tomography were at
hand: of these kinds nothing can be claimed. A picture of a kind that nobody thought of may pass,
and so do many films of which a side is cut away.
"""

import functools
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_core.cards import models_root
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.errors import ModelError
from cxr_core.gate.pixels import within_borders
from cxr_core.gate.report import GateCheck
from cxr_core.preprocess import Preprocessing, finish

NAME = "gate"
LOOK = Preprocessing(size=64, fit="stretch")
FRONTAL, LATERAL, BONE, SLICE, PHOTOGRAPH, OTHER = range(6)
# The network's logits: five questions, and of each exactly one answer is true.
KINDS = (
    "a frontal chest film",
    "a lateral chest film",
    "a film of another part of the body",
    "a slice of computed tomography or magnetic resonance",
    "a photograph",
    "another picture, or only a part of a chest film, or several",
)
# Which quarter turns, anticlockwise, led from the upright film to this one.
TURNS = (
    "upright",
    "turned anticlockwise by 90 degrees",
    "upside down",
    "turned clockwise by 90 degrees",
)
SIDES = ("hanging as usual", "mirrored")
TONES = ("bone is white", "inverted")
EXTENTS = ("the whole chest", "partly cut away")
QUESTIONS = (KINDS, TURNS, SIDES, TONES, EXTENTS)
LABELS = tuple(answer for question in QUESTIONS for answer in question)


@dataclass(frozen=True)
class Glimpse:
    """What the network says of one picture: the probabilities of each question's answers.

    Attributes:
        kind: float64 (6,), of `KINDS`.
        turn: float64 (4,), of `TURNS`.
        mirrored: Probability, 0 to 1.
        inverted: Probability, 0 to 1.
        cut: Probability that no whole chest is on it, 0 to 1.
    """

    kind: NDArray[np.float64]
    turn: NDArray[np.float64]
    mirrored: float
    inverted: float
    cut: float

    @classmethod
    def of(cls, logits: NDArray[np.float32]) -> "Glimpse":
        """Part the logits (16,) by question and make probabilities of them."""
        kind, turn, side, tone, extent = (softmax(part) for part in parted(logits))
        return cls(kind, turn, float(side[1]), float(tone[1]), float(extent[1]))


def parted(logits: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Part (..., 16) by question."""
    ends = np.cumsum([len(question) for question in QUESTIONS])[:-1]
    return np.split(logits, ends, axis=-1)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Turn (..., K) logits of which one is true into probabilities, float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def gate_root() -> Path | None:
    """Say which models folder has a gate: the one in use, else the one beside this package."""
    shipped = Path(__file__).parents[2] / "models"
    for root in (models_root(), shipped):
        if (root / NAME / "model.keras").is_file():
            return root
    return None


_loading = threading.Lock()


def load_gate() -> Classifier | None:
    """Return the network, loaded once and shared by all threads; None where there is none.

    Raises:
        ModelError: When its files are damaged.
    """
    root = gate_root()
    if root is None:
        return None
    with _loading:
        return _load(root)


@functools.lru_cache(maxsize=2)
def _load(root: Path) -> Classifier:
    loaded = load_classifier(NAME, root, kind="gate")
    if loaded.card.labels != LABELS:
        raise ModelError(
            f"The gate in '{root}' answers other questions than this version asks. Train it with "
            "`python -m cxr_core train gate --data FOLDER`, or restore its folder."
        )
    loaded.forward(np.zeros((1, LOOK.size, LOOK.size, 1), np.float32))
    return loaded


def learned_checks(glance: NDArray[np.uint8]) -> tuple[GateCheck, ...]:
    """Ask the network about a film's glance; where there is no network, say so."""
    gate = load_gate()
    if gate is None:
        reason = "Nobody looked whether this is an upright chest film: the gate's network is absent"
        mend = "Restore models/gate, or look for yourself."
        return (GateCheck("picture", None, KINDS[0], "caution", f"{reason}.", mend),)
    return checks_of(look(gate, glance), gate)


def look(gate: Classifier, glance: NDArray[np.uint8]) -> Glimpse:
    """Run the network on one film's glance, uint8 (128, 128)."""
    logits, _ = gate.forward(finish(looked_at(glance)[None], LOOK))
    return Glimpse.of(logits[0])


def looked_at(glance: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink what lies within even borders to what the network reads, uint8 (64, 64)."""
    inner = Image.fromarray(np.ascontiguousarray(within_borders(glance)))
    return np.asarray(inner.resize((LOOK.size, LOOK.size), Image.Resampling.BILINEAR))


def checks_of(glimpse: Glimpse, gate: Classifier) -> tuple[GateCheck, ...]:
    """Hold what the network says against the limits on its card.

    A picture that is no frontal chest film has no top and no sides: nothing more is asked.
    """
    points = dict(zip(LABELS, gate.card.operating_points, strict=True))
    picture = _picture(glimpse, _limit(points[KINDS[FRONTAL]]))
    if picture.verdict == "refuse":
        return (picture,)
    return (
        picture,
        _extent(glimpse, _limit(points[EXTENTS[1]])),
        _turn(glimpse, _limit(points[TURNS[0]])),
        _tone(glimpse, _limit(points[TONES[1]])),
        _side(glimpse, _limit(points[SIDES[1]])),
    )


def _limit(point: float | None) -> float:
    """Return a limit of the card.

    Raises:
        ModelError: When the card has none.
    """
    if point is None:
        raise ModelError("The gate's card lacks a limit; restore models/gate.")
    return point


def _picture(glimpse: Glimpse, least: float) -> GateCheck:
    chance = float(glimpse.kind[FRONTAL])
    limit = f"probability of {KINDS[FRONTAL]} at least {least:.2g}"
    value = _rounded(chance)
    if chance >= least:
        return GateCheck("picture", value, limit, "ok", "It looks like a frontal chest film.")
    likely = 1 + int(glimpse.kind[1:].argmax())
    reason = f"This does not look like one frontal chest film but like {KINDS[likely]}."
    mends = {
        LATERAL: "Use the frontal film of this study.",
        PHOTOGRAPH: "Use the film's own file, not a photograph.",
        OTHER: "Use one whole chest film, not a part, a collage or a picture of a screen.",
    }
    mend = mends.get(likely, "Use a frontal chest radiograph.")
    return GateCheck("picture", value, limit, "refuse", reason, mend)


def _rounded(chance: float) -> float:
    """Keep three digits that mean something, also of a tiny probability."""
    return float(f"{chance:.3g}")


def _extent(glimpse: Glimpse, most: float) -> GateCheck:
    value, limit = _rounded(glimpse.cut), f"probability that it is cut away below {most:.2g}"
    if glimpse.cut < most:
        return GateCheck(
            "extent", value, limit, "ok", "Nothing was seen to be cut away; many cut films pass."
        )
    reason = "The chest does not seem to be whole: a part of it is cut away."
    mend = "Use the whole film, with both lungs on it from top to base and from side to side."
    return GateCheck("extent", value, limit, "refuse", reason, mend)


def _turn(glimpse: Glimpse, least: float) -> GateCheck:
    upright = float(glimpse.turn[0])
    if upright >= least:
        return GateCheck("orientation", TURNS[0], TURNS[0], "ok", "The film stands upright.")
    turned = 1 + int(glimpse.turn[1:].argmax())
    reason = f"The film looks {TURNS[turned]}."
    mend = "Turn it upright, or have it turned here."
    return GateCheck("orientation", TURNS[turned], TURNS[0], "refuse", reason, mend)


def _tone(glimpse: Glimpse, most: float) -> GateCheck:
    if glimpse.inverted < most:
        return GateCheck("polarity", TONES[0], TONES[0], "ok", "Bone is white, air is black.")
    reason = "The film looks inverted: bone is black, air is white."
    return GateCheck(
        "polarity", TONES[1], TONES[0], "refuse", reason, "Undo the inversion, or have it undone."
    )


def _side(glimpse: Glimpse, most: float) -> GateCheck:
    if glimpse.mirrored < most:
        return GateCheck("side", SIDES[0], SIDES[0], "ok", "The heart lies on its usual side.")
    reason = "The heart seems to lie on the patient's right: a mirrored film, or situs inversus."
    mend = "Look for the side marker; a film that is mirrored can be mirrored back."
    return GateCheck("side", SIDES[1], SIDES[0], "caution", reason, mend)
