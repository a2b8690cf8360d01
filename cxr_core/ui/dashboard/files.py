"""What comes and goes as a file: another system's scores, and a record to take away."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from cxr_core import export
from cxr_core.errors import CxrError
from cxr_core.evaluation import EvaluationReport, LabelReport
from cxr_core.scores import evaluate_scores, read_scores
from cxr_core.ui import reading as said
from cxr_core.ui.dashboard.finding import record, threshold_moved, threshold_tried
from cxr_core.ui.dashboard.findings import findings
from cxr_core.ui.dashboard.subject import Subject, note
from cxr_core.ui.numerals import rule
from cxr_core.ui.record import theme
from cxr_core.ui.widgets import plain

OUTSIDE = "outside"  # where a reader's own scores are kept


def outside(subject: Subject, one: LabelReport) -> None:
    """Take another system's scores and the truth, and show their record as any other."""
    with st.expander("Two files: scores and truth", expanded=OUTSIDE not in st.session_state):
        note(
            "Scores: a column of image names and one of probabilities for each finding. Truth: "
            "image names and 0 or 1 for each finding, or the NIH table. They stay with this page."
        )
        left, right = st.columns(2)
        scores = left.file_uploader("Scores, CSV", key="outside-scores")
        labels = right.file_uploader("Truth, CSV", key="outside-labels")
        if st.button("Evaluate", disabled=not (scores and labels)) and scores and labels:
            _take(scores, labels)
    found: Subject | None = st.session_state.get(OUTSIDE)
    if found is None:
        return
    record(found, one)
    if len(found.report.labels) > 1:
        findings(found, one)
    _offer_numbers(found.name, found.report)


def _take(scores: Any, labels: Any) -> None:
    """Evaluate what was uploaded, for this reader alone."""
    try:
        with st.spinner("Evaluating; large tables take some seconds"):
            read = read_scores(
                scores.getvalue(), labels.getvalue(), names=(scores.name, labels.name)
            )
            name = scores.name.removesuffix(".csv")
            report = evaluate_scores(read, model=name)
    except CxrError as error:
        st.error(plain(str(error)))
        return
    st.session_state[OUTSIDE] = Subject(
        name=name,
        report=report,
        table=read.table,
        history={},
        upload=f"{scores.file_id} {labels.file_id}",
    )
    st.rerun()


# --- what can be taken away ---


def files(subject: Subject, one: LabelReport) -> None:
    """Offer the record as files: to print, to read by machine, to put into a talk."""
    report, table, history, name = subject.report, subject.table, subject.history, subject.name
    look = theme()
    at = threshold_tried(subject, one) if threshold_moved(subject, one) else None
    integrity = subject.integrity()
    if integrity.leaks:
        _offer_numbers(name, report)
        note("The split leaks, so there is no report to print and no figure to show: only numbers.")
        return
    if subject.card is not None:
        card, told = subject.card, integrity.sentences
        _offer(
            "Evaluation report, PDF",
            f"{name}-evaluation.pdf",
            "application/pdf",
            lambda: export.evaluation_pdf(
                card, report, table, history, label=one.label, at=at, integrity=told
            ),
            "To print and to file: what it is for, its record, its limits. Takes some seconds.",
        )
    _offer_numbers(name, report)
    _offer(
        "Figures, PNG",
        f"{name}-figures.zip",
        "application/zip",
        lambda: export.figures_zip(report, table, history, label=one.label, at=at, theme=look),
        f"The figures of {said.spoken(one.label)}, in the colours on screen.",
    )
    if at is not None:
        note(f"The PDF and the figures also show {rule(at)}, which you are trying in the record.")


def _offer_numbers(name: str, report: EvaluationReport) -> None:
    _offer(
        "Numbers, CSV",
        f"{name}.csv",
        "text/csv",
        lambda: export.evaluation_csv(report),
        "Every number with its interval, one a line.",
    )
    _offer(
        "Numbers, JSON",
        f"{name}.json",
        "application/json",
        lambda: export.evaluation_json(report),
        "What the command evaluate --json prints.",
    )


def _offer(button: str, file: str, kind: str, make: Callable[[], bytes], meaning: str) -> None:
    """Offer one file, made only when it is asked for."""
    left, right = st.columns([1, 3], vertical_alignment="center")
    left.download_button(button, make, file, kind, on_click="ignore", width="stretch")
    with right:
        note(meaning)
