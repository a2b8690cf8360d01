"""From a network's logits to probabilities that mean what they say, and where to flag.

Everything here is fitted on validation films, before any test film is scored, and is then
kept in the model's card: the temperature that makes probabilities honest, the operating
point that separates "flag" from "no flag", and the band in which the model cannot tell.
"""

from dataclasses import dataclass
from math import exp, floor, log
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_core.errors import ArgumentError

# A temperature below 1 sharpens. Perfectly separated validation films would ask for
# endless sharpening, which no finite set of films can justify: hence the closer lower bound.
LOWEST_TEMPERATURE = 0.25
HIGHEST_TEMPERATURE = 20.0

METHODS = ("temperature", "none")
ACTIVATIONS = ("sigmoid", "softmax")


@dataclass(frozen=True)
class Calibration:
    """How logits are scaled before the activation; saved in the model's card.

    Attributes:
        method: "temperature" divides the logits by `parameters`; "none" leaves them.
        parameters: Temperatures above zero: one per label for sigmoid, a single one for
            softmax; empty for "none".
    """

    method: str
    parameters: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse a calibration that cannot be applied.

        Raises:
            ArgumentError: On an unknown method, or temperatures that are missing or not positive.
        """
        if self.method not in METHODS:
            raise ArgumentError(
                f"method must be one of {', '.join(METHODS)}, but '{self.method}' came."
            )
        if bool(self.parameters) != (self.method == "temperature"):
            raise ArgumentError(
                "parameters must hold temperatures for 'temperature' and nothing for 'none', "
                f"but {self.parameters} came for '{self.method}'."
            )
        if not all(0 < temperature < np.inf for temperature in self.parameters):
            raise ArgumentError(f"Temperatures must be above zero, but {self.parameters} came.")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {"method": self.method, "parameters": list(self.parameters)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Restore what `to_json` wrote."""
        return cls(values["method"], tuple(float(value) for value in values["parameters"]))


def fit_temperature(logits: ArrayLike, y_true: ArrayLike, activation: str) -> Calibration:
    """Find the temperatures with the smallest negative log-likelihood.

    A label of which the validation films hold one class only teaches nothing about its
    temperature and keeps 1. Temperatures stay within `LOWEST_TEMPERATURE` and
    `HIGHEST_TEMPERATURE`.

    Args:
        logits: (N, K), before the activation.
        y_true: (N, K) of 0 and 1; for softmax exactly one 1 per row.
        activation: "sigmoid" (one temperature per label) or "softmax" (one for all).

    Raises:
        ArgumentError: When shapes differ, no film came, or values are not as described.

    Reference:
        Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    _require_activation(activation)
    scores = np.asarray(logits, dtype=np.float64)
    truth = np.asarray(y_true)
    if scores.ndim != 2 or scores.shape != truth.shape or not scores.size:
        raise ArgumentError(
            "logits and y_true must both have the shape (films, labels) with at least one film, "
            f"but {scores.shape} and {truth.shape} came."
        )
    if not np.isfinite(scores).all():
        raise ArgumentError("logits must be finite numbers, but NaN or infinity came.")
    _require_binary(truth)
    if activation == "softmax":
        if (truth.sum(axis=1) != 1).any():
            raise ArgumentError("y_true must hold exactly one 1 per film for softmax.")
        return Calibration("temperature", (_best_temperature(scores, truth, activation),))
    labels = range(scores.shape[1])
    columns = [(scores[:, label : label + 1], truth[:, label : label + 1]) for label in labels]
    return Calibration(
        "temperature", tuple(_best_temperature(*pair, activation) for pair in columns)
    )


def probabilities(
    logits: ArrayLike, calibration: Calibration, activation: str
) -> NDArray[np.float64]:
    """Return calibrated probabilities of logits, without overflow at either end.

    Args:
        logits: (..., K).
        calibration: What `fit_temperature` found, or `Calibration("none", ())`.
        activation: "sigmoid" or "softmax" (over the last axis).

    Returns:
        (..., K) in [0, 1], float64.

    Raises:
        ArgumentError: When the number of temperatures does not fit the labels.
    """
    _require_activation(activation)
    scores = np.asarray(logits, dtype=np.float64)
    if scores.ndim < 1:
        raise ArgumentError("logits must have the labels as last axis, but a single number came.")
    if calibration.method == "temperature":
        expected = scores.shape[-1] if activation == "sigmoid" else 1
        if len(calibration.parameters) != expected:
            raise ArgumentError(
                f"The calibration must hold {expected} temperature(s) for {activation} over "
                f"{scores.shape[-1]} labels, but it holds {len(calibration.parameters)}."
            )
        scores = scores / np.asarray(calibration.parameters)
    result: NDArray[np.float64] = np.exp(_log_probabilities(scores, activation))
    return result


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
    y_true: ArrayLike, probability: ArrayLike, *, error: float = 0.05
) -> tuple[float, float]:
    """Return the band of probabilities in which neither answer is safe enough.

    Outside the band, of the films that have the finding at most a share `error` is told
    "no" on average, and of those without it at most `error` is told "yes", if new films
    are like these. With overlapping classes the band lies between the thresholds of
    1 - `error` sensitivity and specificity and both answers are plausible in it; with well
    separated classes neither is. Too few films of a class (fewer than 1 / `error` - 1)
    leave the band open towards its end, 0 or 1.

    Args:
        y_true: (N,) of 0 and 1.
        probability: (N,) in [0, 1].
        error: Tolerated share of wrong answers within each class, between 0 and 1.

    Returns:
        (low, high), low <= high, both inside the band.

    Raises:
        ArgumentError: When a class has no film, or a value is not as described.

    Reference:
        Vovk, Conditional validity of inductive conformal predictors, ACML 2012; Romano,
        Sesia and Candes, Classification with valid and adaptive coverage, NeurIPS 2020.
    """
    if not 0 < error < 1:
        raise ArgumentError(f"error must lie between 0 and 1, but {error} came.")
    positive, negative = _scores_by_class(y_true, probability)
    if not (positive.size and negative.size):
        raise ArgumentError(
            "A cannot-tell band needs validation films with and without the finding, but "
            f"{positive.size} and {negative.size} came."
        )
    missed, alarmed = (_tolerated(scores.size, error) for scores in (positive, negative))
    yes_from = float(positive[missed - 1]) if missed else 0.0
    no_up_to = float(negative[-alarmed]) if alarmed else 1.0
    return min(yes_from, no_up_to), max(yes_from, no_up_to)


def _tolerated(films: int, error: float) -> int:
    """Return the rank of the conformal quantile among the films of one class."""
    # The small addition undoes rounding such as 0.29 * 100 = 28.999999999999996.
    return min(floor(error * (films + 1) + 1e-9), films)


def _best_temperature(logits: NDArray[np.float64], truth: NDArray[Any], activation: str) -> float:
    """Minimise the negative log-likelihood, which has one minimum in 1 / temperature."""
    from scipy.optimize import minimize_scalar

    if truth.all(axis=0).any() or not truth.any():  # one class only
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = logits / exp(log_temperature)
        if activation == "softmax":
            return -float((_log_probabilities(scaled, activation) * truth).sum(axis=1).mean())
        return float(np.logaddexp(0, np.where(truth == 1, -scaled, scaled)).mean())

    bounds = (log(LOWEST_TEMPERATURE), log(HIGHEST_TEMPERATURE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return exp(float(found.x))


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
