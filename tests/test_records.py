"""The journal: what is kept, who can change it (nobody), what a crash may take (nothing)."""

import getpass
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from glob import glob
from pathlib import Path
from pwd import getpwnam
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sql

from cxr_core import records as journal
from cxr_core.__main__ import main
from cxr_core.errors import ArgumentError, RecordsError
from cxr_core.records import Opinion, Read, Records

ROOT = Path(__file__).resolve().parents[1]
FILM, OTHER = "a" * 64, "b" * 64


def a_read(digest: str = FILM, **changes: object) -> Read:
    values = {
        "digest": digest,
        "model": "pediatric-pneumonia",
        "version": "1",
        "gate": {"verdict": "ok", "checks": []},
        "predictions": [{"label": "Pneumonia", "probability": 0.91, "flag": True}],
    }
    return Read(**(values | changes))  # type: ignore[arg-type]


def an_opinion(digest: str = FILM, **changes: object) -> Opinion:
    values = {"digest": digest, "label": "Pneumonia", "stance": "absent", "comment": "rib"}
    return Opinion(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'kept' / 'records.sqlite'}"


def test_what_was_added_comes_back_with_its_time(place):
    records = Records(place)
    opinion = an_opinion(confidence=4, before=True, verdict="disagree", probability=0.91, flag=True)
    records.add(a_read(), opinion)
    records.close()
    again = Records(place)
    (read,), (said,) = again.reads(), again.opinions()
    assert read.at == said.at and datetime.fromisoformat(read.at).tzinfo is not None
    assert read == a_read(at=read.at)
    assert (said.stance, said.confidence, said.before, said.verdict) == (
        "absent", 4, True, "disagree"
    )  # fmt: skip
    assert (said.comment, said.probability, said.flag) == ("rib", 0.91, True)


def test_films_and_models_are_told_apart(place):
    records = Records(place)
    records.add(a_read(), a_read(OTHER), an_opinion(model="x"), an_opinion(OTHER, model="y"))
    assert [one.digest for one in records.reads(OTHER)] == [OTHER]
    assert [one.digest for one in records.opinions(model="x")] == [FILM]
    assert not records.opinions(FILM, model="y")


def test_a_row_can_not_be_changed_by_anybody(tmp_path, place):
    Records(place).add(a_read(), an_opinion())
    with sqlite3.connect(tmp_path / "kept" / "records.sqlite") as direct:
        for table in ("reads", "opinions"):
            with pytest.raises(sqlite3.IntegrityError, match="only added to"):
                direct.execute(f"UPDATE {table} SET model = 'better'")
    direct.close()


def test_entries_that_belong_together_are_kept_all_or_none(place):
    records = Records(place)
    with pytest.raises(RecordsError, match="cannot be written"):
        records.add(a_read(), a_read(gate={"verdict": object()}))
    assert records.reads() == []


def test_a_film_is_forgotten_when_asked_and_the_journal_says_that_something_was(place):
    records = Records(place)
    records.add(a_read(), an_opinion(), a_read(OTHER))
    assert records.erase(FILM) == 2
    assert records.erase(FILM) == 0
    assert records.export(FILM) == {"reads": [], "opinions": []}
    assert [one.digest for one in records.reads()] == [OTHER]
    with records._engine.connect() as connection:
        ((_, _, reason, rows),) = connection.execute(sql.text("SELECT * FROM erasures")).all()
    assert (reason, rows) == ("asked for", 2)


def test_old_rows_go_after_the_retention_time(place, monkeypatch):
    records = Records(place)
    records.add(a_read())
    monkeypatch.setattr(journal, "_now", lambda *shift: "2000-01-01T00:00:00.000+00:00")
    records.add(a_read(OTHER))
    monkeypatch.undo()
    assert records.retain(30) == 1
    assert [one.digest for one in records.reads()] == [FILM]
    with pytest.raises(ArgumentError, match="0 to 36,525 days"):
        records.retain(-1)


@pytest.mark.parametrize("days", [float("inf"), float("nan"), 1e12])
def test_days_that_are_none_are_a_sentence(place, days):
    with pytest.raises(ArgumentError, match="36,525"):
        Records(place).retain(days)


def test_the_site_says_how_long_rows_stay(place, monkeypatch):
    records = Records(place)
    monkeypatch.setattr(journal, "_now", lambda *shift: "2000-01-01T00:00:00.000+00:00")
    records.add(a_read())
    monkeypatch.undo()
    assert records.retain_as_told() == 0 and len(records.reads()) == 1
    monkeypatch.setenv("CXR_RECORDS_DAYS", "soon")
    with pytest.raises(ArgumentError, match="days"):
        records.retain_as_told()
    monkeypatch.setenv("CXR_RECORDS_DAYS", "365")
    assert records.retain_as_told() == 1


def test_what_was_erased_is_in_no_file_while_the_journal_is_open(place, tmp_path):
    records = Records(place)
    records.add(an_opinion(comment="UNMISTAKABLE"), an_opinion(OTHER))
    assert any(b"UNMISTAKABLE" in path.read_bytes() for path in (tmp_path / "kept").iterdir())
    records.erase(FILM)
    assert not any(b"UNMISTAKABLE" in path.read_bytes() for path in (tmp_path / "kept").iterdir())
    assert len(records.opinions()) == 1


def test_nobody_else_may_look_into_the_folder(place, tmp_path):
    Records(place)
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0


def test_the_command_takes_away_and_forgets(place, monkeypatch, capsys):
    monkeypatch.setenv("CXR_RECORDS", place)
    Records(place).add(a_read(), an_opinion())
    assert main(["records", "export"]) == 0
    assert json.loads(capsys.readouterr().out)["reads"][0]["digest"] == FILM
    assert main(["records", "opinions"]) == 0
    assert "rib" in capsys.readouterr().out
    assert main(["records", "erase"]) == 2
    assert "digest" in capsys.readouterr().err
    assert main(["records", "erase", FILM]) == 0
    assert capsys.readouterr().out == "2 rows forgotten.\n"
    monkeypatch.setenv("CXR_RECORDS", "off")
    assert main(["records", "export"]) == 2


def test_everything_leaves_as_json_and_as_a_table(place):
    records = Records(place)
    records.add(a_read(), an_opinion(comment="=cmd()"), an_opinion(comment='two "words", a comma'))
    whole = json.loads(json.dumps(records.export(), allow_nan=False))
    assert [len(whole[name]) for name in ("reads", "opinions")] == [1, 2]
    head, first, second = records.opinions_csv().splitlines()
    assert head.startswith("digest,label,stance,confidence,before")
    assert "'=cmd()" in first, "a spreadsheet would run it"
    assert '"two ""words"", a comma"' in second


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stance": "maybe"}, "present, absent, unsure"),
        ({"verdict": "yes"}, "agree, disagree, changed my mind"),
        ({"confidence": 0}, "1 to 5"),
        ({"confidence": 6}, "1 to 5"),
        ({"comment": "x" * 4001}, "4,001"),
    ],
)
def test_what_nobody_could_have_said_is_refused(changes, told):
    with pytest.raises(ArgumentError, match=told):
        an_opinion(**changes)


# --- where ---


def test_the_place_is_the_sites_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("CXR_RECORDS", "sqlite:///elsewhere.sqlite")
    assert journal.wanted() and journal.default_url() == "sqlite:///elsewhere.sqlite"
    monkeypatch.setenv("CXR_RECORDS", "off")
    assert not journal.wanted()
    monkeypatch.delenv("CXR_RECORDS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert journal.default_url() == f"sqlite:///{tmp_path}/cxr_core/records.sqlite"


def test_no_password_is_ever_told(place):
    records = Records(place)
    records._engine = sql.create_engine("sqlite:///file:x?password=secret&uri=true")
    records._engine.url = records._engine.url.set(username="me", password="secret")
    assert "secret" not in str(records).split("?")[0]


@pytest.mark.parametrize("url", ["nonsense", "nodatabase://here", "sqlite:////proc/no/x.sqlite"])
def test_a_place_that_is_none_is_a_sentence(url):
    with pytest.raises(RecordsError, match="CXR_RECORDS"):
        Records(url)


def test_records_of_a_newer_program_are_left_alone(place):
    records = Records(place)
    with records._engine.begin() as connection:
        connection.execute(sql.text("UPDATE schema SET version = 99"))
    with pytest.raises(RecordsError, match="version 99"):
        Records(place)


def test_an_older_database_is_brought_up_to_date(place, monkeypatch):
    Records(place).add(a_read())

    def add_column(connection):
        connection.execute(sql.text("ALTER TABLE reads ADD COLUMN room TEXT"))

    monkeypatch.setattr(journal, "MIGRATIONS", (*journal.MIGRATIONS, add_column))
    with Records(place)._engine.connect() as connection:
        assert connection.execute(sql.text("SELECT room FROM reads")).all() == [(None,)]
        assert connection.execute(sql.text("SELECT version FROM schema")).all() == [(2,)]


# --- what may go wrong ---

WRITER = """
import sys
from cxr_core.records import Read, Records
records = Records(sys.argv[1])
for k in range(int(sys.argv[2])):
    records.add(Read(digest=f"{sys.argv[3]}{k}", model="m", version="1", gate={}, predictions=[]))
    print(k, flush=True)
"""


def writer(place: str, number: int, name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, place, str(number), name]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}
    )


def test_two_processes_write_at_once(place):
    both = [writer(place, 40, name) for name in ("first", "second")]
    for each in both:
        each.communicate(timeout=120)
        assert each.returncode == 0
    assert len({one.digest for one in Records(place).reads()}) == 80


def test_threads_of_one_server_write_at_once(place):
    records = Records(place)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: records.add(a_read(f"{k:064d}")), range(60)))
    assert len(records.reads()) == 60


def test_a_killed_process_loses_nothing_that_it_said_was_kept(place):
    process = writer(place, 100_000, "k")
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(20)]
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    told = sum(bool(line.strip()) for line in said)
    kept = [one.digest for one in Records(place).reads()]
    assert kept == [f"k{k}" for k in range(len(kept))], "whole, and in order"
    assert told <= len(kept) <= told + 1


def test_a_full_disk_is_a_sentence_and_what_was_kept_stays(place):
    records = Records(place)
    records.add(a_read())
    sql.event.listen(
        records._engine,
        "connect",
        lambda connection, _: connection.execute("PRAGMA max_page_count = 1"),
    )
    records.close()  # the next connection finds no page left
    with pytest.raises(RecordsError, match=r"full.*Make room"):
        records.add(an_opinion(comment="x" * 4000), *(a_read("c" * 64) for _ in range(50)))
    assert [one.digest for one in Records(place).reads()] == [FILM]


def test_a_database_that_cannot_be_written_can_still_be_read(place, tmp_path):
    records = Records(place)
    records.add(a_read())
    sql.event.listen(
        records._engine,
        "connect",
        lambda connection, _: connection.execute("PRAGMA query_only = 1"),
    )
    records.close()
    assert len(records.reads()) == 1
    with pytest.raises(RecordsError, match=r"readonly|read-only"):
        records.add(a_read())


def test_no_film_is_held(place, tmp_path):
    """Only digests: nothing in the file is as large as the smallest film."""
    names = {column.name for table in journal._HELD for column in table.columns}
    assert not names & {"film", "pixels", "name", "patient", "file"}


# --- a database of its own ---


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL of this test's own, on a socket in a folder."""
    pytest.importorskip("psycopg")
    found = [Path(path) for path in sorted(glob("/usr/lib/postgresql/*/bin"))]
    if not found:
        pytest.skip("PostgreSQL is not installed")
    tools, root = found[-1], os.geteuid() == 0
    # It refuses to run as root.
    account = getpwnam("postgres" if root else getpass.getuser())
    with TemporaryDirectory(prefix="cxr-pg-") as folder:
        os.chown(folder, account.pw_uid, account.pw_gid)
        who = {"user": account.pw_uid, "group": account.pw_gid} if root else {}
        silent = {"check": True, "capture_output": True, "timeout": 120, "cwd": folder}
        data, log = f"{folder}/data", f"{folder}/log"
        subprocess.run(
            [tools / "initdb", "-D", data, "-A", "trust", "-U", "cxr", "-N"], **silent, **who
        )
        start = [tools / "pg_ctl", "-D", data, "-l", log, "-w", "-o", f"-k {folder} -h ''", "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, timeout=120, cwd=folder, **who)
        yield f"postgresql+psycopg://cxr@/postgres?host={folder}"
        subprocess.run([tools / "pg_ctl", "-D", data, "-m", "fast", "stop"], **silent, **who)


@pytest.mark.slow
def test_postgresql_keeps_them_as_well(postgresql):
    records = Records(postgresql)
    records.add(a_read(), an_opinion(confidence=2))

    def another_server(_: int) -> None:
        with closing(Records(postgresql)) as one:
            one.add(a_read(OTHER))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(another_server, range(8)))
    (read,), (said,) = records.reads(FILM), records.opinions(FILM)
    assert read == a_read(at=read.at) and said.confidence == 2
    with (
        pytest.raises(sql.exc.DBAPIError, match="only added to"),
        records._engine.begin() as connection,
    ):
        connection.execute(sql.text("UPDATE reads SET model = 'better'"))
    assert records.erase(OTHER) == 8
    assert len(records.reads()) == 1
    records.close()
