"""Pictures with the grain of radiographs in a shape that is no chest.

A network that only saw films, photographs and a few bones could take whatever has ribs' and
flesh's texture for a chest. So it is shown that texture where no chest is: behind apertures
such as limbs, hands and skulls have, joined to its own mirror image, repeated, strongly bent.
Nothing here was drawn after any of the films that are scored. Functions take uint8 squares and
a generator, and return float32 (SIDE, SIDE) in [0, 1].
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from cxr_core.gate_training.pictures import SIDE, Picture, Square, window

Grid = NDArray[np.float64]  # (SIDE, SIDE)
# Which shares of a film's area give the texture behind an aperture.
TEXTURE = (0.03, 0.5)


def chimera(films: Callable[[], Square], rng: np.random.Generator) -> Picture:
    """Make one of all these, at random; `films` draws a film."""
    make = (limb, limb, fan, skull, mirror_image, repeated, bent)[int(rng.integers(7))]
    return make(films, rng)


def limb(films: Callable[[], Square], rng: np.random.Generator) -> Picture:
    """Show texture through one to three tubes, some bent, some with a bright shaft in them."""
    through, shafts = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for _ in range(int(rng.integers(1, 4))):
        start, end = _ends(rng)
        thick = rng.uniform(0.08, 0.4)
        away = _from_line(start, end, bend=rng.normal(0, 0.15))
        through = np.maximum(through, _soft(thick - away, rng.uniform(0.01, 0.06)))
        bone = thick * rng.uniform(0.3, 0.6)
        rim = np.exp(-(((away - 0.8 * bone) / (0.25 * bone)) ** 2))
        shafts = np.maximum(shafts, 0.5 * _soft(bone - away, 0.02) + rng.uniform(0, 0.6) * rim)
    return _behind(_texture(films, rng), through, shafts * rng.uniform(0, 1.2), rng)


def fan(films: Callable[[], Square], rng: np.random.Generator) -> Picture:
    """Show texture through a palm and three to six fingers spread from it."""
    y, x = _plane()
    cx, cy = 0.5 + rng.normal(0, 0.06), rng.uniform(0.6, 0.85)
    across, down = rng.uniform(0.14, 0.26, 2)
    through = _soft(1 - np.hypot((x - cx) / across, (y - cy) / down), 0.1)
    shafts = np.zeros((SIDE, SIDE))
    count = int(rng.integers(3, 7))
    spread = rng.uniform(0.5, 1.3)
    for angle in np.linspace(-spread, spread, count) + rng.normal(0, 0.08, count):
        reach, thick = rng.uniform(0.4, 0.72), rng.uniform(0.03, 0.075)
        end = (cx + reach * np.sin(angle), cy - reach * np.cos(angle))
        away = _from_line((cx, cy), end, bend=0.0)
        through = np.maximum(through, _soft(thick - away, 0.015))
        shafts = np.maximum(shafts, _soft(0.5 * thick - away, 0.015))
    return _behind(_texture(films, rng), through, rng.uniform(0, 0.8) * shafts, rng)


def skull(films: Callable[[], Square], rng: np.random.Generator) -> Picture:
    """Show texture through one or two ovals, mostly with a bright rim."""
    y, x = _plane()
    through, rims = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for _ in range(int(rng.integers(1, 3))):
        cx, cy = rng.uniform(0.35, 0.65, 2)
        across, down = rng.uniform(0.18, 0.48, 2)
        away = np.hypot((x - cx) / across, (y - cy) / down)
        through = np.maximum(through, _soft(1 - away, rng.uniform(0.03, 0.15)))
        rims = np.maximum(rims, np.exp(-(((away - 0.9) / rng.uniform(0.04, 0.12)) ** 2)))
    return _behind(_texture(films, rng), through, rng.uniform(0, 0.8) * rims, rng)


def mirror_image(films: Callable[[], Square], rng: np.random.Generator) -> Picture:
    """Join one part of a film to its own mirror image, beside or above it."""
    part = window(films(), rng, (0.1, 0.6))
    half = part[:, : SIDE // 2] if rng.random() < 0.5 else part[:, SIDE // 2 :]
    joined = np.concatenate([half[:, ::-1], half], axis=1)
    # Two left lungs still look much like a chest: beside each other they lie head to foot.
    if rng.random() < 0.5:
        joined = np.concatenate([half[::-1], half], axis=1)
    else:
        joined = np.concatenate([joined[: SIDE // 2], joined[SIDE // 2 - 1 :: -1]], axis=0)
    return np.asarray(np.rot90(joined, int(rng.integers(4))), np.float32)


def repeated(films: Callable[[], Square], rng: np.random.Generator) -> Picture:
    """Repeat one strip of a film over the picture, shifted and faded."""
    strip = window(films(), rng, (0.03, 0.3))
    times = int(rng.integers(2, 6))
    rows = (np.arange(SIDE) * times) % SIDE
    wavy = (np.arange(SIDE) + rng.uniform(0, SIDE, SIDE).cumsum() * rng.uniform(0, 0.02)) % SIDE
    made = strip[rows[:, None], wavy.astype(int)[None, :]]
    return np.asarray(np.rot90(made, int(rng.integers(4))), np.float32)


def bent(films: Callable[[], Square], rng: np.random.Generator) -> Picture:
    """Swirl a film, or bend it in waves, until nothing lies where a chest has it."""
    film = window(films(), rng, (0.2, 1.0))
    y, x = _plane()
    if rng.random() < 0.5:
        dx, dy = x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.7)
        turn = rng.choice([-1, 1]) * rng.uniform(2.5, 6) * np.exp(-np.hypot(dx, dy) * 2)
        x, y = (
            x - dx + dx * np.cos(turn) - dy * np.sin(turn),
            y - dy + dx * np.sin(turn) + dy * np.cos(turn),
        )
    else:
        for _ in range(2):
            wave, phase = rng.uniform(0.7, 2.5), rng.uniform(0, 2 * np.pi, 2)
            deep = rng.uniform(0.08, 0.2)
            x, y = (
                x + deep * np.sin(2 * np.pi * wave * y + phase[0]),
                y + deep * np.sin(2 * np.pi * wave * x + phase[1]),
            )
    places = (y * (SIDE - 1), x * (SIDE - 1))
    return np.asarray(map_coordinates(film, places, order=1, mode="mirror"), np.float32)


def _plane() -> tuple[Grid, Grid]:
    """Give each pixel's place: y and x from 0 to 1."""
    y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j]
    return y, x


def _ends(rng: np.random.Generator) -> tuple[tuple[float, float], tuple[float, float]]:
    """Draw where a tube begins and ends, mostly beyond the picture."""
    x, y = rng.uniform(0.25, 0.75, 2)
    angle, reach = rng.uniform(0, np.pi), rng.uniform(0.3, 0.9, 2)
    dx, dy = np.cos(angle), np.sin(angle)
    return (x - reach[0] * dx, y - reach[0] * dy), (x + reach[1] * dx, y + reach[1] * dy)


def _from_line(start: tuple[float, float], end: tuple[float, float], *, bend: float) -> Grid:
    """Say how far each pixel lies from a line from (x, y) to (x, y), bent by a share of it."""
    y, x = _plane()
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    length = max(np.hypot(dx, dy), 1e-3)
    along = ((x - x0) * dx + (y - y0) * dy) / length**2
    within = np.clip(along, 0, 1)
    sag = bend * length * (1 - (2 * within - 1) ** 2)
    aside = ((y - y0) * dx - (x - x0) * dy) / length - sag
    return np.asarray(np.hypot(aside, (along - within) * length), np.float64)


def _soft(depth: Grid, softness: float) -> Grid:
    """Turn how deep a pixel lies within a shape into how much of it is seen, 0 to 1."""
    return np.asarray(np.clip(0.5 + depth / (2 * softness), 0, 1), np.float64)


def _texture(films: Callable[[], Square], rng: np.random.Generator) -> Grid:
    """Take a part of a film, turned, its greys spread anew."""
    part = np.rot90(window(films(), rng, TEXTURE), int(rng.integers(4))).astype(np.float64)
    low, high = np.quantile(part, (0.02, 0.98))
    return np.asarray(np.clip((part - low) / max(high - low, 1e-3), 0, 1), np.float64)


def _behind(texture: Grid, through: Grid, bones: Grid, rng: np.random.Generator) -> Picture:
    """Lay texture and bones behind an aperture on a dark ground that is not quite even."""
    flesh = rng.uniform(0.1, 0.5) + rng.uniform(0.15, 0.6) * texture + 0.5 * bones
    ground = rng.uniform(0, 0.15) * rng.random() + 0.02 * gaussian_filter(
        rng.standard_normal(texture.shape), 2
    )
    made = gaussian_filter(through * flesh + (1 - through) * ground, rng.uniform(0.2, 0.9))
    return np.asarray(np.clip(made, 0, 1), np.float32)
