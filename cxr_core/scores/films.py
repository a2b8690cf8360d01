"""The films of two CSV files: which are the same, which are complete, and who they are of."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.datasets.layouts import some
from cxr_core.datasets.tables import Row, possible
from cxr_core.errors import DataError
from cxr_core.scores.labels import Label, Values, allowed_truths
from cxr_core.scores.sheets import WHO, Notes, Sheet, example, key_of, left_out

Pairs = list[tuple[int, int]]  # a row of the scores and the row of the labels of that film
_EXTENSION = re.compile(r"\.(?:png|jpe?g|dcm|dicom|tiff?|bmp|gif|webp|npy)$", re.IGNORECASE)


# --- films ---


def find_films(ours: Sheet, theirs: Sheet, values: Values) -> tuple[Pairs, Notes]:
    """Return the two rows of every film that has all scores and labels, sorted by its name."""
    cells = [theirs.columns[title] for title in _who_titles(theirs).values()]
    told = zip(*cells, strict=True) if cells else [()] * len(theirs.films)
    truths = [(*row, *who) for row, who in zip(values.truths.tolist(), told, strict=True)]
    here, twice = _once(ours, np.nan_to_num(values.scores, nan=-1.0).tolist())
    there, again = _once(theirs, truths)
    named, apart = _match(ours, theirs, here, there)
    pairs = [(here[film], there[named[film]]) for film in sorted(named)]
    whole, holes = _complete(ours, theirs, values, pairs)
    return whole, [*twice, *again, *apart, *holes]


def _once(sheet: Sheet, values: Sequence[Sequence[Any]]) -> tuple[dict[str, int], Notes]:
    """Return the first row of every film.

    Raises:
        DataError: When a film comes again with other values.
    """
    first: dict[str, int] = {}
    again = set()
    for row, film in enumerate(sheet.films):
        if not film or first.setdefault(film, row) == row:
            continue
        again.add(film)
        if values[row] != values[first[film]]:
            raise DataError(
                f"'{sheet.name}' has '{film}' more than once, with different values. Leave one "
                "line of it."
            )
    unnamed = sheet.films.count("")
    notes = [f"Left out: lines of '{sheet.name}' that name no film, {unnamed:,} in all."]
    told = f"In '{sheet.name}' more than once, with the same values, and counted once"
    repeated = [f"{told}: {some(sorted(again))}."] if again else []
    return first, notes[: bool(unnamed)] + repeated


def _match(
    ours: Sheet, theirs: Sheet, here: Mapping[str, int], there: Mapping[str, int]
) -> tuple[dict[str, str], Notes]:
    """Say which film of the labels each film of the scores is.

    Raises:
        DataError: When they have no film in common.
    """
    named = {film: film for film in here if film in there}
    notes, alike = [], set[str]()
    for shorten, how in ((_base, "folders"), (_stem, "folders and extension")):
        found, common = _alike(here, there, shorten)
        added = sorted(film for film in found if film not in named)
        named |= found
        alike |= common
        if added:
            such = f"'{added[0]}' and '{found[added[0]]}'"
            notes.append(f"Matched by names without {how}: {len(added):,}, such as {such}.")
    unclear = left_out(
        alike - named.keys(),
        f"of '{ours.name}' with a name that fits several, without folders or extension",
    )
    if not named:
        raise DataError(" ".join([_nothing_in_common(ours, theirs), *unclear]))
    lone = here.keys() - named.keys() - alike
    unscored = there.keys() - set(named.values())
    notes += unclear
    notes += left_out(lone, f"of '{ours.name}' without labels in '{theirs.name}'")
    notes += left_out(unscored, f"of '{theirs.name}' without scores in '{ours.name}'")
    return named, notes


def _alike(
    here: Iterable[str], there: Iterable[str], shorten: Callable[[str], str]
) -> tuple[dict[str, str], set[str]]:
    """Match films by what is left of their names.

    Returns:
        The film of the labels for each film of the scores that can be no other, and every film
        of the scores that is like one of the labels.
    """
    mine, others = _shortened(here, shorten), _shortened(there, shorten)
    common = mine.keys() & others.keys()
    only = [short for short in common if len(mine[short]) == len(others[short]) == 1]
    found = {mine[short][0]: others[short][0] for short in only}
    return found, {film for short in common for film in mine[short]}


def _shortened(films: Iterable[str], shorten: Callable[[str], str]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for film in films:
        found[shorten(film)].append(film)
    return dict(found)


def _base(film: str) -> str:
    return re.split(r"[/\\]", film)[-1]


def _stem(film: str) -> str:
    """Return the base name without its extension; a number such as 1.2.840.10008 has none."""
    return _EXTENSION.sub("", _base(film))


def _nothing_in_common(ours: Sheet, theirs: Sheet) -> str:
    told = [
        f"the column '{sheet.film}' of '{sheet.name}' has {some(sorted({*sheet.films} - {''}))}"
        for sheet in (ours, theirs)
    ]
    return (
        f"No film of '{ours.name}' was found in '{theirs.name}': {'; '.join(told)}. Give films "
        "the same names in both."
    )


def _complete(ours: Sheet, theirs: Sheet, values: Values, pairs: Pairs) -> tuple[Pairs, Notes]:
    """Leave out films that lack a score or a label.

    Raises:
        DataError: When none is left.
    """
    here, there = (list(rows) for rows in zip(*pairs, strict=True))
    missing = np.isnan(values.scores[here])
    counts = missing.sum(axis=1)
    films = np.array([ours.films[row] for row in here], dtype=object)
    scored = counts == 0
    unknown = (values.truths[there] < 0) & scored[:, None]
    notes = [
        *left_out(films[counts == missing.shape[1]], f"without an answer in '{ours.name}'"),
        *left_out(
            films[(counts > 0) & (counts < missing.shape[1])],
            f"with a score missing in '{ours.name}'",
        ),
        *_unknown(theirs, values.labels, there, unknown),
    ]
    whole = scored & (unknown.sum(axis=1) == 0)
    if not whole.any():
        raise DataError(f"No film is left to evaluate. {' '.join(notes)}")
    return [pairs[k] for k in np.flatnonzero(whole).tolist()], notes


def _unknown(
    sheet: Sheet, labels: Sequence[Label], rows: Sequence[int], unknown: NDArray[np.bool_]
) -> Notes:
    """Say which films lack a label, with the first cell that could not be read."""
    places = [(rows[film], column) for film, column in np.argwhere(unknown).tolist()]
    if not places:
        return []
    label = labels[min(column for _, column in places)]
    such = example(sheet, label.truth, [row for row, column in places if labels[column] == label])
    return [
        *left_out(
            {sheet.films[row] for row, _ in places}, f"with a label missing in '{sheet.name}'"
        ),
        f"The column '{label.truth}' of '{sheet.name}' holds {such}. Allowed are "
        f"{allowed_truths(sheet)}.",
    ]


# --- people ---


def _who_titles(sheet: Sheet) -> dict[str, str]:
    """Return the columns that tell patient, age, sex and view, where they are there."""
    by_key = {key_of(title): title for title in reversed(sheet.columns) if title != sheet.film}
    return {
        role: by_key[next(key for key in keys if key in by_key)]
        for role, keys in WHO.items()
        if any(key in by_key for key in keys)
    }


def people(sheet: Sheet, rows: Sequence[int], films: Sequence[str]) -> tuple[dict[str, Any], Notes]:
    """Return patient, age, sex and view of the films in these rows, as a table takes them."""
    titles = _who_titles(sheet)
    cells = {role: [sheet.columns[title][row] for row in rows] for role, title in titles.items()}
    patients = cells.get("patient", films)
    ages, odd_ages = _readable(cells.get("age", ()), _age)
    sexes, odd_sexes = _readable(cells.get("sex", ()), lambda row: row.sex("cell"))
    views = tuple(view.upper() for view in cells.get("view", ()))
    who = {
        "patients": tuple(patient or film for patient, film in zip(patients, films, strict=True)),
        "age": ages if any(age is not None for age in ages) else None,
        "sex": tuple(sex or "" for sex in sexes) if any(sexes) else None,
        "view": views if any(views) else None,
    }
    notes = [
        f"Taken as unknown, in the column '{titles[role]}' of '{sheet.name}': {len(odd):,}, such "
        f"as '{min(odd)}'."
        for role, odd in (("age", odd_ages), ("sex", odd_sexes))
        if odd
    ]
    if "patient" not in titles:
        notes.append(
            f"'{sheet.name}' does not name patients: each film counts as a patient of its own, "
            "and intervals are too narrow where that is wrong."
        )
    return who, notes


def _readable(
    cells: Sequence[str], read: Callable[[Row], Any]
) -> tuple[tuple[Any, ...], list[str]]:
    """Read cells, None where that cannot be done; return the cells of which it cannot, too."""
    values: dict[str, Any] = {}
    odd = set()
    for cell in set(cells):
        try:
            values[cell] = read(Row("", 0, {"cell": cell}))
        except DataError:
            values[cell] = None
            odd.add(cell)
    return tuple(values[cell] for cell in cells), [cell for cell in cells if cell in odd]


def _age(row: Row) -> float | None:
    age = row.age("cell")
    if age != possible(age):
        raise row.wrong("cell", "Nobody reaches that age.")
    return age
