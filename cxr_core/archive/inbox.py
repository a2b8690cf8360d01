"""The folder that films come to: what the listener and `fetch` write, and the worklist reads.

A film is written under a hidden name, which whoever reads passes over, brought to the disk, and
only then given its own: the digest of its bytes. So nobody meets half a film, nothing is ever
overwritten, a film that is sent twice is there once, and no name says whose it is.
"""

import hashlib
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from cxr_core.errors import ArchiveError, ArgumentError

INBOX = "CXR_INBOX"
PART = ".part"  # ends the hidden names
_LEFT_OVER = 3600  # seconds after which a part is nobody's


class NoRoom(ArchiveError):
    """The inbox, or its disk, is full."""

    code = "no-room"


def inbox() -> Path | None:
    """Return the site's inbox; None where it names none.

    Raises:
        ArgumentError: When it names a folder that is none.
    """
    named = os.environ.get(INBOX)
    if not named:
        return None
    folder = Path(named).resolve()
    if not folder.is_dir():
        raise ArgumentError(
            f"The environment variable {INBOX} names '{named}', which is no folder. Set it to "
            "the folder that films come to, and start the app again."
        )
    return folder


def keep(folder: Path, data: bytes, *, room: int, spare: int) -> tuple[str, bool]:
    """Write one film, whole or not at all; it is on the disk when this returns.

    Args:
        folder: The inbox.
        data: The film's file.
        room: Bytes that the folder may hold.
        spare: Bytes of the disk that must stay free.

    Returns:
        The digest of the film, and whether it is new here.

    Raises:
        NoRoom: When it does not fit, or cannot be written.
    """
    digest = hashlib.sha256(data).hexdigest()
    whole = folder / f"{digest}.dcm"
    part = folder / f".{token_hex(16)}{PART}"
    try:
        if whole.exists():
            return digest, False
        if shutil.disk_usage(folder).free - len(data) < spare:
            raise NoRoom("The disk of the inbox is full; make room there and send again.")
        if _held(folder) + len(data) > room:
            raise NoRoom("The inbox is full; empty it, and send again.")
        try:
            _write(part, data)
            os.link(part, whole)  # refuses to overwrite, as a rename would not
        finally:
            part.unlink(missing_ok=True)
        _bring_to_disk(folder)
    except FileExistsError:  # the same bytes, by another sender at the same moment
        return digest, False
    except OSError as error:
        raise NoRoom(
            f"The inbox cannot be written ({error.strerror}); check the folder {INBOX}."
        ) from error
    return digest, True


def sweep(folder: Path) -> None:
    """Remove parts that a listener left when it was killed."""
    for part in folder.glob(f".*{PART}"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _LEFT_OVER:
                part.unlink()


def _held(folder: Path) -> int:
    """Count the bytes that lie in a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # somebody empties it meanwhile
            total += path.stat().st_size
    return total


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _bring_to_disk(folder: Path) -> None:
    """Have the folder itself remember the new name after a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
