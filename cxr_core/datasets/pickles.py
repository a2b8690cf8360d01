"""Films beside pickled labels, read by an unpickler that builds plain data and calls nothing."""

import io
import pickle
import re
import struct
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from reprlib import repr as short
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cxr_core.datasets.films import DatasetIndex, Film, Progress
from cxr_core.datasets.layouts import (
    SPLITS,
    check_splits,
    class_of,
    digests,
    films_below,
    findings_of,
    folders_in,
    patient_of,
    recognises,
    register_layout,
    some,
    split_of,
)
from cxr_core.errors import DataError

PICKLE_SUFFIXES = frozenset({".pkl", ".pickle"})
MOST_BYTES = 32 * 1024 * 1024  # names and labels of 112,120 films take about 3 MB

# --- a pickle as plain data ---

# OrderedDict becomes a dict: an instance of a class could be given attributes by the file.
_PLAIN: dict[str, Any] = {
    f"{module}.{kind.__name__}": kind
    for module in ("builtins", "__builtin__")  # Python 3 and Python 2
    for kind in (dict, list, tuple, set, frozenset, str, int, float, bool, complex)
} | {"collections.OrderedDict": dict, "numpy.ndarray": "numpy.ndarray"}
_DTYPE = re.compile(r"[<>|=]?([biufSU]\d+|O\d*|\?)")


class _DType:
    """A numpy dtype under way: pickles name its kind first and its byte order after."""

    def __init__(self, kind: str) -> None:
        if not isinstance(kind, str) or not _DTYPE.fullmatch(kind):
            raise ValueError(f"arrays of {short(kind)} are no labels")
        self.dtype: np.dtype[Any] = np.dtype(kind)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """A numpy array under way: pickles make it empty first and fill it after."""

    values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, raw = state
        self.values = _filled(raw, kind, shape, "F" if fortran else "C")


def _filled(raw: Any, kind: _DType, shape: Any, order: Any) -> NDArray[Any]:
    if kind.dtype.hasobject:
        values: NDArray[Any] = np.empty(len(raw), object)
        for k, one in enumerate(raw):  # all at once, numpy would unpack lists
            values[k] = one
    else:
        # Python 2 kept bytes in its str, which is read as Latin-1 here.
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        values = np.frombuffer(data, kind.dtype)
        if kind.dtype.kind == "U" and _codes(data, kind.dtype).max(initial=0) > sys.maxunicode:
            raise ValueError("its text is no text")  # numpy looks at that too late
    if not values.size and shape:
        return values.reshape(-1)  # of no elements any number of rows could be claimed
    return values.reshape(shape, order=order)


def _codes(data: Any, text: np.dtype[Any]) -> NDArray[np.uint32]:
    return np.frombuffer(data, np.dtype("u4").newbyteorder(text.byteorder))


# Of the two unpicklers this is the one in Python: the one in C reserves memory for whatever
# memo index a file names (gh-115952), and a file of labels is small enough for either.
class _Unpickler(pickle._Unpickler):
    """Admit plain data and what makes arrays and scalars of numpy; refuse all else.

    What makes arrays are bound methods, which a pickle can call; only what they make has a
    state that a pickle may set.
    """

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._name = name
        self._makers: dict[str, Callable[..., Any]] = {
            "numpy.dtype": self._dtype,
            "_codecs.encode": self._encode,
        }
        self._makers |= {f"{m}.bytes": self._bytes for m in ("builtins", "__builtin__")}
        self._makers |= {f"{m}.bytearray": self._bytes for m in ("builtins", "__builtin__")}
        for core in ("numpy.core", "numpy._core"):  # before and since numpy 2
            self._makers[f"{core}.multiarray._reconstruct"] = self._array
            self._makers[f"{core}.multiarray.scalar"] = self._scalar
            self._makers[f"{core}.numeric._frombuffer"] = self._from_buffer

    def _load_bytearray(self: Any) -> None:
        # As long as what the file holds; inherited is as long as it says, before it is read.
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    def _load_build(self: Any) -> None:
        if not isinstance(self.stack[-2], _DType | _Array):
            raise ValueError(f"the state of {short(self.stack[-2])} cannot be set")
        pickle._Unpickler.dispatch[pickle.BUILD[0]](self)

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _load_build,
        pickle.BYTEARRAY8[0]: _load_bytearray,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Look up what a pickle refers to, among what is admitted.

        Raises:
            DataError: When it is anything else, which could run code.
        """
        full = f"{module}.{name}"
        if full in _PLAIN:
            return _PLAIN[full]
        if full in self._makers:
            return self._makers[full]
        raise DataError(
            f"'{self._name}' refers to {_quoted(full)[1:-1]}, which is no plain data and could run "
            "code, so it was not opened. A file of labels may hold dictionaries, lists, text, "
            "numbers and numpy arrays: save it as such, or as a CSV."
        )

    def _dtype(self, kind: Any, *_: Any) -> _DType:
        return _DType(kind)

    def _array(self, *_: Any) -> _Array:
        return _Array()

    def _scalar(self, kind: _DType, raw: Any) -> Any:
        return _filled(raw, kind, (1,), "C").tolist()[0]

    def _from_buffer(self, raw: Any, kind: _DType, shape: Any, order: Any, *_: Any) -> _Array:
        array = _Array()
        array.values = _filled(raw, kind, shape, order)
        return array

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        return self._bytes(text, encoding)

    def _bytes(self, value: Any = b"", encoding: str = "latin1") -> bytes:
        # Not from a number: bytes(10**12) would take that much memory.
        if isinstance(value, str) and encoding.replace("-", "") == "latin1":
            return value.encode("latin1")
        if not isinstance(value, bytes | bytearray | list | tuple):
            raise ValueError(f"bytes cannot be made of {short(value)}")
        return bytes(value)


def load_plain(path: Path) -> Any:
    """Read a pickle of plain data, also one written by Python 2, without running what is in it.

    Returns:
        What it holds. Arrays at its top, in a dictionary or in a list are still wrapped; see
        `_listed`.

    Raises:
        DataError: When the file is too large, damaged, or refers to anything but plain data.
    """
    if path.stat().st_size > MOST_BYTES:
        raise DataError(
            f"'{path.name}' has {path.stat().st_size / 2**20:,.0f} MB. A file of labels holds "
            f"names and labels, no pixels, and at most {MOST_BYTES // 2**20} MB."
        )
    try:
        return _Unpickler(path.read_bytes(), path.name).load()
    except (
        *(pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError),
        *(KeyError, AssertionError, OverflowError, MemoryError, RecursionError, struct.error),
    ) as problem:
        raise DataError(
            f"'{path.name}' cannot be read as a pickle of labels ({problem or 'it is damaged'}). "
            "Write it anew, or give the labels as a CSV."
        ) from problem


# --- which label is meant ---

_NAME_KEYS = frozenset(
    "file files filename filenames file_name file_names name names path paths image images "
    "image_name image_names image_path image_paths id ids".split()
)
_LABEL_KEYS = frozenset("label labels class classes target targets y y_true".split())


def _listed(value: Any) -> list[Any] | None:
    """List the elements of a list, tuple or array; None for anything else."""
    if isinstance(value, _Array):
        value = value.values.tolist()
    return list(value) if isinstance(value, list | tuple) else None


def _quoted(value: Any) -> str:
    """Quote a name in full, where it is one: the usual short form leaves out its middle."""
    return repr(value[:200]) if isinstance(value, str) else short(value)


def _text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _entries(content: Any, source: str) -> tuple[list[Any] | None, list[Any]]:
    """Take names and labels apart; names are None where a file holds labels only."""
    if isinstance(content, dict):
        names, labels = _columns(content)
    else:
        rows = _listed(content)
        if rows is None:
            raise DataError(
                f"'{source}' holds {short(content)}. Expected a dictionary of names and labels, a "
                "list of pairs of both, or a list of labels in the order of the file names."
            )
        pairs = [_listed(row) for row in rows]
        named = [p for p in pairs if p and len(p) == 2 and isinstance(_text(p[0]), str)]
        if not rows or len(named) < len(rows):
            return None, rows
        names, labels = [name for name, _ in named], [label for _, label in named]
    if len(names) != len(labels):
        raise DataError(
            f"'{source}' has {len(names):,} names but {len(labels):,} labels. Every name needs "
            "one label."
        )
    return [_text(name) for name in names], labels


def _columns(content: dict[Any, Any]) -> tuple[list[Any], list[Any]]:
    """Read {"filenames": [...], "labels": [...]}, or else {name: label, ...}."""
    columns = {
        key.lower(): _listed(value)
        for key, value in zip(map(_text, content), content.values(), strict=True)
        if isinstance(key, str)
    }
    names = [columns[key] for key in columns.keys() & _NAME_KEYS]
    labels = [columns[key] for key in columns.keys() & _LABEL_KEYS]
    if len(names) == len(labels) == 1 and names[0] is not None and labels[0] is not None:
        return names[0], labels[0]
    return list(content), list(content.values())


def _class_of(label: Any) -> str:
    """Name the class that a label means, which may also be a one-hot pair of 0 and 1."""
    row = _listed(label)
    if row and len(row) == 1:  # a column, as Keras likes it
        return class_of(_text(row[0]))
    if row in ([0, 1], [1, 0]):
        return class_of(row.index(1))
    return class_of(_text(label))


# --- which film is meant ---


class _Finder:
    """Find films by names that may lack their extension, or have more or fewer folders."""

    def __init__(self, files: Sequence[str]) -> None:
        self._ends: dict[tuple[str, ...], set[str]] = {}
        self._full: dict[tuple[str, ...], set[str]] = {}
        self._tops = {PurePosixPath(file).parts[0] for file in files if "/" in file}
        for file in files:
            for parts in {PurePosixPath(file).parts, PurePosixPath(file).with_suffix("").parts}:
                self._full.setdefault(parts, set()).add(file)
                for k in range(len(parts)):
                    self._ends.setdefault(parts[k:], set()).add(file)

    def __call__(self, name: str) -> set[str]:
        """Return the films that a name may mean.

        The name must be the end of the film's path, or the film's path the end of the name:
        test/1.png never finds train/1.png, nor 1.png beside a folder named test.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        for found in (self._full.get(parts), self._ends.get(parts)):
            if found:
                return found
        for k in range(1, len(parts)):
            if parts[k - 1] in self._tops:
                break
            if parts[k:] in self._full:
                return self._full[parts[k:]]
        return set()


def _match(names: Sequence[Any], files: Sequence[str], source: str) -> list[str]:
    """Name the film of each label.

    Raises:
        DataError: When a film is absent, named twice, or one of several.
    """
    find = _Finder(files)
    found = [find(name) if isinstance(name, str) else set() for name in names]
    absent = [_quoted(name) for name, films in zip(names, found, strict=True) if not films]
    if absent:
        raise DataError(
            f"'{source}' has labels for {len(absent):,} films that are not there: {some(absent)}. "
            "Add those films, or take their labels out."
        )
    for name, films in zip(names, found, strict=True):
        if len(films) > 1:
            raise DataError(
                f"'{source}' has a label for '{name}', which may be {some(sorted(films))}. Name "
                "the film with its folder and its extension."
            )
    matched = [film for films in found for film in films]
    twice = [film for film, count in Counter(matched).items() if count > 1]
    if twice:
        raise DataError(f"'{source}' has two labels for {some(twice)}. Leave one of them.")
    return matched


# --- the layout ---


def _pickles(root: Path) -> list[Path]:
    return sorted(
        path
        for path in root.iterdir()
        if path.is_file() and path.suffix.lower() in PICKLE_SUFFIXES and path.name[0] != "."
    )


@recognises("pickled-labels", "films and a pickled file of their labels, labels.pkl")
def _has_pickles(root: Path) -> bool:
    return bool(_pickles(root))


@register_layout
def pickled_labels(root: Path, progress: Progress | None = None) -> DatasetIndex:
    """Read films whose labels are in pickles: train_labels.pkl labels the films in train/.

    A pickle belongs to the folder whose name is a word of its own; a lone pickle without such a
    folder labels all films. Names may lack extension and folder. Labels are 0 or 1 (normal or
    abnormal), one-hot pairs of them, or names of classes.

    Raises:
        DataError: When a pickle cannot be read or may run code, when it does not say which
            film a label belongs to, or when a label is none.
    """
    paths = films_below(root)
    files = [path.relative_to(root).as_posix() for path in paths]
    sources = _pickles(root)
    if not files or not sources:
        raise DataError(
            f"'{root}' lacks {'a pickle of labels' if files else 'films'}. Expected films in it, "
            "or in folders such as train, and a file such as labels.pkl or train_labels.pkl."
        )
    classes: dict[str, str] = {}
    notes: list[str] = []
    for folder, source in _by_folder(sources, root).items():
        below = [file for file in files if not folder or file.startswith(f"{folder}/")]
        classes |= _labels(source, folder, below, notes)
    if not classes:
        raise DataError(
            f"{some(source.name for source in sources)} in '{root}' gives no film a label. Save a "
            "dictionary of file names and labels."
        )
    left = [file for file in files if file not in classes]
    if left:
        notes.append(f"{len(left):,} films without a label were left out: {some(left)}.")
    check_splits(root, classes)
    kept = [path for path, file in zip(paths, files, strict=True) if file in classes]
    films = [
        Film(
            file := path.relative_to(root).as_posix(),
            findings_of(classes[file]),
            patient_of(path, root),
            split_of(file),
            digest,
        )
        for path, digest in zip(kept, digests(kept, progress), strict=True)
    ]
    films.sort(key=lambda film: film.file)
    names = tuple(sorted(set(classes.values())))
    return DatasetIndex(root, "pickled-labels", names, tuple(films), tuple(notes))


def _by_folder(sources: Sequence[Path], root: Path) -> dict[str, Path]:
    """Say which folder each pickle labels; "" stands for all films.

    Raises:
        DataError: When a pickle could belong to several folders, or two to one.
    """
    folders: dict[str, Path] = {}
    for source in sources:
        named = [f.name for f in folders_in(root) if _says(source.stem) & _says(f.name, whole=True)]
        if len(named) > 1:
            raise DataError(
                f"'{source.name}' may label the films in {' or in '.join(named)}. Name it after "
                "one of them, such as train_labels.pkl."
            )
        if not named and len(sources) > 1:
            raise DataError(
                f"'{root}' has {len(sources)} pickles ({some(s.name for s in sources)}), and "
                f"'{source.name}' does not say in its name which folder's films it labels. Name "
                "it after the folder, such as train_labels.pkl, or leave only one pickle."
            )
        folder = named[0] if named else ""
        if folder in folders:
            raise DataError(
                f"'{folders[folder].name}' and '{source.name}' both label the films in {folder}. "
                "Leave one of them."
            )
        folders[folder] = source
    return folders


def _says(name: str, whole: bool = False) -> set[str]:
    """List the words of a name, or the runs of words, such as "site_a" in site_a_labels."""
    words = re.split(r"[-_. ]+", name.lower())
    runs = {
        "_".join(words[start:stop])
        for start in range(len(words))
        for stop in range(start + 1, len(words) + 1)
    }
    said = {"_".join(words)} if whole else runs
    return {SPLITS.get(run, run) for run in said}  # val and validation are one


def _labels(source: Path, folder: str, below: list[str], notes: list[str]) -> dict[str, str]:
    """Read one pickle: the class of each film it labels."""
    names, labels = _entries(load_plain(source), source.name)
    place = f"'{folder}'" if folder else "the folder"
    if names is not None:
        films = _match(names, below, source.name)
    elif len(labels) == len(below):
        films = below
        notes.append(
            f"'{source.name}' names no films: its {len(labels):,} labels were taken in the sorted "
            f"order of the file names in {place}."
        )
    else:
        raise DataError(
            f"'{source.name}' holds {len(labels):,} labels without names, but there are "
            f"{len(below):,} films in {place}. Save a dictionary of file names and labels."
        )
    classes = {}
    for film, label in zip(films, labels, strict=True):
        try:
            classes[film] = _class_of(label)
        except ValueError as problem:
            raise DataError(f"'{source.name}' says of '{film}': {problem}.") from problem
    if any(len(_listed(label) or ()) == 2 for label in labels):
        notes.append(
            f"'{source.name}' holds pairs of 0 and 1: the first place was taken as normal, the "
            "second as abnormal."
        )
    return classes
