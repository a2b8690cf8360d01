"""Films in TFRecord shards: ROOT/data/001-438.tfrec holds 438 records, each one film.

A record is a tf.train.Example: the bytes of a JPEG under `image`, and for each label one
whole number, 0 or 1. Our own shards also say, where it is known, who the `patient` is,
the `split`, the `view`, the `sex`, the `age`, the `source`, and which `file` the film was.

TensorFlow reads and writes the records, and checks their checksums. The index remembers
where in its shard each JPEG lies, so that reading the pixels needs no TensorFlow.
"""

import csv
import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from cxr_core.datasets.cache import Unreadable, each_film, unreadable_films
from cxr_core.datasets.films import NO_FINDING, DatasetIndex, Film, Place, Progress
from cxr_core.datasets.layouts import NORMAL_NAMES, SPLITS, register_layout
from cxr_core.errors import ArgumentError, DataError, require_tensorflow
from cxr_core.images import MAX_AGE_YEARS, Radiograph
from cxr_core.preprocess import PIXELS, Preprocessing, to_square

LABELS_FILE = "preprocessed_data.csv"
PLAN_FILE = "shards.json"
_SUFFIX = ".tfrec"
_COUNT = re.compile(rf"-(\d+){re.escape(_SUFFIX)}$")
_IMAGE = "image"
_TEXTS = ("patient", "file", "split", "view", "sex", "source")
_OPTIONAL = frozenset({*_TEXTS, "age"})
# A record lies between its length with a checksum (8 + 4 bytes) and a checksum of its own.
_HEAD, _TAIL = 12, 4

Features = Mapping[str, Any]  # name -> tf.train.Feature


class _Damaged(DataError):
    """A shard that is cut short or altered."""


@dataclass(frozen=True)
class _Keys:
    """What the first record holds, and so must every other.

    Attributes:
        labels: Keys of whole numbers, sorted.
        others: Keys of anything else, which is not read.
        patient: Whether records name their patient.
    """

    labels: tuple[str, ...]
    others: tuple[str, ...]
    patient: bool


# --- reading ---


@register_layout
def tfrecord(
    root: Path, progress: Progress | None = None, *, skip_damaged: bool = False
) -> DatasetIndex:
    """Read ROOT/data/*.tfrec or ROOT/*.tfrec: the keys of whole numbers are the labels.

    A film is named by its shard and the number of its record there, counted from 0.

    Args:
        root: The folder.
        progress: Told how many shards have been read.
        skip_damaged: Leave damaged shards out, with a note, instead of raising.

    Raises:
        DataError: When there are no shards, or one is damaged, or holds another number of
            records than its name says, or a record cannot be understood; names the record.
    """
    shards = _shards_in(root)
    if not shards:
        raise DataError(
            f"'{root}' holds no shards. Expected {root.name}/data/001-438{_SUFFIX} and so on, or "
            "the same files without the folder data."
        )
    keys: _Keys | None = None
    read: list[Film | None] = []
    damaged: list[str] = []
    for done, shard in enumerate(shards, 1):
        try:
            keys, records = _read_shard(root, shard, keys)
            read += records
        except _Damaged as error:
            damaged.append(str(error))
        if progress:
            progress("Reading shards", done, len(shards))
    if damaged and (len(damaged) == len(shards) or not skip_damaged):
        raise DataError(
            f"{len(damaged)} of {len(shards)} shards are damaged; copy them again, or move them "
            f"out of the folder. {' '.join(damaged[:3])}"
        )
    films = [film for film in read if film]
    if keys is None or not films:
        raise DataError(f"The shards in '{root}' hold no film with a label; nothing can be read.")
    notes = [f"A damaged shard was left out. {reason}" for reason in damaged]
    notes += _notes(shards, keys, len(read) - len(films))
    films.sort(key=lambda film: film.file)
    return DatasetIndex(root, "tfrecord", keys.labels, tuple(films), tuple(notes))


def _shards_in(root: Path) -> list[Path]:
    found = [*root.glob(f"*{_SUFFIX}"), *root.glob(f"data/*{_SUFFIX}")]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _notes(shards: Sequence[Path], keys: _Keys, unlabelled: int) -> list[str]:
    notes = []
    if not keys.patient:
        notes.append(
            "The records name no patients, so each film counts as a patient of its own: splits "
            "by patient are impossible, and a patient of several films may be in several splits."
        )
    if unlabelled:
        notes.append(
            f"{unlabelled} films were left out: they have none of the findings, yet are not "
            f"marked as '{_normal(keys.labels)}'."
        )
    if keys.others:
        notes.append(f"Not whole numbers, and so not read as labels: {', '.join(keys.others)}.")
    if uncounted := sum(not _COUNT.search(shard.name) for shard in shards):
        notes.append(
            f"{uncounted} shards do not end in their count, as 001-438{_SUFFIX} does: if one lost "
            "its last records, nobody can tell."
        )
    return notes


def _normal(labels: Sequence[str]) -> str | None:
    return next((label for label in labels if label.lower() in NORMAL_NAMES), None)


def _read_shard(
    root: Path, shard: Path, keys: _Keys | None
) -> tuple[_Keys | None, list[Film | None]]:
    """Read the records of one shard; `keys` is what the first record of all holds.

    Raises:
        DataError: When a record cannot be understood, or the shard is damaged.
    """
    name = shard.relative_to(root).as_posix()
    films = []
    for number, (start, record) in enumerate(_records(shard, name)):
        file = f"{name}/{number:05d}"
        features = _features(record, file)
        keys = keys or _keys(features, file)
        films.append(_film(features, keys, file, Place(name, start, len(record)), record))
    match = _COUNT.search(name)
    if match and int(match[1]) != len(films):
        raise _Damaged(f"'{name}' holds {len(films)} records, not {match[1]} as its name says.")
    return keys, films


def _records(shard: Path, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield each record and where in the file it starts; one at a time is in memory.

    Raises:
        DataError: When the shard cannot be opened, or a checksum does not match.
    """
    require_tensorflow(f"Reading '{name}', a file of TFRecords,")
    import tensorflow as tf

    start, number = 0, 0
    try:
        for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
            yield start + _HEAD, record
            start, number = start + _HEAD + len(record) + _TAIL, number + 1
    except tf.errors.DataLossError as error:
        raise _Damaged(f"'{name}' is cut short or altered at record {number:05d}.") from error
    except tf.errors.OpError as error:
        raise DataError(f"'{shard}' cannot be read ({error.message}); check the file.") from error


def _features(record: bytes, file: str) -> Features:
    import tensorflow as tf
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return dict(tf.train.Example.FromString(record).features.feature)
    except DecodeError as error:
        raise DataError(
            f"Record {file} is not a tf.train.Example; only shards of those can be read."
        ) from error


def _keys(features: Features, file: str) -> _Keys:
    """Learn from the first record which keys are labels."""
    rest = sorted(features.keys() - _OPTIONAL - {_IMAGE})
    labels = tuple(key for key in rest if features[key].WhichOneof("kind") == "int64_list")
    if _IMAGE not in features or not labels:
        raise DataError(
            f"Record {file} has the keys {', '.join(sorted(features)) or '(none)'}. It needs "
            f"'{_IMAGE}' with the bytes of a JPEG, and one whole number for each label."
        )
    others = tuple(key for key in rest if key not in labels)
    return _Keys(labels, others, "patient" in features)


def _film(features: Features, keys: _Keys, file: str, place: Place, record: bytes) -> Film | None:
    """Make a film of one record; None when its findings are not among the labels.

    Raises:
        DataError: When keys or values are not as they must be.
    """
    _check_keys(features, keys, file)
    present = [label for label in keys.labels if _flag(features[label], label, file)]
    findings = tuple(label for label in present if label.lower() not in NORMAL_NAMES)
    if findings and len(findings) < len(present):
        raise DataError(
            f"Record {file} is marked as '{_normal(present)}' and as {', '.join(findings)}; "
            "only one can be true. Mend the labels and write the shard again."
        )
    if not present and _normal(keys.labels):
        return None
    texts = {key: _text(features[key], key, file) for key in _TEXTS if key in features}
    image = _bytes(features[_IMAGE], _IMAGE, file)
    return Film(
        file,
        findings,
        texts.get("patient", file),
        _split(texts.get("split"), file),
        hashlib.sha256(image).hexdigest(),
        view=_known(texts.get("view"), ("PA", "AP")),
        age_years=_age(features.get("age")),
        sex=_known(texts.get("sex"), ("F", "M")),
        source=texts.get("source"),
        place=Place(place.file, place.start + record.index(image), len(image)),
    )


def _check_keys(features: Features, keys: _Keys, file: str) -> None:
    expected = {_IMAGE, *keys.labels, *keys.others} | ({"patient"} if keys.patient else set())
    found = features.keys() - (_OPTIONAL - {"patient"})
    lacking, beyond = sorted(expected - found), sorted(found - expected)
    if lacking or beyond:
        told = f"lacks {', '.join(lacking)}" if lacking else f"also has {', '.join(beyond)}"
        raise DataError(
            f"Record {file} {told}, unlike the first record. All records need the same keys; "
            "write the shard again."
        )


def _flag(feature: Any, label: str, file: str) -> bool:
    values = [*feature.int64_list.value]
    if values not in ([0], [1]):
        came = ", ".join(map(str, values)) or feature.WhichOneof("kind") or "nothing"
        raise DataError(
            f"Record {file}: '{label}' must be 0 or 1, but {came} came. Every key that holds "
            "whole numbers is read as a label; write the shard again without the others."
        )
    return values == [1]


def _bytes(feature: Any, key: str, file: str) -> bytes:
    values = feature.bytes_list.value
    if len(values) != 1:
        raise DataError(
            f"Record {file}: '{key}' must hold bytes once, but holds them {len(values)} times. "
            "Write the shard again."
        )
    return bytes(values[0])


def _text(feature: Any, key: str, file: str) -> str:
    return _bytes(feature, key, file).decode("utf-8", "backslashreplace")


def _split(name: str | None, file: str) -> str | None:
    if name is None:
        return None
    if name.lower() not in SPLITS:
        raise DataError(
            f"Record {file} is of the split '{name}'. Name splits train, val or test, and write "
            "the shard again."
        )
    return SPLITS[name.lower()]


def _known(value: str | None, allowed: Sequence[str]) -> str | None:
    return value if value in allowed else None


def _age(feature: Any) -> float | None:
    if feature is None:
        return None
    values = [*feature.float_list.value, *feature.int64_list.value]
    return float(values[0]) if values and 0 <= values[0] <= MAX_AGE_YEARS else None


# --- writing ---


def write_shards(
    dataset: DatasetIndex,
    out_folder: Path,
    *,
    per_shard: int = 438,
    size: int = 600,
    quality: int = 90,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Write the films of any data folder as OUT/data/NNN-COUNT.tfrec, and their labels.

    Each film becomes a square one-channel JPEG, stretched as `to_square` stretches. Labels
    are the classes and findings of the folder, with `No Finding` for films without any;
    OUT/preprocessed_data.csv has them too. Where readers drew the findings is not written.

    Shards are written aside and renamed; those of an interrupted run are kept. From the first
    film on that cannot be read no more are written, but all films are read, to name all.

    Args:
        dataset: What to write.
        out_folder: Made if absent.
        per_shard: Films in a shard; the last may have fewer.
        size: Side of the square, in pixels.
        quality: Of the JPEG, 1 to 95.
        progress: Told how many films have been written.

    Returns:
        The shards, in order.

    Raises:
        ArgumentError: On numbers outside what is allowed.
        DataError: When films cannot be read, the disk is full, or OUT holds other shards.
    """
    if per_shard < 1 or not 1 <= quality <= 95:
        raise ArgumentError(
            "A shard holds at least 1 film and JPEG quality is 1 to 95, but per_shard="
            f"{per_shard} and quality={quality} came."
        )
    preprocessing = Preprocessing(size=size, fit="stretch")
    labels = _labels(dataset)
    plan = _plan(dataset.films, per_shard)
    encode = partial(_jpeg, preprocessing=preprocessing, quality=quality)
    rules = [PIXELS, size, quality, labels]
    keys = {name: _key(films, rules) for name, films in plan.items()}
    with _writing(out_folder), _alone(out_folder):
        _claim(out_folder, keys)
        done = 0
        unreadable: list[Unreadable] = []
        for name, films in plan.items():
            if not (out_folder / name).exists():
                step = partial(_step, progress, done, len(dataset.films))
                images = each_film(dataset.root, films, encode)
                _write_shard(out_folder / name, films, images, labels, unreadable, step)
            done += len(films)
        if unreadable:
            raise unreadable_films(unreadable, len(dataset.films))
        _write_labels(out_folder / LABELS_FILE, dataset.films, labels)
    return tuple(out_folder / name for name in plan)


def _labels(dataset: DatasetIndex) -> tuple[str, ...]:
    names = {*dataset.classes, *(name for film in dataset.films for name in film.findings)}
    labels = {name for name in names if name.lower() not in NORMAL_NAMES}
    if len(labels) < len(names) or any(not film.findings for film in dataset.films):
        labels.add(NO_FINDING)
    if taken := labels & {_IMAGE, *_OPTIONAL}:
        raise DataError(
            f"A finding cannot be named {', '.join(sorted(taken))}: records have other things "
            "under that key. Rename it."
        )
    return tuple(sorted(labels))


def _plan(films: Sequence[Film], per_shard: int) -> dict[str, Sequence[Film]]:
    """Deal the films into shards, each named by its number and its count."""
    parts = [films[start : start + per_shard] for start in range(0, len(films), per_shard)]
    digits = max(3, len(str(len(parts))))
    return {
        f"data/{number:0{digits}d}-{len(part)}{_SUFFIX}": part
        for number, part in enumerate(parts, 1)
    }


def _key(films: Sequence[Film], rules: Sequence[Any]) -> str:
    """Tell apart shards of other films, labels or pixels."""
    facts = [[film.digest, film.findings, _texts(film), film.age_years] for film in films]
    return hashlib.sha256(json.dumps([*rules, facts]).encode()).hexdigest()[:32]


def _claim(out: Path, keys: Mapping[str, str]) -> None:
    """Write down what each shard will hold; so a later run knows the shards that are there.

    Raises:
        DataError: When there are shards of which it does not know that.
    """
    plan = out / PLAN_FILE
    try:
        known = json.loads(plan.read_text()) if plan.exists() else {}
    except ValueError:
        known = {}  # the shards, if any, are then nobody's
    there = [path.relative_to(out).as_posix() for path in _shards_in(out)]
    if other := [name for name in there if name not in keys or known.get(name) != keys[name]]:
        raise DataError(
            f"'{out}' holds other shards ({other[0]} is one of {len(other)}): of other films or "
            "labels, or written with other settings. Name a new folder, or delete this one."
        )
    aside = plan.with_suffix(".tmp")
    aside.write_text(json.dumps(keys, indent=1) + "\n")
    aside.replace(plan)


def _step(progress: Progress | None, before: int, total: int, done: int) -> None:
    if progress:
        progress("Writing shards", before + done, total)


def _write_shard(
    path: Path,
    films: Sequence[Film],
    images: Iterator[bytes | Unreadable],
    labels: Sequence[str],
    unreadable: list[Unreadable],
    step: Callable[[int], None],
) -> None:
    """Write one shard, unless a film was unreadable, in it or before it; collect those."""
    require_tensorflow("Writing TFRecords")
    import tensorflow as tf

    aside = path.with_name(f".{path.name}.tmp")  # which no reader takes for a shard
    try:
        with tf.io.TFRecordWriter(str(aside)) as writer:
            for done, (film, image) in enumerate(zip(films, images, strict=True), 1):
                if isinstance(image, Unreadable):
                    unreadable.append(image)
                else:
                    writer.write(_example(film, image, labels))
                step(done)
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        if not unreadable:
            aside.replace(path)
    except tf.errors.OpError as error:
        full = isinstance(error, tf.errors.ResourceExhaustedError)
        raise OSError(errno.ENOSPC if full else errno.EIO, error.message) from error
    finally:
        aside.unlink(missing_ok=True)


def _jpeg(film: Radiograph, preprocessing: Preprocessing, quality: int) -> bytes:
    stream = BytesIO()
    Image.fromarray(to_square(film, preprocessing)[0]).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _texts(film: Film) -> dict[str, str]:
    """Name what is known of a film, by the keys that its record has for it."""
    values = {key: getattr(film, key) for key in _TEXTS}
    return {key: value for key, value in values.items() if value is not None}


def _row(film: Film, labels: Sequence[str]) -> dict[str, int]:
    """Give 0 or 1 for each label."""
    present = set(film.findings) or {NO_FINDING}
    return {label: int(label in present) for label in labels}


def _example(film: Film, image: bytes, labels: Sequence[str]) -> bytes:
    from tensorflow.train import BytesList, Example, Feature, Features, FloatList, Int64List

    features = {
        key: Feature(int64_list=Int64List(value=[value]))
        for key, value in _row(film, labels).items()
    }
    for key, text in _texts(film).items():
        data = text.encode("utf-8", "backslashreplace")
        features[key] = Feature(bytes_list=BytesList(value=[data]))
    if film.age_years is not None:
        features["age"] = Feature(float_list=FloatList(value=[film.age_years]))
    features[_IMAGE] = Feature(bytes_list=BytesList(value=[image]))
    record: bytes = Example(features=Features(feature=features)).SerializeToString()
    return record


def _write_labels(path: Path, films: Sequence[Film], labels: Sequence[str]) -> None:
    aside = path.with_suffix(".tmp")
    with aside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "patient", *labels])
        for film in films:
            writer.writerow([film.file, film.patient, *_row(film, labels).values()])
    aside.replace(path)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Make the folder, and say in a sentence why it cannot be written.

    Raises:
        DataError: Instead of any OSError of the block.
    """
    try:
        (out / "data").mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"The disk with '{out}' is full. Free some room and run it again: the shards that "
                "are finished stay."
            ) from error
        raise DataError(
            f"'{out}' cannot be written ({error.strerror}); name a folder that can."
        ) from error


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second run out of the folder.

    Raises:
        DataError: When another run writes there.
    """
    folder = os.open(out, os.O_RDONLY)
    try:
        # Some network disks know no locks on folders; there, nobody is kept out.
        with suppress(OSError):
            if not _lock(folder):
                raise DataError(f"Another run is writing to '{out}'; wait for it to end.")
        yield
    finally:
        os.close(folder)


def _lock(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
