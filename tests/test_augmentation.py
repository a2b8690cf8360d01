"""What augmentation may change, and what it must never."""

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cxr_core.augmentation import ACQUISITION, TRAINING, Strength, augment

STILL = Strength(**{item.name: 0.0 for item in fields(Strength)})


@pytest.fixture(scope="module")
def films():
    rng = np.random.default_rng(5)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(6, 64, 64)), axis=1), axis=2)
    low, high = smooth.min(axis=(1, 2), keepdims=True), smooth.max(axis=(1, 2), keepdims=True)
    return ((smooth - low) / (high - low)).astype(np.float32)


def run(films, strength, seed=0):
    return augment(films, strength, np.random.default_rng(seed))


@pytest.mark.parametrize("strength", [TRAINING, ACQUISITION])
def test_shape_type_and_range_hold_and_inputs_stay(films, strength):
    before = films.copy()
    varied = run(films, strength)
    assert varied.shape == films.shape and varied.dtype == np.float32
    assert varied.min() >= 0 and varied.max() <= 1 and np.isfinite(varied).all()
    assert_array_equal(films, before)


def test_the_same_seed_gives_the_same_films_and_another_seed_others(films):
    assert_array_equal(run(films, TRAINING), run(films, TRAINING))
    assert np.abs(run(films, TRAINING) - run(films, TRAINING, seed=1)).mean() > 0.01


def test_no_strength_is_no_change(films):
    assert_allclose(run(films, STILL), films, atol=1e-5)


def test_films_are_never_mirrored(films):
    """A bright left half stays left at full strength, whatever the seed."""
    half = np.zeros((64, 64, 64), np.float32)
    half[:, :, :32] = 1
    quiet = replace(TRAINING, erase=0.0)
    varied = run(half, quiet)
    assert (varied[:, 16:48, 12:26].mean((1, 2)) > varied[:, 16:48, 38:52].mean((1, 2))).all()


def test_shifting_moves_by_no_more_than_allowed():
    dot = np.zeros((200, 65, 65), np.float32)
    dot[:, 31:34, 31:34] = 1
    moved = run(dot, replace(STILL, shift=0.1))
    grid = np.arange(65)
    rows = (moved.sum(2) * grid).sum(1) / moved.sum((1, 2)) - 32
    assert np.abs(rows).max() < 6.6
    assert np.abs(rows).max() > 4  # and does use its allowance


def test_stretching_scales_each_axis_on_its_own():
    square = np.zeros((200, 64, 64), np.float32)
    square[:, 22:42, 22:42] = 1
    moved = run(square, replace(STILL, stretch=0.3))
    heights, widths = (moved.max(2) > 0.5).sum(1) / 20, (moved.max(1) > 0.5).sum(1) / 20
    for sides in (heights, widths):
        assert 0.70 <= sides.min() < 0.85 and 1.2 < sides.max() <= 1.40
    assert (heights / widths).max() > 1.3


def test_gamma_keeps_black_and_white(films):
    varied = run(films, replace(STILL, gamma=0.5))
    assert_allclose(varied.min((1, 2)), 0, atol=1e-5)
    assert_allclose(varied.max((1, 2)), 1, atol=1e-5)
    assert np.abs(varied - films).max() > 0.05


def test_blur_lowers_and_sharpening_raises_local_contrast():
    rng = np.random.default_rng(0)
    noise = np.clip(rng.normal(0.5, 0.05, (4, 64, 64)), 0, 1).astype(np.float32)
    assert (run(noise, replace(STILL, blur=1.0)).std((1, 2)) < noise.std((1, 2))).all()
    assert (run(noise, replace(STILL, sharpen=1.0)).std((1, 2)) > noise.std((1, 2))).all()


def test_borders_are_black_and_leave_the_middle(films):
    bright = np.ones((50, 60, 60), np.float32)
    varied = run(bright, replace(STILL, border=0.1, chance=1.0))
    assert (varied[:, 6:54, 6:54] == 1).all()
    assert (varied == 0).any()


def test_erasing_covers_a_rectangle_of_one_grey(films):
    varied = run(films, replace(STILL, erase=0.4, chance=1.0))
    for before, after in zip(films, varied, strict=True):
        changed = np.abs(before - after) > 1e-4
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        inside = after[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert 0 < changed.mean() < 0.17
        assert np.median(np.abs(inside - np.median(inside))) < 1e-6
