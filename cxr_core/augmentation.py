"""How the same chest would look from another X-ray unit, technician or archive.

One function, two strengths: `TRAINING` is what the network must learn to ignore;
`ACQUISITION` is what validation films go through before operating points are chosen,
because films held out of the training folder are easier than the next hospital's.

No left-right flip: the heart has a side. Pure keras.ops and numpy, so that the same
code runs under the TensorFlow, JAX and torch backends; random numbers come from a
numpy generator, so that an epoch can be repeated exactly.
"""

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How far each change may go; fractions of the film's side unless said otherwise.

    Attributes:
        stretch: Each axis is scaled by exp(uniform(-stretch, stretch)) on its own:
            0.3 is 0.74 to 1.35. Breaks what squashing films to a square wrote into them.
        rotate: Degrees either way.
        shift: Translation either way.
        gamma: Exponent exp(uniform(-gamma, gamma)).
        contrast: Gain 1 + uniform(-contrast, contrast) about mid-grey, then clipped.
        brightness: Added, uniform(-brightness, brightness), then clipped.
        softness: Largest standard deviation of the blurred copy, in pixels of a 128-pixel
            square. Training goes far beyond what units differ by, so that the network also
            learns to see without the fine texture that betrays where a film was made.
        blur: Largest share of the blurred copy mixed in.
        sharpen: Largest share of (film - blurred copy) added.
        noise: Largest standard deviation of white noise.
        border: Largest width of a black edge on each side (collimation, digitiser frames).
        erase: Largest side of a grey rectangle laid over the film.
        chance: Probability that a border, and that a rectangle, is there at all.
    """

    stretch: float
    rotate: float
    shift: float
    gamma: float
    contrast: float
    brightness: float
    softness: float
    blur: float
    sharpen: float
    noise: float
    border: float
    erase: float
    chance: float


TRAINING = Strength(
    stretch=0.3,
    rotate=10,
    shift=0.06,
    gamma=0.5,
    contrast=0.4,
    brightness=0.15,
    softness=3.0,
    blur=1.0,
    sharpen=1.0,
    noise=0.04,
    border=0.10,
    erase=0.35,
    chance=0.35,
)

# What the published student systems did: small moves, the tones left as they are.
MILD = Strength(
    stretch=0.1,
    rotate=10,
    shift=0.05,
    gamma=0.0,
    contrast=0.0,
    brightness=0.0,
    softness=0.0,
    blur=0.0,
    sharpen=0.0,
    noise=0.0,
    border=0.0,
    erase=0.0,
    chance=0.0,
)

# Fixed before any test film was scored; no erasing, which no X-ray unit does.
ACQUISITION = Strength(
    stretch=0.15,
    rotate=5,
    shift=0.03,
    gamma=0.4,
    contrast=0.3,
    brightness=0.1,
    softness=1.5,
    blur=1.0,
    sharpen=0.7,
    noise=0.03,
    border=0.08,
    erase=0.0,
    chance=0.35,
)


def augment(
    films: NDArray[np.float32], strength: Strength, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Vary each film on its own.

    Args:
        films: float32 (N, S, S) in [0, 1].
        strength: How far.
        rng: Source of every random number here.

    Returns:
        float32 (N, S, S) in [0, 1].
    """
    varied = _move(films, strength, rng)
    varied = _expose(varied, strength, rng)
    varied = _focus(varied, strength, rng)
    varied = varied + _column(rng, 0, strength.noise, len(films)) * rng.standard_normal(
        films.shape, np.float32
    )
    varied = np.clip(varied, 0, 1)
    _frame(varied, strength, rng)
    _erase(varied, strength, rng)
    return varied


def _column(rng: np.random.Generator, low: float, high: float, n: int) -> NDArray[np.float32]:
    """One uniform number per film, shaped (n, 1, 1) to broadcast over its pixels."""
    return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)


def _move(
    films: NDArray[np.float32], strength: Strength, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Scale each axis, rotate and shift about the centre; what comes in from outside is black."""
    n, size = len(films), films.shape[1]
    angle = np.radians(rng.uniform(-strength.rotate, strength.rotate, n))
    sx, sy = np.exp(rng.uniform(-strength.stretch, strength.stretch, (2, n)))
    dx, dy = rng.uniform(-strength.shift, strength.shift, (2, n)) * size
    # Output to input coordinates: (x, y) -> (a x + b y + c, d x + e y + f).
    a, b = np.cos(angle) / sx, -np.sin(angle) / sx
    d, e = np.sin(angle) / sy, np.cos(angle) / sy
    centre = (size - 1) / 2
    c = centre - a * (centre + dx) - b * (centre + dy)
    f = centre - d * (centre + dx) - e * (centre + dy)
    transform = np.stack([a, b, c, d, e, f, 0 * a, 0 * a], axis=1).astype(np.float32)
    moved = keras.ops.image.affine_transform(films[..., None], transform, fill_mode="constant")
    return np.asarray(keras.ops.convert_to_numpy(moved))[..., 0]


def _expose(
    films: NDArray[np.float32], strength: Strength, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Change the tone curve: gamma, then gain and offset with clipping."""
    n = len(films)
    gamma = np.exp(_column(rng, -strength.gamma, strength.gamma, n))
    gain = 1 + _column(rng, -strength.contrast, strength.contrast, n)
    offset = _column(rng, -strength.brightness, strength.brightness, n)
    # float32 warping can leave -1e-9, whose power would be NaN.
    toned = np.power(np.maximum(films, 0), gamma)
    return np.clip((toned - 0.5) * gain + 0.5 + offset, 0, 1)


def _focus(
    films: NDArray[np.float32], strength: Strength, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Blur or sharpen: move each film towards, or away from, a blurred copy of itself."""
    sigma = rng.uniform(0.6, max(strength.softness, 0.6)) * films.shape[1] / 128
    soft = gaussian_filter(films, (0, sigma, sigma), truncate=2)
    amount = _column(rng, -strength.sharpen, strength.blur, len(films))
    return np.asarray(np.clip(films + amount * (soft - films), 0, 1))


def _frame(films: NDArray[np.float32], strength: Strength, rng: np.random.Generator) -> None:
    """Blacken edges in place: collimation, or the frame of a digitised film."""
    size = films.shape[1]
    for k in np.flatnonzero(rng.random(len(films)) < strength.chance):
        film = films[k]  # a view: indexing with the mask itself would copy
        top, bottom, left, right = (rng.uniform(0, strength.border, 4) * size).astype(int)
        film[:top], film[size - bottom :] = 0, 0
        film[:, :left], film[:, size - right :] = 0, 0


def _erase(films: NDArray[np.float32], strength: Strength, rng: np.random.Generator) -> None:
    """Lay a rectangle of one grey over part of a film, in place (Zhong 2020, Random Erasing)."""
    size = films.shape[1]
    for k in np.flatnonzero(rng.random(len(films)) < strength.chance * (strength.erase > 0)):
        film = films[k]
        height, width = (rng.uniform(0.05, max(strength.erase, 0.05), 2) * size).astype(int)
        top, left = rng.integers(0, size - height), rng.integers(0, size - width)
        film[top : top + height, left : left + width] = rng.random()
