"""What the service is told at its start, and what it refuses to be told."""

import re
from dataclasses import dataclass, field

from cxr_core.addresses import is_loopback
from cxr_core.errors import ArgumentError

# Films in one request; as many as go through a network at once.
MOST_FILMS = 16
# RFC 6750, section 2.1: what may follow "Bearer" in a header.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the service is run.

    Attributes:
        models: Names of the models that answer.
        host: Address to listen on; any but this machine's own asks for a token.
        port: 0 takes a free one.
        token: What clients must send as `Authorization: Bearer TOKEN`, or None.
        places: Films held at a time, from their upload to their answer.
        rate: Films that one client address may send in a minute.
        patience: Seconds that an upload may take, and then its answer.
    """

    models: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8600
    token: str | None = field(default=None, repr=False)
    places: int = 64
    rate: int = 600
    patience: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what could not serve, and what would serve strangers.

        Raises:
            ArgumentError: On a value outside what is allowed, or an open address without token.
        """
        if not self.models or len(set(self.models)) != len(self.models):
            came = ", ".join(self.models) or "none"
            raise ArgumentError(f"Name one model or more, each once, but {came} came.")
        if not 0 <= self.port <= 65535:
            raise ArgumentError(f"A port lies between 0 and 65535, but {self.port} came.")
        for name in ("places", "rate"):
            if getattr(self, name) < MOST_FILMS:
                raise ArgumentError(
                    f"{name} must be at least {MOST_FILMS}, the films of one request, but "
                    f"{getattr(self, name)} came."
                )
        if not 0 < self.patience <= 3600:
            raise ArgumentError(
                f"patience must lie between 0 and 3600 seconds, but {self.patience} came."
            )
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ArgumentError(
                "CXR_TOKEN may hold letters, digits and . _ ~ + / - alone, and not be empty; make "
                "one with `openssl rand -hex 32`, or unset it."
            )
        if self.token is None and not is_loopback(self.host):
            raise ArgumentError(
                f"Without a token the service listens on this machine alone, but '{self.host}' "
                "came; set CXR_TOKEN, for example to what `openssl rand -hex 32` prints."
            )
