"""A CSV file of unknown make as columns: which one names the films, which may be of a label."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan

from cxr_core.datasets.layouts import some
from cxr_core.errors import DataError

Notes = list[str]

# Titles as `key_of` writes them; of the film, the first that is there counts.
_FILM = (
    *("image", "imageindex", "imageid", "imagename", "imagefile", "imagefilename", "imagepath"),
    *("file", "filename", "filepath", "path", "film", "dicomid", "sopinstanceuid", "name", "id"),
    *("study", "studyid", "studyname", "studyinstanceuid"),
)
_FINDINGS = "findinglabels"
WHO = {
    "patient": ("patient", "patientid", "subject", "subjectid"),
    "age": ("age", "ageyears", "patientage"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "view": ("view", "viewposition"),
}
_NO_LABELS = {*_FILM, _FINDINGS, *(title for titles in WHO.values() for title in titles)}
_NO_LABELS |= {"split", "source", "ok", "gate", "error"}
_UNTITLED = re.compile(r"column \d+|unnamed: \d+", re.IGNORECASE)
_BESIDE = re.compile(r"(?:flag|cannot[\s_-]+tell|operating[\s_-]+point)[\s_-]+.+", re.I | re.S)

IS_TRUE = {"0": 0, "0.0": 0, "false": 0, "no": 0, "1": 1, "1.0": 1, "true": 1, "yes": 1}
_MISSING = {"", "nan", "na", "n/a", "none", "null"}
_SAME = {"infiltrate": "infiltration"}  # the NIH writes both


@dataclass(frozen=True)
class Sheet:
    """One CSV file: its columns by title, without surrounding blanks, all of one length.

    `film` is the title of the column that names the films. Where semicolons or tabs stand
    between cells, a comma may stand in a number.
    """

    name: str
    columns: dict[str, Sequence[str]]
    film: str
    commas: bool

    @property
    def films(self) -> Sequence[str]:
        """The films, one a row."""
        return self.columns[self.film]

    @property
    def findings(self) -> str | None:
        """The title of the column that holds findings as the NIH writes them, if there is one."""
        return next((title for title in self.columns if key_of(title) == _FINDINGS), None)

    def label_titles(self) -> list[str]:
        """Return the titles of columns that may be of a label."""
        others = {*_NO_LABELS, key_of(self.film), ""}
        return [
            title
            for title in self.columns
            if key_of(title) not in others
            and not _UNTITLED.fullmatch(title)
            and not _BESIDE.fullmatch(title)
        ]


def read_sheet(name: str, content: bytes) -> Sheet:
    """Read a CSV file with a line of titles, whatever stands between its cells.

    Args:
        name: What errors call it.
        content: UTF-8 text, with or without a byte order mark.

    Raises:
        DataError: When it is no such file, lists no films, or no column names them.
    """
    try:
        text = content.decode("utf-8-sig")
        delimiter = _delimiter(text)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [[cell.strip() for cell in cells] for cells in lines]
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(
            f"'{name}' cannot be read as a CSV ({problem}). Save it as CSV, UTF-8."
        ) from problem
    titles, *rows = [cells for cells in rows if any(cells)] or [[]]
    if not rows:
        raise DataError(f"'{name}' lists no films. Expected a line of titles and a line each.")
    columns = _by_title(name, titles, rows)
    commas = delimiter != ","
    return Sheet(name, columns, _film_title(name, columns, commas), commas)


def _delimiter(text: str) -> str:
    """Return what cuts the line of titles into most cells."""
    titles = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=lambda one: len(next(csv.reader([titles], delimiter=one), [])))


def _by_title(
    name: str, titles: Sequence[str], rows: Sequence[Sequence[str]]
) -> dict[str, Sequence[str]]:
    """Return the columns; `predict --csv` ends the line of a film without an answer early."""
    named = [title or f"column {k}" for k, title in enumerate(titles, 1)]
    twice = sorted({title for title in named if named.count(title) > 1})
    if twice:
        raise DataError(f"'{name}' has two columns named {some(twice)}. Rename one of them.")
    for cells in rows:
        if any(cells[len(named) :]):
            raise DataError(
                f"The line of '{name}' that begins with '{cells[0]}' has {len(cells)} cells, but "
                f"there are {len(named)} titles. Write text that holds commas in quotation marks."
            )
    full = [[*cells, *[""] * (len(named) - len(cells))] for cells in rows]
    # Not strict: blank cells beyond the titles say nothing.
    return dict(zip(named, zip(*full, strict=False), strict=False))


def _film_title(name: str, columns: dict[str, Sequence[str]], commas: bool) -> str:
    by_key = {key_of(title): title for title in reversed(columns)}
    for key in _FILM:
        if key in by_key:
            return by_key[key]
    for title, cells in columns.items():
        if any(cell.lower() not in IS_TRUE and not is_number(cell, commas) for cell in cells):
            return title
    raise DataError(
        f"'{name}' has no column that names the films: its columns are {some(columns)}. Name one "
        "'image'."
    )


def read_number(cell: str, commas: bool) -> float:
    """Read a number, or NaN where the cell says that there is none.

    Raises:
        ValueError: On anything else.
    """
    if cell.lower() in _MISSING:
        return nan
    if "_" in cell:  # Python would read 0_1 as 1
        raise ValueError
    return float(cell.replace(",", ".") if commas else cell)


def is_number(cell: str, commas: bool) -> bool:
    """Tell a number, or a cell that says that there is none, from other text."""
    try:
        read_number(cell, commas)
    except ValueError:
        return False
    return True


def key_of(name: str) -> str:
    """Return a name without case, spaces, underscores and hyphens."""
    key = re.sub(r"[\s_-]+", "", name.lower())
    return _SAME.get(key, key)


# --- what notes say ---


def example(sheet: Sheet, title: str, rows: Iterable[int]) -> str:
    """Name the first of these films, whatever their order, and what it has in a column."""
    film, cell = min((sheet.films[row], sheet.columns[title][row]) for row in rows)
    return f"'{cell}' for '{film}'"


def left_out(films: Iterable[str], which: str) -> Notes:
    """Say how many films it is and name the first three; nothing where there are none."""
    listed = sorted(films)
    s = "s" * (len(listed) > 1)
    return [f"Left out: {len(listed):,} film{s} {which} ({some(listed)})."] if listed else []
