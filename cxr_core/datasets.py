"""A folder of films: what is in it, who the patients are, how to split it, its pixels.

`index` reads names and digests, never pixels; `split_by_patient` keeps every patient,
and every pair of byte-identical films, on one side; `pixel_cache` decodes each film
once into a uint8 memory map that training then reads.
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import ArgumentError, DataError, ImageError, UnknownName
from cxr_core.images import load_radiograph
from cxr_core.preprocess import PIXELS, Preprocessing, to_square

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

SPLITS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}
NORMAL_NAMES = frozenset({"normal", "normals", "no finding", "no_finding", "healthy", "negative"})
FILM_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ""})


@dataclass(frozen=True)
class Film:
    """One film of a data folder.

    Attributes:
        file: Path inside the folder, with forward slashes.
        findings: What the folder says of it; empty means nothing was found.
        patient: Key that all films of one person share.
        split: "train", "validation", "test", or None when the folder has no splits.
        digest: SHA-256 of the file's bytes.
        view: "PA", "AP" or None.
        age_years: Age where known.
        sex: "F", "M" or None.
    """

    file: str
    findings: tuple[str, ...]
    patient: str
    split: str | None
    digest: str
    view: str | None = None
    age_years: float | None = None
    sex: str | None = None


@dataclass(frozen=True)
class DatasetIndex:
    """The films of one folder, in sorted order of their file names."""

    root: Path
    layout: str
    classes: tuple[str, ...]
    films: tuple[Film, ...]


Layout = Callable[[Path, Progress | None], DatasetIndex]
_LAYOUTS: dict[str, Layout] = {}


def register_layout(reader: Layout) -> Layout:
    """Register a layout reader under its own name, underscores written as hyphens.

    Raises:
        ArgumentError: When the name is taken.
    """
    name = reader.__name__.replace("_", "-")
    if name in _LAYOUTS:
        raise ArgumentError(f"A layout named '{name}' is registered already; rename one of them.")
    _LAYOUTS[name] = reader
    return reader


def list_layouts() -> list[str]:
    """Name the registered layouts, sorted."""
    return sorted(_LAYOUTS)


def index(
    folder: Path, layout: str = "class-folders", progress: Progress | None = None
) -> DatasetIndex:
    """List the films of a folder with their findings, patients and splits.

    Raises:
        DataError: When the folder is missing or holds no films in that layout.
        UnknownName: When no such layout is registered.
    """
    if layout not in _LAYOUTS:
        raise UnknownName("layout", layout, _LAYOUTS)
    if not folder.is_dir():
        raise DataError(f"There is no folder '{folder}'. Name the folder that holds the films.")
    return _LAYOUTS[layout](folder, progress)


@register_layout
def class_folders(root: Path, progress: Progress | None = None) -> DatasetIndex:
    """Read ROOT/CLASS/* or ROOT/{train,test,val}/CLASS/*: the folder's name is the finding.

    A folder named like "normal" means no finding. File names of the pediatric pneumonia set
    (Kermany 2018) also tell bacterial from viral pneumonia, which is added as a finding.

    Raises:
        DataError: When there are no class folders, or none holds a film.
    """
    splits = [path for path in _folders(root) if path.name.lower() in SPLITS]
    others = [path.name for path in _folders(root) if path not in splits]
    if splits and others:
        raise DataError(
            f"Beside {', '.join(path.name for path in splits)}, '{root}' has the folders "
            f"{', '.join(others)}, of which nobody can say what they are for. Name splits train, "
            "val or test, and move other folders away."
        )
    places: list[tuple[str | None, Path]] = [(SPLITS[p.name.lower()], p) for p in splits]
    places = places or [(None, root)]
    found = [
        (split, folder.name, path)
        for split, place in places
        for folder in _folders(place)
        for path in sorted(folder.iterdir())
        if _is_film(path)
    ]
    if not found:
        raise DataError(
            f"'{root}' holds no films in class folders. Expected {root.name}/CLASS/film.png or "
            f"{root.name}/train/CLASS/film.png, with one folder for each class."
        )
    digests = _digests([path for _, _, path in found], progress)
    films = [
        Film(
            path.relative_to(root).as_posix(),
            _findings(name, path),
            _patient(path, root),
            split,
            key,
        )
        for (split, name, path), key in zip(found, digests, strict=True)
    ]
    films.sort(key=lambda film: film.file)
    return DatasetIndex(
        root, "class-folders", tuple(sorted({n for _, n, _ in found})), tuple(films)
    )


def _folders(place: Path) -> list[Path]:
    """List folders but hidden ones and __MACOSX, which archives leave behind."""
    return sorted(p for p in place.iterdir() if p.is_dir() and p.name[0] not in "._")


def _is_film(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.suffix.lower() in FILM_SUFFIXES


_PNEUMONIA = re.compile(r"(person\d+)_(bacteria|virus)_\d+")
_NORMAL = re.compile(r"((?:NORMAL2-)?IM-\d+)(?:-\d+)+")


def _patient(path: Path, root: Path) -> str:
    """Name the patient from a Kermany file name; any other film is a patient of its own.

    The key is (person, bacteria or virus): the two kinds are numbered apart, so that
    person1_virus and person1_bacteria are two children. Normal films: (prefix, IM number).
    """
    if match := _PNEUMONIA.match(path.stem):
        return f"{match[1]}_{match[2]}"
    if match := _NORMAL.match(path.stem):
        return match[1]
    return path.relative_to(root).as_posix()


def _findings(folder: str, path: Path) -> tuple[str, ...]:
    if folder.lower() in NORMAL_NAMES:
        return ()
    match = _PNEUMONIA.match(path.stem)
    return (folder, match[2]) if match else (folder,)


def _digests(paths: Sequence[Path], progress: Progress | None) -> list[str]:
    """SHA-256 of each file."""
    digests = []
    for done, path in enumerate(paths, 1):
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
        if progress:
            progress("Reading files", done, len(paths))
    return digests


def duplicates(films: Iterable[Film]) -> list[tuple[Film, ...]]:
    """Group the films that are byte for byte the same file."""
    groups = defaultdict(list)
    for film in films:
        groups[film.digest].append(film)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def overlap(films: Iterable[Film]) -> list[str]:
    """Name the patients, and the byte-identical films, that more than one split holds."""
    films = tuple(films)
    places: dict[str, set[str | None]] = defaultdict(set)
    for film in films:
        places[film.patient].add(film.split)
    patients = sorted(patient for patient, splits in places.items() if len(splits) > 1)
    twins = [
        " = ".join(film.file for film in group)
        for group in duplicates(films)
        if len({film.split for film in group}) > 1
    ]
    return patients + twins


def summarise(dataset: DatasetIndex) -> dict[str, Any]:
    """Count films, patients, classes and duplicates, per split: what `index --json` prints."""
    by_split: dict[str, list[Film]] = defaultdict(list)
    for film in dataset.films:
        by_split[film.split or "all"].append(film)
    return {
        "folder": str(dataset.root),
        "layout": dataset.layout,
        "films": len(dataset.films),
        "patients": len({film.patient for film in dataset.films}),
        "classes": list(dataset.classes),
        "splits": {
            split: {
                "films": len(films),
                "patients": len({film.patient for film in films}),
                "findings": dict(sorted(_count(films).items())),
            }
            for split, films in sorted(by_split.items())
        },
        "overlap": overlap(dataset.films),
        "duplicates": [[film.file for film in group] for group in duplicates(dataset.films)],
    }


def _count(films: Iterable[Film]) -> Counter[str]:
    return Counter(name for film in films for name in (film.findings or ("(none)",)))


def _groups(films: Sequence[Film]) -> Iterator[list[Film]]:
    """Yield films that must stay together: same patient, or same bytes, or linked by both."""
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for film in films:
        parent[find(f"digest {film.digest}")] = find(f"patient {film.patient}")
    together = defaultdict(list)
    for film in films:
        together[find(f"patient {film.patient}")].append(film)
    yield from together.values()


def split_by_patient(
    films: Sequence[Film], fractions: Mapping[str, float], seed: int
) -> dict[str, tuple[Film, ...]]:
    """Split films so that no patient and no duplicate falls into two parts.

    Stratified by findings: within each stratum, whole patients are dealt in random
    order to the part that is furthest below its share of films.

    Args:
        films: What to split.
        fractions: Share of the films for each part, such as {"train": 0.85, "validation": 0.15}.
        seed: The same seed gives the same split, whatever order the films come in.

    Returns:
        The films of each part, in sorted order.

    Raises:
        ArgumentError: When the shares are not positive or do not sum to 1.
    """
    if any(share <= 0 for share in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ArgumentError(f"Split fractions must be positive and sum to 1, but {fractions} came.")
    strata = defaultdict(list)
    for group in _groups(sorted(films, key=lambda film: film.file)):
        strata[group[0].findings].append(group)
    parts: dict[str, list[Film]] = {name: [] for name in fractions}
    rng = np.random.default_rng(seed)
    for _, groups in sorted(strata.items()):
        total = sum(map(len, groups))
        dealt: dict[str, int] = dict.fromkeys(fractions, 0)
        for k in rng.permutation(len(groups)):
            name = min(fractions, key=lambda part: dealt[part] / (fractions[part] * total))
            parts[name] += groups[k]
            dealt[name] += len(groups[k])
    return {name: tuple(sorted(part, key=lambda film: film.file)) for name, part in parts.items()}


def cache_root() -> Path:
    """Where decoded pixels are kept: CXR_CACHE, or .cache/cxr in the home folder."""
    return Path(os.environ.get("CXR_CACHE") or Path.home() / ".cache" / "cxr")


def pixel_cache(
    root: Path,
    films: Sequence[Film],
    preprocessing: Preprocessing,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """Decode each film once into the model's square; later calls read the same file.

    The cache is keyed by the digests of the films, in order, and by size and fit. It is
    written aside and renamed, so that a crash leaves no half-written cache behind.

    Returns:
        uint8 (N, S, S), a read-only memory map.

    Raises:
        DataError: When films cannot be read; names the first few and why.
    """
    shape = (len(films), preprocessing.size, preprocessing.size)
    rules = [f"pixels {PIXELS}", preprocessing.fit, str(shape)]
    content = "\n".join([*(film.digest for film in films), *rules])
    path = cache_root() / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            _decode_all(root, films, preprocessing, aside, shape, progress)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    cached: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return cached


def _decode_all(
    root: Path,
    films: Sequence[Film],
    preprocessing: Preprocessing,
    path: Path,
    shape: tuple[int, int, int],
    progress: Progress | None,
) -> None:
    squares = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)

    def decode(film: Film) -> NDArray[np.uint8] | str:
        try:
            return to_square(load_radiograph(root / film.file), preprocessing)[0]
        except ImageError as error:
            return f"{film.file}: {error}"

    failures = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the lock
        for k, result in enumerate(pool.map(decode, films)):
            if isinstance(result, str):
                failures.append(result)
            else:
                squares[k] = result
            if progress:
                progress("Decoding films", k + 1, len(films))
    if failures:
        shown = "; ".join(failures[:3])
        raise DataError(
            f"{len(failures)} of {len(films)} films cannot be read; remove or mend them. {shown}"
        )
    squares.flush()
