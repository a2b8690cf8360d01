"""What the service tells of its own work: numbers for Prometheus, one line for each request.

Neither holds a pixel, a file's name, an address or anything else that came from outside.
"""

import logging
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr_core.screening import Answer
from cxr_core.service.limits import Places
from cxr_core.service.settings import MOST_FILMS

LOG = logging.getLogger("cxr_core.service")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, MOST_FILMS)


class Metrics:
    """The numbers that /metrics shows; each service has its own."""

    def __init__(self, places: Places) -> None:
        """Begin at zero; how many places are taken is looked up when somebody asks."""
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "cxr_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "cxr_request_seconds",
            "From a request's head to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._films = Counter(
            "cxr_films",
            "Films asked about, by what became of them.",
            ("model", "outcome"),
            registry=registry,
        )
        self._batch = Histogram(
            "cxr_batch_films",
            "Films that went through a network at once.",
            ("model",),
            buckets=_SIZES,
            registry=registry,
        )
        self._network = Histogram(
            "cxr_network_seconds",
            "One pass through a network.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        ProcessCollector(registry=registry)  # memory and processor time, where the system tells
        taken = Gauge("cxr_places_taken", "Films held now.", registry=registry)
        taken.set_function(lambda: places.taken_films)
        Gauge("cxr_places", "Films that can be held.", registry=registry).set(places.films)

    def batch(self, model: str, films: int, seconds: float) -> None:
        """Count one pass through a network."""
        self._batch.labels(model).observe(films)
        self._network.labels(model).observe(seconds)

    def film(self, model: str, answer: Answer) -> None:
        """Count one film by what became of it."""
        outcome = "answered" if answer.prediction else "refused" if answer.gate else "unread"
        self._films.labels(model, outcome).inc()


class Watch:
    """Measure every request and write its line.

    Args:
        app: The service.
        metrics: Where to count.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Stand around the service."""
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # The route as we wrote it: an address as it came could hold a name.
            route = getattr(scope.get("route"), "path", "unknown")
            seconds = time.perf_counter() - began
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            LOG.info("%s %d in %.0f ms", route, status, seconds * 1e3)


def log_failure(error: Exception) -> None:
    """Say of what kind a failure was and where; its message might quote a film."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "nowhere"
    if trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    LOG.error("%s at %s", type(error).__name__, place)
