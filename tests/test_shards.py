"""TFRecord shards: as strangers write them, as we write them, and as they break."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from cxr_core.__main__ import main
from cxr_core.datasets import (
    DatasetIndex,
    index,
    inspect,
    pixel_cache,
    read_film,
    shards,
    split_by_patient,
    summarise,
    write_shards,
)
from cxr_core.errors import ArgumentError, DataError
from cxr_core.phantom import thorax
from cxr_core.preprocess import Preprocessing, to_square

ROOT = Path(__file__).parents[1]
LABELS = ("No Finding", "Effusion", "Mass")
SQUARE = Preprocessing(size=48)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def jpegs():
    """Five films as JPEG bytes."""
    films = []
    for seed in range(5):
        stream = BytesIO()
        pixels = np.rint(thorax(64, 64, seed=seed).pixels * 255).astype(np.uint8)
        Image.fromarray(pixels).save(stream, "JPEG")
        films.append(stream.getvalue())
    return films


def feature(value):
    from tensorflow.train import BytesList, Feature, FloatList, Int64List

    if isinstance(value, bytes):
        return Feature(bytes_list=BytesList(value=[value]))
    if isinstance(value, float):
        return Feature(float_list=FloatList(value=[value]))
    return Feature(int64_list=Int64List(value=value if isinstance(value, list) else [value]))


def example(values):
    from tensorflow.train import Example, Features

    features = {key: feature(value) for key, value in values.items()}
    return Example(features=Features(feature=features)).SerializeToString()


def records(jpegs, *findings):
    """Records of a stranger: the image and the labels, nothing else."""
    findings = findings or ("No Finding", "Effusion", "Mass", "No Finding", "Effusion")
    return [
        {"image": image, **{label: int(label in names.split("|")) for label in LABELS}}
        for image, names in zip(jpegs, findings, strict=True)
    ]


def write(path, rows):
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            writer.write(row if isinstance(row, bytes) else example(row))
    return path


# --- shards as strangers write them ---


def test_a_strangers_shards_are_read(tmp_path, jpegs):
    rows = records(jpegs)
    write(tmp_path / "data" / "001-3.tfrec", rows[:3])
    write(tmp_path / "data" / "002-2.tfrec", rows[3:])
    told = []
    dataset = index(tmp_path, progress=lambda *step: told.append(step))
    assert dataset.layout == "tfrecord"
    assert dataset.classes == ("Effusion", "Mass", "No Finding")
    assert [(film.file, film.findings) for film in dataset.films] == [
        ("data/001-3.tfrec/00000", ()),
        ("data/001-3.tfrec/00001", ("Effusion",)),
        ("data/001-3.tfrec/00002", ("Mass",)),
        ("data/002-2.tfrec/00000", ()),
        ("data/002-2.tfrec/00001", ("Effusion",)),
    ]
    assert [film.patient for film in dataset.films] == [film.file for film in dataset.films]
    assert {film.split for film in dataset.films} == {None}
    (note,) = dataset.notes
    assert "splits by patient are impossible" in note
    assert told == [("Reading shards", 1, 2), ("Reading shards", 2, 2)]


def test_pixels_are_those_of_the_jpeg_and_need_no_tensorflow(tmp_path, jpegs):
    write(tmp_path / "001-5.tfrec", records(jpegs))
    films = index(tmp_path).films
    for film, image in zip(films, jpegs, strict=True):
        pixels = np.asarray(Image.open(BytesIO(image)), np.float32) / 255
        assert_allclose(read_film(tmp_path, film).pixels, pixels, atol=1e-6)
        assert read_film(tmp_path, film).digest == film.digest
        place = film.place
        code = (
            "import sys; from pathlib import Path; from cxr_core.datasets import *\n"
            f"film = Film('x', (), 'p', None, '0', place=Place(*{(place.file, place.start)!r}, "
            f"{place.length}))\n"
            f"print(read_film(Path({str(tmp_path)!r}), film).digest, 'tensorflow' in sys.modules)"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == [films[-1].digest, "False"], done.stderr


def test_labels_may_come_without_a_name_for_nothing_found(tmp_path, jpegs):
    rows = [{"image": image, "Mass": k % 2} for k, image in enumerate(jpegs)]
    write(tmp_path / "001-5.tfrec", rows)
    dataset = index(tmp_path)
    assert dataset.classes == ("Mass",)
    assert [film.findings for film in dataset.films] == [(), ("Mass",), (), ("Mass",), ()]


def test_several_findings_and_films_without_any_label(tmp_path, jpegs):
    write(
        tmp_path / "001-5.tfrec",
        records(jpegs, "Effusion|Mass", "", "Mass", "", "No Finding"),
    )
    dataset = index(tmp_path)
    assert [film.file[-5:] for film in dataset.films] == ["00000", "00002", "00004"]
    assert dataset.films[0].findings == ("Effusion", "Mass")
    assert any("2 films were left out" in note for note in dataset.notes)


def test_what_else_records_hold_is_told_and_not_read(tmp_path, jpegs):
    rows = [row | {"Image Index": b"x.png", "weight": 0.5} for row in records(jpegs)]
    write(tmp_path / "shard.tfrec", rows)
    dataset = index(tmp_path)
    assert dataset.classes == ("Effusion", "Mass", "No Finding")
    assert any("Image Index, weight" in note for note in dataset.notes)
    assert any("do not end in their count" in note for note in dataset.notes)


def test_what_is_known_of_a_film_is_read(tmp_path, jpegs):
    known = {"patient": b"p1", "split": b"val", "view": b"AP", "sex": b"F", "source": b"A"}
    first, second, third, *rest = records(jpegs)
    rows = [
        first | known | {"age": 61.5},
        second | {"patient": b"p1", "view": b"LL", "sex": b"?", "age": 414},
        third | {"patient": "Zoë".encode()},
        *(row | {"patient": b"p2"} for row in rest),
    ]
    write(tmp_path / "001-5.tfrec", rows)
    one, two, three, *_ = index(tmp_path).films
    assert (one.patient, one.split, one.view, one.sex) == ("p1", "validation", "AP", "F")
    assert (one.source, one.age_years) == ("A", 61.5)
    assert (two.patient, two.split, two.view, two.sex, two.age_years) == ("p1", *[None] * 4)
    assert three.patient == "Zoë"
    assert index(tmp_path).notes == ()


# --- what breaks ---


def broken(tmp_path, rows, message, name="001-5.tfrec"):
    path = write(tmp_path / "data" / name, rows)
    with pytest.raises(DataError, match=message):
        index(tmp_path)
    path.unlink()


def test_a_record_of_other_keys_is_named(tmp_path, jpegs):
    rows = records(jpegs)
    del rows[2]["Mass"]
    broken(tmp_path, rows, r"001-5\.tfrec/00002 lacks Mass, unlike the first record")
    broken(tmp_path, [*rows[:2], rows[3] | {"Hernia": 0}], "00002 also has Hernia", "001-3.tfrec")


def test_patients_are_named_in_every_record_or_in_none(tmp_path, jpegs):
    rows = records(jpegs)
    named = [row | {"patient": b"p"} for row in rows]
    broken(tmp_path, [*named[:3], *rows[3:]], "00003 lacks patient")
    broken(tmp_path, [*rows[:3], *named[3:]], "00003 also has patient")


@pytest.mark.parametrize(
    ("value", "told"),
    [(2, "but 2 came"), ([0, 1], "but 0, 1 came"), ([], "but int64_list came"), (1.0, "float")],
)
def test_a_label_is_0_or_1(tmp_path, jpegs, value, told):
    rows = records(jpegs)
    rows[3]["Mass"] = value
    broken(tmp_path, rows, f"00003: 'Mass' must be 0 or 1, .*{told}")


def test_nothing_found_beside_a_finding_is_refused(tmp_path, jpegs):
    rows = records(jpegs, "Mass", "No Finding|Mass", "Mass", "Mass", "Mass")
    broken(tmp_path, rows, "00001 is marked as 'No Finding' and as Mass")


def test_records_that_are_no_films_are_named(tmp_path, jpegs):
    rows = records(jpegs)
    broken(tmp_path, [rows[0], b"\xff\xff not an example", *rows[2:]], "00001 is not a tf.train")
    broken(tmp_path, [{"jpeg": jpegs[0], "Mass": 1}], "00000 has the keys Mass, jpeg", "1-1.tfrec")
    broken(tmp_path, [{"image": jpegs[0]}], "one whole number for each label", "1-1.tfrec")
    broken(tmp_path, [rows[0] | {"image": 3}], "'image' must hold bytes once", "1-1.tfrec")
    broken(tmp_path, [rows[0] | {"split": b"fold 1"}], "is of the split 'fold 1'", "1-1.tfrec")


def test_an_image_that_is_not_one_is_named_when_it_is_decoded(tmp_path, jpegs):
    rows = records(jpegs)
    rows[1]["image"], rows[2]["image"] = b"not a jpeg", b""
    write(tmp_path / "001-5.tfrec", rows)
    dataset = index(tmp_path)
    with pytest.raises(DataError, match=r"2 of 5 films .*001-5\.tfrec/00001: The file is plain"):
        pixel_cache(tmp_path, dataset.films, SQUARE)
    seen = inspect(dataset)
    assert [file for file, _ in seen.unreadable] == ["001-5.tfrec/00001", "001-5.tfrec/00002"]
    assert seen.sizes == {(64, 64): 3}


def cut(path):
    os.truncate(path, path.stat().st_size - 1000)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path):
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, r"002-5\.tfrec' is cut short or altered at record 00004"),
        (flip, r"002-5\.tfrec' is cut short or altered at record 0000[123]"),
        (empty, r"002-5\.tfrec' holds 0 records, not 5 as its name says"),
    ],
)
def test_a_damaged_shard_is_named_and_skipped_only_when_asked(tmp_path, jpegs, damage, told):
    for name in ("001-5", "002-5", "003-5"):
        write(tmp_path / "data" / f"{name}.tfrec", records(jpegs))
    damage(tmp_path / "data" / "002-5.tfrec")
    with pytest.raises(DataError, match=rf"1 of 3 shards are damaged; .* out of .*{told}"):
        index(tmp_path)
    dataset = shards.tfrecord(tmp_path, skip_damaged=True)
    assert len(dataset.films) == 10
    assert not any("002-5" in film.file for film in dataset.films)
    assert any("left out" in note and "002-5.tfrec" in note for note in dataset.notes)


def test_a_wrong_count_and_nothing_but_damage_are_told(tmp_path, jpegs):
    write(tmp_path / "001-6.tfrec", records(jpegs))
    with pytest.raises(DataError, match="holds 5 records, not 6"):
        index(tmp_path)
    with pytest.raises(DataError, match="1 of 1 shards are damaged"):
        shards.tfrecord(tmp_path, skip_damaged=True)
    with pytest.raises(DataError, match=r"holds no shards. Expected .*001-438\.tfrec"):
        index(tmp_path / "..", "tfrecord")


# --- shards as we write them ---


def close(one, other):
    """Films that are the same but for what JPEG loses."""
    return np.abs(one.astype(int) - other.astype(int)).mean() < 3


def test_phantoms_survive_the_round_trip(phantom_folder, tmp_path):
    dataset = index(phantom_folder)
    told = []
    paths = write_shards(
        dataset, tmp_path, per_shard=10, size=96, progress=lambda *step: told.append(step)
    )
    total = len(dataset.films)
    assert [path.name for path in paths] == [
        f"{k:03d}-{min(10, total - 10 * (k - 1))}.tfrec" for k in range(1, len(paths) + 1)
    ]
    assert told[-1] == ("Writing shards", total, total)

    again = index(tmp_path)
    assert again.notes == ()
    assert set(again.classes) == {"No Finding", "PNEUMONIA", "bacteria", "virus"}
    for before, after in zip(dataset.films, again.films, strict=True):
        assert set(after.findings) == set(before.findings)
        assert (after.patient, after.split) == (before.patient, before.split)
    ours, theirs = summarise(dataset)["splits"], summarise(again)["splits"]
    assert ours == theirs
    squares = pixel_cache(phantom_folder, dataset.films, SQUARE)
    for one, other in zip(squares, pixel_cache(tmp_path, again.films, SQUARE), strict=True):
        assert close(one, other)
    parts = split_by_patient(again.films, {"train": 0.7, "test": 0.3}, 0)
    assert not {f.patient for f in parts["train"]} & {f.patient for f in parts["test"]}


def test_a_film_is_squared_as_models_square_it(phantom_folder, tmp_path):
    dataset = index(phantom_folder)
    write_shards(dataset, tmp_path, size=80, quality=95)
    film = index(tmp_path).films[3]
    pixels = read_film(tmp_path, film).pixels
    square, _ = to_square(read_film(phantom_folder, dataset.films[3]), Preprocessing(size=80))
    assert pixels.shape == (80, 80)
    assert close(np.rint(pixels * 255), square)


def test_the_table_of_labels_has_a_row_for_each_film(phantom_folder, tmp_path):
    dataset = index(phantom_folder)
    write_shards(dataset, tmp_path, size=32)
    with (tmp_path / "preprocessed_data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "patient", "No Finding", "PNEUMONIA", "bacteria", "virus"]
    assert [row["file"] for row in rows] == [film.file for film in dataset.films]
    for row, film in zip(rows, dataset.films, strict=True):
        assert row["PNEUMONIA"] == str(int("PNEUMONIA" in film.findings))
        assert int(row["PNEUMONIA"]) + int(row["No Finding"]) == 1


def test_facts_of_films_survive(phantom_folder, tmp_path):
    dataset = index(phantom_folder)
    facts = {"view": "PA", "age_years": 40.0, "sex": "M", "source": "B"}
    films = (replace(dataset.films[0], **facts, split=None), *dataset.films[1:3])
    write_shards(replace(dataset, films=films), tmp_path, size=32)
    first, second, _ = index(tmp_path).films
    assert {key: getattr(first, key) for key in facts} == facts
    assert first.split is None
    assert (second.view, second.age_years, second.sex, second.source) == (None,) * 4


def modified(paths):
    return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]


def test_a_second_run_keeps_finished_shards(phantom_folder, tmp_path):
    dataset = index(phantom_folder)
    paths = write_shards(dataset, tmp_path, per_shard=6, size=32)
    before = modified(paths)
    paths[1].unlink()
    (tmp_path / "preprocessed_data.csv").unlink()
    assert write_shards(dataset, tmp_path, per_shard=6, size=32) == paths
    after = modified(paths)
    assert after[0] == before[0] and after[2:] == before[2:]
    assert after[1] != before[1]
    assert (tmp_path / "preprocessed_data.csv").exists()
    assert len(index(tmp_path).films) == len(dataset.films)


def test_other_shards_are_never_mixed_in(phantom_folder, tmp_path, jpegs):
    dataset = index(phantom_folder)
    paths = write_shards(dataset, tmp_path, per_shard=6, size=32)
    before = modified(paths)
    relabelled = replace(dataset.films[0], findings=("Mass",))
    for other, options in (
        (dataset, {"size": 48}),
        (dataset, {"per_shard": 7}),
        (dataset, {"quality": 80}),
        (replace(dataset, films=dataset.films[1:]), {}),
        (replace(dataset, films=(relabelled, *dataset.films[1:])), {}),
    ):
        with pytest.raises(DataError, match=r"holds other shards \(data/001"):
            write_shards(other, tmp_path, **{"per_shard": 6, "size": 32} | options)
    (tmp_path / "shards.json").write_text("{ cut")
    with pytest.raises(DataError, match="holds other shards"):
        write_shards(dataset, tmp_path, per_shard=6, size=32)
    assert modified(paths) == before


def test_unreadable_films_are_all_named_and_what_came_before_them_stays(phantom_folder, tmp_path):
    folder, out = Path(shutil.copytree(phantom_folder, tmp_path / "films")), tmp_path / "out"
    films = index(folder).films
    for number in (7, 12):
        (folder / films[number].file).write_bytes(b"not a film %d" % number)
    with pytest.raises(DataError, match=rf"2 of .*{films[7].file}: .*{films[12].file}: "):
        write_shards(index(folder), out, per_shard=5, size=32)
    (kept,) = (out / "data").iterdir()
    before = modified([kept])
    assert kept.name == "001-5.tfrec"
    for number in (7, 12):
        (folder / films[number].file).unlink()
    paths = write_shards(index(folder), out, per_shard=5, size=32)
    assert modified(paths[:1]) == before
    assert len(index(out).films) == len(films) - 2


def test_an_interrupted_run_leaves_no_half_shard(phantom_folder, tmp_path):
    def stop(what, done, total):
        if done == 8:
            raise KeyboardInterrupt

    dataset = index(phantom_folder)
    with pytest.raises(KeyboardInterrupt):
        write_shards(dataset, tmp_path, per_shard=5, size=32, progress=stop)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["001-5.tfrec"]
    (tmp_path / "data" / ".002-5.tfrec.tmp").write_bytes(b"left by a kill")
    write_shards(dataset, tmp_path, per_shard=5, size=32)
    assert len(index(tmp_path).films) == len(dataset.films)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_full_disk_is_told_and_finished_shards_stay(phantom_folder, tmp_path):
    dataset = index(phantom_folder)
    (tmp_path / "data").mkdir()
    # Writing to this device fails as a full disk does.
    (tmp_path / "data" / ".002-5.tfrec.tmp").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"is full\. Free some room .* finished stay"):
        write_shards(dataset, tmp_path, per_shard=5, size=32)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["001-5.tfrec"]


def test_a_place_that_cannot_be_written_is_told(phantom_folder, tmp_path, monkeypatch):
    dataset = index(phantom_folder)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot be written \(Not a directory\)"):
        write_shards(dataset, tmp_path / "file" / "out", size=32)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="is full"):
        write_shards(dataset, tmp_path / "out", size=32)


def test_two_runs_do_not_write_to_one_folder(phantom_folder, tmp_path):
    dataset = index(phantom_folder)

    def again(what, done, total):
        with pytest.raises(DataError, match="Another run is writing"):
            write_shards(dataset, tmp_path, size=32)

    write_shards(replace(dataset, films=dataset.films[:2]), tmp_path, size=32, progress=again)


def test_numbers_and_names_outside_what_is_allowed_are_refused(phantom_folder, tmp_path):
    dataset = index(phantom_folder)
    for options in ({"per_shard": 0}, {"quality": 96}, {"quality": 0}, {"size": 4}):
        with pytest.raises(ArgumentError):
            write_shards(dataset, tmp_path, **options)
    named = DatasetIndex(dataset.root, "x", ("patient",), dataset.films)
    with pytest.raises(DataError, match="cannot be named patient"):
        write_shards(named, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_shards(phantom_folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["shards", str(phantom_folder), "-o", str(out), "--per-shard", "9", "--size", "40"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    films = len(index(phantom_folder).films)
    assert captured.out == (
        f"{films} films lie in {out}, as {-(-films // 9)} shards of 40 x 40 pixels; "
        "preprocessed_data.csv there has their labels.\n"
    )
    assert f"Writing shards: {films} of {films}" in captured.err
    assert main(["index", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["films"] == films
    assert main([*arguments[:-1], "48"]) == 2
    assert "holds other shards" in capsys.readouterr().err


def test_real_films_survive_the_round_trip(data, tmp_path):
    source = data / "pediatric_pneumonia"
    for folder in ("train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA"):
        (tmp_path / "films" / folder).mkdir(parents=True)
        for path in sorted((source / folder).iterdir())[:15]:
            (tmp_path / "films" / folder / path.name).symlink_to(path)
    dataset = index(tmp_path / "films")
    write_shards(dataset, tmp_path / "out", per_shard=25, size=224)
    again = index(tmp_path / "out")
    assert len(again.films) == 60
    assert [f.patient for f in again.films] == [f.patient for f in dataset.films]
    squares = pixel_cache(dataset.root, dataset.films, SQUARE)
    for one, other in zip(squares, pixel_cache(again.root, again.films, SQUARE), strict=True):
        assert close(one, other)
