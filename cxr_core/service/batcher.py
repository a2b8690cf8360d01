"""One thread for each model, which asks its network about the films of many requests at once."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple

from cxr_core.classifier import Classifier, Prediction
from cxr_core.preprocess import ModelInput
from cxr_core.service.settings import MOST_FILMS

# Seconds that the first film of a batch waits for others.
WAIT = 0.003


class _Asked(NamedTuple):
    model_input: ModelInput
    answer: Future[Prediction]


class Batcher:
    """A classifier that is asked by many and answers them together.

    While the network works the next batch gathers by itself, so that waiting costs those
    alone who come to an idle network.

    Args:
        classifier: The model that speaks.
        told: Called after each batch with its films and seconds.
        wait: Seconds that the first film of a batch waits for others.
    """

    def __init__(
        self,
        classifier: Classifier,
        told: Callable[[int, float], None] = lambda films, seconds: None,
        *,
        wait: float = WAIT,
    ) -> None:
        """Start the thread."""
        self.classifier = classifier
        self._told, self._wait = told, wait
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._network = ThreadPoolExecutor(1, "network")
        self._thread = Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def ask(self, model_input: ModelInput) -> Future[Prediction]:
        """Put one film into the next batch."""
        answer: Future[Prediction] = Future()
        self._asked.put(_Asked(model_input, answer))
        return answer

    def close(self) -> None:
        """Answer what was asked, then stop."""
        self._asked.put(None)
        self._thread.join()
        self._network.shutdown()

    def _run(self) -> None:
        last = False
        while not last:
            batch, last = self._gather()
            if batch:
                self._answer(batch)

    def _gather(self) -> tuple[list[_Asked], bool]:
        """Wait for one film, and a moment for more; also say whether it was the last batch."""
        batch: list[_Asked] = []
        until = float("inf")
        while len(batch) < MOST_FILMS:
            try:
                asked = self._asked.get(
                    timeout=max(0.0, until - time.monotonic()) if batch else None
                )
            except Empty:
                break
            if asked is None:
                return batch, True
            if not batch:
                until = time.monotonic() + self._wait
            # A film whose client no longer waits is left out.
            if asked.answer.set_running_or_notify_cancel():
                batch.append(asked)
        return batch, False

    def _answer(self, batch: list[_Asked]) -> None:
        """Run the network once; what it raises is told to everyone in the batch."""
        began = time.perf_counter()
        # A thread of its own brings whatever is raised back as a value.
        work = self._network.submit(
            self.classifier.predict_batch, [asked.model_input for asked in batch]
        )
        error = work.exception()
        self._told(len(batch), time.perf_counter() - began)
        if error is not None:
            for asked in batch:
                asked.answer.set_exception(error)
            return
        for asked, prediction in zip(batch, work.result(), strict=True):
            asked.answer.set_result(prediction)
