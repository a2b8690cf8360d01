"""Another system's scores: two files come in, and their record is shown as any other."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.evaluation import LabelReport
from cxr_core.predictions import groupings
from cxr_core.scores import evaluate_scores, read_scores
from cxr_core.ui.dashboard.files import files
from cxr_core.ui.dashboard.finding import record
from cxr_core.ui.dashboard.findings import findings, groups
from cxr_core.ui.dashboard.subject import Subject, note
from cxr_core.ui.dashboard.versus import comparison
from cxr_core.ui.widgets import plain

OUTSIDE = "outside"  # where a reader's own scores are kept
# What can be shown of scores whose training nobody here knows.
VIEWS: dict[str, tuple[Callable[[Subject, LabelReport], None], Callable[[Subject], bool]]] = {
    "Record": (record, lambda found: True),
    "All findings": (findings, lambda found: len(found.report.labels) > 1),
    "Groups": (groups, lambda found: bool(groupings(found.table))),
    "Compare": (comparison, lambda found: True),
    "Files": (files, lambda found: True),
}


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
    views = [name for name, (_, fits) in VIEWS.items() if fits(found)]
    if st.session_state.get("outside-view") not in views:
        st.session_state["outside-view"] = views[0]
    view = st.segmented_control("Of these scores", views, required=True, key="outside-view")
    VIEWS[view or views[0]][0](found, one)


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
