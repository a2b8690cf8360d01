"""How much is taken in: one place for each film, one allowance for each client.

All of it is used from the event loop alone, so nothing here needs a lock.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

from cxr_core.errors import ArgumentError, CxrError, ImageError, ImageTooLarge, UnknownName
from cxr_core.images import MAX_BYTES

# Of one request: a film of the largest kind, and what a form writes around it.
MOST_BYTES = MAX_BYTES + 2**16
# Of all requests together.
MOST_HELD = 2 * MOST_BYTES
# Clients remembered; those beyond, longest silent first, start afresh.
MOST_CLIENTS = 4096
RETRY = 1  # seconds until a place may be free


class Refused(CxrError):
    """A request that is not served, with the status and headers that say so.

    Args:
        status: Of HTTP.
        code: The stable name that scripts see.
        sentence: What came, what is allowed and what to do.
        headers: To send along.
    """

    def __init__(self, status: int, code: str, sentence: str, **headers: str) -> None:
        """Keep all of it; underscores in the names of headers become hyphens."""
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def status_of(error: CxrError) -> int:
    """Say which status of HTTP an error has."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, ImageTooLarge):
        return 413
    if isinstance(error, UnknownName):
        return 404
    return 422 if isinstance(error, ImageError | ArgumentError) else 500


def loading() -> Refused:
    """Say that the models are not there yet."""
    told = "The models are being loaded, which takes some seconds; ask again in 5 s."
    return Refused(503, "loading", told, Retry_After="5")


def too_slow(patience: float) -> Refused:
    """Say that an answer took longer than clients are kept waiting."""
    told = f"There was no answer within {patience:g} s; ask again, or for a cheaper method."
    return Refused(504, "timeout", told)


class Places:
    """Room for so many films and bytes; what does not fit is turned away at once.

    Args:
        films: At a time.
        size: Bytes of their uploads, at a time.
    """

    def __init__(self, films: int, size: int = MOST_HELD) -> None:
        """Begin empty."""
        self.films, self.size = films, size
        self.taken_films = self.taken_bytes = 0

    @contextmanager
    def taken(self, *, films: int = 0, size: int = 0) -> Iterator[None]:
        """Hold places until the block is left.

        Raises:
            Refused: When there are not as many.
        """
        if self.taken_films + films > self.films or self.taken_bytes + size > self.size:
            raise Refused(
                503,
                "busy",
                f"There is no room for more films at this moment; send again in {RETRY} s.",
                Retry_After=str(RETRY),
            )
        self.taken_films += films
        self.taken_bytes += size
        try:
            yield
        finally:
            self.taken_films -= films
            self.taken_bytes -= size


class Rates:
    """An allowance of films for each client, which grows back evenly over a minute.

    Args:
        rate: Films a minute, and at most at once.
        clock: Seconds.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with every client's allowance full."""
        self._rate, self._clock = rate, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, client: str, films: int) -> None:
        """Take films off a client's allowance, which may so fall below zero.

        Raises:
            Refused: When nothing is left of it; then nothing is taken.
        """
        now = self._clock()
        left, then = self._left.pop(client, (float(self._rate), now))
        left = min(float(self._rate), left + (now - then) * self._rate / 60)
        enough = left >= 1
        self._left[client] = (left - films if enough else left, now)
        if len(self._left) > MOST_CLIENTS:
            self._left.popitem(last=False)
        if not enough:
            wait = ceil((1 - left) * 60 / self._rate)
            raise Refused(
                429,
                "rate",
                f"More than {self._rate} films a minute came from this address; send the next in "
                f"{wait} s.",
                Retry_After=str(wait),
            )
