"""Every registered network keeps the contract that explanations and serving rely on."""

import numpy as np
import pytest

from cxr_core import networks
from cxr_core.errors import ArgumentError, TrainingError, UnknownName
from cxr_core.networks import (
    above,
    below,
    build_network,
    codes_layer,
    list_networks,
    load_pretrained,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", list_networks())
def test_networks_are_flat_with_features_and_logits(name):
    import keras

    network = build_network(name, size=224, channels=1, outputs=3)
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)
    assert network.get_layer("logits").output.shape == (None, 3)
    assert network.output is network.get_layer("logits").output
    assert min(network.get_layer("features").output.shape[1:3]) >= 7
    scores = network.predict_on_batch(np.zeros((2, 224, 224, 1), np.float32))
    assert scores.shape == (2, 3) and np.isfinite(scores).all()


@pytest.mark.parametrize("name", list_networks())
def test_no_convolution_of_one_pixel_strides(name):
    # Their training on a single film overwrites foreign memory: TensorFlow 2.21, Intel.
    import keras

    for layer in build_network(name, size=224, channels=1, outputs=1).layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1):
            assert layer.strides == (1, 1), layer.name


@pytest.mark.parametrize(("size", "side"), [(64, 8), (96, 12), (128, 8), (160, 10), (224, 7)])
def test_the_last_map_of_the_residual_network_stays_fine_enough_to_point(size, side):
    network = build_network("residual", size=size, channels=3, outputs=1)
    assert network.get_layer("features").output.shape[1:3] == (side, side)


def test_the_shipped_size_has_under_a_million_parameters():
    assert build_network("residual", size=160, channels=1, outputs=1).count_params() == 884_241


def test_the_swish_network_is_the_published_one_layer_by_layer():
    network = build_network("pooled", size=300, channels=3, outputs=1)
    counts = [layer.count_params() for layer in network.layers if layer.count_params()]
    assert counts == [896, 18_496, 36_928, 73_856, 147_584, 33_024, 257]
    assert network.count_params() == 311_041
    flat = next(layer for layer in network.layers if layer.name.startswith("flatten"))
    assert flat.output.shape == (None, 128)
    assert network.get_layer("features").output.shape == (None, 10, 10, 128)
    deeper = build_network("pooled", size=300, channels=3, outputs=1, dense=(256, 128))
    names = [type(layer).__name__ for layer in deeper.layers[-5:]]
    assert names == ["Dense", "Dropout", "Dense", "Dropout", "Dense"]


def test_vgg16_codes_are_the_published_25088():
    network = build_network("codes", size=224, channels=3, outputs=2, backbone="vgg16")
    assert network.get_layer("codes").output.shape == (None, 25_088)
    assert below(network).count_params() == 14_714_688


def test_the_inception_network_has_the_published_head():
    network = build_network(
        "pretrained",
        size=299,
        channels=3,
        outputs=15,
        backbone="inception-v3",
        dense=(512, 128, 32),
        normalise=(True, True, False),
    )
    head = [layer.count_params() for layer in network.layers[-8:] if layer.count_params()]
    assert head == [1_049_088, 2_048, 65_664, 512, 4_128, 495]
    assert network.get_layer("features").output.shape == (None, 8, 8, 2048)


@pytest.mark.parametrize(("name", "black"), [("mobilenet-v1", -1), ("vgg16", -103.939)])
def test_backbones_scale_pixels_as_their_makers_did(name, black):
    network = build_network("codes", size=64, channels=1, outputs=2, backbone=name)
    import keras

    scaled = keras.Model(network.input, network.get_layer("scaling").output)
    values = scaled.predict_on_batch(np.zeros((1, 64, 64, 1), np.float32))
    assert values.shape == (1, 64, 64, 3)
    assert values[0, 0, 0, 0] == pytest.approx(black)


# --- pretrained weights ---


@pytest.fixture
def small():
    return build_network("codes", size=64, channels=3, outputs=2, backbone="mobilenet-v1")


def test_weights_come_from_named_arrays_under_either_depthwise_name(small, tmp_path):
    donor = below(build_network("codes", size=64, channels=3, outputs=2))
    arrays = {}
    for layer in donor.layers:
        for variable in layer.weights:
            kind = (
                "depthwise_" if layer.name.startswith("conv_dw") and "bn" not in layer.name else ""
            )
            arrays[f"{layer.name}__{kind}{variable.name}"] = np.asarray(variable)
    np.savez(tmp_path / "w.npz", **arrays)
    load_pretrained(small, str(tmp_path / "w.npz"), backbone="mobilenet-v1")
    for mine, given in zip(below(small).get_weights(), donor.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, given)
    del arrays["conv1__kernel"]
    np.savez(tmp_path / "less.npz", **arrays)
    with pytest.raises(TrainingError, match="no array 'conv1__kernel'"):
        load_pretrained(small, str(tmp_path / "less.npz"), backbone="mobilenet-v1")


@pytest.mark.parametrize("whole", [True, False])
def test_weights_come_from_a_file_of_the_whole_or_of_the_backbone(small, tmp_path, whole):
    donor = build_network("codes", size=64, channels=3, outputs=2)
    given = donor if whole else below(donor)
    given.save_weights(tmp_path / "given.weights.h5")
    load_pretrained(small, str(tmp_path / "given.weights.h5"), backbone="mobilenet-v1")
    mine = small if whole else below(small)
    for one, other in zip(mine.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_backbone_weights_at_hand_fit(data):
    network = build_network("codes", size=224, channels=3, outputs=2)
    path = data / "weights" / "mobilenet_v1_1.0_224_imagenet.npz"
    load_pretrained(network, str(path), backbone="mobilenet-v1")
    with np.load(path) as arrays:
        kernel = network.get_layer("conv_pw_12").get_weights()[0]
        np.testing.assert_array_equal(kernel, arrays["conv_pw_12__kernel"])


def test_weights_that_cannot_be_downloaded_are_told(small, monkeypatch):
    import keras

    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(keras.applications, "MobileNet", fail)
    with pytest.raises(TrainingError, match=r"cannot be downloaded .*no route to host"):
        load_pretrained(small, "imagenet", backbone="mobilenet-v1")


def test_unknown_and_taken_names_are_told():
    with pytest.raises(UnknownName, match="residual"):
        build_network("residul", size=64, channels=1, outputs=1)
    with pytest.raises(UnknownName, match="mobilenet-v1"):
        build_network("codes", size=64, channels=3, outputs=1, backbone="mobilenet")
    with pytest.raises(ArgumentError, match="already"):
        networks.register_network(networks.residual)


DEPTHS = tuple(f"conv_pw_{depth}_relu" for depth in (5, 7, 12))


def test_maps_of_several_depths_are_read_by_their_means():
    network = build_network("pretrained", size=64, channels=1, outputs=2, dropout=0, depths=DEPTHS)
    films = np.random.default_rng(0).random((3, 64, 64, 1)).astype(np.float32)
    assert network.get_layer("features").output.shape == (None, 2, 2, 256 + 512 + 1024)
    means = np.hstack(
        [below(network, depth).predict_on_batch(films).mean((1, 2)) for depth in DEPTHS]
    )
    cut = codes_layer(network)
    np.testing.assert_allclose(below(network, cut).predict_on_batch(films), means, atol=1e-5)
    np.testing.assert_allclose(
        above(network, cut).predict_on_batch(means), network.predict_on_batch(films), atol=1e-5
    )


def test_maps_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ArgumentError, match="such as 224 or 320"):
        build_network("pretrained", size=72, channels=1, outputs=1, depths=DEPTHS)


def test_codes_are_cut_before_anything_learns_or_drops_out():
    for name, expected in (("pretrained", "global_average_pooling2d"), ("codes", "codes")):
        network = build_network(name, size=64, channels=1, outputs=1)
        assert codes_layer(network).startswith(expected)
