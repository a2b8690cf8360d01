"""The journal: what is kept, who can change it (nobody), what a crash may take (nothing)."""

import csv
import errno
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
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from glob import glob
from pathlib import Path
from pwd import getpwnam
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import sqlalchemy as sql

from cxr_core.__main__ import main
from cxr_core.errors import ArgumentError, RecordsError
from cxr_core.images import Facts, Radiograph
from cxr_core.phantom import thorax
from cxr_core.records import Event, Opinion, Read, Records, films, journal, settings, tables

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
    assert records.export(FILM) == {"reads": [], "opinions": [], "events": []}
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
    assert main(["records", "reads"]) == 0
    (answer,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (answer["digest"], answer["label"], answer["flag"]) == (FILM, "Pneumonia", "True")
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
    assert settings.wanted() and settings.default_url() == "sqlite:///elsewhere.sqlite"
    monkeypatch.setenv("CXR_RECORDS", "off")
    assert not settings.wanted()
    monkeypatch.delenv("CXR_RECORDS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert settings.default_url() == f"sqlite:///{tmp_path}/cxr_core/records.sqlite"


def test_no_password_is_ever_told(place):
    records = Records(place)
    records._engine = sql.create_engine("sqlite:///file:x?password=secret&uri=true")
    records._engine.url = records._engine.url.set(username="me", password="secret")
    assert "secret" not in str(records).split("?")[0]


@pytest.mark.parametrize("url", ["nonsense", "nodatabase://here", "sqlite:////proc/no/x.sqlite"])
def test_a_place_that_is_none_is_a_sentence(url):
    with pytest.raises(RecordsError, match="CXR_RECORDS"):
        Records(url)


@pytest.mark.parametrize(
    "url", ["postgresql://me@host:secret/x", "postgresql://me:a@host:b/secret"]
)
def test_an_address_without_a_port_is_a_sentence_that_quotes_nothing(url):
    with pytest.raises(RecordsError, match="CXR_RECORDS says: it is no URL") as caught:
        Records(url)
    assert "secret" not in str(caught.value)


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

    monkeypatch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, add_column))
    with Records(place)._engine.connect() as connection:
        assert connection.execute(sql.text("SELECT room FROM reads")).all() == [(None,)]
        reached = connection.execute(sql.text("SELECT version FROM schema")).scalar_one()
    assert reached == len(tables.MIGRATIONS)


FIRST_VERSION = """
CREATE TABLE schema (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE reads (id INTEGER NOT NULL, at VARCHAR(32) NOT NULL, digest VARCHAR(64) NOT NULL,
  model VARCHAR(200) NOT NULL, version VARCHAR(100) NOT NULL, gate JSON NOT NULL,
  predictions JSON NOT NULL, mended VARCHAR(1000) NOT NULL, reader VARCHAR(200) NOT NULL,
  PRIMARY KEY (id));
CREATE TABLE opinions (id INTEGER NOT NULL, at VARCHAR(32) NOT NULL, digest VARCHAR(64) NOT NULL,
  label VARCHAR(200) NOT NULL, stance VARCHAR(20), confidence INTEGER, before BOOLEAN NOT NULL,
  model VARCHAR(200) NOT NULL, version VARCHAR(100) NOT NULL, probability FLOAT, flag BOOLEAN,
  verdict VARCHAR(20), comment TEXT NOT NULL, test_film VARCHAR(1000) NOT NULL,
  reader VARCHAR(200) NOT NULL, PRIMARY KEY (id));
CREATE TABLE erasures (id INTEGER NOT NULL, at VARCHAR(32) NOT NULL, reason VARCHAR(40) NOT NULL,
  rows INTEGER NOT NULL, PRIMARY KEY (id));
CREATE TRIGGER reads_stay BEFORE UPDATE ON reads
  BEGIN SELECT RAISE(ABORT, 'this journal is only added to'); END;
INSERT INTO schema VALUES (1);
INSERT INTO reads VALUES (1, '2026-11-21T20:00:00.000+00:00', 'DIGEST', 'm', '1',
  '{"verdict": "ok"}', '[{"label": "Pneumonia", "flag": true}]', '', '');
INSERT INTO opinions VALUES (1, '2026-11-21T20:01:00.000+00:00', 'DIGEST', 'Pneumonia', NULL,
  NULL, 0, 'm', '1', 0.9, 1, 'disagree', 'a rib', '', '');
INSERT INTO erasures VALUES (1, '2026-11-21T19:00:00.000+00:00', 'asked for', 3);
"""


def test_a_database_of_the_first_version_keeps_all_that_it_held(tmp_path):
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as direct:
        direct.executescript(FIRST_VERSION.replace("DIGEST", FILM))
    records = Records(f"sqlite:///{path}")
    (read,), (said,) = records.reads(), records.opinions()
    assert (read.at, read.predictions) == (
        "2026-11-21T20:00:00.000+00:00", [{"label": "Pneumonia", "flag": True}]
    )  # fmt: skip
    assert (said.verdict, said.comment, said.flag) == ("disagree", "a rib", True)
    assert records.events() == []
    assert read.stated is None, "nobody knows for which age it was"
    records.add(Event(digest=FILM, what="listed"))
    records.close()
    with closing(sqlite3.connect(path)) as direct:
        assert direct.execute("SELECT version FROM schema").fetchall() == [(3,)]
        assert direct.execute("SELECT rows FROM erasures").fetchall() == [(3,)]
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            direct.execute("UPDATE events SET what = 'removed'")
    assert Records(f"sqlite:///{path}").erase(FILM) == 3


def test_a_new_database_and_a_migrated_one_are_alike(tmp_path):
    """Columns and triggers: what the first version lacked has come, and nothing went."""

    def made(path: Path) -> dict[str, list[str]]:
        with closing(sqlite3.connect(path)) as direct:
            names = [name for (name,) in direct.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            )]  # fmt: skip
            return {n: [row[1] for row in direct.execute(f"PRAGMA table_info({n})")] for n in names}

    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as direct:
        direct.executescript(FIRST_VERSION)
    for name in ("old", "new"):
        Records(f"sqlite:///{tmp_path / name}.sqlite").close()
    assert made(tmp_path / "old.sqlite") == made(tmp_path / "new.sqlite")


# --- the worklist, and what was seen when ---


def test_the_list_is_what_came_and_did_not_go(place):
    records = Records(place)
    records.add(Event(digest=FILM, what="listed"))
    records.add(Event(digest=OTHER, what="failed", note="It is a PDF document."))
    records.add(Event(digest=FILM, what="shown"))
    assert [(one.digest, one.what) for one in records.listed(9)] == [
        (FILM, "listed"), (OTHER, "failed")
    ]  # fmt: skip
    assert records.listed(9)[1].note == "It is a PDF document."
    records.add(Event(digest="c" * 64, what="shown"))  # not asked for
    assert records.looked_at([FILM, OTHER]) == {FILM: records.events(FILM)[1].at}
    records.add(Event(digest=FILM, what="removed"))
    assert [one.digest for one in records.listed(9)] == [OTHER]
    assert records.standing() == 1
    records.add(Event(digest=FILM, what="listed"))
    assert [one.digest for one in records.listed(9)] == [OTHER, FILM], "it came anew"
    assert records.standing() == 2


def test_the_newest_of_the_list_come_first_and_the_old_only_when_asked_for(place, monkeypatch):
    records = Records(place)
    for days, name in ((30, "a"), (20, "b"), (2, "c"), (1, "d")):
        monkeypatch.setattr(journal, "_now", lambda *_, days=days: shifted(-days))
        records.add(Event(digest=name * 64, what="listed"))
        records.add(Event(digest=name * 64, what="shown"))
    monkeypatch.undo()
    listed = [[one.digest[0] for one in records.listed(most, days)] for most, days in
              ((9, 14), (1, 14), (3, None), (9, None), (9, 25))]  # fmt: skip
    assert listed == [["c", "d"], ["d"], ["b", "c", "d"], list("abcd"), ["b", "c", "d"]]
    assert records.standing() == 4


def shifted(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="milliseconds")


def test_a_long_journal_makes_the_list_no_dearer(tmp_path):
    """Counted in steps of SQLite's machine, not in time; few rows are new."""

    def steps(rows: int) -> int:
        records, counted = Records(f"sqlite:///{tmp_path / str(rows)}.sqlite"), 0
        old, new = shifted(-100), shifted(-1)
        many = [
            {"at": old if k < rows else new, "digest": f"{k:064}", "what": "listed"}
            | dict.fromkeys(("model", "version", "name", "note", "reader"), "")
            for k in range(rows + 50)
        ]
        with records._engine.begin() as connection:
            connection.execute(tables.EVENTS.insert(), many)

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        sql.event.listen(
            records._engine, "checkout", lambda direct, *_: direct.set_progress_handler(count, 10)
        )
        listed = records.listed(1000, 14)
        digests = [one.digest for one in listed]
        assert len(digests) == 50
        assert records.looked_at(digests) == records.latest("m", "1", digests) == {}
        assert len(records.listed(20)) == 20, "the newest of all, without a number of days"
        records.close()
        return counted

    few, many = steps(1_000), steps(100_000)
    assert few > 10
    assert many < 1.5 * few


def test_the_last_answer_of_each_version_counts(place):
    records = Records(place)
    records.add(*(Event(digest=digest, what="listed") for digest in (FILM, OTHER)))
    records.add(a_read(reader="a"), a_read(reader="b"), a_read(version="2"), a_read(OTHER))
    records.add(a_read("c" * 64))  # not asked for
    found = records.latest("pediatric-pneumonia", "1", [FILM, OTHER])
    assert {digest: one.reader for digest, one in found.items()} == {FILM: "b", OTHER: ""}
    assert records.latest("pediatric-pneumonia", "3", [FILM, OTHER]) == {}
    many = [f"{number:064}" for number in range(2 * journal.MOST_NAMED)]
    assert set(records.latest("pediatric-pneumonia", "1", [*many, FILM])) == {FILM}


def test_an_answer_counts_only_to_the_film_as_it_came(place):
    records = Records(place)
    changed = ({"mended": "Inversion undone."}, {"stated": "age"}, {"stated": None})
    records.add(a_read(OTHER), *(a_read(**change) for change in changed))
    records.add(*(a_read(OTHER, **change) for change in changed))

    found = records.latest("pediatric-pneumonia", "1", [FILM, OTHER])

    assert {digest: (one.mended, one.stated) for digest, one in found.items()} == {OTHER: ("", "")}


def test_the_table_of_opinions_says_when_the_film_and_the_answer_were_seen(place, monkeypatch):
    records, minute = Records(place), iter(range(10, 60))
    monkeypatch.setattr(
        journal, "_now", lambda *shift: f"2026-11-21T20:{next(minute)}:00.000+00:00"
    )
    of = {"model": "m", "version": "1"}
    records.add(Event(digest=FILM, what="shown", **of))  # 20:10
    records.add(Event(digest=OTHER, what="shown", **of))
    records.add(an_opinion(before=True, **of))  # 20:12
    records.add(Event(digest=FILM, what="revealed", **of))  # 20:13
    records.add(an_opinion(verdict="agree", **of))
    records.add(Event(digest=FILM, what="revealed", **of))
    rows = list(csv.DictReader(records.opinions_csv().splitlines()))
    assert [(row["at"][14:16], row["shown"][14:16], row["revealed"][14:16]) for row in rows] == [
        ("12", "10", "13"), ("14", "", "")
    ]  # fmt: skip


def test_times_in_the_table_of_opinions_are_those_of_its_own_reader(place, monkeypatch):
    """Two read the same film: what one was shown tells nothing of the other."""
    records, minute = Records(place), iter(range(10, 60))
    monkeypatch.setattr(
        journal, "_now", lambda *shift: f"2026-11-21T20:{next(minute)}:00.000+00:00"
    )
    one, two = ({"model": "m", "version": "1", "reader": name} for name in "ab")
    records.add(Event(digest=FILM, what="shown", **one))  # 20:10
    records.add(Event(digest=FILM, what="shown", **two))
    records.add(an_opinion(before=True, **one))  # 20:12
    records.add(Event(digest=FILM, what="revealed", **two))
    records.add(Event(digest=FILM, what="revealed", **one))  # 20:14
    (row,) = csv.DictReader(records.opinions_csv().splitlines())
    assert (row["shown"][14:16], row["revealed"][14:16]) == ("10", "14")


def test_a_name_that_is_no_text_is_kept_as_well_as_it_can_be(place, monkeypatch):
    """As Linux hands over a file of another encoding."""
    monkeypatch.setenv("CXR_RECORDS_NAMES", "1")
    records = Records(place)
    name = os.fsdecode(b"caf\xe9.png")
    records.add(Event(digest=FILM, what="listed", name=name))
    assert [one.name for one in records.listed(9)] == ["caf?.png"]


def test_the_table_of_answers_has_a_line_for_each_finding(place):
    answers = [
        {"label": name, "probability": 0.5, "operating_point": 0.4, "flag": True,
         "cannot_tell": False}
        for name in ("Effusion", "Mass")
    ]  # fmt: skip
    records = Records(place)
    records.add(a_read(predictions=answers), a_read(OTHER, predictions=[], gate={"verdict": "no"}))
    first, second, refused = csv.DictReader(records.reads_csv().splitlines())
    assert [first["label"], second["label"], refused["label"]] == ["Effusion", "Mass", ""]
    assert (first["digest"], first["gate"], first["probability"]) == (FILM, "ok", "0.5")
    assert (first["operating_point"], first["flag"], refused["gate"]) == ("0.4", "True", "no")


def test_a_server_that_runs_on_forgets_day_by_day(place, monkeypatch):
    """What was within the retention time when the server started is not kept for ever."""
    from cxr_core.ui import journal as screen

    monkeypatch.setenv("CXR_RECORDS", place)
    monkeypatch.setenv("CXR_RECORDS_DAYS", "30")
    start = datetime.now().astimezone()
    with monkeypatch.context() as then:
        then.setattr(journal, "_now", lambda *_: (start - timedelta(days=31)).isoformat())
        then.setattr(screen, "_today", lambda: (start - timedelta(days=31)).date())
        assert screen.keep(a_read()) == ""
        assert len(screen.opened().reads()) == 1
    assert screen.opened().reads() == []


# --- stored films ---


def test_no_film_is_stored_unless_the_site_names_a_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("CXR_STORE_FILMS", raising=False)
    films.store(thorax(64, 64, seed=1))
    assert films.stored(FILM) is None
    assert not films.holds(FILM)


def test_a_stored_film_comes_back_as_the_model_saw_it(monkeypatch, tmp_path):
    monkeypatch.setenv("CXR_STORE_FILMS", str(tmp_path / "films"))
    film = thorax(64, 80, seed=1)
    known = replace(
        film.facts,
        age_years=93.0,
        sex="F",
        view="PA",
        pixel_spacing_mm=(0.1, 0.2),
        windows=(("NORMAL", 0.0, 1.0), ("", 0.25, 0.5)),
    )
    film = replace(film, facts=known)
    films.store(film)
    found = films.stored(film.digest)
    assert found is not None and films.holds(film.digest)
    assert found.digest == film.digest and found.facts == replace(known, age_years=90.0)
    np.testing.assert_allclose(found.pixels, film.pixels, atol=0.5 / 65535)
    (path,) = (tmp_path / "films").iterdir()
    assert path.name == f"{film.digest}.png"
    assert path.stat().st_mode & 0o077 == 0, "for nobody else to read"


def test_grey_values_of_eight_bits_come_back_exactly(monkeypatch, tmp_path):
    monkeypatch.setenv("CXR_STORE_FILMS", str(tmp_path))
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = np.divide(grey, np.float32(255), dtype=np.float32)
    film = Radiograph(pixels, Facts("PNG", 8, "MONOCHROME2"), FILM)
    films.store(film)
    found = films.stored(FILM)
    assert found is not None and (found.pixels == pixels).all()


def test_a_film_goes_with_its_rows(monkeypatch, tmp_path, place):
    monkeypatch.setenv("CXR_STORE_FILMS", str(tmp_path / "films"))
    film, old = thorax(64, 64, seed=1), thorax(64, 64, seed=2)
    records = Records(place)
    for one in (film, old):
        films.store(one)
        records.add(a_read(one.digest))
    records.erase(film.digest)
    assert not films.holds(film.digest) and films.holds(old.digest)
    os.utime(tmp_path / "films" / f"{old.digest}.png", (0, 0))
    records.retain(365)
    assert not films.holds(old.digest)


def test_a_stored_film_is_forgotten_on_request_where_no_records_are_kept(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("CXR_RECORDS", "off")
    monkeypatch.setenv("CXR_STORE_FILMS", str(tmp_path))
    film = thorax(64, 64, seed=1)
    films.store(film)
    assert main(["records", "erase", OTHER]) == 2
    assert main(["records", "erase", film.digest]) == 0
    assert not films.holds(film.digest)
    assert "forgotten" in capsys.readouterr().out


def test_a_film_that_cannot_be_stored_or_read_is_a_sentence(monkeypatch, tmp_path):
    film = thorax(64, 64, seed=1)
    monkeypatch.setenv("CXR_STORE_FILMS", "/proc/none")
    with pytest.raises(RecordsError, match=r"cannot be stored.*CXR_STORE_FILMS"):
        films.store(film)
    monkeypatch.setenv("CXR_STORE_FILMS", str(tmp_path))
    with monkeypatch.context() as patch, pytest.raises(RecordsError, match="No space left"):
        full = OSError(errno.ENOSPC, "No space left on device")
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(full))
        films.store(film)
    assert list(tmp_path.iterdir()) == [], "nothing half is left"
    films.store(film)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RecordsError, match="drop the film again"):
        films.stored(film.digest)
    films.store(film)  # as one who drops it again does
    assert films.stored(film.digest) is not None


def test_no_file_but_stored_films_is_ever_deleted(monkeypatch, tmp_path, place):
    """A site may name a folder that holds other pictures, however old."""
    monkeypatch.setenv("CXR_STORE_FILMS", str(tmp_path))
    film = thorax(64, 64, seed=1)
    films.store(film)
    (tmp_path / "teaching case.png").write_bytes(b"a picture of the site's own")
    for path in tmp_path.glob("*.png"):
        os.utime(path, (0, 0))
    Records(place).retain(365)
    assert not films.holds(film.digest)
    assert [path.name for path in tmp_path.glob("*.png")] == ["teaching case.png"]


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
    names = [column.name for table in tables.HELD for column in table.columns]
    assert not set(names) & {"film", "pixels", "patient", "file"}
    assert names.count("name") == 1, "that of a listed file, where the site keeps names"


def test_names_of_files_are_kept_only_where_the_site_says_so(place, monkeypatch, tmp_path):
    records = Records(place)
    records.add(Event(digest=FILM, what="listed", name="Doe^Jane.dcm"))
    assert records.events()[0].name == ""
    held = b"".join(path.read_bytes() for path in (tmp_path / "kept").iterdir())
    assert b"Doe" not in held
    monkeypatch.setenv("CXR_RECORDS_NAMES", "1")
    records.add(Event(digest=FILM, what="listed", name="Doe^Jane.dcm"))
    assert [one.name for one in records.events()] == ["", "Doe^Jane.dcm"]


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
