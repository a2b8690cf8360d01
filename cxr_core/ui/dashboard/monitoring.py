"""What the app saw with a model, week by week, against the films that the model was tested on."""

from html import escape

import streamlit as st

from cxr_core.cards import load_inputs
from cxr_core.evaluation import LabelReport
from cxr_core.monitoring import (
    Drift,
    Finding,
    MonitoringReport,
    Period,
    drift_in_words,
    monitor,
)
from cxr_core.ui import journal
from cxr_core.ui.dashboard.subject import Subject, cell, heading, note, shown

COLUMNS = (
    *("films", "refused", "with caution", "flagged", "cannot tell", "readers against"),
    *("index", "by chance", "KS distance", "drift"),
)


def monitoring(subject: Subject, one: LabelReport) -> None:
    """Show rates and drift of one finding, and of the measures of films."""
    found = journal.opened()
    if subject.card is None or found is None:
        note("There are no records of these scores: choose a model of this site.")
        return
    report = monitor(
        subject.card,
        subject.table,
        found.reads(),
        found.opinions(model=subject.card.name),
        load_inputs(subject.card.name),
    )
    if not report.whole.films:
        note("Nothing was read with this version of the model yet.")
        return
    place = subject.card.position(one.label)
    _summary(report, report.whole.findings[place])
    heading(f"{shown(one.label)}, week by week", "95 % intervals; the latest week first")
    st.html(_weeks(report, place))
    heading("Measures of films", "of this site, against the model's own or the site's first")
    st.html(_inputs(report))
    for sentence in report.notes:
        note(sentence)


def _summary(report: MonitoringReport, one: Finding) -> None:
    """Say in a line whether scores drifted."""
    told = f"{shown(one.label)}, {report.whole.films:,} films, version {report.version}"
    st.html(
        f'<section class="cxr-summary"><p class="cxr-note">{escape(told)}.</p>'
        f"<h1>Scores: {escape(drift_in_words(one.scores))}</h1></section>"
    )


def _weeks(report: MonitoringReport, place: int) -> str:
    """Lay out all films, the test films, and each week."""
    test = report.tested[place]
    shares = cell(test.flagged, 2) + cell(test.undecided, 2)
    blank = "<td></td>"
    films = report.whole.findings[place].scores.reference
    tested = (
        f'<tr><th scope="row">Test films</th><td class="number">{films:,}</td>{2 * blank}'
        f"{shares}{5 * blank}</tr>"
    )
    weeks = "".join(_period(f"Week of {week.name}", week, place) for week in report.weeks[::-1])
    head = "".join(f'<th class="number">{name}</th>' for name in COLUMNS)
    whole = _period("All films", report.whole, place)
    return (
        f'<table class="cxr-table numbers"><tr><th></th>{head}</tr>{tested}{whole}{weeks}</table>'
    )


def _period(name: str, period: Period, place: int) -> str:
    one = period.findings[place]
    shares = (period.refused, period.cautioned, one.flagged, one.undecided, one.disagreed)
    return (
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{period.films:,}</td>'
        f"{''.join(cell(share, 2) for share in shares)}{_drift(one.scores)}</tr>"
    )


def _drift(one: Drift) -> str:
    numbers = "".join(
        f'<td class="number">{"not known" if value is None else f"{value:.2f}"}</td>'
        for value in (one.psi, one.chance, one.ks)
    )
    return f'{numbers}<td class="number">{one.verdict}</td>'


def _inputs(report: MonitoringReport) -> str:
    names = ("films", "against", "", "index", "by chance", "KS distance", "drift")
    head = "".join(f'<th class="number">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(one.what.capitalize())}</th>'
        f'<td class="number">{one.n:,}</td><td class="number">{one.reference:,}</td>'
        f"<td>{'validation films' if one.what in report.known else 'first films here'}</td>"
        f"{_drift(one)}</tr>"
        for one in report.inputs
    )
    return f'<table class="cxr-table numbers"><tr><th></th>{head}</tr>{rows}</table>'
