"""Every error this library raises on purpose.

    CxrError                 anything the reader of the screen should be told, in one sentence
    ├── ImageError           this file cannot be read as a radiograph
    │   ├── UnreadableImage  damaged, truncated, empty, or not an image at all
    │   ├── UnsupportedImage an image, but of a kind this library does not read
    │   ├── ImageTooLarge    beyond the limits on bytes, pixels or frames
    │   └── ImageTooSmall    too few pixels, or no contrast, to show anything
    ├── DataError            a folder, label file or split that cannot be used
    ├── ModelError           a model bundle is missing, damaged or inconsistent
    ├── UnknownName          a model, label, method, network or recipe nobody registered
    ├── ArgumentError        a value outside what is allowed
    ├── RecordsError         what was read cannot be kept or looked up
    ├── ArchiveError         an archive cannot be reached, or does not do what it was asked
    ├── AccessError          the app is not open, or this page not to this visitor
    ├── MissingPackage       what was asked for needs more than is installed
    └── TrainingError        training cannot start or go on

Messages name what came, what is allowed and what to do next; they are fit to show
to a clinician. ``code`` is the stable name that scripts see (`predict --json`).
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec


class CxrError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is a full sentence."""

    code = "error"


class ImageError(CxrError):
    """This file cannot be read as a radiograph."""

    code = "image"


class UnreadableImage(ImageError):
    """The file is damaged, truncated, empty, or not an image at all."""

    code = "unreadable"


class UnsupportedImage(ImageError):
    """The file is an image of a kind this library does not read."""

    code = "unsupported"


class ImageTooLarge(ImageError):
    """The file exceeds the limits on bytes, pixels or frames."""

    code = "too-large"


class ImageTooSmall(ImageError):
    """The film has too few pixels, or no contrast, to show anything."""

    code = "too-small"


class DataError(CxrError):
    """A folder, label file or split cannot be used."""

    code = "data"


class ModelError(CxrError):
    """A model bundle is missing, damaged or inconsistent."""

    code = "model"


class UnknownName(CxrError):
    """A model, label, method, network or recipe that nobody registered."""

    code = "unknown-name"

    def __init__(self, kind: str, name: str, allowed: Iterable[str]) -> None:
        """Say what came, what is close to it and what exists.

        Args:
            kind: What the name should name, in words ("model", "method").
            name: What came.
            allowed: The names that exist.
        """
        known = sorted(allowed)
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        listing = ", ".join(known) if known else "none"
        super().__init__(f"There is no {kind} named '{name}'.{hint} Known: {listing}.")


class ArgumentError(CxrError):
    """A value is outside what is allowed."""

    code = "argument"


class RecordsError(CxrError):
    """What was read cannot be kept or looked up."""

    code = "records"


class ArchiveError(CxrError):
    """An archive cannot be reached, or does not do what it was asked."""

    code = "archive"


class AccessError(CxrError):
    """The app is not open as it is set up, or this page not to this visitor."""

    code = "access"


class MissingPackage(CxrError):
    """What was asked for needs more than is installed."""

    code = "missing-package"


class TrainingError(CxrError):
    """Training cannot start or go on."""

    code = "training"


def require_tensorflow(what: str) -> None:
    """Make sure that TensorFlow and Keras are installed, without importing them.

    Args:
        what: Asks for them; begins a sentence.

    Raises:
        MissingPackage: When they are not, as on a server (deploy/requirements.txt).
    """
    try:
        found = all(find_spec(name) for name in ("tensorflow", "keras"))
    except ModuleNotFoundError:
        found = False
    if not found:
        raise MissingPackage(
            f"{what} needs TensorFlow, which is not installed here. Install all of "
            "requirements.txt."
        )
