"""Where the evidence lies, as lines that a table can hold."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cxr_core.attribution import class_activations
from cxr_core.classifier import Classifier, Prediction
from cxr_core.overlays import LEVEL, full_colour
from cxr_core.preprocess import Placement, restore
from cxr_core.screening.answers import Outlines

# Longer side of the grid on which lines run: finer than a class activation map by far, and a
# line that goes around half the film has about a hundred points.
GRID = 64


def flagged_outlines(
    classifier: Classifier, prediction: Prediction, placement: Placement
) -> Mapping[str, Outlines]:
    """Outline the Grad-CAM of each label that was flagged, from the answer's own features."""
    flagged = [answer.label for answer in prediction.labels if answer.flag]
    maps = class_activations(classifier, prediction.features, flagged)
    return {label: outlines(values, placement) for label, values in maps.items()}


def outlines(values: NDArray[np.float32], placement: Placement) -> Outlines:
    """Draw the lines at half the peak of a map, which the overlay draws too.

    Args:
        values: float32 (h, w), at least 0, over the model's square.
        placement: How the film lies in that square.

    Returns:
        Closed lines, float32 (N, 2) of x and y in pixels of the original film, to a tenth of
        a pixel; a line that leaves the film runs along its border. None for a flat map.

    Reference:
        Lorensen and Cline, Marching cubes, SIGGRAPH 1987; in two dimensions, by contourpy.
    """
    from contourpy import contour_generator

    height, width = placement.height, placement.width
    share = min(1.0, GRID / max(height, width))
    rows, columns = max(2, round(height * share)), max(2, round(width * share))
    laid = restore(values, replace(placement, height=rows, width=columns))
    end = full_colour(laid)
    if end is None:
        return []
    lines = contour_generator(z=np.pad(laid, 1)).lines(LEVEL * end)
    scale = np.array([width / columns, height / rows])
    last = np.array([width - 1, height - 1])
    # The border of zeros has shifted each line by one cell; half-pixel centres.
    moved = (np.clip((np.asarray(line) - 0.5) * scale - 0.5, 0, last) for line in lines)
    return [np.asarray(line.round(1), np.float32) for line in moved]
