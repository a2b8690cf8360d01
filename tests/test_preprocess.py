"""A film goes into the square and comes back to exactly where it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from cxr_core.errors import ArgumentError
from cxr_core.images import Facts, Radiograph
from cxr_core.preprocess import (
    PIXELS,
    Preprocessing,
    finish,
    normalise,
    place,
    prepare,
    region_at,
    restore,
    to_square,
)

SHAPES = [(300, 200), (200, 300), (64, 64), (1000, 137), (40, 90)]
FITS = ("stretch", "letterbox")


def film(pixels):
    return Radiograph(np.asarray(pixels, np.float32), Facts("PNG", 8, "MONOCHROME2"), "0" * 64)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_bright_corner_returns_to_its_corner(shape, fit):
    height, width = shape
    rows, columns = height // 4, width // 4
    for top in (0, height - rows):
        for left in (0, width - columns):
            pixels = np.zeros(shape, np.float32)
            pixels[top : top + rows, left : left + columns] = 1
            square, placement = to_square(film(pixels), Preprocessing(size=64, fit=fit))
            back = restore(square.astype(np.float32), placement)
            assert back.shape == shape
            y, x = (np.argwhere(back > 0.9 * back.max())).mean(axis=0)
            assert abs(y - (top + rows / 2 - 0.5)) < height / 30
            assert abs(x - (left + columns / 2 - 0.5)) < width / 30


@pytest.mark.parametrize("fit", FITS)
def test_a_ramp_goes_round_unchanged(fit):
    """Half-pixel bilinear resizing keeps a linear ramp, away from the edges, where it was."""
    ramp = np.tile(np.linspace(0.1, 0.9, 300, dtype=np.float32), (200, 1))
    square, placement = to_square(film(ramp), Preprocessing(size=128, fit=fit))
    back = restore(square.astype(np.float32) / 255, placement)
    assert_allclose(back[20:-20, 20:-20], ramp[20:-20, 20:-20], atol=0.006)


@pytest.mark.parametrize("shape", SHAPES)
def test_letterbox_keeps_the_aspect_and_centres(shape):
    placement = place(*shape, Preprocessing(size=96, fit="letterbox"))
    assert max(placement.inner_height, placement.inner_width) == 96
    ratio = (placement.inner_height / placement.inner_width) / (shape[0] / shape[1])
    assert 0.9 < ratio < 1.1
    assert abs(2 * placement.top + placement.inner_height - 96) <= 1
    assert abs(2 * placement.left + placement.inner_width - 96) <= 1


def test_a_coarse_map_covers_the_film_without_its_padding():
    """A 4x4 map over a tall letterboxed film: the padded outer columns are cut away."""
    placement = place(400, 200, Preprocessing(size=64, fit="letterbox"))
    coarse = np.tile(np.array([9, 1, 1, 9], np.float32), (4, 1))
    back = restore(coarse, placement)
    assert back.shape == (400, 200)
    assert back[:, 60:140].max() < 1.01
    assert back[:, [0, -1]].max() < 5.1  # halfway to the neighbouring cell, no further


def test_points_map_to_the_film_as_maps_do():
    placement = place(500, 250, Preprocessing(size=100, fit="letterbox"))
    x, y = placement.to_film(49.5, 49.5)
    assert (x, y) == (124.5, 249.5)


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_serving_pixels_equal_training_pixels(phantom_film, channels, standardise):
    preprocessing = Preprocessing(size=80, channels=channels, standardise=standardise, scale=2)
    square, _ = to_square(phantom_film, preprocessing)
    crowd = np.stack([255 - square, square, square // 2])
    trained = finish(crowd, preprocessing)[1]
    served = prepare(phantom_film, preprocessing).pixels
    assert served.shape == (80, 80, channels)
    assert_array_equal(served, trained)


def test_standardised_films_have_no_mean_and_unit_spread_and_know_black(phantom_film):
    prepared = prepare(phantom_film, Preprocessing(size=80))
    assert abs(prepared.pixels.mean()) < 1e-5
    assert abs(prepared.pixels.std() - 1) < 1e-4
    square, _ = to_square(phantom_film, Preprocessing(size=80))
    darkest = square.min() / 255
    spread = (square / 255).std()
    assert_allclose(prepared.black, prepared.pixels.min() - darkest / spread, atol=1e-5)


def test_standardising_undoes_brightness_and_gain(phantom_film):
    dim = film(np.asarray(phantom_film.pixels) * 0.5 + 0.2)
    one = prepare(phantom_film, Preprocessing(size=64)).pixels
    other = prepare(dim, Preprocessing(size=64)).pixels
    assert np.abs(one - other).max() < 0.05  # 8-bit rounding only


def test_a_flat_square_stays_finite():
    values, black = normalise(np.full((1, 20, 20), 0.5, np.float32), Preprocessing(size=20))
    assert_array_equal(values, 0)
    assert np.isfinite(black).all()


def test_scale_and_offset_are_applied_as_the_card_says():
    squares = np.array([[[0.0, 1.0]]], np.float32)
    values, black = normalise(
        squares, Preprocessing(size=16, standardise=False, scale=2, offset=-1)
    )
    assert values.ravel().tolist() == [-1, 1]
    assert black.tolist() == [-1]


def test_preprocessing_survives_json():
    preprocessing = Preprocessing(size=224, fit="letterbox", channels=3, standardise=False)
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing


@pytest.mark.parametrize(
    "wrong", [{"size": 8}, {"size": 64, "fit": "crop"}, {"size": 64, "channels": 2}]
)
def test_what_no_network_reads_is_refused(wrong):
    with pytest.raises(ArgumentError, match="must be"):
        Preprocessing(**wrong)


def test_the_pixels_of_this_version_are_these():
    """When this fails on purpose, raise preprocess.PIXELS: caches hold the older pixels."""
    rows, columns = np.mgrid[0:700, 0:600].astype(np.float32)
    wave = 0.5 + 0.25 * np.sin(rows / 37) + 0.25 * np.cos(columns / 23)
    large = to_square(film(wave), Preprocessing(size=64))[0]
    small = to_square(film(wave[:90, :80]), Preprocessing(size=64, fit="letterbox"))[0]
    told = [int(square.astype(np.int64).sum()) for square in (large, small)]
    assert (PIXELS, *told) == (3, 530495, 613177)


# --- regions of a film ---


def test_a_region_is_a_square_of_the_film_around_its_point():
    placement = place(400, 320, Preprocessing(size=64))
    # A side of 400 / 8 = 50 pixels: 50 / 320 of the width, 50 / 400 of the height.
    left, top, right, bottom = region_at(0.5, 0.25, placement)
    assert (left, right) == pytest.approx((0.5 - 25 / 320, 0.5 + 25 / 320))
    assert (top, bottom) == pytest.approx((0.25 - 25 / 400, 0.25 + 25 / 400))


@given(
    st.floats(0, 1), st.floats(0, 1), st.integers(1, 4000), st.integers(1, 4000),
    st.sampled_from(["stretch", "letterbox"]),
)  # fmt: skip
def test_a_region_never_leaves_the_film(x, y, height, width, fit):
    left, top, right, bottom = region_at(
        x, y, place(height, width, Preprocessing(size=64, fit=fit))
    )
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert left - 1e-9 <= x <= right + 1e-9
    assert top - 1e-9 <= y <= bottom + 1e-9


@pytest.mark.parametrize("point", [(-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_a_point_beside_the_film_is_refused(point):
    with pytest.raises(ArgumentError, match=r"lies in \[0, 1\]"):
        region_at(*point, place(400, 320, Preprocessing(size=64)))
