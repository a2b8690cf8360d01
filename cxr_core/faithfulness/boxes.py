"""Where maps point, where readers drew, and how well one does without looking.

Everything lies on a raster of RASTER x RASTER over the model's square.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxr_core.datasets import Box
from cxr_core.faithfulness.curves import cells
from cxr_core.preprocess import Placement

Mask = NDArray[np.bool_]
RASTER = 128
# Of its peak: what of a map counts as its region.
REGION = 0.5


def mask_of(boxes: Sequence[Box], placement: Placement) -> Mask:
    """Mark the raster points inside any of a film's boxes: bool (RASTER, RASTER)."""
    mask = np.zeros((RASTER, RASTER), bool)
    points = (np.arange(RASTER) + 0.5) / RASTER * placement.size  # in pixels of the square
    x = (points - placement.left) / placement.inner_width
    y = (points - placement.top) / placement.inner_height
    for box in boxes:
        across = (x >= box.left) & (x < box.left + box.width)
        down = (y >= box.top) & (y < box.top + box.height)
        mask |= down[:, None] & across
    return mask


def raster(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Bring what speaks for the label in a map (h, w) to the raster; the rest is 0."""
    return np.maximum(cells(values, RASTER), 0)


def peak_of(values: NDArray[np.float32]) -> tuple[int, int] | None:
    """Return row and column where a map on the raster is highest; None when it is flat."""
    if not values.max() > values.min():
        return None
    return best_point(values)


def best_point(values: NDArray[np.floating]) -> tuple[int, int]:
    """Return the place of the highest value; of several, the one nearest to their middle."""
    rows, columns = np.nonzero(values == values.max())
    away = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    nearest = int(away.argmin())
    return int(rows[nearest]), int(columns[nearest])


def hits(values: NDArray[np.float32], mask: Mask) -> bool:
    """Say whether a map on the raster peaks inside a film's boxes; a flat one does not."""
    peak = peak_of(values)
    return peak is not None and bool(mask[peak])


def region(values: NDArray[np.float32]) -> Mask:
    """Mark where a map on the raster reaches half of its peak; nothing when it is flat."""
    if peak_of(values) is None:
        return np.zeros(values.shape, bool)
    return np.asarray(values >= REGION * values.max())


def overlap(one: Mask, other: Mask) -> float:
    """Return intersection over union; 0 when both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def centre_hits(masks: NDArray[np.bool_]) -> Mask:
    """Say which films (N, RASTER, RASTER) have the centre of the square in a box: (N,)."""
    middle = slice(RASTER // 2 - 1, RASTER // 2 + 1)  # the centre lies between four points
    return np.asarray(masks[:, middle, middle].all(axis=(1, 2)))


def fixed_point_hits(masks: NDArray[np.bool_]) -> Mask:
    """Say which films the best fixed point hits that the other films' boxes give: (N,)."""
    counts = masks.sum(axis=0)
    return np.array([bool(mask[best_point(counts - mask)]) for mask in masks], bool)


def fixed_box_overlaps(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how well the best fixed region fits each film, chosen from the other films.

    Candidates are the other films' own regions, and where at least a third, a half or two
    thirds of the most-covered count of them lie.

    Args:
        masks: (N, RASTER, RASTER), N at least 2.

    Returns:
        Intersection over union, (N,).
    """
    flat = masks.reshape(len(masks), -1)
    counts = flat.sum(axis=0)
    between = _overlaps(flat, flat)
    fits = []
    for left_out, own in enumerate(flat):
        others = np.delete(np.arange(len(flat)), left_out)
        rest = counts - own
        shared = np.stack([rest >= share * rest.max() for share in (1 / 3, 1 / 2, 2 / 3)])
        with_shared = _overlaps(shared, flat)
        candidates = np.concatenate([between[others], with_shared])
        best = candidates[:, others].mean(axis=1).argmax()
        fits.append(candidates[best, left_out])
    return np.array(fits)


def _overlaps(some: Mask, others: Mask) -> NDArray[np.float64]:
    """Return intersections over unions of flat masks (A, P) and (B, P): (A, B)."""
    both = some.astype(np.float32) @ others.astype(np.float32).T
    union = some.sum(axis=1)[:, None] + others.sum(axis=1) - both
    return np.asarray(both / np.maximum(union, 1), np.float64)
