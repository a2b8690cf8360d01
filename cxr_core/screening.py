"""Many films, one after the other: each gets an answer, or the reason why not."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_core.classifier import Classifier, Prediction
from cxr_core.errors import ArgumentError, ImageError
from cxr_core.gate import GateReport, check
from cxr_core.images import load_radiograph
from cxr_core.preprocess import ModelInput, prepare

BATCH = 16


@dataclass(frozen=True)
class Answer:
    """What became of one file.

    Attributes:
        file: The argument itself, or the folder argument joined with the relative path.
        prediction: What the model says, or None when the gate refused or the file is bad.
        gate: Its report, or None when the file is bad.
        error: Why the file cannot be read, or None.
    """

    file: str
    prediction: Prediction | None = None
    gate: GateReport | None = None
    error: ImageError | None = None

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


def find_films(arguments: Sequence[str]) -> list[str]:
    """List files in the order given; folders are walked in sorted order.

    Every regular file that is not hidden counts, whatever its extension.

    Raises:
        ArgumentError: When an argument is neither a file nor a folder.
    """
    found = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = sorted(item.relative_to(path) for item in path.rglob("*") if _is_file(item))
            visible = [item for item in inside if not any(p.startswith(".") for p in item.parts)]
            if not visible:
                raise ArgumentError(f"The folder '{argument}' holds no files; check the path.")
            # Joined as text: a Path would drop the "./" that the caller wrote.
            found += [os.path.join(argument, item) for item in visible]
        elif path.is_file():
            found.append(argument)
        else:
            raise ArgumentError(f"There is no file or folder '{argument}'; check the path.")
    return found


def _is_file(path: Path) -> bool:
    """Say whether this is a regular file; what may not be looked at is left out of a walk."""
    try:
        return path.is_file()
    except PermissionError:
        return False


@dataclass(frozen=True)
class _Prepared:
    file: str
    gate: GateReport
    model_input: ModelInput


def screen(classifier: Classifier, files: Sequence[str], *, gate: bool = True) -> Iterator[Answer]:
    """Answer films one by one, in order; decoding runs ahead while the network works.

    Args:
        classifier: The model that speaks.
        files: Paths, as `find_films` lists them.
        gate: Withhold answers on films that the gate refuses.
    """

    def read(file: str) -> _Prepared | Answer:
        try:
            radiograph = load_radiograph(Path(file))
        except ImageError as error:
            return Answer(file, error=error)
        report = check(radiograph, classifier.card)
        if gate and report.refused:
            return Answer(file, gate=report)
        return _Prepared(file, report, prepare(radiograph, classifier.card.preprocessing))

    with ThreadPoolExecutor(2) as pool:
        chunks = [files[k : k + BATCH] for k in range(0, len(files), BATCH)]
        ahead = [pool.submit(read, file) for file in (chunks[0] if chunks else ())]
        for k in range(len(chunks)):
            ready = [task.result() for task in ahead]
            ahead = [pool.submit(read, file) for file in (chunks[k + 1 : k + 2] or [()])[0]]
            yield from _answer(classifier, ready)


def _answer(classifier: Classifier, ready: Sequence[_Prepared | Answer]) -> Iterator[Answer]:
    """Predict the films of one chunk that can be predicted, keeping all in order."""
    good = [item for item in ready if isinstance(item, _Prepared)]
    answers = classifier.predict_batch([item.model_input for item in good]) if good else []
    predictions = iter(answers)
    for item in ready:
        if isinstance(item, Answer):
            yield item
        else:
            yield Answer(item.file, next(predictions), item.gate)
