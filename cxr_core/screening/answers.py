"""Films, one after the other: each gets an answer, or the reason why not."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.answering import checked, with_likeness
from cxr_core.cards import ModelCard
from cxr_core.classifier import Classifier, Prediction
from cxr_core.errors import ImageError
from cxr_core.gate import GateReport
from cxr_core.images import load_radiograph, read_radiograph
from cxr_core.preprocess import ModelInput

BATCH = 16

Outlines = list[NDArray[np.float32]]
"""Lines, each (N, 2) of x and y in pixels of the film."""


@dataclass(frozen=True)
class Answer:
    """What became of one file.

    Attributes:
        file: The argument itself, or the folder argument joined with the relative path.
        prediction: What the model says, or None when the gate refused or the file is bad.
        gate: Its report, or None when the file is bad.
        error: Why the file cannot be read, or None.
        digest: SHA-256 of the file, or None when it is bad.
        contours: Of each label that was flagged, where the evidence lies; None when nobody
            asked.
    """

    file: str
    prediction: Prediction | None = None
    gate: GateReport | None = None
    error: ImageError | None = None
    digest: str | None = None
    contours: Mapping[str, Outlines] | None = None

    def to_json(self, model: str) -> dict[str, Any]:
        """Return the object that `predict --json` prints for this file."""
        if self.error is not None:
            return {
                "file": self.file,
                "ok": False,
                "error": str(self.error),
                "code": self.error.code,
            }
        return {
            "file": self.file,
            "ok": True,
            "model": model,
            "predictions": self.prediction.to_json() if self.prediction else [],
            "gate": self.gate.to_json() if self.gate else None,
        }


@dataclass(frozen=True)
class Prepared:
    """A film that the model may answer, as its network reads it.

    Attributes:
        file: As in `Answer`.
        gate: Its report.
        model_input: What the network reads.
        digest: As in `Answer`.
    """

    file: str
    gate: GateReport
    model_input: ModelInput
    digest: str

    def answered(self, prediction: Prediction) -> Answer:
        """Join what the model says with what is known of the film."""
        report = with_likeness(self.gate, prediction)
        return Answer(self.file, prediction, report, digest=self.digest)


def prepare_film(
    source: Path | bytes, file: str, card: ModelCard, *, gate: bool = True
) -> Prepared | Answer:
    """Read one film as far as its network, or as far as the reason why it gets no answer.

    Args:
        source: The file, or its bytes.
        file: What it is called in the answer.
        card: Of the model that will speak.
        gate: Withhold answers on films that the gate refuses.
    """
    try:
        if isinstance(source, Path):
            radiograph = load_radiograph(source)
        else:
            radiograph = read_radiograph(source, Path(file).name)
    except ImageError as error:
        # A fresh one, since the traceback of the other holds the whole film.
        return Answer(file, error=type(error)(str(error)))
    found = checked(radiograph, card, insist=not gate)
    if found.model_input is None:
        return Answer(file, gate=found.gate, digest=radiograph.digest)
    return Prepared(file, found.gate, found.model_input, radiograph.digest)


def screen(
    classifier: Classifier,
    files: Iterable[str],
    *,
    gate: bool = True,
    contours: bool = False,
    readers: int | None = None,
) -> Iterator[Answer]:
    """Answer films one by one, in order; threads decode ahead while the network works.

    They run a few films ahead and no further: memory stays flat however many there are.

    Args:
        classifier: The model that speaks.
        files: Paths; they may come from a generator.
        gate: Withhold answers on films that the gate refuses.
        contours: Also outline where the evidence for flagged labels lies.
        readers: Threads that decode; one for each processor when None.
    """

    def read(file: str) -> Prepared | Answer:
        return prepare_film(Path(file), file, classifier.card, gate=gate)

    threads = readers or os.cpu_count() or 1
    coming = iter(files)
    ahead: deque[Future[Prepared | Answer]] = deque()
    with ThreadPoolExecutor(threads, "reader") as pool:
        try:
            while True:
                more = islice(coming, BATCH + threads - len(ahead))
                ahead.extend(pool.submit(read, file) for file in more)
                if not ahead:
                    return
                yield from _answer(classifier, _ready(ahead), contours)
        finally:
            for future in ahead:
                future.cancel()


def _ready(ahead: deque[Future[Prepared | Answer]]) -> list[Prepared | Answer]:
    """Wait for the first film; take those along that are read as well by then, in order."""
    ready = [ahead.popleft().result()]
    while ahead and ahead[0].done() and len(ready) < BATCH:
        ready.append(ahead.popleft().result())
    return ready


def _answer(
    classifier: Classifier, ready: Sequence[Prepared | Answer], contours: bool
) -> Iterator[Answer]:
    """Predict the films that can be predicted, keeping all in order."""
    good = [item for item in ready if isinstance(item, Prepared)]
    answers = classifier.predict_batch([item.model_input for item in good]) if good else []
    predictions = iter(answers)
    for item in ready:
        if isinstance(item, Answer):
            yield item
            continue
        answer = item.answered(prediction := next(predictions))
        if contours:
            from cxr_core.screening.outlines import flagged_outlines

            lines = flagged_outlines(classifier, prediction, item.model_input.placement)
            answer = replace(answer, contours=lines)
        yield answer
