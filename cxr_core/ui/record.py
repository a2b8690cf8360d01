"""The parts of the evaluation and model pages: a model's public record, drawn.

Nothing here needs TensorFlow or a film. Figures are drawn once for each model, label and
theme, and shared by all readers.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import streamlit as st

from cxr_core import figures
from cxr_core.cards import ModelCard, models_root
from cxr_core.evaluation import EvaluationReport, LabelReport, summary_sentences
from cxr_core.figures import Theme
from cxr_core.ranking import Interval
from cxr_core.ui import reading as words
from cxr_core.ui import session
from cxr_core.ui.session import Record
from cxr_core.ui.widgets import choose_model, fact_table

# Names of the numbers of a record, and what each is a share of.
SHARES = {
    "sensitivity": "of films with it, flagged",
    "specificity": "of films without it, not flagged",
    "ppv": "of flagged films, right",
    "npv": "of films not flagged, right",
    "accuracy": "of all films, right",
    "auroc": "chance that a film with it outranks one without",
    "auprc": "precision, averaged over recall",
}
PLAIN = {
    "balanced_accuracy": "mean of sensitivity and specificity",
    "f1": "harmonic mean of sensitivity and PPV",
    "mcc": "Matthews correlation, -1 to 1",
    "brier": "mean squared error of the probability",
    "ece": "expected calibration error",
}
ABBREVIATIONS = {"ppv", "npv", "auroc", "auprc", "mcc", "ece"}


# --- the evaluation page ---


def theme() -> Theme:
    """Return the theme on screen, for figures; dark where nobody says."""
    return "light" if st.context.theme.type == "light" else "dark"


def choose(cards: Sequence[ModelCard]) -> tuple[ModelCard, Record, LabelReport]:
    """Ask which model and, when it answers several, which finding."""
    first, second, _ = st.columns([1, 1, 1])
    with first:
        card = choose_model(cards)
    record = session.record(card)
    names = [one.label for one in record.report.labels]
    if len(names) == 1:
        return card, record, record.report.labels[0]
    with second:
        chosen = st.selectbox(
            "Finding",
            names,
            format_func=lambda name: name.replace("_", " "),
            key=f"label-{card.name}",
            persist_state="session",
        )
    return card, record, record.report.label(chosen)


def summary(card: ModelCard, record: Record, one: LabelReport) -> None:
    """Say in words how the model did, before any figure."""
    said = replace(one, label=words.spoken(one.label))
    sentences = "<br>".join(map(escape, summary_sentences(said)))
    notes = " ".join((*record.report.notes, *one.notes))
    st.html(
        f'<section class="cxr-summary"><p class="cxr-note">{escape(card.name)}, version '
        f"{escape(card.version)}. {escape(_what_was_scored(record, one))}</p><h1>{sentences}</h1>"
        f'<p class="cxr-note">{escape(notes)}</p></section>'
    )


def _what_was_scored(record: Record, one: LabelReport) -> str:
    patients = len(set(record.table.patients))
    point = "" if one.operating_point is None else f", operating point {one.operating_point:.2f}"
    return (
        f"{record.report.split.capitalize()} split: {one.n} films of {patients} patients, "
        f"{100 * one.prevalence:.0f} % with {words.spoken(one.label)}{point}."
    )


def charts(card: ModelCard, record: Record, one: LabelReport) -> None:
    """Draw the record: what was decided, what other thresholds would do, what scores mean."""
    first, second, third = st.columns([1.12, 1, 1], gap="medium")
    matrix = "confusion" if record.report.matrix is None else "matrix"
    with first:
        _show(card, one, matrix, "Confusion matrix")
    with second:
        _show(card, one, "roc", "ROC curve")
    with third:
        _show(card, one, "precision-recall", "Precision-recall curve")
    first, second, third = st.columns([1.12, 1, 1], gap="medium")
    with first:
        metrics(one)
    with second:
        _show(card, one, "calibration", "Calibration")
    with third:
        _show(card, one, "scores", "Scores of the test films")
        _show(card, one, "history", "Training curves")


def metrics(one: LabelReport) -> None:
    """List every number with its interval."""
    rows = [_row(name, getattr(one, name), meaning) for name, meaning in SHARES.items()]
    rows += [
        _row(name, Interval(getattr(one, name), None, None), meaning)
        for name, meaning in PLAIN.items()
    ]
    st.html(
        '<table class="cxr-table"><caption class="cxr-note">At the operating point, '
        f"with 95 % intervals</caption>{''.join(rows)}</table>"
    )


def _row(name: str, share: Interval, meaning: str) -> str:
    title = name.upper() if name in ABBREVIATIONS else name.replace("_", " ").capitalize()
    value, bounds = "not known", ""
    if share.value is not None:
        value = f"{share.value:.3f}"
    if share.low is not None and share.high is not None:
        bounds = f"{share.low:.3f}-{share.high:.3f}"
    return (
        f'<tr><th scope="row">{title}</th><td class="number">{value}</td>'
        f'<td class="interval">{bounds}</td><td class="meaning">{meaning}</td></tr>'
    )


def _show(card: ModelCard, one: LabelReport, kind: str, title: str) -> None:
    picture = _chart(card.name, card.version, str(models_root()), one.label, kind, theme())
    alt = f"{title} of {card.name}, {one.label}"
    st.image(picture, width="stretch", alt=alt, output_format="PNG")


@st.cache_data(max_entries=200, show_spinner=False)
def _chart(name: str, version: str, root: str, label: str, kind: str, look: Theme) -> bytes:
    """Draw one figure; the model's version stands in the key, so a new one is drawn anew."""
    record = session.record_of(name, version, root)
    one, column = record.report.label(label), record.table.labels.index(label)
    truth, scores = record.table.y_true[:, column], record.table.y_score[:, column]
    draw: dict[str, Callable[[], Any]] = {
        "confusion": lambda: figures.confusion_figure(one, theme=look),
        "matrix": lambda: figures.matrix_figure(record.report, theme=look),
        "roc": lambda: figures.roc_figure(truth, scores, one, theme=look),
        "precision-recall": lambda: figures.precision_recall_figure(truth, scores, one, theme=look),
        "calibration": lambda: figures.calibration_figure(one, theme=look),
        "scores": lambda: figures.score_histogram_figure(truth, scores, one, theme=look),
        "history": lambda: figures.history_figure(record.history, theme=look),
    }
    return figures.figure_png(draw[kind]())


# --- the model page ---


def model_facts(card: ModelCard, record: Record) -> None:
    """Put on one page what a reader should know before trusting a model."""
    st.html(
        f'<section class="cxr-summary"><h1>{escape(card.name)}</h1>'
        f'<p class="cxr-lead">{escape(card.intended_use)}</p></section>'
    )
    left, right = st.columns([1, 1], gap="large")
    with left:
        _section(f"Record on its {record.report.split} films", _record_table(record.report))
        _section("How not to use it", _list(card.not_for))
        _section(
            "Known limits", _list((*words.shortcut_in_words(card, record.report), *card.limits))
        )
        _section("How it answers", fact_table(_answering(card)))
    with right:
        _section("How it was trained", fact_table(_training(card)))


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
        says = f"flags from {point:.2f}" if point is not None else "never flags: too few films"
        if card.activation == "softmax":
            says = "the largest wins"
        says += f", cannot tell from {band[0]:.2f} to {band[1]:.2f}" if band else ""
        facts[label.replace("_", " ")] = says
    facts["Operating point"] = card.operating_rule
    parameters = ", ".join(f"{value:.2f}" for value in card.calibration.parameters)
    facts["Calibration"] = f"{card.calibration.method} {parameters}".strip()
    shape = card.preprocessing
    facts["Input"] = f"{shape.size} × {shape.size} pixels, {shape.fit}"
    facts["Input"] += ", each film standardised" if shape.standardise else ""
    return facts


def _training(card: ModelCard) -> dict[str, str]:
    """List the training's plain facts; what the card nests is for scripts."""
    facts = {"Films, licence": card.data, "Recipe": f"{card.recipe}, network {card.network}"}
    for name, value in card.training.items():
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            facts[name.replace("_", " ").capitalize()] = _plain(value)
    facts |= {"Version": card.version, "Created": card.created}
    return facts | {
        "Weights, SHA-256": session.file_digest(card),
        "Films, SHA-256": card.data_digest,
    }


def _plain(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"
