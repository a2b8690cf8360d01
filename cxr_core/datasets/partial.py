"""An unfinished pixel cache: kept when a run stops, taken up by the next run.

It is two files: the array that will be the cache, and a list of which of its squares are
written, one line "position digest" each. A square is listed only after it has reached the
disk; so whatever stopped the run (a film that cannot be read, Ctrl-C, kill -9, a power
cut), what is listed can be used. Who writes the list holds a lock on it, which the system
gives up with the process: a list without a lock was left behind.
"""

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import CxrError, DataError

FLUSH_EVERY = 256  # squares; at most so many are decoded again after a kill
_LISTING = ".list"
_LINE = re.compile(rb"^(\d+) ([!-~]+)$", re.MULTILINE)


class Partial:
    """Squares decoded so far; open, with its list locked, until the block ends.

    Attributes:
        path: The array that is being filled.
        done: Digest of the film at each position that is filled and on the disk.
    """

    def __init__(self, path: Path, listing: IO[bytes]) -> None:
        """Open what is on the disk; `listing` is open for reading and writing, and locked."""
        self.path = path
        self._listing = listing
        self._squares: IO[bytes] | None = None
        self._waiting: dict[int, str] = {}
        self.done = _read_list(listing)
        if self.done:
            self._open()

    def _open(self) -> None:
        try:
            self._squares = self.path.open("r+b", buffering=0)
            np.lib.format.read_magic(self._squares)
            self._shape = np.lib.format.read_array_header_1_0(self._squares)[0]
            self._start = self._squares.tell()
            self.done = {k: digest for k, digest in self.done.items() if k < self._shape[0]}
        except (OSError, ValueError):
            self.done = {}  # a list without its array helps nobody

    def reserve(self, shape: tuple[int, int, int]) -> None:
        """Write the array's header and take the whole room for it, (N, S, S) bytes.

        Raises:
            DataError: When the disk has not that much, or the folder cannot be written.
        """
        with writing(self.path.parent, int(np.prod(shape))):
            self._squares = self.path.open("x+b", buffering=0)
            fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._squares, fields)
            self._shape, self._start = shape, self._squares.tell()
            reserve(self._squares, self._start + int(np.prod(shape)))

    def read(self, position: int) -> NDArray[np.uint8] | None:
        """Read one square; None when the array is cut short."""
        side = self._shape[1]
        data = os.pread(self._file(), side * side, self._place(position))
        if len(data) < side * side:
            return None
        return np.frombuffer(data, np.uint8).reshape(side, side)

    def keep(self, position: int, digest: str, square: NDArray[np.uint8]) -> None:
        """Write one square; it is listed with the next flush, one of every `FLUSH_EVERY`.

        Raises:
            DataError: When the disk is full or gone.
        """
        with writing(self.path.parent, int(np.prod(self._shape))):
            _write(self._file(), square.tobytes(), self._place(position))
        self._waiting[position] = digest
        if len(self._waiting) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Bring the squares to the disk, and then into the list.

        Raises:
            DataError: When the disk is full or gone.
        """
        if not self._waiting:
            return
        with writing(self.path.parent, int(np.prod(self._shape))):
            os.fsync(self._file())
            lines = "".join(f"{position} {digest}\n" for position, digest in self._waiting.items())
            self._listing.write(lines.encode())
        self.done |= self._waiting
        self._waiting = {}

    def finish(self, path: Path) -> None:
        """Put the array, now whole, in its place, and drop the list.

        Raises:
            DataError: When the disk is full or gone.
        """
        self.flush()
        with writing(path.parent, int(np.prod(self._shape))):
            os.fsync(self._file())
            self.path.replace(path)
            _list_of(self.path).unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete it; only who holds its lock may."""
        self.done, self._waiting = {}, {}
        self.path.unlink(missing_ok=True)
        _list_of(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """List what is written, give up the lock; what holds nothing is deleted.

        Raises:
            DataError: When the disk is full or gone.
        """
        try:
            self.flush()
        finally:
            if not self.done:
                self.remove()
            if self._squares:
                self._squares.close()
            self._listing.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it, whatever ended the block."""
        self.close()

    def _file(self) -> int:
        if self._squares is None:
            raise DataError(f"'{self.path}' has no room reserved; call reserve first.")
        return self._squares.fileno()

    def _place(self, position: int) -> int:
        return self._start + position * self._shape[1] * self._shape[2]


def begin(path: Path) -> Partial:
    """Start an empty one beside nobody else's, under a name that begins like `path`.

    The list is locked before it has the name that others look for, so that nobody
    takes it for one that was left behind.

    Raises:
        DataError: When the folder cannot be written.
    """
    name = f"{path.name}-{secrets.token_hex(4)}"
    with writing(path.parent):
        new = path.with_name(f"{name}.new")
        listing = new.open("x+b", buffering=0)
        lock(listing.fileno())
        new.replace(path.with_name(name + _LISTING))
    return Partial(path.with_name(name), listing)


def left_behind(folder: Path, prefix: str) -> Iterator[Partial]:
    """Lock and open what stopped runs have left under names that begin with `prefix`."""
    for path in sorted(folder.glob(f"{prefix}*{_LISTING}")):
        try:
            listing = path.open("r+b", buffering=0)
        except OSError:
            continue  # finished by its owner this moment, or another user's
        if lock(listing.fileno()) and _is_still(path, listing):
            yield Partial(path.with_name(path.name.removesuffix(_LISTING)), listing)
        else:
            listing.close()


def lock(descriptor: int) -> bool:
    """Lock an open file or folder; False when another has it, or the disk knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def claim(descriptor: int, taken: CxrError) -> None:
    """Lock an open file or folder; where the disk knows no such locks, nobody is kept out.

    Raises:
        CxrError: `taken`, when another has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise taken from error
    except OSError:
        pass


@contextmanager
def writing(folder: Path, size: int = 0) -> Iterator[None]:
    """Say in a sentence why the cache folder cannot be written; `size` bytes are needed there.

    Raises:
        DataError: Instead of any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"The decoded films need {max(1, round(size / 1e6))} MB in '{folder}', and there "
                "is not that much room. Free some, or set CXR_CACHE to a folder on another disk."
            ) from error
        raise DataError(
            f"The folder for decoded films, '{folder}', cannot be written ({error.strerror}). "
            "Set CXR_CACHE to a folder that can."
        ) from error


def _list_of(path: Path) -> Path:
    return path.with_name(path.name + _LISTING)


def _is_still(path: Path, listing: IO[bytes]) -> bool:
    """Whether the file that was opened is still there: its owner may just have finished."""
    try:
        return os.path.samestat(os.fstat(listing.fileno()), path.stat())
    except OSError:
        return False


def _read_list(listing: IO[bytes]) -> dict[int, str]:
    """Read the lines that are whole, and cut off what follows the last of them."""
    text = listing.read()
    whole = text[: text.rfind(b"\n") + 1]
    listing.truncate(len(whole))
    listing.seek(len(whole))
    return {int(match[1]): match[2].decode() for match in _LINE.finditer(whole)}


def reserve(file: IO[bytes], size: int) -> None:
    """Take the room now: a map of a sparse file ends the process when the disk is full."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
    # Where the disk cannot reserve, each square that finds no room says so when it is written.
    file.truncate(size)


def _write(descriptor: int, data: bytes, start: int) -> None:
    """Write all of `data`, also where the system takes it in pieces."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, start)
        view, start = view[written:], start + written
