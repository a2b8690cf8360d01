"""What a folder holds, who the patients are, and that no split shares one."""

import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cxr_core.datasets import (
    Film,
    duplicates,
    index,
    layouts,
    overlap,
    pixel_cache,
    register_layout,
    split_by_patient,
    summarise,
)
from cxr_core.datasets import cache as cache_module
from cxr_core.errors import ArgumentError, DataError, UnknownName
from cxr_core.images import load_radiograph
from cxr_core.preprocess import Preprocessing, to_square

PREPROCESSING = Preprocessing(size=32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def film(name, patient=None, digest=None, findings=(), split=None):
    return Film(name, findings, patient or name, split, digest or f"digest of {name}")


def test_class_folders_give_findings_splits_and_patients(phantom_folder):
    dataset = index(phantom_folder)
    assert dataset.classes == ("NORMAL", "PNEUMONIA")
    assert {film.split for film in dataset.films} == {"train", "test"}
    assert [film.file for film in dataset.films] == sorted(film.file for film in dataset.films)
    for film in dataset.films:
        assert (film.findings == ()) == ("NORMAL" in film.file)
        assert ("bacteria" in film.findings) == ("bacteria" in film.file)
    counts = Counter(film.patient for film in dataset.films)
    assert max(counts.values()) == 2  # some patients own two films


def test_a_folder_without_splits_has_none(phantom_folder):
    assert {film.split for film in index(phantom_folder / "train").films} == {None}


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person7_virus_12.jpeg", "person7_virus"),
        ("person7_bacteria_12.jpeg", "person7_bacteria"),
        ("person1637_virus_2834_1.jpeg", "person1637_virus"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("IM-0115-0001-0002.jpeg", "IM-0115"),
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115"),
        ("scan.png", "PNEUMONIA/scan.png"),
    ],
)
def test_patient_keys_do_not_merge_two_numberings(tmp_path, name, patient):
    (tmp_path / "PNEUMONIA").mkdir()
    (tmp_path / "PNEUMONIA" / name).write_bytes(b"x")
    assert index(tmp_path).films[0].patient == patient


def test_hidden_files_and_other_files_are_not_films(tmp_path):
    (tmp_path / "A").mkdir()
    for name in ("film.png", ".hidden.png", "notes.txt", "Thumbs.db"):
        (tmp_path / "A" / name).write_bytes(name.encode())
    assert [film.file for film in index(tmp_path).films] == ["A/film.png"]


def test_a_folder_beside_the_splits_is_not_dropped_in_silence(phantom_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(phantom_folder, copy)
    (copy / "__MACOSX").mkdir()  # archives leave it behind
    assert len(index(copy).films) == len(index(phantom_folder).films)
    (copy / "train").rename(copy / "training")
    with pytest.raises(DataError, match="has the folders training"):
        index(copy)


def test_films_of_one_name_in_two_folders_are_two_patients(tmp_path):
    for folder in ("A", "B"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0001.png").write_bytes(folder.encode())
    assert len({film.patient for film in index(tmp_path).films}) == 2


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=r"CLASS/film\.png"):
        index(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        index(tmp_path / "absent")
    with pytest.raises(UnknownName, match="class-folders"):
        index(tmp_path, "class-folder")


def test_byte_duplicates_and_shared_patients_are_told(phantom_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(phantom_folder, copy)
    source = next((copy / "train" / "NORMAL").iterdir())
    shutil.copy(source, copy / "test" / "NORMAL" / "another-name.jpeg")
    told = summarise(index(copy))
    assert len(told["duplicates"]) == 1 and len(told["duplicates"][0]) == 2
    assert len(told["overlap"]) == 1 and "another-name.jpeg" in told["overlap"][0]
    assert summarise(index(phantom_folder))["overlap"] == []


@given(
    sizes=st.lists(st.integers(1, 4), min_size=12, max_size=60),
    seed=st.integers(0, 99),
    twins=st.sets(st.integers(0, 11), max_size=6),
)
def test_no_patient_and_no_duplicate_is_in_two_parts(sizes, seed, twins):
    films = [
        film(
            f"p{patient}-{k}",
            f"p{patient}",
            "same bytes" if patient in twins and k == 0 else None,
            ("PNEUMONIA",) if patient % 3 else (),
        )
        for patient, count in enumerate(sizes)
        for k in range(count)
    ]
    parts = split_by_patient(films, {"train": 0.7, "validation": 0.15, "test": 0.15}, seed)
    labelled = [
        Film(f.file, f.findings, f.patient, name, f.digest) for name, p in parts.items() for f in p
    ]
    assert sorted(f.file for f in labelled) == sorted(f.file for f in films)
    assert overlap(labelled) == []


def test_splits_are_stratified_repeatable_and_independent_of_order():
    films = [film(f"f{k:04d}", findings=("X",) if k % 4 == 0 else ()) for k in range(1000)]
    shares = {"train": 0.7, "validation": 0.15, "test": 0.15}
    parts = split_by_patient(films, shares, 3)
    assert parts == split_by_patient(films[::-1], shares, 3)
    assert parts != split_by_patient(films, shares, 4)
    for name, share in shares.items():
        positives = sum(bool(f.findings) for f in parts[name])
        assert abs(len(parts[name]) - 1000 * share) <= 2
        assert abs(positives - 250 * share) <= 1


def test_shares_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ArgumentError, match="sum to 1"):
        split_by_patient([film("a")], {"train": 0.7, "test": 0.2}, 0)


def test_the_cache_holds_exactly_what_reading_gives(phantom_folder, cache):
    films = index(phantom_folder).films[:6]
    squares = pixel_cache(phantom_folder, films, PREPROCESSING)
    expected = [
        to_square(load_radiograph(phantom_folder / f.file), PREPROCESSING)[0] for f in films
    ]
    assert_array_equal(squares, np.stack(expected))
    assert squares.dtype == np.uint8
    assert not squares.flags.writeable


def test_each_film_is_decoded_once(phantom_folder, cache, monkeypatch):
    films = index(phantom_folder).films[:4]
    told = []
    pixel_cache(phantom_folder, films, PREPROCESSING, lambda *step: told.append(step))
    assert told[-1] == ("Decoding films", 4, 4)
    monkeypatch.setattr(cache_module, "load_radiograph", None)  # a second decoding would fail
    pixel_cache(phantom_folder, films, PREPROCESSING)


def test_another_size_or_another_film_is_another_cache(phantom_folder, cache):
    films = index(phantom_folder).films
    for key in ((films[:2], 32), (films[:2], 48), (films[1:3], 32)):
        pixel_cache(phantom_folder, key[0], Preprocessing(size=key[1]))
    assert len(list(cache.iterdir())) == 3


def test_an_unreadable_film_is_named_and_no_half_cache_stays(tmp_path, cache):
    (tmp_path / "films" / "A").mkdir(parents=True)
    (tmp_path / "films" / "A" / "broken.png").write_bytes(b"not a film")
    with pytest.raises(DataError, match=r"1 of 1 films .* A/broken\.png"):
        pixel_cache(tmp_path / "films", index(tmp_path / "films").films, PREPROCESSING)
    assert list(cache.iterdir()) == []


def test_layout_names_are_unique():
    with pytest.raises(ArgumentError, match="already"):
        register_layout(layouts.class_folders)


def test_the_published_split_is_as_described(data):
    told = summarise(index(data / "pediatric_pneumonia"))
    assert told["splits"]["train"]["findings"]["PNEUMONIA"] == 3875
    assert told["splits"]["train"]["findings"]["(none)"] == 1341
    assert told["splits"]["test"]["films"] == 624
    assert told["overlap"] == []
    assert len(told["duplicates"]) == 30
    films = [f for f in index(data / "pediatric_pneumonia").films if f.split == "train"]
    assert len({f.patient for f in films if f.findings}) == 2443
    assert len(duplicates(films)) == 24
