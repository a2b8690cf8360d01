"""How data folders are laid out: one reader for each layout, one registry."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from cxr_core.datasets.films import DatasetIndex, Film, Progress
from cxr_core.errors import ArgumentError, DataError, UnknownName

SPLITS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}
NORMAL_NAMES = frozenset({"normal", "normals", "no finding", "no_finding", "healthy", "negative"})
FILM_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ""})

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
