"""Measures of explanations: on values worked by hand, and on a network that learned phantoms."""

import json
from dataclasses import replace

import numpy as np
import pytest
from bundles import CARD, table_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.stats import spearmanr

from cxr_core.attribution import examine, explain
from cxr_core.cards import load_card, load_explanations, model_folder
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.datasets import Box, index, read_film
from cxr_core.errors import ArgumentError, DataError, UnknownName
from cxr_core.explanations import areas
from cxr_core.faithfulness import (
    blurred,
    bootstrap,
    cells,
    centre_order,
    choose_films,
    fixed_box_overlaps,
    fixed_point_hits,
    follow,
    likeness,
    measure,
    order_of,
    overlap,
    random_order,
    shuffled,
    write_mean_film,
)
from cxr_core.faithfulness import boxes as drawn
from cxr_core.faithfulness.cascade import mean_likeness, stages, weighted_layers
from cxr_core.faithfulness.curves import GRID, STEPS
from cxr_core.faithfulness.sample import (
    default_films,
    measured_labels,
    multiply_adds,
    shown,
)
from cxr_core.faithfulness.withholding import Agreement, bound, measure_agreement
from cxr_core.phantom import Opacity, thorax
from cxr_core.preprocess import Preprocessing, finish, place, prepare, to_square
from cxr_core.ranking import NO_INTERVAL, Interval
from cxr_core.recipes import get_recipe

SIDE = 32
ALL = GRID * GRID


# --- orders and curves ---


def test_cells_are_means_of_fine_maps():
    values = np.zeros((SIDE, SIDE), np.float32)
    values[0, 0], values[2:4, 4:6] = 4, 3  # each cell is 2 x 2 pixels

    found = cells(values)

    assert found.shape == (GRID, GRID)
    assert found[0, 0] == 1 and found[1, 2] == 3
    assert found.sum() == 4


def test_coarse_maps_are_drawn_out_without_a_shift():
    coarse = np.arange(4, dtype=np.float32)[:, None].repeat(4, axis=1)

    found = cells(coarse)

    assert_allclose(found, -found[::-1] + 3, atol=1e-5)  # about the middle
    assert_allclose(found[:, 0], found[:, -1])


def test_the_highest_cells_come_first_and_equal_ones_in_no_direction():
    values = np.zeros((GRID, GRID), np.float32)
    values[3, 4], values[9, 1] = 2, 5

    order = order_of(values, seed=1)

    assert order[:2].tolist() == [9 * GRID + 1, 3 * GRID + 4]
    assert sorted(order) == list(range(ALL))
    assert abs(np.corrcoef(np.arange(ALL - 2), order[2:])[0, 1]) < 0.3
    assert (order_of(values, seed=1) == order).all()


def test_the_centre_comes_first_and_the_corners_last():
    order = centre_order()
    corners = {0, GRID - 1, ALL - GRID, ALL - 1}
    middle = {(GRID // 2 + y) * GRID + GRID // 2 + x for y in (-1, 0) for x in (-1, 0)}

    assert set(order[:4].tolist()) == middle
    assert set(order[-4:].tolist()) == corners


def brightness(films):
    """Two logits: the film's mean, and the mean of its upper half."""
    return np.stack([films.mean(axis=(1, 2, 3)), films[:, : SIDE // 2].mean(axis=(1, 2, 3))], 1)


def test_curves_of_a_network_that_adds_up_pixels_are_known():
    """White film, black in the blur's place: after k of 16 steps a share k / 16 is gone."""
    film, black = np.ones((SIDE, SIDE, 1), np.float32), np.zeros((SIDE, SIDE, 1), np.float32)
    upper_first = order_of(np.linspace(1, 0, ALL).reshape(GRID, GRID).astype(np.float32))

    deletion, insertion = follow(brightness, film, black, upper_first)

    way = np.linspace(0, 1, STEPS + 1)
    assert_allclose(deletion[:, 0], 1 - way, atol=1e-6)
    assert_allclose(insertion[:, 0], way, atol=1e-6)
    assert_allclose(deletion[:, 1], np.maximum(1 - 2 * way, 0), atol=1e-6)
    assert_allclose(insertion[:, 1], np.minimum(2 * way, 1), atol=1e-6)
    assert_allclose(areas(deletion.T), [0.5, 0.25], atol=1e-6)


def test_inserting_in_the_reverse_order_shows_the_same_films():
    random = np.random.default_rng(0)
    film = random.normal(size=(SIDE, SIDE, 1)).astype(np.float32)
    order = random_order(3)

    deletion, nothing = follow(brightness, film, blurred(film), order, insertion=False)
    _, insertion = follow(brightness, film, blurred(film), order[::-1])

    assert_allclose(insertion[::-1], deletion, atol=1e-6)
    assert nothing.shape == (2, 2)  # the ends alone


def test_the_blur_leaves_neither_a_border_nor_a_pattern():
    board = np.indices((SIDE, SIDE)).sum(axis=0)[..., None] % 2

    found = blurred(board.astype(np.float32))[..., 0]

    assert_allclose(found[10:22, 10:22], 0.5, atol=0.02)
    assert_allclose(blurred(np.full((SIDE, SIDE, 1), 7, np.float32)), 7, rtol=1e-6)


def test_a_bootstrap_interval_holds_the_mean():
    values = np.random.default_rng(1).normal(2, 1, 400)

    found = bootstrap(values)

    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20  # the normal interval of a mean of 400
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert bootstrap(np.array([])).value is None


# --- boxes and floors ---


def masked(*boxes, size=(100, 100), **fit):
    placement = place(*size, Preprocessing(size=64, **fit))
    return drawn.mask_of(boxes, placement)


LEFT_UPPER, RIGHT_LOWER = Box("a", 0, 0, 0.5, 0.5), Box("b", 0.5, 0.5, 0.5, 0.5)


def test_boxes_lie_where_they_were_drawn():
    mask = masked(LEFT_UPPER)

    assert mask[:64, :64].all() and mask.sum() == 64 * 64
    assert masked(LEFT_UPPER, RIGHT_LOWER).sum() == 2 * 64 * 64


def test_boxes_follow_the_film_into_a_letterbox():
    """A film twice as high as wide fills the middle half of the square."""
    mask = masked(Box("a", 0, 0, 1, 1), size=(200, 100), fit="letterbox")

    assert mask[:, 32:96].all() and mask.sum() == 128 * 64


def test_a_peak_on_a_plateau_is_its_middle():
    values = np.zeros((128, 128), np.float32)
    values[10:21, 40:51] = 1

    assert drawn.peak_of(values) == (15, 45)
    assert drawn.peak_of(np.ones((128, 128), np.float32)) is None


def test_a_flat_map_hits_nothing_and_marks_nothing():
    flat, everywhere = np.zeros((128, 128), np.float32), np.ones((128, 128), bool)

    assert not drawn.hits(flat, everywhere)
    assert not drawn.region(flat).any()


def test_what_speaks_against_a_label_never_points():
    values = np.full((128, 128), -1, np.float32)
    values[5, 6] = -9

    assert drawn.peak_of(drawn.raster(values)) is None


def test_overlap_by_hand():
    assert overlap(masked(LEFT_UPPER), masked(Box("a", 0.25, 0, 0.5, 0.5))) == pytest.approx(1 / 3)
    assert overlap(masked(), masked()) == 0


def test_the_region_is_what_reaches_half_of_the_peak():
    values = np.zeros((128, 128), np.float32)
    values[0, :4] = (1, 0.5, 0.49, 0.1)

    assert drawn.region(values).sum() == 2


def test_the_centre_hits_only_boxes_around_it():
    masks = np.stack([masked(Box("a", 0.4, 0.4, 0.2, 0.2)), masked(LEFT_UPPER)])

    assert drawn.centre_hits(masks).tolist() == [True, False]


def test_the_fixed_point_is_chosen_without_the_film_it_is_judged_on():
    """Of three films, two share a box: each of them is found by the other; the third by none."""
    masks = np.stack([masked(LEFT_UPPER), masked(LEFT_UPPER), masked(RIGHT_LOWER)])

    assert fixed_point_hits(masks).tolist() == [True, True, False]
    assert fixed_point_hits(masks[1:]).tolist() == [False, False]


def test_the_fixed_box_is_chosen_without_the_film_it_is_judged_on():
    masks = np.stack([masked(LEFT_UPPER), masked(LEFT_UPPER), masked(RIGHT_LOWER)])

    assert fixed_box_overlaps(masks).tolist() == [1, 1, 0]
    assert fixed_box_overlaps(masks[1:]).tolist() == [0, 0]


# --- shuffled weights ---

maps = arrays(np.float32, (GRID, GRID), elements=st.floats(-5, 5, width=16))


@given(maps, maps)
def test_likeness_is_spearmans_rank_correlation(one, other):
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert likeness(one, other) is None
    else:
        assert likeness(one, other) == pytest.approx(
            spearmanr(one.ravel(), other.ravel()).statistic, abs=1e-9
        )


def test_a_map_that_is_flat_up_to_rounding_ranks_nothing():
    values = np.arange(ALL, dtype=np.float32).reshape(GRID, GRID)
    flat = np.full((GRID, GRID), 0.3, np.float32)
    flat[::2] = np.nextafter(np.float32(0.3), np.float32(1))

    assert np.ptp(flat) > 0
    assert likeness(values, flat) is None and likeness(flat, values) is None
    assert likeness(values, flat + values * 1e-4) == pytest.approx(1)


def test_films_without_a_likeness_are_counted_apart():
    interval, without = mean_likeness([0.5, None, 0.25, None, None])

    assert (interval.value, without) == (0.375, 3)
    assert 0.25 <= interval.low <= interval.high <= 0.5
    assert mean_likeness([None, None]) == (NO_INTERVAL, 2)
    assert mean_likeness([0.0, 0.0]) == (Interval(0, 0, 0), 0)


def test_a_map_that_is_not_finite_is_like_no_other():
    values = np.arange(ALL, dtype=np.float32).reshape(GRID, GRID)
    broken = values.copy()
    broken[0, 0] = np.nan

    assert likeness(values, 3 * values + 1) == pytest.approx(1)
    assert likeness(values, broken) is None


def test_stages_go_from_the_top_layer_to_all():
    assert stages(27, 5) == [1, 8, 14, 20, 27]
    assert stages(2, 5) == [1, 2]


@pytest.mark.slow
def test_only_the_top_layers_are_shuffled_and_each_within_itself(tiny_classifier):
    names = weighted_layers(tiny_classifier.network)
    before = {name: tiny_classifier.network.get_layer(name).get_weights() for name in names}

    other = shuffled(tiny_classifier, 2).network

    assert names[0] == "logits"
    for place_, name in enumerate(names):
        for old, new in zip(before[name], other.get_layer(name).get_weights(), strict=True):
            assert_allclose(np.sort(old.ravel()), np.sort(new.ravel()))
            assert place_ < 2 or (old == new).all()
    kernel = other.get_layer("logits").get_weights()[0]
    assert (kernel != before["logits"][0]).any()
    for name in names:  # the model itself is untouched
        for old, now in zip(
            before[name], tiny_classifier.network.get_layer(name).get_weights(), strict=True
        ):
            assert (old == now).all()


# --- which films ---


def test_films_are_drawn_from_all_four_kinds_and_one_of_a_patient():
    truth = np.array([[k % 2] for k in range(80)])
    scores = np.array([[0.9 if k // 2 % 2 else 0.1] for k in range(80)])
    table = replace(
        table_of(("Pneumonia",), truth, scores), patients=tuple(str(k // 4) for k in range(80))
    )

    rows, flags = choose_films(table, CARD, "Pneumonia", 12, seed=0)

    kinds = [(int(truth[row, 0]), float(scores[row, 0])) for row in rows]
    assert {kinds.count(kind) for kind in set(kinds)} == {3}, "three of each of four kinds"
    assert len({table.patients[row] for row in rows}) == 12
    assert flags.tolist() == [score == 0.9 for _, score in kinds]
    assert (choose_films(table, CARD, "Pneumonia", 12, seed=0)[0] == rows).all()


def test_where_nothing_decides_nothing_is_flagged():
    table = table_of(("Pneumonia",), np.array([[0], [1]] * 9), np.full((18, 1), 0.9))
    card = replace(CARD, operating_points=(None,))

    assert not choose_films(table, card, "Pneumonia", 8, seed=0)[1].any()


def test_of_many_labels_those_are_measured_that_enough_films_have_or_are_flagged_for():
    """Of 40 films the first have it, the last are flagged; nothing flags the last label."""
    names, points = tuple("abcde"), (0.5, 0.5, 0.5, 0.5, None)
    film = np.arange(40)[:, None]
    truth = (film < (5, 4, 3, 0, 4)).astype(int)
    scores = np.where(film >= 40 - np.array((0, 0, 2, 4, 9)), 0.5, 0.1)
    scores[0, 1] = 0.9  # this one is counted once
    table = table_of(names, truth, scores)
    card = replace(CARD, labels=names, operating_points=points, cannot_tell=(None,) * 5)

    assert [shown(table, card, name) for name in names] == [5, 4, 5, 4, 4]
    assert measured_labels(table, card) == ["a", "c"]
    few = table_of(names[:3], truth[:, :3], scores[:, :3])
    assert measured_labels(few, card) == ["a", "b", "c"]


def test_a_bound_is_the_largest_percentile_rounded_down_and_never_below_nought():
    assert bound([-0.3, 0.19, 0.12]) == 0.1
    assert bound([0.2, 0.1]) == 0.2
    assert bound([-0.02, -0.4]) == 0.0


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=5))
def test_a_bound_lies_at_most_a_tenth_below_the_largest_percentile(fifths):
    found = bound(fifths)

    assert found >= 0 and found == pytest.approx(round(found, 1))
    assert max(fifths) - 0.1 <= found <= max(*fifths, 0.0)


def test_one_in_twenty_lies_below_the_fifth_percentile():
    found = Agreement(films=25, values=tuple(k / 20 for k in range(21)))

    assert (found.fifth, found.median) == (pytest.approx(0.05), 0.5)


def test_heavier_networks_are_measured_on_fewer_films():
    import keras

    inputs = keras.Input((8, 8, 3))
    maps_ = keras.layers.Conv2D(5, 3, strides=2, padding="same")(inputs)
    small = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(maps_)))

    assert multiply_adds(small) == 3 * 3 * 3 * 5 * 16 + 80 * 2
    assert default_films(small, 1) == 24
    assert default_films(small, 10**9) == 10


# --- a whole run ---


@pytest.fixture
def own_models(tiny_models, tmp_path, monkeypatch):
    """A copy of the tiny model that a test may write beside."""
    import shutil

    shutil.copytree(tiny_models, tmp_path / "models")
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "models"


@pytest.mark.slow
def test_a_run_writes_the_record_and_goes_on_where_it_stopped(own_models, phantom_folder):
    told = []

    def stop(what, done, total):
        told.append(what)
        if what.startswith("layer-cam"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure("tiny", phantom_folder, films=4, methods=("grad-cam", "layer-cam"), progress=stop)
    first = load_explanations("tiny", own_models)
    assert first.methods == ("grad-cam",), "what was measured before the stop is kept"

    report = measure("tiny", phantom_folder, films=4, methods=("layer-cam",))

    assert report.methods == ("grad-cam", "layer-cam")
    assert report.entries[0] == first.entries[0]
    assert load_explanations("tiny", own_models).methods == report.methods
    assert (report.part, report.data, report.films) == ("test", phantom_folder.name, 4)
    assert report.command == (
        f"python -m cxr_core faithfulness --model tiny --data {phantom_folder.name} --films 4"
    )
    found = report.entry("grad-cam", "Pneumonia")
    assert found.localisation is None and found.repeatability is None
    assert found.faithfulness.verdict == "not assessable", "four films are too few"
    assert len(found.faithfulness.deletion.method) == STEPS + 1
    # All orders begin with the film itself and end with the blurred one, or the reverse.
    deletion, insertion = found.faithfulness.deletion, found.faithfulness.insertion
    for curve in (deletion.method, deletion.random, deletion.centre):
        assert curve[0] == pytest.approx(insertion.method[-1], abs=1e-4)
        assert curve[-1] == pytest.approx(insertion.method[0], abs=1e-4)
    assert found.randomisation.stages[-1].layers == len(weighted_layers_of("tiny"))
    for stage in found.randomisation.stages:
        assert 0 <= stage.flat <= found.randomisation.films == 4
        assert (stage.similarity.value is None) == (stage.flat == 4)


@pytest.mark.slow
def test_films_that_other_thresholds_chose_do_not_stand_beside_the_new_ones(
    own_models, phantom_folder
):
    """Flags choose the sample: what was measured before they moved is not of the same films."""
    measure("tiny", phantom_folder, films=2, methods=("grad-cam",))
    path = own_models / "tiny" / "card.json"
    card = json.loads(path.read_text())
    card |= {"operating_points": [1 - 1e-6], "version": f"{card['version']}-moved"}
    path.write_text(json.dumps(card))

    report = measure("tiny", phantom_folder, films=2, methods=("layer-cam",))

    assert report.methods == ("layer-cam",)
    assert report.version.endswith("-moved")


@pytest.mark.slow
def test_the_command_measures_once_and_tells_each_method_in_a_line(
    own_models, phantom_folder, capsys
):
    from cxr_core.__main__ import main

    asked = ["faithfulness", "--model", "tiny", "--data", str(phantom_folder), "--films", "2"]
    assert main([*asked, "--methods", "grad-cam"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("Pneumonia, grad-cam: Localisation not assessable (no boxes); ")
    assert "grad-cam, Pneumonia, films: 2 of 2" in told.err

    path = own_models / "tiny" / "explanations.json"
    values = json.loads(path.read_text())
    assert main([*asked, "--methods", "grad-cam", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == values, "the same films, the same numbers"
    assert values["films"] == 2


def weighted_layers_of(name):
    return weighted_layers(load_classifier(name).network)


@pytest.mark.slow
def test_the_mean_film_is_that_of_the_training_films(own_models, phantom_folder):
    from PIL import Image

    from cxr_core.decisions import read_validation
    from cxr_core.parts import deal

    measure("tiny", phantom_folder, films=1, methods=("grad-cam",))

    parts = deal(index(phantom_folder), get_recipe("pediatric-pneumonia"), 0)
    chose = set(read_validation(own_models / "tiny" / "validation.csv").files)
    films = [film for film in (*parts["train"], *parts["validation"]) if film.file not in chose]
    squares = [
        to_square(read_film(phantom_folder, film), Preprocessing(size=64))[0] for film in films
    ]
    found = np.asarray(Image.open(own_models / "tiny" / "mean_film.png"))
    assert found.dtype == np.uint8 and found.shape == (64, 64)
    assert_allclose(found, np.mean(squares, axis=0), atol=0.5)


@pytest.mark.slow
def test_wrong_names_and_folders_are_told_before_the_wait(own_models, phantom_folder, tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'grad-cam'"):
        measure("tiny", phantom_folder, methods=("gradcam",))
    with pytest.raises(ArgumentError, match="films must be at least 1"):
        measure("tiny", phantom_folder, films=0)
    with pytest.raises(ArgumentError, match="no sister"):
        measure("tiny", phantom_folder, sister="tiny")
    other = tmp_path / "other"
    for part in ("train", "test"):
        for kind in ("NORMAL", "PNEUMONIA"):
            (other / part / kind).mkdir(parents=True)
            (other / part / kind / "person1_virus_1.jpeg").write_bytes(f"{part}{kind}".encode())
    with pytest.raises(DataError, match="test films are not in"):
        measure("tiny", other)


@pytest.mark.slow
def test_a_sister_tells_whether_maps_can_be_repeated(own_models, phantom_folder):
    import shutil

    shutil.copytree(own_models / "tiny", own_models / "twin")
    path = own_models / "twin" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "twin"}))

    report = measure("tiny", phantom_folder, films=2, methods=("grad-cam",), sister="twin")

    assert report.sister == "twin"
    assert report.entries[0].repeatability.similarity.value == pytest.approx(1), "the same weights"


@pytest.mark.slow
def test_the_command_that_measures_again_names_the_layout(own_models, phantom_folder):
    layout = index(phantom_folder).layout

    report = measure("tiny", phantom_folder, films=1, methods=("grad-cam",), layout=layout)

    assert report.command.endswith(f" --films 1 --layout {layout}")


@pytest.mark.slow
def test_another_folder_leaves_out_boxes_and_the_mean(own_models, phantom_folder):
    path = own_models / "tiny" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_digest": "1" * 64}))

    report = measure("tiny", phantom_folder, films=1, methods=("grad-cam",))

    assert any("not the folder that trained" in note for note in report.notes)
    assert not (model_folder("tiny", own_models) / "mean_film.png").exists()


@pytest.mark.slow
def test_agreement_is_that_of_flagged_validation_films(tiny_models, phantom_folder, monkeypatch):
    """Where all are flagged, one of each patient counts, in the same order every time."""
    from cxr_core.decisions import read_validation
    from cxr_core.faithfulness import withholding

    monkeypatch.setenv("CXR_MODELS", str(tiny_models))
    classifier = load_classifier("tiny")
    classifier.card = replace(classifier.card, operating_points=(0.0,))
    read = []
    monkeypatch.setattr(
        withholding, "read_film", lambda root, film: read.append(film) or read_film(root, film)
    )

    found = measure_agreement(classifier, phantom_folder)

    chose = set(read_validation(tiny_models / "tiny" / "validation.csv").files)
    films = [film for film in index(phantom_folder).films if film.file in chose]
    assert {film.file for film in read} <= chose
    assert sorted(film.patient for film in read) == sorted({film.patient for film in films})
    assert found.films == len(read) and 0 < len(found.values) <= found.films
    film = read_film(phantom_folder, read[0])
    model_input = prepare(film, classifier.card.preprocessing)
    told = explain(classifier, model_input, "Pneumonia", "grad-cam")
    first = examine(classifier, model_input, film.pixels, told).agreement
    assert first is None or first == pytest.approx(found.values[0])
    assert measure_agreement(classifier, phantom_folder, 1).films == 1


@pytest.mark.slow
def test_agreement_asks_for_the_films_that_trained_and_for_flags(
    tiny_models, phantom_folder, monkeypatch
):
    monkeypatch.setenv("CXR_MODELS", str(tiny_models))
    classifier = load_classifier("tiny")
    card = classifier.card
    classifier.card = replace(card, data_digest="1" * 64)
    with pytest.raises(DataError, match="not the folder that trained 'tiny'"):
        measure_agreement(classifier, phantom_folder)

    classifier.card = replace(card, operating_points=(1.0,))
    with pytest.raises(DataError, match="'tiny' flags none whose maps"):
        measure_agreement(classifier, phantom_folder)


def test_the_mean_is_taken_over_all_films(tmp_path, monkeypatch, phantom_folder):
    monkeypatch.setenv("CXR_CACHE", str(tmp_path))
    dataset = index(phantom_folder)
    card = replace(CARD, preprocessing=Preprocessing(size=16))

    path = write_mean_film(dataset, dataset.films[:1], card, tmp_path)

    from PIL import Image

    square, _ = to_square(read_film(phantom_folder, dataset.films[0]), card.preprocessing)
    assert (np.asarray(Image.open(path)) == square).all()


def test_the_nih_models_are_judged_by_boxes_of_their_own_patients(data):
    from cxr_core.faithfulness.sample import boxed_films, boxes_of

    recipe = get_recipe("adult-findings")
    dataset = index(data / "nih_chestxray14", "nih-csv")

    films = boxed_films(dataset, recipe)

    assert len({film.file for film in films}) == len(films) <= 43
    assert all(film.age_years is None or film.age_years >= 18 for film in films)
    pneumonia = sum(len(boxes_of(film, ("Pneumonia",))) for film in films)
    assert 20 <= pneumonia <= 35
    assert load_card("adult-findings").labels[12] == "Pneumonia"


# --- the phantom test: where the truth is known ---

PHANTOM = Preprocessing(size=64, standardise=False, scale=4.0, offset=-2.0)
HEIGHT, WIDTH = 96, 84
RATE = 0.003  # of learning, to begin with


def pair(seed: int, patient: int):
    """The same patient without and with one opacity, and the box around that."""
    random = np.random.default_rng((seed, patient))
    x, y = 0.5 + random.choice((-1, 1)) * random.uniform(0.15, 0.27), random.uniform(0.28, 0.68)
    radius = random.uniform(0.07, 0.1)  # where it has fallen to half; of the film's width
    opacity = Opacity(x, y, radius, random.uniform(0.85, 1))
    reach = 1.25 * radius
    box = Box(
        "Opacity", x - reach, y - reach * WIDTH / HEIGHT, 2 * reach, 2 * reach * WIDTH / HEIGHT
    )
    films = [
        thorax(HEIGHT, WIDTH, seed=10_000 * seed + patient, opacities=planted)
        for planted in ((), (opacity,))
    ]
    return films, box


def learn_phantoms(seed: int, patients: int = 120, epochs: int = 20) -> Classifier:
    """Train a network of 9,321 parameters to tell films with an opacity from films without.

    It sees how much brighter a place is than its surroundings, and answers by the one place that
    speaks loudest: so neither heart nor belly, bright in all films, can hold its peak.
    """
    import keras
    from keras import layers

    films = [film for k in range(patients) for film in pair(seed, k)[0]]
    pixels = finish(np.stack([to_square(film, PHANTOM)[0] for film in films]), PHANTOM)
    truth = np.tile([0.0, 1.0], patients)[:, None]
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((64, 64, 1), name="film")
    # The mean of 15 x 15 pixels, first of rows, then of columns: the same numbers, sooner.
    around = layers.AveragePooling2D((15, 1), strides=1, padding="same")(inputs)
    around = layers.AveragePooling2D((1, 15), strides=1, padding="same")(around)
    x = contrast = layers.Subtract()([inputs, around])
    for name, width, kernel, stride in (("low", 16, 5, 2), ("mid", 24, 3, 1), ("high", 24, 3, 2)):
        x = layers.Conv2D(width, kernel, strides=stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation("relu", name="features" if name == "high" else name)(x)
    logits = layers.Dense(1, name="logits")(layers.GlobalMaxPooling2D()(x))
    network = keras.Model(inputs, logits)
    seen = keras.Model(inputs, contrast).predict_on_batch(pixels)
    learner = keras.Model(contrast, logits)  # of what does not learn, once is enough
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    learner.compile(keras.optimizers.Adam(RATE), loss)
    learner.optimizer.build(learner.trainable_variables)
    random = np.random.default_rng(seed)
    for epoch in range(epochs):
        moved = np.roll(seen, random.integers(-5, 6, 2), (1, 2))
        turned = moved[:, :, ::-1] if random.random() < 0.5 else moved
        learner.optimizer.learning_rate = RATE * (1 - epoch / epochs)
        for some in random.permutation(len(turned)).reshape(-1, 16):
            learner.train_on_batch(turned[some], truth[some])
    return Classifier(replace(CARD, preprocessing=PHANTOM), network)


@pytest.mark.slow
def test_grad_cam_finds_planted_opacities_and_not_with_shuffled_weights():
    """Above the best fixed point with the whole interval; with shuffled weights never.

    Of 40 films the peak hits, with the seeds 10 to 14 on one thread: 39, 40, 39, 40, 40 (the fixed
    point 14, 17, 4, 1, 10), and as many on two. The network was settled with the seeds 1 and 3,
    before any of these five was run; others, that pooled by the mean, by the maximum without the
    local contrast, or by both, failed on one or two of the seeds 0 to 3. How it learns was settled
    later, when on one thread seed 10 had come to 3 hits: a rate of 0.01 was too high.
    """
    seed = 10
    classifier = learn_phantoms(seed)
    cases = [pair(seed + 100, k) for k in range(40)]
    inputs = [prepare(films[1], PHANTOM) for films, _ in cases]
    masks = np.stack(
        [drawn.mask_of([box], film.placement) for (_, box), film in zip(cases, inputs, strict=True)]
    )
    floor = fixed_point_hits(masks)

    def hits(network: Classifier):
        values = (explain(network, film, "Pneumonia", "grad-cam").values for film in inputs)
        return np.array(
            [drawn.hits(drawn.raster(one), mask) for one, mask in zip(values, masks, strict=True)]
        )

    found = hits(classifier)
    layers = len(weighted_layers(classifier.network))
    lost = hits(shuffled(classifier, layers))

    assert found.mean() >= 0.8
    assert bootstrap(found.astype(float) - floor).low > 0.25, "well above the fixed point"
    assert lost.mean() <= 0.15
    assert bootstrap(lost.astype(float) - floor).low <= 0
