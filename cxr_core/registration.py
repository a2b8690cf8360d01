"""How two films of one patient lie over each other: turned, moved and scaled, never bent.

Brightness differs between two exposures, so that not greys are compared but structure: how
much brighter each place is than around it, in local spreads. Every turn and scale of a grid
is tried at once with every shift (masked normalised correlation by Fourier transforms), the
best few are then improved step by step on finer pictures. Nothing is drawn by chance: the
same films always give the same transform. Whether it may be believed is told from how alike
the films are once one lies over the other; all chests look alike from afar, so that this is
asked of their fine structure, the ribs above all.

Reference:
    Padfield, Masked object registration in the Fourier domain, IEEE Transactions on Image
    Processing 21(5), 2012.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter, map_coordinates

from cxr_core.images import Radiograph

Floats = NDArray[np.float64]
Affine = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Two rows (a, b, c): places (x, y) on one film, in shares of width and height, become
(a x + b y + c) on the other."""

UNMOVED: Affine = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
# How far the second film may be turned (degrees), scaled and moved (share of the longer side).
MOST_TURNED, SCALES, MOST_MOVED = 15.0, (0.7, 1.4), 0.25
# The grid of the first search: pixels of the longer side, turns in degrees, factors of scale.
COARSE, TURNS, FACTORS = 32, np.arange(-15.0, 15.1, 3.0), 0.7 * 2.0 ** np.linspace(0, 1, 10)
# Pixels of the longer side on which the best are improved, and how many are.
FINER, FINEST, BEST = 64, 128, 4
# What counts as around a place, as a share of the longer side: first coarse, at the end fine.
AROUND = {COARSE: 0.16, FINER: 0.08, FINEST: 0.025}
# Least share of the smaller film that must lie over the other.
LEAST_OVERLAP = 0.5
# Nothing counts for more spreads than this: letters, wires and edges of collimation do not lead.
MOST_SPREADS = 2.0
# Least likeness of two films that are believed to lie over each other. Rule: the 95th percentile
# of pairs of films of different patients, rounded up to the next 0.05. Of the NIH validation
# films 60 such pairs had 0.32 there; 17 of 31 pairs of films of one patient reach the bound.
LIKENESS = 0.35


@dataclass(frozen=True)
class Registration:
    """How one film lies over another.

    Attributes:
        matrix: From places on the current film to those on the prior, in shares; `UNMOVED`
            when it is not believed.
        before: Likeness of their fine structure centre over centre, at most 1.
        after: Likeness when one lies over the other as well as can be.
        turned: Degrees by which the prior shows the patient turned clockwise.
        scale: How much larger the prior shows the patient, each film's longer side being 1.
        believed: Whether this may be relied upon.
    """

    matrix: Affine
    before: float
    after: float
    turned: float
    scale: float
    believed: bool


class _Move(NamedTuple):
    """A similarity, from the current film to the prior; places from the centre, longer side 1."""

    turn: float  # radians
    stretch: float  # natural logarithm of the scale
    right: float
    down: float

    def linear(self) -> Floats:
        """Return what turns and scales a place (x, y): (2, 2)."""
        across, down = np.exp(self.stretch) * np.array([np.cos(self.turn), np.sin(self.turn)])
        return np.array([[across, -down], [down, across]])


class _Picture(NamedTuple):
    """Structure of a film on a square grid, its longer side filling it; 0 outside the film."""

    values: Floats
    there: Floats  # 1 on the film, 0 outside


def register(prior: Radiograph, current: Radiograph) -> Registration:
    """Find the turn, scale and shift that lay a prior film over the current one.

    Args:
        prior: The earlier film.
        current: The film that is read.
    """
    pairs = {side: (_picture(current, side), _picture(prior, side)) for side in AROUND}
    found = [_improved(pairs[FINER], move, COARSE) for move in _likely(*pairs[COARSE])]
    best = max(found, key=lambda move: _likeness(*pairs[FINER], move))
    move = _improved(pairs[FINEST], best, FINER)
    before, after = (_likeness(*pairs[FINEST], one) for one in (_Move(0, 0, 0, 0), move))
    believed = after >= LIKENESS and not _at_the_edge(move)
    return Registration(
        _in_shares(move, prior, current) if believed else UNMOVED,
        before,
        after,
        float(np.degrees(move.turn)),
        float(np.exp(move.stretch)),
        believed,
    )


# --- what is compared ---


def _picture(film: Radiograph, side: int) -> _Picture:
    """Show a film's structure on a grid of `side` pixels.

    Greys are replaced by their rank first, so that exposure and film curve do not matter.
    """
    height, width = film.pixels.shape
    ratio = side / max(height, width)
    shape = max(1, round(height * ratio)), max(1, round(width * ratio))
    image = Image.fromarray(np.ascontiguousarray(film.pixels, np.float32))
    small = np.asarray(image.resize(shape[::-1], Image.Resampling.BOX), np.float64)
    ranks = np.searchsorted(np.sort(small, axis=None), small) / small.size
    values, there = np.zeros((side, side)), np.zeros((side, side))
    top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
    inside = slice(top, top + shape[0]), slice(left, left + shape[1])
    values[inside], there[inside] = _local_contrast(ranks, AROUND[side] * side), 1
    return _Picture(values, there)


def _local_contrast(ranks: Floats, around: float) -> Floats:
    """Return how much brighter each place is than within `around` pixels, in local spreads."""
    apart = ranks - gaussian_filter(ranks, around, mode="nearest")
    spread = np.sqrt(gaussian_filter(apart**2, around, mode="nearest"))
    # The constant keeps noise of a flat neighbourhood from looking like structure.
    return np.asarray(np.clip(apart / (spread + 0.02), -MOST_SPREADS, MOST_SPREADS))


def _likeness(current: _Picture, prior: _Picture, move: _Move) -> float:
    """Correlate two films where one lies over the other; 0 where too little does."""
    laid = _laid_over(prior, move)
    both = current.there * laid.there
    least = LEAST_OVERLAP * min(current.there.sum(), prior.there.sum() / np.exp(2 * move.stretch))
    if (count := both.sum()) < least:
        return 0.0
    ours = current.values - (current.values * both).sum() / count
    theirs = laid.values - (laid.values * both).sum() / count
    spreads = (both * ours**2).sum() * (both * theirs**2).sum()
    return float((both * ours * theirs).sum() / np.sqrt(max(spreads, 1e-12)))


def _laid_over(prior: _Picture, move: _Move) -> _Picture:
    """Resample the prior on the grid of the current film."""
    side = len(prior.values)
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    across, down = np.tensordot(move.linear(), np.stack([x, y]), 1)
    places = (np.stack([down + move.down, across + move.right]) + 0.5) * side - 0.5
    values, there = (map_coordinates(one, places, order=1) for one in prior)
    return _Picture(values, there)


# --- the search ---


def _likely(current: _Picture, prior: _Picture) -> Iterator[_Move]:
    """Try every turn, scale and shift of the grid; yield the best that differ."""
    moves = [_Move(np.radians(turn), np.log(factor), 0, 0) for turn in TURNS for factor in FACTORS]
    laid = [_laid_over(prior, move) for move in moves]
    likeness, shifts = _best_shifts(current, laid)
    likeness = likeness.reshape(len(TURNS), len(FACTORS))
    for _ in range(BEST):
        turn, factor = np.unravel_index(int(likeness.argmax()), likeness.shape)
        number = int(turn) * len(FACTORS) + int(factor)
        move = moves[number]
        # Moved by (x, y) on the current film is by the turned and scaled (x, y) on the prior.
        right, down = move.linear() @ -shifts[number]
        yield move._replace(right=float(right), down=float(down))
        likeness[max(turn - 1, 0) : turn + 2, max(factor - 1, 0) : factor + 2] = -np.inf


def _best_shifts(current: _Picture, laid: list[_Picture]) -> tuple[Floats, Floats]:
    """Correlate a film with others under every shift.

    Returns:
        (n,) the largest correlation with each, and (n, 2) by how much to move it right and
        down for that, in shares of the side.
    """
    side, reach = len(current.values), ceil(MOST_MOVED * len(current.values))
    size = next_fast_len(side + reach, real=True)

    def spectrum(pictures: list[Floats]) -> NDArray[np.complex128]:
        return np.asarray(rfft2(np.stack(pictures), (size, size)))

    ours = spectrum([current.there, current.values, current.values**2])
    theirs = spectrum([one for each in laid for one in (each.there, each.values, each.values**2)])
    there, values, squares = theirs.reshape(len(laid), 3, size, -1).conj().swapaxes(0, 1)
    window = np.arange(-reach, reach + 1)

    def correlated(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> Floats:
        full = irfft2(a * b, (size, size))
        return np.asarray(full[:, window[:, None], window[None, :]])

    count = correlated(ours[0], there)
    first, second = correlated(ours[1], there), correlated(ours[0], values)
    spread = correlated(ours[2], there) - first**2 / np.maximum(count, 1)
    other = correlated(ours[0], squares) - second**2 / np.maximum(count, 1)
    both = correlated(ours[1], values) - first * second / np.maximum(count, 1)
    likeness = both / np.sqrt(np.maximum(spread * other, 1e-6))
    areas = [min(current.there.sum(), each.there.sum()) for each in laid]
    likeness[count < LEAST_OVERLAP * np.array(areas)[:, None, None]] = -1
    flat = likeness.reshape(len(laid), -1)
    down, right = np.unravel_index(flat.argmax(axis=1), likeness.shape[1:])
    return flat.max(axis=1), np.stack([window[right], window[down]], axis=1) / side


def _improved(pair: tuple[_Picture, _Picture], move: _Move, step: int) -> _Move:
    """Climb to the best move close to one that was found on a grid of `step` pixels."""
    from scipy.optimize import minimize  # slow to load, and the app's first answer needs none

    one = 1 / step
    units = np.array([2 * one, 2 * one, one, one])  # as far as they move the film's edge
    corners = np.vstack([np.zeros(4), np.eye(4)])
    found = minimize(
        lambda by: -_likeness(*pair, _Move(*(move + by * units))),
        np.zeros(4),
        method="Nelder-Mead",
        options={"initial_simplex": corners - 0.2, "xatol": 0.02, "fatol": 1e-4, "maxfev": 160},
    )
    return _Move(*(float(value) for value in move + found.x * units))


def _at_the_edge(move: _Move) -> bool:
    """Say whether a move is as large as any, or larger: the best may lie beyond."""
    low, high = np.log(SCALES)
    return (
        abs(np.degrees(move.turn)) >= MOST_TURNED
        or not low < move.stretch < high
        or max(abs(move.right), abs(move.down)) >= MOST_MOVED
    )


def _in_shares(move: _Move, prior: Radiograph, current: Radiograph) -> Affine:
    """Write a move for places in shares of width and height, from the upper left corner."""

    def sides(film: Radiograph) -> Floats:
        height, width = film.pixels.shape
        return np.asarray(np.array([width, height]) / max(height, width))

    linear = move.linear() * sides(current) / sides(prior)[:, None]
    moved = np.array([move.right, move.down]) / sides(prior)
    offset = 0.5 + moved - linear @ [0.5, 0.5]
    (a, b), (d, e) = linear.tolist()
    c, f = offset.tolist()
    return (a, b, c), (d, e, f)
