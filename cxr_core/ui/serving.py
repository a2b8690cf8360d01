"""What the server does beside the pages: it makes ready, begins dark, and forgets closed tabs."""

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from threading import Thread
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import delta_generator
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime import get_instance
from streamlit.runtime.fragment import MemoryFragmentStorage
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.state import SessionState
from uvicorn import Server

from cxr_core.errors import CxrError

LOG = logging.getLogger("cxr_core.ui")
# Seconds between two looks for closed tabs.
LOOK = 15
# A browser's first visit fetches some megabytes of scripts: with the 64 kB at a time of Starlette
# (1.10) each of many pieces waits for its turn among what the server makes ready meanwhile.
FileResponse.chunk_size = 1 << 20
# A reading room is dark whatever its computers say, where Streamlit follows the computer's theme
# once it knows two. So a browser finds dark chosen on its first visit, before anything is drawn;
# what its reader chooses in the menu then stands. The keys are Streamlit's own (1.67); should they
# change, or the browser keep nothing, the computer's theme shows.
DARK_FIRST = b"""<script>
  try {
    const base = location.pathname.replace(/(worklist|evaluation|films|models|datasets)?$/, "");
    if (!localStorage.getItem(`cxr-dark-first-${base}`))
      for (const page of ["", "worklist", "evaluation", "films", "models", "datasets"]) {
        const key = `stActiveTheme-${base}${page}-v2`;
        if (localStorage.getItem(key) === null) localStorage.setItem(key, '"Dark"');
      }
    localStorage.setItem(`cxr-dark-first-${base}`, "done");
  } catch {}
</script>"""
HEAD = b"<head>"
# What would have the page come packed, or not at all because the browser knows it without this.
UNASKED = {b"accept-encoding", b"if-none-match", b"if-modified-since"}
# What the reading page imports, which takes longer than what it does.
PARTS = ("outputs", "reader", "viewer", "widgets", "worklist")


async def _begin(server: Server, sockets: list[socket.socket] | None = None) -> None:
    """Let the server begin, and send without delay what it writes in pieces.

    An answer leaves in two writes at least, and the second would wait until the browser confirms
    the first, which it puts off by 40 ms. asyncio sees to it only for sockets that were made with
    their protocol named, which that of Streamlit (1.67) is not. Connections inherit it.
    """
    for one in sockets or ():
        if one.family in (socket.AF_INET, socket.AF_INET6):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await _startup(server, sockets)


# Streamlit looks through all that is installed for components, before it answers anybody; those of
# this app are its own, and made where they are used.
manifest_scanner.scan_component_manifests = list  # type: ignore[assignment]
# uvicorn imports the app once its socket is bound, and then begins.
_startup, Server.startup = Server.startup, _begin  # type: ignore[assignment, method-assign]


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Make ready while the first browser is still on its way; look after closed tabs."""
    # Until app.py has run once, Streamlit (1.67) takes the folder pages/ for its older kind of
    # app: whose first visitor came by a page's own address would see that page alone, without
    # the frame and its research-use notice.
    PagesManager.uses_pages_directory = False
    # Streamlit asks at its first element whether somebody forgot `streamlit run`, by reading the
    # source of all that is being called: a fifth of a second, and here nobody did.
    delta_generator._use_warning_has_been_displayed = True
    Thread(target=_make_ready, name="make-ready", daemon=True).start()
    forgetting = asyncio.create_task(_forget_closed_tabs())
    yield
    forgetting.cancel()
    with suppress(asyncio.CancelledError):
        await forgetting


def _make_ready() -> None:
    """Import what the reading page needs, and load the model that speaks first."""
    # What imports lets go of the interpreter every half a millisecond, not every five: each file
    # that the first browser fetches passes through several threads, and waits for it each time.
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        from cxr_core.ui import journal, session

        card = session.for_reading()[0]
        session.warm_up(card)
        for part in PARTS:
            import_module(f"cxr_core.ui.{part}")
        if session.explains(card):
            session.classifier(card).warm_head()  # of other maps the first answer knows nothing
        journal.opened()
    except CxrError as error:  # the page says so, too
        LOG.warning("%s", error)
    finally:
        sys.setswitchinterval(before)


class DarkFirst:
    """Let Streamlit's page begin in the dark theme, in every browser once.

    Args:
        app: What serves the page.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Stand before an app."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write `DARK_FIRST` into the page; everything else passes as it is."""
        accepted = dict(scope.get("headers", ())).get(b"accept", b"")
        if scope.get("method") != "GET" or b"text/html" not in accepted:
            await self.app(scope, receive, send)
            return
        asked = [header for header in scope["headers"] if header[0] not in UNASKED]
        begun: dict[str, Any] = {}
        body = b""

        async def insert(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.start" and _is_page(message):
                begun.update(message)
            elif not begun:  # a file to keep, in pieces
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    page = body.replace(HEAD, HEAD + DARK_FIRST, 1)
                    headers = MutableHeaders(raw=list(begun["headers"]))
                    headers["content-length"] = str(len(page))
                    await send({**begun, "headers": headers.raw})
                    await send({**message, "body": page})

        await self.app({**scope, "headers": asked}, receive, insert)


def _is_page(start: Message) -> bool:
    kind = dict(start["headers"]).get(b"content-type", b"")
    return bool(start["status"] == 200 and kind.startswith(b"text/html"))


MIDDLEWARE = (Middleware(DarkFirst),)


async def _forget_closed_tabs() -> None:
    """Let go of what closed tabs held once they can no longer come back.

    Streamlit (1.67) only looks for them when the next tab is closed, and holds the session that
    it served last until it serves another: the last films of a day would stay over night.
    """
    manager: Any = get_instance()._session_mgr
    stored = manager._session_storage._cache

    def forget(name: str, closed: Any) -> None:
        if name not in manager._active_session_info_by_id:  # else it has come back
            closed.session.shutdown()
            # Not cleared: that would leave the callbacks of its widgets, which know its films.
            closed.session._session_state = SessionState()
            closed.session._fragment_storage = MemoryFragmentStorage()

    stored._on_remove = forget
    while True:
        await asyncio.sleep(LOOK)
        with manager._storage_lock:
            stored.expire()
