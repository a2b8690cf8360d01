"""Which films an argument names: a file, a folder, a pattern or a list."""

import glob
import os
from collections.abc import Iterator, Sequence

from cxr_core.errors import ArgumentError

# The table of contents of a DICOM archive; it shows nothing.
CONTENTS = "DICOMDIR"


def find_films(arguments: Sequence[str]) -> list[str]:
    """List files in the order given; folders are walked in sorted order.

    Every regular file that is not hidden counts, whatever its extension.

    Raises:
        ArgumentError: When an argument is neither a file nor a folder.
    """
    return [film for argument in arguments for film in _named(argument)]


def films_of(arguments: Sequence[str]) -> Iterator[str]:
    """Go through the films of an archive, in the order given, holding one folder at a time.

    As `find_films`, but an argument may also be a pattern ("**" reaches into folders), or
    "@LIST", a file with one path on each line: such a path may turn out not to exist once it
    is read. A file named DICOMDIR is left out.

    Raises:
        ArgumentError: When an argument names nothing.
    """
    for argument in arguments:
        for film in _asked(argument):
            if os.path.basename(film) != CONTENTS:
                yield film


def _asked(argument: str) -> Iterator[str]:
    if argument.startswith("@"):
        yield from _listed(argument[1:])
    elif os.path.exists(argument) or not glob.has_magic(argument):
        yield from _named(argument)
    else:
        found = sorted(glob.glob(argument, recursive=True))
        if not found:
            raise ArgumentError(f"Nothing matches '{argument}'; check the pattern.")
        inside = "**" in argument  # what lies in a folder that matches then matches itself
        for path in found:
            if os.path.isfile(path):
                yield path
            elif not inside:
                yield from _named(path)


def _listed(name: str) -> Iterator[str]:
    """Yield the lines of a list that are not empty."""
    try:
        with open(name, encoding="utf-8", errors="surrogateescape") as lines:
            yield from filter(None, (line.rstrip("\r\n") for line in lines))
    except OSError as error:
        raise ArgumentError(
            f"The list '{name}' cannot be read ({error.strerror}); check the path after '@'."
        ) from error


def _named(argument: str) -> Iterator[str]:
    """Yield a file, or the files of a folder.

    Raises:
        ArgumentError: When it is neither, or the folder is empty.
    """
    if os.path.isdir(argument):
        empty = True
        for film in _inside(argument):
            empty = False
            yield film
        if empty:
            raise ArgumentError(f"The folder '{argument}' holds no files; check the path.")
    elif os.path.isfile(argument):
        yield argument
    else:
        raise ArgumentError(f"There is no file or folder '{argument}'; check the path.")


def _inside(folder: str) -> Iterator[str]:
    """Walk a folder in sorted order; what may not be looked at is left out."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except PermissionError:
        return
    for name in names:
        # Joined as text: a Path would drop the "./" that the caller wrote.
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            if not os.path.islink(path):  # it may lead back here
                yield from _inside(path)
        elif os.path.isfile(path):
            yield path
