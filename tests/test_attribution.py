"""Attributions on functions whose gradients are known by hand, and against tf-keras-vis."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cxr_core.attribution import (
    class_activation,
    explain,
    gauss_legendre,
    integrate,
    list_methods,
    register_method,
)
from cxr_core.attribution.activation import grad_cam
from cxr_core.errors import ArgumentError, UnknownName
from cxr_core.preprocess import prepare


def function(points):
    """5x + y^2 + sin z, and its gradient."""
    x, y, z = points.T
    return 5 * x + y**2 + np.sin(z), np.stack([np.full(len(x), 5.0), 2 * y, np.cos(z)], axis=1)


@pytest.mark.parametrize("nodes", [1, 2, 8, 32, 256])
def test_weights_sum_to_one(nodes):
    positions, weights = gauss_legendre(nodes)
    assert abs(weights.sum() - 1) < 1e-12
    assert 0 < positions.min() and positions.max() < 1


def test_integrated_gradients_is_complete():
    film, baseline = np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 0.0])
    told = integrate(function, film, baseline, nodes=10)
    assert abs(told.gap) < 1e-9
    assert told.nodes == 10
    assert_allclose(told.values, [2.5, 3.0, np.sin(3.0)], atol=1e-9)


def steep(points):
    """A step that few nodes cannot see."""
    place = 40 * (points[:, 0] - 0.3)
    return np.tanh(place), (40 / np.cosh(place) ** 2)[:, None]


def test_nodes_are_added_in_batches_until_the_gap_is_below_one_percent():
    calls = []

    def counted(points):
        calls.append(len(points))
        return steep(points)

    told = integrate(counted, np.ones(1), np.zeros(1), nodes=6, added=4)
    assert calls == [6, *[4] * (len(calls) - 1)] and len(calls) > 1
    assert told.nodes == sum(calls) < 256
    assert told.relative_gap < 0.01
    assert_allclose(told.values.sum() + told.gap, 2, atol=1e-3)


def test_the_most_nodes_allowed_end_it_and_the_gap_is_told():
    told = integrate(steep, np.ones(1), np.zeros(1), nodes=4, most=7, added=2)
    assert told.nodes == 7
    assert told.relative_gap > 0.01
    assert_allclose(told.values.sum() + told.gap, 2, atol=1e-3)


def test_nodes_go_where_the_function_bends():
    """Around 0.3, not spread evenly."""
    seen = []

    def watched(points):
        seen.extend(points[:, 0])
        return steep(points)

    integrate(watched, np.ones(1), np.zeros(1), nodes=10, added=3)
    added = np.array(seen[10:])
    assert len(added)
    assert (np.abs(added - 0.3) < 0.2).mean() > 0.7


def test_a_film_equal_to_its_baseline_explains_nothing():
    film = np.array([1.0, 2.0, 3.0])
    told = integrate(function, film, film)
    assert not told.values.any()
    assert told.relative_gap == 0


def test_class_activation_by_hand():
    """Weights are the mean gradients 1 and -2: relu(1 * a - 2 * b)."""
    features = np.array([[[3, 1], [1, 1]], [[0, 0], [5, 2]]], np.float32)
    gradient = np.zeros((2, 2, 2), np.float32)
    gradient[0, 0] = (4, -8)
    assert class_activation(features, gradient).tolist() == [[1, 0], [0, 1]]


@pytest.mark.slow
@pytest.mark.parametrize("method", list_methods())
def test_every_method_explains_a_real_network(tiny_classifier, phantom_film, method):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    told = explain(tiny_classifier, film, "Pneumonia", method)
    assert told.method == method
    assert told.values.dtype == np.float32 and told.values.ndim == 2
    assert np.isfinite(told.values).all()
    assert told.signed or told.values.min() >= 0


@pytest.mark.slow
def test_integrated_gradients_of_a_network_is_complete(tiny_classifier, phantom_film):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    told = explain(tiny_classifier, film, "Pneumonia", "integrated-gradients")
    black = np.full_like(film.pixels, film.black)
    logits = tiny_classifier.forward(np.stack([film.pixels, black]))[0][:, 0]
    difference = float(logits[0] - logits[1])
    assert_allclose(
        told.values.sum(dtype=np.float64), difference - told.completeness_gap, atol=1e-4
    )
    assert told.relative_gap == pytest.approx(
        abs(told.completeness_gap) / max(abs(difference), 1), rel=1e-3
    )
    assert told.relative_gap < 0.01


@pytest.mark.slow
def test_grad_cam_from_the_predictions_features_is_the_same(tiny_classifier, phantom_film):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    prediction = tiny_classifier.predict(film)
    again = explain(tiny_classifier, film, "Pneumonia", "grad-cam")
    free = explain(tiny_classifier, film, "Pneumonia", "grad-cam", features=prediction.features)
    assert_allclose(free.values, again.values, atol=1e-6)


@pytest.mark.slow
def test_grad_cam_agrees_with_tf_keras_vis(tiny_classifier, phantom_film):
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    ours = explain(tiny_classifier, film, "Pneumonia", "grad-cam").values
    theirs = Gradcam(tiny_classifier.network, clone=False)(
        CategoricalScore(0),
        film.pixels[None],
        penultimate_layer="features",
        seek_penultimate_conv_layer=False,
        expand_cam=False,
        normalize_cam=False,
    )
    theirs = np.asarray(theirs).reshape(ours.shape)
    assert ours.max() > 0, "a flat map would agree with anything"
    assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * ours.max())


@pytest.mark.slow
def test_unknown_names_are_told(tiny_classifier, phantom_film):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    with pytest.raises(UnknownName, match="Did you mean 'grad-cam'"):
        explain(tiny_classifier, film, "Pneumonia", "gradcam")
    with pytest.raises(UnknownName, match="Pneumonia"):
        explain(tiny_classifier, film, "Oedema", "grad-cam")


def test_method_names_are_unique():
    with pytest.raises(ArgumentError, match="already"):
        register_method(title="Again", signed=False, cost=1, shows="", hides="")(grad_cam)
