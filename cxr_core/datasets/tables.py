"""Films listed in CSV files: the tables of NIH ChestX-ray14, and any table of paths and labels."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from csv import Error as CsvError
from csv import reader as csv_reader
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from cxr_core.datasets.films import NIH_FINDINGS, NO_FINDING, Box, DatasetIndex, Film, Progress
from cxr_core.datasets.layouts import (
    SPLITS,
    class_of,
    digests,
    films_below,
    findings_of,
    has_shards,
    is_film,
    patient_of,
    recognises,
    register_layout,
    some,
    split_of,
)
from cxr_core.errors import DataError
from cxr_core.images import MAX_AGE_YEARS

_AGE = re.compile(r"(\d+(?:\.\d*)?)\s*([YMWD]?)", re.IGNORECASE)
_YEARS = {"Y": 1.0, "": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"} | dict.fromkeys(
    ("", "o", "other", "u", "unknown")
)


# --- tables ---


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        source: Name of the file, for errors.
        line: Number of the line, counted from 1.
        cells: By column, without surrounding blanks.
    """

    source: str
    line: int
    cells: Mapping[str, str]

    def wrong(self, column: str, advice: str) -> DataError:
        """Make an error that says where it is, what stands there and what to do."""
        return DataError(
            f"Line {self.line} of '{self.source}' holds '{self.cells[column]}' in the column "
            f"'{column}'. {advice}"
        )

    def required(self, column: str) -> str:
        """Return a cell that must not be blank."""
        if not self.cells[column]:
            raise self.wrong(column, "Fill it in, for every film, or remove the column.")
        return self.cells[column]

    def age(self, column: str) -> float | None:
        """Read an age such as 58, 058Y or 009M, in years."""
        match = _AGE.fullmatch(self.cells[column])
        if match:
            return float(match[1]) * _YEARS[match[2].upper()]
        if self.cells[column]:
            raise self.wrong(column, "Ages are numbers of years, or like 058Y or 009M, or blank.")
        return None

    def sex(self, column: str) -> str | None:
        """Read F, M or what means unknown."""
        told = self.cells[column].lower()
        if told not in _SEXES:
            raise self.wrong(column, "Allowed are F, M, U (unknown) or blank.")
        return _SEXES[told]

    def view(self, column: str) -> str | None:
        """Read PA, AP or blank."""
        told = self.cells[column].upper()
        if told not in ("PA", "AP", ""):
            raise self.wrong(
                column, "Allowed are PA, AP or blank: take films of other views out of the table."
            )
        return told or None


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """Read a CSV file with a line of titles.

    Returns:
        The titles and the rows that are not blank.

    Raises:
        DataError: When it is no CSV, has no rows, or a title or a cell too many or too few.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv_reader(lines, strict=True)
            titles = [title.strip() for title in next(reader, [])]
            while titles and not titles[-1]:  # NIH's titles end in a comma
                titles.pop()
            rows = [
                _row(path.name, reader.line_num, titles, cells)
                for cells in reader
                if any(cell.strip() for cell in cells)
            ]
    except (UnicodeDecodeError, CsvError) as problem:
        raise DataError(
            f"'{path.name}' cannot be read as a CSV ({problem}). Save it as CSV, UTF-8, with "
            "commas between the columns."
        ) from problem
    twice = sorted({title for title in titles if title and titles.count(title) > 1})
    if twice:
        raise DataError(f"'{path.name}' has two columns named {some(twice)}. Rename one of them.")
    if not rows:
        raise DataError(f"'{path.name}' lists no films. Expected a line of titles and a line each.")
    return titles, rows


def _row(source: str, line: int, titles: list[str], cells: list[str]) -> Row:
    if len(cells) < len(titles) or any(cell.strip() for cell in cells[len(titles) :]):
        raise DataError(
            f"Line {line} of '{source}' has {len(cells)} cells, but there are {len(titles)} "
            "titles. Give each line one cell for each title; write text that holds commas in "
            "quotation marks."
        )
    return Row(source, line, {t: c.strip() for t, c in zip(titles, cells, strict=False)})


def possible(age: float | None) -> float | None:
    """Return an age, or None for one that nobody reaches."""
    return None if age is None or age > MAX_AGE_YEARS else age


def _odd_ages(ages: Iterable[float | None]) -> list[str]:
    count = sum(age != possible(age) for age in ages)
    told = f"{count:,} ages above {MAX_AGE_YEARS:.0f} years were taken as unknown."
    return [told] if count else []


# --- nih-csv ---

_NIH_PIXELS = 1024.0  # sides of the published films, in which boxes are given
_NIH_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_NIH_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position")


def _nih_tables(root: Path) -> list[Path]:
    return sorted(root.glob("Data_Entry_2017*.csv"))


@recognises("nih-csv", "the tables of NIH ChestX-ray14, Data_Entry_2017.csv and images")
def _has_nih_table(root: Path) -> bool:
    return bool(_nih_tables(root))


@register_layout
def nih_csv(root: Path, progress: Progress | None = None) -> DatasetIndex:
    """Read NIH ChestX-ray14 as published: Data_Entry_2017*.csv beside images/ or images_*/images/.

    A part of the films is enough. Read as well, where they are there: source.csv (which
    collection a film came from), BBox_List_2017.csv (where findings lie), and both of
    train_val_list.txt and test_list.txt (the official split).

    Raises:
        DataError: When a table is not as published, or none of its films is there.

    Reference:
        Wang et al., ChestX-ray8, CVPR 2017, https://arxiv.org/abs/1705.02315.
    """
    listed, sex = _nih_rows(_nih_table(root))
    paths = _nih_films(root)
    here = [stem for stem in listed if stem in paths]
    source = next(iter(listed.values())).source
    if not here:
        raise DataError(
            f"None of the {len(listed):,} films of '{source}' is in '{root}'. Put them into "
            "images, or unpack the archives into images_001 to images_012."
        )
    keys = digests([paths[stem] for stem in here], progress)
    films = {
        stem: _nih_film(listed[stem], paths[stem].relative_to(root), digest, sex)
        for stem, digest in zip(here, keys, strict=True)
    }
    notes = _not_both(source, listed, paths)
    notes += _odd_ages(listed[stem].age("Patient Age") for stem in here)
    for add in (_add_splits, _add_sources, _add_boxes):
        notes += add(root, films)
    classes = sorted({name for film in films.values() for name in film.findings} | {NO_FINDING})
    ordered = tuple(sorted(films.values(), key=lambda film: film.file))
    return DatasetIndex(root, "nih-csv", tuple(classes), ordered, tuple(notes))


def _nih_rows(path: Path) -> tuple[dict[str, Row], str]:
    """Read the table: its rows by film, and what it calls the column of the sex."""
    titles, rows = read_rows(path)
    sex = "Patient Gender" if "Patient Gender" in titles else "Patient Sex"
    lacking = [title for title in (*_NIH_COLUMNS, sex) if title not in titles]
    if lacking:
        raise DataError(
            f"'{path.name}' has no column {some(lacking)}. Take the table as the NIH publishes "
            "it, or use the layout csv for one of your own."
        )
    return _by_stem(rows), sex


def _nih_film(row: Row, file: Path, digest: str, sex: str) -> Film:
    return Film(
        file.as_posix(),
        _nih_findings(row),
        row.required("Patient ID"),
        None,
        digest,
        view=row.view("View Position"),
        age_years=possible(row.age("Patient Age")),
        sex=row.sex(sex),
    )


def _nih_table(root: Path) -> Path:
    tables = _nih_tables(root)
    if len(tables) != 1:
        raise DataError(
            f"'{root}' has {len(tables)} tables Data_Entry_2017*.csv "
            f"({some(path.name for path in tables) or 'none'}). Leave the one that is meant."
        )
    return tables[0]


def _nih_films(root: Path) -> dict[str, Path]:
    """Find the films by their names without extension: copies are often JPEG instead of PNG."""
    places = [root, root / "images", *sorted(root.glob("images_*"))]
    places += sorted(root.glob("images_*/images"))
    films: dict[str, Path] = {}
    for place in filter(Path.is_dir, places):
        for path in sorted(place.iterdir()):
            if not is_film(path) or path.suffix.lower() not in _NIH_SUFFIXES:
                continue
            if path.stem in films:
                raise DataError(
                    f"'{root}' holds the film {path.stem} twice: {films[path.stem]} and {path}. "
                    "Leave one of them."
                )
            films[path.stem] = path
    return films


def _by_stem(rows: Sequence[Row]) -> dict[str, Row]:
    listed: dict[str, Row] = {}
    for row in rows:
        stem = PurePosixPath(row.cells["Image Index"]).stem
        if stem in listed:
            raise row.wrong(
                "Image Index", f"Line {listed[stem].line} has it too: leave one of them."
            )
        listed[stem] = row
    return listed


def _nih_findings(row: Row) -> tuple[str, ...]:
    names = tuple(name.strip() for name in row.cells["Finding Labels"].split("|"))
    if names == (NO_FINDING,):
        return ()
    unknown = [name for name in names if name not in NIH_FINDINGS]
    if unknown or len(set(names)) < len(names):
        raise row.wrong(
            "Finding Labels",
            f"Allowed are '{NO_FINDING}' alone, or findings of the NIH, each once, with | between "
            f"them: {', '.join(NIH_FINDINGS)}. Use the layout csv for other findings.",
        )
    return names


def _not_both(source: str, listed: Mapping[str, Row], paths: Mapping[str, Path]) -> list[str]:
    absent = sum(stem not in paths for stem in listed)
    unlisted = sorted(path.name for stem, path in paths.items() if stem not in listed)
    notes = []
    if absent:
        notes.append(f"{absent:,} of the {len(listed):,} films of {source} are not in the folder.")
    if unlisted:
        notes.append(
            f"{len(unlisted):,} films that {source} does not list were left out: {some(unlisted)}."
        )
    return notes


def _names_in(path: Path) -> set[str]:
    """Read a list of file names, one a line, and leave their endings out."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not UTF-8 text; save it as such.") from error
    return {PurePosixPath(name.strip()).stem for name in lines}


def _add_splits(root: Path, films: dict[str, Film]) -> list[str]:
    """Take over the official split where both of its lists are there."""
    lists = {"train": root / "train_val_list.txt", "test": root / "test_list.txt"}
    there = [path.name for path in lists.values() if path.is_file()]
    if len(there) < 2:
        return [f"{there[0]} is there without its other half: no split was taken."] if there else []
    stems = {split: _names_in(path) for split, path in lists.items()}
    both = sorted(stems["train"] & stems["test"] - {""})
    if both:
        raise DataError(
            f"train_val_list.txt and test_list.txt of '{root}' both list {some(both)}. Take the "
            "lists as the NIH publishes them."
        )
    for split, listed in stems.items():
        films |= {stem: replace(films[stem], split=split) for stem in listed & films.keys()}
    neither = sorted(film.file for film in films.values() if film.split is None)
    told = f"{len(neither):,} films are in neither list of the official split: {some(neither)}."
    return [told] if neither else []


def _add_sources(root: Path, films: dict[str, Film]) -> list[str]:
    """Take over which collection each film came from."""
    if not (root / "source.csv").is_file():
        return []
    titles, rows = read_rows(root / "source.csv")
    if not {"Image Index", "source"} <= set(titles):
        raise DataError(
            f"'source.csv' of '{root}' has the columns {', '.join(titles)}. Expected 'Image Index' "
            "and 'source'; rename or remove the file if it is something else."
        )
    for stem, row in _by_stem(rows).items():
        if stem in films:
            films[stem] = replace(films[stem], source=row.cells["source"] or None)
    return []


def _add_boxes(root: Path, films: dict[str, Film]) -> list[str]:
    """Take over where findings lie.

    The titles are of no use: the published ones are "Bbox [x,y,w,h],,," for four columns.
    """
    path, absent = root / "BBox_List_2017.csv", 0
    if not path.is_file():
        return []
    for line, cells in _box_lines(path):
        try:
            finding, (x, y, width, height) = cells[1].strip(), map(float, cells[2:6])
        except (IndexError, ValueError) as problem:
            raise DataError(
                f"Line {line} of '{path.name}' is no box. Expected the image, the finding, and "
                "left, top, width and height in pixels."
            ) from problem
        edge = _NIH_PIXELS + 1  # boxes were scaled, and so rounded
        if not (min(x, y) >= -1 and x < x + width <= edge and y < y + height <= edge):
            raise DataError(
                f"Line {line} of '{path.name}' has a box that is empty or leaves the film. Boxes "
                f"are given in pixels of a film of {_NIH_PIXELS:.0f} by {_NIH_PIXELS:.0f}."
            )
        stem = PurePosixPath(cells[0].strip()).stem
        if stem not in films:
            absent += 1
            continue
        # The box file says Infiltrate where the labels say Infiltration.
        name = "Infiltration" if finding == "Infiltrate" else finding
        box = Box(name, *(value / _NIH_PIXELS for value in (x, y, width, height)))
        films[stem] = replace(films[stem], boxes=(*films[stem].boxes, box))
    return [f"{absent:,} boxes of {path.name} are of films not in the folder."] if absent else []


def _box_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv_reader(lines)
            next(reader, None)
            yield from ((reader.line_num, cells) for cells in reader if any(cells))
    except (UnicodeDecodeError, CsvError) as problem:
        raise DataError(f"'{path.name}' cannot be read as a CSV ({problem}).") from problem


# --- csv ---

_ROLES = {
    "path": "path file filename file_name filepath file_path film image image_path image_file "
    "image_filename image_name image_index",
    "labels": "label labels finding findings finding_label finding_labels class classes diagnosis "
    "target",
    "patient": "patient patient_id patientid subject subject_id",
    "split": "split",
    "view": "view view_position",
    "age": "age age_years patient_age",
    "sex": "sex gender patient_sex patient_gender",
    "source": "source",
}
_UNCLEAR = {
    "": "Blank may mean absent or not known: write 0 or 1, or take the line out.",
    "-1": "-1 means uncertain: decide for 0 or 1, or take the line out.",
    "-1.0": "-1 means uncertain: decide for 0 or 1, or take the line out.",
}


def _tables(root: Path) -> list[Path]:
    return sorted(
        path
        for path in root.iterdir()
        if path.is_file() and path.suffix.lower() == ".csv" and path.name[0] != "."
    )


@recognises("csv", "one CSV of paths and labels beside its films")
def _has_one_table(root: Path) -> bool:
    return len(_tables(root)) == 1 and not _has_nih_table(root) and not has_shards(root)


@register_layout
def csv(root: Path, progress: Progress | None = None) -> DatasetIndex:
    """Read a CSV of paths and labels: one column of labels, or one column of 0 and 1 for each.

    Paths are relative to the CSV's folder. Several labels of a film stand in one cell with | or
    ; between them. Columns named patient, split, view, age, sex and source are read as well.
    Without a column for the split, folders named train, val and test say it if all films lie
    in such.

    Raises:
        DataError: When a column or a cell can be read in two ways, or a film is not there.
    """
    tables = _tables(root)
    if len(tables) != 1:
        raise DataError(
            f"'{root}' has {len(tables)} CSV files ({some(t.name for t in tables) or 'none'}), "
            "but one is needed that lists the films. Move the others away."
        )
    titles, rows = read_rows(tables[0])
    roles = _roles(tables[0].name, titles)
    flags = [title for title in titles if title not in roles.values() and _is_named(title)]
    notes = []
    if "labels" in roles:
        notes += [f"Columns that were not read: {some(flags)}."] if flags else []
        flags = []
    elif not flags:
        raise DataError(
            f"'{tables[0].name}' has no labels: its columns are {', '.join(titles)}. Add a column "
            "'label', or one column of 0 and 1 for each label."
        )
    listed = _by_path(root, rows, roles["path"])
    classes = {
        file: _ticked(row, flags) if flags else _named(row, roles["labels"])
        for file, row in listed.items()
    }
    keys = digests([root / file for file in listed], progress)
    films = [
        _film(root, file, row, roles, classes[file], digest)
        for (file, row), digest in zip(listed.items(), keys, strict=True)
    ]
    if "split" not in roles and all(split_of(file) for file in listed):
        films = [replace(film, split=split_of(film.file)) for film in films]
    films.sort(key=lambda film: film.file)
    if "age" in roles:
        notes += _odd_ages(row.age(roles["age"]) for row in rows)
    below = (path.relative_to(root).as_posix() for path in films_below(root))
    left = [file for file in below if file not in listed]
    if left:
        told = f"{len(left):,} films that {tables[0].name} does not list were left out"
        notes.append(f"{told}: {some(left)}.")
    named = set(flags) or {name for names in classes.values() for name in names}
    return DatasetIndex(root, "csv", tuple(sorted(named)), tuple(films), tuple(notes))


def _is_named(title: str) -> bool:
    """Tell a column from the numbering that data frames write beside their columns."""
    return bool(title) and not title.startswith("Unnamed:")


def _roles(source: str, titles: Sequence[str]) -> dict[str, str]:
    """Say which column is the path, which the labels, and so on."""
    roles: dict[str, str] = {}
    for role, names in _ROLES.items():
        found = [t for t in titles if re.sub(r"[^a-z0-9]+", "_", t.lower()) in names.split()]
        if len(found) > 1:
            raise DataError(
                f"'{source}' has the columns {' and '.join(found)}, and either may be the {role}. "
                "Rename or remove one of them."
            )
        if found:
            roles[role] = found[0]
    if "path" not in roles:
        raise DataError(
            f"'{source}' has no column for the films: its columns are {', '.join(titles)}. Name "
            "one 'path', with commas between columns. If the folders are the classes, choose the "
            "layout class-folders, or move this file away."
        )
    return roles


def _by_path(root: Path, rows: Sequence[Row], column: str) -> dict[str, Row]:
    """Order rows by the film they name.

    Raises:
        DataError: When a film is outside of the folder, listed twice, or not there.
    """
    listed: dict[str, Row] = {}
    for row in rows:
        file = _inside(row, column)
        if file in listed:
            raise row.wrong(column, f"Line {listed[file].line} has it too: leave one of them.")
        listed[file] = row
    absent = [file for file in listed if not (root / file).is_file()]
    if absent:
        raise DataError(
            f"'{rows[0].source}' lists {len(absent):,} of {len(listed):,} films that are not "
            f"there: {some(absent)}. Paths are relative to the folder of the CSV; add those "
            "films, or take their lines out."
        )
    return listed


def _inside(row: Row, column: str) -> str:
    """Return a path within the folder, with forward slashes."""
    told = row.required(column).replace("\\", "/")
    file = posixpath.normpath(told)
    if PureWindowsPath(told).drive or file.startswith("/") or file.split("/")[0] in (".", ".."):
        raise row.wrong(column, "Paths must stay in the folder of the CSV: write images/film.png.")
    return file


def _named(row: Row, column: str) -> tuple[str, ...]:
    """Read the classes that a cell names, with | or ; between them."""
    try:
        names = [class_of(name) for name in re.split("[|;]", row.cells[column])]
    except ValueError as problem:
        raise row.wrong(column, f"That has {problem}, several with | between them.") from problem
    if len(names) > 1 and not all(map(findings_of, names)):
        raise row.wrong(column, "A film is normal or has findings, not both: decide for one.")
    return tuple(dict.fromkeys(names))


def _ticked(row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    """Read which columns hold 1, where all others hold 0."""
    for column in columns:
        if row.cells[column] not in ("0", "1", "0.0", "1.0"):
            advice = "Columns that are not known by their names must hold 0 or 1: remove others."
            raise row.wrong(column, _UNCLEAR.get(row.cells[column], advice))
    names = tuple(column for column in columns if float(row.cells[column]))
    normal = [column for column in columns if not findings_of(column)]
    found = [column for column in names if column not in normal]
    if found and len(found) < len(names):
        raise row.wrong(normal[0], f"But {some(found)} is 1 too: decide for one.")
    if normal and not names:
        raise row.wrong(normal[0], "But no other column is 1: say what was found, or write 1 here.")
    return names


def _film(
    root: Path, file: str, row: Row, roles: Mapping[str, str], classes: Sequence[str], digest: str
) -> Film:
    split = row.cells[roles["split"]] if "split" in roles else None
    if split is not None and split.lower() not in SPLITS:
        raise row.wrong(roles["split"], f"Allowed are {', '.join(SPLITS)}.")
    return Film(
        file,
        tuple(dict.fromkeys(one for name in classes for one in findings_of(name))),
        row.required(roles["patient"]) if "patient" in roles else patient_of(root / file, root),
        SPLITS[split.lower()] if split is not None else None,
        digest,
        view=row.view(roles["view"]) if "view" in roles else None,
        age_years=possible(row.age(roles["age"])) if "age" in roles else None,
        sex=row.sex(roles["sex"]) if "sex" in roles else None,
        source=row.cells[roles["source"]] or None if "source" in roles else None,
    )
