"""The try of pretraining: what is learnt from, what stays fixed, who is scored by whom."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from benchmarks import pretraining
from benchmarks.pretraining import Films
from cxr_core.datasets import NIH_FINDINGS, Film, index, pixel_cache
from cxr_core.networks import below, build_network
from cxr_core.parts import Part, deal
from cxr_core.phantom import thorax
from cxr_core.ranking import Comparison, Interval
from cxr_core.recipes import get_recipe

SIDE = 64


@pytest.fixture(scope="module")
def some() -> Films:
    """Six phantoms; of the last two nobody knows the type."""
    squares = [np.rint(thorax(SIDE, SIDE, seed=k).pixels * 255).astype(np.uint8) for k in range(6)]
    types = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    types[4:] = 0
    return Films(np.stack(squares), types)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights of the backbone, in a file such as ImageNet's come in."""
    donor = below(build_network("pretrained", size=SIDE, channels=1, outputs=3))
    arrays = {
        f"{layer.name}__{variable.name}": np.asarray(variable.numpy())
        for layer in donor.layers
        for variable in layer.weights
    }
    path = tmp_path_factory.mktemp("weights") / "backbone.npz"
    np.savez(path, **arrays)
    return path


def half_bright(count: int) -> Films:
    squares = np.zeros((count, SIDE, SIDE), np.uint8)
    squares[:, :, : SIDE // 2] = 200
    return Films(squares, np.zeros((count, 3), np.float32))


# --- the tasks ---


def test_cells_are_means_of_four_by_four_pixels_in_their_places():
    pixels = np.random.default_rng(0).random((2, SIDE, SIDE)).astype(np.float32)
    told = pretraining.cells(pixels)
    assert told.shape == (2, 2, 2, 64)
    standard = (pixels[1] - pixels[1].mean()) / pixels[1].std()
    # Row 3 and column 5 of the lower left cell: rows 32 + 12, columns 0 + 20 of the film.
    assert_allclose(told[1, 1, 0, 3 * 8 + 5], standard[44:48, 20:24].mean(), atol=1e-5)
    assert_allclose(told.mean(axis=(1, 2, 3)), 0, atol=1e-5)


def test_a_mirrored_film_is_called_so_and_restored_as_mirrored():
    _, wanted = pretraining.shown(half_bright(32), np.random.default_rng(0))
    mirrored = wanted["mirrored"][:, 0].astype(bool)
    left, right = (wanted["restored"][:, :, k].mean(axis=(1, 2)) for k in (0, 1))
    assert 8 < mirrored.sum() < 24
    assert_array_equal(right > left, mirrored)


def test_what_is_restored_is_the_moved_film_not_its_changed_looks(monkeypatch, some):
    calls = []

    def change(films, strength, rng):
        calls.append(strength)
        return films * np.float32(0.5) if strength.gamma else films

    monkeypatch.setattr("cxr_core.augmentation.augment", change)
    pixels, wanted = pretraining.shown(some, np.random.default_rng(0))
    moves, looks = calls
    assert moves.stretch and moves.rotate and moves.shift
    assert not any((moves.gamma, moves.contrast, moves.brightness, moves.noise, moves.erase))
    assert not any((moves.blur, moves.sharpen, moves.border))
    assert looks.gamma and looks.erase and not any((looks.stretch, looks.rotate, looks.shift))
    assert pixels.max() <= 0.5
    assert_allclose(wanted["restored"], pretraining.cells(2 * pixels[..., 0]), atol=1e-5)


def test_looks_change_what_is_shown_and_types_stay(some):
    pixels, wanted = pretraining.shown(some, np.random.default_rng(0))
    assert pixels.shape == (6, SIDE, SIDE, 1) and 0 <= pixels.min() and pixels.max() <= 1
    assert_array_equal(wanted["type"], some.types)
    assert np.abs(pretraining.cells(pixels[..., 0]) - wanted["restored"]).mean() > 0.05


def test_squares_are_not_changed(some):
    before = some.squares.copy()
    pretraining.shown(some, np.random.default_rng(1))
    assert_array_equal(some.squares, before)


def test_each_film_comes_once_in_each_pass(monkeypatch, some):
    monkeypatch.setattr(pretraining, "BATCH", 2)
    monkeypatch.setattr(pretraining, "shown", lambda some, rng: some.squares[:, 0, 0])
    marked = Films(np.arange(6, dtype=np.uint8)[:, None, None], some.types)
    drawn = np.concatenate(list(pretraining.batches(marked, 6, 0)))
    for each in (drawn[:6], drawn[6:]):
        assert_array_equal(np.sort(each), np.arange(6))
    assert_array_equal(drawn, np.concatenate(list(pretraining.batches(marked, 6, 0))))


# --- what is fitted ---


@pytest.mark.slow
def test_only_heads_and_upper_blocks_are_fitted(monkeypatch, some, weights):
    compile_network = pretraining._compile

    def compile_eagerly(network, *others):
        compile_network(network, *others)
        network.run_eagerly = True  # tracing takes longer than these few steps

    monkeypatch.setattr(pretraining, "_compile", compile_eagerly)
    monkeypatch.setattr(pretraining, "BATCH", 3)
    fresh = pretraining.network_of_tasks(weights, SIDE)
    kept = {variable.path: variable.numpy() for variable in fresh.weights}

    def moved(network):
        changed = {v.path for v in network.weights if not np.array_equal(v.numpy(), kept[v.path])}
        return {path.split("/")[0] for path in changed}

    heads = {"logits", "mirrored", "restored"}
    monkeypatch.setattr(pretraining, "STAGES", ((99, 3, 1e-3),))
    network, (alone,) = pretraining.pretrain(some, some, weights)
    assert moved(network) == heads
    monkeypatch.setattr(pretraining, "STAGES", ((99, 3, 1e-3), (6, 3, 1e-3)))
    network, told = pretraining.pretrain(some, some, weights)
    upper = {f"conv_{kind}_{block}" for kind in ("dw", "pw") for block in range(6, 13)}
    assert moved(network) == heads | upper | {f"{name}_bn" for name in upper}
    assert len(told) == 2 and told[0] == pytest.approx(alone, rel=1e-3)


@pytest.mark.slow
def test_films_of_unknown_type_teach_none(some, weights):
    network = pretraining.network_of_tasks(weights, SIDE)
    pretraining.release(network, 6)
    pretraining._compile(network, 10, 1e-3)
    unknown = Films(some.squares[4:], some.types[4:])
    told = network.evaluate(
        *pretraining.shown(unknown, np.random.default_rng(0)), verbose=0, return_dict=True
    )
    assert told["type_loss"] == 0
    assert told["mirrored_loss"] > 0 and told["restored_loss"] > 0


@pytest.mark.slow
def test_fitted_blocks_restore_films_better_than_heads_alone(monkeypatch, some, weights):
    monkeypatch.setattr(pretraining, "BATCH", 6)
    monkeypatch.setattr(pretraining, "STAGES", ((99, 60, 1e-3), (6, 80, 1e-3)))
    _, (before, after) = pretraining.pretrain(some, some, weights)
    assert after["restored_loss"] < 0.8 * before["restored_loss"]


# --- which films ---


def test_pretraining_sees_no_adult_who_is_scored_and_no_test_film(
    monkeypatch, phantom_folder, tmp_path
):
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pretraining, "SIZE", SIDE)
    adults = sorted((phantom_folder / "test").rglob("*.jpeg"))
    for name, paths in (("COVID", adults[:5]), ("Normal", adults[5:9])):
        (tmp_path / "covid" / name).mkdir(parents=True)
        for path in paths:
            shutil.copy(path, tmp_path / "covid" / name)
    seen, held = pretraining.films_to_learn(phantom_folder, tmp_path / "covid")
    children = index(phantom_folder)
    parts = deal(children, get_recipe("pediatric-type"), 0)
    assert len(seen.squares) == len(parts["train"]) + 5
    assert len(held.squares) == len(parts["validation"])
    assert_array_equal(seen.types.sum(axis=1), [1] * len(parts["train"]) + [0] * 5)
    ill = [film for film in index(tmp_path / "covid").films if film.findings]
    shape = pretraining.replace(pretraining._shape(), size=SIDE)
    assert_array_equal(seen.squares[-5:], pixel_cache(tmp_path / "covid", ill, shape))


def test_of_the_nih_films_those_of_the_test_stay_closed(monkeypatch, tmp_path):
    made = tuple(film(f"{k}", f"{k // 2}", "A", k % 3 > 0) for k in range(40))
    monkeypatch.setattr(pretraining, "index", lambda *_: SimpleNamespace(films=made, root=tmp_path))
    monkeypatch.setattr(pretraining, "pixel_cache", lambda _, films, __: np.zeros(len(films)))
    recipe = pretraining.adult_recipe()
    part = pretraining.adult_films(tmp_path, recipe)
    test = deal(SimpleNamespace(films=made, root=tmp_path), get_recipe("adult-abnormality"), 0)
    assert test["test"] and not set(part.films) & set(test["test"])
    assert len(part.films) + len(test["test"]) == 40
    assert list(recipe.labels) == ["Abnormal", *NIH_FINDINGS]
    assert_array_equal(part.targets[:, 0], [bool(film.findings) for film in part.films])


def test_without_the_films_nothing_is_measured(tmp_path):
    assert pretraining.measure(tmp_path) is None


# --- who is scored by whom ---


def film(name: str, patient: str, source: str | None, ill: bool) -> Film:
    found = ("Pneumonia",) if ill else ()
    return Film(name, found, patient, None, name, age_years=40, source=source)


def people(count: int, seed: int = 0) -> tuple[Film, ...]:
    rng = np.random.default_rng(seed)
    owners = rng.integers(count // 2, size=count)
    return tuple(
        film(f"{k}", f"{owner}", "AB"[owner % 2], bool(rng.random() < 0.5))
        for k, owner in enumerate(owners)
    )


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000))
def test_each_deal_holds_every_film_out_once_and_no_patient_twice(seed):
    films = people(120, seed)
    held = list(pretraining.folds(films))
    for start in range(0, len(held), pretraining.FOLDS):
        deal_of = held[start : start + pretraining.FOLDS]
        assert_array_equal(np.sort(np.concatenate(deal_of)), np.arange(len(films)))
        owners = [{films[k].patient for k in rows} for rows in deal_of]
        assert sum(map(len, owners)) == len(set.union(*owners))
    assert len(held) == pretraining.FOLDS * pretraining.DEALS
    assert not np.array_equal(held[0], held[pretraining.FOLDS])


def coded(films: tuple[Film, ...], seed: int = 0) -> Part:
    rng = np.random.default_rng(seed)
    truth = np.array([bool(film.findings) for film in films], np.float32)
    codes = rng.normal(size=(len(films), 5)).astype(np.float16)
    codes[:, 0] += 2 * truth
    squares = np.zeros((len(films), 1, 1), np.uint8)
    return Part(films, squares, np.stack([truth, truth], axis=1), codes)


def test_a_film_is_scored_by_other_patients_alone():
    part, recipe = coded(people(120)), pretraining.adult_recipe()
    scores = pretraining.out_of_fold(part, recipe)
    own = np.array([film.patient == part.films[0].patient for film in part.films])
    other = part.targets.copy()
    other[own] = 1 - other[own]
    told = pretraining.out_of_fold(Part(part.films, part.squares, other, part.codes), recipe)
    assert_allclose(told[own], scores[own], atol=1e-6)
    assert np.abs(told[~own] - scores[~own]).max() > 1e-3


def test_readings_find_what_the_codes_tell():
    part = coded(people(200))
    lines = pretraining.compared(
        part,
        np.full(part.targets.shape, 0.5),
        pretraining.out_of_fold(part, pretraining.adult_recipe()),
    )
    assert lines[2].startswith("| Abnormal | all | 200 | 0.500 (0.500-0.500) | 0.9")
    assert lines[-1] == "By the rule set before: worth shipping."


def test_equal_scores_are_worth_nothing():
    part = coded(people(60))
    scores = np.random.default_rng(0).random(part.targets.shape)
    lines = pretraining.compared(part, scores, scores)
    assert all("+0.000" in line for line in lines[2:8])
    assert lines[2].endswith("p - |")
    assert lines[-1] == "By the rule set before: not worth shipping."


def test_means_leave_out_findings_that_all_films_have_or_none():
    truth = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]], np.float32)
    before = np.full((4, 4), 0.5)
    after = np.array([[0, 0.9, 0, 0.1], [0, 0.2, 0, 0.6], [0, 0.8, 0, 0.3], [0, 0.1, 0, 0.4]])
    # The first finding is ranked right (1.0); the third: of four pairs 0.6 wins two (0.5).
    assert pretraining._means(truth, before, after) == "0.500 (mean of 2) | 0.750 | +0.250"


def pair(difference: float, p_value: float | None = 0.01) -> Comparison:
    blank = Interval(None, None, None)
    return Comparison(a=blank, b=blank, difference=Interval(difference, -1, 1), p_value=p_value)


@pytest.mark.parametrize(
    ("pairs", "worth"),
    [
        ({"all": pair(0.0), "A": pair(0.02), "B": pair(0.001, 0.9)}, True),
        ({"all": pair(0.01), "A": pair(0.02, 0.06), "B": pair(0.01)}, False),
        ({"all": pair(0.01), "A": pair(0.02, None), "B": pair(0.01)}, False),
        ({"all": pair(0.01), "A": pair(-0.02), "B": pair(0.01)}, False),
        ({"all": pair(0.01), "A": pair(0.02), "B": pair(-0.001, 0.9)}, False),
        ({"all": pair(-0.001, 0.9), "A": pair(0.02), "B": pair(0.01)}, False),
    ],
)
def test_it_is_worth_shipping_by_the_rule_set_before(pairs, worth):
    assert pretraining.worth(pairs) == worth
