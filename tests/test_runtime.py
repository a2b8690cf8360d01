"""The graph says what Keras says, is written only if so, and answers without TensorFlow."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from cxr_core.cards import list_models, load_card, load_predictions
from cxr_core.classifier import Classifier, load_classifier, round_weights, with_graph
from cxr_core.errors import ModelError
from cxr_core.images import Radiograph, load_radiograph
from cxr_core.networks import build_network, list_networks
from cxr_core.preprocess import prepare
from cxr_core.runtime import (
    GRAPH,
    RECORD,
    SAME_GRADIENTS,
    SAME_LOGITS,
    Graph,
    Told,
    load_graph,
    write_graph,
)
from cxr_core.runtime import backward as ways_back
from cxr_core.runtime.forward import exported

ROOT = Path(__file__).parents[1]
MODEL = "pediatric-pneumonia"
WITH_GRAPH = sorted(path.parent.name for path in (ROOT / "models").glob(f"*/{GRAPH}"))
FILMS = 200


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network_of(*layers: Any, side: int = 9, channels: int = 2) -> Any:
    """Chain layers; "features" is the last map, and a dense layer of 3 answers."""
    import keras

    film = x = keras.Input((side, side, channels), name="film")
    for layer in layers:
        x = layer(x)
    x = keras.layers.Activation("linear", name="features")(x)
    logits = keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(x))
    network = keras.Model(film, logits)
    # No weight is what layers begin with; variances stay positive.
    network.set_weights([np.abs(noise(*w.shape)) + 0.1 for w in network.get_weights()])
    return network


def by_keras(network: Any, films: np.ndarray) -> Told:
    import keras
    import tensorflow as tf

    both = keras.Model(network.input, [network.output, network.get_layer("features").output])
    film = tf.constant(films)
    with tf.GradientTape() as tape:
        tape.watch(film)
        logits, features = both(film, training=False)
    return Told(logits.numpy(), features.numpy(), tape.gradient(logits, film).numpy())


def by_graph(network: Any, films: np.ndarray) -> Told:
    graph = Graph(exported(network))
    logits, features = graph.forward(films)
    value, gradients = graph.gradients("film", films, np.ones_like(logits))
    assert_allclose(value, logits.sum(axis=1), rtol=1e-5, atol=1e-4)
    return Told(logits, features, gradients)


def assert_same(network: Any, films: np.ndarray) -> None:
    found, expected = by_graph(network, films), by_keras(network, films)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape and one.dtype == np.float32
        assert_allclose(one, other, rtol=1e-5, atol=1e-4)
    assert np.ptp(expected.logits) > 0 and np.ptp(expected.gradients) > 0


# --- layer by layer ---


def test_a_network_by_hand():
    """Doubled, one less, not below zero, averaged: (2·1-1 + 2·2-1 + 0 + 2·3-1) / 4 = 2.25."""
    import keras
    from keras import layers

    film = keras.Input((2, 2, 1), name="film")
    x = layers.Conv2D(1, 1, activation="relu", name="features")(film)
    x = layers.GlobalAveragePooling2D()(x)
    network = keras.Model(film, layers.Dense(2, name="logits")(x))
    network.set_weights(
        [np.array([[[[2.0]]]]), np.array([-1.0]), np.array([[10.0, -4.0]]), np.array([0.5, 0.0])]
    )
    pixels = np.array([[1.0, 2.0], [-7.0, 3.0]], np.float32)[None, :, :, None]
    logits, features, gradients = by_graph(network, pixels)
    assert_array_equal(features[0, :, :, 0], [[1, 3], [0, 5]])
    assert_array_equal(logits, [[23.0, -9.0]])
    # Doubled, a quarter of each cell that is above zero, times 10 - 4.
    assert_array_equal(gradients[0, :, :, 0], [[3, 3], [0, 3]])


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(("Conv2D", "DepthwiseConv2D", "MaxPooling2D", "AveragePooling2D")),
    side=st.integers(5, 12),
    size=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.sampled_from(("same", "valid")),
)
def test_windows_lie_where_keras_lays_them(kind, side, size, stride, padding):
    from keras import layers

    given = {"strides": stride, "padding": padding}
    made = {
        "Conv2D": lambda: layers.Conv2D(4, size, activation="silu", **given),
        "DepthwiseConv2D": lambda: layers.DepthwiseConv2D(size, depth_multiplier=2, **given),
        "MaxPooling2D": lambda: layers.MaxPooling2D(size, **given),
        "AveragePooling2D": lambda: layers.AveragePooling2D(size, **given),
    }
    assert_same(network_of(made[kind](), side=side), noise(2, side, side, 2, seed=side))


EACH_KIND: dict[str, Callable[[Any], list[Any]]] = {
    "groups": lambda keras: [keras.Conv2D(4, 3, groups=2, use_bias=False)],
    "dilated": lambda keras: [keras.Conv2D(4, 2, dilation_rate=2, activation="relu")],
    "dilated, padded": lambda keras: [keras.Conv2D(4, 4, dilation_rate=2, padding="same")],
    "normalised": lambda keras: [keras.BatchNormalization(epsilon=0.01)],
    "centred only": lambda keras: [keras.BatchNormalization(scale=False)],
    "scaled only": lambda keras: [keras.BatchNormalization(center=False)],
    "up to six": lambda keras: [keras.ReLU(max_value=0.5)],
    "rectified": lambda keras: [keras.ReLU(), keras.Dropout(0.5)],
    "padded": lambda keras: [keras.ZeroPadding2D(((0, 1), (2, 3)))],
    "rescaled": lambda keras: [keras.Rescaling(3.0, -1.0)],
    "rescaled by channel": lambda keras: [keras.Rescaling([3.0, 0.2], [-1.0, 0.7])],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", EACH_KIND)
def test_each_kind_of_layer_does_what_it_does_in_keras(case):
    from keras import layers

    assert_same(network_of(*EACH_KIND[case](layers)), noise(2, 9, 9, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", list_networks())
def test_every_registered_network_can_be_written(name):
    import keras

    keras.utils.set_random_seed(0)
    network = build_network(name, size=64, channels=1, outputs=2)
    network.set_weights([w + 0.1 * noise(*w.shape) * (w.ndim < 3) for w in network.get_weights()])
    films = noise(16, 64, 64, 1)
    for layer in network.layers:  # so that its values are neither all zero nor all at the top
        layer.momentum = 0.0
    network(films, training=True)
    films = films[:3]
    found, expected = by_graph(network, films), by_keras(network, films)
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())
    assert all(np.ptp(one, axis=0).max() > 0 for one in expected)
    gap = np.linalg.norm(found.gradients - expected.gradients)
    assert gap < SAME_GRADIENTS * np.linalg.norm(expected.gradients)


@pytest.mark.slow
def test_a_layer_that_nobody_wrote_down_is_named():
    from keras import layers

    for layer in (
        layers.UnitNormalization(name="odd"),
        layers.ReLU(negative_slope=0.1, name="odd"),
        layers.Activation("gelu", name="odd"),
    ):
        with pytest.raises(ModelError, match=r"layer 'odd' \(\w+\) has no counterpart"):
            exported(network_of(layer))


@pytest.mark.slow
def test_weights_lose_nothing_and_take_two_bytes_where_they_can():
    from keras import layers

    network = network_of(layers.Conv2D(64, 3), side=9, channels=16)
    whole = exported(network)
    round_weights(network)
    half = exported(network)
    count = network.count_params()
    assert 4 * count <= len(whole) < 4 * count + 4000
    assert 2 * count <= len(half) < 2 * count + 4000
    assert_same(network, noise(2, 9, 9, 16))
    assert exported(network) == half  # and says the same each time


@pytest.mark.slow
def test_films_of_a_batch_do_not_know_each_other():
    network = build_network("residual", size=64, channels=1, outputs=2)
    graph, films = Graph(exported(network)), noise(3, 64, 64, 1)
    together = graph.forward(films)
    for k in range(3):
        for one, other in zip(graph.forward(films[k : k + 1]), together, strict=True):
            assert_array_equal(one[0], other[k])


# --- written beside model.keras, or not at all ---


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with the file whose digest the record holds."""
    (tmp_path / "model.keras").write_bytes(b"weights")
    return tmp_path


@pytest.mark.slow
def test_a_graph_that_says_otherwise_is_not_written(bundle, caplog):
    from keras import layers

    network, films = network_of(layers.Conv2D(2, 3)), noise(2, 9, 9, 2)
    right = by_keras(network, films)
    for odd, told in (
        ({"logits": right.logits + 2 * SAME_LOGITS}, "its logits differ by 0.0002"),
        ({"features": right.features * 1.5}, "its features by 0.33"),
        ({"features": right.features * np.float32(np.nan)}, "its features by nan"),
        ({"gradients": right.gradients * 1.25}, "its gradients by 0.2"),
        ({"logits": right.logits * np.float32(np.nan)}, "its logits differ by nan"),
        ({"gradients": right.gradients * np.float32(np.nan)}, "its gradients by nan"),
    ):
        caplog.clear()
        assert write_graph(network, bundle, films, right._replace(**odd)) is None
        assert f"No graph was written to '{bundle}'" in caplog.text and told in caplog.text
        assert [path.name for path in bundle.iterdir()] == ["model.keras"]
    assert write_graph(network, bundle, films, right) is not None
    record = json.loads((bundle / RECORD).read_text())
    assert record["compared_films"] == 2 and record["logits_differ_by"] < SAME_LOGITS
    assert record["gradients_differ_by"] < 1e-6


@pytest.mark.slow
def test_a_network_that_cannot_be_written_is_served_by_keras(bundle, caplog):
    from keras import layers

    network, films = network_of(layers.UnitNormalization(name="odd")), noise(2, 9, 9, 2)
    assert write_graph(network, bundle, films, by_keras(network, films)) is None
    assert "layer 'odd' (UnitNormalization)" in caplog.text
    assert not (bundle / GRAPH).exists() and load_graph(bundle) is None


@pytest.mark.slow
def test_a_trained_bundle_carries_its_graph(tiny_models, phantom_film):
    folder = tiny_models / "tiny"
    assert (folder / GRAPH).is_file() and (folder / RECORD).is_file()
    film = prepare(phantom_film, load_card("tiny", tiny_models).preprocessing).pixels[None]
    light = load_classifier("tiny", tiny_models)
    assert_allclose(light.forward(film)[0], light.network.predict_on_batch(film), atol=SAME_LOGITS)


@pytest.mark.slow
def test_a_graph_answers_for_the_labels_of_its_card(made_card):
    two = replace(made_card, labels=("A", "B"), operating_points=(1,) * 2, cannot_tell=(None,) * 2)
    network = build_network("residual", size=64, channels=1, outputs=1)
    with pytest.raises(ModelError, match="1 outputs but 2 labels"):
        Classifier(two, network, Graph(exported(network)))


# --- the shipped graphs ---


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A models folder with one shipped bundle and the gate, to be damaged."""
    root = tmp_path / "models"
    for name in (MODEL, "gate"):
        shutil.copytree(ROOT / "models" / name, root / name)
    return root


def flip(path: Path) -> None:
    """Change one bit in the middle of the weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(folder: Path, content: bytes) -> None:
    """Write a graph with a record that vouches for it."""
    (folder / GRAPH).write_bytes(content)
    record = json.loads((folder / RECORD).read_text())
    record["graph"] = hashlib.sha256(content).hexdigest()
    (folder / RECORD).write_text(json.dumps(record))


def later_version(folder: Path) -> bytes:
    """Return the graph as a format would be that this runtime is too old for."""
    model = onnx.load_from_string((folder / GRAPH).read_bytes())
    model.ir_version = 99
    return model.SerializeToString()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "vouched for, but no graph": (
        lambda folder: rewrite(folder, b"no graph"),
        "ONNX Runtime cannot load it",
    ),
    "of a later format": (
        lambda folder: rewrite(folder, later_version(folder)),
        "ONNX Runtime cannot load it",
    ),
    "removed": (lambda folder: (folder / GRAPH).unlink(), "No such file"),
    "record removed": (lambda folder: (folder / RECORD).unlink(), "No such file"),
    "one bit": (lambda folder: flip(folder / GRAPH), "model.onnx is damaged"),
    "cut off": (lambda folder: (folder / GRAPH).write_bytes(b"\x08"), "model.onnx is damaged"),
    "no JSON": (lambda folder: (folder / RECORD).write_text("{"), "Expecting property name"),
    "no digest": (lambda folder: (folder / RECORD).write_text("{}"), "'graph'"),
    "a list": (lambda folder: (folder / RECORD).write_text("[]"), "list indices"),
    "other weights": (
        lambda folder: shutil.copy(
            ROOT / "models" / "pediatric-type" / "model.keras", folder / "model.keras"
        ),
        "model.keras has changed since",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_graph_is_left_alone_and_the_log_says_so(case, shipped, caplog):
    damage, told = DAMAGE[case]
    assert load_graph(shipped / MODEL) is not None and not caplog.records
    damage(shipped / MODEL)
    assert load_graph(shipped / MODEL) is None
    (said,) = caplog.records
    assert said.levelno == logging.WARNING and said.name == "cxr_core.runtime.graph"
    assert f"The graph of model '{MODEL}' is not used" in said.getMessage()
    assert told in said.getMessage() and "Restore the folder" in said.getMessage()


def test_without_onnx_runtime_the_log_says_so(shipped, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert load_graph(shipped / MODEL) is None
    assert "ONNX Runtime is not installed as it should be" in caplog.text
    assert "Keras answers instead, where it is installed" in caplog.text


def test_a_graph_that_fails_on_a_film_says_so_in_a_sentence(shipped):
    graph = load_graph(shipped / MODEL)
    assert graph is not None
    with pytest.raises(ModelError) as told:
        graph.forward(noise(1, 8, 8, 3))
    said = str(told.value)
    assert said.startswith("The model could not answer: its graph failed on films of (8, 8, 3)")
    assert "\n" not in said and "restore the model's folder" in said
    assert graph.forward(noise(1, 160, 160, 1))[0].shape == (1, 1)  # and goes on


def test_a_network_runs_on_as_many_threads_as_it_is_told(shipped, monkeypatch):
    given = []
    import onnxruntime

    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda content, options, **more: (
            given.append(options.intra_op_num_threads) or session(content, options, **more)
        ),
    )
    for told in ("1", "3", "", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        assert load_graph(shipped / MODEL) is not None
    assert given == [1, 3, 0, 0]


# --- the way back ---


def test_the_gradient_of_a_head_by_hand(made_card):
    """Four cells share a weight of 10 evenly, and one of -4: 2.5 and -1 each."""
    import keras
    from keras import layers

    film = keras.Input((2, 2, 1), name="film")
    x = layers.Conv2D(1, 1, name="features")(film)
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    network = keras.Model(film, layers.Dense(2, name="logits")(x))
    network.set_weights(
        [np.ones((1, 1, 1, 1)), np.zeros(1), np.array([[10.0, -4.0]]), np.array([0.5, 0.0])]
    )
    two = replace(made_card, labels=("A", "B"), operating_points=(1,) * 2, cannot_tell=(None,) * 2)
    model = Classifier(two, network, Graph(exported(network)))
    found = model.feature_gradients(noise(2, 2, 1), np.array([[1, 0], [0, 1], [-1, 1]], "f4"))
    assert_array_equal(found[..., 0], np.array([2.5, -1, -3.5])[:, None, None] * np.ones((2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "between",
    ["a branch", "a normalisation alone", "windows over windows", "equal values"],
)
def test_slopes_come_together_where_ways_part(between):
    """What one operation gave and two read; what several windows see; what is largest twice."""
    import keras
    from keras import layers

    film = x = keras.Input((9, 9, 2), name="film")
    if between == "a branch":
        one = layers.Conv2D(4, 3, padding="same")(x)
        two = layers.BatchNormalization()(one)
        joined = layers.Concatenate()([one, layers.Add()([one, two, one])])
        x = layers.MaxPooling2D(3, 2)(joined)
    elif between == "a normalisation alone":
        x = layers.Conv2D(4, 3, activation="silu")(layers.BatchNormalization()(x))
    elif between == "windows over windows":
        x = layers.AveragePooling2D(3, 2, "same")(layers.MaxPooling2D(4, 1)(x))
    else:
        x = layers.MaxPooling2D(3)(layers.ReLU()(x))
    x = layers.Activation("linear", name="features")(x)
    network = keras.Model(film, layers.Dense(3, name="logits")(layers.Flatten()(x)))
    network.set_weights([np.abs(noise(*w.shape)) + 0.1 for w in network.get_weights()])
    films = noise(3, 9, 9, 2)
    if between == "equal values":
        films = np.round(films)
    assert_same(network, films)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_GRAPH)
def test_a_shipped_network_is_differentiated_as_keras_does(name):
    kind = "classifier" if name in {card.name for card in list_models()} else "gate"
    light = load_classifier(name, kind=kind)
    assert light.points_at_once
    heavy = Classifier(light.card, light.network)
    size, channels = light.card.preprocessing.size, light.card.preprocessing.channels
    film = np.abs(noise(1, size, size, channels))
    _, features = light.forward(film)
    labels = len(light.card.labels)
    directions = np.concatenate([np.eye(labels), -np.eye(labels), noise(2, labels)]).astype("f4")
    found = light.feature_gradients(features[0], directions)
    expected = heavy.feature_gradients(features[0], directions)
    assert found.shape == expected.shape and found.dtype == np.float32
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 0
    (value, found), (logit, expected) = (
        one.input_gradients(film, directions[-1]) for one in (light, heavy)
    )
    assert_allclose(value, logit, atol=SAME_LOGITS)
    assert found.shape == expected.shape and found.dtype == np.float32
    assert np.linalg.norm(found - expected) < SAME_GRADIENTS * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    ["a dense layer more", "flattened", "the largest instead", "a layer between"],
)
def test_any_head_has_its_way_back(case, made_card):
    import keras
    from keras import layers

    film = keras.Input((8, 8, 1), name="film")
    features = layers.Conv2D(2, 2, name="features")(film)
    heads = {
        "a dense layer more": lambda x: layers.Dense(3, "relu")(layers.GlobalAveragePooling2D()(x)),
        "flattened": layers.Flatten(),
        "the largest instead": lambda x: layers.Flatten()(layers.MaxPooling2D(7)(x)),
        "a layer between": lambda x: layers.GlobalAveragePooling2D()(layers.ReLU()(x)),
    }
    network = keras.Model(film, layers.Dense(2, name="logits")(heads[case](features)))
    two = replace(made_card, labels=("A", "B"), operating_points=(1,) * 2, cannot_tell=(None,) * 2)
    maps, directions = noise(7, 7, 2), np.array([[1, 0], [0, 1], [-1, 2]], np.float32)
    found, expected = (
        Classifier(two, network, graph).feature_gradients(maps, directions)
        for graph in (Graph(exported(network)), None)
    )
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(expected) > 0


@pytest.mark.slow
def test_shapes_that_are_spread_have_no_way_back(bundle, caplog):
    import keras
    from keras import layers

    film = keras.Input((8, 8, 2), name="film")
    x = layers.Conv2D(3, 3, padding="same", name="features")(film)
    x = layers.Add()([x, layers.Conv2D(3, 8)(film)])  # one cell to all
    network = keras.Model(film, layers.Dense(2, name="logits")(layers.Flatten()(x)))
    films = noise(2, 8, 8, 2)
    assert write_graph(network, bundle, films, by_keras(network, films)) is None
    assert "Sum of unlike shapes has no rule" in caplog.text


def test_an_operation_without_a_rule_is_named(shipped, monkeypatch):
    monkeypatch.delitem(ways_back._RULES, "Relu")
    graph = load_graph(shipped / MODEL)
    assert graph is not None
    with pytest.raises(ModelError, match="Relu has no rule"):
        graph.gradients("film", noise(1, 160, 160, 1), np.ones((1, 1), np.float32))


@pytest.mark.slow
def test_without_its_graph_a_model_answers_the_same(shipped, phantom_film):
    film = prepare(phantom_film, load_card(MODEL, shipped).preprocessing)
    light = load_classifier(MODEL, shipped).predict(film)
    flip(shipped / MODEL / GRAPH)
    heavy = load_classifier(MODEL, shipped).predict(film)
    for one, other in zip(light.labels, heavy.labels, strict=True):
        assert one.logit == pytest.approx(other.logit, abs=SAME_LOGITS)
        assert (one.flag, one.operating_point) == (other.flag, other.operating_point)
    assert_allclose(light.features, heavy.features, atol=SAME_LOGITS)


@pytest.mark.slow
def test_weights_that_were_replaced_in_use_explain_nothing(shipped, phantom_film):
    """A map of other weights than those that answered would be a map of nothing."""
    model = load_classifier(MODEL, shipped)
    film = prepare(phantom_film, model.card.preprocessing).pixels[None]
    before = model.input_gradients(film, np.ones(1, np.float32))[1]
    shutil.copy(
        ROOT / "models" / "covid-radiography" / "model.keras", shipped / MODEL / "model.keras"
    )
    assert model.forward(film)[0].shape == (1, 1)
    assert_array_equal(model.input_gradients(film, np.ones(1, np.float32))[1], before)
    with pytest.raises(ModelError, match=r"'model\.keras' of .* was replaced after"):
        assert model.network


@pytest.mark.slow
def test_a_graph_can_be_written_anew(shipped):
    """As docs/performance.md tells those whose bundles are older than graphs."""
    folder = shipped / MODEL
    before = (folder / GRAPH).read_bytes()
    for name in (GRAPH, RECORD):
        (folder / name).unlink()
    with_graph(load_classifier(MODEL, shipped), folder)
    assert (folder / GRAPH).read_bytes() == before
    assert load_graph(folder) is not None


def test_shipped_graphs_are_small_and_whole():
    assert {MODEL, "gate"} <= set(WITH_GRAPH)
    paths = [ROOT / "models" / name / GRAPH for name in WITH_GRAPH]
    assert sum(path.stat().st_size for path in paths) < 25e6
    assert all(load_graph(path.parent) is not None for path in paths)


@pytest.fixture(scope="module")
def films(data: Path) -> list[Radiograph]:
    """200 films of the pediatric test split, evenly spaced."""
    files = load_predictions(MODEL).files
    rows = np.linspace(0, len(files) - 1, FILMS).round().astype(int)
    return [load_radiograph(data / "pediatric_pneumonia" / files[row]) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_GRAPH)
def test_both_ways_say_the_same_of_200_films(name, films):
    kind = "classifier" if name in {card.name for card in list_models()} else "gate"
    light = load_classifier(name, kind=kind)
    heavy = Classifier(light.card, light.network)
    for start in range(0, FILMS, 20):
        chunk = films[start : start + 20]
        pixels = np.stack([prepare(film, light.card.preprocessing).pixels for film in chunk])
        (logits, features), (expected, maps) = light.forward(pixels), heavy.forward(pixels)
        assert_allclose(logits, expected, rtol=0, atol=SAME_LOGITS)
        # Where maps reach 6, float32 itself leaves 1e-4 between two orders of summing.
        assert_allclose(features, maps, rtol=0, atol=SAME_LOGITS * max(1, maps.max()))


# --- and without TensorFlow ---


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter; it ends by naming the slow packages it loaded."""
    script = f"""
import sys
sys.argv = {["cxr_core", *arguments]!r}
{code}
slow = ("tensorflow", "keras", "onnx", "onnxruntime")
print("loaded:", *(name for name in slow if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


def loaded(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(done.stderr.rpartition("loaded:")[2].split())


COMMAND = """
from cxr_core.__main__ import main
assert main(sys.argv[1:]) == 0
"""


@pytest.fixture
def film_file(tmp_path: Path, phantom_film: Radiograph) -> Path:
    path = tmp_path / "film.png"
    Image.fromarray((phantom_film.pixels * 255).astype(np.uint8)).save(path)
    return path


def test_predict_imports_neither_tensorflow_nor_keras(film_file, monkeypatch, shipped):
    monkeypatch.setenv("CXR_MODELS", str(shipped))
    answers = []
    for damaged in (False, True):
        if damaged:
            (shipped / MODEL / GRAPH).unlink()
        done = run(COMMAND, "predict", "--model", MODEL, "--json", str(film_file))
        assert loaded(done) == ({"onnxruntime"} | ({"tensorflow", "keras"} if damaged else set()))
        assert ("is not used" in done.stderr) == damaged
        answers.append(json.loads(done.stdout))
    light, heavy = answers
    assert light["ok"] and len(light["predictions"]) == 1
    for answer in light["predictions"], heavy["predictions"]:
        answer[0]["probability"] = pytest.approx(answer[0]["probability"], abs=1e-5)
    assert light == heavy


def test_screening_imports_neither_tensorflow_nor_keras(film_file):
    code = f"""
from cxr_core.classifier import load_classifier
from cxr_core.screening import screen
(answer,) = screen(load_classifier({MODEL!r}), [sys.argv[1]])
assert answer.gate is not None and answer.error is None
"""
    assert loaded(run(code, str(film_file))) == {"onnxruntime"}


def test_the_app_answers_points_and_checks_its_maps_without_keras(film_file):
    code = """
from pathlib import Path
from cxr_core.images import load_radiograph
from cxr_core.ui import session
card = session.for_reading()[0]
film = load_radiograph(Path(sys.argv[1]))
reading = session.answered(film, card)
assert session.warm_up(card) and session.explains(card)
assert 0 < reading.prediction.labels[0].probability < 1
asked = session.Explained(card.labels[0], "grad-cam")
assert session.attribution(reading, card, asked).values.shape == (10, 10)
from cxr_core.attribution import examine
session.prepare_to_explain(card)
model = session.classifier(card)
found = session.attribution(reading, card, session.Explained(card.labels[0], "xrai"))
told = examine(model, reading.model_input, film.pixels, found)
assert told.stability is not None
"""
    assert loaded(run(code, str(film_file))) == {"onnx", "onnxruntime"}


def test_outlines_of_an_archive_need_neither_tensorflow_nor_keras(film_file):
    code = f"""
from cxr_core.classifier import load_classifier
from cxr_core.screening import screen
(answer,) = screen(load_classifier({MODEL!r}), [sys.argv[1]], contours=True)
assert answer.contours is not None
"""
    assert loaded(run(code, str(film_file))) <= {"onnx", "onnxruntime"}
