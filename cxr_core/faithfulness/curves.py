"""Deletion and insertion: how the logits follow when a film is changed cell by cell.

A film is cut into GRID x GRID cells. Pixel by pixel, a random order would be salt and pepper
that no network has ever seen, and any map would beat it; cells of one size for all make the
orders comparable, whatever the resolution of the map.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxr_core.ranking import NO_INTERVAL, ROUNDS, Interval

Floats = NDArray[np.floating]
Order = NDArray[np.intp]
"""The cells (GRID * GRID) of a film, row by row, as they are changed."""
Forward = Callable[[NDArray[np.float32]], Floats]
"""From films (N, S, S, C) to logits (N, K)."""

GRID = 16
STEPS = 16
# The blur that deletes, as a share of the film's side: what is left of a lung is a shade.
# (Integrated gradients have a baseline blurred otherwise; this one stands in the records.)
DELETING_BLUR = 1 / 8


def cells(values: NDArray[np.floating], side: int = GRID) -> NDArray[np.float32]:
    """Bring a map (h, w) to (side, side): the mean of each cell, or bilinear between fewer.

    A pixel through which a border of cells runs counts in one of them, as it does when the film
    is changed; `attribution.grids.average` shares such pixels out.
    """
    finer = min(values.shape) >= side
    how = Image.Resampling.BOX if finer else Image.Resampling.BILINEAR
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize((side, side), how))


def order_of(values: NDArray[np.floating], seed: int = 0) -> Order:
    """Order cells (GRID, GRID) by falling value; equal ones, such as zeros, at random."""
    ties = np.random.default_rng(seed).random(values.size)
    return np.lexsort((ties, -values.ravel()))


def random_order(seed: int) -> Order:
    """Order the cells at random."""
    return np.random.default_rng(seed).permutation(GRID * GRID)


def centre_order(seed: int = 0) -> Order:
    """Order the cells from the centre of the film outwards, equal distances at random."""
    from_centre = np.arange(GRID) - (GRID - 1) / 2
    return order_of(-(from_centre[:, None] ** 2 + from_centre**2), seed)


def blurred(film: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blur a film (S, S, C) until nothing but light and dark is left."""
    sigma = DELETING_BLUR * film.shape[0]
    return np.asarray(gaussian_filter(film, (sigma, sigma, 0), mode="nearest"), np.float32)


def follow(
    forward: Forward,
    film: NDArray[np.float32],
    blurred_film: NDArray[np.float32],
    order: Order,
    *,
    insertion: bool = True,
) -> tuple[Floats, Floats]:
    """Follow the logits while cells are exchanged in an order, STEPS times equally many.

    Args:
        forward: From films to logits.
        film: float32 (S, S, C).
        blurred_film: What takes the place of deleted cells, same shape.
        order: Of the cells.
        insertion: Whether to measure insertion too. A random order need not: inserting in the
            reverse order shows the very same films, so its curve is the other one reversed.

    Returns:
        Logits (STEPS + 1, K) of deletion, from the film to the blurred one, and of insertion,
        from the blurred film to the film; empty when not asked for.
    """
    rank = np.empty(GRID * GRID, np.intp)
    rank[order] = np.arange(GRID * GRID)
    cell = np.arange(film.shape[0]) * GRID // film.shape[0]
    rank_of_pixel = rank.reshape(GRID, GRID)[np.ix_(cell, cell)][..., None]
    limits = np.linspace(0, GRID * GRID, STEPS + 1).round()[1:-1]
    changed = [rank_of_pixel < limit for limit in limits]
    stack = [film, blurred_film, *(np.where(gone, blurred_film, film) for gone in changed)]
    if insertion:
        stack += [np.where(shown, film, blurred_film) for shown in changed]
    logits = forward(np.stack(stack))
    whole, empty, middle = logits[:1], logits[1:2], logits[2:]
    deletion = np.concatenate([whole, middle[: STEPS - 1], empty])
    return deletion, np.concatenate([empty, middle[STEPS - 1 :], whole])


def bootstrap(values: NDArray[np.floating], rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """Return the mean over films (N,) and its 95 % percentile interval; none without films."""
    if not values.size:
        return NO_INTERVAL
    drawn = np.random.default_rng(seed).integers(values.size, size=(rounds, values.size))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))
