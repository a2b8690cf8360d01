"""All findings of a model at once, and one finding in every group of patients."""

from html import escape

import streamlit as st

from cxr_core.cards import models_root
from cxr_core.evaluation import LabelReport
from cxr_core.predictions import groupings, subgroups
from cxr_core.ranking import Interval
from cxr_core.ui import charts, session
from cxr_core.ui.dashboard.subject import (
    FIXED,
    MOVED,
    Subject,
    cell,
    draw,
    heading,
    note,
    palette,
    shown,
)
from cxr_core.ui.numerals import title

BARS = ("auroc", "auprc", "sensitivity", "specificity", "ppv", "npv")
BAR = 105  # pixels: with these, all columns stand side by side at 1440
GROUP_NUMBERS = ("auroc", "sensitivity", "specificity", "ppv", "npv")


def findings(subject: Subject, one: LabelReport) -> None:
    """Show every finding as a line that sorts, and as a 2 x 2 of its own."""
    report = subject.report
    macro, micro = report.macro, report.micro
    others = [name for name in (*MOVED, *FIXED) if name not in BARS]
    lines = [
        {
            "Finding": shown(each.label),
            "Films with it": each.positives,
            **{title(name): _value(getattr(each, name)) for name in (*BARS, *others)},
        }
        for each in report.labels
    ]
    bar = {
        title(name): st.column_config.ProgressColumn(
            format="%.3f", min_value=0.0, max_value=1.0, width=BAR
        )
        for name in BARS
    }
    rest = {title(name): st.column_config.NumberColumn(format="%.3f") for name in others}
    st.dataframe(
        lines,
        hide_index=True,
        column_config={**bar, **rest},
        width="stretch",
        height="content",
        placeholder="–",
        alt="Every finding with its numbers, as the files of this record hold them",
    )
    averages = [
        f"{kind} {title(name)} {value:.3f}"
        for kind, group in (("Macro", macro), ("micro", micro))
        for name in ("auroc", "auprc", "f1")
        if (value := getattr(group, name)) is not None
    ]
    note(
        "; ".join(averages) + ". Macro is the mean over findings, micro takes all pairs of film "
        "and finding in one heap. Accuracy says little where a finding is rare."
    )
    integrity = subject.integrity()
    if integrity.leaks:
        note(f"No matrices are drawn, because the split leaks. {integrity.sentences[0]}")
        return
    cells = "".join(_small_matrix(each) for each in report.labels)
    st.html(f'<div class="cxr-matrices">{cells}</div>')


def _value(number: Interval | float | None) -> float | None:
    return number.value if isinstance(number, Interval) else number


def _small_matrix(one: LabelReport) -> str:
    name = escape(shown(one.label))
    if one.confusion is None:
        return (
            f"<figure><figcaption>{name}</figcaption>"
            '<p class="cxr-note">no operating point</p></figure>'
        )
    (tn, fp), (fn, tp) = one.confusion
    return (
        f"<figure><figcaption>{name}</figcaption><table><tr><th></th><th>not flagged</th>"
        f'<th>flagged</th></tr><tr><th scope="row">absent</th><td>{tn}</td><td>{fp}</td></tr>'
        f'<tr><th scope="row">present</th><td>{fn}</td><td>{tp}</td></tr></table></figure>'
    )


# --- groups of patients ---


def groups(subject: Subject, one: LabelReport) -> None:
    """Show whether the model does as well in every group that the test films tell apart."""
    number = st.segmented_control(
        "Number", GROUP_NUMBERS, required=True, default="auroc", format_func=title, key="number"
    )
    found = {by: _subgroups(subject, one, by) for by in groupings(subject.table)}
    left, right = st.columns([1.2, 1], gap="large")
    with left:
        heading(f"{title(number)} by group", "the line is all films; round marks are small groups")
        draw(charts.forest_chart(found, number, one, palette()), f"{title(number)} by group")
    with right:
        names = ("films", "with it", *map(title, GROUP_NUMBERS[:3]))
        head = "".join(f'<th scope="col" class="number">{name}</th>' for name in names)
        rows = "".join(
            f'<tr><th scope="row">{escape(f"{by.capitalize()}: {name}")}</th>'
            f'<td class="number">{each.n}</td><td class="number">{each.positives}</td>'
            + "".join(cell(getattr(each, name), 2) for name in GROUP_NUMBERS[:3])
            + "</tr>"
            for by, reports in found.items()
            for name, each in reports.items()
        )
        st.html(f'<table class="cxr-table"><tr><th></th>{head}</tr>{rows}</table>')
        for by, reports in found.items():
            for name, each in reports.items():
                if each.notes:
                    note(f"{by.capitalize()}, {name}: {each.notes[0]}")


def _subgroups(subject: Subject, one: LabelReport, by: str) -> dict[str, LabelReport]:
    point = None if subject.exclusive else one.operating_point
    if subject.card is None:
        return subgroups(subject.table, one.label, point, by, exclusive=subject.exclusive)
    card = subject.card
    return _model_subgroups(card.name, card.version, str(models_root()), one.label, by)


@st.cache_data(max_entries=100, show_spinner="Counting groups")
def _model_subgroups(
    name: str, version: str, root: str, label: str, by: str
) -> dict[str, LabelReport]:
    """Report on the groups of a model's films once for all readers."""
    found = session.record_of(name, version, root)
    exclusive = found.report.matrix is not None
    point = None if exclusive else found.report.label(label).operating_point
    return subgroups(found.table, label, point, by, exclusive=exclusive)
