"""A model on the films of a site: lines by a reference library, decisions, copies, refusals."""

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as models_of_statistics
import streamlit as st
from bundles import CARD, table_of, write_bundle
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

from cxr_core.__main__ import main
from cxr_core.calibration import Calibration, Curve, probabilities
from cxr_core.cards import (
    ModelCard,
    load_card,
    load_evaluation,
    load_predictions,
    split_integrity,
)
from cxr_core.classifier import load_classifier
from cxr_core.datasets import DatasetIndex
from cxr_core.decisions import PLAIN, ValidationTable, decide, read_validation
from cxr_core.errors import ArgumentError, DataError
from cxr_core.local_check import (
    SiteFilms,
    belonging,
    films_of_folder,
    films_of_scores,
    honest_line,
    in_words,
    measure,
    register,
)
from cxr_core.local_check.suggestion import _folds, _told_at
from cxr_core.parts import own_films
from cxr_core.phantom import write_dataset
from cxr_core.predictions import evaluate_table
from cxr_core.recipes import get_recipe
from cxr_core.release import recalibrate
from cxr_core.ui import access
from cxr_core.ui.access import Visitor

ROOT = Path(__file__).resolve().parents[1]
LABEL = "Pneumonia"
POINT = 0.5


def logistic(logits: Any) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logits)))


def site(films: int = 200, *, factor: float = 1.0, added: float = 0.0, seed: int = 0) -> SiteFilms:
    """Films whose honest logits were changed; each patient has two."""
    random = np.random.default_rng(seed)
    honest = random.normal(0, 2, films)
    truth = random.random(films) < logistic(honest)
    return films_of((LABEL,), truth[:, None], (factor * honest + added)[:, None])


def films_of(labels: tuple[str, ...], truth: np.ndarray, logits: np.ndarray) -> SiteFilms:
    names = range(len(truth))
    table = ValidationTable(
        files=tuple(f"site-{k}.png" for k in names),
        patients=tuple(f"s{k // 2}" for k in names),
        copies=(PLAIN,) * len(truth),
        labels=labels,
        y_true=truth.astype(np.int8),
        logits=logits.astype(np.float32),
    )
    return SiteFilms(table=table, source="made", digest="1" * 64)


def card_of(labels: tuple[str, ...] = (LABEL,), **more: Any) -> ModelCard:
    points = more.pop("operating_points", (POINT,) * len(labels))
    bands = more.pop("cannot_tell", ((0.4, 0.6),) * len(labels))
    return replace(CARD, labels=labels, operating_points=points, cannot_tell=bands, **more)


# --- how honest probabilities are ---


def test_the_line_is_that_of_a_reference_library():
    """Newton, and the spread over patients, as statsmodels has them."""
    table = site(300, factor=1.7, added=0.4).table
    truth, logits = table.y_true[:, 0], table.logits[:, 0].astype(float)
    line = honest_line(truth, logistic(logits), table.patients)
    whose = np.unique(table.patients, return_inverse=True)[1]
    patients = whose.max() + 1
    grouped = {"groups": whose, "use_correction": False}
    family = models_of_statistics.families.Binomial()
    columns = np.column_stack((logits, np.ones(300)))
    for found, known in (
        (line.slope, models_of_statistics.GLM(truth, columns, family)),
        (line.shift, models_of_statistics.GLM(truth, np.ones(300), family, offset=logits)),
    ):
        fit = known.fit(cov_type="cluster", cov_kwds=grouped)
        half = 1.959963984540054 * fit.bse[0] * np.sqrt(patients / (patients - 1))
        assert found.value == pytest.approx(fit.params[0], abs=1e-6)
        assert (found.low, found.high) == pytest.approx(
            (fit.params[0] - half, fit.params[0] + half), abs=1e-6
        )


@pytest.mark.parametrize(
    ("factor", "added", "holds"), [(1.0, 0.0, True), (2.0, 0.0, False), (1.0, 1.0, False)]
)
def test_what_was_changed_is_found(factor, added, holds):
    table = site(2000, factor=factor, added=added).table
    line = honest_line(table.y_true[:, 0], logistic(table.logits[:, 0]), table.patients)
    assert line.slope.low < 1 / factor < line.slope.high
    assert line.holds is holds
    if factor == 1:
        assert line.shift.low < -added < line.shift.high


@given(some.floats(0.2, 3), some.integers(0, 100))
def test_logits_that_are_multiplied_divide_the_slope(factor, seed):
    table = site(120, seed=seed).table
    truth, logits = table.y_true[:, 0], np.clip(table.logits[:, 0].astype(float), -5, 5)
    once = honest_line(truth, logistic(logits), table.patients)
    more = honest_line(truth, logistic(factor * logits), table.patients)
    assert more.slope.value == pytest.approx(once.slope.value / factor, rel=1e-4)


def test_what_films_cannot_say_has_no_number():
    patients = [f"p{k}" for k in range(40)]
    half = np.arange(40) % 2
    few = honest_line(np.arange(40) < 9, np.linspace(0.1, 0.9, 40), patients)
    assert (few.slope.value, few.shift.value, few.holds) == (None, None, None)
    parted = honest_line(half, np.where(half == 1, 0.9, 0.2), patients)
    assert parted.slope.value is None and parted.holds is None
    # As many films as said: the sum of the moved probabilities is the number of positives.
    moved = logistic(np.log(np.where(half == 1, 9, 0.25)) + parted.shift.value)
    assert moved.sum() == pytest.approx(20)
    alike = honest_line(half, np.full(40, 0.8), patients)
    assert alike.slope.value is None
    assert alike.shift.value == pytest.approx(-np.log(4))


# --- what the films say and decide ---


def test_the_report_is_of_the_model_as_it_is():
    films, card = site(), card_of(calibration=Calibration((Curve("platt", (0.5, 1.0)),), 9, (0.5,)))
    found = measure(card, films)
    scores = logistic(0.5 * films.table.logits.astype(float) + 1)
    (one,) = found.report.labels
    truth = films.table.y_true == 1
    assert one.confusion[1][1] == (truth & (scores >= POINT)).sum()
    (held,) = found.held
    assert held.missed == (truth & (scores < 0.4)).sum()
    assert held.undecided == ((scores >= 0.4) & (scores <= 0.6)).sum()


@pytest.mark.parametrize(("films", "decides"), [(49, False), (50, True)])
def test_fifty_films_say_something_and_fewer_are_told_what_cannot_be_said(films, decides):
    found = measure(card_of(), site(films))
    assert (found.suggestion is not None) == decides
    assert found.report.labels[0].auroc.value is not None
    told = " ".join(in_words(found))
    assert ("49 films came: from 50 on" in told) != decides
    assert ("No operating point is suggested." in told) != decides


def test_ten_patients_of_either_kind_are_needed_whatever_their_films():
    """Twenty films with the finding, of nine patients, decide nothing; of ten they do."""
    random = np.random.default_rng(0)
    truth = np.arange(100)[:, None] < 20
    made = films_of((LABEL,), truth, random.normal(size=(100, 1)) + truth)
    assert measure(card_of(), made).suggestion is not None
    patients = ("s0", "s0", *made.table.patients[:-2])
    nine = replace(made, table=replace(made.table, patients=("s1", "s1", *patients[2:])))
    assert len(set(nine.table.patients[:20])) == 9
    assert measure(card_of(), nine).suggestion is None


def test_the_decision_is_the_one_of_a_training_without_perturbed_copies():
    films = site(300, factor=3.0)
    anew = measure(card_of(), films).suggestion
    recipe = get_recipe(CARD.recipe)
    known = decide(films.table, replace(recipe, config=replace(recipe.config, perturbed_copies=0)))
    assert anew.decision.calibration == known.calibration
    assert anew.decision.operating_points == known.operating_points
    assert anew.decision.cannot_tell == known.cannot_tell


def test_suggested_points_flag_the_same_films_on_either_scale():
    films = site(300, factor=3.0)
    card = card_of(calibration=Calibration((Curve("temperature", (0.7,)),), 9, (0.5,)))
    found = measure(card, films)
    told = found.to_json()["suggestion"]
    here = probabilities(films.table.logits, found.suggestion.decision.calibration, "sigmoid")
    shipped = probabilities(films.table.logits, card.calibration, "sigmoid")
    assert told["operating_points"][LABEL] != pytest.approx(told["as_this_model_counts"][LABEL])
    np.testing.assert_array_equal(
        here >= told["operating_points"][LABEL] - 1e-9,
        shipped >= told["as_this_model_counts"][LABEL] - 1e-9,
    )


def test_each_film_is_told_by_films_of_other_patients():
    """By hand, fold by fold: no patient on both sides, each flag by that fold's own decision."""
    films = site(200, factor=2.0)
    anew, table = measure(card_of(), films).suggestion, films.table
    patients, seen = np.array(table.patients), np.zeros(200, int)
    recipe = get_recipe(CARD.recipe)
    point = anew.decision.operating_points[0]
    for here in _folds(table):
        seen += here
        assert not set(patients[here]) & set(patients[~here])
        rest = replace(
            table,
            files=tuple(np.array(table.files)[~here]),
            patients=tuple(patients[~here]),
            copies=tuple(np.array(table.copies)[~here]),
            y_true=table.y_true[~here],
            logits=table.logits[~here],
        )
        decided = decide(rest, recipe)
        scores = probabilities(table.logits[here], decided.calibration, "sigmoid")[:, 0]
        own = scores >= decided.operating_points[0]
        told = anew.table.y_score[here, 0]
        np.testing.assert_array_equal(told >= point, own)
        same = own == (scores >= point)
        np.testing.assert_array_equal(told[same], scores[same])
    assert (seen == 1).all()
    assert anew.held[0].positives == table.y_true.sum()
    assert anew.held[0].positives + anew.held[0].negatives == 200


@given(
    some.lists(some.tuples(some.floats(0, 1), some.booleans()), min_size=1, max_size=30),
    some.floats(0.001, 1),
)
def test_scores_are_moved_only_as_far_as_their_flag_needs(films, point):
    scores, flags = (np.array(column)[:, None] for column in zip(*films, strict=True))
    told = _told_at(scores, flags, [point])
    np.testing.assert_array_equal(told >= point, flags)
    right = (scores >= point) == flags
    np.testing.assert_array_equal(told[right], scores[right])
    np.testing.assert_allclose(told[~right], point)
    np.testing.assert_array_equal(_told_at(scores, flags, [None]), scores)


def test_a_rare_finding_stays_as_shipped():
    random = np.random.default_rng(4)
    truth = np.column_stack((np.arange(100) % 2, np.arange(100) < 4))
    logits = random.normal(size=(100, 2)) + 2 * truth
    card = card_of(
        (LABEL, "Hernia"),
        operating_points=(0.5, 0.3),
        cannot_tell=((0.4, 0.6), (0.2, 0.9)),
        calibration=Calibration((Curve(), Curve("temperature", (2.0,))), 50, (0.4, 0.01)),
    )
    found = measure(card, films_of(card.labels, truth, logits))
    anew = found.suggestion
    assert anew.labels == (LABEL,)
    assert anew.decision.operating_points[1] == 0.3
    assert anew.decision.cannot_tell[1] == (0.2, 0.9)
    assert anew.decision.calibration.curves[1] == Curve("temperature", (2.0,))
    assert anew.decision.calibration.prevalence == (0.5, 0.01)
    np.testing.assert_allclose(
        anew.table.y_score[:, 1], logistic(logits[:, 1].astype(np.float32) / 2), rtol=1e-6
    )
    assert any("nothing changes for hernia" in note for note in found.notes)


def test_labels_of_which_one_holds_are_decided_together_or_not_at_all():
    names, random = ("Normal", "Bacterial pneumonia", "Viral pneumonia"), np.random.default_rng(1)
    which = np.arange(150) // 2 % 3
    logits = random.normal(0, 1, (150, 3)) + 2 * np.eye(3)[which]
    card = card_of(
        names, activation="softmax", operating_points=(None,) * 3, recipe="pediatric-type"
    )
    found = measure(card, films_of(names, np.eye(3)[which], logits))
    assert found.suggestion.labels == names
    np.testing.assert_allclose(found.suggestion.table.y_score.sum(axis=1), 1)
    assert found.suggestion.report.matrix is not None
    which[which == 2] = 1
    lacking = measure(card, films_of(names, np.eye(3)[which], logits))
    assert lacking.suggestion is None


# --- the copy ---


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with a test record, without weights."""
    root = tmp_path / "models"
    scores = np.linspace(0.01, 0.99, 60)[:, None]
    write_bundle(root, "made", table_of((LABEL,), (scores > 0.5).astype(np.int8), scores), [POINT])
    monkeypatch.setenv("CXR_MODELS", str(root))
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_of_a_copy_nobody_asks_what_trained_it(models):
    copy = register(measure(load_card("made"), site(300)), "made-here")
    with pytest.raises(DataError, match=r"'made-here' is 'made' with .* Name that model"):
        own_films(copy, DatasetIndex(models, "class-folders", (), ()), get_recipe(copy.recipe))


def test_a_copy_has_its_own_name_version_and_record_and_the_model_stays(models):
    before = contents(models / "made")
    films = site(300, factor=3.0)
    found = measure(load_card("made"), films)

    copy = register(found, "made-here")

    assert copy == load_card("made-here")
    assert contents(models / "made") == before
    assert copy.version != load_card("made").version
    assert copy.operating_points == found.suggestion.decision.operating_points
    table = load_predictions("made-here")
    np.testing.assert_array_equal(table.y_score, found.suggestion.table.y_score)
    again = evaluate_table(table, copy.operating_points, model="made-here").to_json()
    assert load_evaluation("made-here").to_json() == json.loads(json.dumps(again))
    held = read_validation(models / "made-here" / "validation.csv")
    assert held.files == films.table.files
    facts = copy.training["recalibrated"]
    assert (facts["from"], facts["films"], facts["patients"]) == ("made", 300, 150)
    assert "validation films here are 300 of a site" in copy.operating_rule
    assert copy.training["cannot_tell_on_test"][0]["positives"] == films.table.y_true.sum()
    assert "Nobody recorded" in split_integrity(copy, table).sentences[0]
    assert not list(models.glob(".*"))


def test_nothing_is_overwritten(models):
    found = measure(load_card("made"), site(300))
    register(found, "made-here")
    before = contents(models / "made-here")
    for name in ("made", "made-here"):
        with pytest.raises(ArgumentError, match="nothing is overwritten"):
            register(found, name)
    with pytest.raises(ArgumentError, match="lower-case"):
        register(found, "../elsewhere")
    assert contents(models / "made-here") == before


def test_too_few_films_make_no_copy(models):
    with pytest.raises(DataError, match=r"too few to decide anything\. 20 films came"):
        register(measure(load_card("made"), site(20)), "made-here")
    assert [path.name for path in models.iterdir()] == ["made"]


def test_a_copy_is_not_decided_by_the_rules_of_a_training(models):
    register(measure(load_card("made"), site(300)), "made-here")
    with pytest.raises(ArgumentError, match="films of a site"):
        recalibrate("made-here")


def test_the_banner_stands_where_decisions_and_weights_do_not_belong_together(models):
    assert belonging(load_card("made")) == ()
    (models / "made" / "model.keras").write_bytes(b"weights")
    told = {"weights": hashlib.sha256(b"weights").hexdigest()}
    (models / "made" / "graph.json").write_text(json.dumps(told))
    assert belonging(load_card("made")) == ()
    copy = register(measure(load_card("made"), site(300)), "made-here")
    (sentence,) = belonging(copy)
    assert "come from 300 films of a site" in sentence and "'made'" in sentence
    # Other weights below the same card; the link of the copy must not follow.
    (models / "made" / "model.keras").unlink()
    (models / "made" / "model.keras").write_bytes(b"others")
    (other,) = belonging(load_card("made"))
    assert "are not those that its operating points were chosen for" in other
    assert belonging(copy) == (sentence,)
    shutil.copyfile(models / "made-here" / "validation.csv", models / "made" / "validation.csv")
    assert "thresholds come from other films" in belonging(load_card("made"))[1]


# --- films that come in ---


def two_files(scores: np.ndarray, truth: np.ndarray, **more: Any) -> tuple[bytes, bytes]:
    """What `predict --csv` writes, and what is true, with patients."""
    ours, theirs = StringIO(), StringIO()
    name = more.get("name", "ward-{}.png")
    one, other = csv.writer(ours), csv.writer(theirs)
    one.writerow(("file", "ok", f"probability_{LABEL}", f"operating_point_{LABEL}"))
    other.writerow(("file", "patient", LABEL))
    for k, (score, true) in enumerate(zip(scores, truth, strict=True)):
        one.writerow((name.format(k), True, score, more.get("point", POINT)))
        other.writerow((name.format(k), f"w{k // 2}", int(true)))
    return ours.getvalue().encode(), theirs.getvalue().encode()


def test_scores_made_here_give_back_the_logits(models):
    card = replace(
        load_card("made"), calibration=Calibration((Curve("platt", (2.0, -1.0)),), 9, (0.5,))
    )
    logits = np.linspace(-4, 4, 60)
    scores, truth = logistic(2 * logits - 1), np.arange(60) % 2
    films = films_of_scores(card, *two_files(scores, truth))
    order = [films.table.files.index(f"ward-{k}.png") for k in range(60)]
    np.testing.assert_allclose(films.table.logits[order, 0], logits, atol=1e-5)
    np.testing.assert_array_equal(films.table.y_true[order, 0], truth)
    assert len(set(films.table.patients)) == 30


def test_scores_of_another_version_are_refused(models):
    scores, truth = np.linspace(0.1, 0.9, 60), np.arange(60) % 2
    with pytest.raises(DataError, match="another version made these scores"):
        films_of_scores(load_card("made"), *two_files(scores, truth, point=0.4))


def test_films_that_tested_the_model_are_refused_by_name(models):
    scores, truth = np.linspace(0.1, 0.9, 60), np.arange(60) % 2
    ours, theirs = two_files(scores, truth, name="elsewhere/film{:05}.png")
    films_of_scores(load_card("made"), ours, theirs)  # of other patients, as both say
    lone = "\n".join(",".join(line.split(",")[::2]) for line in theirs.decode().splitlines())
    with pytest.raises(DataError, match=r"60 of 60 films, such as .* bear the names"):
        films_of_scores(load_card("made"), ours, lone.encode())


def test_every_finding_is_needed(models):
    scores, truth = np.linspace(0.1, 0.9, 60), np.arange(60) % 2
    card = card_of((LABEL, "Hernia"))
    with pytest.raises(DataError, match="but Hernia is missing"):
        films_of_scores(card, *two_files(scores, truth))


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled films of a site: other phantoms than those of the training."""
    made, folder = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("ward")
    write_dataset(made, patients_per_class=24, size=96, seed=900, splits=("test",))
    for number, path in enumerate(sorted((made / "test").glob("*/*"))):
        place = folder / path.parent.name
        place.mkdir(exist_ok=True)
        shutil.copyfile(path, place / f"ward-{number}{path.suffix}")
    shutil.copyfile(sorted((folder / "NORMAL").iterdir())[0], folder / "NORMAL" / "zz-again.jpeg")
    (folder / "NORMAL" / "zz-broken.jpeg").write_bytes(b"no film")
    return folder


@pytest.fixture
def tiny(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model, which any gate lets speak on phantoms."""
    root = tmp_path / "models"
    shutil.copytree(tiny_models, root)
    path = root / "tiny" / "card.json"
    values = json.loads(path.read_text())
    values["training"]["gate"] = False
    path.write_text(json.dumps(values))
    monkeypatch.setenv("CXR_MODELS", str(root))
    return root


@pytest.mark.slow
def test_the_folder_a_model_was_trained_on_is_refused(tiny, phantom_folder, tmp_path):
    with pytest.raises(DataError, match="is the folder that 'tiny' was trained on"):
        films_of_folder(load_card("tiny"), phantom_folder)
    part = tmp_path / "part"
    shutil.copytree(phantom_folder / "test", part)
    with pytest.raises(DataError, match="bear the names of films that chose or tested"):
        films_of_folder(load_card("tiny"), part)


@pytest.mark.slow
def test_a_folder_is_asked_as_in_use_and_makes_a_copy_that_answers(tiny, ward, capsys):
    arguments = ["check", "--model", "tiny", "--data", str(ward), "--json"]
    assert main([*arguments, "--register", "tiny-ward"]) == 0
    told = json.loads(capsys.readouterr().out)
    films = len(list(ward.glob("*/ward-*")))
    assert told["films"] == films >= 50
    assert any("counted once: 1" in note for note in told["notes"])
    assert any(note.startswith("Not readable: 1") for note in told["notes"])
    assert told["registered"] == "tiny-ward"

    weights = [tiny / name / "model.keras" for name in ("tiny", "tiny-ward")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    copy, original = load_classifier("tiny-ward"), load_classifier("tiny")
    size = original.card.preprocessing.size
    square = np.random.default_rng(0).normal(size=(1, size, size, 1)).astype(np.float32)
    np.testing.assert_array_equal(copy.forward(square)[0], original.forward(square)[0])
    again = measure(load_card("tiny"), films_of_folder(load_card("tiny"), ward))
    np.testing.assert_array_equal(
        again.films.table.logits, read_validation(tiny / "tiny-ward" / "validation.csv").logits
    )
    with pytest.raises(DataError, match="chose or tested 'tiny-ward'"):
        films_of_folder(load_card("tiny-ward"), ward)


@pytest.mark.slow
def test_another_kind_of_folder_is_refused(tiny, tmp_path, ward):
    for name, film in (("CAT", "ward-0.jpeg"), ("NORMAL", "ward-1.jpeg")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        shutil.copyfile(next(ward.glob(f"*/{film}")), tmp_path / "pets" / name / film)
    with pytest.raises(DataError, match="tells CAT, but 'tiny' answers Pneumonia"):
        films_of_folder(load_card("tiny"), tmp_path / "pets")


# --- the command ---


def test_the_command_says_it_in_sentences(models, tmp_path, capsys):
    scores = np.random.default_rng(0).random(80).round(4)
    truth = np.random.default_rng(1).random(80) < scores
    files = [tmp_path / "P.csv", tmp_path / "L.csv"]
    for path, content in zip(files, two_files(scores, truth), strict=True):
        path.write_bytes(content)
    asked = ["check", "--model", "made", "--predictions", str(files[0])]
    assert main([*asked, "--labels", str(files[1])]) == 0
    out = capsys.readouterr().out
    assert "80 films of 40 patients, the scores 'P.csv'" in out
    assert "By the card's own rule, pneumonia" in out
    with pytest.raises(SystemExit) as status:
        main(asked)
    assert status.value.code == 2
    assert "--labels: required" in capsys.readouterr().err
    assert main([*asked, "--labels", str(tmp_path / "none.csv")]) == 2
    assert "cannot be read" in capsys.readouterr().err


# --- the view ---


@pytest.fixture
def page(models: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("CXR_RECORDS", "off")
    st.cache_data.clear()
    page = AppTest.from_file(str(ROOT / "pages" / "evaluation.py"), default_timeout=60)
    page.session_state["view"] = "Local check"
    return page.run()


def html(page: AppTest) -> str:
    return " ".join(unescape(part.body) for part in page.get("html"))


def banner_of(page: AppTest) -> str:
    return html(page).partition('class="cxr-banner"')[2].partition("</p>")[0]


def give(page: AppTest, scores: np.ndarray, truth: np.ndarray) -> AppTest:
    """Drop both files and check."""
    for box, content in zip(page.file_uploader, two_files(scores, truth), strict=True):
        box.set_value((f"{box.label[:5]}.csv", content, "text/csv"))
    page.run()
    return next(one for one in page.button if one.label == "Check on these films").click().run()


def test_the_view_shows_what_the_core_says_and_registers_a_copy(page, models):
    random = np.random.default_rng(0)
    scores = random.random(120).round(4)
    truth = random.random(120) < scores
    page = give(page, scores, truth)
    assert not page.exception and not page.error
    found = measure(
        load_card("made"), films_of_scores(load_card("made"), *two_files(scores, truth))
    )
    told = html(page)
    assert "The shipped calibration holds here." in told
    for value in (found.report.labels[0].auroc.value, found.suggestion.report.labels[0].ece):
        assert f"{value:.2f}" in told
    assert f"{found.suggestion.decision.operating_points[0]:.3f}" in told
    assert "cxr-banner" not in told
    next(one for one in page.button if one.label == "Register the copy").click().run()
    assert not page.exception and not page.error
    assert (models / "made-local" / "card.json").is_file()
    next(one for one in page.button if one.label == "Register the copy").click().run()
    assert "nothing is overwritten" in page.error[0].value.replace("\\", "")
    page.selectbox(key="model").set_value("made-local").run()
    assert "come from 120 films of a site" in banner_of(page)


def test_the_view_says_why_films_cannot_be_used(page):
    scores = np.linspace(0.1, 0.9, 60)
    page = give(page, scores, np.full(60, 7))
    assert not page.exception
    assert page.error


def test_readers_are_offered_neither_folders_nor_copies(page, monkeypatch):
    monkeypatch.setattr(access, "visitor", lambda: Visitor("grace@hospital.example", reader=True))
    scores = np.random.default_rng(0).random(120)
    page = give(page.run(), scores, scores > 0.5)
    assert not page.exception and "On your films" in html(page)
    assert not page.text_input
    assert "Register the copy" not in [one.label for one in page.button]
