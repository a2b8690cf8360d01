"""What a run has answered so far, on disk: a killed run goes on where it was.

    OUT.parquet.parts/films.jsonl           every film, one JSON string a line, in order
                      job.json              what is asked; written once the list is whole
                      part-0000000.parquet  the answers on the first PART films; and so on

Films are listed once: those that come or go meanwhile change nothing. A part is written
aside, brought to the disk and renamed, so that it is there as a whole or not at all. At the
end all parts become OUT.parquet, and the folder goes. Neither the list nor the answers are
ever in memory as a whole.
"""

import errno
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cxr_core.datasets.partial import lock
from cxr_core.errors import ArgumentError, CxrError, DataError
from cxr_core.screening.table import COMPRESSION

T = TypeVar("T")

# Films in a part: a kill costs at most the work on so many. Parts in a row group of the result.
PART, PARTS_IN_A_GROUP = 256, 64
LIST, JOB, ASIDE = "films.jsonl", "job.json", "aside"
_PART = re.compile(r"part-(\d{7,})\.parquet")


@dataclass(frozen=True)
class Summary:
    """What became of the films of an archive, in numbers.

    Attributes:
        films: All of them.
        answered: Those the model spoke about.
        flagged: Those with at least one flag.
        refused: Those the gate refused.
        unread: Those that cannot be read.
        duplicates: Those of which another came before, byte by byte the same.
    """

    films: int = 0
    answered: int = 0
    flagged: int = 0
    refused: int = 0
    unread: int = 0
    duplicates: int = 0

    def __add__(self, other: Self) -> "Summary":
        """Add up two parts of an archive."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Summary(*(one + another for one, another in pairs))


class Parts:
    """The folder beside a result; locked until the block of `opened` ends.

    Attributes:
        films: How many there are.
        done: How many are answered.
    """

    def __init__(self, output: Path, folder: Path, films: int) -> None:
        """Find out what is there."""
        self._output, self._folder, self.films = output, folder, films
        self._kept = {int(match[1]) for match in map(_PART.fullmatch, _names(folder)) if match}
        self.done = sum(self._size(number) for number in self._kept)

    def to_do(self) -> Iterator[tuple[int, list[str]]]:
        """Go through the parts that are missing: number and films of each."""
        with (self._folder / LIST).open(encoding="utf-8") as lines:
            for number, part in enumerate(batches(lines, PART)):
                if number not in self._kept:
                    yield number, [json.loads(line) for line in part]

    def keep(self, number: int, content: bytes) -> None:
        """Write one part.

        Raises:
            DataError: When the disk is full or gone.
        """
        with _writing(self._folder):
            _put(self._folder / _name(number), content)
        self._kept.add(number)
        self.done += self._size(number)

    def merge(self) -> Summary:
        """Make the result of all parts, tell duplicates, and remove the folder.

        Raises:
            DataError: When the disk is full or gone.
        """
        aside, total = self._folder / ASIDE, Summary()
        numbers = range(-(-self.films // PART))
        first = pq.read_schema(self._folder / _name(0))
        schema = first.append(pa.field("duplicate_of", pa.string()))
        with _writing(self._folder), closing(_seen()) as seen:
            with pq.ParquetWriter(aside, schema, compression=COMPRESSION) as writer:
                for group in batches(numbers, PARTS_IN_A_GROUP):
                    parts = [pq.read_table(self._folder / _name(number)) for number in group]
                    table = _with_duplicates(pa.concat_tables(parts), seen)
                    writer.write_table(table)
                    total += _summary(table)
            _to_disk(aside)
            aside.replace(self._output)
            (self._folder / JOB).unlink()  # first: from now on the rest is rubbish
            _clear(self._folder)
        return total

    def _size(self, number: int) -> int:
        return min(PART, self.films - number * PART)


@contextmanager
def opened(output: Path, job: dict[str, Any], films: Iterable[str]) -> Iterator[Parts]:
    """Begin a result, or take up what a stopped run has left of the same.

    Args:
        output: The result, which must not exist yet.
        job: What is asked, as JSON.
        films: Listed only at the beginning.

    Raises:
        ArgumentError: When the result exists already, its folder cannot be written, another
            run is at work there, or something else was asked of the stopped one.
        DataError: When the disk is full or gone.
    """
    folder = output.with_name(f"{output.name}.parts")
    if output.exists() and not (folder / JOB).exists():
        _clear(folder)
        raise ArgumentError(f"'{output}' exists already; remove it, or name another file.")
    try:
        folder.mkdir(exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ArgumentError(
            f"'{output}' cannot be written ({error.strerror}); name a file in a folder that exists."
        ) from error
    try:
        if not lock(held):
            raise ArgumentError(
                f"Another run is filling '{folder}', or its disk knows no locks: wait for that "
                "run, or name a file on another disk."
            )
        yield Parts(output, folder, _begun(folder, job, films))
    finally:
        os.close(held)


def _begun(folder: Path, job: dict[str, Any], films: Iterable[str]) -> int:
    """List the films unless a stopped run of the same job has; return how many there are."""
    if (folder / JOB).exists():
        held = json.loads((folder / JOB).read_text("utf-8"))
        count: int = held.pop("listed")
        differ = [name for name in job if job[name] != held.get(name)]
        if differ:
            was, came = ({name: asked.get(name) for name in differ} for asked in (held, job))
            raise ArgumentError(
                f"'{folder}' holds the beginning of another job: {was} there, {came} now. Ask for "
                "the same to go on with it, remove that folder, or name another file."
            )
        return count
    try:
        with _writing(folder):
            count = _list(folder, films)
            _put(folder / JOB, json.dumps(job | {"listed": count}).encode())
    except CxrError:
        _clear(folder)
        raise
    return count


def _list(folder: Path, films: Iterable[str]) -> int:
    """Write the list of films, which are at least one; return how many."""
    with (folder / LIST).open("w", encoding="utf-8") as lines:
        count = sum(bool(lines.write(f"{json.dumps(film)}\n")) for film in films)
    if not count:
        raise ArgumentError("What was asked for holds no films; check the list, or the folder.")
    _to_disk(folder / LIST)
    return count


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in a sentence why the folder of parts cannot be written.

    Raises:
        DataError: Instead of any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "Free some room" if full else "Mend that"
        raise DataError(
            f"'{folder}' cannot be written ({error.strerror}). {mend}, and run the same command "
            "again: it goes on where it was."
        ) from error


def _put(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    aside = path.with_name(ASIDE)
    aside.write_bytes(content)
    _to_disk(aside)
    aside.replace(path)


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _clear(folder: Path) -> None:
    """Remove what we have written in a folder, and the folder if nothing else is in it."""
    for name in _names(folder):
        if name in (LIST, ASIDE) or _PART.fullmatch(name):
            (folder / name).unlink()
    if folder.is_dir() and not _names(folder):
        folder.rmdir()


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _name(number: int) -> str:
    return f"part-{number:07}.parquet"


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut anything into lists of `size`; the last may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


# --- duplicates ---


def _seen() -> sqlite3.Connection:
    """Open a table of films by digest, on disk so that millions fit, and gone when closed."""
    seen = sqlite3.connect("")
    seen.execute("CREATE TABLE film (digest BLOB PRIMARY KEY, file TEXT) WITHOUT ROWID")
    return seen


def _with_duplicates(table: pa.Table, seen: sqlite3.Connection) -> pa.Table:
    """Append the column that names, for each film, the first file with the same bytes."""
    pairs = zip(table["file"].to_pylist(), table["digest"].to_pylist(), strict=True)
    firsts = [_first(seen, file, digest) if digest else None for file, digest in pairs]
    return table.append_column("duplicate_of", pa.array(firsts, pa.string()))


def _first(seen: sqlite3.Connection, file: str, digest: str) -> str | None:
    key = bytes.fromhex(digest)
    if seen.execute("INSERT OR IGNORE INTO film VALUES (?, ?)", (key, file)).rowcount:
        return None
    first: str = seen.execute("SELECT file FROM film WHERE digest = ?", (key,)).fetchone()[0]
    return first


def _summary(table: pa.Table) -> Summary:
    """Count what became of the films of a table."""
    probability, *_ = (name for name in table.column_names if name.startswith("probability_"))
    flags = (table[name] for name in table.column_names if name.startswith("flag_"))
    films, read = len(table), pc.sum(table["ok"]).as_py() or 0
    answered = films - table[probability].null_count
    return Summary(
        films=films,
        answered=answered,
        flagged=pc.sum(reduce(pc.or_, flags)).as_py() or 0,
        refused=read - answered,
        unread=films - read,
        duplicates=films - table["duplicate_of"].null_count,
    )
