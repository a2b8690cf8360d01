"""Where the lungs lie on a frontal film: one box around both, by a drawn template.

Two dark fields between a bright middle and a bright frame, the right shape and about in the
middle of the film: a drawing of that, stretched to every likely box, is compared with the
film's local contrast (normalised cross-correlation, as in Brunelli, Template matching
techniques in computer vision, 2009), and the best box is then moved edge by edge. Nothing is
learned from films, so no model's training can have leaked in. Where no box looks like
lungs there is no answer: opaque lungs on both sides, most lateral films, most pictures of
something else. A film upside down may pass: what a film is, is for the gate to say.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxr_core.preprocess import Box

Floats = NDArray[np.floating]
Pairs = NDArray[np.float64]  # (n, 2): two opposite edges of n boxes

# The film is looked at in this many pixels either way, the drawing in this many cells.
SIDE, CELLS = 64, 24
# What counts as local for contrast, as a share of the film's side.
LOCAL = 0.16
# How far the drawing reaches beyond the lungs, as a share of their width (each side) and height.
BESIDE, ABOVE, BELOW = 0.12, 0.10, 0.16
# Likely boxes: shares of the film, height over width, and how far lungs may be cut off.
WIDTHS, HEIGHTS, TALL, CUT = (0.42, 1.04), (0.36, 1.04), (0.58, 1.6), 0.04
# Steps of the first search, and of the second around its best box.
COARSE_STEP, FINE_STEP, FINE_REACH = 0.05, 0.0125, 3
# What a larger and a more central box is worth: half lungs look like lungs, too.
LARGER, CENTRAL = 0.25, 2.0
# The drawing's corners are round, so that it fits best a little inside the lungs' own box: by
# this share of width (each side) and height (above, below), measured on phantoms.
INSIDE, INSIDE_ABOVE, INSIDE_BELOW = 0.03, 0.05, 0.05
# Least correlation of lungs: of films drawn by chance 22 of 30 pediatric ones (those refused
# have opaque or faint lungs), 29 of 30 NIH and 30 of 30 COVID ones reach it, and 6 of 30
# pictures that show no chest (a CT slice, joints): keeping those out is the gate's work.
LIKENESS = 0.4


def lung_field(pixels: NDArray[np.floating]) -> Box | None:
    """Find the box around both lungs of a frontal film.

    Args:
        pixels: (H, W) in [0, 1], 0 = air-black, 1 = bone-white.

    Returns:
        x0, y0, x1, y1 as fractions of width and height, or None where nothing looks like
        two lungs: then nobody should guess.
    """
    contrast = _local_contrast(pixels)
    across, down = (_pairs(*limits) for limits in (WIDTHS, HEIGHTS))
    best, _ = _best(contrast, across, down)
    x, y = (_around(best[edge], best[edge + 2]) for edge in (0, 1))
    best, likeness = _best(contrast, x, y)
    if likeness < LIKENESS:
        return None
    width, height = best[2] - best[0], best[3] - best[1]
    grown = best + np.array(
        [-INSIDE * width, -INSIDE_ABOVE * height, INSIDE * width, INSIDE_BELOW * height]
    )
    x0, y0, x1, y1 = (float(edge) for edge in np.clip(grown, 0, 1))
    return x0, y0, x1, y1


def _local_contrast(pixels: Floats) -> NDArray[np.float64]:
    """Return how much brighter each place is than around it, in local spreads: (SIDE, SIDE).

    Greys are replaced by their rank first, so that exposure and film curve do not matter.
    """
    film = Image.fromarray(np.ascontiguousarray(pixels, np.float32))
    small = np.asarray(film.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    ranks = np.searchsorted(np.sort(small, axis=None), small) / small.size
    around = gaussian_filter(ranks, LOCAL * SIDE, mode="nearest")
    spread = np.sqrt(gaussian_filter((ranks - around) ** 2, LOCAL * SIDE, mode="nearest"))
    # The constant keeps noise of a flat neighbourhood from looking like structure.
    return np.asarray(gaussian_filter((ranks - around) / (spread + 0.08), 0.5))


@cache
def _drawing() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw lungs (-1) in their surroundings (1), and how much each cell counts.

    Both (CELLS, CELLS), covering a lung box and what is about it. The heart counts little:
    in children and large hearts it fills what is lung in others.
    """
    y = np.linspace(-ABOVE, 1 + BELOW, CELLS)[:, None]
    x = np.linspace(-1 - 2 * BESIDE, 1 + 2 * BESIDE, CELLS)[None, :]
    out, depth = np.abs(x), np.clip(y, 0, 1)
    wall = 1 - 0.62 * (1 - depth) ** 2.2
    right, left = (
        0.16 + reach * np.clip((depth - start) / 0.5, 0, 1)
        for reach, start in ((0.08, 0.5), (0.36, 0.45))
    )
    apex = np.minimum(0.25 * ((out - 0.32) / 0.4) ** 2, 0.5)
    dome = 0.84 + 0.16 * np.clip((out - 0.45) / 0.5, 0, 1) ** 2
    lung = (out < wall) & (out > np.where(x > 0, left, right)) & (y > apex) & (y < dome)
    counts = np.ones(lung.shape)
    counts[~lung & (y > 0.4) & (y < 0.95) & (out > 0.1) & (out < 0.75)] = 0.35
    counts[np.broadcast_to(out > 1, lung.shape)] = 0.6
    counts[np.broadcast_to(y > 1, lung.shape)] = 1.3
    return np.where(lung, -1.0, 1.0), counts / counts.sum()


def _pairs(least: float, most: float) -> Pairs:
    """List opposite edges on the coarse grid whose distance is likely."""
    steps = np.arange(-CUT, 1 + CUT, COARSE_STEP)
    low, high = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    likely = (high - low >= least) & (high - low <= most)
    return np.asarray(np.stack([low, high], axis=1)[likely])


def _around(low: float, high: float) -> Pairs:
    """List opposite edges close to two."""
    steps = FINE_STEP * np.arange(-FINE_REACH, FINE_REACH + 1)
    near = np.stack(np.meshgrid(low + steps, high + steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(np.clip(near, -CUT, 1 + CUT))


def _best(contrast: Floats, across: Pairs, down: Pairs) -> tuple[NDArray[np.float64], float]:
    """Return the box (x0, y0, x1, y1) that looks most like lungs, and its correlation."""
    width, height = np.ptp(across, axis=1)[None, :], np.ptp(down, axis=1)[:, None]
    likeness = _likeness(contrast, across, down)
    off_centre = across.mean(axis=1)[None, :] - 0.5
    worth = likeness + LARGER * np.log(width * height) - CENTRAL * off_centre**2
    tall = height / width
    worth = np.where((tall >= TALL[0]) & (tall <= TALL[1]), worth, -np.inf)
    row, column = np.unravel_index(int(worth.argmax()), worth.shape)
    (x0, x1), (y0, y1) = across[column], down[row]
    return np.array([x0, y0, x1, y1]), float(likeness[row, column])


def _likeness(contrast: Floats, across: Pairs, down: Pairs) -> NDArray[np.float64]:
    """Correlate the drawing, laid over every box, with the film: (len(down), len(across))."""
    drawing, counts = _drawing()
    mean = (counts * drawing).sum()
    pattern = counts * (drawing - mean)
    spread = np.sqrt((counts * (drawing - mean) ** 2).sum())
    columns, rows = _cells(across, BESIDE, BESIDE), _cells(down, ABOVE, BELOW)
    result = np.empty((len(down), len(across)))
    for row, cells in enumerate(rows):
        seen = contrast[cells][:, columns].transpose(1, 0, 2).reshape(len(across), -1)
        average = seen @ counts.ravel()
        variance = seen**2 @ counts.ravel() - average**2
        result[row] = seen @ pattern.ravel() / (spread * np.sqrt(np.maximum(variance, 1e-3)))
    return result


def _cells(pairs: Pairs, before: float, after: float) -> NDArray[np.int64]:
    """Return the pixels (n, CELLS) that the drawing's cells meet along one side of n boxes."""
    low, high = pairs[:, :1], pairs[:, 1:]
    places = low + (high - low) * np.linspace(-before, 1 + after, CELLS)
    return np.clip(places * SIDE, 0, SIDE - 1).astype(np.int64)
