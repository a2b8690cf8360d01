"""Every registered network keeps the contract that explanations and serving rely on."""

import numpy as np
import pytest

from cxr_core import networks
from cxr_core.errors import ArgumentError, UnknownName
from cxr_core.networks import build_network, list_networks

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", list_networks())
def test_networks_are_flat_with_features_and_logits(name):
    import keras

    network = build_network(name, size=128, channels=1, outputs=3)
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)
    assert network.get_layer("logits").output.shape == (None, 3)
    assert network.output is network.get_layer("logits").output
    assert min(network.get_layer("features").output.shape[1:3]) >= 7
    scores = network.predict_on_batch(np.zeros((2, 128, 128, 1), np.float32))
    assert scores.shape == (2, 3) and np.isfinite(scores).all()


@pytest.mark.parametrize(("size", "side"), [(64, 8), (96, 12), (128, 8), (160, 10), (224, 7)])
def test_the_last_map_of_the_residual_network_stays_fine_enough_to_point(size, side):
    network = build_network("residual", size=size, channels=3, outputs=1)
    assert network.get_layer("features").output.shape[1:3] == (side, side)


def test_the_shipped_size_has_under_a_million_parameters():
    assert build_network("residual", size=160, channels=1, outputs=1).count_params() == 884_241


def test_unknown_and_taken_names_are_told():
    with pytest.raises(UnknownName, match="residual"):
        build_network("residul", size=64, channels=1, outputs=1)
    with pytest.raises(ArgumentError, match="already"):
        networks.register_network(networks.residual)
