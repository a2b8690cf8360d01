"""The journal itself: what is added, asked for, exported and forgotten."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sql

from cxr_core.errors import RecordsError
from cxr_core.records import films, tables
from cxr_core.records.database import connected
from cxr_core.records.entries import Event, Opinion, Read
from cxr_core.records.settings import (
    ENVIRONMENT,
    OFF,
    check_days,
    days_wanted,
    default_url,
    names_wanted,
)
from cxr_core.records.tables import ERASURES, EVENTS, HELD, OPINIONS, READS, SCHEMA

MOST_NAMED = 500  # films in one question: databases bound the values of a statement
# What puts a film on the worklist, and what takes it off.
ON_LIST = ("listed", "failed", "removed")
Entry = TypeVar("Entry", Read, Opinion, Event)
TABLE_OF = {Read: READS, Opinion: OPINIONS, Event: EVENTS}
# What a table of answers says of each finding.
ANSWERED = ("label", "probability", "operating_point", "flag", "cannot_tell")


class Records:
    """The journal of a site; may be shared by threads.

    Args:
        url: Of the database; by default what CXR_RECORDS says, else a file of the user's.
    """

    def __init__(self, url: str | None = None) -> None:
        """Open the journal, and bring it to this version.

        Raises:
            RecordsError: When it cannot be opened, or a newer version wrote it.
        """
        self.url = url or default_url()
        self._engine = connected(self.url)
        with self._writing("opened") as connection:
            if connection.dialect.name == "postgresql":  # two servers may start at once
                connection.execute(sql.text("SELECT pg_advisory_xact_lock(20261121)"))
            found, known = tables.version(connection), len(tables.MIGRATIONS)
            if found > known:
                raise RecordsError(
                    f"The records at {self} are of version {found}; this program knows up to "
                    f"{known}. Use a newer program, or other records ({ENVIRONMENT})."
                )
            for migrate in tables.MIGRATIONS[found:]:
                migrate(connection)
            if found < known:
                connection.execute(SCHEMA.delete())
                connection.execute(SCHEMA.insert().values(version=known))

    def __str__(self) -> str:
        """Say where the journal is, without a password."""
        return self._engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def add(self, *entries: Read | Opinion | Event) -> None:
        """Keep entries, all or none; they are safe on disk when this returns.

        Raises:
            RecordsError: When they cannot be kept; nothing of them is.
        """
        now = _now()
        with self._writing("written") as connection:
            for entry in entries:
                row = asdict(entry) | {"at": now}
                if isinstance(entry, Event):
                    row["name"] = _storable(entry.name) if names_wanted() else ""
                connection.execute(TABLE_OF[type(entry)].insert().values(**row))

    def reads(self, digest: str | None = None) -> list[Read]:
        """Return what the models answered, oldest first; on one film, or on all.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        return [_entry(Read, row) for row in self._rows(READS, digest)]

    def opinions(self, digest: str | None = None, *, model: str | None = None) -> list[Opinion]:
        """Return what readers said, oldest first; of one film or model, or of all.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        rows = self._rows(OPINIONS, digest)
        return [_entry(Opinion, row) for row in rows if model in (None, row["model"])]

    def events(self, digest: str | None = None) -> list[Event]:
        """Return what happened to one film, or to all, oldest first.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        return [_entry(Event, row) for row in self._rows(EVENTS, digest)]

    def listed(self, most: int, days: float | None = None) -> list[Event]:
        """Return the newest films of the worklist, in order of arrival: how each came last.

        The journal is read backwards until there are enough, however long it is.

        Args:
            most: Films.
            days: Within which they came; None for ever.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        came = _standing()
        if days is not None:
            came &= EVENTS.c.at >= _now(-timedelta(days=days))
        newest = sql.select(EVENTS).where(came).order_by(EVENTS.c.at.desc(), EVENTS.c.id.desc())
        found = self._asked(newest.limit(most))
        return [_entry(Event, row) for row in sorted(found, key=lambda row: row["id"])]

    def cleared(self) -> frozenset[str]:
        """Return the films that were taken off the worklist and did not come again, by digest.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        gone = sql.select(EVENTS.c.digest).where(_last_of_list("removed"))
        return frozenset(row["digest"] for row in self._asked(gone))

    def standing(self) -> int:
        """Count the films of the worklist, however old; reads the whole of its events.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        counted = sql.select(sql.func.count().label("films")).select_from(EVENTS)
        return int(self._asked(counted.where(_standing()))[0]["films"])

    def looked_at(self, digests: Iterable[str]) -> dict[str, str]:
        """Return when each of some films was last put before a reader, by digest.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        found = self._last(EVENTS, EVENTS.c.what == "shown", digests)
        return {row["digest"]: row["at"] for row in found}

    def latest(self, model: str, version: str, digests: Iterable[str]) -> dict[str, Read]:
        """Return what a model last answered on each of some films as it came, by digest.

        An answer to a film that the reader had mended, or for an age that he stated, or of which
        nobody knows, is no answer to the film as it came.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        as_it_came = (READS.c.mended == "") & (READS.c.stated == "")
        spoken = (READS.c.model == model) & (READS.c.version == version) & as_it_came
        return {row["digest"]: _entry(Read, row) for row in self._last(READS, spoken, digests)}

    def remarks(self, model: str) -> list[tuple[str, str | None, bool]]:
        """Return what readers said of a model's test films: film, verdict, whether a comment.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        table = OPINIONS.c
        query = sql.select(table.test_film, table.verdict, table.comment != "").where(
            table.model == model, table.test_film != ""
        )
        with self._told("read"), self._engine.connect() as connection:
            reading = connection.execution_options(reading=True)
            return [(film, verdict, bool(said)) for film, verdict, said in reading.execute(query)]

    def export(self, digest: str | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return all that is held of one film, or of all, as plain JSON values.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        return {
            "reads": [asdict(one) for one in self.reads(digest)],
            "opinions": [asdict(one) for one in self.opinions(digest)],
            "events": [asdict(one) for one in self.events(digest)],
        }

    def opinions_csv(self) -> str:
        """Return every opinion as a table, a line each, to be opened in a spreadsheet.

        An opinion from before the model's answer comes with the times at which the film was
        shown and the answer revealed to its reader.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        times = _Moments(self.events())
        rows = [asdict(one) | times.around(one) for one in self.opinions()]
        return _csv([*(one.name for one in fields(Opinion)), "shown", "revealed"], rows)

    def reads_csv(self) -> str:
        """Return every answer as a table, a line for each finding; one for a refused film.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        columns = [one.name for one in fields(Read) if one.name != "predictions"]
        rows = [
            asdict(read) | {"gate": read.gate.get("verdict", "")} | dict(answer)
            for read in self.reads()
            for answer in read.predictions or ({},)
        ]
        return _csv([*columns, *ANSWERED], rows)

    def erase(self, digest: str) -> int:
        """Forget one film, its stored picture first; return how many rows went.

        Raises:
            RecordsError: When that cannot be done; no row is forgotten then, ask again.
        """
        films.forget(digest)
        return self._forget("asked for", lambda table: table.c.digest == digest)

    def retain(self, days: float) -> int:
        """Forget what is older than the site keeps; return how many rows went.

        Raises:
            ArgumentError: On a negative number of days.
            RecordsError: When that cannot be done; no row is forgotten then.
        """
        check_days(days)
        films.forget_older(days)
        oldest = _now(-timedelta(days=days))
        return self._forget("retention", lambda table: table.c.at < oldest)

    def retain_as_told(self) -> int:
        """Forget what is older than CXR_RECORDS_DAYS says; everything stays when it says nothing.

        Raises:
            ArgumentError: When it is no number of days.
            RecordsError: As `retain`.
        """
        days = days_wanted()
        return 0 if days is None else self.retain(days)

    def _forget(self, reason: str, which: Callable[[sql.Table], Any]) -> int:
        with self._writing("erased") as connection:
            gone = sum(
                connection.execute(table.delete().where(which(table))).rowcount for table in HELD
            )
            if gone:
                row = {"at": _now(), "reason": reason, "rows": gone}
                connection.execute(ERASURES.insert().values(**row))
        if gone and self._engine.dialect.name == "sqlite":
            # What was erased would stay readable in the log of writes until that is folded in.
            with self._told("erased"), closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def _rows(self, table: sql.Table, digest: str | None) -> list[Mapping[str, Any]]:
        query = sql.select(table)
        if digest is not None:
            query = query.where(table.c.digest == digest)
        return self._asked(query.order_by(table.c.id))

    def _last(
        self, table: sql.Table, which: sql.ColumnElement[bool], digests: Iterable[str]
    ) -> Iterator[Mapping[str, Any]]:
        """Go through the last row of each of some films, among those that are meant."""
        for some in _batches(digests):
            of_these = which & table.c.digest.in_(some)
            last = sql.select(sql.func.max(table.c.id)).where(of_these).group_by(table.c.digest)
            yield from self._asked(sql.select(table).where(table.c.id.in_(last)))

    def _asked(self, query: sql.Select[Any]) -> list[Mapping[str, Any]]:
        with self._told("read"), self._engine.connect() as connection:
            reading = connection.execution_options(reading=True)
            return [dict(row) for row in reading.execute(query).mappings()]

    @contextmanager
    def _writing(self, done: str) -> Iterator[sql.Connection]:
        with self._told(done), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        """Turn what the database says into a sentence.

        Raises:
            RecordsError: Instead of any error of the database.
        """
        try:
            yield
        except sql.exc.SQLAlchemyError as error:
            why = str(getattr(error, "orig", None) or error).strip().splitlines()[0].rstrip(".")
            raise RecordsError(
                f"The records at {self} cannot be {done}: {why}. Make room or set {ENVIRONMENT} "
                f'to another database ("{OFF}" keeps none); films can be read meanwhile.'
            ) from error


def _standing() -> sql.ColumnElement[bool]:
    """Select the event by which each film of the worklist came last, unless it left since."""
    return _last_of_list(*ON_LIST[:2])


def _last_of_list(*kinds: str) -> sql.ColumnElement[bool]:
    """Select events of some kinds after which the same film neither came to the list nor left.

    Row by row, so that a reader of the newest few need not look at the rest.
    """
    later = EVENTS.alias()
    since = (later.c.digest == EVENTS.c.digest) & (later.c.id > EVENTS.c.id)
    replaced = sql.exists().where(since & later.c.what.in_(ON_LIST))
    return EVENTS.c.what.in_(kinds) & ~replaced


def _batches(digests: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Part digests into as many as one question may name."""
    left = iter(digests)
    while some := tuple(islice(left, MOST_NAMED)):
        yield some


def _entry(kind: type[Entry], row: Mapping[str, Any]) -> Entry:
    return kind(**{name: value for name, value in row.items() if name != "id"})


def _storable(name: str) -> str:
    """Return the name of a file as a database takes it, whatever bytes the disk has for it."""
    return name.encode("utf-8", "replace").decode()


def _now(shift: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) + shift).isoformat(timespec="milliseconds")


class _Moments:
    """When films were shown, and answers revealed."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._times: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for one in events:
            self._times[one.what, *_asked(one)].append(one.at)

    def around(self, said: Opinion) -> dict[str, str]:
        """Return the last showing before an opinion and the first revelation after it."""
        if not said.before:
            return {"shown": "", "revealed": ""}
        asked = _asked(said)
        shown = [at for at in self._times["shown", *asked] if at <= said.at]
        revealed = [at for at in self._times["revealed", *asked] if at >= said.at]
        return {"shown": max(shown, default=""), "revealed": min(revealed, default="")}


def _asked(one: Event | Opinion) -> tuple[str, ...]:
    """Name the question: which reader, which film, which model."""
    return one.reader, one.digest, one.model, one.version


def _csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Write a cell so that a spreadsheet never takes a comment for a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        return f"'{value}"
    return json.dumps(value) if isinstance(value, dict | list) else value
