"""What is said against a map: ranks, shares and disturbances known by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.testing import assert_allclose
from scipy.stats import rankdata, spearmanr

from cxr_core.attribution import Attribution, explain
from cxr_core.attribution.checks import (
    SHIFT,
    agreement,
    alike,
    counterpart_of,
    examine,
    moved,
    moved_back,
    noisy,
    outside,
    ranks,
)
from cxr_core.attribution.grids import average, flat, on_square, within
from cxr_core.errors import ArgumentError
from cxr_core.preprocess import ModelInput, Placement, Preprocessing, place, prepare
from cxr_core.thorax import lung_field

RANDOM = np.random.default_rng(4)
WHOLE = (0.0, 0.0, 1.0, 1.0)


# --- grids ---


def test_maps_are_averaged_by_area():
    """Three columns into two: each new cell takes one old one whole and half of the middle."""
    values = np.array([[1.0, 4.0, 7.0]])
    assert_allclose(average(values, 1, 2), [[(1 + 4 / 2) / 1.5, (4 / 2 + 7) / 1.5]])
    assert_allclose(average(np.arange(16.0).reshape(4, 4), 2, 2), [[2.5, 4.5], [10.5, 12.5]])


@given(some.integers(1, 9), some.integers(1, 9), some.integers(1, 9), some.integers(1, 9))
def test_averaging_keeps_the_mean(height, width, rows, columns):
    values = np.random.default_rng(height * width).random((height, width))
    assert average(values, rows, columns).mean() == pytest.approx(values.mean())


def test_cells_know_how_much_of_them_lies_in_a_box():
    assert_allclose(within((0.25, 0.5, 1, 1), 2, 2), [[0, 0], [0.5, 1]])


def test_a_box_of_the_film_finds_its_place_on_the_square():
    """A film twice as high as wide fills the middle half of a letterboxed square."""
    placement = place(200, 100, Preprocessing(size=64, fit="letterbox"))
    assert on_square((0, 0, 1, 1), placement) == (0.25, 0, 0.75, 1)
    assert on_square((0.5, 0.25, 1, 0.75), placement) == (0.5, 0.25, 0.75, 0.75)
    stretched = place(200, 100, Preprocessing(size=64))
    assert on_square((0.1, 0.2, 0.3, 0.4), stretched) == pytest.approx((0.1, 0.2, 0.3, 0.4))


# --- ranks ---


@given(some.lists(some.integers(-5, 5), min_size=1, max_size=30))
def test_ranks_are_those_of_scipy(values):
    assert_allclose(ranks(np.array(values)), rankdata(values))


def test_likeness_is_spearmans():
    one, other = RANDOM.normal(size=(2, 6, 7))
    wanted = spearmanr(one.ravel(), other.ravel()).statistic
    assert alike(one, other, None, (6, 7)) == pytest.approx(wanted)
    assert alike(one, one**3, None, (6, 7)) == pytest.approx(1)
    assert alike(one, -one, None, (6, 7)) == pytest.approx(-1)


def test_likeness_looks_only_into_the_box():
    one = RANDOM.normal(size=(8, 8))
    other = np.where(np.arange(8) < 4, one, -one)
    assert alike(one, other, (0, 0, 0.5, 1), (8, 8)) == pytest.approx(1)
    assert alike(one, other, (0.5, 0, 1, 1), (8, 8)) == pytest.approx(-1)


def test_maps_are_compared_on_the_coarser_grid():
    coarse = RANDOM.normal(size=(5, 5))
    fine = coarse.repeat(4, 0).repeat(4, 1) + np.tile([1, -1], (20, 10))  # the same on average
    assert alike(fine, coarse, WHOLE, (5, 5)) == pytest.approx(1)


def test_a_flat_map_and_a_tiny_box_rank_nothing():
    one = RANDOM.normal(size=(8, 8))
    assert alike(one, np.ones((8, 8)), None, (8, 8)) is None
    assert alike(one, one, (0, 0, 0.25, 0.25), (8, 8)) is None


def test_a_flat_map_stays_flat_when_it_is_averaged():
    constant = np.full((20, 20), 0.3)
    averaged = average(constant, 9, 9)

    assert np.ptp(averaged) > 0, "up to rounding only"
    assert flat(averaged) and flat(np.zeros((9, 9))) and not flat(RANDOM.normal(size=(9, 9)))
    assert alike(RANDOM.normal(size=(20, 20)), constant, None, (9, 9)) is None


def test_agreement_is_about_what_speaks_for_the_label():
    one = RANDOM.normal(size=(8, 8)).astype(np.float32)
    other = np.where(one > 0, one, RANDOM.normal(-9, 1, size=(8, 8))).astype(np.float32)
    maps = [Attribution(values, "A", "made", signed=True) for values in (one, other)]
    assert agreement(*maps, WHOLE, (8, 8)) == pytest.approx(1)
    assert alike(one, other, WHOLE, (8, 8)) < 0.95


def test_a_place_is_what_its_pixels_add_up_to():
    """Fine values that cancel out within their cell say nothing."""
    coarse = np.maximum(RANDOM.normal(size=(5, 5)), 0).astype(np.float32)
    loud = 9 * RANDOM.random((5, 5)).repeat(2, 0).repeat(2, 1)
    fine = coarse.repeat(2, 0).repeat(2, 1) + loud * np.tile([1, -1], (10, 5))
    maps = [
        Attribution(each.astype(np.float32), "A", "made", signed=True) for each in (fine, coarse)
    ]
    told = agreement(*maps, WHOLE, (5, 5))
    assert told is not None and told > 0.8


def test_each_family_is_held_against_the_other():
    assert counterpart_of("layer-cam") == counterpart_of("score-cam") == "integrated-gradients"
    assert counterpart_of("xrai") == counterpart_of("integrated-gradients") == "grad-cam"


# --- outside ---


def test_outside_is_a_share_of_the_absolute_values():
    values = np.array([[1, -2], [3, 4]])
    assert outside(values, (0, 0, 0.5, 1)) == pytest.approx(6 / 10)
    assert outside(values, (0, 0, 1, 0.75)) == pytest.approx(3.5 / 10)
    assert outside(values, WHOLE) == pytest.approx(0)


def test_nothing_is_nowhere():
    assert outside(np.zeros((3, 3)), (0, 0, 0.5, 0.5)) is None


# --- disturbances ---


def an_input(size=32):
    pixels = np.random.default_rng(2).random((size, size, 1)).astype(np.float32)
    return ModelInput(pixels, Placement(size, size, size, 0, 0, size, size), 0.0)


def test_a_film_is_moved_and_its_map_moved_back():
    film = an_input()
    there = moved(film)
    assert (there.pixels[SHIFT:, SHIFT:] == film.pixels[:-SHIFT, :-SHIFT]).all()
    assert (there.pixels[0] == there.pixels[SHIFT]).all()
    back = moved_back(there.pixels[..., 0], 32)
    assert_allclose(back[:-SHIFT, :-SHIFT], film.pixels[:-SHIFT, :-SHIFT, 0], atol=1e-6)


def test_a_coarse_map_moves_by_a_part_of_its_cell():
    """Two of 32 pixels are half a cell of eight: (0 + 8) / 2, (8 + 16) / 2, ..."""
    ramp = np.tile(np.arange(8.0) * 8, (8, 1))
    assert_allclose(moved_back(ramp, 32)[0], [4, 12, 20, 28, 36, 44, 52, 56])


def test_noise_is_faint_and_always_the_same():
    film = an_input()
    film = replace(film, pixels=np.repeat(film.pixels, 3, axis=2))
    added = noisy(film).pixels - film.pixels
    assert added.std() == pytest.approx(0.01 * np.ptp(film.pixels), rel=0.1)
    assert_allclose(added[..., 0], added[..., 2], atol=1e-6)
    assert (noisy(film).pixels == noisy(film).pixels).all()


# --- a whole check ---


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grad-cam", "integrated-gradients", "occlusion"])
def test_a_map_of_a_real_network_is_examined(tiny_classifier, phantom_film, method):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    features = tiny_classifier.predict(film).features
    told = explain(tiny_classifier, film, "Pneumonia", method)
    check = examine(tiny_classifier, film, phantom_film.pixels, told, features=features)
    assert check.thorax == lung_field(phantom_film.pixels)
    assert check.outside == outside(told.values, check.thorax)  # stretched: the same box
    other = explain(tiny_classifier, film, "Pneumonia", counterpart_of(method))
    grid = tuple(np.minimum(features.shape[:2], told.values.shape))
    assert check.agreement == agreement(told, other, check.thorax, grid)
    shaken = explain(tiny_classifier, noisy(film), "Pneumonia", method)
    shifted = explain(tiny_classifier, moved(film), "Pneumonia", method)
    back = moved_back(shifted.values, len(film.pixels))
    each = [alike(told.values, values, check.thorax, grid) for values in (shaken.values, back)]
    assert check.stability == min(each) < 1


@pytest.mark.slow
def test_a_counterpart_at_hand_is_not_made_again(tiny_classifier, phantom_film):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    told = explain(tiny_classifier, film, "Pneumonia", "grad-cam")
    same = examine(tiny_classifier, film, phantom_film.pixels, told, counterpart=told)
    assert same.agreement == pytest.approx(1)


@pytest.mark.slow
def test_a_counterpart_answers_the_same_question(tiny_classifier, phantom_film):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    told = explain(tiny_classifier, film, "Pneumonia", "occlusion")
    other = replace(told, absence=True)
    with pytest.raises(ArgumentError, match=r"absence of 'Pneumonia'; .* 'grad-cam'"):
        examine(tiny_classifier, film, phantom_film.pixels, told, counterpart=other)


@pytest.mark.slow
def test_without_a_lung_field_nothing_is_said_about_it(tiny_classifier, phantom_film):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    told = explain(tiny_classifier, film, "Pneumonia", "occlusion")
    check = examine(tiny_classifier, film, np.zeros((50, 50)), told, counterpart=told)
    assert (check.thorax, check.agreement, check.outside) == (None, None, None)
    assert check.stability is not None


@pytest.mark.slow
def test_a_flat_map_has_no_check(tiny_classifier, phantom_film):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    told = explain(tiny_classifier, film, "Pneumonia", "grad-cam")
    flat = replace(told, values=np.zeros_like(told.values))
    check = examine(tiny_classifier, film, phantom_film.pixels, flat)
    assert (check.agreement, check.stability, check.outside) == (None, None, None)


@pytest.mark.slow
def test_an_absence_is_examined_as_one(tiny_classifier, phantom_film):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    told = explain(tiny_classifier, film, "Pneumonia", "integrated-gradients", absence=True)
    check = examine(tiny_classifier, film, phantom_film.pixels, told)
    assert check.stability > 0, "the label's own map would be turned about"


@pytest.mark.slow
def test_examining_tells_how_far_it_is_and_can_be_stopped(tiny_classifier, phantom_film):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    told = explain(tiny_classifier, film, "Pneumonia", "occlusion")
    seen = []
    examine(
        tiny_classifier,
        film,
        phantom_film.pixels,
        told,
        progress=lambda done, total: seen.append(done / total),
    )
    assert seen == sorted(seen) and seen[0] == 0 and len(seen) > 10 and seen[-1] <= 1

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(tiny_classifier, film, phantom_film.pixels, told, progress=stop)


@pytest.mark.slow
def test_a_method_that_knows_no_for_and_against_is_not_held_against_one_that_does(
    tiny_classifier, phantom_film
):
    film = prepare(phantom_film, tiny_classifier.card.preprocessing)
    made = explain(tiny_classifier, film, "Pneumonia", "smoothgrad")
    found = examine(tiny_classifier, film, phantom_film.pixels, made)
    assert found.agreement is None
    assert found.stability is not None and found.outside is not None
