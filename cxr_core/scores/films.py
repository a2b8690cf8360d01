"""The films of two CSV files: which are the same, which are complete, and who they are of."""

import re
from collections import Counter, defaultdict
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
FilmPath = tuple[str, ...]  # the folders of a film, and its name
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


def same_films(here: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """Say which film of `there` each film of `here` is, where it can be no other.

    By name, else without the folders that only one of the two has, else without the extension
    too.
    """
    mine, others = list(here), set(there)
    named = {film: film for film in mine if film in others}
    for path_of in (_path, _stem_path):
        found, _ = _alike(mine, others, path_of)
        named = found | named
    return named


def _match(
    ours: Sheet, theirs: Sheet, here: Mapping[str, int], there: Mapping[str, int]
) -> tuple[dict[str, str], Notes]:
    """Say which film of the labels each film of the scores is.

    Raises:
        DataError: When they have no film in common.
    """
    named = {film: film for film in here if film in there}
    notes, alike = [], set[str]()
    for path_of, how in ((_path, "folders"), (_stem_path, "folders and extension")):
        found, common = _alike(here, there, path_of)
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
    here: Iterable[str], there: Iterable[str], path_of: Callable[[str], FilmPath]
) -> tuple[dict[str, str], set[str]]:
    """Match films where one path ends as all of the other goes.

    Folders that both name must be the same: NORMAL/2.png is never PNEUMONIA/2.png.

    Returns:
        The film of the labels for each film of the scores that can be no other, and every film
        of the scores that is like one of the labels.
    """
    mine, others = _by_path(here, path_of), _by_path(there, path_of)
    fits = _ending(mine, others) | {(film, other) for other, film in _ending(others, mine)}
    of_film, of_other = Counter(film for film, _ in fits), Counter(other for _, other in fits)
    found = {film: other for film, other in fits if of_film[film] == of_other[other] == 1}
    return found, set(of_film)


def _by_path(films: Iterable[str], path_of: Callable[[str], FilmPath]) -> dict[FilmPath, list[str]]:
    found = defaultdict(list)
    for film in films:
        found[path_of(film)].append(film)
    return dict(found)


def _ending(
    films: Mapping[FilmPath, Sequence[str]], others: Mapping[FilmPath, Sequence[str]]
) -> set[tuple[str, str]]:
    """Return films with every other film whose whole path ends theirs.

    Ends are looked up, for all films of an archive may have one name, in folders of their own.
    """
    return {
        (film, other)
        for path, named in films.items()
        for start in range(len(path))
        for other in others.get(path[start:], ())
        for film in named
    }


def _path(film: str) -> FilmPath:
    parts = (part for part in re.split(r"[/\\]", film) if part not in ("", "."))
    return tuple(parts) or (film,)


def _stem_path(film: str) -> FilmPath:
    """Return the path without extension; a number such as 1.2.840.10008 has none."""
    *folders, name = _path(film)
    return (*folders, _EXTENSION.sub("", name))


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
    answered = (counts < missing.shape[1])[:, None]  # the others are lost to no one column
    holes = np.hstack([missing & answered, (values.truths[there] < 0) & answered])
    notes += _costly(ours, theirs, values.labels, holes)
    whole = scored & (unknown.sum(axis=1) == 0)
    if not whole.any():
        raise DataError(f"No film is left to evaluate. {' '.join(notes)}")
    if not whole.all():
        notes.append(
            f"What is left, {whole.sum():,} of {whole.size:,} films, is a selected sample: its "
            "numbers need not hold for all of them."
        )
    return [pairs[k] for k in np.flatnonzero(whole).tolist()], notes


def _costly(ours: Sheet, theirs: Sheet, labels: Sequence[Label], holes: NDArray[np.bool_]) -> Notes:
    """Name the columns that cost most films; holes (N, 2K) are of scores, then of truths."""
    columns = [f"'{label.score}' of '{ours.name}'" for label in labels]
    columns += [f"'{label.truth}' of '{theirs.name}'" for label in labels]
    # The findings of the NIH are one column for all labels.
    films: dict[str, NDArray[np.bool_]] = {}
    for column, lost in zip(columns, holes.T, strict=True):
        films[column] = films.get(column, False) | lost
    costs = {column: int(lost.sum()) for column, lost in films.items() if lost.any()}
    ranked = sorted(costs, key=lambda column: -costs[column])
    told = some(f"{column} ({costs[column]:,})" for column in ranked)
    return [f"Cells that are blank or cannot be read cost most films in {told}."] if told else []


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
