"""Explanations pixel by pixel, from gradients of the whole network."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_core.attribution.baselines import baseline_film
from cxr_core.attribution.registry import (
    BATCH,
    Attribution,
    Progress,
    Question,
    register_method,
)

Floats = NDArray[np.floating]
Function = Callable[[Floats], tuple[Floats, Floats]]
"""From points (N, ...) to the explained logit (N,) and its gradient (N, ...) at each."""

FIRST_NODES, ADDED_NODES, MOST_NODES = 16, 8, 256
# Integrated gradients stop adding nodes below this share of the explained difference.
COMPLETE = 0.01
# SmoothGrad: noisy films, and their noise as a share of the film's range.
SAMPLES, NOISE = 32, 0.1
SEED = 0


@register_method(
    title="Integrated gradients",
    signed=True,
    cost=60,
    shows="which pixels moved the score from that of the baseline film",
    hides="outlines of lesions, and what would happen if those pixels were changed",
)
def integrated_gradients(question: Question) -> Attribution:
    """Add up the gradient on the straight way from a baseline film to this one.

    Costs `nodes` gradients of the whole network, each about 2.5 forward passes: 16, then 8 more
    at a time up to 256 until the completeness gap is below 1 %. Shows which pixels moved the
    logit from what the baseline gets, for (positive) and against (negative); not what would
    happen if they were changed. The baseline is part of the question: black asks what light
    adds (black pixels get nothing, whatever they mean), a blurred film what structure adds,
    the mean film what sets this film apart. Signed.

    Reference:
        Sundararajan et al., Axiomatic attribution for deep networks, ICML 2017,
        arXiv:1703.01365; on baselines Sturmfels et al., Visualizing the impact of feature
        attribution baselines, Distill 2020.
    """
    result = integrate(
        lambda points: question.slopes(points.astype(np.float32)),
        question.model_input.pixels,
        baseline_film(question),
        progress=question.report,
    )
    return question.answer(
        result.values.sum(axis=2).astype(np.float32),
        "integrated-gradients",
        signed=True,
        completeness_gap=result.gap,
        relative_gap=result.relative_gap,
        nodes=result.nodes,
        note=missed(result.relative_gap),
        baseline=question.baseline,
    )


@register_method(
    title="SmoothGrad",
    signed=False,
    cost=80,
    shows="at which pixels the score is most sensitive to brightness",
    hides="whether those pixels speak for or against, and regions without edges",
)
def smoothgrad(question: Question) -> Attribution:
    """Average the gradient over noisy copies of the film; keep its size.

    Costs `SAMPLES` gradients of the whole network, each about 2.5 forward passes, whatever
    the film. Shows where a small change of brightness would move the logit most. The sign of a
    gradient says whether brighter would raise the logit, not whether the pixel as it is speaks
    for it, so only its absolute value is kept, after averaging: the map of a label is the map
    of its absence. Noise is normal, a tenth of the film's range, and always the same. Not signed.

    Reference:
        Smilkov et al., SmoothGrad: removing noise by adding noise, ICML workshop 2017,
        arXiv:1706.03825.
    """
    gradient = smooth(
        lambda points: question.slopes(points.astype(np.float32)),
        question.model_input.pixels,
        progress=question.report,
    )
    values = np.abs(gradient.sum(axis=2)).astype(np.float32)
    return question.answer(values, "smoothgrad", signed=False)


def smooth(
    function: Function,
    film: Floats,
    *,
    samples: int = SAMPLES,
    noise: float = NOISE,
    progress: Progress | None = None,
) -> Floats:
    """Average a function's gradient over noisy copies of a film; the same noise every time.

    Args:
        function: From points (N, ...) to its value (N,) and its gradient (N, ...) at each.
        film: Any shape.
        samples: Noisy copies.
        noise: Their standard deviation, as a share of the film's range.
        progress: Called after each batch.

    Returns:
        Of the film's shape.
    """
    random = np.random.default_rng(SEED)
    spread = noise * float(np.ptp(film))
    total = np.zeros(film.shape, np.float64)
    for start in range(0, samples, BATCH):
        count = min(BATCH, samples - start)
        copies = film + spread * random.standard_normal((count, *film.shape))
        total += function(copies)[1].sum(axis=0, dtype=np.float64)
        if progress is not None:
            progress(start + count, samples)
    return total / samples


def missed(relative_gap: float) -> str | None:
    """Say how much of the difference a map leaves unexplained, or None where it is little."""
    if relative_gap <= COMPLETE:
        return None
    return f"The map misses {relative_gap:.0%} of the difference it should explain."


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
    progress: Progress | None = None,
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
        progress: Called after each refinement with the points looked at and those planned so
            far; each refinement that turns out to be needed plans more.
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
        more = 0 if relative < COMPLETE else max(0, min(added, most - len(positions)))
        if progress is not None:
            progress(len(positions), len(positions) + more)
        if more == 0:
            return Integral(attributed, gap, relative, len(positions))
        slopes = np.tensordot(gradients, span, axes=film.ndim)
        new = _worst_middles(positions, values, slopes, more)
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
