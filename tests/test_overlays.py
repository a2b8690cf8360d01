"""Maps over films: what must show, what must not, and how strongly."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cxr_core import overlays
from cxr_core.errors import ArgumentError
from cxr_core.overlays import colour_table, layer, overlay, png, thumbnail, to_grey

STYLES = ("heatmap", "contour", "both")


@pytest.fixture
def film():
    return np.random.default_rng(0).random((60, 50)).astype(np.float32)


@pytest.fixture
def cone():
    """A map that falls straight from 1 at (row 60, column 70) to 0 at a distance of 40."""
    rows, columns = np.mgrid[:120, :140]
    return np.clip(1 - np.hypot(rows - 60, columns - 70) / 40, 0, None).astype(np.float32)


def grey_film(film):
    return np.repeat(to_grey(film)[..., None], 3, axis=2)


def luminance(rgb):
    linear = (np.asarray(rgb, float) / 255) ** 2.2
    return linear @ [0.2126, 0.7152, 0.0722]


# --- what must not show ---


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("level", [0.0, 0.3, -2.0, 1e-30, 1e30])
def test_a_flat_map_is_the_grey_film(film, level, style, signed):
    values = np.full(film.shape, level, np.float32)

    assert (overlay(film, values, style=style, signed=signed) == grey_film(film)).all()
    assert not layer(values, style=style, signed=signed).any()


def test_a_map_that_is_flat_but_for_rounding_is_the_grey_film(film):
    values = np.full(film.shape, 0.7, np.float32)
    values[::2] = np.nextafter(values[::2], np.float32(1))

    assert (overlay(film, values) == grey_film(film)).all()


def test_an_unsigned_map_of_negative_values_is_the_grey_film(film):
    assert (overlay(film, -film) == grey_film(film)).all()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_opacity_zero_is_the_film(film, style, signed):
    values = np.random.default_rng(1).normal(size=film.shape)

    assert (overlay(film, values, opacity=0, style=style, signed=signed) == grey_film(film)).all()


def test_low_values_leave_the_film_untouched(film):
    values = np.full(film.shape, 0.09, np.float32)
    values[10, 20] = 1
    drawn = overlay(film, values, opacity=1)

    changed = (drawn != grey_film(film)).any(axis=2)
    assert np.argwhere(changed).tolist() == [[10, 20]]


def test_zero_of_a_signed_map_leaves_the_film_untouched(film):
    values = np.zeros(film.shape, np.float32)
    values[:30], values[40:] = 1, -1

    drawn = overlay(film, values, signed=True, opacity=1)
    assert (drawn[30:40] == grey_film(film)[30:40]).all()


# --- what must show ---


def test_the_peak_has_the_top_colour(film):
    values = np.zeros(film.shape)
    values[5, 7] = 123.0

    assert overlay(film, values, opacity=1)[5, 7].tolist() == colour_table(False)[255, :3].tolist()


def test_half_opacity_at_the_peak_is_half_film_half_colour(film):
    values = np.zeros(film.shape)
    values[5, 7] = 2.0

    expected = (colour_table(False)[255, :3].astype(float) + to_grey(film)[5, 7]) / 2
    assert np.abs(overlay(film, values, opacity=0.5)[5, 7] - expected).max() <= 0.5


def test_evidence_for_is_orange_and_against_is_blue():
    drawn = overlay(np.full((1, 2), 0.5), np.array([[1.0, -1.0]]), signed=True, opacity=1)

    (red, _, blue), (cool_red, _, cool_blue) = drawn[0].astype(int)
    assert red > blue + 100
    assert cool_blue > cool_red + 100


def test_evidence_for_and_against_look_equally_strong():
    table = colour_table(True)
    steps = np.arange(1, 128)

    assert (table[128 + steps, 3] == table[128 - steps, 3]).all()
    ratio = luminance(table[128 + steps, :3]) / luminance(table[128 - steps, :3])
    assert (np.abs(ratio - 1) < 0.2).all()


def test_more_evidence_is_lighter_and_less_transparent():
    table = colour_table(False).astype(float)

    assert (np.diff(luminance(table[::4, :3])) > 0).all()
    assert (np.diff(table[:, 3]) >= 0).all()
    assert (table[0, 3], table[255, 3]) == (0, 255)


def test_one_hot_pixel_does_not_wash_out_a_signed_map():
    values = np.where(np.arange(10_000).reshape(100, 100) % 2, 1.0, -1.0)
    values[0, 0] = 1e6

    drawn = overlay(np.zeros((100, 100)), values, signed=True, opacity=1)
    assert (drawn[50, 51] == colour_table(True)[255, :3]).all()
    assert (drawn[50, 50] == colour_table(True)[1, :3]).all()


def test_a_signed_map_of_a_single_pixel_is_drawn(film):
    values = np.zeros(film.shape)
    values[3, 4] = -1e-20

    drawn = overlay(film, values, signed=True, opacity=1)
    assert (drawn[3, 4] == colour_table(True)[1, :3]).all()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("factor", [1e-20, 7.0, 1e20])
def test_the_scale_of_a_map_does_not_matter(film, factor, signed):
    values = np.random.default_rng(2).normal(size=film.shape)

    plain = overlay(film, values, signed=signed, style="both").astype(int)
    assert np.abs(overlay(film, factor * values, signed=signed, style="both") - plain).max() <= 2


# --- contours ---


def test_a_contour_encloses_the_half_maximum(cone):
    film = np.full(cone.shape, 0.4)
    drawn = overlay(film, cone, style="contour")

    rows, columns = np.nonzero((drawn != grey_film(film)).any(axis=2))
    radius = np.hypot(rows - 60, columns - 70)
    assert radius.min() > 20 - 3.5
    assert radius.max() < 20 + 3.5
    around = np.unique(np.round(np.degrees(np.arctan2(rows - 60, columns - 70)) / 10))
    assert len(around) == 37  # from -180 to 180 degrees without a gap


def test_a_contour_is_brightest_on_the_line(cone):
    drawn = overlay(np.zeros(cone.shape), cone, style="contour")

    assert drawn[60].sum(axis=1).reshape(2, 70).argmax(axis=1).tolist() == [50, 20]


def test_a_contour_runs_where_it_is_asked_to(cone):
    drawn = overlay(np.zeros(cone.shape), cone, style="contour", fractions=(0.25,))

    assert drawn[60, 70 + 30].sum() > 300
    assert not drawn[60, 70 + 20].any()


def test_a_signed_map_has_a_contour_on_each_side(cone):
    values = np.concatenate((cone, -cone), axis=1)
    drawn = overlay(np.zeros(values.shape), values, signed=True, style="contour").astype(int)

    span = np.percentile(np.abs(values), 99.5)
    column = round(70 + 40 * (1 - span / 2))
    assert drawn[60, column, 0] > drawn[60, column, 2] + 50
    assert drawn[60, column + 140, 2] > drawn[60, column + 140, 0] + 50


def test_contours_hold_on_steps_and_noise(film):
    """Where a map jumps or is flat, no slope tells how far a line is; nothing may break."""
    values = (np.random.default_rng(3).random(film.shape) > 0.5).astype(np.float32)

    drawn = overlay(film, values, style="both")
    assert drawn.shape == (*film.shape, 3)
    assert (drawn != overlay(film, values)).any()


# --- shapes, types, arguments ---


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("shape", [(60, 50), (1, 1), (1, 9), (2, 3), (301, 7)])
def test_an_overlay_has_the_shape_of_its_film(shape, style):
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    drawn = overlay(np.full(shape, 0.5), values, style=style)

    assert (drawn.shape, drawn.dtype) == ((*shape, 3), np.uint8)
    assert drawn.flags.c_contiguous
    assert layer(values, style=style).shape == (*shape, 4)


@pytest.mark.parametrize("signed", [False, True])
def test_inputs_are_not_changed(film, signed):
    values = np.random.default_rng(4).normal(size=film.shape).astype(np.float32)
    before = film.copy(), values.copy()
    for array in (film, values):
        array.setflags(write=False)
    overlay(film, values, signed=signed, style="both")

    assert (film == before[0]).all()
    assert (values == before[1]).all()


def test_strided_inputs_give_the_same_picture(film):
    values = np.random.default_rng(5).random(film.shape)

    drawn = overlay(film.T, values.T, style="both")
    assert (drawn == overlay(film.T.copy(), values.T.copy(), style="both")).all()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_a_layer_over_the_film_is_the_overlay(film, style, signed):
    values = np.random.default_rng(6).normal(size=film.shape)
    over = layer(values, signed=signed, style=style).astype(float)

    alpha = over[..., 3:] / 255
    composed = over[..., :3] * alpha + grey_film(film) * (1 - alpha)
    drawn = overlay(film, values, signed=signed, style=style, opacity=1)
    assert np.abs(composed - drawn).max() <= 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"values": np.zeros((3, 3))}, r"shape of its film, \(60, 50\), but \(3, 3\)"),
        ({"values": np.full((60, 50), np.nan)}, "NaN"),
        ({"values": np.where(np.eye(60, 50), np.inf, 0)}, "infinity"),
        ({"opacity": 1.1}, "1.1"),
        ({"opacity": float("nan")}, "nan"),
        ({"style": "rainbow"}, "rainbow"),
        ({"fractions": (0.5, 1.0)}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(film, change, says):
    arguments = {"values": film} | change

    with pytest.raises(ArgumentError, match=says):
        overlay(film, **arguments)


# --- films ---


def test_greys_run_from_black_to_white_and_are_clipped():
    film = np.array([[-1, 0, 0.5, 1, 2]], np.float32)

    assert to_grey(film).tolist() == [[0, 0, 128, 255, 255]]


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_a_png_keeps_every_pixel(channels):
    pixels = np.random.default_rng(7).integers(0, 256, (31, 17, *channels)).astype(np.uint8)

    assert (np.asarray(Image.open(BytesIO(png(pixels)))) == pixels).all()


@pytest.mark.parametrize(
    ("shape", "expected"), [((400, 200), (160, 80)), ((200, 400), (80, 160)), ((50, 40), (50, 40))]
)
def test_a_thumbnail_keeps_the_aspect_and_never_enlarges(shape, expected):
    small = thumbnail(np.full(shape, 0.5, np.float32), 160)

    assert small.shape == expected
    assert (small == 128).all()


# --- what a viewer that draws for itself is told ---


@pytest.mark.parametrize("signed", [False, True])
def test_full_colour_is_where_the_colours_end(signed):
    values = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    end = overlays.full_colour(values, signed=signed)
    expected = np.percentile(np.abs(values), 99.5) if signed else values.max()
    assert end == pytest.approx(expected)
    drawn = overlays.layer(values, signed=signed)
    rows = np.clip(values / np.float32(end), -1 if signed else 0, 1)
    levels = (rows * (127 if signed else 255) + (128.5 if signed else 0.5)).astype(np.uint8)
    np.testing.assert_array_equal(drawn, overlays.colour_table(signed)[levels])


def test_a_flat_map_has_no_full_colour():
    assert overlays.full_colour(np.full((4, 4), 3.0)) is None
    assert overlays.full_colour(-np.eye(4)) is None
    with pytest.raises(ArgumentError, match="finite"):
        overlays.full_colour(np.array([[0.0, np.nan]]))


def test_regions_have_outlines_and_single_pixels_have_none():
    y, x = np.mgrid[:224, :224]
    hill = np.exp(-((x - 90) ** 2 + (y - 120) ** 2) / 40**2)
    assert overlays.has_outlines(hill, 1.0)
    assert overlays.has_outlines(np.random.default_rng(1).random((10, 10)), 1.0)
    assert not overlays.has_outlines(np.random.default_rng(1).random((224, 224)), 1.0)
    assert not overlays.has_outlines(-np.random.default_rng(1).random((224, 224)), 1.0)


def test_line_colours_are_those_that_are_drawn():
    (line,) = overlays.line_colours(False)
    assert line == pytest.approx((255 / 255, 210 / 255, 122 / 255))  # #ffd27a
    ramp = np.tile(np.linspace(0, 1, 200), (200, 1))
    drawn = overlays.overlay(np.zeros((200, 200)), ramp, style="contour", opacity=1.0)
    assert (drawn.reshape(-1, 3) == np.rint(np.array(line) * 255)).all(axis=1).any()
    assert len(overlays.line_colours(True)) == 2
