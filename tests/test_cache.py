"""Decoding many films: what was done is kept, and whatever stops it says so."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cxr_core.datasets import Film, Place, film_bytes, index, inspect, pixel_cache, read_film
from cxr_core.datasets import cache as cache_module
from cxr_core.datasets import partial as partial_module
from cxr_core.errors import DataError, UnreadableImage
from cxr_core.images import load_radiograph
from cxr_core.preprocess import Preprocessing, to_square

ROOT = Path(__file__).parents[1]
PREPROCESSING = Preprocessing(size=32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(phantom_folder, tmp_path):
    """A copy whose films may be spoilt."""
    return Path(shutil.copytree(phantom_folder, tmp_path / "films"))


@pytest.fixture
def decoded(monkeypatch):
    """Names of the films that have been decoded."""
    names = []

    def counted(path):
        names.append(path.name)
        return load_radiograph(path)

    monkeypatch.setattr(cache_module, "load_radiograph", counted)
    return names


def expected(folder, films):
    squares = [to_square(load_radiograph(folder / f.file), PREPROCESSING)[0] for f in films]
    return np.stack(squares)


def spoil(folder, film):
    (folder / film.file).write_bytes(b"not a film")
    return index(folder).films


# --- one film ---


def test_a_film_inside_a_larger_file_is_read_from_its_place(folder):
    film = index(folder).films[0]
    data = (folder / film.file).read_bytes()
    (folder / "many.bin").write_bytes(b"before" + data + b"after")
    inside = Film("many.bin/0", (), "p", None, film.digest, place=Place("many.bin", 6, len(data)))
    assert film_bytes(folder, film) == film_bytes(folder, inside) == data
    assert_array_equal(read_film(folder, inside).pixels, read_film(folder, film).pixels)
    assert read_film(folder, inside).digest == film.digest


def test_bytes_that_are_not_there_are_told(folder):
    short = Film("many.bin/3", (), "p", None, "0", place=Place("many.bin", 2, 100))
    with pytest.raises(UnreadableImage, match="cannot be opened"):
        read_film(folder, short)
    (folder / "many.bin").write_bytes(b"few")
    with pytest.raises(UnreadableImage, match=r"ends before many\.bin/3"):
        read_film(folder, short)
    with pytest.raises(UnreadableImage, match="cannot be opened"):
        film_bytes(folder, Film("absent.png", (), "p", None, "0"))


# --- what was decoded is kept ---


def test_a_bad_film_in_the_middle_costs_no_other_its_decoding(folder, cache, decoded):
    films = spoil(folder, index(folder).films[7])
    with pytest.raises(DataError, match=rf"1 of {len(films)} films .* {films[7].file}: The file"):
        pixel_cache(folder, films, PREPROCESSING)
    assert sorted(decoded) == sorted(Path(film.file).name for film in films)
    decoded.clear()
    rest = films[:7] + films[8:]
    assert_array_equal(pixel_cache(folder, rest, PREPROCESSING), expected(folder, rest))
    assert decoded == []
    assert len(list(cache.iterdir())) == 1


def test_a_mended_film_is_the_only_one_decoded(folder, cache, decoded):
    before = index(folder).films
    whole = (folder / before[3].file).read_bytes()
    with pytest.raises(DataError):
        pixel_cache(folder, spoil(folder, before[3]), PREPROCESSING)
    decoded.clear()
    told = []
    (folder / before[3].file).write_bytes(whole)
    squares = pixel_cache(folder, before, PREPROCESSING, lambda *step: told.append(step))
    assert_array_equal(squares, expected(folder, before))
    assert decoded == [Path(before[3].file).name]
    total = len(before)
    assert told == [("Decoding films", total - 1, total), ("Decoding films", total, total)]


def test_other_rules_and_other_films_take_nothing_over(folder, cache, decoded):
    films = index(folder).films
    broken = spoil(folder, films[0])
    with pytest.raises(DataError):
        pixel_cache(folder, broken[:6], PREPROCESSING)
    decoded.clear()
    pixel_cache(folder, broken[1:6], Preprocessing(size=48))
    pixel_cache(folder, broken[1:6], Preprocessing(size=32, fit="letterbox"))
    pixel_cache(folder, broken[8:9], PREPROCESSING)
    assert len(decoded) == 11
    assert len(list(cache.iterdir())) == 5  # three caches; what is kept, and its list
    pixel_cache(folder, broken[1:6], PREPROCESSING)
    assert len(decoded) == 11
    assert len(list(cache.iterdir())) == 4


def test_all_unreadable_films_are_counted_and_three_named(folder, cache):
    for film in index(folder).films[:5]:
        (folder / film.file).write_bytes(b"not a film" + film.file.encode())
    with pytest.raises(DataError) as caught:
        pixel_cache(folder, index(folder).films, PREPROCESSING)
    assert str(caught.value).startswith("5 of ")
    assert str(caught.value).count(".jpeg") == 3


def test_stopping_by_hand_keeps_what_was_decoded_and_does_not_wait(folder, cache, decoded):
    films = index(folder).films

    def stop(what, done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pixel_cache(folder, films, PREPROCESSING, stop)
    assert len(decoded) < len(films)
    decoded.clear()
    assert_array_equal(pixel_cache(folder, films, PREPROCESSING), expected(folder, films))
    assert len(decoded) == len(films) - 5


KILLED = """
import os, signal, sys
from pathlib import Path
from cxr_core.datasets import index, partial, pixel_cache
from cxr_core.preprocess import Preprocessing

partial.FLUSH_EVERY = 4
def progress(what, done, total):
    if done == 10:
        print("ten", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
pixel_cache(folder := Path(sys.argv[1]), index(folder).films, Preprocessing(size=32), progress)
"""


@pytest.mark.parametrize("torn", [b"", b"11 abc", b"\x00\x00\n\x00"])
def test_after_a_kill_only_the_rest_is_decoded(folder, cache, decoded, torn):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, capture_output=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"ten\n"), done.stderr
    (listing,) = cache.glob("*.list")
    with listing.open("ab") as file:
        file.write(torn)
    films = index(folder).films
    assert_array_equal(pixel_cache(folder, films, PREPROCESSING), expected(folder, films))
    assert len(decoded) == len(films) - 8  # two groups of four had reached the list
    assert len(list(cache.iterdir())) == 1


def test_a_list_without_its_array_is_cleared_away(folder, cache, decoded):
    films = spoil(folder, index(folder).films[2])[:4]
    for spoilt in (b"", b"\x93NUMPY\x01\x00 cut short", None):
        with pytest.raises(DataError):
            pixel_cache(folder, films, PREPROCESSING)
        (listing,) = cache.glob("*.list")
        kept = listing.with_name(listing.name.removesuffix(".list"))
        kept.write_bytes(spoilt) if spoilt is not None else kept.unlink()
        decoded.clear()
        with pytest.raises(DataError):
            pixel_cache(folder, films, PREPROCESSING)
        assert len(decoded) == 4
        assert len(list(cache.iterdir())) == 2


def test_an_array_cut_short_gives_what_it_has(folder, cache, decoded):
    films = spoil(folder, index(folder).films[5])[:6]
    with pytest.raises(DataError):
        pixel_cache(folder, films, PREPROCESSING)
    (listing,) = cache.glob("*.list")
    os.truncate(listing.with_name(listing.name.removesuffix(".list")), 128 + 3 * 32 * 32 - 1)
    decoded.clear()
    assert_array_equal(pixel_cache(folder, films[:5], PREPROCESSING), expected(folder, films[:5]))
    assert len(decoded) == 3


# --- the disk ---


def test_a_full_disk_is_told_before_anything_is_decoded(folder, cache, decoded, monkeypatch):
    def full(descriptor, start, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    films = index(folder).films
    with pytest.raises(DataError, match=r"need \d+ MB in '.*cache'.* set CXR_CACHE"):
        pixel_cache(folder, films, Preprocessing(size=512))
    assert decoded == []
    assert list(cache.iterdir()) == []


def test_a_disk_that_fills_later_keeps_what_it_took(folder, cache, decoded, monkeypatch):
    films, write, written = index(folder).films, os.pwrite, []

    def fills(descriptor, data, start):
        if len(written) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(start)
        return (
            write(descriptor, data[:1000], start)
            if len(data) > 1000
            else write(descriptor, data, start)
        )

    with monkeypatch.context() as patch:
        # A disk that cannot reserve; it also writes a square of 1,024 bytes in two pieces.
        patch.delattr(os, "posix_fallocate")
        patch.setattr(os, "pwrite", fills)
        with pytest.raises(DataError, match="not that much room"):
            pixel_cache(folder, films, PREPROCESSING)
    decoded.clear()
    assert_array_equal(pixel_cache(folder, films, PREPROCESSING), expected(folder, films))
    assert len(decoded) == len(films) - 2


def test_a_disk_that_cannot_reserve_is_used_all_the_same(folder, cache, monkeypatch):
    def unable(descriptor, start, size):
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", unable)
    films = index(folder).films
    assert_array_equal(pixel_cache(folder, films, PREPROCESSING), expected(folder, films))


def test_a_folder_that_cannot_be_written_is_told(folder, tmp_path, monkeypatch):
    films = index(folder).films[:2]
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot be written .*Set CXR_CACHE"):
        pixel_cache(folder, films, PREPROCESSING)

    def denied(*_, **__):
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(partial_module.Path, "open", denied)
    with pytest.raises(DataError, match=r"cache', cannot be written \(Read-only file system\)"):
        pixel_cache(folder, films, PREPROCESSING)


# --- two at once ---


def test_two_threads_may_build_one_cache(folder, cache, monkeypatch):
    films, meet = index(folder).films, threading.Barrier(2, timeout=30)

    def together(what, done, total):
        if done in (1, total):
            meet.wait()  # both are in the middle, and both finish

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(pixel_cache, folder, films, PREPROCESSING, together) for _ in range(2)]
        for call in calls:
            assert_array_equal(call.result(60), expected(folder, films))
    assert len(list(cache.iterdir())) == 1


def test_what_a_living_process_decodes_is_not_taken_from_it(folder, cache, decoded):
    films = index(folder).films
    waits = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "sys.stdin.read(1)")
    other = subprocess.Popen(
        [sys.executable, "-c", waits, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout.readline() == b"ten\n"
        pixel_cache(folder, films, PREPROCESSING)
        assert len(decoded) == len(films)
        assert len(list(cache.glob("*.list"))) == 1
        other.communicate(b"x", timeout=60)
    finally:
        other.kill()
        other.wait()
    assert other.returncode == 0
    assert_array_equal(pixel_cache(folder, films, PREPROCESSING), expected(folder, films))
    assert len(list(cache.iterdir())) == 1


def test_threads_run_only_a_few_films_ahead(folder, decoded):
    films = index(folder).films * 20
    reading = cache_module.each_film(folder, films, lambda film: film.pixels.shape)
    next(reading)
    time.sleep(0.3)
    assert len(decoded) <= 2 * os.cpu_count() + 1
    reading.close()


# --- inspection ---


def test_inspection_counts_sizes_and_lists_what_cannot_be_read(folder):
    films = spoil(folder, index(folder).films[4])
    told = []
    seen = inspect(index(folder), lambda *step: told.append(step))
    ((file, reason),) = seen.unreadable
    assert file == films[4].file
    assert reason.startswith("The file is plain text")
    assert seen.sizes == {(84, 96): len(films) - 1}
    assert told[-1] == ("Inspecting films", len(films), len(films))


def test_real_films_of_several_sizes_are_inspected(data):
    seen = inspect(index(data / "pediatric_fullres"))
    assert seen.unreadable == ()
    assert sum(seen.sizes.values()) == 30
    assert len(seen.sizes) > 20
