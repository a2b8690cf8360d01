"""Class activation maps: which cells of the last feature map raised the logit."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxr_core.attribution.registry import Attribution, Question, register_method
from cxr_core.classifier import Classifier

Floats = NDArray[np.float32]

# Fewer cells than this along a side point nowhere in particular.
COARSE = 7


@register_method(
    title="Grad-CAM",
    signed=False,
    cost=0.1,
    shows="the region that raised the score, coarsely",
    hides="outlines, small findings, and whatever speaks against",
)
def grad_cam(question: Question) -> Attribution:
    """Weigh each feature map by its mean gradient; keep what speaks for the label.

    Costs one backward pass of the head (and one forward pass where the prediction's features
    are not at hand). Shows regions as coarse as the feature map (each cell covers size / h
    pixels), and nothing that speaks against the label. Not signed.

    Reference:
        Selvaraju et al., Grad-CAM: visual explanations from deep networks via gradient-based
        localization, ICCV 2017, arXiv:1610.02391, equations 1 and 2.
    """
    return _mapped(question, "grad-cam", class_activation(*_head(question)))


@register_method(
    title="Grad-CAM++",
    signed=False,
    cost=0.1,
    shows="all regions that raised the score, several of one kind more evenly than Grad-CAM",
    hides="outlines, small findings, and whatever speaks against",
)
def grad_cam_plus_plus(question: Question) -> Attribution:
    """Weigh each feature map by its rising gradients only, each by how much it alone decides.

    Costs one backward pass of the head, as Grad-CAM. Shows several places of one finding more
    evenly; channels that speak against the label weigh nothing, so that it points even where
    the label is all but excluded. Under a head that only averages the features, weights are
    the clipped gradients. Not signed.

    Reference:
        Chattopadhyay et al., Grad-CAM++: improved visual explanations for deep convolutional
        networks, WACV 2018, arXiv:1710.11063, equations 11 and 19.
    """
    return _mapped(question, "grad-cam++", rising_activation(*_head(question)))


@register_method(
    title="Layer-CAM",
    signed=False,
    cost=0.1,
    shows="the cells that raised the score, each by its own gradient",
    hides="outlines, small findings, and whatever speaks against",
)
def layer_cam(question: Question) -> Attribution:
    """Weigh each cell of each feature map by its own gradient, where that is rising.

    Costs one backward pass of the head, as Grad-CAM. Shows finer differences between cells
    where the head looks at places rather than averages; under a head that only averages, it
    is Grad-CAM++. Not signed.

    Reference:
        Jiang et al., LayerCAM: exploring hierarchical class activation maps for localization,
        IEEE Transactions on Image Processing 30, 2021, equations 6 and 7.
    """
    return _mapped(question, "layer-cam", cell_activation(*_head(question)))


def class_activations(
    classifier: Classifier,
    features: Floats,
    labels: Sequence[str] | None = None,
    *,
    absence: bool = False,
) -> dict[str, Floats]:
    """Make the Grad-CAM of several labels from one film's features, in one pass of the head.

    Args:
        classifier: The model that spoke.
        features: float32 (h, w, C), as `Prediction` holds them.
        labels: Some of the model's labels; all of them when None.
        absence: Explain what speaks against each label.

    Returns:
        For each label float32 (h, w), at least 0.

    Raises:
        UnknownName: When the model does not answer a label.
    """
    names = classifier.card.labels if labels is None else tuple(labels)
    if not names:
        return {}
    chosen = [classifier.card.position(name) for name in names]
    directions = np.eye(len(classifier.card.labels), dtype=np.float32)[chosen]
    gradients = classifier.feature_gradients(features, -directions if absence else directions)
    return {
        name: class_activation(features, gradient)
        for name, gradient in zip(names, gradients, strict=True)
    }


def class_activation(features: Floats, gradient: Floats) -> Floats:
    """Combine features (h, w, C) by the spatial mean of their gradient; clip at zero: (h, w)."""
    weights = gradient.mean(axis=(0, 1))
    return np.asarray(np.maximum(features @ weights, 0), np.float32)


def rising_activation(features: Floats, gradient: Floats) -> Floats:
    """Combine features (h, w, C) as Grad-CAM++ does; clip at zero: (h, w).

    The paper explains exp(logit), whose second and third derivatives are squares and cubes of
    the logit's gradient; the common factor exp(logit) scales the map and is left out. As in
    the authors' code, the shares of a channel's rising cells are made to sum to 1.
    """
    rising = np.maximum(gradient, 0).astype(np.float64)
    total = features.sum(axis=(0, 1), dtype=np.float64)
    below = 2 * rising**2 + total * rising**3
    shares = np.divide(rising**2, below, out=np.zeros_like(rising), where=below > 0)
    sums = shares.sum(axis=(0, 1))
    weights = (shares * rising).sum(axis=(0, 1)) / np.where(sums > 0, sums, 1)
    return np.asarray(np.maximum(features @ weights, 0), np.float32)


def cell_activation(features: Floats, gradient: Floats) -> Floats:
    """Add up features (h, w, C) times their rising gradients; clip at zero: (h, w)."""
    return np.asarray(np.maximum((features * np.maximum(gradient, 0)).sum(axis=2), 0))


def features_of(question: Question) -> Floats:
    """Return the film's features (h, w, C): those at hand, else by a forward pass."""
    if question.features is not None:
        return question.features
    features = question.classifier.forward(question.model_input.pixels[None])[1][0]
    return np.asarray(features)


def _head(question: Question) -> tuple[Floats, Floats]:
    """Return the film's features and the explained logit's gradient there, (h, w, C) each."""
    features = features_of(question)
    return features, question.classifier.feature_gradients(features, question.direction[None])[0]


def _mapped(question: Question, method: str, values: Floats) -> Attribution:
    return question.answer(values, method, signed=False, note=coarse(values))


def coarse(values: Floats) -> str | None:
    """Say that a map has too few cells to point, or None."""
    if min(values.shape) >= COARSE:
        return None
    return f"The map has only {values.shape[0]}x{values.shape[1]} cells: too coarse to point."
