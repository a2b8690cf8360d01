"""The models, the gate and the threads behind the routes: a film in, an answer out."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from os import cpu_count
from time import monotonic

from cxr_core.attribution import Progress, explain
from cxr_core.cards import ModelCard
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.errors import ArgumentError, UnknownName
from cxr_core.images import read_radiograph
from cxr_core.local_check import belonging
from cxr_core.overlays import overlay, png
from cxr_core.phantom import png_bytes, thorax
from cxr_core.preprocess import prepare, restore
from cxr_core.screening import Answer, Prepared, prepare_film
from cxr_core.service.batcher import Batcher
from cxr_core.service.limits import Places, Rates, loading, too_slow
from cxr_core.service.settings import Settings
from cxr_core.service.uploads import Film
from cxr_core.service.watch import Metrics

Load = Callable[[str], Classifier]
# A large film takes 400 MB while it is read, so that few are read at a time.
READERS = min(4, cpu_count() or 1)


class Desk:
    """Where films are read, asked about and explained; models load while it already stands.

    Args:
        settings: Of the service.
        load: Makes a classifier of a model's name.
        failed: Called when the models cannot be loaded.
        doubts: Says of a card where its decisions and its weights do not belong together.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        load: Load = load_classifier,
        failed: Callable[[], None] = lambda: None,
        doubts: Callable[[ModelCard], tuple[str, ...]] = belonging,
    ) -> None:
        """Take note; nothing runs before `open`."""
        self.settings = settings
        self.places = Places(settings.places)
        self.rates = Rates(settings.rate)
        self.metrics = Metrics(self.places)
        self._load, self._failed, self._doubts = load, failed, doubts
        self._batchers: dict[str, Batcher] = {}
        self._notes: dict[str, tuple[str, ...]] = {}
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._explainer = ThreadPoolExecutor(1, "explainer")
        self._opening: Future[None] = Future()

    def open(self) -> None:
        """Begin to load the models and the gate, and to try them, in the background."""
        self._opening = self._explainer.submit(self._load_all)
        self._opening.add_done_callback(lambda done: self._failed() if done.exception() else None)

    def close(self) -> None:
        """Finish what was taken in, then stop every thread."""
        for pool in (self._readers, self._explainer):
            pool.shutdown()
        for batcher in self._batchers.values():
            batcher.close()

    @property
    def failure(self) -> BaseException | None:
        """Why the models could not be loaded; None as long as they may yet be."""
        return self._opening.exception() if self._opening.done() else None

    @property
    def ready(self) -> bool:
        """Whether every model is loaded and has answered a film."""
        return self._opening.done() and self._opening.exception() is None

    def notes(self) -> dict[str, tuple[str, ...]]:
        """Say of each model where its decisions and its weights do not belong together.

        Raises:
            Refused: While models load.
        """
        if not self.ready:
            raise loading()
        return self._notes

    def model(self, name: str | None) -> Batcher:
        """Return the model that a request names, or the only one.

        Raises:
            Refused: While models load.
            ArgumentError: When none is named and there are several.
            UnknownName: When it is not served.
        """
        served = self.settings.models
        names = ", ".join(served)
        if name is None and len(served) > 1:
            raise ArgumentError(f"Several models are served; add ?model= and one of {names}.")
        chosen = served[0] if name is None else name
        if chosen not in served:
            raise UnknownName("model", chosen, served)
        if not self.ready:
            raise loading()
        return self._batchers[chosen]

    async def answer(self, film: Film, model: Batcher, *, gate: bool) -> Answer:
        """Read one film and have it answered, or say why not.

        Raises:
            ModelError: When the gate's files are damaged.
        """
        card = model.classifier.card
        read = partial(prepare_film, film.data, film.file, card, gate=gate)
        told = await asyncio.get_running_loop().run_in_executor(self._readers, read)
        if isinstance(told, Prepared):
            told = told.answered(await asyncio.wrap_future(model.ask(told.model_input)))
        self.metrics.film(card.name, told)
        return told

    async def explain(self, film: Film, model: Batcher, label: str, method: str) -> bytes:
        """Draw where the evidence lies over one film, as PNG; one is drawn at a time.

        Nothing is withheld, whatever the gate or the operating point say, as on the command
        line.

        Raises:
            ImageError: When the film cannot be read.
            Refused: When it takes too long.
        """
        stop = partial(_stop_after, monotonic() + self.settings.patience, self.settings.patience)
        draw = partial(_draw, film, model.classifier, label, method, stop)
        return await asyncio.get_running_loop().run_in_executor(self._explainer, draw)

    def _load_all(self) -> None:
        """Load each model and ask it once, which also loads the gate."""
        film = png_bytes(thorax(256, 224, seed=0))
        for name in self.settings.models:
            classifier = self._load(name)
            tried = prepare_film(film, "phantom", classifier.card, gate=False)
            if isinstance(tried, Prepared):
                classifier.predict_batch([tried.model_input])
            self._notes[name] = self._doubts(classifier.card)
            self._batchers[name] = Batcher(classifier, partial(self.metrics.batch, name))


def _stop_after(end: float, patience: float, done: int, total: int) -> None:
    if monotonic() > end:
        raise too_slow(patience)


def _draw(film: Film, classifier: Classifier, label: str, method: str, progress: Progress) -> bytes:
    """Read, explain and draw one film."""
    progress(0, 1)  # it may have waited too long already
    radiograph = read_radiograph(film.data, film.file)
    model_input = prepare(radiograph, classifier.card.preprocessing)
    told = explain(classifier, model_input, label, method, progress=progress)
    values = restore(told.values, model_input.placement)
    return png(overlay(radiograph.pixels, values, signed=told.signed))
