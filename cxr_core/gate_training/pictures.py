"""What the gate's network is shown: films with faults, cut films, and pictures that are no films.

Real pictures of other things are few, so most of what is "no chest film" is made: parts of
films, films cut up and laid anew, several films in one picture, films on a screen, pages of
text, textures, and soft tubes and discs on black such as limbs and slices are. Functions
take uint8 (H, W) squares and a generator, and return float32 (SIDE, SIDE) in [0, 1].
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from cxr_core.gate import LOOK, within_borders
from cxr_core.preprocess import Box

Square = NDArray[np.uint8]
Picture = NDArray[np.float32]
SIDE = LOOK.size
# Which shares of a film's area a window has that is shown as a part, and no film.
PARTS = (0.03, 0.28)


def window(square: Square, rng: np.random.Generator, areas: tuple[float, float]) -> Picture:
    """Cut out a window of this share of the area, anywhere, and fill the picture with it."""
    share = np.sqrt(rng.uniform(*areas))
    longer = np.exp(rng.uniform(-0.15, 0.15))
    width, height = (float(min(1, share * k)) for k in (longer, 1 / longer))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return cropped(square, (left, top, left + width, top + height))


def one_sided(square: Square, rng: np.random.Generator, cuts: tuple[float, float]) -> Picture:
    """Cut this share of the height or width away: the bases mostly, the apices or a flank."""
    edge = int(rng.choice(4, p=(0.2, 0.2, 0.2, 0.4)))
    box = [0.0, 0.0, 1.0, 1.0]
    box[edge] = abs(box[edge] - rng.uniform(*cuts))
    return cropped(square, (box[0], box[1], box[2], box[3]))


def cropped(square: Square, box: Box) -> Picture:
    """Cut out one part, its box in shares of the sides, and fill the picture with it."""
    height, width = square.shape
    left, top, right, bottom = box
    return _resized(square, (left * width, top * height, right * width, bottom * height))


def _resized(square: Square, box: tuple[float, float, float, float] | None = None) -> Picture:
    image = Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, np.float32) / np.float32(255)


def bordered(picture: Picture, rng: np.random.Generator, widest: float) -> Picture:
    """Shrink a film into a frame of black, of white or of any grey, up to `widest` of each side."""
    top, bottom, left, right = (rng.uniform(0, widest, 4) * SIDE).astype(int)
    grey = rng.choice([0.0, 1.0, rng.random()], p=(0.6, 0.2, 0.2))
    framed = np.full((SIDE, SIDE), grey, np.float32)
    inner = Image.fromarray(picture).resize((SIDE - left - right, SIDE - top - bottom))
    framed[top : SIDE - bottom, left : SIDE - right] = np.clip(inner, 0, 1)
    return framed


def filling(picture: Picture) -> Picture:
    """Cut even borders off a made picture, as is done to whatever is looked at."""
    return _resized(within_borders(np.rint(picture * 255).astype(np.uint8)))


def cut_up(square: Square, rng: np.random.Generator) -> Picture:
    """Cut a film into a grid of pieces and lay them in another order."""
    cells = int(rng.integers(2, 5))
    side = SIDE // cells
    film = _resized(square)[: side * cells, : side * cells]
    pieces = film.reshape(cells, side, cells, side).swapaxes(1, 2).reshape(-1, side, side)
    # A mere turn of the order could leave most of the chest as it was.
    order = rng.permutation(cells * cells)
    while (order == np.arange(cells * cells)).mean() > 0.3:
        order = rng.permutation(cells * cells)
    shuffled = pieces[order].reshape(cells, cells, side, side).swapaxes(1, 2)
    picture = np.zeros((SIDE, SIDE), np.float32)
    picture[: side * cells, : side * cells] = shuffled.reshape(side * cells, side * cells)
    return picture


def collage(squares: list[Square], rng: np.random.Generator) -> Picture:
    """Lay two, three or four films in one picture."""
    across, down = ((2, 1), (1, 2), (3, 1), (2, 2))[int(rng.integers(4))]
    gap = int(rng.integers(0, 4))
    picture = np.full((SIDE, SIDE), rng.choice([0.0, 0.0, 1.0, rng.random()]), np.float32)
    width, height = SIDE // across, SIDE // down
    for k in range(across * down):
        film = Image.fromarray(squares[k % len(squares)])
        inner = film.resize((width - gap, height - gap), Image.Resampling.BILINEAR)
        row, column = divmod(k, across)
        top, left = row * height + gap // 2, column * width + gap // 2
        picture[top : top + height - gap, left : left + width - gap] = np.asarray(inner) / 255
    return picture


def page_of_text(rng: np.random.Generator) -> Picture:
    """Write lines of letters, as a document or a report has them."""
    size = int(rng.integers(64, 200))
    paper, ink = (235, 30) if rng.random() < 0.7 else (20, 220)
    image = Image.new("L", (size, size), paper)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(float(rng.integers(7, 16)))
    step = float(rng.uniform(9, 22))
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz     ABCDEF0123456789.,:-"))
    for line in range(int(size / step)):
        if rng.random() < 0.85:
            text = "".join(rng.choice(letters, int(rng.integers(3, size // 5))))
            draw.text((rng.uniform(2, size / 6), line * step + 2), text, fill=ink, font=font)
    return _resized(np.asarray(image))


def screenshot(inside: Square, rng: np.random.Generator) -> Picture:
    """Draw windows, bars and buttons around a small picture, as a screen shows them."""
    size = 128
    image = Image.new("L", (size, size), int(rng.integers(0, 256)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 14))):
        left, top = rng.uniform(0, size, 2)
        box = (left, top, left + rng.uniform(4, 90), top + rng.uniform(3, 50))
        draw.rectangle(box, fill=int(rng.integers(0, 256)), outline=int(rng.integers(0, 256)))
    side = int(rng.uniform(0.2, 0.55) * size)
    small = Image.fromarray(inside).resize((side, int(side * rng.uniform(0.7, 1.3))))
    image.paste(small, (int(rng.uniform(0, size - side)), int(rng.uniform(0, size - side))))
    font = ImageFont.load_default(8.0)
    for _ in range(int(rng.integers(0, 8))):
        draw.text(tuple(rng.uniform(0, size - 20, 2)), "File Edit View 12:30", fill=255, font=font)
    return _resized(np.asarray(image))


def texture(rng: np.random.Generator) -> Picture:
    """Filter noise coarsely or finely, or shade smoothly from one side to another."""
    if rng.random() < 0.2:
        y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j]
        a, b, c = rng.normal(size=3)
        return _stretched(a * x + b * y + c * x * y)
    noise = rng.standard_normal((SIDE, SIDE))
    fine, coarse = rng.uniform(0.3, 2), rng.uniform(2, 12)
    soft = gaussian_filter(noise, (coarse, coarse * rng.uniform(0.3, 3)), mode="wrap")
    return _stretched(soft / soft.std() + rng.uniform(0, 1) * gaussian_filter(noise, fine))


def _stretched(values: NDArray[np.float64]) -> Picture:
    low, high = values.min(), values.max()
    return np.asarray((values - low) / max(high - low, 1e-6), np.float32)


def shapes(rng: np.random.Generator) -> Picture:
    """Draw tubes and discs with bright rims on black, blurred, with grain inside."""
    size = 128
    image = Image.new("L", (size, size), int(rng.choice([0, 0, 15, 40])))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 6))):
        flesh, rim = int(rng.integers(40, 160)), int(rng.integers(120, 256))
        x, y = rng.uniform(0.2, 0.8, 2) * size
        if rng.random() < 0.6:
            dx, dy, thick = *rng.normal(0, 0.5 * size, 2), rng.uniform(8, 44)
            ends = (x - dx, y - dy, x + dx, y + dy)
            for width, grey in ((thick, flesh), (thick * 0.55, rim), (thick * 0.3, flesh)):
                draw.line(ends, fill=grey, width=max(1, int(width)))
        else:
            rx, ry = rng.uniform(0.12, 0.48, 2) * size
            for k, grey in ((1.0, rim), (0.92, int(rng.integers(0, 60))), (0.86, flesh)):
                draw.ellipse((x - k * rx, y - k * ry, x + k * rx, y + k * ry), fill=grey)
    grain = 12 * gaussian_filter(rng.standard_normal((size, size)), rng.uniform(0.5, 4))
    soft = gaussian_filter(np.asarray(image, np.float32), rng.uniform(0.5, 3))
    made = np.where(soft > 20, soft + 4 * grain, soft)
    return _resized(np.clip(made, 0, 255).astype(np.uint8))


def no_film(
    films: Callable[[], Square], photographs: Callable[[], Square], rng: np.random.Generator
) -> Picture:
    """Make one picture that is no single, whole chest film; `films` draws a film at random."""
    chosen = rng.random()
    if chosen < 0.3:
        return window(films(), rng, PARTS)
    if chosen < 0.5:
        return cut_up(films(), rng)
    if chosen < 0.7:
        return collage([films() for _ in range(int(rng.integers(1, 5)))], rng)
    if chosen < 0.78:
        return page_of_text(rng)
    if chosen < 0.88:
        return screenshot(films() if rng.random() < 0.6 else photographs(), rng)
    return texture(rng) if chosen < 0.94 else shapes(rng)
