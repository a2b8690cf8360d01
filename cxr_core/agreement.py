"""How far two that decide about the same films agree, beyond what chance would do.

Reference:
    Cohen, A coefficient of agreement for nominal scales, Educational and Psychological
    Measurement 20, 1960; its spread: Fleiss, Cohen and Everitt, Large sample standard errors
    of kappa and weighted kappa, Psychological Bulletin 72, 1969.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from cxr_core.errors import ArgumentError
from cxr_core.evaluation import Counts, wilson
from cxr_core.ranking import NO_INTERVAL, Interval


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What a reader and a model said of one finding on the same films.

    Attributes:
        counts: ((neither, only the model), (only the reader, both)) said that it is there.
        unsure: Films on which the reader was not sure: the model did not flag, flagged. They
            count nowhere else.
        observed: Share of the films on which both say the same.
        kappa: That beyond chance; 1 is perfect, 0 is chance. None where both always say one
            and the same; without a range where they never differ.
    """

    counts: Counts
    unsure: tuple[int, int]
    observed: Interval
    kappa: Interval

    @property
    def n(self) -> int:
        """Films on which both decided."""
        return sum(map(sum, self.counts))


def agreement(said: Sequence[bool | None], flagged: Sequence[bool]) -> Agreement:
    """Compare what a reader said of N films with what a model flagged.

    Args:
        said: Whether the reader saw the finding; None where not sure.
        flagged: Whether the model flagged it.

    Raises:
        ArgumentError: When there is not one of each for every film.
    """
    if len(said) != len(flagged):
        raise ArgumentError(
            f"said and flagged must hold one value for each film, but {len(said)} and "
            f"{len(flagged)} came."
        )
    cells = np.zeros((3, 2), int)
    for present, flag in zip(said, flagged, strict=True):
        cells[2 if present is None else int(present), int(flag)] += 1
    (neither, model), (reader, both), (clear, flags) = cells.tolist()
    counts = ((neither, model), (reader, both))
    return Agreement(
        counts=counts,
        unsure=(clear, flags),
        observed=wilson(neither + both, neither + model + reader + both),
        kappa=kappa(counts),
    )


def kappa(counts: Counts) -> Interval:
    """Return Cohen's kappa of a 2 x 2 table with its 95 % interval.

    Args:
        counts: How often each pair of answers came, the same answers in the same order.
    """
    table = np.array(counts, float)
    if not table.sum():
        return NO_INTERVAL
    shares, n = table / table.sum(), table.sum()
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    chance = float(rows @ columns)
    if chance == 1:
        return NO_INTERVAL
    value = float((np.trace(shares) - chance) / (1 - chance))
    # How far each cell moves kappa: on the diagonal, off it, and what is common to both.
    pull = (1 - value) * (columns[:, None] + rows[None, :])
    np.fill_diagonal(pull, 1 - (1 - value) * (rows + columns))
    common = value - chance * (1 - value)
    variance = float((shares * pull**2).sum() - common**2) / ((1 - chance) ** 2 * n)
    if variance <= 1e-12:
        return Interval(value, None, None)
    half = NormalDist().inv_cdf(0.975) * sqrt(variance)
    return Interval(value, max(value - half, -1.0), min(value + half, 1.0))
