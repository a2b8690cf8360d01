"""Where the evidence lies: one small function for each method, one registry.

Methods explain logits, never probabilities (which saturate), and see the network only
through gradients, so that each can be tested on a function whose gradient is known.
Every map carries its own check where the method has one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_core.classifier import Classifier
from cxr_core.errors import ArgumentError, UnknownName
from cxr_core.preprocess import ModelInput

Floats = NDArray[np.floating]
Function = Callable[[Floats], tuple[Floats, Floats]]
"""From points (N, ...) to the explained logit (N,) and its gradient (N, ...) at each."""

FIRST_NODES, ADDED_NODES, MOST_NODES = 16, 8, 256
# Integrated gradients stop adding nodes below this share of the explained difference.
COMPLETE = 0.01
# Fewer cells than this along a side point nowhere in particular.
COARSE = 7


@dataclass(frozen=True)
class Attribution:
    """One map, of one label, by one method.

    Attributes:
        values: float32 (h, w) over the model's square; `preprocess.restore` lays it on
            the film.
        label: What is explained.
        method: By which method.
        signed: Whether negative values speak against the label; otherwise all are >= 0.
        completeness_gap: For integrated gradients, what the map's sum misses of
            f(film) - f(baseline), in logits; None for methods that promise no sum.
        relative_gap: |gap| / max(|f(film) - f(baseline)|, 1 logit).
        nodes: Gradients averaged along the path.
        note: What the reader should know before trusting the map, or None.
    """

    values: NDArray[np.float32]
    label: str
    method: str
    signed: bool
    completeness_gap: float | None = None
    relative_gap: float | None = None
    nodes: int | None = None
    note: str | None = None


Explainer = Callable[[Classifier, ModelInput, str, NDArray[np.float32] | None], Attribution]
_METHODS: dict[str, Explainer] = {}


def register_method(explainer: Explainer) -> Explainer:
    """Register a method under its function's name, underscores written as hyphens.

    Raises:
        ArgumentError: When the name is taken.
    """
    name = explainer.__name__.replace("_", "-")
    if name in _METHODS:
        raise ArgumentError(f"A method named '{name}' is registered already; rename one of them.")
    _METHODS[name] = explainer
    return explainer


def list_methods() -> list[str]:
    """Name the registered methods, cheapest first."""
    return list(_METHODS)


def explain(
    classifier: Classifier,
    model_input: ModelInput,
    label: str,
    method: str,
    *,
    features: NDArray[np.float32] | None = None,
) -> Attribution:
    """Explain one label on one film.

    Args:
        classifier: The model that spoke.
        model_input: The film as it read it.
        label: Which of its answers.
        method: One of `list_methods()`.
        features: float32 (h, w, C) from the prediction's own forward pass, when at hand:
            class activation maps then need no further pass.

    Raises:
        UnknownName: When the label or the method does not exist.
    """
    if method not in _METHODS:
        raise UnknownName("method", method, _METHODS)
    return _METHODS[method](classifier, model_input, label, features)


def _direction(classifier: Classifier, label: str) -> NDArray[np.float32]:
    direction = np.zeros(len(classifier.card.labels), np.float32)
    direction[classifier.card.position(label)] = 1
    return direction


@register_method
def grad_cam(
    classifier: Classifier,
    model_input: ModelInput,
    label: str,
    features: NDArray[np.float32] | None = None,
) -> Attribution:
    """Weigh each feature map by its mean gradient; keep what speaks for the label.

    Costs one backward pass of the head. Shows regions as coarse as the feature map (each
    cell covers size / h pixels), and nothing that speaks against the label.

    Reference:
        Selvaraju et al., Grad-CAM, ICCV 2017, arXiv:1610.02391, equations 1 and 2.
    """
    direction = _direction(classifier, label)
    if features is None:
        features = classifier.forward(model_input.pixels[None])[1][0]
    gradient = classifier.feature_gradients(features, direction[None])[0]
    values = class_activation(features, gradient)
    note = None
    if min(values.shape) < COARSE:
        note = f"The map has only {values.shape[0]}x{values.shape[1]} cells: too coarse to point."
    return Attribution(values, label, "grad-cam", signed=False, note=note)


def class_activation(
    features: NDArray[np.float32], gradient: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Combine features (h, w, C) by the spatial mean of their gradient; clip at zero: (h, w)."""
    weights = gradient.mean(axis=(0, 1))
    return np.asarray(np.maximum(features @ weights, 0), np.float32)


@register_method
def integrated_gradients(
    classifier: Classifier,
    model_input: ModelInput,
    label: str,
    features: NDArray[np.float32] | None = None,
) -> Attribution:
    """Add up the gradient on the straight way from a black film to this one.

    Costs `nodes` gradients of the whole network: 16, then 8 more at a time up to 256 until
    the completeness gap is below 1 %. Shows which pixels moved the logit from what a black film
    gets, for (positive) and against (negative); not what would happen if they were changed.

    Reference:
        Sundararajan et al., Axiomatic attribution for deep networks, ICML 2017,
        arXiv:1703.01365.
    """
    direction = _direction(classifier, label)
    result = integrate(
        lambda points: classifier.input_gradients(points.astype(np.float32), direction),
        model_input.pixels,
        np.full_like(model_input.pixels, model_input.black),
    )
    note = None
    if result.relative_gap > COMPLETE:
        note = f"The map misses {result.relative_gap:.0%} of the difference it should explain."
    return Attribution(
        result.values.sum(axis=2).astype(np.float32),
        label,
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
