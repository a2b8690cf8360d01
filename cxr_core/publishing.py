"""How a model's folder is made and changed: in a folder of one's own, and then in one rename.

Whoever looks sees a bundle as it was or as it will be, and nothing between. Two commands never
share what they write; of two that change one model the second is told so, because whichever
was published last would undo what the other had decided.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr_core.cards import check_name, model_folder, models_root
from cxr_core.datasets.partial import claim
from cxr_core.errors import ArgumentError, ModelError


@contextmanager
def changing(name: str, root: Path | None = None) -> Iterator[None]:
    """Keep other commands from changing a registered model until the block ends.

    Its decisions should be read inside. Where the disk knows no locks, nobody is kept out.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When another command is changing it.
    """
    folder = model_folder(name, root)
    taken = ModelError(
        f"Another command is changing '{name}'. Wait until it is done, then try again."
    )
    with _told(name, folder.parent):
        held = os.open(folder, os.O_RDONLY)
    try:
        claim(held, taken)
        if not folder.is_dir() or not os.path.samestat(os.fstat(held), folder.stat()):
            raise taken  # what is locked has just been replaced
        yield
    finally:
        os.close(held)


@contextmanager
def renewed(name: str, root: Path | None = None) -> Iterator[Path]:
    """Give a copy of a model's folder, which takes its place when the block ends without error.

    Meant to stand inside `changing`.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When the models' folder is full, or cannot be written.
    """
    target = model_folder(name, root)
    with _aside(name, target.parent) as folder:
        shutil.copytree(target, folder)
        yield folder
        older = folder.with_name(f"{name}.old")
        target.rename(older)
        try:
            folder.rename(target)
        except BaseException:
            older.rename(target)
            raise


@contextmanager
def made(name: str, root: Path | None = None) -> Iterator[Path]:
    """Give the place of a new bundle, registered when the block ends without error.

    Raises:
        ArgumentError: When the name is not one a folder may have, or there is such a model by
            the end.
        ModelError: When the models' folder is full, or cannot be written.
    """
    check_name(name)
    place = root or models_root()
    with _aside(name, place) as folder:
        yield folder
        try:
            folder.rename(place / name)
        except OSError as error:
            if not (place / name).exists():
                raise
            raise ArgumentError(
                f"A model named '{name}' was registered meanwhile: nothing is overwritten. Give "
                "this one another name."
            ) from error


@contextmanager
def _aside(name: str, place: Path) -> Iterator[Path]:
    """Name a folder, not made yet, beside the models and nobody else's; deleted afterwards."""
    with _told(name, place):
        place.mkdir(parents=True, exist_ok=True)
        # One folder in another, because the outer one can be opened by its maker only.
        own = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=place))
        try:
            yield own / name
        finally:
            shutil.rmtree(own, ignore_errors=True)


@contextmanager
def _told(name: str, place: Path) -> Iterator[None]:
    """Say in a sentence why the models' folder took nothing.

    Raises:
        ModelError: Instead of any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or "not all of it was taken"  # as copies of folders say it
        raise ModelError(
            f"'{name}' cannot be written to '{place}' ({why}). No model was changed: make room "
            "there, or let it be written to, and try again; a training goes on with --resume."
        ) from error
