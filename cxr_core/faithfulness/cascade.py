"""Cascading weight randomisation: a map that outlives the weights shows edges, not evidence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cxr_core.attribution.grids import flat
from cxr_core.classifier import Classifier
from cxr_core.faithfulness.curves import bootstrap, cells
from cxr_core.ranking import Interval


def likeness(one: NDArray[np.floating], other: NDArray[np.floating]) -> float | None:
    """Return Spearman's rank correlation of two maps (h, w), cell by cell.

    None where either is flat or not finite: it ranks nothing, so that nothing can be compared.
    """
    a, b = cells(one).ravel(), cells(other).ravel()
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or flat(a) or flat(b):
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def mean_likeness(values: Sequence[float | None]) -> tuple[Interval, int]:
    """Average the likenesses of several films, and count the films that have none."""
    known = [value for value in values if value is not None]
    return bootstrap(np.array(known)), len(values) - len(known)


def weighted_layers(network: Any) -> list[str]:
    """Name the layers that have weights, from the top of the network down."""
    return [layer.name for layer in reversed(network.layers) if layer.weights]


def stages(layers: int, count: int) -> list[int]:
    """Say after how many shuffled layers to look: after one, then evenly down to all."""
    return sorted({round(each) for each in np.linspace(1, layers, count)})


def shuffled(classifier: Classifier, layers: int, seed: int = 0) -> Classifier:
    """Return a copy whose top layers have their weights shuffled, each array within itself.

    Shuffling keeps the size of the weights, so that what changes is what was learned and not
    how large the numbers are.

    Args:
        classifier: Stays as it is.
        layers: How many layers with weights to shuffle, from the top.
        seed: Of the shuffle; more layers with the same seed shuffle the top ones alike.

    Reference:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, arXiv:1810.03292.
    """
    import keras

    network = keras.models.clone_model(classifier.network)
    network.set_weights(classifier.network.get_weights())
    random = np.random.default_rng(seed)
    for name in weighted_layers(network)[:layers]:
        layer = network.get_layer(name)
        layer.set_weights([_shuffled(value, random) for value in layer.get_weights()])
    return Classifier(classifier.card, network)


def _shuffled(values: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    return random.permutation(values.ravel()).reshape(values.shape)
