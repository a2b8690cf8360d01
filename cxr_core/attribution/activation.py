"""Class activation maps: which cells of the last feature map raised the logit."""

import numpy as np
from numpy.typing import NDArray

from cxr_core.attribution.registry import Attribution, Question, register_method

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

    Costs one backward pass of the head. Shows regions as coarse as the feature map (each
    cell covers size / h pixels), and nothing that speaks against the label.

    Reference:
        Selvaraju et al., Grad-CAM, ICCV 2017, arXiv:1610.02391, equations 1 and 2.
    """
    features = question.features
    if features is None:
        features = question.classifier.forward(question.model_input.pixels[None])[1][0]
    gradient = question.classifier.feature_gradients(features, question.direction[None])[0]
    values = class_activation(features, gradient)
    return question.answer(values, "grad-cam", signed=False, note=_coarse(values))


def class_activation(
    features: NDArray[np.float32], gradient: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Combine features (h, w, C) by the spatial mean of their gradient; clip at zero: (h, w)."""
    weights = gradient.mean(axis=(0, 1))
    return np.asarray(np.maximum(features @ weights, 0), np.float32)


def _coarse(values: NDArray[np.float32]) -> str | None:
    if min(values.shape) >= COARSE:
        return None
    return f"The map has only {values.shape[0]}x{values.shape[1]} cells: too coarse to point."
