"""Attributions on functions whose gradients are known by hand, and against tf-keras-vis."""

from dataclasses import replace

import numpy as np
import pytest
from bundles import CARD
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.testing import assert_allclose
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import adjusted_rand_score

from cxr_core.attribution import (
    class_activation,
    class_activations,
    explain,
    gauss_legendre,
    get_method,
    integrate,
    list_methods,
    load_mean_film,
    occluded,
    register_method,
)
from cxr_core.attribution.activation import cell_activation, grad_cam, rising_activation
from cxr_core.attribution.gradients import smooth
from cxr_core.attribution.perturbation import varied_channels
from cxr_core.attribution.regions import masks_of, ranked
from cxr_core.attribution.segments import felzenszwalb
from cxr_core.calibration import Calibration
from cxr_core.classifier import Classifier
from cxr_core.errors import ArgumentError, ModelError, UnknownName
from cxr_core.export import export_explanation
from cxr_core.phantom import png_bytes
from cxr_core.preprocess import ModelInput, Placement, Preprocessing, prepare, restore


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


# --- networks made by hand ---

SIZE = 16


def made_classifier(kernel, channels=1, activation="sigmoid"):
    """A linear network: logit k is the sum of a film's pixels times kernel[..., k]."""
    import keras

    film = keras.Input((SIZE, SIZE, channels), name="film")
    features = keras.layers.Activation("linear", name="features")(film)
    logits = keras.layers.Dense(kernel.shape[-1], name="logits")(keras.layers.Flatten()(features))
    network = keras.Model(film, logits)
    network.get_layer("logits").set_weights(
        [kernel.reshape(-1, kernel.shape[-1]), np.zeros(kernel.shape[-1])]
    )
    labels = tuple("ABC"[: kernel.shape[-1]])
    card = replace(
        CARD,
        labels=labels,
        activation=activation,
        calibration=Calibration(),
        preprocessing=Preprocessing(size=SIZE, channels=channels, standardise=False),
        operating_points=(None,) * len(labels),
        cannot_tell=(None,) * len(labels),
    )
    return Classifier(card, network)


def an_input(pixels, black=0.0):
    whole = Placement(SIZE, SIZE, SIZE, 0, 0, SIZE, SIZE)
    return ModelInput(np.asarray(pixels, np.float32), whole, black)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def linear():
    """A random kernel (16, 16, 1, 2), its classifier of two labels, and a film."""
    kernel = normal(SIZE, SIZE, 1, 2)
    return kernel, made_classifier(kernel), an_input(normal(SIZE, SIZE, 1, seed=1), black=-0.5)


# --- class activation maps ---


def test_grad_cam_plus_plus_by_hand():
    """One channel is 1 twice, its gradients 1 and 2: shares 1/4 and 1/6, scaled 0.6 and 0.4: 1.4.

    Of the other only one cell rises, by 3: weight 3, whatever its falling gradients.
    """
    features = np.array([[[1, 5], [1, 2]]], np.float32)
    gradient = np.array([[[1, -9], [2, 3]]], np.float32)
    assert_allclose(rising_activation(features, gradient), [[1.4 + 3 * 5, 1.4 + 3 * 2]], rtol=1e-6)


def test_channels_that_only_speak_against_weigh_nothing():
    features = np.array([[[1, 5], [1, 2]]], np.float32)
    assert not rising_activation(features, -np.ones_like(features)).any()
    assert not cell_activation(features, -np.ones_like(features)).any()


def test_layer_cam_by_hand():
    """Only rising gradients count: 2 * 3 and 1 * 4 + 5 * 1."""
    features = np.array([[[3, 1], [1, 5]]], np.float32)
    gradient = np.array([[[2, -4], [4, 1]]], np.float32)
    assert cell_activation(features, gradient).tolist() == [[6, 9]]


def test_under_an_averaging_head_weights_are_clipped_gradients():
    features, slope = np.abs(normal(4, 5, 3)), np.array([2, -1, 0.5], np.float32)
    gradient = np.broadcast_to(slope / 20, features.shape)
    wanted = features @ np.maximum(slope, 0) / 20
    assert_allclose(rising_activation(features, gradient), wanted, rtol=1e-5)
    assert_allclose(cell_activation(features, gradient), wanted, rtol=1e-5)


def test_all_labels_class_activations_come_from_one_pass(monkeypatch):
    classifier = made_classifier(normal(SIZE, SIZE, 3, 3), channels=3)
    film = an_input(normal(SIZE, SIZE, 3, seed=2))
    features = classifier.predict(film).features
    each = {
        (label, absence): explain(classifier, film, label, "grad-cam", absence=absence).values
        for label in "ABC"
        for absence in (False, True)
    }
    passes = []
    plain = classifier.feature_gradients
    monkeypatch.setattr(
        classifier, "feature_gradients", lambda *args: passes.append(args) or plain(*args)
    )
    monkeypatch.setattr(classifier, "forward", None)
    maps = class_activations(classifier, features)
    assert list(maps) == ["A", "B", "C"] and len(passes) == 1
    for label, values in maps.items():
        assert_allclose(values, each[label, False], atol=1e-6)
    against = class_activations(classifier, features, ["C"], absence=True)
    assert list(against) == ["C"]
    assert_allclose(against["C"], each["C", True], atol=1e-6)
    assert class_activations(classifier, features, []) == {}
    with pytest.raises(UnknownName, match="Known: A, B, C"):
        class_activations(classifier, features, ["D"])


# --- methods that try things out ---


def test_the_most_varied_channels_are_scaled():
    features = np.zeros((2, 2, 4), np.float32)
    features[0, 0] = (4, 0, 1, -6)  # spreads 4, none, 1, 6
    chosen = varied_channels(features, most=3)
    assert chosen.shape == (3, 2, 2), "a channel without variance is no mask"
    assert chosen[0].tolist() == [[0, 1], [1, 1]]
    assert chosen[1].tolist() == chosen[2].tolist() == [[1, 0], [0, 0]]


def test_score_cam_by_hand():
    """Each channel lights one quadrant; the one label likes the first and dislikes the second."""
    pixels = np.zeros((SIZE, SIZE, 3), np.float32)
    pixels[:8, :8, 0] = pixels[:8, 8:, 1] = 1
    kernel = np.zeros((SIZE, SIZE, 3, 1), np.float32)
    kernel[..., 0, 0], kernel[..., 1, 0] = 1 / 64, -1 / 64
    told = explain(made_classifier(kernel, 3), an_input(pixels), "A", "score-cam").values
    # Grey is 128 / 768 = 1/6. Through a channel's own mask 64 of 256 pixels are the film's: the
    # first channel's mask shows 64 ones (and 64 zeros of the second), the second's the reverse.
    first = ((64 + 192 / 6) - 192 / 6) / 64
    weights = np.exp([first, -first])
    weights /= weights.sum()
    wanted = np.zeros((SIZE, SIZE))
    wanted[:8, :8], wanted[:8, 8:] = weights
    assert_allclose(told, wanted, atol=1e-5)
    assert weights[0] > 0.8, "softmax over outputs would make these equal"


def test_occlusion_of_a_linear_network(linear):
    """Covering takes kernel x (film - grey) away. Patches are 3 wide; 11 places share 0 to 13:
    0, 1, 3, 4, 5, 6, 8, 9, 10, 12, 13.
    """
    kernel, classifier, film = linear
    told = explain(classifier, film, "B", "occlusion").values
    lost = kernel[..., 0, 1] * (film.pixels[..., 0] - film.pixels.mean())
    assert told[0, 0] == pytest.approx(lost[:3, :3].sum(), abs=1e-4)
    assert told[15, 15] == pytest.approx(lost[13:, 13:].sum(), abs=1e-4)
    falls = [lost[y : y + 3, x : x + 3].sum() for y in (5, 6) for x in (8, 9, 10)]
    assert told[7, 10] == pytest.approx(np.mean(falls), abs=1e-4)


def test_occlusion_tells_for_from_against():
    """Two patches of a film decide, one each way; what no patch on them covers means nothing."""
    kernel = np.zeros((SIZE, SIZE, 1, 1), np.float32)
    kernel[3:6, 3:6], kernel[10:13, 10:13] = 1, -2
    pixels = np.zeros((SIZE, SIZE, 1), np.float32)
    pixels[3:6, 3:6] = pixels[10:13, 10:13] = 1
    told = explain(made_classifier(kernel), an_input(pixels), "A", "occlusion").values
    assert np.unravel_index(told.argmax(), told.shape) == (4, 4)
    assert np.unravel_index(told.argmin(), told.shape) == (11, 11)
    assert told.min() == pytest.approx(-2 * told.max(), rel=1e-5)
    assert not told[:, 15].any() and not told[0, 12]


def test_a_box_of_the_film_is_greyed_out():
    pixels = normal(SIZE, SIZE, 1)
    film = ModelInput(pixels, Placement(80, 40, SIZE, 0, 4, SIZE, 8), -1.0)
    without = occluded(film, (0.5, 0.25, 1, 0.5))
    assert_allclose(without.pixels[4:8, 8:12], pixels.mean(), rtol=1e-4)
    kept = np.ones((SIZE, SIZE), bool)
    kept[4:8, 8:12] = False
    assert (without.pixels[kept] == pixels[kept]).all()
    assert (without.placement, without.black) == (film.placement, -1.0)


@pytest.mark.parametrize("box", [(0.5, 0, 0.5, 1), (-0.1, 0, 1, 1), (0, 0.2, 1, 1.1)])
def test_a_box_beyond_the_film_is_refused(box):
    with pytest.raises(ArgumentError, match="within the film"):
        occluded(an_input(normal(SIZE, SIZE, 1)), box)


# --- gradients ---


def test_integrated_gradients_of_a_linear_network(linear):
    """Exactly kernel x (film - baseline), from any baseline."""
    kernel, classifier, film = linear
    for baseline, start in (
        ("black", -0.5),
        ("blurred", gaussian_filter(film.pixels[..., 0], 1.6, mode="nearest")),
    ):
        told = explain(classifier, film, "A", "integrated-gradients", baseline=baseline)
        assert_allclose(told.values, kernel[..., 0, 0] * (film.pixels[..., 0] - start), atol=1e-5)
        assert told.baseline == baseline and told.nodes == 16


def test_the_mean_film_is_read_as_any_film_is(linear, tmp_path, monkeypatch):
    kernel, classifier, film = linear
    folder = tmp_path / classifier.card.name
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    grey = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE)).astype(np.uint8)
    Image.fromarray(grey).save(folder / "mean_film.png")
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    told = explain(classifier, film, "A", "integrated-gradients", baseline="mean")
    wanted = kernel[..., 0, 0] * (film.pixels[..., 0] - grey / 255)
    assert_allclose(told.values, wanted, atol=1e-5)
    standard = replace(classifier.card, preprocessing=Preprocessing(size=SIZE, channels=3))
    read = load_mean_film(standard, tmp_path)
    assert read.shape == (SIZE, SIZE, 3)
    assert_allclose(read[..., 2], (grey - grey.mean()) / grey.std(), rtol=1e-4, atol=1e-5)


def test_a_mean_film_that_cannot_be_used_is_told(linear, tmp_path, monkeypatch):
    _, classifier, film = linear
    folder = tmp_path / classifier.card.name
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    with pytest.raises(ArgumentError, match="cxr_core faithfulness --model made --data FOLDER"):
        explain(classifier, film, "A", "integrated-gradients", baseline="mean")
    Image.new("L", (8, 9)).save(folder / "mean_film.png")
    with pytest.raises(ModelError, match="16 x 16 pixels, but it is of mode L and 8 x 9"):
        load_mean_film(classifier.card, tmp_path)
    Image.new("RGB", (SIZE, SIZE)).save(folder / "mean_film.png")
    with pytest.raises(ModelError, match="mode RGB"):
        load_mean_film(classifier.card, tmp_path)
    (folder / "mean_film.png").write_bytes(b"no picture")
    with pytest.raises(ModelError, match="cannot be read"):
        load_mean_film(classifier.card, tmp_path)


def test_an_unknown_baseline_is_told(linear):
    _, classifier, film = linear
    with pytest.raises(ArgumentError, match="'black', 'blurred' or 'mean', but 'white' came"):
        explain(classifier, film, "A", "integrated-gradients", baseline="white")


def test_smoothgrad_of_a_linear_network_is_the_size_of_its_kernel():
    """The same at every noisy copy; a grey pixel moves all three channels at once."""
    kernel = normal(SIZE, SIZE, 3, 1)
    film = an_input(normal(SIZE, SIZE, 3, seed=5))
    told = explain(made_classifier(kernel, 3), film, "A", "smoothgrad").values
    assert_allclose(told, np.abs(kernel[..., 0].sum(axis=2)), atol=1e-5)


def test_the_noise_of_smoothgrad_is_a_share_of_the_films_range():
    """The mean gradient of x^2 is 2x, and the copies spread by 0.1 x 40 about x."""
    copies = []

    def square(points):
        copies.append(points)
        return (points**2).sum(axis=1), 2 * points

    film = np.linspace(-10, 30, 2000)
    told = smooth(square, film, samples=20)
    seen = np.concatenate(copies)
    assert [len(part) for part in copies] == [8, 8, 4]
    assert_allclose((seen - film).std(), 4, rtol=0.02)
    assert_allclose(told, 2 * seen.mean(axis=0))
    assert_allclose(smooth(square, film, samples=1, noise=0), 2 * film)


# --- regions ---


def test_what_differs_sharply_is_never_one_segment():
    film = np.full((40, 40), -1.0)
    film[10:25, 8:30] = 1
    (labels,) = felzenszwalb(film, (1.0,), 40)
    inside, about = labels[13:22, 11:27], np.delete(labels, slice(7, 28), axis=0)
    assert (inside == inside[0, 0]).all() and (about == about[0, 0]).all()
    assert inside[0, 0] != about[0, 0]
    assert labels.max() + 1 == len(np.unique(labels))


def test_small_segments_join_their_neighbours():
    film = np.random.default_rng(0).random((30, 30))
    small, large = felzenszwalb(film, (0.001, 0.5), 20)
    assert np.bincount(small.ravel()).min() >= 20
    assert small.max() > large.max()


def test_masks_are_widened_by_a_disk():
    labels = np.zeros((9, 9), np.int64)
    labels[4, 4] = 1
    around, spot = masks_of([labels], widened=2)
    y, x = np.ogrid[-4:5, -4:5]
    assert (spot == (x**2 + y**2 <= 4)).all()
    assert around.all()


def literally_ranked(attribution, masks, news):
    """Algorithm 1 of the paper, written as it reads."""
    values, taken, left = np.zeros(attribution.shape), np.zeros(attribution.shape, bool), [*masks]
    while left := [mask for mask in left if (mask & ~taken).sum() >= news]:
        best = max(left, key=lambda mask: attribution[mask & ~taken].mean())
        new = best & ~taken
        values[new] = attribution[new].mean()
        taken |= new
    if not taken.all():
        values[~taken] = attribution[~taken].mean()
    return values


@given(some.integers(0, 2**32 - 1), some.integers(1, 12), some.integers(1, 9))
@settings(deadline=None)
def test_regions_are_ranked_as_the_paper_says(seed, regions, news):
    random = np.random.default_rng(seed)
    attribution = random.normal(size=(9, 8))
    masks = random.random((regions, 9, 8)) < random.random((regions, 1, 1))
    told = ranked(attribution, masks, news)
    assert_allclose(told, literally_ranked(attribution, masks, news), atol=1e-9)
    assert told.sum() == pytest.approx(attribution.sum(), abs=1e-9)


def test_xrai_ranks_the_planted_square_first():
    kernel = np.zeros((SIZE, SIZE, 1, 2), np.float32)
    kernel[4:9, 5:10, 0, 0], kernel[4:9, 5:10, 0, 1] = 1, -1
    pixels = np.zeros((SIZE, SIZE, 1), np.float32)
    pixels[4:9, 5:10] = 3
    pixels[12:] = 2  # another region, of which the network knows nothing
    classifier = made_classifier(kernel)
    for_a, for_b = (explain(classifier, an_input(pixels), label, "xrai").values for label in "AB")
    assert for_a[5:8, 6:9].min() == for_a.max() > 0
    assert for_a[13:].max() < 0.2 * for_a.max()
    assert for_b[5:8, 6:9].max() == for_b.min() < 0


def test_xrai_of_a_flat_film_is_flat(linear):
    _, classifier, _ = linear
    told = explain(classifier, an_input(np.full((SIZE, SIZE, 1), 0.3)), "A", "xrai").values
    assert np.ptp(told) == 0


@pytest.mark.slow
def test_regions_and_ranks_agree_with_pair(phantom_film):
    """The same masks give the same map, and the same film nearly the same regions."""
    from saliency.core.xrai import XRAI
    from skimage.segmentation import felzenszwalb as theirs_of

    film = prepare(phantom_film, Preprocessing(size=64)).pixels[..., 0]
    attribution = normal(64, 64)
    (ours,) = felzenszwalb(film, (1.0,), 20)
    theirs = theirs_of(film, scale=255, sigma=0.8, min_size=20)
    assert adjusted_rand_score(ours.ravel(), theirs.ravel()) > 0.95
    masks = masks_of([ours], 2)
    wanted, _ = XRAI._xrai(attribution, list(masks), min_pixel_diff=12)
    assert_allclose(ranked(attribution, masks, 12), wanted, atol=1e-6)


# --- what holds for every method ---

each_method = pytest.mark.parametrize("method", list_methods())
MINUS = ("integrated-gradients", "occlusion")
PASSES = [name for name in list_methods() if get_method(name).cost > 1]


@pytest.fixture(scope="module", params=["sigmoid", "softmax"])
def bent(request):
    """A small convolutional network of three labels, a film, and how its card reads logits."""
    import keras

    keras.utils.set_random_seed(3)
    film = keras.Input((SIZE, SIZE, 1), name="film")
    features = keras.layers.Conv2D(6, 3, 2, "same", activation="relu", name="features")(film)
    dense = keras.layers.Dense(5, activation="tanh")(keras.layers.Flatten()(features))
    network = keras.Model(film, keras.layers.Dense(3, name="logits")(dense))
    card = made_classifier(np.zeros((SIZE, SIZE, 1, 3)), activation=request.param).card
    return Classifier(card, network), an_input(normal(SIZE, SIZE, 1, seed=7), black=-1.0)


@each_method
def test_every_method_explains_each_of_several_labels(bent, method):
    classifier, film = bent
    told = {label: explain(classifier, film, label, method) for label in "ABC"}
    for label, each in told.items():
        assert (each.label, each.method, each.absence) == (label, method, False)
        assert each.signed == get_method(method).signed
        assert each.values.dtype == np.float32 and np.isfinite(each.values).all()
        assert each.signed or each.values.min() >= 0
    assert not np.allclose(told["A"].values, told["B"].values)


@each_method
def test_the_same_film_gives_the_same_map(bent, method):
    classifier, film = bent
    before = film.pixels.copy()
    one, other = (explain(classifier, film, "B", method).values for _ in range(2))
    assert (one == other).all()
    assert (film.pixels == before).all()


@each_method
def test_an_absence_is_explained_by_the_negated_logit(bent, method):
    classifier, film = bent
    there = explain(classifier, film, "C", method)
    absent = explain(classifier, film, "C", method, absence=True)
    assert absent.absence and absent.signed == there.signed
    if method in MINUS:
        assert_allclose(absent.values, -there.values, atol=1e-6)
    elif method == "smoothgrad":
        assert_allclose(absent.values, there.values, atol=1e-6)
    else:
        assert not np.allclose(absent.values, there.values)


def test_label_and_absence_share_the_activation_map_between_them(bent):
    """Their clipped halves put together are the map before it is clipped."""
    classifier, film = bent
    features = classifier.predict(film).features
    gradient = classifier.feature_gradients(features, np.eye(3, dtype=np.float32)[:1])[0]
    halves = [
        explain(classifier, film, "A", "grad-cam", absence=absence).values
        for absence in (False, True)
    ]
    assert_allclose(halves[0] - halves[1], features @ gradient.mean(axis=(0, 1)), atol=1e-6)


@pytest.mark.parametrize("method", PASSES)
def test_long_methods_tell_how_far_they_are(bent, method):
    classifier, film = bent
    seen = []
    explain(classifier, film, "A", method, progress=lambda *told: seen.append(told))
    shares = [done / total for done, total in seen]
    assert shares == sorted(set(shares)), "never back"
    assert 0 < shares[0] and shares[-1] == 1
    totals = {total for _, total in seen}
    assert len(totals) == 1 or method in ("integrated-gradients", "xrai"), "known beforehand"


def test_integrated_gradients_plan_only_what_they_need():
    """A bend that 16 nodes miss: 8 more are planned each time, and none after the last."""
    seen = []

    def hinge(points):
        bent = np.maximum(points[:, 0] - 0.37, 0)
        return 9 * bent, 9 * (points > 0.37).astype(float)

    found = integrate(hinge, np.ones(1), np.zeros(1), progress=lambda *told: seen.append(told))

    assert seen[0] == (16, 24) and len(seen) > 1
    assert seen == [(16 + 8 * k, 24 + 8 * k) for k in range(len(seen) - 1)] + [(found.nodes,) * 2]
    assert found.relative_gap < 0.01


@pytest.mark.parametrize("method", PASSES)
def test_what_progress_raises_stops_the_work(bent, method, monkeypatch):
    classifier, film = bent
    explain(classifier, film, "A", method)  # the features, too, are at hand
    passes = []

    def counted(function):
        return lambda *args: passes.append(len(args[0])) or function(*args)

    for name in ("forward", "input_gradients"):
        monkeypatch.setattr(classifier, name, counted(getattr(classifier, name)))
    features = np.ones((2, 2, 3), np.float32) * np.arange(12).reshape(2, 2, 3)

    def stop(done, total):
        raise TimeoutError("the reader moved on")

    with pytest.raises(TimeoutError, match="moved on"):
        explain(classifier, film, "A", method, features=features, progress=stop)
    assert sum(passes) <= 17, "one batch, or one look at the path, and no more"


def test_each_pass_is_traced_once(bent):
    classifier, film = bent
    classifier.predict_batch([film] * 5)
    for method in list_methods():
        for label in "AB":
            explain(classifier, film, label, method)
    keras = classifier._differentiable()
    traced = (keras._forward, keras._input_gradient, keras._feature_gradient)
    assert [function.experimental_get_tracing_count() for function in traced] == [1, 1, 1]


@pytest.mark.slow
def test_a_picture_can_be_of_an_absence_and_from_another_baseline(
    tiny_classifier, phantom_film, tmp_path
):
    film = tmp_path / "film.png"
    film.write_bytes(png_bytes(phantom_film))
    asked = ("Pneumonia", "integrated-gradients")
    told = export_explanation(
        tiny_classifier, film, *asked, tmp_path / "map.png", absence=True, baseline="blurred"
    )
    model_input = prepare(phantom_film, tiny_classifier.card.preprocessing)
    values = explain(tiny_classifier, model_input, *asked, absence=True, baseline="blurred")
    on_film = restore(values.values, model_input.placement)
    x, y = told["peak"]
    assert on_film[y, x] == pytest.approx(on_film.max(), abs=1e-5)
    assert told["completeness_gap"] == pytest.approx(values.completeness_gap, abs=1e-3)
    assert (told["absence"], told["baseline"]) == (True, "blurred")
    plain = export_explanation(tiny_classifier, film, "Pneumonia", "grad-cam", tmp_path / "b.png")
    assert (plain["absence"], plain["baseline"]) == (False, None)
    assert (tmp_path / "map.png").stat().st_size > 1000


# --- beside tf-keras-vis ---


def library(classifier, film, explainer):
    """Run one of tf-keras-vis's class activation maps as ours are: not enlarged, not scaled."""
    from tf_keras_vis.utils.scores import CategoricalScore

    told = explainer(classifier.network, clone=False)(
        CategoricalScore(0),
        film.pixels[None],
        penultimate_layer="features",
        seek_penultimate_conv_layer=False,
        expand_cam=False,
        normalize_cam=False,
    )
    return np.asarray(told)


@pytest.mark.slow
def test_grad_cam_plus_plus_agrees_with_tf_keras_vis(tiny_classifier, phantom_film):
    """Up to the factor exp(logit), which ours leaves out."""
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus

    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    ours = explain(tiny_classifier, film, "Pneumonia", "grad-cam++").values
    logit = tiny_classifier.predict(film).labels[0].logit
    theirs = library(tiny_classifier, film, GradcamPlusPlus).reshape(ours.shape) / np.exp(logit)
    assert ours.max() > 0, "a flat map would agree with anything"
    assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * ours.max())


@pytest.mark.slow
def test_layer_cam_agrees_with_tf_keras_vis(tiny_classifier, phantom_film):
    from tf_keras_vis.layercam import Layercam

    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    ours = explain(tiny_classifier, film, "Pneumonia", "layer-cam").values
    theirs = library(tiny_classifier, film, Layercam).reshape(ours.shape)
    assert ours.max() > 0, "a flat map would agree with anything"
    assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * ours.max())


@pytest.mark.slow
def test_smoothgrad_without_noise_is_the_saliency_of_tf_keras_vis(tiny_classifier, phantom_film):
    import keras
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.scores import CategoricalScore

    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    direction = np.ones(1, np.float32)
    ours = smooth(
        lambda points: tiny_classifier.input_gradients(points.astype(np.float32), direction),
        film.pixels,
        samples=1,
        noise=0,
    )
    network = tiny_classifier.network
    listed = keras.Model([network.input], network.output)  # it hands films over in a list
    theirs = Saliency(listed, clone=False)(
        CategoricalScore(0), film.pixels[None], keepdims=True, normalize_map=False
    )
    assert np.ptp(ours) > 0
    # Theirs are absolute values, and so averaged over noisy films: ours are averaged first.
    assert_allclose(np.abs(ours), theirs[0], rtol=1e-3, atol=1e-4 * np.abs(ours).max())
