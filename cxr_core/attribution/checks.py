"""What can be said against a map without knowing where the finding is.

A map is looked at on a grid as coarse as the class activation maps: single pixels of
gradients never agree with anything, and no reader sees them. Within the thorax, two maps
agree when they rank its places alike (Spearman's correlation). A place shows for the label
what its pixels add up to, as far as that is positive: so taken, Grad-CAM and integrated
gradients of one film agree better than those of two films in 68 % of pairs (of shipped
pediatric-pneumonia), but only in 53 % when pixels that speak against are dropped first.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift

from cxr_core.attribution.grids import average, flat, on_square, within
from cxr_core.attribution.registry import Attribution, Progress, explain
from cxr_core.classifier import Classifier
from cxr_core.errors import ArgumentError
from cxr_core.preprocess import Box, ModelInput
from cxr_core.thorax import lung_field

Floats = NDArray[np.floating]

CLASS_ACTIVATION = frozenset({"grad-cam", "grad-cam++", "layer-cam", "score-cam"})
# Below it a map is withheld. The rule, written down before it was measured: of Grad-CAM and
# integrated gradients on 40 flagged validation films of each model of our own, the largest of
# the models' 5th percentiles, rounded down to one decimal, and not below 0
# (`faithfulness.withholding`; `python -m benchmarks withholding`). These lie at -0.22 to -0.02,
# so that the bound is where the rule ends: maps that rank the lung's places against each other.
# It withholds 3 of 22 maps of pediatric-pneumonia and 19 of 39 of covid-radiography.
DISAGREE = 0.0
# Below it a map is shown with a warning. On 33 pediatric training films the 5th percentile is
# 0.61 of XRAI's maps, and 0.77 to 0.95 of those of the others.
UNSTABLE = 0.6
# Their maps know no for and against: they agree with those that do by chance (median 0.00).
UNDIRECTED = frozenset({"smoothgrad"})
# How the film is disturbed: pixels of the model's square, and noise as a share of its range.
SHIFT, NOISE, SEED = 2, 0.01, 0
# Fewer cells than this rank nothing.
FEWEST = 9


@dataclass(frozen=True)
class MapCheck:
    """How far one map can be trusted, as far as one film tells.

    Attributes:
        agreement: Rank correlation, -1 to 1, with a method of another family, of what speaks
            for the label within the lung field: Grad-CAM for methods that look at pixels,
            integrated gradients for class activation maps. None where the lung field was not
            found, where one of the maps is flat there, and for SmoothGrad, which shows both
            what speaks for and what speaks against.
        stability: The lower of the map's rank correlations, -1 to 1, with the maps of the
            film moved by 2 pixels and with faint noise; within the lung field, or over the
            whole square where it was not found. None where a map is flat.
        outside: Share of |attribution| outside the lung field's box, 0 to 1; None where that was
            not found, or where the map is flat.
        thorax: The box: x0, y0, x1, y1 as fractions of the film's width and height, or None.
    """

    agreement: float | None
    stability: float | None
    outside: float | None
    thorax: Box | None


def examine(
    classifier: Classifier,
    model_input: ModelInput,
    radiograph_pixels: NDArray[np.floating],
    attribution: Attribution,
    *,
    features: NDArray[np.float32] | None = None,
    counterpart: Attribution | None = None,
    progress: Progress | None = None,
) -> MapCheck:
    """Check one map: agreement, stability, and how much of it lies outside the lungs.

    Costs the map's own method twice more, and the counterpart's once when it is not at hand.

    Args:
        classifier: The model that spoke.
        model_input: The film as it read it.
        radiograph_pixels: The film itself, (H, W) in [0, 1].
        attribution: The map of this film.
        features: float32 (h, w, C) from the prediction's own forward pass, when at hand.
        counterpart: The same question's map by the method that `counterpart_of` names, when
            at hand.
        progress: Called as the work goes on; what it raises stops it.

    Raises:
        ArgumentError: When the counterpart answers another question.
    """
    if counterpart is not None:
        _compare_questions(attribution, counterpart)
    if features is None:
        features = classifier.forward(model_input.pixels[None])[1][0]
    stages = 2 if counterpart is not None else 3

    def asked(
        stage: int, film: ModelInput, method: str, at_hand: NDArray[np.float32] | None = None
    ) -> Attribution:
        return explain(
            classifier,
            film,
            attribution.label,
            method,
            absence=attribution.absence,
            features=at_hand,
            baseline=attribution.baseline or "black",
            progress=_part(progress, stage, stages),
        )

    shifted = asked(0, moved(model_input), attribution.method)
    shaken = asked(1, noisy(model_input), attribution.method)
    thorax = lung_field(radiograph_pixels)
    box = None if thorax is None else on_square(thorax, model_input.placement)
    directed = attribution.method not in UNDIRECTED
    if counterpart is None and directed:
        counterpart = asked(2, model_input, counterpart_of(attribution.method), features)
    grid = _coarsest(features.shape[:2], *(m.values.shape for m in (attribution, counterpart) if m))
    size = len(model_input.pixels)
    agreed = None
    if box is not None and counterpart is not None and directed:
        agreed = agreement(attribution, counterpart, box, grid)
    return MapCheck(
        agreement=agreed,
        stability=_least(
            alike(attribution.values, other, box, grid)
            for other in (moved_back(shifted.values, size), shaken.values)
        ),
        outside=None if box is None else outside(attribution.values, box),
        thorax=thorax,
    )


def counterpart_of(method: str) -> str:
    """Name the method of another family with which a method should agree."""
    return "integrated-gradients" if method in CLASS_ACTIVATION else "grad-cam"


def agreement(
    one: Attribution, other: Attribution, box: Box, grid: tuple[int, int]
) -> float | None:
    """Correlate the ranks of what two maps show for the label, within a box of the square."""
    first, second = (np.maximum(average(each.values, *grid), 0) for each in (one, other))
    return alike(first, second, box, grid)


def alike(one: Floats, other: Floats, box: Box | None, grid: tuple[int, int]) -> float | None:
    """Correlate the ranks of two maps (h, w) of any sizes, averaged over a grid's cells.

    Args:
        one: A map over the model's square.
        other: Another.
        box: Only cells of which at least half lie in it count; all of them when None.
        grid: Rows and columns.

    Returns:
        Spearman's correlation, or None where fewer than `FEWEST` cells count or a map is flat.
    """
    counts = np.ones(grid, bool) if box is None else within(box, *grid) >= 0.5
    first, second = (average(values, *grid)[counts] for values in (one, other))
    if len(first) < FEWEST or flat(first) or flat(second):
        return None
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def ranks(values: Floats) -> NDArray[np.float64]:
    """Return the rank of each of values (n,), from 1; equal values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place])


def outside(values: Floats, box: Box) -> float | None:
    """Return the share of |values| (h, w) outside a box of the square; None for a flat zero."""
    size = np.abs(values.astype(np.float64))
    total = size.sum()
    if total == 0:
        return None
    return float(1 - (size * within(box, *values.shape)).sum() / total)


def moved(model_input: ModelInput) -> ModelInput:
    """Move a film down and to the right by `SHIFT` pixels; its first row and column fill up."""
    padded = np.pad(model_input.pixels, ((SHIFT, 0), (SHIFT, 0), (0, 0)), mode="edge")
    return replace(model_input, pixels=padded[:-SHIFT, :-SHIFT])


def moved_back(values: Floats, size: int) -> Floats:
    """Move the map (h, w) of a moved film back to where the film was."""
    by = [-SHIFT * cells / size for cells in values.shape]
    return np.asarray(shift(values, by, order=1, mode="nearest"))


def noisy(model_input: ModelInput) -> ModelInput:
    """Add faint normal noise to a film, the same in all channels and every time."""
    pixels = model_input.pixels
    grain = np.random.default_rng(SEED).standard_normal((*pixels.shape[:2], 1), np.float32)
    return replace(model_input, pixels=pixels + np.float32(NOISE * np.ptp(pixels)) * grain)


def _compare_questions(one: Attribution, other: Attribution) -> None:
    """Refuse a counterpart that is not about the same label, or its absence.

    Raises:
        ArgumentError: When it is not.
    """
    asked, came = ((each.label, each.absence) for each in (one, other))
    if asked != came:
        raise ArgumentError(
            f"counterpart must explain {_words(*asked)}, as the map does, but it explains "
            f"{_words(*came)}; explain the same label by '{counterpart_of(one.method)}'."
        )


def _words(label: str, absence: bool) -> str:
    return f"the absence of '{label}'" if absence else f"'{label}'"


def _coarsest(*shapes: tuple[int, ...]) -> tuple[int, int]:
    return min(shape[0] for shape in shapes), min(shape[1] for shape in shapes)


def _least(values: Iterable[float | None]) -> float | None:
    """Return the lowest, or None where one is not known."""
    known = list(values)
    return None if None in known else min(value for value in known if value is not None)


def _part(progress: Progress | None, stage: int, stages: int) -> Progress | None:
    """Tell the progress of one stage as that of the whole, in hundredths of a stage."""
    if progress is None:
        return None

    def told(done: int, total: int) -> None:
        progress(100 * stage + 100 * done // total, 100 * stages)

    told(0, 1)
    return told
