"""Read: drop a film, get a second opinion."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.ui import session, widgets


def page() -> None:
    """Ask for films; answer in words first, then show the film and what the answer rests on."""
    state, cards = session.current(), session.cards()
    if not state.films:
        left, right = st.columns([3, 2], gap="large")
        with right:
            card = widgets.choose_model(cards)
            widgets.welcome(card)
        session.warm_up(card)
        with left:
            widgets.intake(state, large=True)
            widgets.failures(state)
        return
    top = st.container()
    left, right = st.columns([3, 2], gap="large")
    with right:
        card = widgets.choose_model(cards)
        opinion = st.container()
        listed = st.container()
        widgets.failures(state)
        widgets.intake(state, large=False)
    with left:
        stage = st.empty()
    with stage.container():
        widgets.preview(state, card)
    with top:
        films = widgets.read_all(state, card)
    with listed:
        widgets.film_list(state, films, card)
    film = state.film() or films[0]
    reading = session.read(film, card)
    with top:
        widgets.answer(card, film, reading)
    with opinion:
        label = widgets.opinion(card, film, reading)
    with stage.container():
        widgets.viewer(card, film, reading, label)


try:
    page()
except CxrError as error:
    st.error(str(error))
