"""A computer-made frontal chest radiograph, for tests and for the demo film.

Rays run straight through a body made of a few solids: chest wall, lungs, heart and great
vessels, spine, ribs, clavicles, shoulder blades, the windpipe and the vessels that branch
from the hila. Each solid gives a map of how many centimetres of it a ray crosses; their
attenuations add up (Beer-Lambert), scatter and noise are added, and a film curve turns
exposure into grey. Opacities fill lung with fluid at known places, so that tests know
where a finding is. The patient's left is on the right of the film, as radiographs hang.

Coordinates: y runs down the film from 0 to 1; u runs across from the midline, in the
same unit (film heights), negative on the patient's right. Nothing here is anatomy to
measure by; it only has to look and behave like a radiograph.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from cxr_core.errors import ArgumentError
from cxr_core.images import Facts, Radiograph

Seed = int | tuple[int, ...]
Map = NDArray[np.floating[Any]]  # (H, W), (H, 1) or (1, W)

FILM_CM = 42.0  # height of the film
# Linear attenuation per centimetre at about 120 kVp, hardened by the patient.
SOFT, LUNG, BONE = 0.19, 0.062, 0.48
SAMPLE_SEED = 7
MIN_RENDERED = 96  # rows; smaller films are rendered at a multiple and averaged down


@dataclass(frozen=True)
class Opacity:
    """A patch of lung filled with fluid.

    Attributes:
        x: Centre across the film, 0 (left edge) to 1.
        y: Centre down the film, 0 (top) to 1.
        radius: Where the filling has fallen to half, as a fraction of the shorter side.
        density: Share of the air replaced in the centre, 0 to 1.
    """

    x: float
    y: float
    radius: float
    density: float = 0.8

    def __post_init__(self) -> None:
        """Refuse values outside the film.

        Raises:
            ArgumentError: On a fraction outside its range.
        """
        for name, value in (("x", self.x), ("y", self.y), ("density", self.density)):
            if not 0 <= value <= 1:
                raise ArgumentError(f"{name} of an opacity must be 0 to 1, but {value} came.")
        if not 0 < self.radius <= 1:
            raise ArgumentError(
                f"radius of an opacity must be above 0 and at most 1, but {self.radius} came."
            )


@dataclass(frozen=True)
class _Patient:
    """What differs between patients; drawn from the seed, the defaults are average."""

    scale: float = 1.0
    shift: float = 0.0
    tilt: float = 0.0  # radians
    inspiration: float = 0.0  # how much lower the diaphragm stands, film heights
    rib_spacing: float = 0.069
    heart: float = 1.0
    girth: float = 1.0
    breast: float = 0.0  # cm
    exposure: float = 0.0

    @classmethod
    def draw(cls, random: np.random.Generator) -> "_Patient":
        return cls(
            scale=random.uniform(0.95, 1.04),
            shift=random.normal(0, 0.008),
            tilt=np.deg2rad(random.normal(0, 1.2)),
            inspiration=random.uniform(-0.045, 0.03),
            rib_spacing=random.uniform(0.064, 0.073),
            heart=random.uniform(0.88, 1.08),
            girth=random.uniform(0.93, 1.1),
            breast=max(0.0, random.uniform(-1.5, 2.0)),
            exposure=random.normal(0, 0.12),
        )


def thorax(
    height: int = 1024,
    width: int = 900,
    *,
    seed: int = 0,
    opacities: Sequence[Opacity] = (),
    marker: bool = False,
) -> Radiograph:
    """Make one film.

    Args:
        height: Rows, at least 16.
        width: Columns, at least 16; 7/8 of the height shows shoulders and both sides.
        seed: The patient: size, tilt, lung volume, ribs, heart, vessels and noise.
        opacities: Patches of lung to fill; where there is no lung they do nothing.
        marker: Lay a lead letter L on the film, on the patient's left.

    Returns:
        The film, equal to what reading its `png_bytes` gives.

    Raises:
        ArgumentError: If the film would be smaller than 16 x 16.
    """
    if min(height, width) < 16:
        raise ArgumentError(
            f"A phantom needs at least 16 x 16 pixels, but {height} x {width} came."
        )
    grey = _film(height, width, seed, opacities, marker=marker)
    pixels = np.divide(grey, np.float32(255), dtype=np.float32)
    pixels.flags.writeable = False
    digest = hashlib.sha256(_png(grey)).hexdigest()
    return Radiograph(pixels, Facts("PNG", 8, "MONOCHROME2"), digest)


def sample_film() -> Radiograph:
    """Make the demo film: one opacity in the right lower zone (left on the film)."""
    opacity = Opacity(0.29, 0.64, 0.09, 0.6)
    return thorax(1024, 900, seed=SAMPLE_SEED, opacities=(opacity,), marker=True)


def png_bytes(radiograph: Radiograph) -> bytes:
    """Write a film as an 8-bit grey PNG."""
    return _png(np.rint(radiograph.pixels * np.float32(255)).astype(np.uint8))


def write_dataset(
    folder: Path,
    *,
    patients_per_class: int = 8,
    size: int = 128,
    seed: int = 0,
    splits: Sequence[str] = ("train", "test"),
) -> None:
    """Write {split}/{NORMAL,PNEUMONIA}/*.jpeg, named like the films of Kermany 2018.

    Every third patient owns two films. Patients are counted through, so none is in two
    splits, but as in that set two numberings share their numbers: person5_bacteria_1 and
    person5_virus_1 are two patients, and so are IM-0001 and NORMAL2-IM-0001. Bacterial
    films have one dense opacity, viral ones three that are smaller and fainter.

    Args:
        folder: Made if absent.
        patients_per_class: In each split.
        size: Rows of a film; films are 7/8 as wide.
        seed: Other seeds give other patients.
        splits: Names of the folders.
    """
    patient = 0
    for split in splits:
        for label in ("NORMAL", "PNEUMONIA"):
            target = folder / split / label
            target.mkdir(parents=True, exist_ok=True)
            for _ in range(patients_per_class):
                _write_patient(target, patient, size, seed)
                patient += 1


def _write_patient(folder: Path, patient: int, size: int, seed: int) -> None:
    """Write the one or two films of one patient."""
    number, second = patient // 2 + 1, patient % 2 == 1
    random = np.random.default_rng((seed, patient, 1))
    for film in range(1, 3 if patient % 3 == 2 else 2):
        if folder.name == "PNEUMONIA":
            name = f"person{number}_{'virus' if second else 'bacteria'}_{film}"
            opacities = tuple(_disease(random, bacterial=not second))
        else:
            name = f"{'NORMAL2-' if second else ''}IM-{number:04d}-{film:04d}"
            opacities = ()
        seeds = (seed, patient)
        grey = _film(size, round(size * 7 / 8), seeds, opacities, noise_seed=film)
        Image.fromarray(grey).save(folder / f"{name}.jpeg", quality=95)


def _disease(random: np.random.Generator, *, bacterial: bool) -> Iterator[Opacity]:
    """Draw opacities inside the lungs."""
    for _ in range(1 if bacterial else 3):
        side = random.choice((-1, 1))
        yield Opacity(
            x=0.5 + side * random.uniform(0.17, 0.28),
            y=random.uniform(0.35, 0.68),
            radius=random.uniform(0.08, 0.12) * (1.0 if bacterial else 0.75),
            density=random.uniform(0.75, 0.95) * (1.0 if bacterial else 0.7),
        )


def _png(grey: NDArray[np.uint8]) -> bytes:
    stream = BytesIO()
    Image.fromarray(grey).save(stream, "PNG", compress_level=4)
    return stream.getvalue()


# ---------------------------------------------------------------- rays to film


@dataclass(frozen=True)
class _Plane:
    """The film's plane, larger than the film by a margin because the patient may tilt.

    Attributes:
        u: float32 (1, W), across from the midline.
        y: float32 (H, 1), down.
        rows: Of the film without margins.
        columns: Of the film without margins.
        margin: Pixels on each side.
    """

    u: Map
    y: Map
    rows: int
    columns: int
    margin: int

    @classmethod
    def of(cls, rows: int, columns: int, patient: _Patient) -> "_Plane":
        margin = int(np.ceil(0.06 * max(rows, columns)))
        across = np.arange(columns + 2 * margin, dtype=np.float32) - margin
        down = np.arange(rows + 2 * margin, dtype=np.float32) - margin
        u = ((across + 0.5 - columns / 2) / rows - patient.shift) / patient.scale
        y = ((down + 0.5) / rows - 0.5) / patient.scale + 0.5
        return cls(u[None, :], y[:, None], rows, columns, margin)

    @property
    def shape(self) -> tuple[int, int]:
        return self.y.shape[0], self.u.shape[1]


def _film(
    height: int,
    width: int,
    seed: Seed,
    opacities: Sequence[Opacity],
    *,
    marker: bool = False,
    noise_seed: int = 0,
) -> NDArray[np.uint8]:
    """Render uint8 (H, W)."""
    factor = -(-MIN_RENDERED // height)
    random = np.random.default_rng(seed)
    patient = _Patient.draw(random)
    plane = _Plane.of(height * factor, width * factor, patient)
    attenuation = _tilt(_attenuation(plane, patient, random, opacities), plane, patient.tilt)
    if marker:
        attenuation = attenuation + _marker(*attenuation.shape)
    grey = _expose(attenuation, np.random.default_rng([*np.atleast_1d(seed), noise_seed, 2]))
    grey = grey.reshape(height, factor, width, factor).mean(axis=(1, 3))
    film: NDArray[np.uint8] = np.rint(grey.clip(0, 1) * 255).astype(np.uint8)
    return film


def _tilt(attenuation: Map, plane: _Plane, angle: float) -> Map:
    """Turn the patient about the centre of the film and cut off the margins."""
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    x, y = plane.columns / 2, plane.rows / 2
    across = (cosine, sine, x + plane.margin - cosine * x - sine * y)
    down = (-sine, cosine, y + plane.margin + sine * x - cosine * y)
    turned = Image.fromarray(attenuation).transform(
        (plane.columns, plane.rows),
        Image.Transform.AFFINE,
        across + down,
        Image.Resampling.BICUBIC,
    )
    return np.asarray(turned)


def _marker(rows: int, columns: int) -> Map:
    """Lead letter L, as attenuation, in the upper corner on the patient's left."""
    y, x = np.ogrid[0:rows, 0:columns]
    y, x = y / rows - 0.055, (x - columns) / rows + 0.075
    upright = (x >= 0) & (x < 0.0075) & (y >= 0) & (y < 0.04)
    foot = (x >= 0) & (x < 0.024) & (y >= 0.0325) & (y < 0.04)
    return np.where(upright | foot, np.float32(5), np.float32(0))


def _expose(attenuation: Map, noise: np.random.Generator) -> Map:
    """Turn attenuation into grey: blur, scatter, quantum noise, film curve."""
    rows = attenuation.shape[0]
    primary = np.exp(-_blur(attenuation, 0.0005 * rows))
    exposure = primary + 0.1 * _scatter(primary) + np.float32(0.001)
    grain = _blur(noise.standard_normal(attenuation.shape, np.float32), 0.6)
    exposure *= 1 + 0.006 * grain / np.sqrt(exposure)
    # A logistic curve in log exposure is a power: grey = 1 / (1 + (exposure / middle)^gamma).
    gamma, middle = 1.5, np.float32(np.exp(-2.4))
    curve = 1 / (1 + (np.maximum(exposure, 1e-4) / middle) ** np.float32(gamma))
    foot = 1 / (1 + (1.1 / middle) ** gamma)
    grey: Map = (curve - foot) / np.float32(0.97 - foot)
    return grey


def _scatter(primary: Map) -> Map:
    """Blur widely; on a coarse grid, where a wide blur costs nothing."""
    rows, columns = primary.shape
    small = Image.fromarray(primary).resize((max(8, columns // 8), max(8, rows // 8)), _BOX)
    blurred = _blur(np.asarray(small), 0.05 * rows / 8)
    return np.asarray(Image.fromarray(blurred).resize((columns, rows), Image.Resampling.BICUBIC))


_BOX = Image.Resampling.BOX


def _attenuation(
    plane: _Plane, patient: _Patient, random: np.random.Generator, opacities: Sequence[Opacity]
) -> Map:
    """Add up what each ray crosses; float32 (H, W), natural logarithm."""
    body = _body(plane, patient)
    lung = np.maximum(_lungs(plane, patient) - _mediastinum(plane, patient), 0)
    # One generator per part: what one of them draws must not change the others.
    tree, grain, stomach, ragged = random.spawn(4)
    vessels = np.minimum(_vessels(plane, tree) * np.minimum(lung / 4, 1), 0.85 * lung)
    texture = 1 + 0.05 * _cloud(plane, grain, 0.03) + 0.04 * _cloud(plane, grain, 0.008)
    gas = _gas(plane, patient, stomach)
    aerated = (lung - vessels) * (1 - _filling(plane, patient, opacities, ragged))
    air = np.minimum(_airways(plane) + gas, 0.9 * body)
    bone = _ribs(plane, patient) + _spine(plane) + _clavicles(plane) + _shoulders(plane)
    soft = np.maximum(body - aerated - air - bone, 0)
    attenuation = SOFT * soft + LUNG * texture * aerated + BONE * np.minimum(bone, body)
    return np.asarray(attenuation * (1 + 0.2 * patient.exposure), np.float32)


# ---------------------------------------------------------------- the solids, in centimetres

Knot = tuple[float, float]  # (position, value), or (u, y)


def _curve(at: Map, *knots: Knot, smooth: float = 0.022) -> Map:
    """Interpolate knots, rounded over about `smooth` film heights."""
    grid = np.linspace(-0.2, 1.2, 561)
    positions, values = zip(*knots, strict=True)
    table = np.interp(grid, positions, values)
    rounded = gaussian_filter(table, smooth / 0.0025, mode="nearest")
    curve: Map = np.interp(at, grid, rounded).astype(np.float32)
    return curve


def _root(values: Map) -> Map:
    """Square root, 0 below 0."""
    root: Map = np.sqrt(np.maximum(values, 0))
    return root


def _ramp(values: Map) -> Map:
    return values.clip(0, 1)


def _blur(values: Map, sigma: float) -> Map:
    blurred: Map = gaussian_filter(values, sigma)
    return blurred


def _chord(distance: Map, radius: float) -> Map:
    """Path through a rod, its axis `distance` from the ray; both in film heights."""
    return 2 * FILM_CM * _root(np.square(radius) - np.square(distance))


def _ellipsoid(u: Map, y: Map, centre: Knot, axes: Knot, turn: float = 0.0) -> Map:
    """Path through an ellipsoid, as a share of its greatest depth."""
    du, dy = u - centre[0], y - centre[1]
    cosine, sine = float(np.cos(turn)), float(np.sin(turn))
    across, along = axes[0] ** -2, axes[1] ** -2
    squares = (across * cosine**2 + along * sine**2) * du * du
    squares = squares + (across * sine**2 + along * cosine**2) * dy * dy
    if turn:
        squares += (2 * cosine * sine * (across - along) * du) * dy
    return _root(1 - squares)


def _body(plane: _Plane, patient: _Patient) -> Map:
    """Everything inside the skin."""
    half = _curve(
        plane.y,
        (-0.1, 0.125), (0.0, 0.14), (0.04, 0.19), (0.07, 0.29), (0.09, 0.38), (0.12, 0.47),
        (0.2, 0.5), (0.34, 0.48), (0.5, 0.455), (0.75, 0.445), (1.1, 0.45),
    )  # fmt: skip
    depth = _curve(plane.y, (-0.1, 12), (0.05, 13), (0.2, 18), (0.4, 21), (0.7, 22), (1.1, 23))
    across = np.minimum(np.abs(plane.u) / (half * (0.5 + 0.5 * patient.girth)), 1)
    torso = patient.girth * depth * _root(1 - across**3)
    breasts = _ellipsoid(np.abs(plane.u), plane.y, (0.235, 0.62), (0.15, 0.14))
    return torso + patient.breast * breasts


def _wall(y: Map) -> Map:
    """Half-width of the chest, inside the ribs."""
    return _curve(
        y,
        (0.05, 0.09), (0.075, 0.15), (0.1, 0.19), (0.14, 0.228), (0.2, 0.265), (0.3, 0.305),
        (0.45, 0.34), (0.6, 0.358), (0.75, 0.368), (1.1, 0.372),
    )  # fmt: skip


def _lungs(plane: _Plane, patient: _Patient) -> Map:
    """Both pleural cavities, as if heart and great vessels were lung."""
    x, y = np.abs(plane.u), plane.y
    medial = _curve(y, (0.05, 0.10), (0.09, 0.07), (0.14, 0.05), (0.25, 0.03), (1.1, 0.02))
    depth = 15.5 * _root(_ramp((y - 0.07) / 0.36)) * _ramp((y - 0.07) / 0.02)
    thickness = depth * _root(1 - (x / _wall(y)) ** 6)
    thickness *= _ramp((x - medial) / 0.02 + 0.5)
    above = _diaphragm(plane.u, patient) - y
    # The lung reaches down behind the dome: a step at the dome, thin lung below it.
    step = _ramp(above / 0.005 + 0.5)
    over = 0.5 + 0.5 * _root(_ramp(above / 0.2))
    recess = 0.1 * _ramp(1 + above / 0.1)
    cavity: Map = thickness * (step * over + (1 - step) * recess)
    return cavity


def _diaphragm(u: Map, patient: _Patient) -> Map:
    """Return the height of the dome above each point; the right one stands higher."""
    left = (u > 0).astype(np.float32)
    beyond = np.abs(u) - 0.165 - 0.02 * left
    outward, inward = beyond.clip(0), (-beyond).clip(0)
    top = 0.745 + 0.03 * left + patient.inspiration
    return top + 0.125 * (outward / 0.19) ** 2.3 + 0.045 * (inward / 0.11) ** 2


def _mediastinum(plane: _Plane, patient: _Patient) -> Map:
    """Heart, great vessels and what lies between the lungs, between two smooth borders."""
    # The heart hangs on the great vessels and follows the diaphragm.
    y = plane.y - 0.7 * patient.inspiration * _ramp((plane.y - 0.3) / 0.3)
    right = _curve(
        y,
        (0.0, 0.045), (0.15, 0.05), (0.3, 0.054), (0.44, 0.056), (0.5, 0.064), (0.58, 0.086),
        (0.66, 0.098), (0.74, 0.096), (0.8, 0.098), (0.88, 0.18), (1.0, 0.3),
        smooth=0.016,
    )  # fmt: skip
    left = _curve(
        y,
        (0.0, 0.045), (0.2, 0.05), (0.26, 0.058), (0.29, 0.08), (0.325, 0.085), (0.355, 0.066),
        (0.385, 0.07), (0.43, 0.086), (0.5, 0.104), (0.56, 0.136), (0.62, 0.17), (0.68, 0.194),
        (0.74, 0.205), (0.8, 0.206), (0.88, 0.25), (1.0, 0.34),
        smooth=0.012,
    )  # fmt: skip
    grown = 1 + (patient.heart - 1) * _ramp((y - 0.45) / 0.15)
    depth = _curve(y, (0.0, 9), (0.3, 10.5), (0.5, 12), (0.65, 14), (0.8, 14), (1.0, 12))
    across = plane.u / (np.where(plane.u < 0, right, left) * grown)
    heart = depth * _root(1 - np.abs(across) ** 2.4)
    axis = 0.036 + 0.012 * np.sin(3 * y)
    aorta = _chord(plane.u - axis, 0.026) * _ramp((y - 0.32) / 0.05)
    return heart + 0.8 * aorta


Branch = tuple[float, float, float, float, float]  # from u, y to u, y, and its radius


def _vessels(plane: _Plane, random: np.random.Generator) -> Map:
    """Arteries and veins that branch from the hila."""
    canvas = _Canvas(plane)
    thinnest = max(0.0009, 0.28 / plane.rows)
    thick_last = sorted(_tree(random, thinnest), key=lambda branch: branch[4])
    for u0, y0, u1, y1, radius in thick_last:
        for share, depth in ((1.0, 2.4), (0.65, 4.8)):
            canvas.line([(u0, y0), (u1, y1)], radius * share, depth * radius * FILM_CM)
    drawn = _blur(canvas.map(), 0.0007 * plane.rows)
    right = _ellipsoid(plane.u, plane.y, (-0.083, 0.455), (0.024, 0.05), 0.25)
    left = _ellipsoid(plane.u, plane.y, (0.088, 0.425), (0.026, 0.04), -0.3)
    return drawn + 2.4 * (right + left)


class _Canvas:
    """Lines drawn at twice the film's size; a later line hides an earlier one."""

    def __init__(self, plane: _Plane) -> None:
        self._image = Image.new("F", (2 * plane.shape[1], 2 * plane.shape[0]))
        self._draw = ImageDraw.Draw(self._image)
        self._u, self._y = float(plane.u[0, 0]), float(plane.y[0, 0])
        self._zoom = 2 / float(plane.u[0, 1] - plane.u[0, 0])

    def line(self, points: Sequence[Knot], radius: float, depth: float) -> None:
        """Draw a line `depth` centimetres thick; thinner than a pixel, it is fainter instead."""
        zoom, u0, y0 = self._zoom, self._u, self._y
        pixels = [(zoom * (u - u0), zoom * (y - y0)) for u, y in points]
        wide = 2 * radius * zoom
        # Rounded joints are slow, and on thin lines nobody sees them.
        joint = "curve" if wide > 12 and len(pixels) > 2 else None
        self._draw.line(pixels, depth * min(1.0, wide), max(1, round(wide)), joint)

    def map(self) -> Map:
        """Return the drawing at the film's size, in centimetres."""
        return np.asarray(self._image.reduce(2))


def _tree(random: np.random.Generator, thinnest: float) -> Iterator[Branch]:
    """Grow both trees; angles are from the horizontal, away from the midline."""
    for side in (-1, 1):
        hilum = (side * 0.062, 0.445 if side < 0 else 0.425)
        for angle in np.deg2rad((-74, -52, -28, -6, 16, 36, 54, 68, 81)):
            start = (hilum[0], hilum[1] + 0.035 * float(np.sin(angle)))
            radius = 0.0098 + 0.0025 * np.sin(angle) + random.normal(0, 0.001)
            yield from _grow(random, side, start, angle + random.normal(0, 0.08), radius, thinnest)


def _grow(
    random: np.random.Generator,
    side: int,
    start: Knot,
    angle: float,
    radius: float,
    thinnest: float,
) -> Iterator[Branch]:
    """Grow one vessel and what branches from it."""
    u, y = start
    while radius > thinnest:
        length = 0.013 + 1.2 * radius
        angle += random.normal(0, 0.13)
        to_u, to_y = u + side * length * np.cos(angle), y + length * np.sin(angle)
        yield u, y, to_u, to_y, radius
        u, y = float(to_u), float(to_y)
        if abs(u) > 0.37 or not 0.07 < y < 0.95:
            return
        if random.random() < 0.4:
            fork = angle + random.choice((-1, 1)) * random.uniform(0.35, 0.85)
            child = radius * random.uniform(0.45, 0.65)
            yield from _grow(random, side, (u, y), fork, child, thinnest)
        radius *= random.uniform(0.84, 0.95)


def _airways(plane: _Plane) -> Map:
    """Windpipe and main bronchi."""
    canvas = _Canvas(plane)
    for share, depth in ((1.0, 0.8), (0.8, 1.4), (0.5, 1.8)):
        canvas.line([(-0.004, 0.33), (-0.05, 0.405)], 0.0125 * share, 0.7 * depth)
        canvas.line([(-0.004, 0.33), (0.066, 0.4)], 0.0105 * share, 0.6 * depth)
        canvas.line([(0.002, -0.2), (-0.004, 0.335)], 0.018 * share, depth)
    return _blur(canvas.map(), 0.002 * plane.rows)


def _gas(plane: _Plane, patient: _Patient, random: np.random.Generator) -> Map:
    """Gas in the stomach, under the left dome."""
    amount, x = random.uniform(0, 3), random.uniform(0.15, 0.2)
    centre = (x, 0.845 + patient.inspiration)
    return amount * _ellipsoid(plane.u, plane.y, centre, (0.06, 0.036), 0.15) ** 2


# One rib: across as a share of its reach, down as a share of its drop; from the spine
# outwards (the posterior arm), round the side, and inwards again (the anterior arm).
_POSTERIOR = (
    (0.06, 0.0), (0.2, -0.03), (0.4, 0.01), (0.6, 0.11), (0.78, 0.25), (0.92, 0.42),
    (0.98, 0.53), (1.0, 0.64), (0.99, 0.7),
)  # fmt: skip
_ANTERIOR = (
    (0.99, 0.56), (1.0, 0.64), (0.985, 0.74), (0.92, 0.87), (0.81, 0.99), (0.68, 1.1),
    (0.54, 1.19),
)  # fmt: skip


def _ribs(plane: _Plane, patient: _Patient) -> Map:
    """Draw ten pairs of ribs; the two arms on canvases of their own, because they cross."""
    posterior, anterior = _Canvas(plane), _Canvas(plane)
    for number in range(1, 11):
        top = 0.065 + patient.rib_spacing * (number - 1) * (0.94 + 0.006 * number)
        drop = 0.075 + 0.15 * min(1.0, (number - 1) / 4) + 0.006 * number
        reach = float(_wall(np.array(top + 0.63 * drop, np.float32))) + 0.004
        for side in (-1, 1):
            for canvas, arm, faint in ((posterior, _POSTERIOR, 0.0), (anterior, _ANTERIOR, 0.09)):
                line = [(side * reach * across, top + drop * down) for across, down in _round(arm)]
                strength = min(1.0, 1.3 - 0.06 * number) * max(0.0, 1 - faint * number)
                for share, depth in ((1.0, 0.5), (0.86, 0.95), (0.62, 0.7)):
                    canvas.line(line, 0.0125 * share, depth * strength)
    behind, before = posterior.map(), anterior.map()
    # Where a rib turns at the side, both arms draw the same bone.
    turning = np.abs(plane.u) > 0.95 * _wall(plane.y)
    bone = np.where(turning, np.maximum(behind, before), behind + before)
    return _blur(bone, 0.001 * plane.rows)


_CATMULL_ROM = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2


def _round(knots: Sequence[Knot]) -> list[Knot]:
    """Lay a smooth curve through knots (Catmull-Rom)."""
    points = np.array([knots[0], *knots, knots[-1]])
    powers = np.linspace(0, 1, 6)[:-1, None] ** np.arange(4)
    pieces = [powers @ _CATMULL_ROM @ points[i : i + 4] for i in range(len(points) - 3)]
    return [(float(u), float(y)) for u, y in np.vstack([*pieces, points[-1:]])]


def _spine(plane: _Plane) -> Map:
    """Vertebral bodies with discs between, pedicles and spinous processes."""
    phase = (plane.y + 0.03) / (0.052 + 0.014 * plane.y)
    cell = phase - np.floor(phase) - 0.5
    disc = _ramp((np.abs(cell) - 0.36) / 0.06)
    half = 0.030 + 0.007 * plane.y + 0.0045 * (2 * np.abs(cell)) ** 3
    body = _root(1 - (np.abs(plane.u) / half) ** 2.6)
    pedicle = _ellipsoid(np.abs(plane.u), cell, (0.021, -0.16), (0.0075, 0.17))
    process = _ellipsoid(plane.u, cell, (0.0, 0.22), (0.0055, 0.2))
    spine: Map = body * (0.75 - 0.4 * disc) + 0.4 * pedicle + 0.45 * process
    return spine


def _clavicles(plane: _Plane) -> Map:
    """Both collar bones, bent like a flat S."""
    canvas = _Canvas(plane)
    knots = (
        (0.028, 0.198), (0.06, 0.186), (0.13, 0.165), (0.2, 0.148), (0.28, 0.13), (0.35, 0.112),
        (0.42, 0.107),
    )  # fmt: skip
    for side in (-1, 1):
        line = [(side * x, y) for x, y in _round(knots)]
        for share, depth in ((1.0, 0.7), (0.84, 1.3), (0.6, 0.95)):
            canvas.line(line, 0.0125 * share, depth)
            canvas.line(line[:5], 0.0155 * share, depth)
    return _blur(canvas.map(), 0.001 * plane.rows)


def _shoulders(plane: _Plane) -> Map:
    """Shoulder blades turned out of the lungs, and the heads of the arms."""
    x, y = np.abs(plane.u), plane.y
    edge = _curve(y, (0.1, 0.33), (0.2, 0.322), (0.46, 0.385))
    inside = _ramp((x - edge) / 0.004) * _ramp((y - 0.14) / 0.03)
    inside = inside * _ramp((0.455 - y) / 0.03)
    rim = np.exp(-(((x - edge - 0.006) / 0.005) ** 2))
    blade: Map = inside * (0.3 + 0.35 * rim)
    return blade + 2.2 * _ellipsoid(x, y, (0.47, 0.175), (0.058, 0.055))


def _cloud(plane: _Plane, random: np.random.Generator, grain: float) -> Map:
    """Smooth noise of about unit spread, the same at every size of the film."""
    side = int(np.ceil(1 / grain))
    coarse = Image.fromarray(random.standard_normal((side, side), np.float32))
    rows, columns = plane.shape
    longest = max(rows, columns)
    return np.asarray(coarse.resize((longest, longest), Image.Resampling.BICUBIC))[:rows, :columns]


def _filling(
    plane: _Plane, patient: _Patient, opacities: Sequence[Opacity], random: np.random.Generator
) -> Map | float:
    """Share of the air that fluid has replaced, 0 to 1; edges soft and ragged."""
    cosine, sine = float(np.cos(patient.tilt)), float(np.sin(patient.tilt))
    down, across = (np.arange(n, dtype=np.float32) - plane.margin + 0.5 for n in plane.shape)
    kept: Map | float = 1.0
    for opacity in opacities:
        # Opacities are placed on the film, so their centres are turned back to the patient.
        x, y = (opacity.x - 0.5) * plane.columns, (opacity.y - 0.5) * plane.rows
        dx = across[None, :] - plane.columns / 2 - (cosine * x + sine * y)
        dy = down[:, None] - plane.rows / 2 - (cosine * y - sine * x)
        distance = np.hypot(dx, dy) / (opacity.radius * min(plane.rows, plane.columns))
        ragged = distance + 0.22 * _cloud(plane, random, 0.06) + 0.1 * _cloud(plane, random, 0.02)
        kept = kept * (1 - opacity.density / (1 + np.exp(np.clip(5 * (ragged - 1), -30, 30))))
    return 1 - kept
