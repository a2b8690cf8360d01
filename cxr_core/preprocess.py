"""From a radiograph to the square a network reads, and from that square back to the film.

One path serves training and reading alike: `to_square` fits the film into a uint8
square (what the training cache stores), `finish` turns squares into network input.
`prepare` is both for one film. `Placement` remembers how the film lies in the square,
so that `restore` returns a map to exactly the pixels it speaks about.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_core.errors import ArgumentError
from cxr_core.images import Radiograph

# Raised whenever reading or squaring gives other pixels, so that no older cache is trusted;
# a test holds the pixels of this number.
PIXELS = 3
# Below this spread (of pixels in [0, 1]) a film is treated as having this spread:
# dividing by less would only amplify noise.
MIN_SPREAD = 1e-3
# Films of more than this many times the square are first averaged in whole blocks down to it:
# faster by far, and within rounding of resampling every pixel.
REDUCING_GAP = 2.0
# Side of a region that is asked about, as a share of the film's longer side.
REGION = 1 / 8

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in shares of the film's width and height."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a film becomes network input; saved in the card, beside the weights.

    Attributes:
        size: Side of the square, in pixels.
        fit: "stretch" fills the square and gives up the aspect ratio; "letterbox" keeps
            it and pads with black.
        channels: 1, or 3 for backbones that want colour (the same values three times).
        standardise: Give every film zero mean and unit spread. It undoes most of what
            differs between one X-ray unit and the next. It stands here rather than
            in the network because integrated gradients from black to the film would
            otherwise run along a path on which the network sees no change.
        scale: Multiplies pixels in [0, 1] when not standardised.
        offset: Added afterwards when not standardised.
    """

    size: int
    fit: Literal["stretch", "letterbox"] = "stretch"
    channels: Literal[1, 3] = 1
    standardise: bool = True
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that no network could read.

        Raises:
            ArgumentError: On a size, fit or channel count outside what is allowed.
        """
        if not 16 <= self.size <= 2048:
            raise ArgumentError(f"size must be 16 to 2048 pixels, but {self.size} came.")
        if self.fit not in ("stretch", "letterbox"):
            raise ArgumentError(f"fit must be 'stretch' or 'letterbox', but '{self.fit}' came.")
        if self.channels not in (1, 3):
            raise ArgumentError(f"channels must be 1 or 3, but {self.channels} came.")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Restore what `to_json` wrote."""
        return cls(**values)


@dataclass(frozen=True)
class Placement:
    """Where a film of (height, width) pixels lies in a square of `size` pixels."""

    height: int
    width: int
    size: int
    top: int
    left: int
    inner_height: int
    inner_width: int

    def to_film(self, x: float, y: float) -> tuple[float, float]:
        """Map a point of the square to the film; both in pixels, half-pixel centres."""
        return (
            (x + 0.5 - self.left) * self.width / self.inner_width - 0.5,
            (y + 0.5 - self.top) * self.height / self.inner_height - 0.5,
        )


@dataclass(frozen=True)
class ModelInput:
    """One film as its network reads it.

    Attributes:
        pixels: float32 (S, S, C).
        placement: The way back to the film.
        black: The value that a black pixel takes in this film's input; the baseline
            from which integrated gradients start.
    """

    pixels: NDArray[np.float32]
    placement: Placement
    black: float


def place(height: int, width: int, preprocessing: Preprocessing) -> Placement:
    """Fit a film of (height, width) pixels into the model's square."""
    size = preprocessing.size
    if preprocessing.fit == "stretch":
        return Placement(height, width, size, 0, 0, size, size)
    ratio = size / max(height, width)
    inner_height = max(1, round(height * ratio))
    inner_width = max(1, round(width * ratio))
    top, left = (size - inner_height) // 2, (size - inner_width) // 2
    return Placement(height, width, size, top, left, inner_height, inner_width)


def to_square(
    radiograph: Radiograph, preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], Placement]:
    """Resample a film into a uint8 (S, S) square, anti-aliased, and say where it lies."""
    height, width = radiograph.pixels.shape
    placement = place(height, width, preprocessing)
    rows, columns = (
        max(1, int(side / inner / REDUCING_GAP))
        for side, inner in ((height, placement.inner_height), (width, placement.inner_width))
    )
    film = _average(_average(radiograph.pixels, rows).T, columns).T
    inner = Image.fromarray(np.ascontiguousarray(film)).resize(
        (placement.inner_width, placement.inner_height),
        Image.Resampling.BILINEAR,
        box=(0, 0, width / columns, height / rows),
    )
    square = np.zeros((placement.size, placement.size), np.uint8)
    down = slice(placement.top, placement.top + placement.inner_height)
    across = slice(placement.left, placement.left + placement.inner_width)
    square[down, across] = np.rint(np.clip(np.asarray(inner), 0, 1) * 255)
    return square, placement


def _average(pixels: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Average every `factor` rows; the last row may stand for fewer."""
    if factor == 1:
        return pixels
    total = pixels[::factor].copy(order="K")  # of a transposed film, too, along its memory
    for start in range(1, factor):
        part = pixels[start::factor]
        total[: len(part)] += part
    total[:-1] /= factor
    total[-1] /= len(pixels) - factor * (len(total) - 1)
    return total


def _moments(
    squares: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread of each square (N, S, S), in float64 so that batching changes nothing."""
    mean = squares.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    spread = squares.std(axis=(1, 2), keepdims=True, dtype=np.float64)
    return mean, np.maximum(spread, MIN_SPREAD)


def normalise(
    squares: NDArray[np.float32], preprocessing: Preprocessing
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Scale squares for the network.

    Args:
        squares: float32 (N, S, S) in [0, 1].
        preprocessing: What the card asks for.

    Returns:
        float32 (N, S, S, C), and float64 (N,): the value black takes in each.
    """
    if preprocessing.standardise:
        mean, spread = _moments(squares)
        values, black = (squares - mean) / spread, (-mean / spread)[:, 0, 0]
    else:
        values = squares.astype(np.float64) * preprocessing.scale + preprocessing.offset
        black = np.full(len(squares), preprocessing.offset, np.float64)
    stacked = np.repeat(values[..., None].astype(np.float32), preprocessing.channels, axis=3)
    return stacked, black


def finish(squares: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Turn uint8 squares (N, S, S), as cached, into network input float32 (N, S, S, C)."""
    return normalise(squares.astype(np.float32) / np.float32(255), preprocessing)[0]


def prepare(radiograph: Radiograph, preprocessing: Preprocessing) -> ModelInput:
    """Turn one film into network input: the pixels that training saw, no others."""
    square, placement = to_square(radiograph, preprocessing)
    pixels, black = normalise(square[None].astype(np.float32) / np.float32(255), preprocessing)
    return ModelInput(pixels[0], placement, float(black[0]))


def restore(values: NDArray[np.floating[Any]], placement: Placement) -> NDArray[np.float32]:
    """Lay a map over the original film.

    Args:
        values: (h, w), covering the model's square at any resolution.
        placement: How the film lies in that square.

    Returns:
        float32 (height, width): bilinear, half-pixel centres (corner-aligned resizing
        would shift a 7x7 map by up to half a cell), padding cut off.
    """
    rows, columns = values.shape[0] / placement.size, values.shape[1] / placement.size
    box = (
        placement.left * columns,
        placement.top * rows,
        (placement.left + placement.inner_width) * columns,
        (placement.top + placement.inner_height) * rows,
    )
    source = Image.fromarray(np.ascontiguousarray(values, np.float32))
    film = source.resize((placement.width, placement.height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(film)


def region_at(x: float, y: float, placement: Placement) -> Box:
    """Choose the square of a film that lies around a point, moved inside where it reaches out.

    Args:
        x: Of the point, as a share of the film's width.
        y: As a share of its height.
        placement: Of the film.

    Returns:
        A square of the film's pixels, its side `REGION` of the film's longer side.

    Raises:
        ArgumentError: When the point is not on the film.
    """
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ArgumentError(f"A point of the film lies in [0, 1], but ({x}, {y}) came.")
    side = REGION * max(placement.height, placement.width)
    across, down = min(side / placement.width, 1.0), min(side / placement.height, 1.0)
    left = min(max(x - across / 2, 0.0), 1 - across)
    top = min(max(y - down / 2, 0.0), 1 - down)
    return left, top, min(left + across, 1.0), min(top + down, 1.0)
