"""How unlike a film is to those that a model learned from: by hand, on disk, in every answer."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.testing import assert_allclose

from cxr_core.__main__ import main
from cxr_core.answering import answer, checked, with_likeness
from cxr_core.cards import load_card, load_inputs
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.decisions import read_validation
from cxr_core.errors import ArgumentError, DataError, ModelError
from cxr_core.familiarity import (
    BEYOND,
    FILE,
    Familiarity,
    Likeness,
    fit,
    limit_of,
    load_familiarity,
    pooled,
    write_familiarity,
)
from cxr_core.gate import GateReport
from cxr_core.images import Radiograph, load_radiograph
from cxr_core.parts import open_folder, own_films
from cxr_core.phantom import png_bytes, thorax
from cxr_core.recipes import get_recipe
from cxr_core.release import renew_reference
from cxr_core.screening import prepare_film, screen
from cxr_core.ui import session
from cxr_core.ui.reading import answer_in_words
from cxr_core.ui.report import read_film


def cloud(films: int, channels: int = 6, seed: int = 0) -> np.ndarray:
    """Points that are spread by 1, 2, 3, ... along the axes, around 10."""
    spread = np.arange(1, channels + 1)
    made = np.random.default_rng(seed).normal(10, spread, (films, channels))
    return made.astype(np.float32)


# --- the distance and its limit ---


def test_with_every_direction_kept_it_is_the_mahalanobis_distance():
    training, films = cloud(500), cloud(20, seed=1)
    found = fit(training, films, films)
    kept = found.directions.shape[1]
    assert kept == 5, "the last direction stands for the rest"
    inverse = np.linalg.inv(np.cov(training.astype(float), rowvar=False))
    away = films - training.mean(axis=0)
    expected = np.sqrt(np.einsum("nc,cd,nd->n", away, inverse, away) / 6)
    assert_allclose(found.distances(films), expected, rtol=5e-3)


def test_a_training_film_is_about_one_deviation_away_and_noise_is_far():
    training = cloud(2000, channels=100)
    found = fit(training, training, training)
    assert np.sqrt(np.mean(found.distances(training) ** 2)) == pytest.approx(1, abs=0.02)
    strange = np.full((1, 100), 10, np.float32)
    strange[0, 0] = 30  # twenty deviations of the narrowest feature
    assert found.distances(strange)[0] > found.limit
    assert found.distances(training.mean(axis=0)[None])[0] == pytest.approx(0, abs=1e-3)


@given(some.integers(1, 300), some.integers(0, 600), some.integers(0, 1000))
def test_the_limit_is_the_smallest_that_the_rule_allows(plain, perturbed, seed):
    random = np.random.default_rng(seed)
    both = random.random(plain), 2 * random.random(perturbed)
    limit = limit_of(*both)
    allowed = [int(share * len(one)) for share, one in zip(BEYOND, both, strict=True)]
    beyond = [(one > limit).sum() for one in both]
    assert all(count <= most for count, most in zip(beyond, allowed, strict=True))
    lower = np.nextafter(limit, 0)
    assert any((one > lower).sum() > most for one, most in zip(both, allowed, strict=True))


def test_few_films_and_features_that_never_change_make_a_cloud_too():
    training = cloud(4, channels=50)
    training[:, 7] = 3.0
    found = fit(training, training[:1], training[:0])
    assert np.isfinite(found.distances(training)).all() and found.limit > 0
    with pytest.raises(ArgumentError, match="at least 2 training films and 1 validation film"):
        fit(training[:1], training, training)
    with pytest.raises(ArgumentError, match="2 training films and 1 validation film"):
        fit(training, training[:0], training)


def test_features_are_averaged_over_the_film():
    maps = np.random.default_rng(0).random((2, 5, 4, 3)).astype(np.float32)
    assert_allclose(pooled(maps)[1], maps[1].reshape(-1, 3).mean(axis=0), rtol=1e-6)
    found = fit(cloud(50, 3), cloud(5, 3), cloud(5, 3))
    one = found.likeness(maps[0])
    assert one.distance == pytest.approx(found.distances(pooled(maps[:1]))[0])
    assert one.limit == found.limit


def test_beyond_the_limit_is_a_caution_and_never_more():
    assert not Likeness(1.0, 1.0).unfamiliar
    assert Likeness(1.01, 1.0).unfamiliar


# --- on disk ---


@pytest.fixture
def tiny(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny bundle, this test's own."""
    root = tmp_path / "models"
    shutil.copytree(tiny_models, root)
    monkeypatch.setenv("CXR_MODELS", str(root))
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    return root / "tiny"


def test_what_was_written_is_read_again(tiny):
    made = fit(cloud(60), cloud(10), cloud(10))
    write_familiarity(made, tiny)
    read = load_familiarity(tiny)
    assert read is not None and read.films == 60
    assert_allclose(read.distances(cloud(9)), made.distances(cloud(9)), rtol=1e-6)
    assert read.limit == made.limit
    (tiny / FILE).unlink()
    assert load_familiarity(tiny) is None


def other_weights(folder: Path) -> None:
    with (folder / "model.keras").open("ab") as file:
        file.write(b" ")


def cut_short(folder: Path) -> None:
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[: len(content) // 2])


def changed(folder: Path) -> None:
    content = bytearray((folder / FILE).read_bytes())
    for place in range(len(content) // 4, len(content) // 2):
        content[place] ^= 0xFF
    (folder / FILE).write_bytes(bytes(content))


def no_archive(folder: Path) -> None:
    (folder / FILE).write_bytes(b"these are notes")


def no_limit(folder: Path) -> None:
    with np.load(folder / FILE) as arrays:
        kept = {name: arrays[name] for name in arrays if name != "limit"}
    np.savez_compressed(folder / FILE, **kept)


def no_numbers(folder: Path) -> None:
    with np.load(folder / FILE) as arrays:
        kept = dict(arrays)
    kept["centre"][0] = np.nan
    np.savez_compressed(folder / FILE, **kept)


@pytest.mark.parametrize(
    "damage", [other_weights, cut_short, changed, no_archive, no_limit, no_numbers]
)
def test_a_damaged_or_foreign_file_is_refused_with_one_sentence(tiny, damage, capsys):
    damage(tiny)
    with pytest.raises(ModelError) as told:
        load_familiarity(tiny)
    sentence = str(told.value)
    assert "'familiarity.npz' of model 'tiny' cannot be used" in sentence
    assert "python -m cxr_core reference --model tiny" in sentence
    film = tiny.parent / "film.png"
    film.write_bytes(png_bytes(thorax(128, 112, seed=1)))
    assert main(["predict", "--model", "tiny", str(film)]) == 1
    assert sentence in capsys.readouterr().err


def test_numbers_that_do_not_fit_together_are_refused():
    made = fit(cloud(60), cloud(10), cloud(10))
    fields = dict(vars(made))
    for name, value in (
        ("centre", made.centre[:3]),
        ("deviations", made.deviations[:1]),
        ("rest", 0.0),
        ("limit", float("nan")),
    ):
        with pytest.raises(ArgumentError):
            Familiarity(**fields | {name: value})


# --- in every answer ---


def noise() -> Radiograph:
    """No film at all."""
    film = thorax(128, 112, seed=1)
    pixels = np.random.default_rng(0).random(film.pixels.shape).astype(np.float32)
    return replace(film, pixels=pixels)


def the_check(report: GateReport):
    (found,) = [one for one in report.checks if one.name == "familiarity"]
    return found


def ask(classifier: Classifier, film: Radiograph) -> GateReport:
    """Answer a film whatever the gate says of it."""
    ready = checked(film, classifier.card, age_years=3, insist=True)
    return with_likeness(ready.gate, classifier.predict(ready.model_input))


def test_the_models_own_films_are_familiar_and_noise_is_a_caution(tiny_classifier):
    own = the_check(ask(tiny_classifier, thorax(96, 96, seed=3)))
    assert (own.verdict, own.mend) == ("ok", "")
    strange = the_check(ask(tiny_classifier, noise()))
    assert strange.verdict == "caution"
    assert strange.value > own.value and strange.limit == own.limit
    assert "unlike those that it learned from" in strange.reason and strange.mend


def test_a_film_that_is_refused_is_not_asked_about(tiny_classifier):
    def predict(_):
        raise AssertionError("a refused film was asked about")

    found = answer(noise(), tiny_classifier.card, predict)
    assert found.gate.refused and found.prediction is None
    assert "familiarity" not in [one.name for one in found.gate.checks]


def test_a_bundle_without_the_file_answers_as_before_and_says_that_nobody_looked(tiny):
    with_file = load_classifier("tiny")
    (tiny / FILE).unlink()
    without, film = load_classifier("tiny"), thorax(128, 112, seed=4)
    before, after = (
        answer(film, one.card, one.predict, age_years=3) for one in (with_file, without)
    )
    assert before.prediction.to_json() == after.prediction.to_json()
    assert before.gate.checks[:-1] == after.gate.checks[:-1]
    told = the_check(after.gate)
    assert (told.value, told.verdict) == (None, "ok")
    assert "Nobody looked" in told.reason and FILE in told.reason


def test_every_way_to_ask_tells_the_same(tiny, tmp_path, capsys):
    """The reading page and worklist, predict, screen and the API, and a report."""
    path = tmp_path / "film.png"
    path.write_bytes(png_bytes(thorax(256, 224, seed=4)))
    classifier = load_classifier("tiny")
    card = classifier.card
    (screened,) = screen(classifier, [str(path)])
    ready = prepare_film(path.read_bytes(), "film.png", card)
    served = ready.answered(classifier.predict_batch([ready.model_input])[0])
    assert main(["predict", "--model", "tiny", "--json", str(path)]) == 0
    printed = json.loads(capsys.readouterr().out)["gate"]["checks"]
    film = load_radiograph(path)
    page = session.answered(film, card)
    filed = read_film(classifier, film, datetime.now(UTC))
    known = the_check(page.gate)
    assert known.value is not None
    for report in (screened.gate, served.gate, filed.gate):
        assert the_check(report) == known
    assert printed[-1]["name"] == "familiarity" and printed[-1]["value"] == known.value


def test_the_caution_stands_beside_the_answer(tiny_classifier):
    film = noise()
    ready = checked(film, tiny_classifier.card, age_years=3, insist=True)
    prediction = tiny_classifier.predict(ready.model_input)
    report = with_likeness(GateReport(()), prediction)
    said = answer_in_words(tiny_classifier.card, report, prediction, age_stated=True)
    assert said.detail[-1] == (
        "Caution: to the model, this film is unlike those that it learned from."
    )


# --- made, and made again ---


def test_training_leaves_what_its_films_look_like(tiny_models, phantom_folder):
    inputs = load_inputs("tiny", tiny_models)
    card = load_card("tiny", tiny_models)
    assert inputs is not None
    assert 1 < inputs.films <= card.training["validation_films"]
    assert {"exposure", "saturation", "sharpness", "contrast", "borders"} <= set(inputs.measures)
    assert not {"age", "picture"} & set(inputs.measures)
    for values in inputs.measures.values():
        assert len(values) <= inputs.films and list(values) == sorted(values)
    found = load_familiarity(tiny_models / "tiny")
    assert found is not None and found.films == 2 * card.training["films"]


@pytest.mark.slow
def test_the_command_makes_the_same_again(tiny, phantom_folder, capsys, tiny_recipe, monkeypatch):
    monkeypatch.setattr("cxr_core.release.get_recipe", lambda name: tiny_recipe)
    before = {path.name: path.read_bytes() for path in tiny.iterdir()}
    (tiny / FILE).write_bytes(b"damaged")
    (tiny / "inputs.json").unlink()
    assert main(["reference", "--model", "tiny", "--data", str(phantom_folder)]) == 0
    assert "Measured on" in capsys.readouterr().out
    after = {path.name: path.read_bytes() for path in tiny.iterdir()}
    assert after == before


@pytest.mark.slow
def test_films_that_chose_are_those_of_the_bundle_however_they_are_dealt_now(tiny, phantom_folder):
    card, table = load_card("tiny"), tiny / "validation.csv"
    dataset, recipe = open_folder(get_recipe(card.recipe), phantom_folder)
    dealt = own_films(card, dataset, recipe)
    assert {film.file for film in dealt["validation"]} == set(read_validation(table).files)

    trained, chose = dealt["train"][0].file, dealt["validation"][0].file
    table.write_text(table.read_text("utf-8").replace(chose, trained), "utf-8")
    found = own_films(card, dataset, recipe)
    assert trained in {film.file for film in found["validation"]}
    assert chose in {film.file for film in found["train"]}

    table.write_text(table.read_text("utf-8").replace(trained, "elsewhere.png"), "utf-8")
    with pytest.raises(DataError, match="is not the folder that trained 'tiny'"):
        own_films(card, dataset, recipe)


@pytest.mark.slow
def test_only_the_folder_that_trained_a_model_says_what_it_knows(tiny, phantom_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(phantom_folder, other)
    next((other / "train" / "NORMAL").iterdir()).unlink()
    before = sorted(path.name for path in tiny.parent.iterdir())
    with pytest.raises(DataError, match="is not the folder that trained 'tiny'"):
        renew_reference("tiny", other)
    (tiny / "model.keras").unlink()
    with pytest.raises(ModelError, match="shipped without its weights"):
        renew_reference("tiny", phantom_folder)
    assert sorted(path.name for path in tiny.parent.iterdir()) == before


@pytest.mark.parametrize("damage", ["{", "[]", '{"films": 1, "measures": {"contrast": ["x"]}}'])
def test_a_damaged_record_of_measures_is_one_sentence(tiny, damage):
    (tiny / "inputs.json").write_text(damage)
    with pytest.raises(ModelError, match=r"'inputs\.json' of model 'tiny' cannot be read"):
        load_inputs("tiny")
