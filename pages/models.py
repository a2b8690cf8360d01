"""Models: the facts of one model on one page."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.ui import access, record, session, widgets


def page() -> None:
    """Ask which model; show what it is for, what it is not for, and how good it was."""
    access.admit("Models")
    with st.columns([2, 5])[0]:
        card = widgets.choose_model(session.cards())
    record.model_facts(card, session.record(card))


try:
    page()
except CxrError as error:
    st.error(widgets.plain(str(error)))
