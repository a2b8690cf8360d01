"""Films themselves, where the site stores them: pixels by digest, without the patient.

Nothing is stored unless CXR_STORE_FILMS names a folder. A film is then a 16-bit PNG by its
digest, with what the gate has to know of it (`Facts`: view, sex, age and such; ages from 90
on are told as 90) and nothing else of its header. Names that were burned into the picture
stay in the picture.
"""

import json
import os
import re
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from cxr_core.errors import RecordsError
from cxr_core.images import MAX_PIXELS, Facts, Radiograph

STORE = "CXR_STORE_FILMS"
OLDEST_AGE = 90.0  # older patients are few enough to be known by their age
DEEPEST = np.float32(65535)
# What a film stored here is called: only such a file is ever deleted.
NAMED = re.compile(r"[0-9a-f]{64}\.png")


def stored_at_all() -> bool:
    """Say whether the site stores films."""
    return bool(os.environ.get(STORE))


def store(radiograph: Radiograph) -> None:
    """Store a film, once, or again where its file is damaged; nothing where the site stores none.

    Raises:
        RecordsError: When it cannot be written.
    """
    path = _path(radiograph.digest)
    if path is None or _is_whole(path):
        return
    told = PngImagePlugin.PngInfo()
    told.add_text("facts", json.dumps(_known(radiograph.facts)))
    grey = np.rint(radiograph.pixels * DEEPEST).astype(np.uint16)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In a folder of its own, so that what could not be written whole is swept away.
        with TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
            part = Path(folder) / path.name
            part.touch(mode=0o600)
            with part.open("wb") as file:
                Image.fromarray(grey).save(file, "PNG", pnginfo=told, compress_level=1)
                file.flush()
                os.fsync(file.fileno())  # the session lets go of what is stored
            os.replace(part, path)
    except OSError as error:
        raise RecordsError(
            f"The film cannot be stored in '{path.parent}': {error.strerror}. Make room or name "
            f"another folder in {STORE}; films can be read meanwhile."
        ) from error


def stored(digest: str) -> Radiograph | None:
    """Return a film that the site stored, under the digest of the file that it came in.

    Raises:
        RecordsError: When its file is damaged.
    """
    path = _path(digest)
    if path is None or not path.is_file():
        return None
    try:
        image = Image.open(path, formats=["PNG"])
        if image.width * image.height > MAX_PIXELS or image.mode != "I;16":
            raise ValueError("it holds another picture")
        facts = _facts(json.loads(image.text["facts"]))
        pixels: NDArray[np.float32] = np.asarray(image).astype(np.float32) / DEEPEST
    except (OSError, ValueError, LookupError, TypeError, SyntaxError, AttributeError) as error:
        raise RecordsError(
            f"The stored film '{path.name}' in '{path.parent}' is damaged: drop the film again."
        ) from error
    pixels.flags.writeable = False
    return Radiograph(pixels, facts, digest)


def holds(digest: str) -> bool:
    """Say whether the site stored a film."""
    path = _path(digest)
    return path is not None and path.is_file()


def forget(digest: str) -> None:
    """Delete a stored film, if there is one.

    Raises:
        RecordsError: When it cannot be deleted.
    """
    path = _path(digest)
    if path is not None:
        _delete(path)


def forget_older(days: float) -> None:
    """Delete the films that were stored more than some days ago, and no other file.

    Raises:
        RecordsError: When one cannot be deleted.
    """
    named = os.environ.get(STORE)
    oldest = time.time() - 86_400 * days
    for path in Path(named).glob("*.png") if named else ():
        if NAMED.fullmatch(path.name) and _stored_at(path) < oldest:
            _delete(path)


def _path(digest: str) -> Path | None:
    """Return where a film is stored; None where the site stores none."""
    named = os.environ.get(STORE)
    return Path(named) / f"{digest}.png" if named and digest.isalnum() else None


def _stored_at(path: Path) -> float:
    """Return when a film was stored; one that another process has just deleted is not old."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _is_whole(path: Path) -> bool:
    """Say whether a film is stored, and its file not cut off or altered."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RecordsError(
            f"The stored film '{path.name}' in '{path.parent}' cannot be deleted "
            f"({error.strerror}): delete it by hand."
        ) from error


def _known(facts: Facts) -> dict[str, Any]:
    known = asdict(facts)
    if facts.age_years is not None:
        known["age_years"] = min(facts.age_years, OLDEST_AGE)
    return known


def _facts(known: dict[str, Any]) -> Facts:
    return Facts(**{name: _as_tuples(value) for name, value in known.items()})


def _as_tuples(value: Any) -> Any:
    """Return what JSON made lists of as it was."""
    return tuple(_as_tuples(one) for one in value) if isinstance(value, list) else value
