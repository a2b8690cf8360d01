"""Evaluation: what a model did on films it had never seen."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.ui import access, dashboard, session, widgets


def page() -> None:
    """Ask which model, view and finding; then draw that view."""
    access.admit("Evaluation")
    subject, view, label = dashboard.choose(session.cards())
    dashboard.show(subject, view, label)


try:
    page()
except CxrError as error:
    st.error(widgets.plain(str(error)))
