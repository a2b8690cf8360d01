"""What can be measured on the picture itself: size, colour, contrast, exposure, sharpness, text.

Limits come from training and validation films: each measure cautions of at most about one in
a hundred of any collection, and refuses none of them. All but the borders themselves is measured
within even borders of any grey: they are no part of the film.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label, uniform_filter

from cxr_core.cards import ModelCard
from cxr_core.gate.report import GateCheck, Verdict
from cxr_core.images import Radiograph
from cxr_core.preprocess import Preprocessing, to_square

# Mean difference between the strongest and the weakest channel, in [0, 1]. Films saved in
# colour stay below the first; a photograph lies above the second.
TINTED, COLOURED = 0.02, 0.08
# Spread of pixels in [0, 1] below which a film shows next to nothing.
FAINT = 0.04
# The picture at a glance, at which exposure, sharpness and borders are measured.
GLANCE = Preprocessing(size=128, fit="stretch")
# The 99th percentile of its pixels: (caution below, refuse below).
DARK = (0.45, 0.2)
# Share of its pixels that are all but white: (caution above, refuse above).
BURNT, WHITE = (0.2, 0.6), 0.98
# Spread of what a blur over 3 x 3 takes away, over the spread of the whole.
BLURRED = (0.02, 0.009)
# Share of the area that lies in rows and columns of one grey along the edges. Collimators and
# scanners leave black ones, which films in training have; brighter ones they never have, and
# seen with a white frame, films of healthy children were flagged.
BORDERS, BORDERED, EVEN = "borders", (0.3, 0.65), 0.012
FRAMED, BLACK = (0.1, 0.2), 0.1
# Within borders lies at least this part of a side, or nothing that could be looked at.
LEAST_INSIDE = 8
# Text: this many bright marks of one height in a row. Below this side none could be read.
LETTERS, LEGIBLE_SIDE = 10, 320
SAMPLED_SIDE = 480  # the shorter side, about, at which large films are measured


def glance_at(radiograph: Radiograph) -> NDArray[np.uint8]:
    """Shrink a film to what is looked at, uint8 (128, 128), its borders included."""
    return to_square(radiograph, GLANCE)[0]


def pixel_checks(radiograph: Radiograph, glance: NDArray[np.uint8]) -> tuple[GateCheck, ...]:
    """Check what needs no model; `glance` is `glance_at(radiograph)`."""
    film = sampled(radiograph.pixels)
    inner = within_borders(glance).astype(np.float32) / np.float32(255)
    return (
        _colour(radiograph),
        _contrast(_cut_out(film, glance)),
        _exposure(inner),
        _saturation(inner),
        _sharpness(inner),
        _borders(glance),
        _text(film),
    )


def within_borders(square: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut away even borders: of uint8 (S, S), all but rows and columns of one grey at its edges.

    Where so little would be left that nothing could be seen on it, the square is left whole.
    """
    rows, columns = inside(square)
    return square[rows, columns]


def inside(square: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Say which rows and columns of a uint8 (S, S) square lie within even borders, or all."""
    rows, columns = _busy(square, 255 * EVEN)
    least = len(square) / LEAST_INSIDE
    if rows.stop - rows.start < least or columns.stop - columns.start < least:
        return slice(0, len(square)), slice(0, len(square))
    return rows, columns


def without_borders(radiograph: Radiograph) -> NDArray[np.float32]:
    """Cut even borders off a film at its full size, to the pixel: a thin frame misleads models."""
    near = _cut_out(radiograph.pixels, glance_at(radiograph))
    film = near[_busy(near, EVEN)]
    return film if film.size else near


def _cut_out(pixels: NDArray[np.float32], glance: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Cut out of (H, W) pixels what lies within the borders of their glance."""
    rows, columns = (
        slice(found.start * side // GLANCE.size, -(-found.stop * side // GLANCE.size))
        for found, side in zip(inside(glance), pixels.shape, strict=True)
    )
    return pixels[rows, columns]


def sampled(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take every n-th pixel of a large film, (H, W): measuring each would cost a reader time."""
    step = max(1, round(min(pixels.shape) / SAMPLED_SIDE))
    return np.ascontiguousarray(pixels[::step, ::step])


def resolution(radiograph: Radiograph, card: ModelCard) -> GateCheck:
    """Compare the film's shorter side with what the model reads."""
    side, wanted = min(radiograph.pixels.shape), card.preprocessing.size
    limit = f"at least {wanted} pixels"
    if side >= wanted:
        return GateCheck("resolution", side, limit, "ok", f"The shorter side has {side} pixels.")
    verdict: Verdict = "caution" if side >= wanted // 2 else "refuse"
    reason = f"The shorter side has {side} pixels; the model reads {wanted}."
    return GateCheck("resolution", side, limit, verdict, reason, "Use the film at full size.")


def _colour(radiograph: Radiograph) -> GateCheck:
    tint, limit = round(radiograph.facts.colourfulness, 4), f"below {TINTED:g}"
    if tint < TINTED:
        return GateCheck("colour", tint, limit, "ok", "The picture is grey, as a film should be.")
    verdict: Verdict = "caution" if tint < COLOURED else "refuse"
    reason = "The picture is coloured; a radiograph is grey."
    mend = "Use the film itself, not a photograph, a screenshot or a film with drawings on it."
    return GateCheck("colour", tint, limit, verdict, reason, mend)


def _contrast(film: NDArray[np.float32]) -> GateCheck:
    spread, limit = round(float(film.std()), 4), f"at least {FAINT:g}"
    if spread >= FAINT:
        return GateCheck("contrast", spread, limit, "ok", "The film uses its grey scale.")
    reason = "The film has almost no contrast; the window may be wrong."
    mend = "Export the film with its window applied, or use the original DICOM file."
    return GateCheck("contrast", spread, limit, "refuse", reason, mend)


@dataclass(frozen=True)
class _Range:
    """Two limits of one measure, and what is said on their far sides."""

    caution: float
    refuse: float
    above: bool

    def verdict(self, value: float) -> Verdict:
        beyond = value.__gt__ if self.above else value.__lt__
        if beyond(self.refuse):
            return "refuse"
        return "caution" if beyond(self.caution) else "ok"

    @property
    def limit(self) -> str:
        return f"at {'most' if self.above else 'least'} {self.caution:g}"


def _measured(name: str, value: float, limits: _Range, fine: str, bad: str, mend: str) -> GateCheck:
    """Hold one measure against its two limits."""
    verdict = limits.verdict(value)
    shown = round(value, 4)
    if verdict == "ok":
        return GateCheck(name, shown, limits.limit, "ok", fine)
    return GateCheck(name, shown, limits.limit, verdict, bad, mend)


def _exposure(glance: NDArray[np.float32]) -> GateCheck:
    return _measured(
        "exposure",
        float(np.quantile(glance, 0.99)),
        _Range(*DARK, above=False),
        "The brightest parts are bright enough.",
        "The film is very dark.",
        "Export the film with its window applied, or use the original DICOM file.",
    )


def _saturation(glance: NDArray[np.float32]) -> GateCheck:
    return _measured(
        "saturation",
        float((glance >= WHITE).mean()),
        _Range(*BURNT, above=True),
        "Hardly anything is white.",
        "Much of the film is burnt to white, and what was there is lost.",
        "Use the original film, or export it with a wider window.",
    )


def _sharpness(glance: NDArray[np.float32]) -> GateCheck:
    fine = (glance - uniform_filter(glance, 3))[1:-1, 1:-1]
    return _measured(
        "sharpness",
        float(fine.std() / max(float(glance.std()), 1e-3)),
        _Range(*BLURRED, above=False),
        "The film is sharp enough.",
        "The film is blurred even at the size at which models read.",
        "Use the original film, not a thumbnail made larger or a photograph out of focus.",
    )


def _borders(glance: NDArray[np.uint8]) -> GateCheck:
    outside = np.ones(glance.shape, bool)
    outside[_busy(glance, 255 * EVEN)] = False
    black = not outside.any() or glance[outside].mean() <= 255 * BLACK
    return _measured(
        BORDERS,
        float(outside.mean()),
        _Range(*(BORDERED if black else FRAMED), above=True),
        "No wide borders surround the film.",
        "Wide borders of one grey surround the film, and can turn the model's answer.",
        "Crop the picture to the film, or have it cropped here.",
    )


def _busy(pixels: NDArray[Any], even: float) -> tuple[slice, slice]:
    """Find the rows and columns inside borders of one grey; empty where all is of one grey.

    Args:
        pixels: (H, W).
        even: The spread up to which a row or column is of one grey.
    """
    found = (np.flatnonzero(pixels.std(axis=axis) > even) for axis in (1, 0))
    rows, columns = (
        slice(int(busy[0]), int(busy[-1]) + 1) if len(busy) else slice(0, 0) for busy in found
    )
    return rows, columns


def _text(film: NDArray[np.float32]) -> GateCheck:
    limit = f"fewer than {LETTERS} letters in a line"
    if min(film.shape) < LEGIBLE_SIDE:
        return GateCheck("text", None, limit, "ok", "The film is too small for legible small text.")
    count = longest_line(film)
    if count < LETTERS:
        return GateCheck("text", count, limit, "ok", "No line of letters was found on the film.")
    reason = "There seems to be text on the film, which may say who the patient is."
    mend = "Look, and remove names and numbers before the film leaves this place."
    return GateCheck("text", count, limit, "caution", reason, mend)


def longest_line(film: NDArray[np.float32]) -> int:
    """Count the bright marks in the longest row of marks that stand like letters.

    Args:
        film: float32 (H, W) in [0, 1], its shorter side some hundred pixels.

    Returns:
        The number of marks; 0 or more.
    """
    marks, _ = label(film - uniform_filter(film, 25) > 0.3)
    side = min(film.shape)
    boxes = [
        (down.start, across.start, down.stop - down.start, across.stop - across.start)
        for down, across in find_objects(marks)
    ]
    letters = [box for box in boxes if 5 <= box[2] <= side // 16 and 1 <= box[3] <= 1.6 * box[2]]
    return max((_run(letters, first) for first in letters), default=0)


def _run(letters: list[tuple[int, int, int, int]], first: tuple[int, int, int, int]) -> int:
    """Count the letters on the line of `first`, from it rightwards, without a wide gap."""
    top, left, height, width = first
    line = sorted(
        (
            other
            for other in letters
            if other[1] > left
            and abs(other[0] - top) <= 0.35 * height
            and 0.6 <= other[2] / height <= 1.6
        ),
        key=lambda box: box[1],
    )
    count, end = 1, left + width
    for _, start, _, wide in line:
        if start - end > 1.5 * height:
            break
        count, end = count + 1, start + wide
    return count
