"""An archive, from what is asked to the Parquet that answers it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cxr_core.cards import load_card, model_folder, reading
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.familiarity import FILE
from cxr_core.runtime import NETWORK
from cxr_core.screening.answers import screen
from cxr_core.screening.films import films_of
from cxr_core.screening.parts import Summary, opened
from cxr_core.screening.table import packed, row_of, schema_of


@dataclass(frozen=True)
class Job:
    """What is asked of an archive; a stopped run is taken up only by the same.

    Attributes:
        model: Who answers.
        weights: SHA-256 of all that its answers follow from.
        films: The arguments, as `films_of` takes them.
        folder: Where relative paths start.
        contours: Also outline where the evidence for flagged labels lies.
    """

    model: str
    weights: str
    films: list[str]
    folder: str
    contours: bool


Told = Callable[[int], None]
Engine = Callable[[Iterator[tuple[int, list[str]]], Told], Iterator[tuple[int, bytes]]]
"""Takes numbers and films of parts; yields numbers and Parquet, in any order, and tells how many
more films are answered."""


def job_of(model: str, films: Sequence[str], *, contours: bool = False) -> Job:
    """Put down what is asked.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When its files are missing or damaged.
    """
    return Job(model, weights_of(model), list(films), os.getcwd(), contours)


def weights_of(model: str) -> str:
    """Return the SHA-256 of a model's card and network, and of its familiarity where it has one.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When its files are missing or damaged.
    """
    load_card(model)
    digest = hashlib.sha256()
    for name in ("card.json", NETWORK, FILE):
        path = model_folder(model) / name
        if name == FILE and not path.exists():
            continue
        with reading(path):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def here(job: Job) -> Engine:
    """Answer in this process."""
    classifier = load_classifier(job.model)
    return lambda parts, told: answer_parts(classifier, parts, told, contours=job.contours)


def answer_parts(
    classifier: Classifier,
    parts: Iterator[tuple[int, list[str]]],
    told: Told,
    *,
    contours: bool,
    readers: int | None = None,
) -> Iterator[tuple[int, bytes]]:
    """Answer the films of parts in one stream, and write each part as Parquet."""
    schema = schema_of(classifier.card, contours)
    begun: list[tuple[int, int]] = []

    def films() -> Iterator[str]:
        for number, names in parts:
            begun.append((number, len(names)))
            yield from names

    rows = []
    for answer in screen(classifier, films(), contours=contours, readers=readers):
        rows.append(row_of(answer))
        told(1)
        number, size = begun[0]
        if len(rows) == size:
            yield number, packed(rows, schema)
            del begun[0]
            rows = []


def screen_archive(
    job: Job, output: Path, engine: Engine, progress: Callable[[int, int], None]
) -> Summary:
    """Answer every film of an archive; what a stopped run has answered is not answered again.

    Args:
        job: What is asked.
        output: The Parquet to be written; its parts lie beside it until it is whole.
        engine: Who works.
        progress: Called at the start and then with how many films are answered, and of how many.

    Raises:
        ArgumentError: When the result cannot be begun or gone on with, as `parts.opened` says,
            or there are no films.
        DataError: When the disk is full or gone.
    """
    with opened(output, asdict(job), films_of(job.films)) as parts:
        done = parts.done

        def told(more: int) -> None:
            nonlocal done
            done += more
            progress(done, parts.films)

        told(0)
        for number, content in engine(parts.to_do(), told):
            parts.keep(number, content)
        return parts.merge()
