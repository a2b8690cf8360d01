"""What validation films decide, and deciding again from the tables alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import table_of

from cxr_core.calibration import Calibration, Curve, probabilities
from cxr_core.cards import ModelCard, load_card, load_evaluation, load_predictions
from cxr_core.decisions import (
    PERTURBED,
    PLAIN,
    ValidationTable,
    decide,
    operating_rule,
    read_validation,
    reliability,
    write_validation,
)
from cxr_core.errors import ArgumentError, ModelError
from cxr_core.evaluation import threshold_report
from cxr_core.mistakes import coverage
from cxr_core.predictions import evaluate_table
from cxr_core.recipes import Recipe, get_recipe
from cxr_core.release import logits_behind, recalibrate

RECIPE = get_recipe("pediatric-pneumonia")


def table(films: int = 400, *, temperature: float = 1.0, copies: int = 1) -> ValidationTable:
    """Films of one label whose honest logits were multiplied; each patient has two."""
    random = np.random.default_rng(0)
    honest = random.normal(0, 2, films)
    truth = random.random(films) < 1 / (1 + np.exp(-honest))
    noisy = [honest + random.normal(0, 0.5, films) * (k > 0) for k in range(copies)]
    files = tuple(f"film-{k}.png" for k in range(films))
    return ValidationTable(
        files=files * copies,
        patients=tuple(f"p{k // 2}" for k in range(films)) * copies,
        copies=(PLAIN,) * films + (PERTURBED,) * films * (copies - 1),
        labels=("Pneumonia",),
        y_true=np.tile(truth[:, None].astype(np.int8), (copies, 1)),
        logits=(temperature * np.concatenate(noisy))[:, None].astype(np.float32),
    )


def several(films: int = 300) -> ValidationTable:
    """Three labels of which exactly one holds."""
    random = np.random.default_rng(1)
    which = random.integers(0, 3, films)
    logits = random.normal(0, 1, (films, 3)) + 2 * np.eye(3)[which]
    names = tuple(f"film-{k}.png" for k in range(films))
    return ValidationTable(
        files=names,
        patients=names,
        copies=(PLAIN,) * films,
        labels=("Normal", "Bacterial pneumonia", "Viral pneumonia"),
        y_true=np.eye(3, dtype=np.int8)[which],
        logits=logits.astype(np.float32),
    )


# --- the table ---


def test_the_table_survives_its_file(tmp_path):
    made = table(20, temperature=1 / 3, copies=2)
    write_validation(tmp_path / "validation.csv", made)
    read = read_validation(tmp_path / "validation.csv")
    assert (read.files, read.patients, read.copies, read.labels) == (
        made.files,
        made.patients,
        made.copies,
        made.labels,
    )
    np.testing.assert_array_equal(read.y_true, made.y_true)
    np.testing.assert_array_equal(read.logits, made.logits)
    assert read.logits.dtype == np.float32


def test_the_table_refuses_what_does_not_fit():
    made = table(20)
    with pytest.raises(ArgumentError, match="as many as"):
        replace(made, patients=made.patients[1:])
    with pytest.raises(ArgumentError, match="'plain' or 'perturbed'"):
        replace(made, copies=("odd",) * 20)


# --- what it decides ---


def test_the_operating_point_keeps_the_recipes_promise():
    made = table(copies=3)
    decision = decide(made, RECIPE)
    scores = probabilities(made.logits, decision.calibration, "sigmoid")[:, 0]
    (point,) = decision.operating_points
    report = threshold_report(made.y_true[:, 0], scores, point)
    assert report.sensitivity.value >= 0.95
    above = np.min(scores[scores > point])
    assert threshold_report(made.y_true[:, 0], scores, above).sensitivity.value < 0.95
    assert decision.calibration.films == 400, "copies are not films"
    assert set(decision.record) == {PLAIN, PERTURBED}


def test_flags_do_not_depend_on_the_calibration():
    """The same films lie at or above the point, whatever curve the logits ask for."""
    flags = []
    for temperature in (0.3, 1.0, 4.0):
        made = table(temperature=temperature)
        decision = decide(made, RECIPE)
        scores = probabilities(made.logits, decision.calibration, "sigmoid")[:, 0]
        flags.append(scores >= decision.operating_points[0])
    np.testing.assert_array_equal(flags[0], flags[1])
    np.testing.assert_array_equal(flags[0], flags[2])


def test_a_sources_half_stays_where_its_logit_is():
    """Logits off by two ask for a line; the source's 0.5 is what a logit of 0 becomes."""
    made = table(1000)
    off = replace(made, logits=made.logits - np.float32(2))
    source = replace(RECIPE, sensitivity=None)
    decision = decide(off, source)
    (curve,) = decision.calibration.curves
    assert curve.method == "platt"
    assert decision.operating_points[0] == pytest.approx(1 / (1 + np.exp(-curve(0.0))))
    assert decision.operating_points[0] > 0.7
    assert "0.5 before calibration" in operating_rule(source)
    assert decide(made, source).operating_points == (0.5,)


def test_a_label_that_would_flag_too_many_has_no_point_and_its_band_goes_up_to_one():
    made = table()
    blind = replace(made, logits=np.random.default_rng(3).normal(size=(400, 1)).astype("f4"))
    decision = decide(blind, replace(RECIPE, least_specificity=0.5))
    assert decision.operating_points == (None,)
    assert decision.cannot_tell[0][1] == 1.0
    assert decide(made, replace(RECIPE, least_specificity=0.2)).operating_points != (None,)


def test_one_kind_of_film_decides_nothing():
    made = table()
    healthy = replace(made, y_true=np.zeros_like(made.y_true))
    decision = decide(healthy, RECIPE)
    assert decision.calibration.curves == (Curve(),)
    assert decision.operating_points == decision.cannot_tell == (None,)


@pytest.mark.parametrize("made", [table(), table(temperature=4.0), table(copies=2)])
def test_outside_the_band_the_flag_says_what_the_band_says(made):
    decision = decide(made, RECIPE)
    scores = probabilities(made.logits, decision.calibration, "sigmoid")[:, 0]
    (low, high), flags = decision.cannot_tell[0], scores >= decision.operating_points[0]
    assert not flags[scores < low].any()
    assert flags[scores > high].all()


def test_outside_the_band_the_largest_says_what_the_band_says():
    made = several()
    decision = decide(made, replace(RECIPE, activation="softmax"))
    scores = probabilities(made.logits, decision.calibration, "softmax")
    assert decision.operating_points == (None,) * 3
    for k, (low, high) in enumerate(decision.cannot_tell):
        largest = scores.argmax(axis=1) == k
        assert not largest[scores[:, k] < low].any()
        assert largest[scores[:, k] > high].all()


def test_reliability_worked_by_hand():
    truth = np.array([[1], [0]], np.int8)
    before, after = np.array([[0.8], [0.4]]), np.array([[1.0], [0.0]])
    told = reliability(("A",), truth, before, after)["A"]
    # Two bins of one film each: 0.2 and 0.4 off.
    assert told["before"]["ece"] == pytest.approx(0.3)
    assert told["before"]["brier"] == pytest.approx((0.04 + 0.16) / 2)
    assert told["before"]["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert told["after"] == pytest.approx({"ece": 0, "brier": 0, "log_loss": 0}, abs=1e-12)


def test_calibration_helps_films_that_did_not_fit_it():
    told = decide(table(2000, temperature=4.0), RECIPE).reliability["Pneumonia"]
    for measure in ("ece", "brier", "log_loss"):
        assert told["after"][measure] < told["before"][measure]


# --- deciding again ---


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_models, tmp_path / "models")
    return tmp_path / "models"


def rewrite(models: Path, held: ValidationTable) -> None:
    """Put other validation films into the bundle, of a network that says the same."""
    write_validation(models / "tiny" / "validation.csv", held)


def test_a_new_model_is_decided_already(models, tiny_recipe: Recipe):
    card = load_card("tiny", models)
    held = read_validation(models / "tiny" / "validation.csv")
    assert len(set(held.files)) == card.training["validation_films"]
    assert len(held.files) == len(set(held.files)) * (1 + tiny_recipe.config.perturbed_copies)
    assert recalibrate("tiny", models) == card
    assert card.training["reliability"].keys() == {"validation", "test"}


def test_other_validation_films_decide_anew_and_weights_stay(models):
    before, old = load_card("tiny", models), load_predictions("tiny", models)
    weights = (models / "tiny" / "model.keras").read_bytes()
    rewrite(models, table(600, temperature=3.0))

    card = recalibrate("tiny", models)

    assert card == load_card("tiny", models)
    assert card.version != before.version
    assert [curve.method for curve in card.calibration.curves] == ["temperature"]
    assert (models / "tiny" / "model.keras").read_bytes() == weights
    new = load_predictions("tiny", models)
    assert new.files == old.files
    np.testing.assert_allclose(logits_behind(card, new), logits_behind(before, old), atol=1e-9)
    np.testing.assert_allclose(
        new.y_score, probabilities(logits_behind(before, old), card.calibration, "sigmoid")
    )
    again = evaluate_table(new, card.operating_points, model="tiny").to_json()
    assert load_evaluation("tiny", models).to_json() == json.loads(json.dumps(again))
    (counted,) = coverage(new, card.operating_points, card.cannot_tell)
    assert card.training["cannot_tell_on_test"][0]["missed"] == counted.missed
    assert recalibrate("tiny", models) == card, "nothing is left to change"
    assert not list(models.glob(".*"))


def test_what_is_not_decided_stays(models):
    before = load_card("tiny", models)
    rewrite(models, table(600, temperature=3.0))
    after = recalibrate("tiny", models)
    for name in ("name", "labels", "preprocessing", "data_digest", "limits", "created", "recipe"):
        assert getattr(after, name) == getattr(before, name)
    assert after.training["seed"] == before.training["seed"]


def test_a_model_without_its_validation_table_says_so(models):
    (models / "tiny" / "validation.csv").unlink()
    with pytest.raises(ModelError, match=r"'validation\.csv' of model 'tiny'"):
        recalibrate("tiny", models)


@pytest.mark.parametrize(
    "damage", ["", "file,patient\n", "file,patient,copy,true_A\na,b,plain,x\n"]
)
def test_a_damaged_table_is_a_sentence(models, damage):
    (models / "tiny" / "validation.csv").write_text(damage)
    with pytest.raises(ModelError, match="cannot be read"):
        recalibrate("tiny", models)


def test_films_of_other_labels_decide_nothing(models):
    before = load_card("tiny", models)
    rewrite(models, replace(table(600), labels=("Effusion",)))
    with pytest.raises(ModelError, match=r"'validation\.csv'.*it is of Effusion, not Pneumonia"):
        recalibrate("tiny", models)
    assert load_card("tiny", models) == before


def test_logits_behind_are_undone_from_scores(made_card: ModelCard):
    logits = np.array([[-3.0], [0.5], [12.0]])
    for curve in (Curve(), Curve("platt", (2.0, -1.0)), Curve("isotonic", (-2.0, 3.0, -4.0, 1.0))):
        card = replace(made_card, calibration=Calibration((curve,)))
        scores = probabilities(logits, card.calibration, "sigmoid")
        made = table_of(card.labels, np.array([[0], [0], [1]]), scores)
        np.testing.assert_allclose(logits_behind(card, made), logits, atol=1e-6)


def test_a_score_rounded_to_one_stays_as_good_as_certain(made_card: ModelCard):
    card = replace(made_card, calibration=Calibration((Curve("temperature", (0.5,)),)))
    made = table_of(card.labels, np.array([[0], [1]]), np.array([[0.0], [1.0]]))
    scores = probabilities(logits_behind(card, made), Calibration(), "sigmoid")[:, 0]
    assert scores[0] < 1e-8
    assert scores[1] > 1 - 1e-7
