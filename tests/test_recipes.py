"""Every recipe, from a raw folder to a registered model, on films made by code."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from cxr_core import classifier as classifier_module
from cxr_core import parts as parts_module
from cxr_core.calibration import probabilities
from cxr_core.cards import load_card, load_evaluation, load_history, load_predictions
from cxr_core.classifier import load_classifier
from cxr_core.datasets import (
    Box,
    DatasetIndex,
    Film,
    index,
    split_by_film,
    split_by_patient,
    write_shards,
)
from cxr_core.errors import ArgumentError, DataError, TrainingError
from cxr_core.gate import check
from cxr_core.networks import below, build_network, codes_layer
from cxr_core.parts import blacked_out, deal, fit_labels, prepare_parts, targets
from cxr_core.phantom import thorax
from cxr_core.recipes import NIH_FINDINGS, Protocol, get_recipe, list_recipes
from cxr_core.release import score_split, train

pytestmark = pytest.mark.slow

# Small enough to train in seconds; the smallest that each backbone takes.
SIZES = {"inceptionv3-nih15": 75, "vgg16-codes": 64}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return tmp_path


@pytest.fixture(autouse=True)
def light(request, monkeypatch):
    """Run steps on phantoms as they are written, and keep weights as they are.

    To trace a large network takes longer than these few steps, and so does to deflate its file.
    Graphs train in test_training and on the real films below; test_classifier sees files deflate.
    """
    monkeypatch.setattr(classifier_module, "_deflate", lambda path: None)
    if "data" not in request.fixturenames:
        request.getfixturevalue("eagerly")


def small(recipe, **changes):
    size = SIZES.get(recipe.name, 64)
    return replace(
        recipe,
        preprocessing=replace(recipe.preprocessing, size=size),
        config=replace(recipe.config, epochs=2, batch=8, validation=0.3),
        protocol=replace(recipe.protocol, held_out=(0.25, 0.25), share=1.0),
        **changes,
    )


def two_folders(phantoms, folder, names):
    """Lay phantoms out as CLASS/film, without splits."""
    for old, new in zip(("NORMAL", "PNEUMONIA"), names, strict=True):
        (folder / new).mkdir(parents=True)
        for path in sorted(phantoms.glob(f"*/{old}/*")):
            shutil.copy(path, folder / new / f"{path.parent.parent.name}-{path.name}")
    return folder


def nih_folder(phantoms, folder):
    """Lay phantoms out as NIH ChestX-ray14, each finding on one film in seven."""
    (folder / "images").mkdir(parents=True)
    rows = [
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position"
    ]
    for k, path in enumerate(sorted(phantoms.glob("*/*/*"))):
        shutil.copy(path, folder / "images" / f"{k:08d}_000{path.suffix}")
        found = "|".join(NIH_FINDINGS[k % 7 :: 7]) if k % 3 else "No Finding"
        rows.append(f"{k:08d}_000.png,{found},0,{k},{40 + k},F,PA")
    (folder / "Data_Entry_2017.csv").write_text("\n".join(rows) + "\n")
    return folder


def folder_for(name, phantoms, place):
    if name == "covid-radiography":
        return two_folders(phantoms, place / "covid", ("Normal", "COVID"))
    if "nih-csv" in get_recipe(name).layouts and name != "vgg16-codes":
        return nih_folder(phantoms, place / "nih")
    return phantoms


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_goes_from_folder_to_registered_model(name, phantom_folder, place):
    recipe = small(get_recipe(name))
    if recipe.network == "residual":
        recipe = replace(recipe, options={"widths": (8, 16, 16, 16)})
    data = folder_for(name, phantom_folder, place)
    folder = train(recipe, data, name="made", runs=place / "runs")
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.json",
        "evaluation.json",
        "familiarity.npz",
        "graph.json",
        "history.csv",
        "inputs.json",
        "model.keras",
        "model.onnx",
        "predictions.csv",
        "repeatability.json",
        "validation.csv",
    ]
    card, report, table = load_card("made"), load_evaluation("made"), load_predictions("made")
    assert card.labels == tuple(get_recipe(name).labels) == tuple(x.label for x in report.labels)
    assert len(load_history("made")["loss"]) == 2
    facts = json.loads((folder / "card.json").read_text())["training"]
    assert facts["command"].startswith(f"python -m cxr_core train {name} --data {data.name}")
    assert set(recipe.reported) <= set(facts["as_sources_count"])
    assert facts["in_two_parts"] == 0 or recipe.protocol.resplit == "film"
    if recipe.sensitivity is None and recipe.activation == "sigmoid":
        # 0.5 as the source means it: before calibration.
        halves = probabilities(np.zeros(len(card.labels)), card.calibration, "sigmoid")
        for point, half in zip(card.operating_points, halves, strict=True):
            assert point is None or point == pytest.approx(half, rel=1e-9)
    again = score_split(load_classifier("made"), recipe, data, "test")
    assert again.files == table.files
    np.testing.assert_allclose(again.y_score, table.y_score, atol=1e-5)


# --- protocols ---


def made_index(tmp_path, normal, pneumonia):
    films = [Film(f"N/{k}", (), f"n{k}", None, f"dn{k}") for k in range(normal)]
    films += [Film(f"P/{k}", ("P",), f"p{k // 2}", None, f"dp{k}") for k in range(pneumonia)]
    return DatasetIndex(tmp_path, "class-folders", ("N", "P"), tuple(films))


def test_the_published_split_by_film_has_the_published_counts(tmp_path):
    films = made_index(tmp_path, 1583, 4273).films
    split = split_by_film(films, {"train": 0.7, "validation": 0.15, "test": 0.15}, seed=0)
    assert {name: len(part) for name, part in split.items()} == {
        "train": 4098,
        "validation": 879,
        "test": 879,
    }
    for part in split.values():
        share = sum(not film.findings for film in part) / len(part)
        assert share == pytest.approx(1583 / 5856, abs=1e-3)
    assert sorted(film.file for part in split.values() for film in part) == sorted(
        film.file for film in films
    )
    again = split_by_film(films[::-1], {"train": 0.7, "validation": 0.15, "test": 0.15}, seed=0)
    assert again == split


def test_the_same_rule_on_the_films_at_hand(data):
    dataset = index(data / "pediatric_pneumonia")
    parts = deal(dataset, get_recipe("subset-cnn-whole"), 0)
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [4088, 876, 876]
    patients = [{film.patient for film in parts[name]} for name in ("train", "test")]
    assert len(patients[0] & patients[1]) > 100  # the leak that flatters
    clean = deal(dataset, get_recipe("subset-cnn-by-patient"), 0)
    patients = [{film.patient for film in clean[name]} for name in ("train", "test")]
    assert not patients[0] & patients[1]


def test_a_share_of_the_films_leaves_the_test_films_alone(phantom_folder, place):
    recipe = small(get_recipe("subset-cnn-whole"))
    whole = prepare_parts(index(phantom_folder), recipe, 0)
    half = replace(recipe, protocol=replace(recipe.protocol, share=0.5))
    less = prepare_parts(index(phantom_folder), half, 0)
    assert less["test"].films == whole["test"].films
    assert len(less["train"].films) == pytest.approx(len(whole["train"].films) / 2, abs=1)
    assert set(less["train"].films) < set(whole["train"].films)


def test_films_outside_the_ages_and_boxed_patients_do_not_train(tmp_path, monkeypatch):
    box = Box("Mass", 0.1, 0.1, 0.2, 0.2)
    films = tuple(
        Film(
            f"{k}.png",
            ("Mass",) if k % 2 else (),
            f"p{k // 2}",
            None,
            f"d{k}",
            age_years=(None, 10.0, 40.0)[k % 3],
            boxes=(box,) if k % 5 == 0 else (),
        )
        for k in range(120)
    )
    boxed = {film.patient for film in films if film.boxes}
    dataset = DatasetIndex(tmp_path, "nih-csv", ("Mass", "No Finding"), films)
    monkeypatch.setattr(parts_module, "pixel_cache", lambda *args: np.zeros((1, 1, 1), np.uint8))
    recipe = replace(
        get_recipe("inceptionv3-nih15"),
        labels={"Mass": ("Mass",)},
        protocol=Protocol(ages=(18.0, 120.0)),
    )
    parts = prepare_parts(dataset, recipe, 0)
    seen = [film for part in parts.values() for film in part.films]
    assert 10.0 not in {film.age_years for film in seen}
    assert {film.age_years for film in seen} == {None, 40.0}
    for name in ("train", "validation"):
        assert not boxed & {film.patient for film in parts[name].films}
    assert boxed & {film.patient for film in parts["test"].films}


def test_a_rare_label_may_be_missing_where_nothing_is_learned(tmp_path, monkeypatch):
    films = tuple(
        Film(f"{k}.png", (("Mass",), ())[k % 2], str(k), split, f"d{k}")
        for k, split in enumerate(["train", "validation", "test"] * 4)
    )
    rare = Film("rare.png", ("Hernia",), "r", "train", "r")
    dataset = DatasetIndex(tmp_path, "nih-csv", ("Hernia", "Mass"), (*films, rare))
    monkeypatch.setattr(parts_module, "pixel_cache", lambda *args: np.zeros((1, 1, 1), np.uint8))
    labels = {"Mass": ("Mass",), "Hernia": ("Hernia",)}
    recipe = replace(get_recipe("inceptionv3-nih15"), labels=labels)
    assert prepare_parts(dataset, recipe, 0)["test"].targets[:, 1].sum() == 0
    with pytest.raises(DataError, match="train part has 4 films, 0 of them 'Hernia'"):
        prepare_parts(replace(dataset, films=films), recipe, 0)


def test_a_folder_dealt_anew_is_scored_only_where_nothing_was_seen(phantom_folder, place):
    data = two_folders(phantom_folder, place / "covid", ("Normal", "COVID"))
    recipe = replace(
        small(get_recipe("covid-radiography"), options={"widths": (8, 16, 16, 16)}), control=0.0
    )
    train(recipe, data, name="covid", runs=place / "runs")
    classifier = load_classifier("covid")
    score_split(classifier, recipe, data, "test")
    first = next((data / "Normal").iterdir())
    (data / "Normal" / "new.png").write_bytes(first.read_bytes() + b" ")
    with pytest.raises(DataError, match="dealt anew, films that it saw would be scored"):
        score_split(classifier, recipe, data, "test")


def test_few_patients_with_rare_findings_reach_every_part():
    films = [Film(f"{k}", (f"rare {k % 60}",), f"p{k}", None, f"d{k}") for k in range(240)]
    split = split_by_patient(films, {"train": 0.7, "validation": 0.15, "test": 0.15}, seed=0)
    shares = {name: len(part) / 240 for name, part in split.items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.15, "test": 0.15}, abs=0.02)


def test_one_patient_cannot_be_split(tmp_path):
    films = tuple(Film(f"{k}", (("P",), ())[k % 2], "one", None, f"d{k}") for k in range(30))
    dataset = DatasetIndex(tmp_path, "class-folders", ("N", "P"), films)
    recipe = replace(get_recipe("two-folder-cnn"), labels={"P": ("P",)})
    with pytest.raises(DataError, match=r"The \w+ part has 0 films"):
        prepare_parts(dataset, recipe, 0)


# --- labels ---


def test_any_finding_makes_a_film_abnormal():
    recipe = get_recipe("vgg16-codes")
    films = [Film(n, f, n, None, n) for n, f in (("a", ()), ("b", ("Mass",)))]
    assert targets(films, recipe).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("name", "labels"),
    [("two-folder-cnn", ("dogs",)), ("vgg16-codes", ("cats", "dogs"))],
)
def test_any_two_classes_will_do_and_the_card_says_that_no_gate_fits(
    name, labels, phantom_folder, place
):
    data = two_folders(phantom_folder, place / "pets", ("cats", "dogs"))
    train(small(get_recipe(name)), data, name="pets", runs=place / "runs")
    card = load_card("pets")
    assert card.labels == labels
    assert any("No gate fits" in limit for limit in card.limits)
    assert card.age_range is None and card.views == ()
    assert card.data == "Films of the user's own folder."
    assert card.training["reported"] == {} and card.training["better"] is None
    table = load_predictions("pets")
    assert table.y_true[:, -1].tolist() == [file.startswith("dogs/") for file in table.files]
    film = thorax(96, 96, seed=1)
    coloured = replace(film, facts=replace(film.facts, colourfulness=0.5))
    report = check(coloured, card)
    assert not report.refused and "No gate fits" in report.checks[0].reason


def test_films_that_no_label_means_are_refused_before_any_work(tmp_path):
    odd = replace(
        made_index(tmp_path, 4, 4),
        films=(
            Film("a", ("PNEUMONIA", "virus"), "a", None, "a"),
            Film("b", ("PNEUMONIA",), "b", None, "b"),
            Film("c", (), "c", None, "c"),
        ),
    )
    with pytest.raises(DataError, match=r"cannot say what 1 films .* such as b \(PNEUMONIA\)"):
        fit_labels(get_recipe("pediatric-type"), odd)
    other = replace(odd, films=(*odd.films, Film("d", ("COVID",), "d", None, "d")))
    with pytest.raises(DataError, match=r"cannot say .* such as d \(COVID\)"):
        fit_labels(get_recipe("pediatric-pneumonia"), other)


def test_a_folder_of_other_labels_is_refused(tmp_path):
    three = replace(made_index(tmp_path, 4, 4), classes=("N", "P", "Q"))
    with pytest.raises(
        DataError, match="has the classes N, P, Q, but 'two-folder-cnn' asks for PN"
    ):
        fit_labels(get_recipe("two-folder-cnn"), three)


# --- the borders-only control ---


def test_blacking_out_leaves_the_border_and_the_original(phantom_folder, place):
    part = prepare_parts(index(phantom_folder), small(get_recipe("two-folder-cnn")), 0)["test"]
    dark = blacked_out(part, 0.75)
    assert not dark.squares[:, 8:56, 8:56].any()
    np.testing.assert_array_equal(dark.squares[:, :8], part.squares[:, :8])
    np.testing.assert_array_equal(dark.squares[:, :, 56:], part.squares[:, :, 56:])
    assert part.squares[:, 8:56, 8:56].any()


def test_the_control_is_trained_the_same_way_and_stands_on_the_card(phantom_folder, place):
    data = two_folders(phantom_folder, place / "covid", ("Normal", "COVID"))
    recipe = small(get_recipe("covid-radiography"), options={"widths": (8, 16, 16, 16)})
    train(recipe, data, name="covid", runs=place / "runs")
    control = load_card("covid").training["control"]
    assert control["blacked_out"] == 0.8
    value, low, high = control["auroc"]["COVID-19"]
    assert low is None or low <= value <= high
    assert len((place / "runs" / "covid-control" / "history.csv").read_text().splitlines()) == 3


# --- codes of a frozen backbone ---


def test_codes_are_computed_once_kept_and_only_the_head_learns(phantom_folder, place, monkeypatch):
    from cxr_core import codes

    recipe = small(get_recipe("vgg16-codes"))
    computed = []
    compute = codes._compute

    def count(path, done, squares, *others):
        computed.append(len(squares))
        compute(path, done, squares, *others)

    monkeypatch.setattr(codes, "_compute", count)
    train(recipe, phantom_folder, name="one", runs=place / "runs", seed=3)
    first = list(computed)
    assert len(first) == 2 and min(first) > 0  # training and validation films
    longer = replace(recipe, config=replace(recipe.config, epochs=3))
    train(longer, phantom_folder, name="two", runs=place / "runs", seed=3)
    assert computed == first
    one, two = (load_classifier(name).network for name in ("one", "two"))
    for k, (a, b) in enumerate(
        zip(below(one).get_weights(), below(two).get_weights(), strict=True)
    ):
        np.testing.assert_array_equal(a, b, err_msg=f"weight {k} of the backbone moved")


def test_codes_go_on_where_a_killed_run_was(phantom_folder, place, monkeypatch):
    from cxr_core import codes

    part = prepare_parts(index(phantom_folder), small(get_recipe("vgg16-codes")), 0)["train"]
    network = build_network("codes", size=64, channels=3, outputs=2)
    preprocessing = get_recipe("vgg16-codes").preprocessing
    preprocessing = replace(preprocessing, size=64)
    monkeypatch.setattr(codes, "CHUNK", 2)

    class Killed(Exception):
        pass

    def stop(what, done, total):
        if done >= 4:
            raise Killed

    with pytest.raises(Killed):
        codes.with_codes(part, network, preprocessing, stop)
    told = []
    found = codes.with_codes(
        part, network, preprocessing, lambda what, done, total: told.append(done)
    )
    assert told[0] == 6
    backbone = below(network, codes_layer(network))
    expected = backbone.predict_on_batch(np.repeat(part.squares[..., None] / 255.0, 3, axis=3))
    np.testing.assert_allclose(found.codes, expected, rtol=2e-3, atol=2e-3)
    assert not list((place / "cache").glob("*.part")) + list((place / "cache").glob("*.done"))


def test_a_full_disk_is_told_before_any_code_is_written(phantom_folder, place, monkeypatch):
    import errno
    import os

    from cxr_core import codes

    recipe = small(get_recipe("vgg16-codes"))
    part = prepare_parts(index(phantom_folder), recipe, 0)["train"]

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    network = build_network("codes", size=64, channels=3, outputs=2)
    with pytest.raises(DataError, match=r"\d+ MB in .*CXR_CACHE"):
        codes.with_codes(part, network, recipe.preprocessing)


def test_any_kept_epoch_can_become_a_model(phantom_folder, place):
    recipe = small(get_recipe("vgg16-codes"))
    train(recipe, phantom_folder, runs=place / "runs")
    train(recipe, phantom_folder, name="first", epoch=1, runs=place / "runs")
    assert load_card("first").training["best_epoch"] == 1
    for epoch in (0, 7):
        with pytest.raises(TrainingError, match=rf"Epoch {epoch} is not kept .* 1 to 2"):
            train(recipe, phantom_folder, name="no", epoch=epoch, runs=place / "runs")
    with pytest.raises(TrainingError, match=r"runs/other'. Kept: none"):
        train(recipe, phantom_folder, name="no", epoch=1, trained_as="other", runs=place / "runs")
    plain = small(get_recipe("two-folder-cnn"))
    with pytest.raises(TrainingError, match="keeps only the one that becomes the model"):
        train(plain, phantom_folder, name="no", epoch=1, runs=place / "runs")
    with pytest.raises(ArgumentError, match="no pretrained backbone"):
        train(get_recipe("two-folder-cnn"), phantom_folder, name="no", backbone="vgg16")


def test_the_vgg16_path_runs_from_a_weights_file(phantom_folder, place):
    donor = below(build_network("codes", size=64, channels=3, outputs=2, backbone="vgg16"))
    donor.save_weights(place / "vgg.weights.h5")
    train(
        small(get_recipe("vgg16-codes")),
        phantom_folder,
        name="vgg",
        backbone="vgg16",
        weights=str(place / "vgg.weights.h5"),
        runs=place / "runs",
    )
    network = load_classifier("vgg").network
    kernel = network.get_layer("block5_conv3").get_weights()[0]
    given = donor.get_layer("block5_conv3").get_weights()[0]
    np.testing.assert_array_equal(kernel, given.astype(np.float16).astype(np.float32))
    assert "--backbone vgg16" in load_card("vgg").training["command"]


# --- shards, and real films ---


def test_a_recipe_trains_from_shards_and_skips_damaged_ones_only_when_asked(phantom_folder, place):
    source = index(nih_folder(phantom_folder, place / "nih"))
    shards = write_shards(source, place / "shards", per_shard=8, size=96)
    recipe = small(
        get_recipe("inceptionv3-nih15"), network="residual", options={"widths": (8, 16, 16, 16)}
    )
    train(recipe, place / "shards", name="whole", runs=place / "runs")
    assert load_card("whole").training["films"] > 0
    shards[1].write_bytes(shards[1].read_bytes()[:-20])
    with pytest.raises(DataError, match=shards[1].name):
        train(recipe, place / "shards", name="less", runs=place / "runs")
    with pytest.raises(ArgumentError, match="Only TFRecord shards can be skipped"):
        index(phantom_folder, skip_damaged=True)
    dataset = index(place / "shards", skip_damaged=True)
    assert len(dataset.films) == len(source.films) - 8
    assert any(shards[1].name in note for note in dataset.notes)
    train(recipe, place / "shards", name="less", skip_damaged=True, runs=place / "runs")
    facts = load_card("less").training
    assert any(shards[1].name in note for note in facts["notes"])
    assert facts["command"].endswith("--skip-damaged")


def test_integrated_gradients_explain_the_inception_network(made_card):
    from cxr_core.attribution import explain
    from cxr_core.classifier import Classifier
    from cxr_core.preprocess import ModelInput, Preprocessing, place

    preprocessing = Preprocessing(size=75, channels=3, standardise=False)
    recipe = get_recipe("inceptionv3-nih15")
    network = build_network("pretrained", size=75, channels=3, outputs=1, **recipe.options)
    card = replace(made_card, preprocessing=preprocessing)
    pixels = np.random.default_rng(0).random((75, 75, 3), np.float32)
    film = ModelInput(pixels, place(75, 75, preprocessing), 0.0)
    found = explain(Classifier(card, network), film, "Pneumonia", "integrated-gradients")
    assert found.values.shape == (75, 75) and found.values.any()
    assert found.relative_gap < 0.01


def sample(folder, place, per_class, pattern="*"):
    """Link a few films of each class folder, a patient or two of each split."""
    for kind in sorted(path for path in folder.glob(pattern) if path.is_dir()):
        target = place / kind.relative_to(folder)
        target.mkdir(parents=True)
        for path in sorted(kind.iterdir())[:per_class]:
            (target / path.name).symlink_to(path)
    return place


def test_recipes_of_class_folders_run_on_a_sample_of_real_films(data, place):
    children = sample(data / "pediatric_pneumonia", place / "children", 30, "*/*")
    for name in ("two-folder-cnn", "subset-cnn-by-patient"):
        train(small(get_recipe(name)), children, name=name, runs=place / "runs")
        assert load_evaluation(name).n >= 20
    adults = sample(data / "covid_radiography", place / "adults", 40)
    recipe = small(get_recipe("covid-radiography"), options={"widths": (8, 16, 16, 16)})
    train(recipe, adults, name="covid", runs=place / "runs")
    assert load_card("covid").training["in_two_parts"] == 0


def test_codes_of_the_backbone_at_hand_beat_chance_on_a_sample_of_real_films(data, place):
    children = sample(data / "pediatric_pneumonia", place / "children", 40, "*/*")
    recipe = get_recipe("vgg16-codes")
    recipe = replace(recipe, config=replace(recipe.config, epochs=5, batch=16))
    weights = str(data / "weights" / "mobilenet_v1_1.0_224_imagenet.npz")
    train(recipe, children, weights=weights, runs=place / "runs")
    report = load_evaluation("vgg16-codes")
    assert report.n == 80 and report.label("Abnormal").auroc.value > 0.75


def test_nih_films_train_with_no_patient_on_two_sides_and_no_child(data, place):
    recipe = get_recipe("adult-findings")
    recipe = replace(
        recipe,
        network="residual",
        options={"widths": (8, 16, 16, 16)},
        preprocessing=replace(recipe.preprocessing, size=64),
        config=replace(recipe.config, epochs=1),
    )
    train(recipe, data / "nih_chestxray14", name="nih", runs=place / "runs")
    card, table = load_card("nih"), load_predictions("nih")
    assert card.training["in_two_parts"] == 0
    assert min(age for age in table.age if age is not None) >= 18
    assert len(card.labels) == 15
