"""How a database is reached, so that nothing that was reported as kept is lost."""

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import event

from cxr_core.errors import RecordsError
from cxr_core.records.settings import ENVIRONMENT

WAIT_SECONDS = 10  # for another process to finish its write


def connected(url: str) -> sql.Engine:
    """Prepare to connect; a SQLite file finds its folder made.

    Raises:
        RecordsError: When the URL is none, its driver is missing, or the folder cannot be made.
    """
    try:
        parsed = sql.make_url(url)
        if parsed.drivername.startswith("sqlite") and parsed.database:
            Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = sql.create_engine(parsed, pool_pre_ping=True)
    except ValueError:  # it would quote what stands for a port, which may be a password
        raise RecordsError(
            f"Records cannot be kept as {ENVIRONMENT} says: it is no URL. Write @, : and / within "
            "a password as %40, %3A and %2F."
        ) from None
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
