"""XRAI: regions of the film, ranked by how much of the evidence they hold."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects

from cxr_core.attribution.gradients import Integral, integrate, missed
from cxr_core.attribution.grids import average
from cxr_core.attribution.registry import Attribution, Question, register_method
from cxr_core.attribution.segments import Labels, felzenszwalb

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Regions are sought on a grid of at most this side. PAIR's scales (of greys from -1 to 1),
# smallest region, widening and least news are for a side of 224: a pixel of a grid half as
# fine is four of those, and edges are twice as strong there.
GRID, PAIRS_GRID = 112, 224
SCALES = tuple(scale / 255 for scale in (50, 100, 150, 250, 500, 1200))
LEAST, WIDENED, NEWS = 150, 5, 50


@register_method(
    title="XRAI",
    signed=True,
    cost=160,
    shows="which whole regions of the film moved the score most for their size",
    hides="outlines of lesions: regions follow the film's own edges, ribs among them",
)
def xrai(question: Question) -> Attribution:
    """Rank regions of like grey by the integrated gradients they hold for their area.

    Costs integrated gradients twice, from a black film and from one as bright as this film's
    brightest pixel, so that neither dark nor bright pixels are left out by the baseline; the
    regions cost no pass. Regions come from segmenting the film at six scales; the one with the
    most attribution per pixel is taken first, then the next by what it adds, until the film is
    covered. A pixel's value is the mean attribution of what its region added when it was
    taken. Shows compact regions, the most important first; their outlines are the film's, not
    a lesion's. Signed: regions that speak against the label come last and are negative; taken
    first, as for its absence, they may be cut otherwise.

    PAIR's `saliency` does the same with scikit-image, for about 60 MB of packages at run time;
    this is the full algorithm in numpy, on a coarser grid. Its segments and its ranking agree
    with theirs (a parity test).

    Reference:
        Kapishnikov et al., XRAI: better attributions through regions, ICCV 2019,
        arXiv:1906.02825, algorithm 1.
    """
    pixels = question.model_input.pixels
    side = min(GRID, len(pixels))
    integrals = _both_ways(question)
    attribution = average(sum(each.values.sum(axis=2) for each in integrals) / 2, side, side)
    grey = average(pixels.mean(axis=2, dtype=np.float64), side, side)
    fine = side / PAIRS_GRID
    masks = masks_of(_segments(grey, fine), round(WIDENED * fine))
    values = ranked(attribution, masks, max(1, round(NEWS * fine**2)))
    worst = max(integrals, key=lambda each: each.relative_gap)
    return question.answer(
        values.astype(np.float32),
        "xrai",
        signed=True,
        nodes=sum(each.nodes for each in integrals),
        note=missed(worst.relative_gap),
    )


def _both_ways(question: Question) -> list[Integral]:
    """Integrate gradients from black and from the film's brightest."""
    pixels = question.model_input.pixels
    ends = (question.model_input.black, float(pixels.max()))

    def half(number: int, done: int, total: int) -> None:
        question.report(number * total + done, len(ends) * total)

    return [
        integrate(
            lambda points: question.slopes(points.astype(np.float32)),
            pixels,
            np.full_like(pixels, end),
            progress=partial(half, number),
        )
        for number, end in enumerate(ends)
    ]


def _segments(grey: Floats, fine: float) -> list[Labels]:
    """Segment a film `fine` times as fine as PAIR's, greys stretched to [-1, 1] as there."""
    spread = float(np.ptp(grey))
    if spread == 0:
        return [np.zeros(grey.shape, np.int64)]
    scales = tuple(scale * fine for scale in SCALES)
    return felzenszwalb(2 * (grey - grey.min()) / spread - 1, scales, round(LEAST * fine**2))


def masks_of(segmentations: Iterable[Labels], widened: int) -> Mask:
    """Turn segmentations (h, w) into one mask for each region, widened to take in its edge.

    Returns:
        bool (regions, h, w).
    """
    y, x = np.ogrid[-widened : widened + 1, -widened : widened + 1]
    disk = y**2 + x**2 <= widened**2
    masks = []
    for labels in segmentations:
        for number, place in enumerate(find_objects(labels + 1)):
            near = tuple(slice(max(0, s.start - widened), s.stop + widened) for s in place)
            mask = np.zeros(labels.shape, bool)
            mask[near] = binary_dilation(labels[near] == number, disk)
            masks.append(mask)
    return np.array(masks)


def ranked(attribution: Floats, masks: Mask, news: int) -> NDArray[np.float64]:
    """Take regions in the order of what they add per new pixel; give pixels that density.

    Args:
        attribution: (h, w).
        masks: bool (regions, h, w); may overlap.
        news: A region that would add fewer pixels than this is passed over. Pixels that no
            region took get their common mean.

    Returns:
        float64 (h, w); its sum is that of the attribution.
    """
    flat = attribution.astype(np.float64).ravel()
    rows = masks.reshape(len(masks), -1)
    sums, areas = rows @ flat, rows.sum(axis=1)
    values, free = np.zeros(flat.size), np.ones(flat.size, bool)
    while (areas >= news).any():
        density = np.where(areas >= news, sums / np.maximum(areas, 1), -np.inf)
        best = int(density.argmax())
        new = np.flatnonzero(rows[best] & free)
        values[new] = density[best]
        free[new] = False
        sums -= rows[:, new] @ flat[new]
        areas -= rows[:, new].sum(axis=1)
    if free.any():
        values[free] = flat[free].mean()
    return values.reshape(attribution.shape)
