"""How films come in: the component in `static/` sends them, and a page takes what came.

Streamlit's own uploader is a field of a form: what it is sending is lost once the page is drawn
anew without it, or left. Here the browser's tab sends films to the same place of the server,
whatever is drawn, under names that say which page they are for; that page takes them whenever
it runs, and Streamlit holds them no longer.
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cxr_core.images import MAX_BYTES

STATIC = Path(__file__).with_name("static")
Place = Literal["read", "list"]


class Upload(NamedTuple):
    """One file that came.

    Attributes:
        name: Of the file; of one from a folder, with its folders.
        data: As it came.
        drop: The same for all that were dropped or chosen at once; "" where that is not known.
    """

    name: str
    data: bytes
    drop: str = ""


def collect(place: Place) -> list[Upload]:
    """Return what came for a page since it was last asked, as it was dropped, and forget it."""
    context = get_script_run_ctx()
    if context is None:
        return []
    manager: Any = context.uploaded_file_mgr  # Streamlit's own (1.67), of all sessions
    came = list(manager.file_storage.get(context.session_id, {}).values())
    found = sorted(
        (one for one in came if one.file_id.startswith(f"{place}-")), key=lambda one: one.file_id
    )
    for one in found:
        manager.remove_file(context.session_id, one.file_id)
    return [Upload(one.name, one.data, one.file_id.partition("-of-")[2]) for one in found]


def ask(
    place: Place, label: str = "", *, note: str = "", large: bool = False, folder: bool = False
) -> None:
    """Ask for films: by a button, or dropped anywhere on the page.

    Args:
        place: The page that takes them.
        label: What may come.
        note: What became of those that came last.
        large: Whether to offer a target as tall as the screen.
        folder: Whether to offer to choose a whole folder.
    """
    context = get_script_run_ctx()
    if context is None:
        return
    manager: Any = context.uploaded_file_mgr
    where = "anywhere on this page, one or several, " if large else "anywhere on this page, "
    dropped = "" if large else "Or drop films and folders " if folder else "Or drop films "
    _intake(
        key=f"intake-{place}",
        data={
            "place": place,
            "address": f"{manager.endpoint}/{context.session_id}",
            "most": MAX_BYTES,
            "label": label,
            "hint": f"{dropped}{where}up to {MAX_BYTES // 2**20} MB each",
            "note": note,
            "large": large,
            "folder": folder,
            "heard": st.session_state.get(_heard(place), 0),
        },
        on_came_change=partial(_hear, place),
    )


def _hear(place: Place) -> None:
    """Let the page run: it takes what came, and says which call it heard."""
    st.session_state[_heard(place)] = st.session_state[f"intake-{place}"].came


def _heard(place: Place) -> str:
    return f"heard-{place}"


def _text(name: str) -> str:
    return (STATIC / name).read_text()


_intake = st.components.v2.component(
    "cxr_intake", html=_text("intake.html"), css=_text("intake.css"), js=_text("intake.js")
)
