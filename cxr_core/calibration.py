"""From a network's logits to probabilities that mean what they say, and where to flag.

Everything here is fitted on validation films, before any test film is scored, and is then
kept in the model's card: the curves that make probabilities honest, the operating point
that separates "flag" from "no flag", and the band in which the model cannot tell.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, floor, log
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_core.errors import ArgumentError

# A temperature below 1 sharpens. Perfectly separated validation films would ask for
# endless sharpening, which no finite set of films can justify: hence the closer lower bound.
LOWEST_TEMPERATURE = 0.25
HIGHEST_TEMPERATURE = 20.0
# How far Platt's line may move logits: e^10 is from one film in two to one in 22,000.
FARTHEST = 10.0

METHODS = ("none", "temperature", "platt", "isotonic")  # the simplest first
ACTIVATIONS = ("sigmoid", "softmax")
FOLDS = 5
# The share of either kind of film that may be told wrongly outside a cannot-tell band.
TOLERATED = 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """How logits become those of honest probabilities: always rising, so that ranks stay.

    Attributes:
        method: "none" leaves them; "temperature" divides them; "platt" is a line; "isotonic"
            joins knots, and goes on beyond the outermost as steeply as they rise on average.
        parameters: Nothing; a temperature above zero; a slope above zero and what is added;
            the knots' logits, then what each becomes, both rising.
    """

    method: str = "none"
    parameters: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a curve that cannot be applied.

        Raises:
            ArgumentError: On an unknown method, or parameters that are not as described.
        """
        if self.method not in METHODS:
            raise ArgumentError(
                f"method must be one of {', '.join(METHODS)}, but '{self.method}' came."
            )
        if not (np.isfinite(self.parameters).all() and self._fits()):
            raise ArgumentError(
                "parameters must be none for 'none', a temperature above zero, a slope above zero "
                "and what is added for 'platt', or two or more rising knots for 'isotonic', but "
                f"{self.parameters} came for '{self.method}'."
            )

    def _fits(self) -> bool:
        """Say whether the parameters are those of the method."""
        count = len(self.parameters)
        if self.method == "isotonic":
            whole = count >= 4 and count % 2 == 0
            return whole and bool((np.diff(self._knots(), axis=1) > 0).all())
        wanted = METHODS.index(self.method)  # 0, 1 or 2 numbers
        return count == wanted and (not count or self.parameters[0] > 0)

    def _knots(self) -> Floats:
        """Return the knots, (2, n): logits, and what each becomes."""
        return np.reshape(np.asarray(self.parameters, np.float64), (2, -1))

    def __call__(self, logits: ArrayLike) -> Floats:
        """Return the calibrated logits, in the same shape."""
        scores = np.asarray(logits, np.float64)
        if self.method == "temperature":
            return np.asarray(scores / self.parameters[0])
        if self.method == "platt":
            slope, added = self.parameters
            return np.asarray(slope * scores + added)
        return _along(scores, *self._knots()) if self.method == "isotonic" else scores

    def in_words(self) -> str:
        """Name the method and its numbers."""
        if self.method == "isotonic":
            return f"isotonic, {len(self.parameters) // 2} knots"
        if self.method == "platt":
            slope, added = self.parameters
            return f"platt, {slope:.2f} × logit {added:+.2f}"
        return " ".join([self.method, *(f"{value:.2f}" for value in self.parameters)])

    def inverse(self, calibrated: ArrayLike) -> Floats:
        """Return the logits that become these, in the same shape."""
        scores = np.asarray(calibrated, np.float64)
        if self.method == "temperature":
            return np.asarray(scores * self.parameters[0])
        if self.method == "platt":
            slope, added = self.parameters
            return np.asarray((scores - added) / slope)
        return _along(scores, *self._knots()[::-1]) if self.method == "isotonic" else scores


def _along(values: Floats, start: Floats, end: Floats) -> Floats:
    """Follow the line that joins rising knots, and their average rise beyond them."""
    beyond = values - np.clip(values, start[0], start[-1])
    rise = (end[-1] - end[0]) / (start[-1] - start[0])
    return np.asarray(np.interp(values, start, end) + rise * beyond)


@dataclass(frozen=True)
class Calibration:
    """What makes probabilities of logits, and on which films; saved in the model's card.

    Attributes:
        curves: One per label for sigmoid, a single one for softmax; without any, every logit
            stays as it is.
        films: Different films that it was fitted on; 0 when there were none.
        prevalence: Share of them with each label's finding: what probabilities take for
            granted, and `for_prevalence` may change. Empty when it was not fitted.
    """

    curves: tuple[Curve, ...] = ()
    films: int = 0
    prevalence: tuple[float, ...] = ()

    def in_words(self) -> str:
        """Name the curves; of many labels, how many have which."""
        if len(self.curves) <= 1:
            return "".join(curve.in_words() for curve in self.curves) or "none"
        counts = Counter(curve.method for curve in self.curves)
        return ", ".join(f"{method} for {counts[method]}" for method in METHODS if counts[method])

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Restore what `to_json` wrote."""
        curves = (
            Curve(one["method"], tuple(map(float, one["parameters"]))) for one in values["curves"]
        )
        return cls(tuple(curves), int(values["films"]), tuple(map(float, values["prevalence"])))


def probabilities(logits: ArrayLike, calibration: Calibration, activation: str) -> Floats:
    """Return calibrated probabilities of logits, without overflow at either end.

    Args:
        logits: (..., K).
        calibration: What `choose_calibration` found, or `Calibration()`.
        activation: "sigmoid" or "softmax" (over the last axis).

    Returns:
        (..., K) in [0, 1], float64.

    Raises:
        ArgumentError: When the number of curves does not fit the labels.
    """
    _require_activation(activation)
    scores = np.asarray(logits, dtype=np.float64)
    if scores.ndim < 1:
        raise ArgumentError("logits must have the labels as last axis, but a single number came.")
    curves = calibration.curves
    expected = scores.shape[-1] if activation == "sigmoid" else 1
    if curves and len(curves) != expected:
        raise ArgumentError(
            f"The calibration must hold {expected} curve(s) for {activation} over "
            f"{scores.shape[-1]} labels, but it holds {len(curves)}."
        )
    if len(curves) == 1:
        scores = curves[0](scores)
    elif curves:
        scores = np.stack([curve(scores[..., k]) for k, curve in enumerate(curves)], axis=-1)
    result: Floats = np.exp(_log_probabilities(scores, activation))
    return result


def for_prevalence(probability: ArrayLike, prevalence: float, there: float) -> Floats:
    """Return what probabilities become where a finding is rarer or more common.

    The odds are multiplied by the ratio of the prior odds. It holds where films with the
    finding look alike here and there, and so do films without it (label shift); ranks, and
    flags by an operating point that is taken along, never change.

    Args:
        probability: Any shape, in [0, 1]: of films among which the finding has `prevalence`.
        prevalence: Between 0 and 1.
        there: The finding's share where the film was taken, between 0 and 1.

    Raises:
        ArgumentError: When a value is not as described.

    Reference:
        Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a
        priori probabilities, Neural Computation 14, 2002.
    """
    for name, share in (("prevalence", prevalence), ("there", there)):
        if not 0 < share < 1:
            raise ArgumentError(f"{name} must lie between 0 and 1, but {share} came.")
    scores = np.asarray(probability, np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ArgumentError("probability must lie in [0, 1], but a value outside it or NaN came.")
    has, has_not = scores * there / prevalence, (1 - scores) * (1 - there) / (1 - prevalence)
    return np.asarray(has / (has + has_not))


# --- choosing the curves ---


def choose_calibration(
    logits: ArrayLike, y_true: ArrayLike, patients: ArrayLike, activation: str
) -> Calibration:
    """Choose and fit, for each label, the simplest method that is as good as any.

    Judged by the log loss of films that did not fit it, in folds that keep each patient on
    one side: of the methods whose loss exceeds the least by no more than one standard error
    of that difference, over patients, the simplest is taken, so that none with many
    parameters is taken by luck. A kind of film of fewer than `FOLDS` patients decides nothing.

    Args:
        logits: (N, K), before the activation.
        y_true: (N, K) of 0 and 1; for softmax exactly one 1 per row.
        patients: (N,) whose film each row is; the film itself where that is not known.
        activation: "sigmoid" (labels apart) or "softmax".

    Returns:
        The calibration; every row counts as one of its `films`.

    Raises:
        ArgumentError: When shapes differ, no film came, or values are not as described.

    Reference:
        Hastie, Tibshirani and Friedman, The elements of statistical learning, 2009, section
        7.10: the one-standard-error rule.
    """
    columns, groups = _columns(logits, y_true, activation), np.asarray(patients)
    curves = tuple(_chosen(scores, truth, groups) for scores, truth in columns)
    prevalence = np.asarray(y_true, np.float64).mean(axis=0).tolist()
    return Calibration(curves, len(groups), tuple(prevalence))


def out_of_fold(
    logits: ArrayLike,
    y_true: ArrayLike,
    patients: ArrayLike,
    calibration: Calibration,
    activation: str,
) -> Floats:
    """Return probabilities (N, K) of films by curves that they did not fit.

    The methods stay those of the calibration; each is fitted anew without one fold of
    patients after the other. Arguments and errors otherwise as `choose_calibration`.
    """
    columns, groups = _columns(logits, y_true, activation), np.asarray(patients)
    scores = [
        _held_out(curve.method, *column, groups)
        for curve, column in zip(calibration.curves, columns, strict=True)
    ]
    joined = scores[0] if activation == "softmax" else np.stack(scores, axis=1)
    return probabilities(joined, Calibration(), activation)


def fit_curve(method: str, logits: ArrayLike, y_true: ArrayLike) -> Curve:
    """Find the curve of a method with the smallest log loss.

    Films of one class only teach nothing: whatever the method, their logits stay as they
    are. So they do where an isotonic curve would not rise at all.

    Args:
        method: One of `METHODS`.
        logits: (N,) of one label; or (N, K) of labels of which exactly one holds, for which
            there are "none" and "temperature" only.
        y_true: The same shape, of 0 and 1.

    Raises:
        ArgumentError: On a method that there is not.

    Reference:
        Guo et al., On calibration of modern neural networks, ICML 2017; Platt, Probabilistic
        outputs for support vector machines, 1999; Zadrozny and Elkan, Transforming classifier
        scores into accurate multiclass probability estimates, KDD 2002.
    """
    scores, truth = np.asarray(logits, np.float64), np.asarray(y_true)
    if method not in _methods(scores):
        raise ArgumentError(
            f"method must be one of {', '.join(_methods(scores))} for logits of {scores.ndim} "
            f"dimension(s), but '{method}' came."
        )
    if method == "none" or truth.all(axis=0).any() or not truth.any():
        return Curve()
    if method == "temperature":
        return Curve(method, (_best_temperature(scores, truth),))
    return _platt(scores, truth) if method == "platt" else _isotonic(scores, truth)


def _methods(scores: Floats) -> tuple[str, ...]:
    """Name the methods for one label, or for several of which exactly one holds."""
    return METHODS if scores.ndim == 1 else METHODS[:2]


def _columns(
    logits: ArrayLike, y_true: ArrayLike, activation: str
) -> list[tuple[Floats, NDArray[Any]]]:
    """Check films, and return what each curve is fitted on: a label's column, or all at once."""
    _require_activation(activation)
    scores, truth = np.asarray(logits, np.float64), np.asarray(y_true)
    if scores.ndim != 2 or scores.shape != truth.shape or not scores.size:
        raise ArgumentError(
            "logits and y_true must both have the shape (films, labels) with at least one film, "
            f"but {scores.shape} and {truth.shape} came."
        )
    if not np.isfinite(scores).all():
        raise ArgumentError("logits must be finite numbers, but NaN or infinity came.")
    _require_binary(truth)
    if activation == "sigmoid":
        return list(zip(scores.T, truth.T, strict=True))
    if (truth.sum(axis=1) != 1).any():
        raise ArgumentError("y_true must hold exactly one 1 per film for softmax.")
    return [(scores, truth)]


def _chosen(scores: Floats, truth: NDArray[Any], patients: NDArray[Any]) -> Curve:
    """Choose one curve, the simplest first; none from too few patients of a kind to judge."""
    if _fewest(truth, patients) < FOLDS:
        return Curve()
    losses = {
        method: _losses(_held_out(method, scores, truth, patients), truth)
        for method in _methods(scores)
    }
    least = min(losses.values(), key=lambda loss: float(loss.mean()))
    good = (
        method
        for method, loss in losses.items()
        if (loss - least).mean() <= _standard_error(loss - least, patients)
    )
    return fit_curve(next(good), scores, truth)


def _fewest(truth: NDArray[Any], patients: NDArray[Any]) -> int:
    """Count the patients of the rarest kind of film."""
    kinds = [truth == 1, truth == 0] if truth.ndim == 1 else list(truth.T == 1)
    return min(len(np.unique(patients[kind])) for kind in kinds)


def _held_out(method: str, scores: Floats, truth: NDArray[Any], patients: NDArray[Any]) -> Floats:
    """Calibrate each film by a curve that its patient's films did not fit."""
    fold, found = _folds(truth, patients), scores.copy()
    for number in range(FOLDS):
        here = fold == number
        if not here.all():  # the only patient's films stay as they are
            found[here] = fit_curve(method, scores[~here], truth[~here])(scores[here])
    return found


def _folds(truth: NDArray[Any], patients: NDArray[Any]) -> NDArray[np.int64]:
    """Deal patients to folds so that each gets its share of every kind; always the same."""
    kinds = truth if truth.ndim == 1 else truth.argmax(axis=1)
    names, whose = np.unique(patients, return_inverse=True)
    kind = np.zeros(len(names))
    np.maximum.at(kind, whose, kinds)
    order = np.random.default_rng(0).permutation(len(names))
    order = order[np.argsort(kind[order], kind="stable")]
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % FOLDS
    return np.asarray(fold[whose])


def _losses(scores: Floats, truth: NDArray[Any]) -> Floats:
    """Return the log loss (N,) of calibrated logits, of one label or of several."""
    if scores.ndim == 1:
        return np.asarray(np.logaddexp(0, np.where(truth == 1, -scores, scores)))
    return np.asarray(-(_log_probabilities(scores, "softmax") * truth).sum(axis=1))


def _standard_error(values: Floats, patients: NDArray[Any]) -> float:
    """Return the standard error of the mean of values (N,) that patients share."""
    names, whose = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return float("inf")
    sums = np.bincount(whose, values - values.mean())
    return float(np.sqrt(len(names) / (len(names) - 1) * (sums**2).sum()) / len(values))


def _best_temperature(logits: Floats, truth: NDArray[Any]) -> float:
    """Minimise the log loss, which has one minimum in 1 / temperature."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return float(_losses(logits / exp(log_temperature), truth).mean())

    bounds = (log(LOWEST_TEMPERATURE), log(HIGHEST_TEMPERATURE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return exp(float(found.x))


def _platt(logits: Floats, truth: NDArray[Any]) -> Curve:
    """Minimise the log loss of a line, which is convex in its slope and what it adds."""
    from scipy.optimize import minimize

    def loss(line: Floats) -> tuple[float, Floats]:
        scores = line[0] * logits + line[1]
        wrong = 0.5 * (1 + np.tanh(scores / 2)) - truth
        return float(_losses(scores, truth).mean()), np.array(
            [(wrong * logits).mean(), wrong.mean()]
        )

    bounds = ((1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE), (-FARTHEST, FARTHEST))
    found = minimize(
        loss, (1.0, 0.0), jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-12}
    )
    return Curve("platt", tuple(map(float, found.x)))


def _isotonic(logits: Floats, truth: NDArray[Any]) -> Curve:
    """Pool adjacent violators; a knot stands in the middle of each pool's films.

    Between knots the line rises, where the pools' own steps would score many films alike. No
    pool is certain: one film with and one without the finding are added to all, in the
    proportion that the pool has of them.
    """
    from scipy.optimize import isotonic_regression

    values, which, films = np.unique(logits, return_inverse=True, return_counts=True)
    shares = np.bincount(which, truth) / films
    pooled = isotonic_regression(shares, weights=films)
    starts = pooled.blocks[:-1]
    if len(starts) < 2:
        return Curve()
    middles = np.add.reduceat(values * films, starts) / np.add.reduceat(films, starts)
    chance = (pooled.x[starts] * len(logits) + 1) / (len(logits) + 2)
    return Curve("isotonic", (*middles.tolist(), *np.log(chance / (1 - chance)).tolist()))


# --- where to flag, and where nobody can tell ---


def operating_point(
    y_true: ArrayLike, probability: ArrayLike, *, sensitivity: float = 0.95
) -> float:
    """Return the highest threshold that still flags the wanted share of positive films.

    The threshold is itself one of the scores, so `probability >= threshold` keeps the rule
    after any trip through JSON.

    Args:
        y_true: (N,) of 0 and 1.
        probability: (N,) in [0, 1].
        sensitivity: The wanted share, above 0 and at most 1.

    Raises:
        ArgumentError: When there is no positive film, or a value is not as described.
    """
    if not 0 < sensitivity <= 1:
        raise ArgumentError(f"sensitivity must be above 0 and at most 1, but {sensitivity} came.")
    positive, _ = _scores_by_class(y_true, probability)
    if not positive.size:
        raise ArgumentError(
            "An operating point needs at least one positive validation film, but none came."
        )
    # Comparing shares, not rounding a product: 0.07 * 100 is a little more than 7.
    reached = np.arange(1, positive.size + 1) / positive.size
    flagged = int(np.searchsorted(reached, sensitivity)) + 1
    return float(positive[-flagged])


def cannot_tell_band(
    y_true: ArrayLike,
    probability: ArrayLike,
    patients: ArrayLike,
    *,
    reach: Sequence[float] = (),
    error: float = TOLERATED,
) -> tuple[float, float]:
    """Return the band of probabilities in which neither answer is safe enough.

    Outside the band, of the patients who have the finding at most a share `error` is told
    "no" on average, and of those without it at most `error` is told "yes", if new patients
    are like these. With overlapping classes the band lies between the thresholds of
    1 - `error` sensitivity and specificity and both answers are plausible in it; with well
    separated classes neither is. Too few patients of a class (fewer than 1 / `error` - 1)
    leave the band open towards its end, 0 or 1.

    Args:
        y_true: (N,) of 0 and 1.
        probability: (N,) in [0, 1].
        patients: (N,) whose film each row is; the film itself where that is not known.
        reach: Probabilities between which a flag does not follow from the band: it is widened
            to hold them, which keeps the promise.
        error: Tolerated share of wrong answers within each class, between 0 and 1.

    Returns:
        (low, high), low <= high, both inside the band.

    Raises:
        ArgumentError: When a class has no film, or a value is not as described.

    Reference:
        Vovk, Conditional validity of inductive conformal predictors, ACML 2012; Dunn,
        Wasserman and Ramdas, Distribution-free prediction sets for two-layer hierarchical
        models, JASA 2023.
    """
    if not 0 < error < 1:
        raise ArgumentError(f"error must lie between 0 and 1, but {error} came.")
    chosen = _one_each(np.asarray(y_true), np.asarray(patients))
    positive, negative = _scores_by_class(
        np.asarray(y_true)[chosen], np.asarray(probability)[chosen]
    )
    if not (positive.size and negative.size):
        raise ArgumentError(
            "A cannot-tell band needs validation films with and without the finding, but "
            f"{positive.size} and {negative.size} came."
        )
    missed, alarmed = (_tolerated(scores.size, error) for scores in (positive, negative))
    yes_from = float(positive[missed - 1]) if missed else 0.0
    no_up_to = float(negative[-alarmed]) if alarmed else 1.0
    ends = (yes_from, no_up_to, *reach)
    return min(ends), max(ends)


def _one_each(truth: NDArray[Any], patients: NDArray[Any]) -> NDArray[np.int64]:
    """Draw one film of each patient and class; always the same.

    Films of a patient, and copies of a film, are alike: ranked as if each were another
    patient's, they would promise more than they know. Ranks of one film drawn from each are
    exact for a film of a new patient, which ranks of means or of worst films are not.
    """
    order = np.random.default_rng(0).permutation(len(truth))
    whose = np.unique(patients, return_inverse=True)[1]
    _, first = np.unique(2 * whose[order] + (truth[order] == 1), return_index=True)
    return np.asarray(order[first])


def _tolerated(films: int, error: float) -> int:
    """Return the rank of the conformal quantile among the films of one class."""
    # The small addition undoes rounding such as 0.29 * 100 = 28.999999999999996.
    return min(floor(error * (films + 1) + 1e-9), films)


def _log_probabilities(logits: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    """Return log sigmoid, or log softmax over the last axis, without overflow."""
    if activation == "sigmoid":
        result: NDArray[np.float64] = -np.logaddexp(0, -logits)
        return result
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _scores_by_class(
    y_true: ArrayLike, probability: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scores of the positive and of the negative films, each ascending."""
    truth = np.asarray(y_true)
    scores = np.asarray(probability, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != scores.shape:
        raise ArgumentError(
            "y_true and probability must both have the shape (films,), but "
            f"{truth.shape} and {scores.shape} came."
        )
    _require_binary(truth)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ArgumentError("probability must lie in [0, 1], but a value outside it or NaN came.")
    return np.sort(scores[truth == 1]), np.sort(scores[truth == 0])


def _require_binary(truth: NDArray[Any]) -> None:
    if not np.isin(truth, (0, 1)).all():
        raise ArgumentError("y_true must hold 0 and 1 only, but other values came.")


def _require_activation(activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ArgumentError(
            f"activation must be one of {', '.join(ACTIVATIONS)}, but '{activation}' came."
        )
