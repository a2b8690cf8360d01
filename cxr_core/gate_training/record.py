"""The gate's test record: what it does to films and pictures that its networks never saw.

Every rate is a count over its films with Wilson's interval, made by the very checks that
serve, on files as they come. Below 30 films a rate claims nothing and says so. A film counts
as refused whichever check refuses it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxr_core.classifier import Classifier
from cxr_core.datasets import Film
from cxr_core.errors import ImageError
from cxr_core.evaluation import wilson
from cxr_core.gate import (
    FRONTAL,
    GateCheck,
    GateReport,
    checks_of,
    glance_at,
    look,
    pixel_checks,
)
from cxr_core.gate_training.chimeras import chimera
from cxr_core.gate_training.films import CHILDREN, KEPT, Collection
from cxr_core.gate_training.pictures import (
    collage,
    cut_up,
    page_of_text,
    screenshot,
    window,
)
from cxr_core.images import Facts, Radiograph, read_radiograph
from cxr_core.phantom import thorax
from cxr_core.preprocess import Box, to_square
from cxr_core.ranking import auroc

FEW = 30
MADE = 200  # pictures of each made kind
# What is left of a film, in shares of its sides.
PARTS = {
    "central quarters of films": (0.25, 0.25, 0.75, 0.75),
    "films with the bases cut off": (0.0, 0.0, 1.0, 0.6),
    "films with the apices cut off": (0.0, 0.4, 1.0, 1.0),
    "films with the right flank cut off": (0.4, 0.0, 1.0, 1.0),
    "films with the left flank cut off": (0.0, 0.0, 0.6, 1.0),
    "films without their lowest fifth": (0.0, 0.0, 1.0, 0.8),
}
# Borders of one grey on all four sides, each so wide a share of the film's width.
BORDER, GREYS = 0.15, {"black": 0.0, "grey": 0.5, "white": 1.0}
UNDER_AGE = "NIH, under 18 years"
FULL_SIZE = "pediatric at full size"
# A film whose header says MONOCHROME1 though it is MONOCHROME2: read as told, it is inverted,
# and rightly refused for it: it is no good film, and no group scores it.
WRONGLY_TAGGED = "rsna_pa_mono1_jpeg.dcm"
PHANTOMS = 60  # computer-made films, of seeds that trained nothing


@dataclass(frozen=True)
class Rate:
    """How often the gate did something to one group of pictures.

    Attributes:
        group: Which pictures.
        asked: What was counted: "refused", "named right" or "cautioned".
        network: Which training answered; "shipped", or one that only measures.
        n: Pictures.
        count: Of which so many.
        share: count / n.
        low: Wilson's 95 % interval.
        high: Wilson's 95 % interval.
        note: "n too small" where the rate claims nothing.
        unreadable: Files of the group that could not be read, which n leaves out.
    """

    group: str
    asked: str
    network: str
    n: int
    count: int
    share: float | None
    low: float | None
    high: float | None
    note: str
    unreadable: int

    @classmethod
    def of(
        cls, group: str, asked: str, network: str, hits: Sequence[bool], unreadable: int = 0
    ) -> "Rate":
        """Count."""
        count, n = sum(hits), len(hits)
        told = wilson(count, n)
        note = "" if n >= FEW else "n too small"
        shares = (told.value, told.low, told.high)
        return cls(group, asked, network, n, count, *shares, note, unreadable)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Seen:
    """What the gate made of one picture.

    Attributes:
        file: Its name.
        report: The checks of the picture itself, not those of its file's facts.
        frontal: The network's probability of a frontal chest film.
    """

    file: str
    report: GateReport
    frontal: float

    @property
    def refused(self) -> bool:
        """Whether any check refused it."""
        return self.report.refused

    def found(self, name: str) -> GateCheck | None:
        """Return the check of this name, where it was made."""
        return next((check for check in self.report.checks if check.name == name), None)


Change = Callable[[Radiograph], Radiograph]


def unchanged(film: Radiograph) -> Radiograph:
    """Leave the film as it is."""
    return film


def see(gate: Classifier, film: Radiograph, file: str, *, measured: bool = True) -> Seen:
    """Run every check that looks at the picture; without `measured`, those of the network."""
    glance = glance_at(film)
    glimpse = look(gate, glance)
    measures = pixel_checks(film, glance) if measured else ()
    report = GateReport((*measures, *checks_of(glimpse, gate)))
    return Seen(file, report, float(glimpse.kind[FRONTAL]))


def see_all(
    gate: Classifier,
    films: "Source",
    change: Change,
    *,
    measured: bool = True,
) -> list[Seen]:
    """Look at films, two at a time; one that cannot be read is left out, for `Rate` to count."""

    def one(item: tuple[str, Callable[[], Radiograph]]) -> Seen | None:
        try:
            return see(gate, change(item[1]()), item[0], measured=measured)
        except ImageError:
            return None

    with ThreadPoolExecutor(2) as pool:
        return [seen for seen in pool.map(one, films) if seen is not None]


Source = list[tuple[str, Callable[[], Radiograph]]]


def files(paths: Iterable[Path], change: Callable[[bytes], bytes] = bytes) -> Source:
    """Name files and say how each is read; `change` works on its bytes."""

    def reader(path: Path) -> Callable[[], Radiograph]:
        return lambda: read_radiograph(change(path.read_bytes()), path.name)

    return [(path.name, reader(path)) for path in paths]


def paths_of(folder: Path, films: Iterable[Film]) -> list[Path]:
    """Say where films lie."""
    return [folder / film.file for film in films]


# --- what can be done to a picture ---


def turned(quarters: int) -> Change:
    """Turn anticlockwise by quarter turns."""
    return lambda film: _with(film, np.rot90(film.pixels, quarters))


def inverted(film: Radiograph) -> Radiograph:
    """Turn black to white."""
    return _with(film, np.float32(1) - film.pixels)


def mirrored(film: Radiograph) -> Radiograph:
    """Exchange left and right."""
    return _with(film, film.pixels[:, ::-1])


def part_of(box: Box) -> Change:
    """Cut out one part, its box in shares of the sides."""
    left, top, right, bottom = box

    def change(film: Radiograph) -> Radiograph:
        height, width = film.pixels.shape
        rows = slice(round(top * height), round(bottom * height))
        return _with(film, film.pixels[rows, round(left * width) : round(right * width)])

    return change


def bordered(grey: float) -> Change:
    """Lay a film on one grey that shows on all sides."""

    def change(film: Radiograph) -> Radiograph:
        wide = round(BORDER * film.pixels.shape[1])
        return _with(film, np.pad(film.pixels, wide, constant_values=np.float32(grey)))

    return change


def _with(film: Radiograph, pixels: np.ndarray) -> Radiograph:
    return replace(film, pixels=np.ascontiguousarray(pixels))


def grey(data: bytes) -> bytes:
    """Turn a picture grey, as PNG."""
    return _saved(_opened(data), "PNG")


def grey_and_halved(data: bytes) -> bytes:
    """Turn a picture grey and halve its sides."""
    image = _opened(data)
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR)
    return _saved(half, "PNG")


def grey_and_coarse(data: bytes) -> bytes:
    """Turn a picture grey and save it as a JPEG of quality 30."""
    return _saved(_opened(data), "JPEG", quality=30)


def _opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("L")


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


# --- the groups ---


def frontal_groups(data: Path, frontal: dict[str, Collection]) -> dict[str, Source]:
    """Gather frontal films that trained nothing and chose nothing."""
    nih = frontal["nih"]
    root = nih.folder
    tested = {
        "pediatric test, 224 px": paths_of(frontal["pediatric"].folder, frontal["pediatric"].test),
        FULL_SIZE: sorted((data / "pediatric_fullres").rglob("*.jp*g")),
        "NIH test patients, PA": paths_of(root, [f for f in nih.test if f.view == "PA"]),
        "NIH test patients, AP": paths_of(root, [f for f in nih.test if f.view == "AP"]),
        "COVID radiography, held out": paths_of(frontal["covid"].folder, frontal["covid"].test),
        "DICOM, chest": [
            path
            for path in sorted((data / "dicom").iterdir())
            if "tibia" not in path.name and path.name != WRONGLY_TAGGED
        ],
    }
    made = [(f"phantom {seed}", partial(thorax, 512, 448, seed=seed)) for seed in range(PHANTOMS)]
    groups = {name: files(paths) for name, paths in tested.items()}
    return groups | {"computer-made films": list(made)}


def children(frontal: dict[str, Collection]) -> Source:
    """Gather the films of patients under 18 years that one training left out."""
    part = frontal[CHILDREN]
    return files(paths_of(part.folder, part.test))


def frontal_rates(
    gate: Classifier, groups: dict[str, Source]
) -> tuple[list[Rate], dict[str, list[Seen]]]:
    """Count the refusals of good films and the cautions, and return all that was seen."""
    rates, everything = [], {}
    for name, source in groups.items():
        seen = see_all(gate, source, unchanged)
        lost = len(source) - len(seen)
        rates.append(Rate.of(name, "refused", "shipped", [one.refused for one in seen], lost))
        noted = [one.report.verdict == "caution" for one in seen]
        rates.append(Rate.of(name, "cautioned", "shipped", noted, lost))
        everything[name] = seen
    return rates, everything


FAULTS: dict[str, tuple[Change, str, str]] = {
    "turned anticlockwise by 90 degrees": (
        turned(1),
        "orientation",
        "turned anticlockwise by 90 degrees",
    ),
    "upside down": (turned(2), "orientation", "upside down"),
    "turned clockwise by 90 degrees": (turned(3), "orientation", "turned clockwise by 90 degrees"),
    "inverted": (inverted, "polarity", "inverted"),
    "mirrored": (mirrored, "side", "mirrored"),
    "upside down and mirrored": (
        lambda film: turned(2)(mirrored(film)),
        "orientation",
        "upside down",
    ),
    "upside down and inverted": (
        lambda film: inverted(turned(2)(film)),
        "orientation",
        "upside down",
    ),
}


def fault_rates(gate: Classifier, films: Source) -> list[Rate]:
    """Count how many faulty films the network refuses, and of how many it names the fault."""
    rates = []
    for name, (change, check, value) in FAULTS.items():
        seen = see_all(gate, films, change, measured=False)
        lost = len(films) - len(seen)
        if name != "mirrored":  # which is never more than a caution
            rates.append(Rate.of(name, "refused", "shipped", [one.refused for one in seen], lost))
        named = [(found := one.found(check)) is not None and found.value == value for one in seen]
        rates.append(Rate.of(name, "named right", "shipped", named, lost))
    return rates


PHOTOGRAPHS: dict[str, Callable[[bytes], bytes]] = {
    "photographs": bytes,
    "photographs turned grey": grey,
    "photographs turned grey, half the size": grey_and_halved,
    "photographs turned grey, JPEG quality 30": grey_and_coarse,
}
PICTURES = {
    "bones and hands": ("bone", "hand"),
    "slices by magnetic resonance": ("brainmri",),
    "slices by computed tomography": ("ct",),
    "lateral chest films": ("lateral",),
}


def picture_groups(others: Collection) -> dict[str, Source]:
    """Gather the pictures that one training left out, by kind; photographs in four ways."""

    def of(kinds: Iterable[str]) -> list[Path]:
        chosen = [film for film in others.test if film.file.partition("/")[0] in kinds]
        return paths_of(others.folder, chosen)

    groups = {name: files(of(("photo",)), change) for name, change in PHOTOGRAPHS.items()}
    # Everything is turned grey: colour would refuse some bones for their tint alone.
    return groups | {name: files(of(kinds), grey) for name, kinds in PICTURES.items()}


def changed_groups(films: Source, seed: int) -> dict[str, Source]:
    """Cut test films, and lay them in borders, at the size at which they come."""

    def after(change: Change) -> Source:
        return [(name, partial(_changed, change, read)) for name, read in _some(films, seed)]

    whole = {f"films in even {name} borders": bordered(grey) for name, grey in GREYS.items()}
    parts = {name: part_of(box) for name, box in PARTS.items()}
    return {name: after(change) for name, change in (whole | parts).items()}


def _some(films: Source, seed: int) -> Source:
    chosen = np.random.default_rng(seed).choice(len(films), MADE, replace=False)
    return [films[k] for k in chosen]


def _changed(change: Change, read: Callable[[], Radiograph]) -> Radiograph:
    return change(read())


def made_groups(films: Source, seed: int) -> dict[str, Source]:
    """Make pictures of test films that are no whole, single film."""
    rng = np.random.default_rng(seed)
    chosen = _some(films, seed)
    squares = [to_square(read(), KEPT)[0] for _, read in chosen]

    def made(make: Callable[[int], np.ndarray]) -> Source:
        pictures = [make(k) for k in range(MADE)]
        return [(f"made {k}", partial(_film, p)) for k, p in enumerate(pictures)]

    return {
        "parts of films, at most a quarter": made(lambda k: window(squares[k], rng, (0.04, 0.25))),
        "films cut up": made(lambda k: cut_up(squares[k], rng)),
        "collages of films": made(lambda k: collage(squares[k : k + 4] or squares[:4], rng)),
        "films on a drawn screen": made(lambda k: screenshot(squares[k], rng)),
        "pages of text": made(lambda _: page_of_text(rng)),
        "films' texture in other shapes": made(lambda k: chimera(lambda: squares[k], rng)),
    }


def _film(pixels: np.ndarray) -> Radiograph:
    return Radiograph(pixels, Facts("PNG", 8, "MONOCHROME2"), "0" * 64)


def made_rates(gate: Classifier, groups: dict[str, Source]) -> list[Rate]:
    """Count what the network alone takes for no whole film: made pictures are small and soft."""
    rates = []
    for name, source in groups.items():
        seen = see_all(gate, source, unchanged, measured=False)
        hits = [one.refused for one in seen]
        rates.append(Rate.of(name, "refused by its looks", "shipped", hits))
    return rates


def refusals(
    gate: Classifier, groups: dict[str, Source], network: str
) -> Iterator[tuple[Rate, list[Seen]]]:
    """Count what is refused of each group."""
    for name, source in groups.items():
        seen = see_all(gate, source, unchanged)
        hits, lost = [one.refused for one in seen], len(source) - len(seen)
        yield Rate.of(name, "refused", network, hits, lost), seen


def pooled(parts: Sequence[Rate], network: str) -> Rate:
    """Add up one group over several trainings, each of which left out other pictures."""
    n, count = sum(part.n for part in parts), sum(part.count for part in parts)
    hits = [True] * count + [False] * (n - count)
    lost = sum(part.unreadable for part in parts)
    return Rate.of(parts[0].group, parts[0].asked, network, hits, lost)


def area(films: Sequence[float], others: Sequence[float]) -> dict[str, float | int | None]:
    """Say how well scores of frontal films and of everything else are told apart."""
    truth = np.repeat([1, 0], [len(films), len(others)])
    told = auroc(truth, np.array([*films, *others]))
    return {
        "auroc": told.value,
        "low": told.low,
        "high": told.high,
        "films": len(films),
        "others": len(others),
    }
