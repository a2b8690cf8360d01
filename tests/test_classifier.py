"""A bundle answers after loading what it answered before saving; nothing half-written shows."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cxr_core.cards import (
    ModelCard,
    damaged_models,
    list_models,
    load_card,
    load_evaluation,
    load_history,
    load_predictions,
)
from cxr_core.classifier import (
    Classifier,
    fold,
    load_classifier,
    round_weights,
    write_bundle,
)
from cxr_core.errors import ModelError, UnknownName
from cxr_core.networks import build_network, list_networks
from cxr_core.preprocess import prepare


def classifier(card, name="residual"):
    network = build_network(name, size=64, channels=1, outputs=len(card.labels))
    return Classifier(card, network)


def test_a_card_survives_json(made_card):
    assert ModelCard.from_json(json.loads(json.dumps(made_card.to_json()))) == made_card


def test_a_card_that_contradicts_itself_is_refused(made_card):
    with pytest.raises(ModelError, match="1 labels but 2 operating_points"):
        replace(made_card, operating_points=(0.1, 0.2))
    with pytest.raises(ModelError, match="another version: look at limits, typo"):
        values = made_card.to_json()
        values["typo"] = values.pop("limits")
        ModelCard.from_json(values)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_networks())
def test_saving_and_loading_gives_the_same_logits(name, made_card, tmp_path):
    card = replace(made_card, network=name)
    network = build_network(name, size=64, channels=1, outputs=1)
    round_weights(network)
    before = Classifier(card, network)
    after = write_bundle(card, network, tmp_path / "bundle")
    rng = np.random.default_rng(1)
    pixels = rng.standard_normal((3, 64, 64, 1)).astype(np.float32)
    reloaded = Classifier(card, after.network)
    for one, other in zip(before.forward(pixels), reloaded.forward(pixels), strict=True):
        assert_allclose(one, other, atol=1e-5)
    # What answers is the graph, where rounding differs.
    assert_allclose(before.forward(pixels)[0], after.forward(pixels)[0], atol=1e-4)
    assert after.card == card


@pytest.mark.slow
@pytest.mark.parametrize("name", list_networks())
def test_merging_normalisations_changes_no_answer(name):
    network = build_network(name, size=64, channels=1, outputs=2)
    rng = np.random.default_rng(2)
    # As after training: no normalisation is the identity it begins as.
    network.set_weights(
        [np.abs(value + 0.3 * rng.standard_normal(value.shape)) for value in network.get_weights()]
    )
    folded = fold(network)
    import keras

    normalised = any(isinstance(x, keras.layers.BatchNormalization) for x in network.layers)
    assert (folded.count_params() < network.count_params()) == normalised
    assert [layer.name for layer in folded.layers] == [layer.name for layer in network.layers]
    pixels = rng.standard_normal((3, 64, 64, 1)).astype(np.float32)
    expected = network.predict_on_batch(pixels)
    assert_allclose(folded.predict_on_batch(pixels), expected, rtol=1e-3)
    assert np.ptp(expected) > 0


@pytest.mark.slow
def test_rounded_weights_are_float16_values_and_deflate(made_card, tmp_path):
    network = classifier(made_card).network
    network.compile("adamw", "mse")
    network.train_on_batch(np.zeros((2, 64, 64, 1)), np.zeros((2, 1)))  # the optimiser has moments
    round_weights(network)
    for value in network.get_weights():
        assert_array_equal(value, value.astype(np.float16).astype(np.float32))
    write_bundle(made_card, network, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "model.keras").stat().st_size < 2.6 * network.count_params()


@pytest.mark.slow
def test_a_network_that_changes_on_saving_is_not_written_in_silence(
    made_card, tmp_path, monkeypatch
):
    import keras

    made = classifier(made_card).network
    other = classifier(made_card).network
    monkeypatch.setattr(keras.models, "load_model", lambda *args, **kwargs: other)
    with pytest.raises(ModelError, match="logits when saved"):
        write_bundle(made_card, made, tmp_path / "bundle")


@pytest.mark.slow
def test_a_network_of_another_shape_is_refused(made_card):
    import keras

    inputs = keras.Input((64, 64, 1))
    with pytest.raises(ModelError, match="'features' and 'logits'"):
        Classifier(made_card, keras.Model(inputs, keras.layers.Flatten()(inputs)))
    with pytest.raises(ModelError, match="1 outputs but 2 labels"):
        two = replace(
            made_card, labels=("A", "B"), operating_points=(0.5, 0.5), cannot_tell=(None, None)
        )
        Classifier(two, build_network("residual", size=64, channels=1, outputs=1))


@pytest.mark.slow
def test_answers_follow_the_card(made_card, phantom_film):
    """Probability = sigmoid(logit / 1.5); the flag, and the band, compare on that scale."""
    model = classifier(made_card)
    film = prepare(phantom_film, made_card.preprocessing)
    answer = model.predict(film).labels[0]
    assert answer.probability == pytest.approx(1 / (1 + np.exp(-answer.logit / 1.5)), abs=1e-6)
    for point, flag in ((answer.probability, True), (answer.probability + 1e-6, False)):
        card = replace(made_card, operating_points=(point,))
        assert Classifier(card, model.network).predict(film).labels[0].flag is flag
    for band, unsure in (
        ((0.0, 1.0), True),
        ((0.0, answer.probability - 1e-3), False),
        (None, False),
    ):
        card = replace(made_card, cannot_tell=(band,))
        assert Classifier(card, model.network).predict(film).labels[0].cannot_tell is unsure


@pytest.mark.slow
def test_softmax_flags_exactly_the_largest(made_card, phantom_film):
    from cxr_core.calibration import Calibration

    card = replace(
        made_card,
        labels=("A", "B", "C"),
        activation="softmax",
        operating_points=(None,) * 3,
        cannot_tell=(None,) * 3,
        calibration=Calibration(),
    )
    prediction = classifier(card).predict(prepare(phantom_film, card.preprocessing))
    chances = [answer.probability for answer in prediction.labels]
    assert sum(chances) == pytest.approx(1)
    assert [answer.flag for answer in prediction.labels] == [c == max(chances) for c in chances]
    assert prediction.label("B") is prediction.labels[1]
    with pytest.raises(UnknownName):
        prediction.label("D")


@pytest.mark.slow
def test_batches_answer_as_single_films_do(tiny_classifier, phantom_film):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    other = replace(film, pixels=-film.pixels)
    single = [tiny_classifier.predict(item).labels[0].logit for item in (film, other)]
    both = [p.labels[0].logit for p in tiny_classifier.predict_batch([film, other])]
    assert_allclose(single, both, atol=1e-4)


@pytest.mark.slow
def test_gradients_are_those_of_the_logit(tiny_classifier, phantom_film):
    """Against central differences, in the direction of the gradient itself."""
    film = prepare(phantom_film, tiny_classifier.card.preprocessing).pixels[None]
    value, gradient = tiny_classifier.input_gradients(film, np.ones(1, np.float32))
    step = 1e-2 * gradient / np.linalg.norm(gradient)
    up, down = (tiny_classifier.forward(film + sign * step)[0][0, 0] for sign in (1, -1))
    assert_allclose(value, tiny_classifier.forward(film)[0][:, 0], rtol=1e-4)
    assert_allclose((up - down) / 2e-2, np.linalg.norm(gradient), rtol=0.05)
    negative = tiny_classifier.input_gradients(film, -np.ones(1, np.float32))[1]
    assert_allclose(negative, -gradient, atol=1e-5)


@pytest.mark.slow
def test_a_trained_bundle_is_complete(tiny_models):
    assert [card.name for card in list_models(tiny_models)] == ["tiny"]
    card = load_card("tiny", tiny_models)
    report = load_evaluation("tiny", tiny_models)
    table = load_predictions("tiny", tiny_models)
    history = load_history("tiny", tiny_models)
    assert report.n == len(table.files) == card.training["test_films"]
    assert table.split == "test" and table.labels == card.labels
    assert len(history["loss"]) == card.training["epochs"] == 2
    assert report.label("Pneumonia").operating_point == card.operating_points[0]


def test_unknown_names_and_paths_are_refused(tmp_path):
    for name in ("absent", "../outside", "", "A"):
        with pytest.raises(UnknownName, match="no model named"):
            load_card(name, tmp_path)


@pytest.mark.slow
def test_damaged_files_are_told_by_name(tiny_models, tmp_path):
    root = tmp_path / "models"
    shutil.copytree(tiny_models, root)
    (root / "tiny" / "model.keras").write_bytes(b"PK damaged")
    with pytest.raises(ModelError, match=r"'model\.keras' of model 'tiny'"):
        load_classifier("tiny", root)
    (root / "tiny" / "model.keras").unlink()
    with pytest.raises(ModelError, match="without its weights"):
        load_classifier("tiny", root)
    (root / "tiny" / "card.json").write_text("{")
    with pytest.raises(ModelError, match=r"'card\.json' of model 'tiny'"):
        load_card("tiny", root)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        '{"name": "bad"}',
        "\ud800",
        '{"calibration": 1}',
        '{"preprocessing": "x"}',
    ],
)
def test_a_damaged_card_takes_no_other_model_along(text, tmp_path, made_card):
    for name in ("bad", "good"):
        (tmp_path / name).mkdir()
    whole = made_card.to_json() | {"name": "good"}
    (tmp_path / "good" / "card.json").write_text(json.dumps(whole))
    changed = json.dumps(whole | json.loads(text)) if text.startswith('{"') else text
    path = tmp_path / "bad" / "card.json"
    path.write_bytes(changed.encode("utf-8", "surrogatepass"))
    if "name" in text:
        path.write_text(text)
    assert [card.name for card in list_models(tmp_path)] == ["good"]
    (told,) = damaged_models(tmp_path)
    assert told.startswith("'card.json' of model 'bad' cannot be read")
    assert "\n" not in told


def test_a_card_whose_calibration_is_none_is_named(tmp_path, made_card):
    card = made_card.to_json()
    card["calibration"]["curves"][0]["parameters"] = [-1]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "card.json").write_text(json.dumps(card))
    assert list_models(tmp_path) == []
    assert damaged_models(tmp_path)[0].startswith("'card.json' of model 'bad' cannot be read")
