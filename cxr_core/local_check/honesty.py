"""How honest probabilities are: the line that would have to be laid through their logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_core.predictions import FEW_OF_A_KIND
from cxr_core.ranking import NO_INTERVAL, Flags, Floats, Interval, checked

# Nothing scores more surely than this when lines are fitted.
SUREST = 1e-9
WIDTH = 1.959963984540054  # standard errors to either side of a 95 % interval


@dataclass(frozen=True)
class Line:
    """How the probabilities of one label would have to be moved to be honest.

    Attributes:
        slope: Of the truth's logit over the model's: 1 is honest, below 1 the model is too sure.
        shift: What would have to be added to its logits: 0 is honest, below 0 it says too much.
    """

    slope: Interval
    shift: Interval

    @property
    def holds(self) -> bool | None:
        """Whether neither is clearly off, by its interval; None where films cannot say."""
        ends = (self.slope.low, self.slope.high, self.shift.low, self.shift.high)
        if None in ends:
            return None
        return _within(1.0, self.slope) and _within(0.0, self.shift)


def honest_line(y_true: ArrayLike, probability: ArrayLike, patients: Sequence[str]) -> Line:
    """Fit how the truth follows from probabilities, with 95 % intervals that allow for patients.

    Args:
        y_true: (N,) of 0 and 1.
        probability: (N,) in [0, 1].
        patients: (N,) whose film each is.

    Returns:
        No numbers where the films cannot say: fewer than `FEW_OF_A_KIND` patients of either
        kind, or, of the slope, scores that part the kinds without a mistake or are all alike.

    Reference:
        Cox, Two further applications of a model for binary regression, Biometrika 45, 1958;
        Van Calster et al., Calibration: the Achilles heel of predictive analytics, BMC Medicine
        17, 2019; Liang and Zeger, Longitudinal data analysis using generalized linear models,
        Biometrika 73, 1986 (the spread where films share a patient).
    """
    truth, scores = checked(y_true, probability)
    sure = np.clip(scores, SUREST, 1 - SUREST)
    logits, ones = np.log(sure / (1 - sure)), np.ones(len(truth))
    whose = np.unique(np.asarray(patients), return_inverse=True)[1]
    if min(len(np.unique(whose[truth == kind])) for kind in (True, False)) < FEW_OF_A_KIND:
        return Line(NO_INTERVAL, NO_INTERVAL)
    has, has_not = logits[truth], logits[~truth]
    parted = has.min() >= has_not.max() or has.max() <= has_not.min()
    both = np.column_stack((logits, ones))
    slope = NO_INTERVAL if parted else _coefficient(both, truth, 0 * logits, whose)
    return Line(slope, _coefficient(ones[:, None], truth, logits, whose))


def _coefficient(
    columns: Floats, truth: Flags, offset: Floats, whose: NDArray[np.intp]
) -> Interval:
    """Return the first coefficient of a logistic regression, by Newton's method."""
    beta = np.zeros(columns.shape[1])
    for _ in range(100):
        chance = 0.5 * (1 + np.tanh((columns @ beta + offset) / 2))
        weights = chance * (1 - chance)
        bread = np.linalg.pinv((columns * weights[:, None]).T @ columns)
        step = bread @ columns.T @ (truth - chance)
        beta = beta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-9:
            break
    else:
        return NO_INTERVAL
    of_patients = np.zeros((int(whose.max()) + 1, columns.shape[1]))
    np.add.at(of_patients, whose, columns * (truth - chance)[:, None])
    patients = len(of_patients)
    spread = bread @ of_patients.T @ of_patients @ bread * patients / (patients - 1)
    half = WIDTH * float(np.sqrt(spread[0, 0]))
    return Interval(float(beta[0]), float(beta[0]) - half, float(beta[0]) + half)


def _within(value: float, around: Interval) -> bool:
    return around.low is not None and around.high is not None and around.low <= value <= around.high
