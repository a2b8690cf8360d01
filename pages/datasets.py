"""Data folders: what a folder of films holds, and whether its splits can be trusted."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.ui import access, datafolder, widgets


def page() -> None:
    """Ask which folder; say in words what it holds, then draw it."""
    access.admit("Data folders")
    folder = datafolder.choose(datafolder.current())
    if folder is None:
        return
    datafolder.summary(folder)
    left, right = st.columns([1, 1], gap="large")
    with left:
        datafolder.counts(folder)
    with right:
        datafolder.integrity(folder)
        datafolder.decoding(folder)
        datafolder.together(folder)
    datafolder.samples(folder)


try:
    page()
except CxrError as error:
    st.error(widgets.plain(str(error)))
