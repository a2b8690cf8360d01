"""Explanations pixel by pixel, from gradients of the whole network."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_core.attribution.registry import Attribution, Question, register_method

Floats = NDArray[np.floating]
Function = Callable[[Floats], tuple[Floats, Floats]]
"""From points (N, ...) to the explained logit (N,) and its gradient (N, ...) at each."""

FIRST_NODES, ADDED_NODES, MOST_NODES = 16, 8, 256
# Integrated gradients stop adding nodes below this share of the explained difference.
COMPLETE = 0.01


@register_method(
    title="Integrated gradients",
    signed=True,
    cost=60,
    shows="which pixels moved the score from that of the baseline film",
    hides="outlines of lesions, and what would happen if those pixels were changed",
)
def integrated_gradients(question: Question) -> Attribution:
    """Add up the gradient on the straight way from a black film to this one.

    Costs `nodes` gradients of the whole network: 16, then 8 more at a time up to 256 until
    the completeness gap is below 1 %. Shows which pixels moved the logit from what a black film
    gets, for (positive) and against (negative); not what would happen if they were changed.

    Reference:
        Sundararajan et al., Axiomatic attribution for deep networks, ICML 2017,
        arXiv:1703.01365.
    """
    model_input, direction = question.model_input, question.direction
    result = integrate(
        lambda points: question.classifier.input_gradients(points.astype(np.float32), direction),
        model_input.pixels,
        np.full_like(model_input.pixels, model_input.black),
    )
    note = None
    if result.relative_gap > COMPLETE:
        note = f"The map misses {result.relative_gap:.0%} of the difference it should explain."
    return question.answer(
        result.values.sum(axis=2).astype(np.float32),
        "integrated-gradients",
        signed=True,
        completeness_gap=result.gap,
        relative_gap=result.relative_gap,
        nodes=result.nodes,
        note=note,
    )


@dataclass(frozen=True)
class Integral:
    """Integrated gradients of a function, with how far they are from complete.

    Attributes:
        values: Of the film's shape; sums to f(film) - f(baseline) - gap.
        gap: What the sum misses, in units of f.
        relative_gap: |gap| / max(|f(film) - f(baseline)|, 1).
        nodes: Gradients averaged.
    """

    values: Floats
    gap: float
    relative_gap: float
    nodes: int


def integrate(
    function: Function,
    film: Floats,
    baseline: Floats,
    *,
    nodes: int = FIRST_NODES,
    most: int = MOST_NODES,
    added: int = ADDED_NODES,
) -> Integral:
    """Integrate a gradient from baseline to film, adding nodes until it is complete.

    It begins with Gauss-Legendre nodes, exact for gradients that are smooth along the path.
    Networks bend sharply where they make up their mind: as long as the sum misses more than
    `COMPLETE`, the stretches whose gradients explain least of what the function did there are
    halved, and the gradient is taken as linear between nodes.

    Args:
        function: From points (N, ...) to its value (N,) and its gradient (N, ...) at each.
        film: End of the path, any shape.
        baseline: Start of the path, same shape.
        nodes: Points to begin with, both ends included.
        most: Points at which to stop whatever the gap.
        added: Points per refinement.
    """
    span = (film - baseline).astype(np.float64)
    inner, share = gauss_legendre(nodes - 2)
    positions = np.concatenate([[0], inner, [1]])
    weights = np.concatenate([[0], share, [0]])
    values, gradients = _look(function, film, baseline, positions)
    while True:
        difference = float(values[-1]) - float(values[0])
        attributed = span * np.tensordot(weights, gradients, axes=1)
        gap = difference - float(attributed.sum())
        relative = abs(gap) / max(abs(difference), 1.0)
        if relative < COMPLETE or len(positions) >= most:
            return Integral(attributed, gap, relative, len(positions))
        slopes = np.tensordot(gradients, span, axes=film.ndim)
        new = _worst_middles(positions, values, slopes, min(added, most - len(positions)))
        more_values, more_gradients = _look(function, film, baseline, new)
        order = np.argsort(np.concatenate([positions, new]))
        positions = np.concatenate([positions, new])[order]
        values = np.concatenate([values, more_values])[order]
        gradients = np.concatenate([gradients, more_gradients])[order]
        weights = _trapezoid(positions)


def gauss_legendre(nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions in (0, 1) and weights that sum to 1."""
    positions, weights = np.polynomial.legendre.leggauss(nodes)
    return (positions + 1) / 2, weights / 2


def _look(
    function: Function, film: Floats, baseline: Floats, positions: NDArray[np.float64]
) -> tuple[Floats, Floats]:
    """Evaluate a function and its gradient at these positions of the path."""
    steps = positions.reshape((-1,) + (1,) * film.ndim).astype(film.dtype)
    return function(baseline + steps * (film - baseline))


def _worst_middles(
    positions: NDArray[np.float64], values: Floats, slopes: Floats, count: int
) -> NDArray[np.float64]:
    """Return the middles of the stretches whose slopes explain least of their change."""
    widths = np.diff(positions)
    missed = np.abs(np.diff(values) - widths * (slopes[1:] + slopes[:-1]) / 2)
    worst = np.sort(np.argsort(-missed)[:count])
    return (positions[worst] + positions[worst + 1]) / 2


def _trapezoid(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of the trapezoidal rule; from 0 to 1 they sum to 1."""
    padded = np.concatenate([positions[:1], positions, positions[-1:]])
    return np.asarray((padded[2:] - padded[:-2]) / 2)
