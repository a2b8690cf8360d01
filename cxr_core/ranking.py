"""How well scores rank films, over all thresholds at once: curves, their areas, intervals.

Throughout, `y_true` holds 0 and 1 and `y_score` probabilities in [0, 1]. Intervals are 95 %.
"""

from dataclasses import dataclass
from math import erfc, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_core.errors import ArgumentError

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
ROUNDS = 1000  # of the bootstrap
# Weights of this many films are held at a time by the bootstrap (16 MB).
BOOTSTRAP_CHUNK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A number and the range the films at hand leave open; None where they cannot say."""

    value: float | None
    low: float | None
    high: float | None


NO_INTERVAL = Interval(None, None, None)


@dataclass(frozen=True, eq=False)
class Curve:
    """Read-only arrays of one length, threshold descending from infinity.

    `roc_curve` has x = 1 - specificity, y = sensitivity; `precision_recall_curve` has
    x = recall, y = precision, to be drawn as steps to the left of each point. Empty when
    the films hold one class only.
    """

    x: Floats
    y: Floats
    threshold: Floats

    def __post_init__(self) -> None:
        """Lock the arrays."""
        for values in (self.x, self.y, self.threshold):
            values.setflags(write=False)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the same films: AUROC of each, their difference (a - b) and its p value.

    `p_value` is two-sided, and None where the difference has no measurable spread.
    """

    a: Interval
    b: Interval
    difference: Interval
    p_value: float | None


def roc_curve(y_true: ArrayLike, y_score: ArrayLike) -> Curve:
    """Return the receiver operating characteristic, one point per distinct score."""
    truth, scores = checked(y_true, y_score)
    if truth.all() or not truth.any():
        return Curve(*(np.empty(0) for _ in range(3)))
    order, ends = _ranking(scores)
    found = np.cumsum(truth[order])[ends - 1]
    alarms = ends - found
    return Curve(
        np.append(0.0, alarms / alarms[-1]),
        np.append(0.0, found / found[-1]),
        np.append(np.inf, scores[order][ends - 1]),
    )


def precision_recall_curve(y_true: ArrayLike, y_score: ArrayLike) -> Curve:
    """Return precision over recall, one point per distinct score after (0, 1)."""
    roc = roc_curve(y_true, y_score)
    if not roc.x.size:
        return roc
    positives = int(np.sum(y_true))
    found, alarms = roc.y[1:] * positives, roc.x[1:] * (np.size(y_true) - positives)
    return Curve(roc.y, np.append(1.0, found / (found + alarms)), roc.threshold)


def auroc(y_true: ArrayLike, y_score: ArrayLike) -> Interval:
    """Return the area under the ROC curve with DeLong's interval, clipped to [0, 1].

    Films count as independent. The value is None with one class only; the interval is
    None with a single film in a class.

    Reference:
        DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; in N log N time by ranks
        as in Sun and Xu, IEEE Signal Processing Letters 21, 2014.
    """
    truth, scores = checked(y_true, y_score)
    return _auroc(truth, scores)


def compare(y_true: ArrayLike, a: ArrayLike, b: ArrayLike) -> Comparison:
    """Compare the AUROC of two models on the same films, which share their noise.

    Args:
        y_true: (N,) of 0 and 1.
        a: (N,) scores of one model.
        b: (N,) scores of the other, in the same order of films.

    Reference:
        As for `auroc`, whose covariance this uses.
    """
    truth, first = checked(y_true, a)
    _, second = checked(y_true, b)
    areas, spread = _delong(truth, np.column_stack((first, second)))
    if areas is None:
        return Comparison(a=NO_INTERVAL, b=NO_INTERVAL, difference=NO_INTERVAL, p_value=None)
    difference = float(areas[0] - areas[1])
    variance, p_value = None, None
    if spread is not None:
        variance = max(float(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1]), 0.0)
        if variance > 1e-15:  # below this only rounding is left
            p_value = erfc(abs(difference) / sqrt(2 * variance))
    return Comparison(
        a=_auroc(truth, first),
        b=_auroc(truth, second),
        difference=_normal_interval(difference, variance, lowest=-1.0),
        p_value=p_value,
    )


def auprc(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Interval:
    """Return average precision with a percentile bootstrap interval over patients.

    Precision is summed over the steps of recall, without interpolation; tied films enter
    together. Rounds that draw no positive film are left out. None with one class only.

    Args:
        y_true: (N,) of 0 and 1.
        y_score: (N,) in [0, 1].
        groups: (N,) patient of each film, drawn with all films; None draws films.
        rounds: Bootstrap rounds, at least 1.
        seed: The same seed gives the same interval.

    Reference:
        Davison and Hinkley, Bootstrap methods and their application, 1997, section 3.8.
    """
    truth, scores = checked(y_true, y_score)
    return average_precisions(truth[:, None], scores[:, None], groups, rounds, seed)[0]


def average_precision(y_true: ArrayLike, y_score: ArrayLike) -> float | None:
    """Return precision summed over the steps of recall, as `auprc` without its interval."""
    curve = precision_recall_curve(y_true, y_score)
    return float((np.diff(curve.x) * curve.y[1:]).sum()) if curve.x.size else None


def share_below(reference: Floats, values: Floats) -> Floats:
    """Return for each value the share of `reference` below it, ties counting half."""
    ranked = np.sort(reference)
    twice = np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")
    return twice / (2 * ranked.size)


def _delong(truth: Flags, scores: Floats) -> tuple[Floats | None, Floats | None]:
    """Return areas (M,) under the ROC curves of scores (N, M), and their covariance (M, M).

    No areas with one class only, no covariance with a single film in a class.
    """
    positive, negative = scores[truth].T, scores[~truth].T
    films = (positive.shape[1], negative.shape[1])
    if not min(films):
        return None, None
    pairs = list(zip(positive, negative, strict=True))
    above = np.array([share_below(low, high) for high, low in pairs])
    below = np.array([1 - share_below(high, low) for high, low in pairs])
    areas: Floats = above.mean(axis=1)
    if min(films) < 2:
        return areas, None
    return areas, np.atleast_2d(np.cov(above) / films[0] + np.cov(below) / films[1])


def _auroc(truth: Flags, scores: Floats) -> Interval:
    areas, spread = _delong(truth, scores[:, None])
    if areas is None:
        return NO_INTERVAL
    return _normal_interval(float(areas[0]), None if spread is None else float(spread[0, 0]))


def _normal_interval(value: float, variance: float | None, lowest: float = 0.0) -> Interval:
    if variance is None:
        return Interval(value, None, None)
    half = NormalDist().inv_cdf(0.975) * sqrt(variance)
    return Interval(value, max(value - half, lowest), min(value + half, 1.0))


def _ranking(scores: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the order from the highest score down, and where each run of ties ends."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    return order, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1


class _AveragePrecision:
    """Average precision of one label for many weightings of its patients at once.

    Only scores that some positive film holds are steps of recall; weights of the films in
    between are summed, so the work per round is one pass over the films.
    """

    def __init__(self, truth: Flags, scores: Floats, owner: NDArray[np.intp]) -> None:
        """Sort once; `owner` (N,) is the patient of each film as an index."""
        order, ends = _ranking(scores)
        found = np.cumsum(truth[order])[ends - 1]
        steps = np.diff(found, prepend=0) > 0
        last = ends[steps][-1]
        self.films = owner[order[:last]]
        self.film_starts = np.append(0, ends[steps][:-1])
        self.positives = owner[order[:last][truth[order[:last]]]]
        self.positive_starts = np.append(0, found[steps][:-1])

    def __call__(self, weights: NDArray[np.float32]) -> Floats:
        """Return (R,) for weights (R, patients); NaN where no positive film has weight."""
        flagged = np.add.reduceat(weights[:, self.films], self.film_starts, axis=1)
        gained = np.add.reduceat(weights[:, self.positives], self.positive_starts, axis=1)
        flagged, found = flagged.cumsum(axis=1, dtype=float), gained.cumsum(axis=1, dtype=float)
        area = (gained * found / np.maximum(flagged, 1)).sum(axis=1)
        result: Floats = np.where(found[:, -1] > 0, area / np.maximum(found[:, -1], 1), np.nan)
        return result


def average_precisions(
    truth: Flags, scores: Floats, groups: ArrayLike | None, rounds: int, seed: int
) -> list[Interval]:
    """Return average precision with its interval for each of K labels, on the same draws."""
    owner, patients = _owners(groups, len(truth))
    if rounds < 1:
        raise ArgumentError(f"rounds must be at least 1, but {rounds} came.")
    columns = [
        _AveragePrecision(truth[:, k], scores[:, k], owner) if 0 < share < 1 else None
        for k, share in enumerate(truth.mean(axis=0))
    ]
    drawn: Floats = np.full((rounds, len(columns)), np.nan)
    generator = np.random.default_rng(seed)
    chunk = max(1, BOOTSTRAP_CHUNK // len(truth))
    for start in range(0, rounds, chunk):
        rows = range(start, min(start + chunk, rounds))
        weights = np.array([_draw(generator, patients) for _ in rows], dtype=np.float32)
        for k, column in enumerate(columns):
            if column is not None:
                drawn[start : rows.stop, k] = column(weights)
    once = np.ones((1, patients), dtype=np.float32)
    return [
        NO_INTERVAL if column is None else _percentiles(float(column(once)[0]), drawn[:, k])
        for k, column in enumerate(columns)
    ]


def _draw(generator: np.random.Generator, patients: int) -> NDArray[np.intp]:
    """Return how often each patient comes up in as many draws as there are patients."""
    return np.bincount(generator.integers(patients, size=patients), minlength=patients)


def _owners(groups: ArrayLike | None, films: int) -> tuple[NDArray[np.intp], int]:
    """Return the index of each film's patient, and how many patients there are."""
    if groups is None:
        return np.arange(films), films
    names, owner = np.unique(np.asarray(groups), return_inverse=True)
    if owner.shape != (films,):
        raise ArgumentError(
            f"There must be one patient for each of {films} films, but {owner.shape} came."
        )
    return owner, names.size


def _percentiles(value: float, drawn: Floats) -> Interval:
    usable = drawn[np.isfinite(drawn)]
    if not usable.size:
        return Interval(value, None, None)
    low, high = np.quantile(usable, (0.025, 0.975)).tolist()
    return Interval(value, low, high)


def checked(y_true: ArrayLike, y_score: ArrayLike, dimensions: int = 1) -> tuple[Flags, Floats]:
    """Return truth as booleans and scores as float64, or say what is wrong with them."""
    try:
        truth, scores = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    except (TypeError, ValueError) as problem:
        raise ArgumentError("y_true and y_score must be arrays of numbers.") from problem
    if truth.ndim != dimensions or truth.shape != scores.shape or not truth.size:
        shape = ("films", "films, labels")[dimensions - 1]
        raise ArgumentError(
            f"y_true and y_score must both have the shape ({shape}) with at least one film, "
            f"but {truth.shape} and {scores.shape} came."
        )
    if not ((truth == 0) | (truth == 1)).all():
        raise ArgumentError("y_true must hold 0 and 1 only, but other values came.")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ArgumentError("y_score must lie in [0, 1], but a value outside it or NaN came.")
    return truth == 1, scores
