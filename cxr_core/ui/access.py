"""Who may enter: on this machine alone nobody is asked, from elsewhere everybody signs in.

Settings are two sections of Streamlit's own file of secrets, `.streamlit/secrets.toml`: [auth]
names the service that vouches for people (OpenID Connect, through `st.login`), [access] lists
whom this site lets in. Both or neither must be there, and without them the server may listen
to this machine alone. What it is set up to do decides, never what a request says of itself.
docs/access.md shows the whole file.

Reference: OpenID Connect Core 1.0, sections 2 and 5.1 (iat, email, email_verified).
"""

import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import streamlit as st

from cxr_core.addresses import is_loopback
from cxr_core.errors import AccessError

LOG = logging.getLogger("cxr_core.ui")
PROXY = "CXR_BEHIND_PROXY"
# By their titles: the pages, views and downloads that administrators alone may see.
RESERVED = frozenset({"Data folders", "Monitoring", "Opinions, CSV"})
# A working day: Streamlit itself remembers a sign-in for a month, whatever became of the person.
MOST_SECONDS = 12 * 3600
CLOCKS_APART = 300  # seconds by which the clock of the sign-in service may be ahead
SHORTEST_SECRET = 32  # characters
AUTH = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
SAFEGUARDS = ("server.enableCORS", "server.enableXsrfProtection")
# One alphabet: letters of another that look alike are not the same person.
_DOMAIN = r"@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"
_ADDRESS = re.compile(rf"[!-?A-~]+{_DOMAIN}")
_LISTED = re.compile(rf"[!-?A-~]*{_DOMAIN}")


class Visitor(NamedTuple):
    """Who sits before the screen.

    Attributes:
        name: The e-mail address that was vouched for; "" where nobody is asked, or unknown.
        reader: Whether the pages are open to them.
        administrator: Whether those in `RESERVED` are, too.
    """

    name: str = ""
    reader: bool = False
    administrator: bool = False

    def may_see(self, title: str) -> bool:
        """Say whether a page, a view or a download is open to this visitor."""
        return self.administrator or (self.reader and title not in RESERVED)


NOBODY = Visitor()
AT_HOME = Visitor(reader=True, administrator=True)


@dataclass(frozen=True)
class Guests:
    """Whom a site lets in: e-mail addresses, or "@" and a domain for all addresses of it."""

    administrators: frozenset[str]
    readers: frozenset[str]

    def visitor(self, address: str) -> Visitor:
        """Look an address up; capitals do not matter, a subdomain is another domain."""
        if not _ADDRESS.fullmatch(address):
            return NOBODY
        name = address.lower()
        listed = {name, name[name.index("@") :]}
        administrator = bool(listed & self.administrators)
        return Visitor(name, administrator or bool(listed & self.readers), administrator)


# --- what the pages ask ---


def visitor() -> Visitor:
    """Return who sits before the screen; nobody while the server must not serve."""
    try:
        guests = expected()
    except AccessError:
        return NOBODY
    return AT_HOME if guests is None else _known(guests, st.user.to_dict())


def enter() -> None:
    """Say who is signed in, or why nobody may enter and end the run; before any page."""
    try:
        guests = expected()
    except AccessError as error:
        _tell_log(str(error))
        _say("This app is not open", str(error))
        st.stop()
    if guests is None:
        return
    told = st.user.to_dict()
    found = _known(guests, told)
    if not found.reader:
        _turn_away(told)
        st.stop()
    _show(found)


def admit(title: str) -> None:
    """Check that a page or a view is open to who sits before the screen.

    Every page asks, also those that are left out of the menu: Streamlit (1.67) may run one by
    itself, without app.py, for whoever comes first after a start.

    Raises:
        AccessError: When it is not, or the server must not serve as it is set up.
    """
    guests = expected()
    if guests is not None and not _known(guests, st.user.to_dict()).may_see(title):
        raise AccessError(
            f"{title} is not open to you: sign in on the first page of this app, with an account "
            "that may see it."
        )


def _known(guests: Guests, told: Mapping[str, Any]) -> Visitor:
    return NOBODY if _complaint(told) else guests.visitor(told["email"])


def _complaint(told: Mapping[str, Any]) -> str:
    """Say why a sign-in does not count, in a sentence; "" when it does.

    Args:
        told: What the sign-in service said of the person, and Streamlit's `is_logged_in`.
    """
    if told.get("is_logged_in") is not True:
        return "Sign in with the account that your site gave you."
    since = told.get("iat")
    if not isinstance(since, int) or not -CLOCKS_APART <= time.time() - since < MOST_SECONDS:
        return f"You signed in more than {MOST_SECONDS // 3600} hours ago; sign in again."
    if not isinstance(told.get("email"), str):
        return "The sign-in service did not say your e-mail address; ask its administrator."
    if told.get("email_verified", True) is not True:
        return "Your e-mail address was not verified; have the sign-in service verify it first."
    return ""


# --- what is on screen ---


def _turn_away(told: Mapping[str, Any]) -> None:
    """Ask somebody to sign in, or tell them that this site does not know them."""
    complaint = _complaint(told)
    if complaint:
        _say("Sign in", complaint)
        st.button("Sign in", on_click=st.login, type="primary")
        return
    _say(
        "Not on the list",
        f"{told['email']} may not enter here; ask this site's administrator to be listed, or "
        "sign out and use another account.",
    )
    st.button("Sign out", on_click=_leave)


def _show(found: Visitor) -> None:
    """Say who is signed in, and let them sign out."""
    with st.container(key="visitor", horizontal=True, vertical_alignment="center", width="content"):
        role = "administrator" if found.administrator else "reader"
        title = escape(f"{found.name}, {role}")
        st.html(f'<p class="cxr-note" title="{title}">{escape(found.name)}</p>', width="content")
        st.button("Sign out", on_click=_leave, type="tertiary")


def _leave() -> None:
    """Forget all that was on screen, then sign out."""
    st.session_state.clear()
    st.logout()


def _say(title: str, sentence: str) -> None:
    st.html(
        f'<section class="cxr-summary"><h1>{escape(title)}</h1>'
        f'<p class="cxr-lead">{escape(sentence)}</p></section>'
    )


@cache
def _tell_log(sentence: str) -> None:
    """Write to the log, once and not for every visit."""
    LOG.error(sentence)


# --- what the server is set up to do ---


def expected() -> Guests | None:
    """Read whom the site lets in; None when it serves this machine alone and asks nobody.

    Raises:
        AccessError: When the server must not serve as it is set up.
    """
    _check_safeguards()
    told = _settings()
    if "auth" in told or "access" in told:
        _check_auth(told.get("auth"))
        _check_wire()
        return _guests(told.get("access"))
    others = _others()
    if others:
        raise AccessError(
            f"Nobody is asked to sign in, but {others}: add [auth] and [access] to "
            ".streamlit/secrets.toml as docs/access.md shows, or serve this machine alone "
            "(--server.address=127.0.0.1)."
        )
    return None


def _others() -> str:
    """Say how others than this machine reach the server; "" when they do not."""
    address = st.get_option("server.address")
    if _proxied():
        return f"{PROXY} says that a proxy lets others in"
    if not address:
        return "server.address is not set, so that every network is listened to"
    return "" if is_loopback(address) else f"server.address is '{address}'"


def _proxied() -> bool:
    return os.environ.get(PROXY, "") not in ("", "0")


def _check_safeguards() -> None:
    """Refuse a server on which other web pages, or a mere header, could speak for a reader."""
    for name in SAFEGUARDS:
        if not st.get_option(name):
            raise AccessError(
                f"{name} is off, so that any web page could use this app in a reader's name: "
                "leave that option out."
            )
    if st.get_option("server.trustedUserHeaders"):
        raise AccessError(
            "server.trustedUserHeaders is set, so that a header could name anybody: leave that "
            "option out; people sign in through [auth] of .streamlit/secrets.toml."
        )


def _check_wire() -> None:
    """Refuse to send films and sign-ins over a network in plain text."""
    address = st.get_option("server.address")
    encrypted = _proxied() or st.get_option("server.sslCertFile")
    if not encrypted and not is_loopback(address or ""):
        raise AccessError(
            f"server.address is '{address or 'not set'}', where films would travel unencrypted: "
            f"put a proxy that speaks TLS before the app and set {PROXY}=1, or set "
            "server.sslCertFile and server.sslKeyFile."
        )


def _settings() -> Mapping[str, Any]:
    """Read the file of secrets; empty where there is none.

    Raises:
        AccessError: When there is one that cannot be read: it may have named people.
    """
    try:
        return st.secrets.to_dict()
    except (OSError, ValueError) as error:
        there = [name for name in st.get_option("secrets.files") if Path(name).exists()]
        if there:
            raise AccessError(
                f"The settings in {' and '.join(there)} cannot be read: mend the file, whose "
                "form is TOML, and start the app again."
            ) from error
        return {}


def _check_auth(told: object) -> None:
    auth = told if isinstance(told, Mapping) else {}
    missing = [name for name in AUTH if not isinstance(auth.get(name), str) or not auth[name]]
    if missing:
        raise AccessError(
            f"[auth] in .streamlit/secrets.toml lacks {', '.join(missing)}; docs/access.md shows "
            "the whole section."
        )
    if len(auth["cookie_secret"]) < SHORTEST_SECRET:
        raise AccessError(
            f"[auth] cookie_secret has {len(auth['cookie_secret'])} characters, but "
            f"{SHORTEST_SECRET} or more are allowed; make one with `openssl rand -hex 32`."
        )
    for name in ("redirect_uri", "server_metadata_url"):
        parts = urlsplit(auth[name])
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise AccessError(
                f"[auth] {name} is '{auth[name]}', but outside this machine it must begin with "
                "https."
            )
    if not auth["redirect_uri"].endswith("/oauth2callback"):
        raise AccessError(
            f"[auth] redirect_uri is '{auth['redirect_uri']}', but must be this app's address "
            "and /oauth2callback."
        )


def _guests(told: object) -> Guests:
    """Read the lists strictly: a misspelt name must not let nobody, or everybody, in."""
    lists = told if isinstance(told, Mapping) else {}
    unknown = sorted(set(lists) - {"administrators", "readers"})
    if unknown or not any(lists.values()):
        came = ", ".join(unknown) or "none"
        raise AccessError(
            "[access] in .streamlit/secrets.toml must list administrators, readers or both, but "
            f"{came} came; docs/access.md shows the whole section."
        )
    return Guests(
        administrators=_addresses(lists.get("administrators", [])),
        readers=_addresses(lists.get("readers", [])),
    )


def _addresses(told: object) -> frozenset[str]:
    listed = told if isinstance(told, list) else [told]
    for one in listed:
        if not isinstance(one, str) or not _LISTED.fullmatch(one):
            raise AccessError(
                f"[access] lists '{one}', but e-mail addresses are allowed, and domains as "
                '"@hospital.example"; write lists as ["one", "two"].'
            )
    return frozenset(str(one).lower() for one in listed)
