"""Worklist: many films, read in the background, what matters first."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.ui import access, session, widgets, worklist


def page() -> None:
    """Take films in, have them read, and lead to each."""
    access.admit("Worklist")
    worklist.arrive()
    left, right = st.columns([3.2, 1], gap="large")
    with right:
        card = worklist.choose(session.for_reading())
        worklist.intake(card)
    with left:
        worklist.show(card)


try:
    page()
except CxrError as error:
    st.error(widgets.plain(str(error)))
