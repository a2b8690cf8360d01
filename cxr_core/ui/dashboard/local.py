"""A model on the films of this site: what holds here, and what they would decide instead."""

from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from cxr_core.cards import ModelCard
from cxr_core.errors import CxrError
from cxr_core.evaluation import LabelReport
from cxr_core.local_check import (
    ENOUGH,
    LocalCheck,
    SiteFilms,
    films_of_folder,
    films_of_scores,
    in_words,
    measure,
    register,
)
from cxr_core.local_check.suggestion import as_shipped
from cxr_core.ranking import NO_INTERVAL
from cxr_core.ui import access, charts
from cxr_core.ui.dashboard.subject import Subject, cell, draw, heading, note, palette, shown
from cxr_core.ui.widgets import plain

NUMBERS = {"auroc": "AUROC", "sensitivity": "Sensitivity", "specificity": "Specificity"}
HOLDS = {True: "holds here", False: "does not hold here", None: "cannot be judged here"}


def local(subject: Subject, one: LabelReport) -> None:
    """Take the labelled films of a site, and show how the model does on them."""
    if subject.card is None:
        note("These scores came from elsewhere: choose a model to check it on your films.")
        return
    key = f"local-{subject.card.name}-{subject.card.version}"
    with st.expander("Labelled films of your site", expanded=key not in st.session_state):
        _intake(subject.card, key)
    found: LocalCheck | None = st.session_state.get(key)
    if found is None:
        return
    _summary(found, one.label)
    left, right = st.columns([1.2, 1], gap="large")
    with left:
        heading("On your films", "95 % intervals")
        st.html(_table(found, one.label))
        with st.expander("All that was found, in words"):
            for sentence in in_words(found):
                note(sentence)
    with right:
        here = found.report.label(one.label)
        heading("Calibration on your films", f"ECE {here.ece:.3f}")
        draw(charts.calibration_chart(here, here, palette()), "Calibration on your films")
    if found.suggestion is not None and access.visitor().administrator:
        _copy(found)


def _intake(card: ModelCard, key: str) -> None:
    """Ask for scores and labels; for a folder of the server those who may see its folders."""
    note(
        f"Scores: the file that python -m cxr_core predict --model {card.name} --csv wrote. Truth: "
        f"image names, patients, and 0 or 1 for each finding. From {ENOUGH} films on something "
        "can be said."
    )
    left, right = st.columns(2)
    scores = left.file_uploader("Scores of your films, CSV", key=f"{key}-scores")
    labels = right.file_uploader("Truth of your films, CSV", key=f"{key}-labels")
    folder = ""
    if access.visitor().may_see("Data folders"):
        folder = st.text_input("Or a folder of labelled films on this server", key=f"{key}-folder")
    ready = bool(folder) or (scores is not None and labels is not None)
    if st.button("Check on these films", disabled=not ready):
        _take(card, key, folder, scores, labels)


def _take(card: ModelCard, key: str, folder: str, scores: Any, labels: Any) -> None:
    """Check the model, for this reader alone."""
    try:
        with st.spinner("Checking; a folder of films takes a second or so for every ten"):
            st.session_state[key] = measure(card, _films(card, folder, scores, labels))
    except CxrError as error:
        st.error(plain(str(error)))
        return
    st.rerun()


def _films(card: ModelCard, folder: str, scores: Any, labels: Any) -> SiteFilms:
    if folder:
        return films_of_folder(card, Path(folder))
    return films_of_scores(
        card, scores.getvalue(), labels.getvalue(), names=(scores.name, labels.name)
    )


def _summary(found: LocalCheck, label: str) -> None:
    """Say in a line what holds here."""
    line = found.lines[found.card.position(label)]
    table = found.films.table
    told = (
        f"{shown(label)}, {len(table.files):,} films of {len(set(table.patients)):,} patients, "
        f"{found.films.source}"
    )
    st.html(
        f'<section class="cxr-summary"><p class="cxr-note">{escape(told)}.</p>'
        f"<h1>The shipped calibration {HOLDS[line.holds]}.</h1></section>"
    )


def _table(found: LocalCheck, label: str) -> str:
    """Lay the model as shipped beside what the films would decide, on films of other patients."""
    anew, place = found.suggestion, found.card.position(label)
    reports = [found.report.label(label)]
    heads = ["as shipped"]
    if anew is not None and label in anew.labels:
        reports.append(anew.report.label(label))
        heads.append("decided here, cross-validated")
    rows = "".join(
        _row(title, [cell(getattr(one, name), 2) for one in reports])
        for name, title in NUMBERS.items()
    )
    if found.card.activation == "sigmoid":
        points = [one.operating_point for one in reports]
        rows += _row("Operating point", [_point(point) for point in points])
        if anew is not None and len(reports) > 1:
            points[1] = as_shipped(found.card, anew.decision)[place]
            rows += _row("The same, as shipped counts", [_point(point) for point in points])
    rows += _row("Calibration error (ECE)", [_plain_cell(f"{one.ece:.3f}") for one in reports])
    line = found.lines[place]
    blank = [_plain_cell("")] * (len(reports) - 1)
    rows += _row("Calibration slope, honest 1", [cell(line.slope, 2), *blank])
    rows += _row("Calibration shift, honest 0", [cell(line.shift, 2), *blank])
    rows += _promises(found, label, len(reports))
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in heads)
    return f'<table class="cxr-table numbers"><tr><th></th>{head}</tr>{rows}</table>'


def _promises(found: LocalCheck, label: str, columns: int) -> str:
    """Write what is told wrongly outside the cannot-tell band."""
    measured = [found.held, found.suggestion.held if found.suggestion else ()][:columns]
    told = [next((one for one in held if one.label == label), None) for held in measured]
    shares = [(NO_INTERVAL,) * 2 if one is None else one.shares for one in told]
    missed = _row("With it, told no outside the band", [cell(share[0], 2) for share in shares])
    alarmed = _row("Without it, told yes outside", [cell(share[1], 2) for share in shares])
    return missed + alarmed


def _row(title: str, cells: list[str]) -> str:
    return f'<tr><th scope="row">{escape(title)}</th>{"".join(cells)}</tr>'


def _point(value: float | None) -> str:
    return _plain_cell("none" if value is None else f"{value:.3f}")


def _plain_cell(text: str) -> str:
    return f'<td class="number">{escape(text)}</td>'


def _copy(found: LocalCheck) -> None:
    """Register a copy that decides as the films say; administrators alone may."""
    heading("A copy for this site", "the weights stay, and so does this model")
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    name = left.text_input("Name of the copy", f"{found.card.name}-local")
    if not right.button("Register the copy"):
        return
    try:
        copy = register(found, name)
    except CxrError as error:
        st.error(plain(str(error)))
        return
    st.success(plain(f"Registered: {copy.name}, version {copy.version}; choose it above."))
