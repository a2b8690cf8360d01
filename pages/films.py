"""Films: the test films behind a number."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.ui import access, gallery, session, widgets


def page() -> None:
    """Take up what was asked for, let the reader change it, and show those films."""
    access.admit("Films")
    cards = session.cards()
    gallery.arrive(cards)
    above = st.container()
    card, found = gallery.choose(cards)
    with above:
        gallery.summary(card, found)
    gallery.show(card, found)


try:
    page()
except CxrError as error:
    st.error(widgets.plain(str(error)))
    gallery.way_out()
