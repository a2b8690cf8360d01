"""What was read, what the models answered, and what the reader made of it: a journal.

Rows are only ever added: a trigger of the database refuses to change one. They leave by the
retention time of the site (CXR_RECORDS_DAYS, looked at when the journal is opened), or when
somebody asks that a film be forgotten (`python -m cxr_core records erase`), and then the
journal says so. It holds digests of files, never a film, a name, an age or an identifier;
a comment is what the reader wrote, and test films go by the names of the model's own record.

SQLite in one file by default, or any database that SQLAlchemy knows, by its URL in
CXR_RECORDS ("off" keeps nothing). A write is committed before the call returns, so that a
crash loses nothing that was reported as kept; several processes may write at once.
"""

import csv
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any, Literal, TypeVar

import sqlalchemy as sql
from sqlalchemy import event

from cxr_core.errors import ArgumentError, RecordsError

ENVIRONMENT, DAYS, OFF = "CXR_RECORDS", "CXR_RECORDS_DAYS", "off"
WAIT_SECONDS = 10  # for another process to finish its write
MOST_CHARACTERS = 4000  # of a comment
MOST_DAYS = 36_525  # a hundred years
Stance = Literal["present", "absent", "unsure"]
Verdict = Literal["agree", "disagree", "changed my mind"]
STANCES: tuple[Stance, ...] = ("present", "absent", "unsure")
VERDICTS: tuple[Verdict, ...] = ("agree", "disagree", "changed my mind")
CONFIDENCES = range(1, 6)


@dataclass(frozen=True, kw_only=True)
class Read:
    """One answer of one model on one film.

    Attributes:
        digest: SHA-256 of the film's file, in hexadecimal.
        model: Its name.
        version: Its version.
        gate: The gate's report, as `predict --json` prints it, without the patient's age.
        predictions: The answers, as `predict --json` prints them; empty when refused.
        mended: What the reader had undone of the film (turned, inverted), in words.
        reader: Who sat before the screen, as the site names readers; "" when unknown.
        at: When, UTC, ISO 8601; filled in on writing.
    """

    digest: str
    model: str
    version: str
    gate: Mapping[str, Any]
    predictions: Sequence[Mapping[str, Any]]
    mended: str = ""
    reader: str = ""
    at: str = ""


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a reader said of one finding on one film.

    Attributes:
        digest: Of the film.
        label: The finding, as the model names it.
        stance: "present", "absent" or "unsure"; None when not said.
        confidence: 1 (a guess) to 5 (certain); None when not said.
        before: Whether it was said before the model's answer was shown.
        model: Whose answer was, or was about to be, on screen.
        version: Of that model.
        probability: What the model said; None when it was refused.
        flag: Whether it flagged.
        verdict: "agree", "disagree" or "changed my mind"; None when not said.
        comment: In the reader's words.
        test_film: The film's name in the model's own test record; "" for any other film.
        reader: As in `Read`.
        at: When, UTC, ISO 8601; filled in on writing.
    """

    digest: str
    label: str
    stance: Stance | None = None
    confidence: int | None = None
    before: bool = False
    model: str = ""
    version: str = ""
    probability: float | None = None
    flag: bool | None = None
    verdict: Verdict | None = None
    comment: str = ""
    test_film: str = ""
    reader: str = ""
    at: str = ""

    def __post_init__(self) -> None:
        """Refuse what nobody could have said.

        Raises:
            ArgumentError: On a stance, verdict or confidence that is not one, or a comment
                that is too long.
        """
        for name, allowed in (("stance", STANCES), ("verdict", VERDICTS)):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ArgumentError(f"{name} must be one of {', '.join(allowed)}: '{value}' came.")
        if self.confidence is not None and self.confidence not in CONFIDENCES:
            raise ArgumentError(f"confidence must be 1 to 5, but {self.confidence} came.")
        if len(self.comment) > MOST_CHARACTERS:
            raise ArgumentError(
                f"A comment has at most {MOST_CHARACTERS:,} characters; this one has "
                f"{len(self.comment):,}. Shorten it."
            )


Entry = TypeVar("Entry", Read, Opinion)

_TABLES = sql.MetaData()
_SCHEMA = sql.Table("schema", _TABLES, sql.Column("version", sql.Integer, primary_key=True))
_READS = sql.Table(
    "reads",
    _TABLES,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("at", sql.String(32), nullable=False, index=True),
    sql.Column("digest", sql.String(64), nullable=False, index=True),
    sql.Column("model", sql.String(200), nullable=False),
    sql.Column("version", sql.String(100), nullable=False),
    sql.Column("gate", sql.JSON, nullable=False),
    sql.Column("predictions", sql.JSON, nullable=False),
    sql.Column("mended", sql.String(1000), nullable=False),
    sql.Column("reader", sql.String(200), nullable=False),
)
_OPINIONS = sql.Table(
    "opinions",
    _TABLES,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("at", sql.String(32), nullable=False, index=True),
    sql.Column("digest", sql.String(64), nullable=False, index=True),
    sql.Column("label", sql.String(200), nullable=False),
    sql.Column("stance", sql.String(20)),
    sql.Column("confidence", sql.Integer),
    sql.Column("before", sql.Boolean, nullable=False),
    sql.Column("model", sql.String(200), nullable=False),
    sql.Column("version", sql.String(100), nullable=False),
    sql.Column("probability", sql.Float),
    sql.Column("flag", sql.Boolean),
    sql.Column("verdict", sql.String(20)),
    sql.Column("comment", sql.Text, nullable=False),
    sql.Column("test_film", sql.String(1000), nullable=False),
    sql.Column("reader", sql.String(200), nullable=False),
)
# That rows were forgotten, how many and why; not which.
_ERASURES = sql.Table(
    "erasures",
    _TABLES,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("at", sql.String(32), nullable=False),
    sql.Column("reason", sql.String(40), nullable=False),
    sql.Column("rows", sql.Integer, nullable=False),
)
_HELD = (_READS, _OPINIONS)


def _create(connection: sql.Connection) -> None:
    """Make the tables of version 1, and the triggers that refuse to change a row."""
    _TABLES.create_all(connection)
    for table in (*_HELD, _ERASURES):
        for statement in _refusal(table.name, connection.dialect.name):
            connection.execute(sql.text(statement))


def _refusal(table: str, dialect: str) -> tuple[str, ...]:
    told = "this journal is only added to"
    if dialect == "sqlite":
        return (
            f"CREATE TRIGGER {table}_stay BEFORE UPDATE ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{told}'); END",
        )
    if dialect == "postgresql":
        return (
            "CREATE OR REPLACE FUNCTION cxr_stay() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{told}'; END $$",
            f"CREATE TRIGGER {table}_stay BEFORE UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION cxr_stay()",
        )
    return ()  # other databases are kept from it by their own grants


# What brings a database from each version to the next, in order: never changed, only added to.
MIGRATIONS: tuple[Callable[[sql.Connection], None], ...] = (_create,)


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
        self._engine = _engine(self.url)
        with self._writing("opened") as connection:
            if connection.dialect.name == "postgresql":  # two servers may start at once
                connection.execute(sql.text("SELECT pg_advisory_xact_lock(20261121)"))
            found = _version(connection)
            if found > len(MIGRATIONS):
                raise RecordsError(
                    f"The records at {self} are of version {found}; this program knows up to "
                    f"{len(MIGRATIONS)}. Use a newer program, or other records ({ENVIRONMENT})."
                )
            for migrate in MIGRATIONS[found:]:
                migrate(connection)
            if found < len(MIGRATIONS):
                connection.execute(_SCHEMA.delete())
                connection.execute(_SCHEMA.insert().values(version=len(MIGRATIONS)))

    def __str__(self) -> str:
        """Say where the journal is, without a password."""
        return self._engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def add(self, *entries: Read | Opinion) -> None:
        """Keep entries, all or none; they are safe on disk when this returns.

        Raises:
            RecordsError: When they cannot be kept; nothing of them is.
        """
        now = _now()
        with self._writing("written") as connection:
            for entry in entries:
                table = _READS if isinstance(entry, Read) else _OPINIONS
                connection.execute(table.insert().values(**asdict(entry) | {"at": now}))

    def reads(self, digest: str | None = None) -> list[Read]:
        """Return what the models answered, oldest first; on one film, or on all.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        return [_entry(Read, row) for row in self._rows(_READS, digest)]

    def opinions(self, digest: str | None = None, *, model: str | None = None) -> list[Opinion]:
        """Return what readers said, oldest first; of one film or model, or of all.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        rows = self._rows(_OPINIONS, digest)
        return [_entry(Opinion, row) for row in rows if model in (None, row["model"])]

    def remarks(self, model: str) -> list[tuple[str, str | None, bool]]:
        """Return what readers said of a model's test films: film, verdict, whether a comment.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        table = _OPINIONS.c
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
        }

    def opinions_csv(self) -> str:
        """Return every opinion as a table, a line each, to be opened in a spreadsheet.

        Raises:
            RecordsError: When the journal cannot be read.
        """
        text = StringIO()
        writer = csv.DictWriter(text, [one.name for one in fields(Opinion)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in asdict(one).items()} for one in self.opinions())
        return text.getvalue()

    def erase(self, digest: str) -> int:
        """Forget one film; return how many rows went.

        Raises:
            RecordsError: When that cannot be done; nothing is forgotten then.
        """
        return self._forget("asked for", lambda table: table.c.digest == digest)

    def retain(self, days: float) -> int:
        """Forget what is older than the site keeps; return how many rows went.

        Raises:
            ArgumentError: On a negative number of days.
            RecordsError: When that cannot be done; nothing is forgotten then.
        """
        if not 0 <= days <= MOST_DAYS:
            raise ArgumentError(f"Records are kept for 0 to {MOST_DAYS:,} days, but {days} came.")
        oldest = _now(-timedelta(days=days))
        return self._forget("retention", lambda table: table.c.at < oldest)

    def retain_as_told(self) -> int:
        """Forget what is older than CXR_RECORDS_DAYS says; everything stays when it says nothing.

        Raises:
            ArgumentError: When it is no number of days.
            RecordsError: As `retain`.
        """
        told = os.environ.get(DAYS, "")
        if not told:
            return 0
        try:
            days = float(told)
        except ValueError:
            days = float("nan")
        return self.retain(days)

    def _forget(self, reason: str, which: Callable[[sql.Table], Any]) -> int:
        with self._writing("erased") as connection:
            gone = sum(
                connection.execute(table.delete().where(which(table))).rowcount for table in _HELD
            )
            if gone:
                row = {"at": _now(), "reason": reason, "rows": gone}
                connection.execute(_ERASURES.insert().values(**row))
        if gone and self._engine.dialect.name == "sqlite":
            # What was erased would stay readable in the log of writes until that is folded in.
            with self._told("erased"), closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def _rows(self, table: sql.Table, digest: str | None) -> list[Mapping[str, Any]]:
        query = sql.select(table).order_by(table.c.id)
        if digest is not None:
            query = query.where(table.c.digest == digest)
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


def default_url() -> str:
    """Return where records are kept: as CXR_RECORDS says, else in the user's data folder."""
    told = os.environ.get(ENVIRONMENT, "")
    if told and told != OFF:
        return told
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return f"sqlite:///{home / 'cxr_core' / 'records.sqlite'}"


def wanted() -> bool:
    """Say whether the site keeps records at all."""
    return os.environ.get(ENVIRONMENT, "") != OFF


def _engine(url: str) -> sql.Engine:
    """Prepare to connect; a SQLite file finds its folder made.

    Raises:
        RecordsError: When the URL is none, its driver is missing, or the folder cannot be made.
    """
    try:
        parsed = sql.make_url(url)
        if parsed.drivername.startswith("sqlite") and parsed.database:
            Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = sql.create_engine(parsed, pool_pre_ping=True)
    except (sql.exc.SQLAlchemyError, ImportError, OSError) as error:
        raise RecordsError(
            f"Records cannot be kept as {ENVIRONMENT} says: {error}. Give the URL of a database, "
            "such as sqlite:////var/lib/cxr/records.sqlite."
        ) from error
    if parsed.drivername.startswith("sqlite"):
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Let readers go on during a write; a commit is on disk before it returns."""
    connection.isolation_level = None  # we begin our own transactions
    wanted = (f"busy_timeout = {1000 * WAIT_SECONDS}", "synchronous = FULL", "secure_delete = ON")
    for pragma in wanted:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    end = time.monotonic() + WAIT_SECONDS
    while True:  # two that open a new file at once both change its mode: SQLite does not wait there
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: sql.Connection) -> None:
    """Wait for another writer at once: one that began by reading could not, and would fail."""
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _version(connection: sql.Connection) -> int:
    if not sql.inspect(connection).has_table(_SCHEMA.name):
        return 0
    return int(connection.execute(sql.select(_SCHEMA.c.version)).scalar_one())


def _entry(kind: type[Entry], row: Mapping[str, Any]) -> Entry:
    return kind(**{name: value for name, value in row.items() if name != "id"})


def _now(shift: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) + shift).isoformat(timespec="milliseconds")


def _cell(value: Any) -> Any:
    """Write a cell so that a spreadsheet never takes a comment for a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        return f"'{value}"
    return json.dumps(value) if isinstance(value, dict | list) else value
