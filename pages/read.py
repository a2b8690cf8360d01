"""Read: drop a film, get a second opinion."""

import streamlit as st

from cxr_core.cards import ModelCard
from cxr_core.errors import CxrError
from cxr_core.ui import access, outputs, prior, reader, session, viewer, widgets, worklist


def page() -> None:
    """Ask for films until there is one; then answer."""
    access.admit("Read")
    state, cards = reader.arrive(), session.for_reading()
    if state.films:
        opinion(state, cards)
    else:
        reader.invite(state, cards)


def opinion(state: session.Session, cards: list[ModelCard]) -> None:
    """Answer in words first, then show the film and what the answer rests on."""
    st.empty()  # what stood here before the first film goes at once
    above = st.container()
    left, right = st.columns([3, 2], gap="large")
    with right:
        card = reader.who_speaks(cards)
        worklist.turning()
        basis, listed = widgets.place(state, card), st.container()
        widgets.intake(state, large=False)
    with left:
        stage = viewer.preview(state, card)
    with above:
        widgets.failures(state)
        top = widgets.place(state, card)
    films = widgets.read_all(state, card, top)
    film = state.film() or films[0]
    reading = session.read(film, card)
    with listed:
        widgets.film_list(state, films, card)
        earlier = prior.beside(state, film, card)
    if reader.first(card, film, reading, (top, basis, stage), earlier):
        return
    with top.container():
        widgets.answer(card, film, reading, earlier)
    evidence = basis.container()
    with evidence:
        label, complete = widgets.basis(card, film, reading, earlier)
    with stage.container():  # before what is asked of the reader: he looks at the film first
        explain = viewer.show(card, film, reading, label, earlier)
    with evidence:
        reader.opinion(card, film, reading, label)
        outputs.save(card, film, reading, label, earlier)
    explain()
    complete()


try:
    page()
except CxrError as error:
    st.error(widgets.plain(str(error)))
