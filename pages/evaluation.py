"""Evaluation: what a model did on films it had never seen."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.ui import record, session


def page() -> None:
    """Ask which model and finding; say in words how it did, then draw it."""
    card, found, label = record.choose(session.cards())
    record.summary(card, found, label)
    record.charts(card, found, label)


try:
    page()
except CxrError as error:
    st.error(str(error))
