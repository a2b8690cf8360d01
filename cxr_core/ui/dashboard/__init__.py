"""The evaluation page: what stands in a test record, from every side a sceptic may ask for.

Only the view that is chosen runs. Every number comes from the core's reports; here they are
laid out. A threshold or a prevalence that a reader tries changes this page alone, never the
model: its operating point was fixed on validation films.
"""

from collections.abc import Callable, Sequence

import streamlit as st

from cxr_core.cards import ModelCard
from cxr_core.evaluation import LabelReport
from cxr_core.predictions import groupings
from cxr_core.ui import access, journal, session
from cxr_core.ui.dashboard.explanations import explanations
from cxr_core.ui.dashboard.files import files
from cxr_core.ui.dashboard.finding import record
from cxr_core.ui.dashboard.findings import findings, groups
from cxr_core.ui.dashboard.local import local
from cxr_core.ui.dashboard.monitoring import monitoring
from cxr_core.ui.dashboard.origins import split, training
from cxr_core.ui.dashboard.outside import OUTSIDE, outside
from cxr_core.ui.dashboard.readers import readers
from cxr_core.ui.dashboard.subject import Subject, shown
from cxr_core.ui.dashboard.versus import comparison
from cxr_core.ui.widgets import belonging, choose_model

FEW = 3  # findings that one look takes in
VIEWS: dict[str, tuple[Callable[[Subject, LabelReport], None], Callable[[Subject], bool]]] = {
    "Record": (record, lambda subject: True),
    "All findings": (findings, lambda subject: len(subject.report.labels) > FEW),
    "Groups": (groups, lambda subject: bool(groupings(subject.table))),
    "Compare": (comparison, lambda subject: True),
    "Explanations": (explanations, lambda subject: True),
    "Readers": (readers, lambda subject: subject.card is not None and journal.wanted()),
    "Local check": (local, lambda subject: subject.card is not None),
    "Monitoring": (monitoring, lambda subject: subject.card is not None and journal.wanted()),
    "Training": (training, lambda subject: True),
    "Split": (split, lambda subject: True),
    "Files": (files, lambda subject: True),
    "Other scores": (outside, lambda subject: True),
}


def choose(cards: Sequence[ModelCard]) -> tuple[Subject, str, LabelReport]:
    """Ask for a model, a view and, when it answers several, a finding."""
    first, second, third = st.columns([2, 1.6, 6.4], vertical_alignment="bottom")
    with first:
        card = choose_model(cards)
    record = session.record(card)
    subject = Subject(
        name=card.name,
        report=record.report,
        table=record.table,
        card=card,
        history=record.history,
    )
    with third:
        fitting = [name for name, (_, fits) in VIEWS.items() if fits(subject)]
        views = list(filter(access.visitor().may_see, fitting))
        if st.session_state.get("view") not in views:
            st.session_state["view"] = views[0]
        view = st.segmented_control(
            "View", views, required=True, key="view", persist_state="session"
        )
    if view == "Other scores":
        subject = st.session_state.get(OUTSIDE, subject)
    with second:
        label = _choose_label(subject)
    return subject, view or views[0], label


def _choose_label(subject: Subject) -> LabelReport:
    names = [one.label for one in subject.report.labels]
    if len(names) == 1:
        return subject.report.labels[0]
    chosen = st.selectbox(
        "Finding",
        names,
        format_func=shown,
        key=f"label-{subject.key}",
        persist_state="session",
    )
    return subject.report.label(chosen)


def show(subject: Subject, view: str, one: LabelReport) -> None:
    """Draw the view that was chosen, and no other; first what a reader of any must know."""
    if subject.card is not None:
        belonging(subject.card)
    VIEWS[view][0](subject, one)
