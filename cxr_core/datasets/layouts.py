"""How data folders are laid out: one reader and one recogniser for each layout, one registry."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from reprlib import repr as short

from cxr_core.datasets.films import DatasetIndex, Film, Progress
from cxr_core.errors import ArgumentError, DataError, UnknownName

SPLITS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}
NORMAL_NAMES = frozenset({"normal", "normals", "no finding", "no_finding", "healthy", "negative"})
FILM_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ""})

Layout = Callable[..., DatasetIndex]
"""From a folder and whom to tell of progress to what the folder holds."""
Recogniser = Callable[[Path], bool]
_LAYOUTS: dict[str, Layout] = {}
# What a folder of each layout holds, in words, and whether a folder looks like it.
_RECOGNISERS: dict[str, tuple[str, Recogniser]] = {}


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


def recognises(layout: str, expects: str) -> Callable[[Recogniser], Recogniser]:
    """Register how a layout is told from the others by a glance at the folder.

    Args:
        layout: Name of the layout.
        expects: What such a folder holds, in words that an error can list.

    Raises:
        ArgumentError: When the layout has a recogniser.
    """

    def register(recogniser: Recogniser) -> Recogniser:
        if layout in _RECOGNISERS:
            raise ArgumentError(f"The layout '{layout}' has a recogniser already; remove one.")
        _RECOGNISERS[layout] = (expects, recogniser)
        return recogniser

    return register


def list_layouts() -> list[str]:
    """Name the registered layouts, sorted."""
    return sorted(_LAYOUTS)


def index(
    folder: Path,
    layout: str | None = None,
    progress: Progress | None = None,
    *,
    skip_damaged: bool = False,
) -> DatasetIndex:
    """List the films of a folder with their findings, patients and splits.

    Args:
        folder: What holds the films.
        layout: One of `list_layouts()`; None finds out which one fits.
        progress: Told how many files have been read.
        skip_damaged: Leave damaged TFRecord shards out, with a note, instead of raising.

    Raises:
        ArgumentError: When `skip_damaged` is asked for in a folder without shards.
        DataError: When the folder is missing, fits no layout or several, or cannot be read in
            the layout.
        UnknownName: When no such layout is registered.
    """
    if layout is not None and layout not in _LAYOUTS:
        raise UnknownName("layout", layout, _LAYOUTS)
    if not folder.is_dir():
        raise DataError(f"There is no folder '{folder}'. Name the folder that holds the films.")
    try:
        name = layout or detect_layout(folder)
        if not skip_damaged:
            return _LAYOUTS[name](folder, progress)
        if name != "tfrecord":
            raise ArgumentError(f"Only TFRecord shards can be skipped; '{folder}' is {name}.")
        return _LAYOUTS[name](folder, progress, skip_damaged=True)
    except OSError as error:
        raise DataError(
            f"'{error.filename or folder}' cannot be read ({error.strerror}). Mend it, or take it "
            f"out of '{folder}'."
        ) from error


def detect_layout(folder: Path) -> str:
    """Name the one layout that a folder has. A file of labels outranks names of folders.

    Raises:
        DataError: When no layout fits, or several do.
    """
    fits = [name for name, (_, recogniser) in sorted(_RECOGNISERS.items()) if recogniser(folder)]
    candidates = [name for name in fits if name != "class-folders"] or fits
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise DataError(
            f"'{folder}' can be read as {' and as '.join(candidates)}. Name the layout that is "
            "meant, or move the labels of the other away."
        )
    count = sum(map(is_film, folder.iterdir()))
    held = f"{count:,} films but nothing that says what is on them" if count else "no films"
    known = "; ".join(f"{expects} ({name})" for name, (expects, _) in sorted(_RECOGNISERS.items()))
    raise DataError(f"'{folder}' holds {held}. Layouts that can be read are: {known}.")


# --- what readers share ---


def folders_in(place: Path) -> list[Path]:
    """List folders but hidden ones and __MACOSX, which archives leave behind."""
    return sorted(p for p in place.iterdir() if p.is_dir() and p.name[0] not in "._")


def is_film(path: Path) -> bool:
    """Tell a film from other files by its name."""
    return path.is_file() and not path.name.startswith(".") and path.suffix.lower() in FILM_SUFFIXES


def films_below(root: Path) -> list[Path]:
    """List the films in a folder and in all folders below it, sorted by their whole paths."""
    found = []
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name[0] not in "._"]
        found += [path for name in files if is_film(path := Path(place, name))]
    return sorted(found, key=Path.as_posix)


def split_of(file: str) -> str | None:
    """Name the split of a film by the folder it lies in, such as train/film.png."""
    first, _, rest = file.partition("/")
    return SPLITS.get(first.lower()) if rest else None


def check_splits(root: Path, files: Iterable[str]) -> None:
    """Refuse films of which some lie in folders of splits and some do not.

    Raises:
        DataError: Naming one of each.
    """
    ordered = sorted(files)
    inside = next((file for file in ordered if split_of(file)), None)
    outside = next((file for file in ordered if not split_of(file)), None)
    if inside and outside:
        raise DataError(
            f"In '{root}', '{inside}' belongs to a split but '{outside}' to none. Move all films "
            "into train, val or test, or none."
        )


def findings_of(name: str) -> tuple[str, ...]:
    """Say what the name of a class means: nothing found, or a finding of that name."""
    if name.lower() in NORMAL_NAMES:
        return ()
    return ("Abnormal",) if name.lower() == "abnormal" else (name,)


def class_of(label: object) -> str:
    """Name the class that a label means: 0 or 1, false or true (normal or abnormal), or a name.

    Raises:
        ValueError: When it is anything else; says what is allowed.
    """
    if isinstance(label, str) and label.strip().lower() in ("true", "false"):
        label = label.strip().lower() == "true"
    try:
        number = float(label) if isinstance(label, str | int | float) else None
    except (ValueError, OverflowError):
        number = None
    if number in (0, 1):
        return "Abnormal" if number else "Normal"
    if isinstance(label, str) and label.strip() and number is None:
        return (findings_of(label.strip()) or (label.strip(),))[0]
    raise ValueError(
        f"the label {short(label)}, of which nobody can say what it means. Allowed are 0 "
        "(normal), 1 (abnormal) or the name of a class"
    )


def digests(paths: Sequence[Path], progress: Progress | None) -> list[str]:
    """SHA-256 of each file."""
    found = []
    for done, path in enumerate(paths, 1):
        found.append(hashlib.sha256(path.read_bytes()).hexdigest())
        if progress:
            progress("Reading files", done, len(paths))
    return found


def some(names: Iterable[object]) -> str:
    """Name the first three, and how many more there are."""
    listed = list(map(str, names))
    more = f" and {len(listed) - 3:,} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


_PNEUMONIA = re.compile(r"(person\d+)_(bacteria|virus)_\d+")
_NORMAL = re.compile(r"((?:NORMAL2-)?IM-\d+)(?:-\d+)+")


def patient_of(path: Path, root: Path) -> str:
    """Name the patient from a Kermany file name; any other film is a patient of its own.

    The key is (person, bacteria or virus): the two kinds are numbered apart, so that
    person1_virus and person1_bacteria are two children. Normal films: (prefix, IM number).
    """
    if match := _PNEUMONIA.match(path.stem):
        return f"{match[1]}_{match[2]}"
    if match := _NORMAL.match(path.stem):
        return match[1]
    return path.relative_to(root).as_posix()


@recognises("tfrecord", "TFRecord shards, 001-438.tfrec or data/001-438.tfrec")
def has_shards(root: Path) -> bool:
    """Tell whether a folder holds TFRecord shards."""
    return any(next(place.glob("*.tfrec"), None) is not None for place in (root, root / "data"))


# --- class-folders ---


@recognises("class-folders", "one folder for each class, CLASS/film.png or train/CLASS/film.png")
def _has_folders(root: Path) -> bool:
    return bool(folders_in(root))


@register_layout
def class_folders(root: Path, progress: Progress | None = None) -> DatasetIndex:
    """Read ROOT/CLASS/* or ROOT/{train,test,val}/CLASS/*: the folder's name is the finding.

    A folder named like "normal" means no finding. File names of the pediatric pneumonia set
    (Kermany 2018) also tell bacterial from viral pneumonia, which is added as a finding.

    Raises:
        DataError: When there are no class folders, one of them is empty, or a split lacks a
            class that another split has.
    """
    places = _places(root)
    held = {
        folder: sorted(path for path in folder.iterdir() if is_film(path))
        for place in places
        for folder in folders_in(place)
    }
    _check_classes(root, places, held)
    paths = [path for folder in held for path in held[folder]]
    films = [
        Film(
            file := path.relative_to(root).as_posix(),
            _findings(path.parent.name, path),
            patient_of(path, root),
            split_of(file) if places != [root] else None,
            digest,
        )
        for path, digest in zip(paths, digests(paths, progress), strict=True)
    ]
    films.sort(key=lambda film: film.file)
    classes = tuple(sorted({folder.name for folder in held}))
    loose = [path for place in {root, *places} for path in place.iterdir() if is_film(path)]
    notes = (f"{len(loose):,} files beside the class folders were not read.",) if loose else ()
    return DatasetIndex(root, "class-folders", classes, tuple(films), notes)


def _places(root: Path) -> list[Path]:
    """Name the folders that hold class folders: those of the splits, or else the root."""
    splits = [path for path in folders_in(root) if path.name.lower() in SPLITS]
    others = [path.name for path in folders_in(root) if path not in splits]
    if splits and others:
        raise DataError(
            f"Beside {', '.join(path.name for path in splits)}, '{root}' has the folders "
            f"{', '.join(others)}, of which nobody can say what they are for. Name splits train, "
            "val or test, and move other folders away."
        )
    return splits or [root]


def _check_classes(root: Path, places: list[Path], held: dict[Path, list[Path]]) -> None:
    """Refuse a folder without films, a class without films, and a split without a class."""
    if not any(held.values()):
        raise DataError(
            f"'{root}' holds no films in class folders. Expected {root.name}/CLASS/film.png or "
            f"{root.name}/train/CLASS/film.png, with one folder for each class."
        )
    for folder, films in held.items():
        if not films:
            raise DataError(
                f"The class folder '{folder.relative_to(root).as_posix()}' of '{root}' holds no "
                "films (folders inside a class folder are not read). Put the films of the class "
                "into it, or move it away if it is no class."
            )
    for name in sorted({folder.name for folder in held}):
        lacking = [place for place in places if place / name not in held]
        if lacking:
            raise DataError(
                f"The split '{lacking[0].name}' of '{root}' has no class folder '{name}', which "
                "another split has. Every split needs films of every class: add "
                f"{lacking[0].name}/{name}, or move that class away from the other splits."
            )


def _findings(folder: str, path: Path) -> tuple[str, ...]:
    if folder.lower() in NORMAL_NAMES:
        return ()
    match = _PNEUMONIA.match(path.stem)
    return (folder, match[2]) if match else (folder,)
