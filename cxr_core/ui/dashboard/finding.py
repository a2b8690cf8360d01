"""The record of one finding: what was decided, what another threshold would do."""

from dataclasses import fields, replace
from html import escape
from typing import Any

import streamlit as st

from cxr_core import wording
from cxr_core.evaluation import (
    LabelReport,
    ThresholdReport,
    at_prevalence,
    threshold_report,
)
from cxr_core.ranking import Interval
from cxr_core.ui import charts, matrices, selection
from cxr_core.ui.dashboard.subject import (
    FIXED,
    MOVED,
    Subject,
    columns,
    draw,
    heading,
    note,
    palette,
    shown,
    unseen,
)
from cxr_core.ui.numerals import SMALL, point, rule, title, words
from cxr_core.wording import means_absence, summary_sentences

CELLS = {"fn": "Missed", "fp": "False alarms", "tp": "Found", "tn": "Cleared"}
MATRIX = "Confusion matrix"
DIGITS = 3  # of a threshold; the slider has no more
PREVALENCES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def record(subject: Subject, one: LabelReport) -> None:
    """Show what was decided, what other thresholds would do, and what scores mean."""
    above = st.container()
    first, second, third = st.columns([1.15, 1, 1], gap="medium")
    with first:
        place = st.container()
        at = _ask_threshold(subject, one)
    with above:
        summary(subject, one, at)
    with place:
        _matrix(subject, one, at)
    truth, scores = columns(subject.table, one.label)
    look = palette()
    with second:
        heading("ROC curve", _area("AUROC", one.auroc))
        draw(charts.roc_chart(truth, scores, one, at, look), "ROC curve")
        heading("Scores of the films")
        draw(charts.histogram_chart(truth, scores, one, at, look), "Scores of the films")
    with third:
        heading("Precision and recall", _area("AUPRC", one.auprc))
        draw(charts.precision_recall_chart(truth, scores, one, at, look), "Precision and recall")
        heading("Calibration", f"ECE {one.ece:.3f}, Brier {one.brier:.3f}")
        draw(charts.calibration_chart(one, at, look), "Calibration")
        _elsewhere(subject, one, at)
    with first:
        numbers(one, at)


def _area(name: str, share: Interval) -> str:
    value, bounds = words(share, 3)
    return f"{name} {value}" + (f" ({bounds})" if bounds else "")


def summary(subject: Subject, one: LabelReport, at: ThresholdReport) -> None:
    """Say in words how the model did, before any figure."""
    # The sentences of the report are about its own threshold; here about the one in force.
    spoken = replace(one, label=wording.spoken(one.label), **_decided(at))
    sentences = "<br>".join(map(escape, summary_sentences(spoken)))
    own = "" if at.confusion is None else " ".join(one.notes)
    if own and at is not one:
        own = f"At the operating point: {own}"
    notes = " ".join((*subject.report.notes, own))
    version = f", version {subject.card.version}" if subject.card else ""
    st.html(
        f'<section class="cxr-summary"><p class="cxr-note">{escape(subject.name + version)}. '
        f"{escape(_what_was_scored(subject, one))}</p><h1>{sentences}</h1>"
        f'<p class="cxr-note">{escape(" ".join((notes, *subject.integrity().sentences[:1])))}</p>'
        "</section>"
    )


def _what_is_tried(subject: Subject, one: LabelReport, at: ThresholdReport) -> str:
    if at is one and at.operating_point is None:
        return "This finding has no operating point: move the slider to see what one would do."
    if at is one:
        return "This is the operating point: move it to see what another would do."
    own = "this finding has none of its own"
    if one.operating_point is not None:
        own = f"the operating point is {point(one)}"
    return (
        f"You are trying {rule(at)}; {own}. A threshold taken from test films is for "
        "exploring only."
    )


def _decided(at: ThresholdReport) -> dict[str, Any]:
    return {field.name: getattr(at, field.name) for field in fields(ThresholdReport)}


def _what_was_scored(subject: Subject, one: LabelReport) -> str:
    patients = len(set(subject.table.patients))
    rule = "" if one.operating_point is None else f", operating point {point(one)}"
    return (
        f"{subject.report.split.capitalize()} split: {one.n:,} films of {patients:,} patients, "
        f"{100 * one.prevalence:.3g} % {'' if subject.exclusive else 'with '}"
        f"{wording.spoken(one.label)}{rule}."
    )


def _ask_threshold(subject: Subject, one: LabelReport) -> ThresholdReport:
    """Ask which threshold to try; the record itself while nobody moved the slider."""
    if not subject.exclusive:
        st.slider(
            "Threshold to try",
            0.0,
            1.0,
            _own_point(one),
            10**-DIGITS if _is_fine(one) else 0.01,
            format="%.3f" if _is_fine(one) else "%.2f",
            key=_threshold_key(subject, one),
            persist_state="session",
            help="Moves the matrix, its intervals and the marks. The model keeps its own.",
        )
    at = threshold_tried(subject, one)
    if not subject.exclusive:
        # As tall with one line as with two, so that nothing below it moves.
        st.html(f'<p class="cxr-note tried">{escape(_what_is_tried(subject, one, at))}</p>')
    return at


def threshold_tried(subject: Subject, one: LabelReport) -> ThresholdReport:
    """Report on the threshold that the reader tries; the record itself while none is tried."""
    if subject.exclusive or not threshold_moved(subject, one):
        return one
    truth, scores = columns(subject.table, one.label)
    return threshold_report(truth, scores, _slider_value(subject, one))


def threshold_moved(subject: Subject, one: LabelReport) -> bool:
    """Say whether the slider stands elsewhere than where it began."""
    return _slider_value(subject, one) != _own_point(one)


def _slider_value(subject: Subject, one: LabelReport) -> float:
    value = st.session_state.get(_threshold_key(subject, one), _own_point(one))
    return float(round(value, DIGITS))  # steps of the browser add up to 0.30000000000000004


def _threshold_key(subject: Subject, one: LabelReport) -> str:
    return f"threshold-{subject.key}-{one.label}"


def _own_point(one: LabelReport) -> float:
    """Return the operating point as the slider shows it; the middle where there is none."""
    if one.operating_point is None:
        return 0.5
    return round(one.operating_point, DIGITS if _is_fine(one) else 2)


def _is_fine(one: LabelReport) -> bool:
    """Say whether thresholds of interest lie so near to 0 that they take small steps."""
    return one.operating_point is not None and one.operating_point < SMALL


def _matrix(subject: Subject, one: LabelReport, at: ThresholdReport) -> None:
    """Draw the matrix, whose cells lead to their films; none of a split that leaks."""
    integrity = subject.integrity()
    leads = subject.card is not None and not integrity.leaks
    heading(MATRIX, "click a cell to see its films" if leads else "")
    if integrity.leaks:
        note(
            "Not drawn, because the split leaks. " + " ".join(integrity.sentences) + " The other "
            "figures of this page share the fault: read them as what the source would have printed."
        )
        return
    if subject.exclusive:
        chart = matrices.matrix_chart(subject.report, palette())
    elif at.confusion is None:
        note("Nothing decides, so there is no matrix: choose a threshold.")
        return
    else:
        chart = matrices.confusion_chart(at, palette(), normal=means_absence(one.label))
    key = f"cells-{subject.key}-{one.label}"
    if subject.card is None:
        draw(chart, MATRIX)
        return
    event: Any = st.vega_lite_chart(
        spec=chart.spec, theme=None, width="stretch", on_select="rerun", key=key, alt=MATRIX
    )
    unseen(chart)
    clicked = event["selection"].get("cell") or []
    if clicked:
        _open(subject, one, at, clicked[0]["cell"])
    if subject.exclusive:
        _cell_list(subject, one)
    else:
        _cell_buttons(subject, one, at)


def _cell_list(subject: Subject, one: LabelReport) -> None:
    """Offer the cells of a K x K in a list too, for the keyboard."""
    names = [each.label for each in subject.report.labels]
    films = {
        f"{truth}>{called}": f"{shown(truth)}, called {shown(called)}: {count:,}"
        for truth, counts in zip(names, subject.report.matrix or (), strict=True)
        for called, count in zip(names, counts, strict=True)
    }
    chosen = st.selectbox(
        "Films of a cell",
        list(films),
        index=None,
        format_func=films.__getitem__,
        placeholder="Choose a cell to see its films",
        label_visibility="collapsed",
        key=f"cell-list-{subject.key}",
    )
    if chosen:
        _open(subject, one, one, chosen)


def _cell_buttons(subject: Subject, one: LabelReport, at: ThresholdReport) -> None:
    """Offer each cell as a button too, for the keyboard."""
    (tn, fp), (fn, tp) = at.confusion or ((0, 0), (0, 0))
    counts = {"fn": fn, "fp": fp, "tp": tp, "tn": tn}
    with st.container(horizontal=True, gap="small"):
        for cell, name in CELLS.items():
            if means_absence(one.label):
                name = selection.cell_names(one.label)[cell]
            if st.button(f"{name}: {counts[cell]:,}", key=f"cell-{cell}", type="tertiary"):
                _open(subject, one, at, cell)


def _open(subject: Subject, one: LabelReport, at: ThresholdReport, cell: str) -> None:
    """Leave for the films of a cell."""
    asked = selection.Asked(model=subject.name, label=one.label)
    if subject.exclusive:
        truth, _, called = cell.partition(">")
        asked = asked.choosing((truth, called))
    else:
        asked = replace(asked, cell=cell, threshold=None if at is one else at.operating_point)
    selection.ask(asked)
    st.switch_page("pages/films.py")


def numbers(one: LabelReport, at: ThresholdReport) -> None:
    """List every number with its interval, and what the prevalence elsewhere makes of them."""
    caption = "At the threshold you try" if at is not one else "At the operating point"
    if at.confusion is None:
        caption = "Nothing is decided"
    if one.confusion is not None and at.operating_point is None:
        caption = "Where the largest probability decides"
    rows = [_row(name, getattr(at, name), meaning) for name, meaning in MOVED.items()]
    rows.append('<tr><td colspan="4" class="cxr-note">Over all thresholds</td></tr>')
    rows += [_row(name, getattr(one, name), meaning) for name, meaning in FIXED.items()]
    st.html(
        f'<table class="cxr-table numbers"><caption class="cxr-note">{caption}, with 95 % '
        f"intervals</caption>{''.join(rows)}</table>"
    )


def _row(name: str, value: Interval | float | None, meaning: str) -> str:
    share = value if isinstance(value, Interval) else Interval(value, None, None)
    number, bounds = words(share, 3)
    return (
        f'<tr data-number="{name}"><th scope="row">{title(name)}</th>'
        f'<td class="number">{number}</td><td class="interval">{bounds}</td>'
        f'<td class="meaning">{meaning}</td></tr>'
    )


def _elsewhere(subject: Subject, one: LabelReport, at: ThresholdReport) -> None:
    """Ask how common the finding is elsewhere, and say what a flag would mean there."""
    here = one.prevalence
    options = sorted({*PREVALENCES, here})
    prevalence = st.select_slider(
        "How common it is where you work",
        options,
        here,
        format_func=lambda share: f"{100 * share:.3g} %" + (" (here)" if share == here else ""),
        key=f"prevalence-{subject.key}-{one.label}",
        help="Sensitivity and specificity are taken as they are here; the share of films with "
        "the finding is the one you say.",
    )
    rows = "".join(_row(name, share, meaning) for name, share, meaning in _there(at, prevalence))
    caption = "Bounds from both ends of both intervals at once: wider than 95 %"
    st.html(
        '<table class="cxr-table numbers there">'
        f'<caption class="cxr-note">{caption}</caption>{rows}</table>'
    )


def _there(at: ThresholdReport, prevalence: float) -> list[tuple[str, Interval, str]]:
    """Return PPV and NPV where a share `prevalence` has the finding.

    Their bounds come from both ends of sensitivity and specificity at once, which is wider
    than a 95 % interval.
    """
    pairs = [
        at_prevalence(sensitivity, specificity, prevalence)
        for sensitivity, specificity in (
            (at.sensitivity.value, at.specificity.value),
            (at.sensitivity.low, at.specificity.low),
            (at.sensitivity.high, at.specificity.high),
        )
        if sensitivity is not None and specificity is not None
    ]
    if len(pairs) < 3:
        return []
    meaning = f"where {100 * prevalence:.3g} % of films have it"
    return [
        (name, Interval(*values), meaning)
        for name, values in zip(("ppv", "npv"), zip(*pairs, strict=True), strict=True)
    ]
