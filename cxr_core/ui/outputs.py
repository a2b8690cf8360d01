"""What leaves the reading page: one quiet "Save", each file made only when asked for, and "Send".

Whose film it is goes into what an archive files (DICOM, FHIR), and into nothing else.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import streamlit as st

from cxr_core import export
from cxr_core.archive.sending import send
from cxr_core.archive.settings import Elsewhere, WebArchive, destination
from cxr_core.attribution import list_methods
from cxr_core.cards import ModelCard
from cxr_core.errors import ArgumentError, CxrError
from cxr_core.export import ReadingRecord, ShownMap
from cxr_core.export.pictures import file_name
from cxr_core.ui import access, journal, reader, report, session
from cxr_core.ui import prior as prior_words
from cxr_core.ui import reading as words
from cxr_core.ui.prior import Beside
from cxr_core.ui.session import Explained, Film, Reading
from cxr_core.ui.widgets import plain

NOT_READY = "No map: it was not on screen yet."
NOT_CHECKED = "No map: it was not checked on this film yet."


def save(
    card: ModelCard,
    film: Film,
    reading: Reading,
    label: str | None,
    earlier: Beside | None = None,
) -> None:
    """Offer the answer as files, with the map that is on screen.

    Args:
        card: The model that spoke.
        film: On screen.
        reading: What the model made of it.
        label: Whose evidence is shown; None when there is no answer.
        earlier: A prior film that this one is compared with.
    """
    made = _maker(card, film, reading, label, earlier)
    with st.popover("Save", type="tertiary"):
        _offer(film, card, "PDF, one page", "pdf", lambda: export.reading_pdf(made()))
        _offer(film, card, "CSV", "csv", lambda: export.reading_csv(made()))
        problem = export.unfileable(film.reference)
        if reading.prediction is None:
            st.caption("The film was refused: there is no answer for an archive.")
        elif problem:
            st.caption(problem)
        else:
            _for_archives(card, film, made)


def _for_archives(card: ModelCard, film: Film, made: Callable[[], ReadingRecord]) -> None:
    """Offer what archives and records take."""
    whose = film.reference
    forms = (
        ("DICOM structured report", "sr.dcm", export.structured_report),
        ("DICOM picture", "sc.dcm", export.secondary_capture),
        ("FHIR report", "json", export.reading_fhir),
    )
    for name, ending, write in forms:
        _offer(film, card, name, ending, partial(lambda write: write(made(), whose), write))
    if whose is None:
        st.caption("DICOM files of a picture get a synthetic study that says so.")
    else:
        st.caption("DICOM files name the patient and file under the film's own study.")
    _send(card, film, made)


def _send(card: ModelCard, film: Film, made: Callable[[], ReadingRecord]) -> None:
    """Offer to send the answer, where the site says to where; say what became of it."""
    try:
        to = destination()
    except ArgumentError as error:
        st.caption(str(error))
        return
    if to is None:
        return
    st.divider()
    asked = f"{film.radiograph.digest}-{card.name}-{card.version}"
    agreed = film.reference is not None or st.checkbox(
        "Make up a study",
        key=f"synthetic-{asked}",
        help="The film came without a DICOM header, so that it belongs to no patient's study.",
    )
    name = to.title if isinstance(to, Elsewhere) else "the archive"
    if st.button(f"Send to {plain(name)}", key="send", disabled=not agreed):
        with st.spinner("Sending: report and picture", show_time=True):
            st.session_state[f"sent-{asked}"] = _sent(film, made(), to, agreed)
    told: tuple[bool, str] | None = st.session_state.get(f"sent-{asked}")
    if told is not None:
        (st.success if told[0] else st.error)(plain(told[1]))


def _sent(
    film: Film, record: ReadingRecord, to: WebArchive | Elsewhere, agreed: bool
) -> tuple[bool, str]:
    """Send an answer and keep what became of it; return whether it went, and a sentence."""
    try:
        found = send(record, film.reference, to, synthetic=agreed, reader=access.visitor().name)
    except CxrError as error:
        return False, str(error)
    unkept = journal.keep(found.event)
    return found.done, f"{found.sentence} {unkept}".strip()


def _offer(film: Film, card: ModelCard, name: str, ending: str, make: Callable[[], bytes]) -> None:
    stem = f"{file_name(Path(film.name).stem)}-{card.name}"
    st.download_button(
        name,
        make,
        f"{stem}.{ending}",
        "application/octet-stream",
        on_click="ignore",
        type="tertiary",
        key=f"save-{ending}",
    )


def _maker(
    card: ModelCard,
    film: Film,
    reading: Reading,
    label: str | None,
    earlier: Beside | None = None,
) -> Callable[[], ReadingRecord]:
    """Gather what the page knows now; the map is looked up when a file is asked for."""
    record = session.record(card).report
    said = [one for one in journal.opinions(film.radiograph.digest) if one.model == card.name]
    opinions = tuple(map(reader.in_words, said))
    compared = () if earlier is None else prior_words.sentences(earlier)
    asked = None if label is None else _asked(reading, label)
    tested = "" if asked is None else session.verdict(card, asked.label, asked.method)

    def made() -> ReadingRecord:
        shown, not_shown = _on_screen(reading, asked, tested)
        return report.reading_record(
            card,
            record,
            film.radiograph,
            reading.gate,
            reading.prediction,
            at=reading.at,
            age_years=film.age_years,
            mended=film.mended,
            compared=compared,
            shown=shown,
            not_shown=not_shown,
            opinions=opinions,
        )

    return made


def _asked(reading: Reading, label: str) -> Explained:
    """Name the map that the viewer shows first, by the choices made in its toolbar."""
    method = st.session_state.get("method", list_methods()[0])
    flagged = reading.prediction is not None and reading.prediction.label(label).flag
    return Explained(label, method, not flagged and bool(st.session_state.get("against")))


def _on_screen(
    reading: Reading, asked: Explained | None, tested: str
) -> tuple[ShownMap | None, str]:
    """Return the map as the viewer shows it, or why it shows none: one withheld never leaves."""
    if asked is None or reading.prediction is None or reading.model_input is None:
        return None, words.unexplained_in_words(reading.prediction, None)
    found, check = reading.maps.get(asked), reading.checks.get(asked)
    if found is None:
        return None, NOT_READY
    if check is None and found.values.any():
        return None, NOT_CHECKED  # it may yet be withheld
    return report.shown_or_why(
        reading.prediction,
        reading.model_input,
        found,
        tested=tested,
        check=check,
        insisted=reading.insisted,
    )
