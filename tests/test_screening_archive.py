"""An archive to Parquet: killed and gone on with, no film lost or repeated, memory flat."""

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_core.__main__ import main
from cxr_core.cards import load_card
from cxr_core.classifier import load_classifier
from cxr_core.commands.screen import _duration
from cxr_core.errors import ArgumentError, DataError, UnreadableImage
from cxr_core.phantom import png_bytes, thorax
from cxr_core.screening import answers, films_of, parts, screen
from cxr_core.screening.answers import Answer
from cxr_core.screening.job import here, job_of, screen_archive
from cxr_core.screening.parts import Summary, opened
from cxr_core.screening.table import packed, row_of, schema_of

ROOT = Path(__file__).parents[1]
MODEL = "pediatric-pneumonia"
# As the command is, but in parts of eight films.
SMALL_PARTS = """
import sys
from cxr_core.screening import parts
parts.PART = 8
from cxr_core.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
SCHEMA = schema_of(load_card(MODEL), False)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """72 files: links to five films, and every ninth is damaged."""
    folder = tmp_path_factory.mktemp("archive") / "films"
    folder.mkdir()
    for seed in range(5):
        (folder.parent / f"{seed}.png").write_bytes(png_bytes(thorax(200, 200, seed=seed)))
    (folder.parent / "damaged").write_bytes(png_bytes(thorax(64, 64, seed=9))[:200])
    for number in range(72):
        source = "damaged" if number % 9 == 8 else f"{number % 5}.png"
        os.link(folder.parent / source, folder / f"IM{number:03}")
    (folder / "DICOMDIR").touch()
    return folder


def rows_of(path):
    return pq.read_table(path).to_pylist()


def nobody(done, total):
    """Take no notice."""


# --- the command ---


def test_the_table_holds_each_film_once_in_order(archive, tmp_path, capsys):
    out = tmp_path / "out.parquet"
    assert main(["screen", "--model", MODEL, str(archive), "-o", str(out)]) == 0
    rows, told = rows_of(out), capsys.readouterr()

    assert [row["file"] for row in rows] == [str(archive / f"IM{k:03}") for k in range(72)]
    assert [row["ok"] for row in rows] == [k % 9 != 8 for k in range(72)]
    assert all(row["error"] and row["code"] == "unreadable" for row in rows[8::9])
    alone = [row_of(one) for one in screen(load_classifier(MODEL), films_of([str(archive)]))]
    for row, said in zip(rows, alone, strict=True):
        assert {name: row[name] for name in said} == said
    firsts = {k: str(archive / f"IM{k:03}") for k in range(5)}
    for k, row in enumerate(rows):
        assert row["duplicate_of"] == (None if k < 5 or k % 9 == 8 else firsts[k % 5])
    answered = sum(row["probability_Pneumonia"] is not None for row in rows)
    flags = sum(bool(row["flag_Pneumonia"]) for row in rows)
    assert told.out == (
        f"72 films: {answered} answered, {flags} of them with a flag; {64 - answered} refused; "
        f"8 not read; 59 are copies of another. Wrote {out}\n"
    )
    assert "a second" in told.err and "72 of 72" in told.err
    assert os.listdir(tmp_path) == ["out.parquet"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("absent", "-o", "o.parquet"), "no file or folder 'absent'"),
        (("@empty", "-o", "o.parquet"), "holds no films"),
        (("film", "-o", "no/o.parquet"), "'no/o.parquet' cannot be written"),
        (("film", "-o", "film"), "'film' exists already"),
        (("film", "-o", "o.parquet", "--engine", "ray"), "go together"),
        (("film", "-o", "o.parquet", "--address", "x"), "go together"),
    ],
)
def test_unusable_arguments_are_told_in_a_sentence(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    (tmp_path / "film").write_text("not a film")

    assert main(["screen", "--model", MODEL, *arguments]) == 2

    said = capsys.readouterr()
    assert told in said.err and len(said.err.splitlines()) == 1 and not said.out
    assert sorted(os.listdir(tmp_path)) == ["empty", "film"]


def test_durations_are_said_as_people_say_them():
    assert [_duration(s) for s in (0.4, 59, 61, 3599, 3600, 19_200, 3.6e6)] == [
        *("0 s", "59 s", "1 min", "1 h 0 min", "1 h 0 min", "5 h 20 min", "1,000 h 0 min")
    ]


# --- killed ---


def start(archive, out):
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_PARTS, "screen", "--model", MODEL, str(archive), "-o", out],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kept(folder):
    return sorted(path.name for path in folder.glob("part-*.parquet"))


def test_a_killed_run_goes_on_where_it_was(archive, tmp_path, monkeypatch):
    """kill -9, twice; then to the end in this process, which sees what is read again."""
    out, folder = tmp_path / "out.parquet", tmp_path / "out.parquet.parts"
    held = []
    for more in (2, 4):
        process = start(archive, out)
        try:
            while len(kept(folder)) < more and process.poll() is None:
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL and not out.exists()
        assert kept(folder)[: len(held)] == held  # what was there stays
        held = kept(folder)
        assert more <= len(held) < 9
    there = [row for name in held for row in rows_of(folder / name)]

    (archive / "IM999").write_text("came meanwhile")
    read, plain = [], answers.prepare_film
    monkeypatch.setattr(parts, "PART", 8)
    monkeypatch.setattr(
        answers,
        "prepare_film",
        lambda path, file, *a, **k: read.append(file) or plain(path, file, *a, **k),
    )
    monkeypatch.chdir(ROOT)
    try:
        assert main(["screen", "--model", MODEL, str(archive), "-o", str(out)]) == 0
    finally:
        (archive / "IM999").unlink()

    names = [str(archive / f"IM{k:03}") for k in range(72)]
    rows = rows_of(out)
    assert [row["file"] for row in rows] == names
    assert sorted([*read, *(row["file"] for row in there)]) == names
    whole = tmp_path / "whole.parquet"
    screen_archive(
        job_of(MODEL, [str(archive)]), whole, here(job_of(MODEL, [str(archive)])), nobody
    )
    assert pq.read_table(whole).equals(pq.read_table(out))
    assert not folder.exists()


def fake(files):
    """Answer without a model: what cannot be read is named after its file."""
    rows = [row_of(Answer(file, error=UnreadableImage(file))) for file in files]
    return packed(rows, SCHEMA)


@settings(deadline=None, max_examples=50)
@given(films=st.integers(1, 40), stops=st.lists(st.integers(0, 6), max_size=4), last=st.booleans())
def test_wherever_a_run_stops_each_film_is_answered_once(films, stops, last):
    """A run ends after some parts, in any order; the next gets just those that are missing."""
    names, job, asked = [f"film {k}" for k in range(films)], {"model": MODEL}, []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART", 3)
        patch.setattr(parts, "PARTS_IN_A_GROUP", 2)
        out = Path(folder) / "out.parquet"
        for stop in (*stops, None):
            with opened(out, job, names) as held:
                assert held.films == films and held.done == len(asked)
                missing = list(held.to_do())
                assert sorted([*asked, *(n for _, part in missing for n in part)]) == sorted(names)
                for number, part in (missing[::-1] if last else missing)[:stop]:
                    held.keep(number, fake(part))
                    asked += part
                if stop is None:
                    assert held.merge() == Summary(films=films, unread=films)
        table = pq.read_table(out)
        assert table["file"].to_pylist() == names and os.listdir(folder) == ["out.parquet"]
        assert pq.ParquetFile(out).num_row_groups == -(-films // 6)


def begun(tmp_path, films=("a", "b")):
    """Leave behind what a stopped run leaves."""
    out = tmp_path / "out.parquet"
    with opened(out, {"model": MODEL}, films) as held:
        for number, part in list(held.to_do()):
            held.keep(number, fake(part))
    return out, tmp_path / "out.parquet.parts"


def test_a_kill_between_result_and_clearing_up_costs_nothing(tmp_path):
    out, folder = begun(tmp_path)
    with opened(out, {"model": MODEL}, ()) as held:
        rubbish = {path: path.read_bytes() for path in folder.iterdir()}
        held.merge()
    result = out.read_bytes()
    folder.mkdir()
    for path, content in rubbish.items():
        path.write_bytes(content)
    (folder / parts.ASIDE).write_bytes(b"half")
    with opened(out, {"model": MODEL}, ()) as held:  # killed after the result had its name
        assert not list(held.to_do()) and held.merge().films == 2
    assert out.read_bytes() == result and not folder.exists()
    folder.mkdir()
    (folder / "part-0000000.parquet").touch()  # killed while parts were removed
    with pytest.raises(ArgumentError, match="exists already"), opened(out, {"model": MODEL}, ()):
        pass
    assert out.read_bytes() == result and not folder.exists()


def test_a_kill_while_films_are_listed_begins_anew(tmp_path):
    folder = tmp_path / "out.parquet.parts"
    folder.mkdir()
    (folder / parts.LIST).write_text('"a"\n"hal')
    with opened(tmp_path / "out.parquet", {"model": MODEL}, ["x", "y"]) as held:
        assert list(held.to_do()) == [(0, ["x", "y"])]


def test_only_the_same_job_goes_on(tmp_path):
    out, folder = begun(tmp_path)
    before = sorted(folder.iterdir())
    with pytest.raises(ArgumentError, match=r"another job: .*pediatric-pneumonia.* there"):
        with opened(out, {"model": "other"}, ()):
            pass
    assert sorted(folder.iterdir()) == before
    job = job_of(MODEL, ["films"])
    assert job == job_of(MODEL, ["films"]) and json.loads(json.dumps(asdict(job))) == asdict(job)
    assert job.weights != job_of("pediatric-type", ["films"]).weights


def test_two_runs_do_not_fill_the_same_folder(tmp_path):
    out = tmp_path / "out.parquet"
    with opened(out, {"model": MODEL}, ["a"]):
        with pytest.raises(ArgumentError, match="Another run"), opened(out, {"model": MODEL}, []):
            pass
    with opened(out, {"model": MODEL}, []) as held:
        assert held.films == 1


def test_a_full_disk_is_told_and_what_is_there_stays(tmp_path, monkeypatch):
    out, folder = begun(tmp_path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(out, {"model": MODEL}, ()) as held:
        with monkeypatch.context() as patch, pytest.raises(DataError, match="Free some room"):
            patch.setattr(os, "fsync", full)
            held.merge()
        assert not out.exists() and kept(folder)
        assert held.merge().films == 2


# --- large ---


def test_memory_is_flat_however_many_films(archive, tmp_path, monkeypatch):
    """Eight times as many links to the same films take no more than a little more at the peak."""
    monkeypatch.setattr(parts, "PART", 32)
    monkeypatch.setattr(parts, "PARTS_IN_A_GROUP", 2)
    peaks = {}
    for films in (40, 300, 2400):
        folder = tmp_path / str(films)
        folder.mkdir()
        for number in range(films):
            source = "0.png" if number % 12 == 0 else "damaged"
            os.link(archive.parent / source, folder / f"{number:05}")
        job = job_of(MODEL, [str(folder)])
        engine = here(job)
        gc.collect()
        tracemalloc.start()
        told = screen_archive(job, tmp_path / f"{films}.parquet", engine, nobody)
        peaks[films] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert told.films == films and told.unread == films - -(-films // 12)
    # Names of a folder are listed at once, 100 bytes each; all else stays as it is.
    assert peaks[2400] < peaks[300] + 2**20, peaks
    assert pa.total_allocated_bytes() < 2**20


def test_a_long_list_is_never_held(tmp_path):
    """A hundred thousand paths are four megabytes of text, and ten as strings."""
    names = (f"/archive/studies/{k:09}/series/image" for k in range(100_000))
    tracemalloc.start()
    with opened(tmp_path / "out.parquet", {"model": MODEL}, names) as held:
        assert held.films == 100_000
        assert sum(len(part) for _, part in held.to_do()) == 100_000
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20, peak


def test_a_row_group_holds_many_parts(tmp_path):
    with opened(tmp_path / "out.parquet", {"model": MODEL}, map(str, range(20_000))) as held:
        for number, part in held.to_do():
            held.keep(number, fake(part))
        held.merge()
    groups = pq.ParquetFile(tmp_path / "out.parquet").metadata
    sizes = [groups.row_group(k).num_rows for k in range(groups.num_row_groups)]
    assert sizes == [256 * 64, 20_000 - 256 * 64]


def test_summaries_add_up():
    assert Summary(1, 2, 3, 4, 5, 6) + replace(Summary(), films=1) == Summary(2, 2, 3, 4, 5, 6)
