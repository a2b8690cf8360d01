"""Maps on other grids, and boxes of the film on the model's square."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cxr_core.preprocess import Box, Placement

Floats = NDArray[np.floating]
# Of its largest value: a map that ranges over no more than this is flat. Averaging leaves a
# constant map a few units in the last place of its numbers, and maps are float32.
ROUNDING = 1e-6


def flat(values: Floats) -> bool:
    """Say whether a map (any shape) has one value everywhere, up to rounding."""
    return bool(np.ptp(values) <= ROUNDING * np.abs(values).max())


def average(values: Floats, rows: int, columns: int) -> NDArray[np.float64]:
    """Average a map (h, w) over the cells of another grid (rows, columns), by area."""
    height, width = values.shape
    return np.asarray(_shares(rows, height) @ values @ _shares(columns, width).T)


def within(box: Box, rows: int, columns: int) -> NDArray[np.float64]:
    """Return the share of each cell of a grid that lies in a box: (rows, columns), 0 to 1."""
    x0, y0, x1, y1 = box
    return np.outer(_overlap(y0, y1, rows), _overlap(x0, x1, columns))


def on_square(box: Box, placement: Placement) -> Box:
    """Turn a box on the film into the box it fills on the model's square."""
    x0, y0, x1, y1 = box
    size = placement.size
    return (
        (placement.left + x0 * placement.inner_width) / size,
        (placement.top + y0 * placement.inner_height) / size,
        (placement.left + x1 * placement.inner_width) / size,
        (placement.top + y1 * placement.inner_height) / size,
    )


def _shares(cells: int, old: int) -> NDArray[np.float64]:
    """Return (cells, old): by which weights old cells average into new ones."""
    edges = np.linspace(0, 1, cells + 1)
    overlaps = [_overlap(*span, old) for span in pairwise(edges)]
    return np.array(overlaps) * cells / old


def _overlap(low: float, high: float, cells: int) -> NDArray[np.float64]:
    """Return the share of each of `cells` equal cells of [0, 1] that lies in [low, high]."""
    edges = np.linspace(0, 1, cells + 1)
    common = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.asarray(np.clip(common * cells, 0, 1))
