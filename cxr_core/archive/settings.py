"""What the site says of its DICOM network: who may send films here, and where the archive is.

Environment variables, as for all of the app; docs/archive.md shows them in use. An address, a
user name or a password of the archive is never part of a sentence: not on screen, not in a log.
"""

import os
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from cxr_core.addresses import is_loopback
from cxr_core.errors import ArgumentError

TITLE, HOST, PORT, PEERS = "CXR_DICOM_AET", "CXR_DICOM_HOST", "CXR_DICOM_PORT", "CXR_DICOM_PEERS"
SEND_TO = "CXR_SEND_TO"
URL, USER, PASSWORD = "CXR_ARCHIVE_URL", "CXR_ARCHIVE_USER", "CXR_ARCHIVE_PASSWORD"
TOKEN, AUTHORITY = "CXR_ARCHIVE_TOKEN", "CXR_ARCHIVE_CA"
OUR_TITLE, OUR_HOST, OUR_PORT = "CXR", "127.0.0.1", 11112
WEB = "web"  # of SEND_TO: by STOW-RS, to URL
# DICOM PS3.5 6.2 (AE), without the spaces that nobody sees.
_TITLE = re.compile(r"[!-\[\]-~]{1,16}")
_ELSEWHERE = re.compile(r"([^@]+)@(\[[^\]]+\]|[^:@\s]+):(\d{1,5})")
_LONGEST_PATIENCE = 3600  # seconds


@dataclass(frozen=True)
class Peer:
    """One who may send films here.

    Attributes:
        title: Its AE title.
        network: The addresses that it may have; None for any.
    """

    title: str
    network: IPv4Network | IPv6Network | None = None

    @classmethod
    def told(cls, text: str) -> "Peer":
        """Read "TITLE@ADDRESS", "TITLE@NETWORK/BITS" or "TITLE".

        Raises:
            ArgumentError: When it is none of these.
        """
        title, at, address = text.partition("@")
        check_title(title)
        try:
            return cls(title, ip_network(address) if at else None)
        except ValueError:
            raise ArgumentError(
                f"'{text}' names no peer: after @ comes an address as 10.20.30.60 or a network as "
                "10.20.30.0/24. Write ROOM1@10.20.30.60."
            ) from None

    def is_at(self, address: str) -> bool:
        """Say whether it may call from an address."""
        if self.network is None:
            return True
        try:
            return _plain(address) in self.network
        except ValueError:
            return False


def _plain(address: str) -> "object":
    """Return an address, one of IPv4 that was written in IPv6 as what it is."""
    found = ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


@dataclass(frozen=True, kw_only=True)
class Door:
    """How films are listened for.

    Attributes:
        title: Our AE title, which callers must name.
        host: Address to listen on; any but this machine's own asks for peers with addresses.
        port: 0 takes a free one.
        peers: Who may call; empty for whoever is on this machine.
        room: Bytes that the inbox may hold; beyond, films are turned away.
        spare: Bytes of the disk that stay free.
        patience: Seconds of silence until a connection ends, and for what is under way when the
            listener is told to stop.
        callers: Connections at a time.
    """

    title: str = OUR_TITLE
    host: str = OUR_HOST
    port: int = OUR_PORT
    peers: tuple[Peer, ...] = ()
    room: int = 20 * 2**30
    spare: int = 2**30
    patience: float = 30.0
    callers: int = 32

    def __post_init__(self) -> None:
        """Refuse what could not listen, and what would listen to strangers.

        Raises:
            ArgumentError: On a value outside what is allowed, or an open address without peers.
        """
        check_title(self.title)
        if not 0 <= self.port <= 65535:
            raise ArgumentError(f"A port lies between 0 and 65535, but {self.port} came.")
        if self.room <= 0 or self.spare < 0:
            raise ArgumentError("room must be above 0 and spare not below: films need a place.")
        if not 0 < self.patience <= _LONGEST_PATIENCE:
            raise ArgumentError(
                f"patience must lie between 0 and {_LONGEST_PATIENCE} seconds, but "
                f"{self.patience} came."
            )
        if is_loopback(self.host):
            return
        if not self.peers:
            raise ArgumentError(
                "Without a list of peers the listener serves this machine alone, but "
                f"'{self.host}' came; name who may send, as --peer ROOM1@10.20.30.60 or {PEERS}."
            )
        open_to_all = [one.title for one in self.peers if one.network is None]
        if open_to_all:
            raise ArgumentError(
                f"An AE title is no secret: say from which address {', '.join(open_to_all)} calls, "
                f"as {open_to_all[0]}@10.20.30.60, or listen to this machine alone."
            )

    def knows(self, address: str) -> bool:
        """Say whether anybody may call from an address."""
        return not self.peers or any(one.is_at(address) for one in self.peers)

    def admits(self, title: str, address: str) -> bool:
        """Say whether a caller may send films."""
        if not self.peers:
            return True
        return any(one.title == title and one.is_at(address) for one in self.peers)


def peers_told(text: str) -> tuple[Peer, ...]:
    """Read peers, apart by commas or spaces.

    Raises:
        ArgumentError: When one of them is none.
    """
    return tuple(Peer.told(one) for one in re.split(r"[,\s]+", text) if one)


def check_title(title: str) -> None:
    """Refuse what is no AE title.

    Raises:
        ArgumentError: When it is not.
    """
    if not _TITLE.fullmatch(title):
        raise ArgumentError(
            f"An AE title has 1 to 16 letters, digits and signs, no space and no backslash, but "
            f"'{title[:40]}' came."
        )


# --- the archive ---


@dataclass(frozen=True)
class WebArchive:
    """An archive that speaks DICOMweb.

    Attributes:
        url: Of its service ("https://pacs.example/dicom-web").
        user: Name to sign in with, or "".
        password: The same.
        token: What follows "Bearer", or "".
        authority: File with the certificates to trust, or "" for those of the system.
    """

    url: str = field(repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    authority: str = ""

    def __post_init__(self) -> None:
        """Refuse addresses that are none, and those where films would travel in plain text.

        Raises:
            ArgumentError: Without the address, which may hold a password.
        """
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            parts, host = urlsplit(""), ""
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise ArgumentError(
                f"{URL} is no address of a DICOMweb service; write https://HOST/PATH."
            )
        if parts.username is not None or parts.password is not None:
            raise ArgumentError(
                f"{URL} holds a user or a password; write them to {USER} and {PASSWORD} instead."
            )
        if parts.scheme == "http" and not is_loopback(host):
            raise ArgumentError(
                f"{URL} begins with http, where films and passwords would travel unencrypted; "
                "outside this machine it must begin with https."
            )
        if self.token and self.user:
            raise ArgumentError(f"Set {TOKEN}, or {USER} and {PASSWORD}, but not both.")
        if self.authority and not Path(self.authority).is_file():
            raise ArgumentError(
                f"{AUTHORITY} names '{self.authority}', which is no file; name one with the "
                "certificates to trust (PEM), or unset it."
            )


@dataclass(frozen=True)
class Elsewhere:
    """An application entity that takes files by C-STORE.

    Attributes:
        title: Its AE title.
        host: Its address or name.
        port: Its port.
        ours: Our AE title.
    """

    title: str
    host: str
    port: int
    ours: str = OUR_TITLE


def web_archive() -> WebArchive | None:
    """Return the archive to ask for films; None where the site names none.

    Raises:
        ArgumentError: When its settings are wrong.
    """
    url = os.environ.get(URL, "").rstrip("/")
    if not url:
        return None
    return WebArchive(
        url, *(os.environ.get(name, "") for name in (USER, PASSWORD, TOKEN, AUTHORITY))
    )


def destination() -> WebArchive | Elsewhere | None:
    """Return where answers are sent; None where the site names nothing.

    Raises:
        ArgumentError: When it cannot be understood.
    """
    told = os.environ.get(SEND_TO, "")
    if not told:
        return None
    if told == WEB:
        found = web_archive()
        if found is None:
            raise ArgumentError(f"{SEND_TO} is '{WEB}', so {URL} must name the archive.")
        return found
    match = _ELSEWHERE.fullmatch(told)
    if match is None or not 0 < int(match[3]) <= 65535:
        raise ArgumentError(
            f"{SEND_TO} must be TITLE@HOST:PORT, or '{WEB}' for the archive at {URL}, but "
            f"'{told[:80]}' came."
        )
    title, ours = match[1], os.environ.get(TITLE, "") or OUR_TITLE
    check_title(title)
    check_title(ours)
    return Elsewhere(title, match[2].strip("[]"), int(match[3]), ours)
