"""The lung field's box: on phantoms, where the lungs are known, and on films of every set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.testing import assert_allclose

from cxr_core.images import load_radiograph
from cxr_core.phantom import Opacity, thorax
from cxr_core.thorax import lung_field

EVERYWHERE = (Opacity(0.5, 0.5, 1.0, 1.0),)


def true_box(seed):
    """The lungs are what turns bright when every lung is filled with fluid."""
    aerated, filled = (thorax(256, 224, seed=seed, opacities=o).pixels for o in ((), EVERYWHERE))
    lung = filled - aerated > 0.2
    y, x = (np.flatnonzero(lung.sum(axis=axis) > 3) for axis in (1, 0))
    return x[0] / 224, y[0] / 256, (x[-1] + 1) / 224, (y[-1] + 1) / 256


def area(box):
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def overlap(one, other):
    common = (*np.maximum(one[:2], other[:2]), *np.minimum(one[2:], other[2:]))
    return area(common) / (area(one) + area(other) - area(common))


@pytest.mark.parametrize("seed", range(6))
def test_the_box_is_that_of_the_phantoms_lungs(seed):
    found = lung_field(thorax(256, 224, seed=seed).pixels)
    assert found is not None
    assert overlap(found, true_box(seed)) > 0.8


def test_an_opacity_does_not_hide_the_lungs():
    film = thorax(256, 224, seed=3, opacities=(Opacity(0.3, 0.6, 0.1),))
    assert overlap(lung_field(film.pixels), true_box(3)) > 0.8


def test_exposure_does_not_matter():
    """Any rising curve over the greys keeps their ranks."""
    pixels = thorax(256, 224, seed=1).pixels
    small = pixels[::4, ::4]  # 64 x 56: rows are not averaged, so that ranks stay
    assert lung_field(small.repeat(4, 0)[:, :64]) == lung_field(small.repeat(4, 0)[:, :64] ** 2)


def test_the_box_moves_with_the_film():
    pixels = thorax(256, 224, seed=1).pixels
    x0, y0, x1, y1 = lung_field(pixels)
    wide = np.pad(pixels, ((0, 64), (0, 0)), mode="edge")
    assert_allclose(lung_field(wide), (x0, y0 * 0.8, x1, y1 * 0.8), atol=0.06)


def test_the_film_is_left_as_it_is():
    pixels = np.array(thorax(64, 56, seed=1).pixels)
    before = pixels.copy()
    lung_field(pixels)
    assert (pixels == before).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((80, 80)),
        np.full((300, 200), 0.5),
        np.random.default_rng(0).random((200, 200)),
        np.linspace(0, 1, 128 * 128).reshape(128, 128),
    ],
    ids=["black", "grey", "noise", "ramp"],
)
def test_where_nothing_looks_like_lungs_nobody_guesses(pixels):
    assert lung_field(pixels) is None


def test_a_phantom_on_its_side_has_no_lungs():
    assert lung_field(np.rot90(thorax(256, 256, seed=2).pixels)) is None


@given(some.integers(2, 90), some.integers(2, 90), some.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_box_lies_on_the_film(height, width, seed):
    film = np.random.default_rng(seed).random((height, width)).cumsum(axis=0)
    box = lung_field(film / film.max())
    if box is not None:
        x0, y0, x1, y1 = box
        assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "least"),
    [("pediatric_pneumonia/test", 12), ("nih_chestxray14", 18), ("covid_radiography", 18)],
)
def test_most_real_films_have_lungs(data, folder, least):
    """Of 20 films drawn by chance; boxes of such draws were looked at, one by one."""
    films = sorted(path for path in (data / folder).rglob("*.jp*g"))
    chosen = np.random.default_rng(3).permutation(len(films))[:20]
    found = [lung_field(load_radiograph(films[i]).pixels) for i in chosen]
    assert sum(box is not None for box in found) >= least
