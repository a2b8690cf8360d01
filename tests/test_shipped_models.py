"""The models that are committed still say what their records say they said."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cxr_core.cards import (
    list_models,
    load_evaluation,
    load_history,
    load_inputs,
    load_predictions,
    model_folder,
)
from cxr_core.classifier import load_classifier
from cxr_core.decisions import decide, read_validation
from cxr_core.errors import ModelError
from cxr_core.familiarity import BEYOND, FILE, load_familiarity
from cxr_core.gate import check, glance_at, pixel_checks
from cxr_core.images import load_radiograph
from cxr_core.predictions import evaluate_table
from cxr_core.preprocess import prepare
from cxr_core.recipes import get_recipe
from cxr_core.training import chosen_epoch

CARDS = {card.name: card for card in list_models()}
# Where the films of each recipe lie in the data folder.
FILMS = {
    "covid-radiography": "covid_radiography",
    "adult-abnormality": "nih_chestxray14",
    "adult-findings": "nih_chestxray14",
    "inceptionv3-nih15": "nih_chestxray14",
    "vgg16-codes": "nih_chestxray14",
}


def folder_of(name: str) -> str:
    return FILMS.get(CARDS[name].recipe, "pediatric_pneumonia")


def flat(value, place="") -> dict:
    """Bring nested JSON to one level: approx compares no deeper."""
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, each in entries for k, v in flat(each, f"{place}/{key}").items()}
    return {place: value}


# Too large to ship, for what they are worth: their card, history and predictions are.
WITHOUT_WEIGHTS = {"inceptionv3-nih15"}

each_model = pytest.mark.parametrize("name", sorted(CARDS))


def test_the_pediatric_model_is_shipped_and_good_enough_to_ship():
    label = load_evaluation("pediatric-pneumonia").label("Pneumonia")
    assert label.n == 624
    assert label.auroc.value >= 0.965
    assert label.balanced_accuracy >= 0.85


def test_the_pediatric_types_are_told_apart_well_enough_to_ship():
    report = load_evaluation("pediatric-type")
    assert report.n == 624
    assert report.macro_auroc >= 0.92


@each_model
def test_the_record_follows_from_the_predictions(name):
    card = CARDS[name]
    again = evaluate_table(
        load_predictions(name),
        card.operating_points,
        model=name,
        exclusive=card.activation == "softmax",
    )
    here, there = flat(again.to_json()), flat(load_evaluation(name).to_json())
    numbers = [place for place, value in there.items() if isinstance(value, float)]
    assert {place: here[place] for place in here if place not in numbers} == {
        place: there[place] for place in there if place not in numbers
    }
    # Other processors round otherwise in the last digits.
    assert [here[place] for place in numbers] == pytest.approx([there[place] for place in numbers])


@each_model
def test_what_was_decided_follows_from_the_validation_films(name):
    card = CARDS[name]
    path = model_folder(name) / "validation.csv"
    if name in WITHOUT_WEIGHTS:
        assert not path.exists()
        return
    table = read_validation(path)
    decision = decide(table, get_recipe(card.recipe))
    assert table.labels == card.labels
    assert len(set(table.files)) == card.training["validation_films"]
    assert not set(table.files) & set(load_predictions(name).files)
    here, there = decision.calibration, card.calibration
    assert [curve.method for curve in here.curves] == [curve.method for curve in there.curves]
    # Other processors round otherwise in the last digits.
    for decided, kept in (
        ([curve.parameters for curve in here.curves], [curve.parameters for curve in there.curves]),
        (here.prevalence, there.prevalence),
        (decision.operating_points, card.operating_points),
        (decision.cannot_tell, card.cannot_tell),
        (decision.reliability, card.training["reliability"]["validation"]),
    ):
        one, other = (flat(json.loads(json.dumps(value))) for value in (decided, kept))
        none = [place for place, value in other.items() if value is None]
        assert [one.pop(place) for place in none] == [other.pop(place) for place in none]
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


@each_model
def test_the_history_names_the_best_epoch(name):
    history = load_history(name)
    rows = [
        dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)
    ]
    assert (
        chosen_epoch(rows, get_recipe(CARDS[name].recipe).config)
        == CARDS[name].training["best_epoch"]
    )
    assert len(rows) == CARDS[name].training["epochs"]


@each_model
def test_the_recipe_still_answers_these_labels(name):
    recipe = get_recipe(CARDS[name].recipe)
    assert tuple(recipe.labels) == CARDS[name].labels
    assert recipe.preprocessing == CARDS[name].preprocessing


@each_model
def test_what_its_own_films_look_like_is_of_these_weights_and_small(name):
    folder = model_folder(name)
    found, inputs = load_familiarity(folder), load_inputs(name)
    if found is None or inputs is None:
        assert not (found or inputs), "both are made together"
        pytest.skip(f"nobody has looked at the films of {name} yet: python -m cxr_core reference")
    assert (folder / FILE).stat().st_size < 500_000
    patients = set(read_validation(folder / "validation.csv").patients)
    assert inputs.films == len(patients)
    distances = np.array(inputs.measures["familiarity"])
    assert len(distances) == inputs.films
    # The rule, of one film of each patient instead of every film.
    assert (distances > found.limit).mean() <= 2 * BEYOND[0]
    assert 0.5 < np.median(distances) < found.limit


@pytest.mark.slow
@each_model
def test_measures_of_validation_films_are_those_that_the_gate_takes_today(name, data):
    inputs = load_inputs(name)
    if inputs is None:
        pytest.skip(f"nobody has looked at the films of {name} yet: python -m cxr_core reference")
    table, root = read_validation(model_folder(name) / "validation.csv"), data / folder_of(name)
    whose = dict(zip(table.files, table.patients, strict=True))
    alone = [file for file in whose if list(whose.values()).count(whose[file]) == 1]
    for file in alone[:4]:
        film = load_radiograph(root / file)
        for one in pixel_checks(film, glance_at(film)):
            if isinstance(one.value, int | float):
                assert min(abs(one.value - np.array(inputs.measures[one.name]))) < 1e-3


@pytest.mark.slow
@each_model
def test_24_films_score_what_predictions_csv_says(name, data):
    table, card = load_predictions(name), CARDS[name]
    rows = np.linspace(0, len(table.files) - 1, 24).round().astype(int)
    if name in WITHOUT_WEIGHTS:
        with pytest.raises(ModelError, match=f"python -m cxr_core train {card.recipe}"):
            load_classifier(name)
        return
    classifier = load_classifier(name)
    scores, refused = [], []
    for row in rows:
        film = load_radiograph(data / folder_of(name) / table.files[row])
        refused += [table.files[row]] * check(film, card).refused
        answers = classifier.predict(prepare(film, card.preprocessing)).labels
        scores.append([answer.probability for answer in answers])
    assert_allclose(scores, table.y_score[rows], atol=1e-4)
    assert len(refused) <= 1, "the gate refuses one film in some hundred, never one in ten"
