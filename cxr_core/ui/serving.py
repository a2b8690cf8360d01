"""What the server does beside the pages: it makes ready at its start, and forgets closed tabs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from threading import Thread
from typing import Any

from starlette.responses import FileResponse
from streamlit.runtime import get_instance
from streamlit.runtime.fragment import MemoryFragmentStorage
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.state import SessionState

from cxr_core.errors import CxrError

LOG = logging.getLogger("cxr_core.ui")
# Seconds between two looks for closed tabs.
LOOK = 15
# A browser's first visit fetches some megabytes of scripts: with the 64 kB at a time of Starlette
# (1.10) each of many pieces waits for its turn among what the server makes ready meanwhile.
FileResponse.chunk_size = 1 << 20
# What the reading page imports, which takes longer than what it does.
PARTS = ("outputs", "reader", "viewer", "widgets", "worklist")


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Make ready while the first browser is still on its way; look after closed tabs."""
    # Until app.py has run once, Streamlit (1.67) takes the folder pages/ for its older kind of
    # app: whose first visitor came by a page's own address would see that page alone, without
    # the frame and its research-use notice.
    PagesManager.uses_pages_directory = False
    Thread(target=_make_ready, name="make-ready", daemon=True).start()
    forgetting = asyncio.create_task(_forget_closed_tabs())
    yield
    forgetting.cancel()
    with suppress(asyncio.CancelledError):
        await forgetting


def _make_ready() -> None:
    """Import what the reading page needs, and load the model that speaks first."""
    from cxr_core.ui import session

    try:
        card = session.for_reading()[0]
        session.warm_up(card)
        for part in PARTS:
            import_module(f"cxr_core.ui.{part}")
        session.explains(card)  # reads the head, too
    except CxrError as error:  # the page says so, too
        LOG.warning("%s", error)


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
