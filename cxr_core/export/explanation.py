"""The picture of an explanation, as a file."""

from pathlib import Path
from typing import Any

import numpy as np

from cxr_core.attribution import Baseline, explain
from cxr_core.classifier import Classifier
from cxr_core.errors import ArgumentError
from cxr_core.figures import overlay, png
from cxr_core.images import load_radiograph
from cxr_core.preprocess import prepare, restore


def export_explanation(
    classifier: Classifier,
    film: Path,
    label: str,
    method: str,
    output: Path,
    *,
    absence: bool = False,
    baseline: Baseline | None = None,
) -> dict[str, Any]:
    """Draw where the evidence for a label lies, over the original film.

    The map is never withheld here, whatever the gate or the operating point say: that is
    the screen's part.

    Args:
        classifier: The model that speaks.
        film: The file to explain.
        label: One of the model's labels.
        method: One of `attribution.list_methods()`.
        output: Where the PNG goes, in the film's own size.
        absence: Explain what speaks against the label instead.
        baseline: Where integrated gradients start; black by default.

    Returns:
        What `explain --json` prints; "peak" is (x, y) in pixels of the original film, or
        None when nothing on it speaks for the label (or its absence), and "baseline" is None
        for methods that take none.

    Raises:
        ImageError: When the film cannot be read.
        UnknownName: When the label or the method does not exist.
        ArgumentError: When the picture cannot be written, the model has no mean film, or a
            baseline is named for a method that takes none.
    """
    if baseline is not None and method != "integrated-gradients":
        raise ArgumentError(
            f"A baseline is for integrated-gradients alone, but '{baseline}' came with "
            f"'{method}', which takes none: leave the baseline out."
        )
    radiograph = load_radiograph(film)
    model_input = prepare(radiograph, classifier.card.preprocessing)
    prediction = classifier.predict(model_input)
    told = explain(
        classifier,
        model_input,
        label,
        method,
        absence=absence,
        features=prediction.features,
        baseline=baseline or "black",
    )
    values = restore(told.values, model_input.placement)
    try:
        output.write_bytes(png(overlay(radiograph.pixels, values, signed=told.signed)))
    except OSError as error:
        raise ArgumentError(
            f"'{output}' cannot be written ({error.strerror}); name a file in a folder that exists."
        ) from error
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    pointed = bool(values.max() > 0)
    return {
        "file": str(film),
        "model": classifier.card.name,
        "label": label,
        "method": method,
        "absence": told.absence,
        "baseline": told.baseline,
        "probability": prediction.label(label).probability,
        "completeness_gap": told.completeness_gap,
        "relative_gap": told.relative_gap,
        "peak": [int(x), int(y)] if pointed else None,
        "output": str(output),
    }
