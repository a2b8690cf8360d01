"""The panel that asks the site's archive for films: whom, which study, take it in.

What comes is held as a file that was dropped is: in the memory of this session alone.
"""

from datetime import date
from typing import TYPE_CHECKING

import streamlit as st

from cxr_core.archive.kinds import MODALITIES
from cxr_core.archive.settings import WebArchive, web_archive
from cxr_core.errors import CxrError
from cxr_core.ui.widgets import plain
from cxr_core.ui.worklist.work import Worklist

if TYPE_CHECKING:
    from cxr_core.archive.web import Study

ANY = "Any"
FOUND, SAID = "archive-found", "archive-said"


def panel(worklist: Worklist) -> None:
    """Offer to fetch films, where the site names an archive."""
    try:
        settings = web_archive()
    except CxrError as error:
        st.error(plain(str(error)))
        return
    if settings is None:
        return
    with st.popover("Fetch from the archive", width="stretch"):
        _ask(settings)
        said = st.session_state.get(SAID, "")
        if said:
            st.caption(plain(said))
        for study in st.session_state.get(FOUND, ()):
            _offer(worklist, settings, study)


def _ask(settings: WebArchive) -> None:
    """Ask whom to look for, and look."""
    with st.form("archive", border=False):
        patient = st.text_input("Patient ID", max_chars=64)
        accession = st.text_input("Accession number", max_chars=64)
        days = st.date_input("Day, or first and last day", value=[], format="YYYY-MM-DD")
        modality = st.segmented_control("Kind", [ANY, *MODALITIES], default=ANY, required=True)
        if not st.form_submit_button("Search", type="primary", width="stretch"):
            return
    from cxr_core.archive.web import Archive, Sought  # what speaks HTTP takes a moment to load

    first, last = _from_to(days)
    st.session_state[FOUND] = ()
    try:
        sought = Sought(
            patient_id=patient.strip(),
            accession=accession.strip(),
            since=first,
            until=last,
            modality="" if modality in (ANY, None) else modality,
        )
        with st.spinner("Asking the archive"), Archive(settings) as archive:
            found = archive.studies(sought)
    except CxrError as error:
        st.session_state[SAID] = str(error)
        return
    st.session_state[FOUND] = tuple(found)
    st.session_state[SAID] = "" if found else "The archive has no such study."


def _from_to(days: object) -> tuple[date | None, date | None]:
    """Return the first and the last day of what a reader chose: none, one or two."""
    chosen = [one for one in days if isinstance(one, date)] if isinstance(days, tuple) else []
    return (chosen[0] if chosen else None, chosen[-1] if len(chosen) > 1 else None)


def _offer(worklist: Worklist, settings: WebArchive, study: "Study") -> None:
    """Show one study, and take its films in when asked."""
    told = (study.day, study.modality, study.description)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"{plain(', '.join(part for part in told if part))}  \n"
            f":small[ID {plain(study.patient_id or 'not stated')}, "
            f"accession {plain(study.accession or 'not stated')}]",
            width="stretch",
        )
        if st.button("Take in", key=f"fetch-{study.uid}"):
            _fetch(worklist, settings, study)


def _fetch(worklist: Worklist, settings: WebArchive, study: "Study") -> None:
    """Bring the films of a study to the list; those that came before one failed stay."""
    from cxr_core.archive.web import Archive

    bar, came = st.progress(0.0, "Asking the archive"), 0

    def show(what: str, done: int, total: int) -> None:
        bar.progress(done / total, f"Fetching: {done} of {total} films")

    # A click elsewhere ends this at once: then it is what stands there.
    st.session_state[SAID] = "Not all films came before something else was done: take it in again."
    try:
        with Archive(settings) as archive:
            for film in archive.films(study, show):
                came += worklist.receive(film.title, film.data)
        st.session_state[SAID] = f"{came} film{'s' * (came != 1)} taken in."
    except CxrError as error:
        st.session_state[SAID] = f"{came} of the study's films came, then none. {error}"
    bar.empty()
    st.rerun()
