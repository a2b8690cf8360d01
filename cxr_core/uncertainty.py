"""How far an answer moves when the same film is taken a little differently.

Not how sure the model is in general, which calibration and the cannot-tell band say, but
whether this film's answer hangs on where exactly it lay and how it was exposed.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from cxr_core.calibration import probabilities
from cxr_core.classifier import Classifier
from cxr_core.images import Radiograph
from cxr_core.preprocess import normalise, to_square

# How many variations, and how far each may go: shares of the square's side either way, degrees,
# exponents of brightness, and the largest spread of white noise. All are less than two films
# of one patient differ by, so that a steady model hardly moves.
VARIATIONS = 12
SHIFT, ROTATION, GAMMA, NOISE = 0.02, 2.0, 0.1, 0.01

Floats = NDArray[np.float32]


def steadiness(classifier: Classifier, radiograph: Radiograph) -> dict[str, tuple[float, float]]:
    """Return, for each label, the lowest and highest probability of a film varied a little.

    The film as it is counts too. The same film always gives the same interval, for its digest
    seeds the variations. Costs one forward pass of 13 films.

    Args:
        classifier: The model that spoke.
        radiograph: The film.

    Reference:
        Ayhan and Berens, Test-time data augmentation for estimation of heteroscedastic
        aleatoric uncertainty in deep neural networks, MIDL 2018.
    """
    card = classifier.card
    square, _ = to_square(radiograph, card.preprocessing)
    film = square.astype(np.float32) / np.float32(255)
    varied = np.stack([film, *variations(film, int(radiograph.digest[:16], 16))])
    logits, _ = classifier.forward(normalise(varied, card.preprocessing)[0])
    scores = probabilities(logits, card.calibration, card.activation)
    low, high = scores.min(axis=0).tolist(), scores.max(axis=0).tolist()
    return dict(zip(card.labels, zip(low, high, strict=True), strict=True))


def variations(film: Floats, seed: int) -> list[Floats]:
    """Shift, turn, expose and grain a square (S, S) in [0, 1] in `VARIATIONS` small ways."""
    rng = np.random.default_rng(seed)
    return [_varied(film, rng) for _ in range(VARIATIONS)]


def _varied(film: Floats, rng: np.random.Generator) -> Floats:
    """Vary a film once; what comes in from outside is as bright as the edge."""
    angle = np.radians(rng.uniform(-ROTATION, ROTATION))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (np.array(film.shape) - 1) / 2
    moved = rng.uniform(-SHIFT, SHIFT, 2) * film.shape
    placed = affine_transform(film, turn, centre - turn @ centre + moved, order=1, mode="nearest")
    exposed = np.clip(placed, 0, 1) ** rng.uniform(1 - GAMMA, 1 + GAMMA)
    grain = rng.uniform(0, NOISE) * rng.standard_normal(film.shape)
    return np.asarray(np.clip(exposed + grain, 0, 1), np.float32)
