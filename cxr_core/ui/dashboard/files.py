"""A record to take away: to print, to read by machine, to put into a talk."""

from collections.abc import Callable

import streamlit as st

from cxr_core import export, wording
from cxr_core.evaluation import EvaluationReport, LabelReport
from cxr_core.ui.dashboard.finding import threshold_moved, threshold_tried
from cxr_core.ui.dashboard.subject import Subject, note
from cxr_core.ui.numerals import rule
from cxr_core.ui.record import theme


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
        f"The figures of {wording.spoken(one.label)}, in the colours on screen.",
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
