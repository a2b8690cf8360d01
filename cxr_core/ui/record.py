"""The parts of the model page: what to know of a model before trusting it.

Nothing here needs TensorFlow or a film. Figures are drawn once for each model, label and
theme, and shared by all readers.
"""

from collections.abc import Sequence
from html import escape

import streamlit as st

from cxr_core.cards import ModelCard
from cxr_core.evaluation import EvaluationReport
from cxr_core.figures import Theme
from cxr_core.mistakes import coverage, coverage_in_words, mistakes_in_words
from cxr_core.ranking import Interval
from cxr_core.ui import reading as words
from cxr_core.ui import session
from cxr_core.ui.numerals import probability
from cxr_core.ui.session import Record
from cxr_core.ui.widgets import belonging, fact_table

# Facts of a training whose names say little by themselves.
CALLED = {
    "films": "Training films",
    "in_two_parts": "Patients or films in two parts",
    "seconds": "Seconds of training",
    "test_auroc_float32_weights": "AUROC before rounding of weights",
}


def theme() -> Theme:
    """Return the theme on screen, for figures; dark where nobody says."""
    return "light" if st.context.theme.type == "light" else "dark"


def model_facts(card: ModelCard, record: Record) -> None:
    """Put on one page what a reader should know before trusting a model."""
    belonging(card)
    st.html(
        f'<section class="cxr-summary"><h1>{escape(card.name)}</h1>'
        f'<p class="cxr-lead">{escape(card.intended_use)}</p></section>'
    )
    left, right = st.columns([1, 1], gap="large")
    with left:
        _section(f"Record on its {record.report.split} films", _record_table(record.report))
        wrong = [*mistakes_in_words(record.report, record.table), *_promises(card, record)]
        _section("What it gets wrong", _list(wrong))
        _section("How not to use it", _list(card.not_for))
        _section(
            "Known limits", _list((*words.shortcut_in_words(card, record.report), *card.limits))
        )
        _section("How it answers", fact_table(_answering(card)))
    with right:
        _section("How it was trained", fact_table(_training(card)))


def _promises(card: ModelCard, record: Record) -> list[str]:
    """Say whether the cannot-tell bands hold on the test films what they promise."""
    exclusive, points = card.activation == "softmax", card.operating_points
    return coverage_in_words(coverage(record.table, points, card.cannot_tell, exclusive=exclusive))


def _section(title: str, html: str) -> None:
    st.html(f'<h2 class="cxr-title">{escape(title)}</h2>{html}')


def _list(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="cxr-list">{items}</ul>'


def _record_table(report: EvaluationReport) -> str:
    """Write each label's headline numbers, with their 95 % intervals."""
    names = ("Films", "With it", "Sensitivity", "Specificity", "AUROC")
    head = "".join(f'<th scope="col" class="number">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(one.label.replace("_", " "))}</th>'
        f'<td class="number">{one.n}</td><td class="number">{one.positives}</td>'
        + "".join(map(_cell, (one.sensitivity, one.specificity, one.auroc)))
        + "</tr>"
        for one in report.labels
    )
    return f'<table class="cxr-table"><tr><th></th>{head}</tr>{rows}</table>'


def _cell(share: Interval) -> str:
    if share.value is None or share.low is None or share.high is None:
        return '<td class="number">not known</td>'
    bounds = f"{share.low:.2f}-{share.high:.2f}"
    return f'<td class="number">{share.value:.2f}<br><small>{bounds}</small></td>'


def _answering(card: ModelCard) -> dict[str, str]:
    facts = {
        "Patients": words.age_group(card.age_range) if card.age_range else "age range not known",
        "Views": ", ".join(card.views) or "not known",
    }
    for label, point, band in zip(
        card.labels, card.operating_points, card.cannot_tell, strict=True
    ):
        says = (
            f"flags from {probability(point)}"
            if point is not None
            else "never flags: too few films, or too weak"
        )
        if card.activation == "softmax":
            says = "the largest wins"
        says += ", cannot tell from {} to {}".format(*map(probability, band)) if band else ""
        facts[label.replace("_", " ")] = says
    facts["Operating point"] = card.operating_rule
    facts["Calibration"] = card.calibration.in_words()
    facts |= words.reliability_in_words(card)
    shape = card.preprocessing
    facts["Input"] = f"{shape.size} × {shape.size} pixels, {shape.fit}"
    facts["Input"] += ", each film standardised" if shape.standardise else ""
    return facts


def _training(card: ModelCard) -> dict[str, str]:
    """List the training's plain facts; what the card nests is for scripts."""
    facts = {"Films, licence": card.data, "Recipe": f"{card.recipe}, network {card.network}"}
    for name, value in card.training.items():
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            facts[CALLED.get(name, name.replace("_", " ").capitalize())] = _plain(value)
    facts |= {"Version": card.version, "Created": card.created}
    return facts | {
        "Weights, SHA-256": session.file_digest(card),
        "Films, SHA-256": card.data_digest,
    }


def _plain(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"
