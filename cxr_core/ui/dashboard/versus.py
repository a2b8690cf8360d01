"""Two models on the same films, by paired tests."""

from collections.abc import Sequence
from html import escape

import streamlit as st

from cxr_core import wording
from cxr_core.cards import ModelCard, split_integrity
from cxr_core.comparison import ModelComparison, PairedDecisions, compare_models
from cxr_core.evaluation import LabelReport
from cxr_core.predictions import PredictionTable
from cxr_core.ranking import Comparison, Interval
from cxr_core.scores import named_as
from cxr_core.ui import session
from cxr_core.ui.dashboard.subject import Subject, cell, note
from cxr_core.ui.widgets import fact_table


def comparison(subject: Subject, one: LabelReport) -> None:
    """Compare with another model on the films that both have scored, by paired tests."""
    others = [card for card in session.cards() if _comparable(card, subject, one.label)]
    if not others:
        note(f"No other model here has scored {wording.spoken(one.label)} on any of these films.")
        return
    by_name = {card.name: card for card in others}
    left, _ = st.columns([1, 2])
    with left:
        chosen = st.selectbox("Compared with", list(by_name), key=f"other-{subject.key}")
    card = by_name[chosen]
    other = session.record(card)
    found = compare_models(
        _table(subject, other.table),
        other.table,
        one.label,
        (one.operating_point, other.report.label(one.label).operating_point),
        exclusive=(subject.exclusive, other.report.matrix is not None),
    )
    leaking = [
        name
        for name, whole in (
            (subject.name, subject.integrity()),
            (card.name, split_integrity(card, other.table)),
        )
        if whole.leaks
    ]
    name = subject.name if subject.card is not None else f"{subject.name} (uploaded)"
    _compared(found, (name, card.name), leaking)


def _comparable(card: ModelCard, subject: Subject, label: str) -> bool:
    """Say whether another model answers a label and has scored some of the same films."""
    if card == subject.card or label not in card.labels:
        return False
    other = session.record(card).table
    return not set(_table(subject, other).files).isdisjoint(other.files)


def _table(subject: Subject, other: PredictionTable) -> PredictionTable:
    """Return a subject's films; those of another system under the names they have here."""
    return named_as(subject.table, other.files) if subject.card is None else subject.table


def _compared(found: ModelComparison, names: tuple[str, str], leaking: Sequence[str]) -> None:
    a, b = names
    leaks = "".join(f" The split of {name} leaks, which flatters it." for name in leaking)
    st.html(
        '<section class="cxr-summary"><p class="cxr-note">'
        f"{found.n:,} films that both scored, {found.positives:,} with "
        f"{escape(wording.spoken(found.label))}; {found.n_a_only:,} only {escape(a)} scored, "
        f"{found.n_b_only:,} only {escape(b)}.{escape(leaks)}</p>"
        f"<h1>{escape(_verdict(found.auroc, names))}</h1>"
        f'<p class="cxr-note">{escape(" ".join(found.notes))}</p></section>'
    )
    head = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in names)
    head += '<th scope="col" class="number">difference</th><th class="number">p</th>'
    rows = _pair_row(
        "AUROC", found.auroc.a, found.auroc.b, found.auroc.difference, found.auroc.p_value
    )
    parts = (
        ("Sensitivity", found.a.sensitivity, found.b.sensitivity, found.with_finding),
        ("Specificity", found.a.specificity, found.b.specificity, found.without_finding),
        ("Accuracy", found.a.accuracy, found.b.accuracy, found.all_films),
    )
    for name, first, second, pair in parts:
        rows += _pair_row(
            name, first, second, _difference(first, second), pair.p_value if pair else None
        )
    left, right = st.columns([1.2, 1], gap="large")
    with left:
        st.html(
            f'<table class="cxr-table numbers"><caption class="cxr-note">DeLong for the AUROC, '
            f"McNemar's exact test for decisions; 95 % intervals</caption><tr><th></th>{head}</tr>"
            f"{rows}</table>"
        )
    with right:
        kinds = {
            "Films with it": found.with_finding,
            "Films without it": found.without_finding,
            "All films": found.all_films,
        }
        facts = {name: _who_is_right(pair, names) for name, pair in kinds.items() if pair}
        st.html(f'<h2 class="cxr-title">Who is right</h2>{fact_table(facts)}')


def _pair_row(
    name: str, a: Interval, b: Interval, difference: Interval, p_value: float | None
) -> str:
    p = "not known" if p_value is None else ("< 0.001" if p_value < 0.001 else f"{p_value:.3f}")
    return (
        f'<tr data-number="{name.lower()}"><th scope="row">{name}</th>'
        + "".join(cell(share) for share in (a, b, difference))
        + f'<td class="number">{escape(p)}</td></tr>'
    )


def _difference(a: Interval, b: Interval) -> Interval:
    known = a.value is not None and b.value is not None
    return Interval(a.value - b.value if known else None, None, None)  # type: ignore[operator]


def _verdict(pair: Comparison, names: tuple[str, str]) -> str:
    if pair.p_value is None or pair.difference.value is None:
        return "The two rank these films alike, or cannot be told apart."
    better, worse = names if pair.difference.value > 0 else names[::-1]
    size = abs(pair.difference.value)
    if pair.p_value >= 0.05:
        return f"{better} is ahead by {size:.3f} in AUROC, which chance alone may explain."
    return f"{better} ranks these films better than {worse}, by {size:.3f} in AUROC."


def _who_is_right(pair: PairedDecisions, names: tuple[str, str]) -> str:
    return (
        f"both {pair.both_right:,}, only {names[0]} {pair.only_a:,}, only {names[1]} "
        f"{pair.only_b:,}, neither {pair.neither:,}"
    )
