"""The smallest change that is not noise: by hand on made networks, and in a real bundle."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from cxr_core import repeatability
from cxr_core.__main__ import main
from cxr_core.classifier import load_classifier
from cxr_core.datasets import Film, index
from cxr_core.errors import DataError, ModelError
from cxr_core.preprocess import Preprocessing
from cxr_core.repeatability import (
    COEFFICIENT,
    COPIES,
    FILE,
    load_repeatability,
    log_odds,
    measure,
    one_of_each,
    within_film_spread,
    write_repeatability,
)

SIZE = 64


class Network:
    """Stands for a classifier whose logits follow from the pixels by a formula."""

    def __init__(self, card, formula) -> None:
        self.card, self.formula, self.films = card, formula, 0

    def forward(self, pixels):
        self.films += len(pixels)
        return self.formula(pixels).astype(np.float32), None


@pytest.fixture
def card(made_card):
    return replace(made_card, preprocessing=Preprocessing(size=SIZE, standardise=False))


@pytest.fixture
def squares(phantom_film) -> np.ndarray:
    grey = np.rint(phantom_film.pixels[:SIZE, :SIZE] * 255).astype(np.uint8)
    return np.stack([grey, 255 - grey])


def test_a_network_that_ignores_the_film_has_no_spread(card, squares):
    deaf = Network(card, lambda pixels: np.full((len(pixels), 1), 0.7))
    assert within_film_spread(deaf, squares) == [0]
    assert deaf.films == len(squares) * COPIES


def test_the_spread_is_within_films_and_pooled_over_them(card, squares):
    """Logits drawn with a known spread about means that differ from film to film."""
    rng = np.random.default_rng(0)
    means = np.array([[5], [-5]])
    made = Network(card, lambda pixels: rng.normal(means, 0.5, (len(pixels), 1)))
    found = within_film_spread(made, squares, copies=400)
    assert found == pytest.approx([0.5], rel=0.08)


def test_the_same_films_always_give_the_same_spread(card, squares):
    mean = Network(card, lambda pixels: 8 * pixels.mean(axis=(1, 2)))
    first, again = within_film_spread(mean, squares), within_film_spread(mean, squares)
    assert first == again
    assert first > 0.05


def test_log_odds_are_those_of_the_probabilities():
    logits = np.array([[1.0, -2.0, 0.5]])
    shares = np.exp(logits) / np.exp(logits).sum()
    assert log_odds(logits, "softmax") == pytest.approx(np.log(shares / (1 - shares)))
    assert log_odds(logits, "sigmoid") == pytest.approx(logits)


def test_one_film_of_each_patient_counts(monkeypatch):
    films = [Film(f"{k}.png", (), f"p{k // 2}", None, "") for k in range(10)]
    assert one_of_each(films) == [0, 2, 4, 6, 8]
    monkeypatch.setattr(repeatability, "MOST_FILMS", 3)
    assert one_of_each(films) == [0, 4, 8]


@pytest.fixture
def models(tiny_models, tmp_path, monkeypatch):
    shutil.copytree(tiny_models, tmp_path / "models")
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "models"


def test_training_measures_it(models):
    found = load_repeatability("tiny")
    assert found is not None
    assert found.spread["Pneumonia"] > 0
    assert found.limits["Pneumonia"] == pytest.approx(COEFFICIENT * found.spread["Pneumonia"])
    assert COEFFICIENT == pytest.approx(2.772, abs=1e-3)


def test_the_command_measures_the_same_again(models, phantom_folder, tiny_recipe, monkeypatch):
    monkeypatch.setattr("cxr_core.repeatability.get_recipe", lambda _: tiny_recipe)
    trained = load_repeatability("tiny")
    (models / "tiny" / FILE).unlink()
    again = measure("tiny", phantom_folder)
    assert again == load_repeatability("tiny")
    assert again.spread == pytest.approx(trained.spread, rel=1e-3)
    assert (again.films, again.weights) == (trained.films, trained.weights)


def test_another_folder_cannot_say(models, tmp_path, phantom_folder, tiny_recipe, monkeypatch):
    monkeypatch.setattr("cxr_core.repeatability.get_recipe", lambda _: tiny_recipe)
    shutil.copytree(phantom_folder, tmp_path / "fewer")
    next((tmp_path / "fewer" / "train" / "NORMAL").iterdir()).unlink()
    with pytest.raises(DataError, match="is not the folder that trained 'tiny'"):
        measure("tiny", tmp_path / "fewer")


def test_what_was_measured_of_other_weights_does_not_count(models):
    path = models / "tiny" / FILE
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"weights": "0" * 64}))
    assert load_repeatability("tiny") is None


def test_a_damaged_record_is_told_and_a_missing_one_is_none(models):
    path = models / "tiny" / FILE
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"spread": {"Mass": 1.0}}))
    with pytest.raises(ModelError, match=f"'{FILE}' of model 'tiny' cannot be read"):
        load_repeatability("tiny")
    path.write_text("{")
    with pytest.raises(ModelError, match=FILE):
        load_repeatability("tiny")
    path.unlink()
    assert load_repeatability("tiny") is None


def test_the_weights_on_record_are_those_that_were_measured(models, squares, monkeypatch):
    classifier = load_classifier("tiny")
    before = load_repeatability("tiny").weights

    def exchanged(*args, **options):
        (models / "tiny" / "model.keras").write_bytes(b"others")
        return np.array([0.1])

    monkeypatch.setattr(repeatability, "within_film_spread", exchanged)
    found = write_repeatability(models / "tiny", classifier, squares)
    assert found.weights == before


def test_the_command_leaves_damaged_shards_out_when_asked(
    models, phantom_folder, tiny_recipe, monkeypatch, capsys
):
    monkeypatch.setattr("cxr_core.repeatability.get_recipe", lambda _: tiny_recipe)
    asked = []

    def noted(*given, skip_damaged):
        asked.append(skip_damaged)
        return index(*given)  # of these folders none has shards

    monkeypatch.setattr("cxr_core.parts.index", noted)
    command = ["repeatability", "--model", "tiny", "--data", str(phantom_folder)]
    assert main([*command, "--skip-damaged"]) == 0
    assert asked == [True]
