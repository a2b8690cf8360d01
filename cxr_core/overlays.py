"""Maps over a film: what an explanation looks like.

Arrays in, arrays or PNG bytes out; nothing here knows a model. An overlay costs about a
twentieth of a second on a film of 3 MP: a map has 256 levels and a film 256 greys, so each
of their 65,536 pairs is coloured once and then looked up.

Evidence is drawn from dark to bright in a perceptually uniform map; a signed one in orange
(for) and blue (against), equally light. The low end of both is transparent.
"""

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_core.errors import ArgumentError

Style = Literal["heatmap", "contour", "both"]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

# A map whose values differ by less than this share of the largest is flat: the rest is rounding.
FLAT = 1e-5
# Below this share of the peak a map draws nothing; at and above the second it draws fully.
FADE = (0.1, 0.7)
# One hot pixel must not wash out a signed map, so its span is this percentile of |values|,
# taken from about so many of them.
SPAN_PERCENTILE, SPAN_SAMPLE = 99.5, 500_000
# A line of this share of the film's shorter side is two pixels wide on a common screen.
LINE_SHARE = 1 / 450
# Eleven stops of matplotlib's "inferno", from 0.25 to 0.9 of it: its black end would read as
# a shadow on the film, its pale end as bone.
INFERNO = (
    "#57106e", "#71196e", "#8c2369", "#a52c60", "#bf3952", "#d54a41",
    "#e75e2e", "#f47918", "#fb9706", "#fbb61a", "#f6d746",
)  # fmt: skip
# The same of "viridis" and "cividis" (the latter is alike to readers who do not tell red from
# green), from 0.12 and 0.05 of them, for viewers that let their readers choose.
VIRIDIS = (
    "#472a7a", "#404688", "#355e8d", "#2b748e", "#23898e", "#1f9f88",
    "#2eb37c", "#56c667", "#89d548", "#c5e021", "#fde725",
)  # fmt: skip
CIVIDIS = (
    "#002b62", "#233c6e", "#404c6c", "#575d6d", "#6d6f72", "#828079",
    "#999277", "#b3a670", "#ccba64", "#e6d051", "#fee838",
)  # fmt: skip
COLOURS = {"Inferno": INFERNO, "Viridis": VIRIDIS, "Cividis": CIVIDIS}
AGAINST, FOR = ("#2a5f9e", "#4da3ff"), ("#94520f", "#f28a1e")  # from weak to strong
# Where lines run, unless told otherwise: a share of where the colours end.
LEVEL = 0.5
# A map that crosses a level more often than this, for each row of cells, has no outline there.
MOST_CROSSINGS = 16
# Lines of evidence; of a signed map, for and against.
LINE, LINES_SIGNED = "#ffd27a", ("#ffb454", "#7cc0ff")


def to_grey(film: NDArray[Any]) -> Bytes:
    """Turn pixels (H, W) in [0, 1] into 8-bit greys; values outside are clipped."""
    grey: Bytes = np.rint(np.clip(film, 0, 1) * np.float32(255)).astype(np.uint8)
    return grey


def thumbnail(film: NDArray[Any], side: int = 160) -> Bytes:
    """Shrink a film (H, W) in [0, 1] to greys at most `side` pixels long, anti-aliased."""
    image = Image.fromarray(to_grey(film))
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image)


def png(pixels: Bytes) -> bytes:
    """Encode uint8 (H, W), (H, W, 3) or (H, W, 4), for speed rather than for size."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def overlay(
    film: NDArray[Any],
    values: NDArray[Any],
    *,
    opacity: float = 0.5,
    signed: bool = False,
    style: Style = "heatmap",
    fractions: Sequence[float] = (LEVEL,),
) -> Bytes:
    """Draw a map over its film.

    Args:
        film: (H, W) in [0, 1].
        values: (H, W), finite, of any scale. Unsigned maps are scaled by their peak, and
            what is negative in them counts as zero; signed maps by the 99.5 percentile of
            their absolute values, with zero transparent.
        opacity: 0 is the film, 1 hides it where the map is strongest. Lines are drawn at
            twice that, since a faint line cannot be followed.
        signed: Whether values speak for (orange) and against (blue).
        style: "heatmap", "contour" or "both".
        fractions: Where contours run, as shares of the peak (of the span, when signed).

    Returns:
        uint8 (H, W, 3). A flat map draws nothing: the grey film comes back.

    Raises:
        ArgumentError: When shapes differ, values are not finite, or an argument is not as
            described.
    """
    grey = to_grey(film)
    if np.shape(values) != grey.shape:
        raise ArgumentError(
            f"The map must have the shape of its film, {grey.shape}, but {np.shape(values)} came."
        )
    if not 0 <= opacity <= 1:
        raise ArgumentError(f"opacity must lie in [0, 1], but {opacity} came.")
    scaled = _scaled(values, signed, style, fractions)
    if scaled is None:
        return np.repeat(grey[..., None], 3, axis=2)
    pairs = _pairs(signed, opacity if style != "contour" else 0.0)
    canvas = _look_up(pairs, _levels(scaled, signed) * np.uint16(256) + grey)
    if style != "heatmap":
        _draw_contours(canvas, scaled, signed, fractions, strength=min(1.0, 2 * opacity))
    picture = np.empty((*grey.shape, 3), np.uint8)
    for channel in range(3):  # ten times as fast as copying canvas[..., :3] at once
        picture[..., channel] = canvas[..., channel]
    return picture


def layer(
    values: NDArray[Any],
    *,
    signed: bool = False,
    style: Style = "heatmap",
    fractions: Sequence[float] = (LEVEL,),
) -> Bytes:
    """Draw a map alone, for a viewer that lays it over the film itself; see `overlay`.

    Returns:
        uint8 (H, W, 4), alpha not premultiplied; transparent throughout for a flat map.
    """
    scaled = _scaled(values, signed, style, fractions)
    if scaled is None:
        return np.zeros((*np.shape(values), 4), np.uint8)
    table = colour_table(signed) if style != "contour" else np.zeros((256, 4), np.uint8)
    canvas = _look_up(table, _levels(scaled, signed))
    if style != "heatmap":
        _draw_contours(canvas, scaled, signed, fractions, strength=1.0)
    return canvas


def _scaled(
    values: NDArray[Any], signed: bool, style: str, fractions: Sequence[float]
) -> Floats | None:
    """Bring a map to [0, 1], or [-1, 1] when signed; None when it is flat."""
    if style not in ("heatmap", "contour", "both"):
        raise ArgumentError(f"style must be 'heatmap', 'contour' or 'both', but '{style}' came.")
    if not all(0 < fraction < 1 for fraction in fractions):
        raise ArgumentError(f"fractions must lie between 0 and 1, but {list(fractions)} came.")
    end = full_colour(values, signed=signed)
    if end is None:
        return None
    with np.errstate(over="ignore"):  # far beyond the span is as good as at its end
        scaled = np.asarray(values, np.float32) / np.float32(end)
    return np.clip(scaled, -1 if signed else 0, 1, out=scaled)


def full_colour(values: NDArray[Any], *, signed: bool = False) -> float | None:
    """Return the value at which the colours of a map (H, W) end; None when it is flat.

    Raises:
        ArgumentError: When the map has another shape, or holds NaN or infinity.
    """
    if np.ndim(values) != 2 or not np.size(values):
        raise ArgumentError(f"A map has the shape (H, W), but {np.shape(values)} came.")
    plain = np.asarray(values, np.float32)
    low, high = float(plain.min()), float(plain.max())
    if not (isfinite(low) and isfinite(high)):
        raise ArgumentError("A map must be finite, but NaN or infinity came: explain it anew.")
    if high - low <= FLAT * max(high, -low) or (high <= 0 and not signed):
        return None
    return _span(plain) if signed else high


def has_outlines(values: NDArray[Any], end: float) -> bool:
    """Say whether lines at half of where the colours end would follow regions of a map (h, w).

    Around the single pixels of a map of gradients they would only crackle.
    """
    inside = np.abs(values) >= LEVEL * end
    crossings = sum(np.count_nonzero(np.diff(inside, axis=axis)) for axis in (0, 1))
    return bool(crossings <= MOST_CROSSINGS * max(inside.shape))


def line_colours(signed: bool) -> tuple[tuple[float, ...], ...]:
    """Return the colours of a map's lines, each red, green and blue in [0, 1]: for, against."""
    return tuple(tuple(_rgb(one) / 255) for one in (LINES_SIGNED if signed else (LINE,)))


def _span(values: Floats) -> float:
    step = int(np.ceil(np.sqrt(values.size / SPAN_SAMPLE)))
    span = float(np.percentile(np.abs(values[::step, ::step]), SPAN_PERCENTILE))
    # A map that is zero but for a few pixels is shown by those.
    return span or float(np.abs(values).max())


def _levels(scaled: Floats, signed: bool) -> Bytes:
    """Turn scaled values into rows of the colour table; zero is row 0, or 128 when signed."""
    steps, zero = (127, 128) if signed else (255, 0)
    levels = scaled * np.float32(steps)
    levels += np.float32(zero + 0.5)
    return levels.astype(np.uint8)


@cache
def colour_table(signed: bool, colours: str = "Inferno") -> Bytes:
    """Return the colour and alpha of each level, uint8 (256, 4), read-only.

    Levels run from nothing to the peak, in `colours`, which is one of COLOURS; signed ones
    from against (1) over neither (128, transparent) to for (255), always in blue and orange.
    """
    if signed:
        share = np.clip((np.arange(256) - 128) / 127, -1, 1)
        rgb = np.where(
            share[:, None] < 0, _between(AGAINST, np.abs(share)), _between(FOR, np.abs(share))
        )
    else:
        share = np.arange(256) / 255
        rgb = _between(COLOURS[colours], share)
    ramp = np.clip((np.abs(share) - FADE[0]) / (FADE[1] - FADE[0]), 0, 1)
    alpha = 255 * ramp * ramp * (3 - 2 * ramp)
    table: Bytes = np.rint(np.column_stack((rgb, alpha))).astype(np.uint8)
    table.setflags(write=False)
    return table


def _between(stops: Sequence[str], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate colours: (N,) in [0, 1] to (N, 3) in [0, 255]."""
    ladder = np.stack([_rgb(stop) for stop in stops])
    steps = np.linspace(0, 1, len(stops))
    return np.column_stack([np.interp(share, steps, ladder[:, k]) for k in range(3)])


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)], np.float64)


def _pairs(signed: bool, opacity: float) -> Bytes:
    """Colour every pair of a level and a grey: uint8 (65536, 4), row 256 x level + grey."""
    table = colour_table(signed).astype(np.float32)
    alpha = opacity * table[:, None, 3:] / 255
    greys = np.arange(256, dtype=np.float32)[None, :, None]
    pairs = np.full((256, 256, 4), 255, np.uint8)
    pairs[..., :3] = np.rint(greys + (table[:, None, :3] - greys) * alpha)
    return pairs.reshape(-1, 4)


def _look_up(table: Bytes, rows: NDArray[Any]) -> Bytes:
    """Return table[rows] for a table (N, 4), each of its rows moved as one number."""
    # In row order, also for a film that lies in memory by columns.
    found: Bytes = table.view(np.uint32)[:, 0][np.ascontiguousarray(rows)].view(np.uint8)
    return found.reshape(*rows.shape, 4)


def _draw_contours(
    canvas: Bytes, scaled: Floats, signed: bool, fractions: Sequence[float], strength: float
) -> None:
    """Draw lines, dark at their borders so that they stand out on any ground."""
    width = max(2.0, LINE_SHARE * min(scaled.shape))
    sides = zip((1, -1), LINES_SIGNED if signed else (LINE,), strict=False)
    for sign, colour in sides:
        for fraction in fractions:
            where, distance = _near(scaled, sign * fraction, width)
            for reach, shade, alpha in ((width, "#000000", 0.55), (width / 2, colour, 1.0)):
                coverage = np.clip(reach + 0.5 - distance, 0, 1) * (alpha * strength)
                _paint(canvas, where, coverage, _rgb(shade))


def _near(values: Floats, level: float, reach: float) -> tuple[NDArray[np.intp], Floats]:
    """Find pixels near the line on which a map has a level.

    Returns:
        Their places in the flattened map, and their distances from the line in pixels:
        how far the value is from the level, over how fast the map changes there.
    """
    inside = values >= level
    band = np.zeros_like(inside)
    across, down = inside[:, 1:] != inside[:, :-1], inside[1:] != inside[:-1]
    band[:, 1:] |= across
    band[:, :-1] |= across
    band[1:] |= down
    band[:-1] |= down
    for _ in range(int(np.ceil(reach))):
        grown = band.copy()
        grown[1:] |= band[:-1]
        grown[:-1] |= band[1:]
        grown[:, 1:] |= band[:, :-1]
        grown[:, :-1] |= band[:, 1:]
        band = grown
    row, column = np.nonzero(band)
    above, below = np.maximum(row - 1, 0), np.minimum(row + 1, values.shape[0] - 1)
    left, right = np.maximum(column - 1, 0), np.minimum(column + 1, values.shape[1] - 1)
    slope = np.hypot(
        (values[below, column] - values[above, column]) / np.maximum(below - above, 1),
        (values[row, right] - values[row, left]) / np.maximum(right - left, 1),
    )
    distance = np.abs(values[row, column] - np.float32(level)) / np.maximum(slope, 1e-12)
    return row * values.shape[1] + column, distance.astype(np.float32)


def _paint(
    canvas: Bytes, where: NDArray[np.intp], coverage: Floats, colour: NDArray[np.float64]
) -> None:
    """Lay a colour over some pixels of uint8 (H, W, 4), in place (Porter and Duff's "over")."""
    pixels = canvas.reshape(-1, 4)
    under = pixels[where].astype(np.float64)
    over = coverage[:, None].astype(np.float64)
    below = under[:, 3:] / 255 * (1 - over)
    alpha = over + below
    rgb = (over * colour + below * under[:, :3]) / np.maximum(alpha, 1e-6)
    pixels[where] = np.rint(np.column_stack((rgb, alpha * 255))).astype(np.uint8)
