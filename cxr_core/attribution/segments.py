"""Segments of a film: regions of like grey, found without knowing what they are."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]

# Blur before edges are looked at, in pixels; as in PAIR's XRAI.
SIGMA = 0.8


def felzenszwalb(grey: Floats, scales: tuple[float, ...], least: int) -> list[Labels]:
    """Cut a film into regions whose inner differences are smaller than those to neighbours.

    Pixels are joined along edges (to eight neighbours) from the weakest on; two regions are
    joined when the edge between them is no stronger than the strongest inside either, plus
    scale / size. Regions smaller than `least` then join their most alike neighbour.

    Args:
        grey: (h, w); blurred slightly first.
        scales: Larger ones give larger regions.
        least: Pixels of the smallest region.

    Returns:
        For each scale int64 (h, w), regions numbered from 0.

    Reference:
        Felzenszwalb and Huttenlocher, Efficient graph-based image segmentation,
        International Journal of Computer Vision 59, 2004.
    """
    edges = _edges(np.asarray(gaussian_filter(grey.astype(np.float64), SIGMA)))
    return [_joined(grey.shape, *edges, scale, least) for scale in scales]


def _edges(grey: NDArray[np.float64]) -> tuple[list[int], list[int], list[float]]:
    """Return both ends and the strength of every edge, weakest first."""
    height, width = grey.shape
    number = np.arange(grey.size).reshape(grey.shape)
    up, down = slice(0, height - 1), slice(1, height)
    left, right = slice(0, width - 1), slice(1, width)
    every = slice(None)
    pairs = (
        ((every, left), (every, right)),
        ((up, every), (down, every)),
        ((up, left), (down, right)),
        ((up, right), (down, left)),
    )
    one = np.concatenate([number[a].ravel() for a, _ in pairs])
    other = np.concatenate([number[b].ravel() for _, b in pairs])
    strength = np.abs(grey.ravel()[one] - grey.ravel()[other])
    order = np.argsort(strength, kind="stable")
    return one[order].tolist(), other[order].tolist(), strength[order].tolist()


def _joined(
    shape: tuple[int, ...],
    one: list[int],
    other: list[int],
    strength: list[float],
    scale: float,
    least: int,
) -> Labels:
    """Join pixels along edges sorted by strength; number the regions that remain."""
    parent = list(range(shape[0] * shape[1]))
    size = [1] * len(parent)
    allowed = [scale] * len(parent)  # strongest inner edge + scale / size

    def root(pixel: int) -> int:
        while parent[pixel] != pixel:
            parent[pixel] = parent[parent[pixel]]
            pixel = parent[pixel]
        return pixel

    def join(a: int, b: int) -> int:
        small, large = (a, b) if size[a] < size[b] else (b, a)
        parent[small] = large
        size[large] += size[small]
        return large

    for p, q, edge in zip(one, other, strength, strict=True):
        a, b = root(p), root(q)
        if a != b and edge <= allowed[a] and edge <= allowed[b]:
            whole = join(a, b)
            allowed[whole] = edge + scale / size[whole]
    for p, q in zip(one, other, strict=True):
        a, b = root(p), root(q)
        if a != b and min(size[a], size[b]) < least:
            join(a, b)
    roots = np.array([root(pixel) for pixel in range(len(parent))])
    numbers = np.unique(roots, return_inverse=True)[1]
    return np.asarray(numbers, np.int64).reshape(shape)
