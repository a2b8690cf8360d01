"""Parts of a page that run by themselves, and names from outside as they may be written."""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec

import streamlit as st

from cxr_core.errors import CxrError

Arguments = ParamSpec("Arguments")


def fragment(
    draw: Callable[Arguments, None], *, every: float | None = None
) -> Callable[Arguments, None]:
    """Let a part of the page run by itself, where the page's own `except` does not reach.

    Every fragment is made here, so that each shows an error as its sentence, in its place.

    Args:
        draw: What draws the part.
        every: Seconds after which it is drawn again; None for only when something is pressed.
    """

    @functools.wraps(draw)
    def told(*args: Arguments.args, **named: Arguments.kwargs) -> None:
        try:
            draw(*args, **named)
        except CxrError as error:
            st.error(plain(str(error)))

    made: Callable[Arguments, None] = st.fragment(told, run_every=every)
    return made


def plain(text: str) -> str:
    """Escape Markdown, for names that strangers gave to files."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~:$])", r"\\\1", text)
