"""What one reader has on screen, and what all readers share.

Films, answers and maps live in a `Session`, which belongs to one browser tab and dies with
it: nothing of a patient enters a cache that another tab could read. Shared are only the
classifiers (read-only) and the public record of each model.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, NamedTuple

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image
from starlette.formparsers import MultiPartParser
from streamlit.runtime.scriptrunner import script_runner

from cxr_core import gate, local_check
from cxr_core.answering import answer
from cxr_core.attribution import Attribution, Progress, explain, occluded
from cxr_core.attribution.checks import MapCheck, counterpart_of, examine
from cxr_core.cards import (
    ModelCard,
    damaged_models,
    is_current,
    list_models,
    load_evaluation,
    load_explanations,
    load_history,
    load_predictions,
    model_folder,
    models_root,
)
from cxr_core.classifier import Classifier, Prediction, load_classifier
from cxr_core.errors import ArgumentError, CxrError, ModelError
from cxr_core.evaluation import CalibrationBin, EvaluationReport, similar_scores
from cxr_core.explanations import ExplanationReport
from cxr_core.gate import GateReport
from cxr_core.images import (
    MAX_BYTES,
    Radiograph,
    StudyReference,
    read_radiograph,
    read_study_reference,
)
from cxr_core.phantom import sample_film
from cxr_core.predictions import PredictionTable
from cxr_core.preprocess import Box, ModelInput, region_at, restore
from cxr_core.records import Read
from cxr_core.registration import Registration
from cxr_core.ui import access, journal
from cxr_core.ui import reading as words
from cxr_core.ui.arrivals import Upload
from cxr_core.uncertainty import steadiness

SAMPLE_NAME = "Sample film (computer-made)"
# A film of 4 MP holds 16 MB here; more films than this are work for the command line.
FIRST = "pediatric-pneumonia"  # the model with the best record speaks until another is chosen
MAX_FILMS = 40
LATELY = 10.0  # seconds for which the next files that come are told of together with the last
MAX_PIXELS_HELD = 200_000_000  # of all films of one reader: 0.8 GB
# Longest side shown at first: enough for the whole film on a screen, and quick to send.
SHOWN_SIDE = 1280
# Streamlit holds an upload in memory, but Starlette (1.10) would send what is longer than 1 MB
# through a temporary file on its way there: a film must not be left on a disk.
MultiPartParser.spool_max_size = MAX_BYTES


class Explained(NamedTuple):
    """What a map explains: a label, or its absence, by a method."""

    label: str
    method: str
    absence: bool = False


def _now() -> datetime:
    return datetime.now().astimezone().replace(microsecond=0)


@dataclass
class Reading:
    """What one model made of one film: its checks, its answer, its maps so far.

    Attributes:
        gate: The checks of the film.
        model_input: The film as the model read it; None when it was refused.
        prediction: The answer; None when it was refused.
        maps: What was explained.
        checks: How far those maps hold on this film.
        insisted: What the reader chose to see although it is withheld: a finding below its
            operating point (method None), or a map that another method contradicts.
        region: What the reader asked to be left out, and the answer without it.
        at: When the answer was given, to the second, in the time zone of this computer.
    """

    gate: GateReport
    model_input: ModelInput | None = None
    prediction: Prediction | None = None
    maps: dict[Explained, Attribution] = field(default_factory=dict)
    checks: dict[Explained, MapCheck] = field(default_factory=dict)
    insisted: set[tuple[str, str | None]] = field(default_factory=set)
    region: tuple[Box, Prediction] | None = None
    steadiness: dict[str, tuple[float, float]] = field(default_factory=dict)
    at: datetime = field(default_factory=_now)


@dataclass
class Film:
    """One film on screen.

    Attributes:
        name: As uploaded; shown to its own reader only.
        radiograph: The film.
        shown: float32 (h, w) in [0, 1], small enough for a screen.
        serial: Which film of its session this is, counting those removed.
        stated_age: Years, as the reader says; None while unstated.
        readings: By model name and version.
        original: The film as it came, while something of it is mended; else None.
        mended: What was mended, one sentence each.
        test_film: What a model's test record calls it, when it was opened from there.
        reference: Whose film it is, where a DICOM header says so; for exports, and to find the
            patient's other films here. Of it the day of the study alone is ever shown.
    """

    name: str
    radiograph: Radiograph
    shown: NDArray[np.float32]
    serial: int = 0
    stated_age: float | None = None
    readings: dict[tuple[str, str], Reading] = field(default_factory=dict)
    original: Radiograph | None = None
    mended: tuple[str, ...] = ()
    test_film: str = ""
    reference: StudyReference | None = None

    @property
    def as_it_came(self) -> bool:
        """Whether it is read as it came: nothing mended, and no age stated."""
        return not self.mended and self.stated_age is None

    @property
    def age_years(self) -> float | None:
        """Age from the file, else as stated."""
        known = self.radiograph.facts.age_years
        return self.stated_age if known is None else known

    def was_read(self, card: ModelCard) -> bool:
        """Say whether a model has spoken of this film."""
        return (card.name, card.version) in self.readings

    def state_age(self, years: float | None) -> None:
        """Take the reader's word; answers given for another age are forgotten."""
        if years != self.stated_age:
            self.stated_age = years
            self.readings.clear()

    def mend(self, mends: Sequence[gate.Mend]) -> None:
        """Undo faults of the film as the reader asked; answers to the faulty film are forgotten."""
        self.original = self.original or self.radiograph
        for one in mends:
            self.radiograph = gate.mended(self.radiograph, one)
            self.mended += (one.done,)
        self.shown = reduced(self.radiograph.pixels)
        self.readings.clear()

    def take_back(self) -> None:
        """Show the film as it came."""
        if self.original is not None:
            self.radiograph, self.original, self.mended = self.original, None, ()
            self.shown = reduced(self.radiograph.pixels)
            self.readings.clear()


@dataclass
class Session:
    """All that one reader has on screen.

    Attributes:
        films: By digest, in order of arrival.
        failures: Why a file that came lately could not be read, one sentence each.
        again: Which films that came lately were here already, one sentence each.
        unkept: Why the records could not take the last answer; "" when they did.
        chosen: Digest of the film on screen; None for the most suspicious.
        priors: Which film the reader compares a film with, by digest; None for none.
        registrations: How films lie over each other, by digest and what was mended of each.
        seen: Counts the films that were ever put on screen.
        came: When files came last, in seconds of `time.monotonic`.
        drop: Which drop they were of.
    """

    films: dict[str, Film] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    unkept: str = ""
    chosen: str | None = None
    priors: dict[str, str | None] = field(default_factory=dict)
    registrations: dict[tuple[Any, ...], Registration] = field(default_factory=dict)
    came: float = float("-inf")
    drop: str = ""
    seen: int = 0

    def film(self) -> Film | None:
        """Return the film on screen."""
        return self.films.get(self.chosen or "")

    def waiting(self, card: ModelCard) -> list[Film]:
        """Return the films that a model has not spoken of yet."""
        return [film for film in self.films.values() if not film.was_read(card)]

    def take(self, uploads: Sequence[Upload]) -> None:
        """Read files; a bad one leaves its sentence in `failures`, the others are shown.

        What is said of one file stays when the next is dropped right after it, and what is on
        screen while the rest of a drop comes.
        """
        if not uploads:
            return
        rest = uploads[0].drop != "" and uploads[0].drop == self.drop
        on_screen, self.drop = self.chosen, uploads[-1].drop
        now = time.monotonic()
        if now - self.came > LATELY:
            self.failures, self.again = [], []
        self.came = now
        for name, data, _ in uploads:
            try:
                radiograph = read_radiograph(data, name)
                if known := self.films.get(radiograph.digest):
                    self.again.append(f"{known.name} was here already.")
                self.add(name, radiograph, reference=read_study_reference(data))
            except CxrError as error:
                self.failures.append(str(error))
        if rest:
            self.chosen = on_screen
        elif len(uploads) > 1:
            self.chosen = None

    def take_sample(self) -> None:
        """Show the computer-made film."""
        self.failures, self.again = [], []
        try:
            self.add(SAMPLE_NAME, sample_film())
        except ArgumentError as error:  # the page is full
            self.failures.append(str(error))

    def add(
        self,
        name: str,
        radiograph: Radiograph,
        *,
        test_film: str = "",
        reference: StudyReference | None = None,
    ) -> None:
        """Put a film on screen, or show it again.

        Raises:
            ArgumentError: When the screen holds as many films as it can.
        """
        if radiograph.digest not in self.films:
            if len(self.films) >= MAX_FILMS:
                raise ArgumentError(
                    f"{name} was left out: the page holds {MAX_FILMS} films. Remove some, or read "
                    "many at once with `python -m cxr_core predict`."
                )
            held = sum(film.radiograph.pixels.size for film in self.films.values())
            if held + radiograph.pixels.size > MAX_PIXELS_HELD:
                raise ArgumentError(
                    f"{name} was left out: the films on the page fill its memory. Remove some, or "
                    "read many at once with `python -m cxr_core predict`."
                )
            self.seen += 1
            shown = reduced(radiograph.pixels)
            film = Film(name, radiograph, shown, self.seen, reference=reference)
            self.films[radiograph.digest] = film
        if test_film:
            self.films[radiograph.digest].test_film = test_film
        self.chosen = radiograph.digest

    def remove(self) -> None:
        """Forget the film on screen."""
        self.films.pop(self.chosen or "", None)
        self.failures, self.again, self.chosen = [], [], None

    def clear(self) -> None:
        """Forget every film."""
        self.films.clear()
        self.remove()


def current() -> Session:
    """Return this reader's session, made on first use."""
    state = st.session_state
    if "session" not in state:
        state["session"] = Session()
    found: Session = state["session"]
    return found


# --- the models, shared ---


def cards() -> list[ModelCard]:
    """Read the card of every model.

    Raises:
        ModelError: When there is none.
    """
    found = list_models()
    if not found:
        raise ModelError(
            " ".join(damaged_models())
            or f"There is no model in '{models_root()}'. Train one with "
            "`python -m cxr_core train pediatric-pneumonia --data FOLDER`."
        )
    return sorted(found, key=lambda card: card.name != FIRST)


def for_reading() -> list[ModelCard]:
    """Leave out models that only repeat what others published, unless there are no others.

    Raises:
        ModelError: When there is no model.
    """
    found = cards()
    return [card for card in found if not card.training.get("replica")] or found


class _Loading:
    """A model on its way: it answers as soon as it is there, and explains later.

    Args:
        load: Makes the classifier; run at once, aside.
    """

    def __init__(self, name: str, load: Callable[[], Classifier]) -> None:
        """Begin to load."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"load-{name}")
        self._preparing = Lock()
        self._prepared: Future[None] | None = None
        self.answers = self._pool.submit(load)

    def prepare(self) -> None:
        """Begin to make ready what maps need, once: work that the first answer need not share."""
        with self._preparing:
            if self._prepared is None:
                self._prepared = self._pool.submit(lambda: _with_gradients(self.answers.result()))

    @property
    def sound(self) -> bool:
        """Whether nothing went wrong so far."""
        steps: tuple[Future[Any] | None, ...] = (self.answers, self._prepared)
        return not any(step and step.done() and step.exception() for step in steps)


def warm_up(card: ModelCard) -> bool:
    """Begin to load a model in the background; say whether it is ready to answer."""
    return _loading(card.name, card.version, str(models_root())).answers.done()


def explains(card: ModelCard) -> bool:
    """Say whether a model's quick maps take no time now: by its graph, or Keras is there."""
    return warm_up(card) and classifier(card).points_at_once


def prepare_to_explain(card: ModelCard) -> None:
    """Begin to make ready in the background what maps and their checks need."""
    _loading(card.name, card.version, str(models_root())).prepare()


def classifier(card: ModelCard) -> Classifier:
    """Return a model that answers, waiting for it if need be.

    Raises:
        ModelError: When its files are damaged.
    """
    return _loading(card.name, card.version, str(models_root())).answers.result()


def _sound(loading: _Loading) -> bool:
    return loading.sound


@st.cache_resource(max_entries=4, show_spinner=False, validate=_sound)
def _loading(name: str, version: str, root: str) -> _Loading:
    """Load a model aside, so that the page answers meanwhile.

    What is loading is what sessions share. A model that failed is asked for anew.
    """
    # Streamlit ends every run of every page with keras.backend.clear_session(), which takes a
    # quarter of a second and replaces Keras' state under the threads of other readers. The
    # classifiers here are few, shared, and live as long as the server: nothing is to clear.
    script_runner._clean_problem_modules = _clean_nothing
    return _Loading(name, partial(_load, name, Path(root)))


def _clean_nothing() -> None:
    """Stand in for what Streamlit does to Keras while classifiers are shared."""


def _load(name: str, root: Path) -> Classifier:
    gate.load_gate()  # it looks at every film first
    return load_classifier(name, root)


def _with_gradients(loaded: Classifier) -> None:
    """Make ready what maps need: a moment by a graph, seconds by Keras."""
    loaded.warm_up()


@dataclass(frozen=True)
class Record:
    """The public record of one model."""

    report: EvaluationReport
    table: PredictionTable
    history: dict[str, list[float]]

    def similar(self, label: str, probability: float) -> CalibrationBin:
        """Return what test films that scored alike turned out to be."""
        column = self.table.labels.index(label)
        return similar_scores(
            self.table.y_true[:, column], self.table.y_score[:, column], probability
        )


def record(card: ModelCard) -> Record:
    """Read the test record of a model; no TensorFlow.

    Raises:
        ModelError: When a file is missing or damaged.
    """
    return record_of(card.name, card.version, str(models_root()))


@st.cache_data(max_entries=16, show_spinner=False)
def record_of(name: str, version: str, root: str) -> Record:
    """Read the test record of a model by name; `version` only parts old from new."""
    place = Path(root)
    return Record(
        load_evaluation(name, place), load_predictions(name, place), load_history(name, place)
    )


def file_digest(card: ModelCard) -> str:
    """Return the SHA-256 of a model's weights, in hexadecimal, or that there are none."""
    return _file_digest(card.name, card.version, str(models_root()))


@st.cache_data(max_entries=16, show_spinner=False)
def _file_digest(name: str, version: str, root: str) -> str:
    path = model_folder(name, Path(root)) / "model.keras"
    if not path.is_file():
        return "shipped without its weights"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- reading a film ---


def read(film: Film, card: ModelCard) -> Reading:
    """Check a film and, unless it is refused, ask the model; once for each film and model."""
    if not film.was_read(card):
        reading = answered(film.radiograph, card, film.age_years)
        film.readings[card.name, card.version] = reading
        told = replace(film_entry(film, card), reader=access.visitor().name)
        current().unkept = journal.keep(told)
    return film.readings[card.name, card.version]


def answered(radiograph: Radiograph, card: ModelCard, age_years: float | None = None) -> Reading:
    """Check a film and, unless it is refused, ask the model; from any thread."""
    found = answer(
        radiograph, card, lambda film: classifier(card).predict(film), age_years=age_years
    )
    return Reading(found.gate, found.model_input, found.prediction)


def film_entry(film: Film, card: ModelCard) -> Read:
    """Say what goes into the records of a film on screen, and as what it was read."""
    told = entry(film.radiograph.digest, card, film.readings[card.name, card.version])
    stated = "" if film.stated_age is None else "age"
    return replace(told, mended=" ".join(film.mended), stated=stated)


def entry(digest: str, card: ModelCard, reading: Reading) -> Read:
    """Say what goes into the records: scores and decisions, no pixel and no name."""
    return Read(
        digest=digest,
        model=card.name,
        version=card.version,
        gate=_ageless(reading.gate.to_json()),
        predictions=reading.prediction.to_json() if reading.prediction is not None else [],
    )


def _ageless(report: dict[str, Any]) -> dict[str, Any]:
    """Return a gate's report without the patient's age, which is not the records' to keep."""
    kept = [
        one | {"value": None, "reason": ""} if one["name"] == "age" else one
        for one in report["checks"]
    ]
    return report | {"checks": kept}


def attribution(
    reading: Reading, card: ModelCard, asked: Explained, progress: Progress | None = None
) -> Attribution:
    """Explain one label; class activation maps use the features of the answer's own pass.

    A map is kept once it is whole: one that is interrupted leaves nothing behind.

    Raises:
        ModelError: When the film was refused.
    """
    model_input, prediction = _answered(reading)
    if asked not in reading.maps:
        reading.maps[asked] = explain(
            classifier(card),
            model_input,
            asked.label,
            asked.method,
            absence=asked.absence,
            features=prediction.features,
            progress=progress,
        )
    return reading.maps[asked]


def examined(
    film: Film,
    reading: Reading,
    card: ModelCard,
    asked: Explained,
    progress: Progress | None = None,
) -> MapCheck:
    """Check a map of this film: against another method, another framing, and the lungs.

    Raises:
        ModelError: When the film was refused.
    """
    model_input, prediction = _answered(reading)
    if asked not in reading.checks:
        other = asked._replace(method=counterpart_of(asked.method))
        reading.checks[asked] = examine(
            classifier(card),
            model_input,
            film.radiograph.pixels,
            attribution(reading, card, asked),
            features=prediction.features,
            counterpart=attribution(reading, card, other, progress),
            progress=progress,
        )
    return reading.checks[asked]


# Half of the processor makes maps, the other half answers.
_working = BoundedSemaphore(max(1, (os.cpu_count() or 1) // 2))


@contextmanager
def in_turn(waiting: Callable[[], None]) -> Iterator[None]:
    """Do slow work when it is this reader's turn: ten at once would keep all answers waiting.

    Args:
        waiting: Called again and again until then. It draws something, for that is where
            Streamlit stops the work of a reader who moves on.
    """
    while not _working.acquire(timeout=0.25):
        waiting()
    try:
        yield
    finally:
        _working.release()


def ask_about(reading: Reading, card: ModelCard, point: tuple[float, float] | None) -> None:
    """Ask what the model says without the region around a point; None takes it back.

    Raises:
        ModelError: When the film was refused.
    """
    model_input, _ = _answered(reading)
    reading.region = None
    if point is not None:
        box = region_at(*point, model_input.placement)
        reading.region = box, classifier(card).predict(occluded(model_input, box))


def steady(film: Film, reading: Reading, card: ModelCard) -> None:
    """Find out how far the answer moves when the film is varied a little."""
    reading.steadiness = steadiness(classifier(card), film.radiograph)


def verdict(card: ModelCard, label: str, method: str) -> str:
    """Say what was measured of a model's maps, in a sentence."""
    return words.tested_in_words(explanations(card), label, method)


def belonging(card: ModelCard) -> tuple[str, ...]:
    """Say where a model's decisions and its weights do not belong together, a sentence each.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When a file of it is damaged.
    """
    files = ("card.json", "model.keras", "graph.json", "validation.csv")
    return _belonging(card, card.name, card.version, str(models_root()), _written(card, files))


@st.cache_data(max_entries=16, show_spinner=False)
def _belonging(
    _card: ModelCard, name: str, version: str, root: str, changed: tuple[int, ...]
) -> tuple[str, ...]:
    """Ask once for each state of a model's files: its weights are read for that."""
    return local_check.belonging(_card, Path(root))


def _written(card: ModelCard, files: Sequence[str]) -> tuple[int, ...]:
    """Say when files of a bundle were written, to part old from new; 0 of those it lacks."""
    folder = model_folder(card.name)
    paths = [folder / name for name in files]
    return tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in paths)


def explanations(card: ModelCard) -> tuple[ExplanationReport, bool] | None:
    """Read what was measured of a model's maps, and whether it holds for its present weights.

    None when nobody measured it.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When the record is damaged.
    """
    changed = _written(card, ("explanations.json", "model.keras"))
    return _explanations(card, card.name, card.version, str(models_root()), changed)


@st.cache_data(max_entries=16, show_spinner=False)
def _explanations(
    _card: ModelCard, name: str, version: str, root: str, changed: tuple[int, ...]
) -> tuple[ExplanationReport, bool] | None:
    """Read a record; `version` and `changed`, when its files were written, part old from new."""
    report = load_explanations(name, Path(root))
    return None if report is None else (report, is_current(report, _card, Path(root)))


def _answered(reading: Reading) -> tuple[ModelInput, Prediction]:
    if reading.prediction is None or reading.model_input is None:
        raise ModelError("A film that the model refused has no explanation.")
    return reading.model_input, reading.prediction


def laid_over(
    values: NDArray[np.float32], reading: Reading, film: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Lay a map over its film, (h, w) at any resolution: float32 of the film's shape.

    Raises:
        ModelError: When the film was refused.
    """
    height, width = film.shape
    placement = _answered(reading)[0].placement
    return restore(values, replace(placement, height=height, width=width))


def reduced(pixels: NDArray[np.float32], side: int = SHOWN_SIDE) -> NDArray[np.float32]:
    """Reduce (H, W) to at most `side`, anti-aliased; the model reads the film itself."""
    ratio = side / max(pixels.shape)
    if ratio >= 1:
        return pixels
    height, width = (max(1, round(length * ratio)) for length in pixels.shape)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    shown: NDArray[np.float32] = np.clip(np.asarray(image), 0, 1)
    return shown
