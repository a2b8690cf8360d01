"""Where a record comes from: how its model was trained, on which films."""

from html import escape

import streamlit as st

from cxr_core import export
from cxr_core.evaluation import LabelReport
from cxr_core.ui import charts, session
from cxr_core.ui.dashboard.subject import Subject, draw, heading, note, palette
from cxr_core.ui.widgets import fact_table

PANELS = {
    "loss": "Training loss",
    "validation_loss": "Validation loss",
    "validation_auroc": "AUROC on validation films",
    "perturbed_auroc": "AUROC on perturbed validation films",
    "learning_rate": "Learning rate",
}
MOST_MODELS = 4  # that one chart tells apart


def training(subject: Subject, one: LabelReport) -> None:
    """Show how trainings went, epoch by epoch, several over each other."""
    cards = {card.name: card for card in session.cards()}
    names = st.multiselect(
        "Models",
        list(cards),
        [subject.name] if subject.name in cards else [],
        max_selections=MOST_MODELS,
        key=f"trainings-{subject.name}",
    )
    histories = {name: session.record(cards[name]).history for name in names}
    chosen = {name: int(cards[name].training["best_epoch"]) for name in names}
    kept = [
        (column, name)
        for column, name in PANELS.items()
        if any(column in history for history in histories.values())
    ]
    if not kept:
        note("Choose a model to see how its training went.")
        return
    note("A ring marks the epoch whose weights became the model.")
    for pair in (kept[i : i + 2] for i in range(0, len(kept), 2)):
        for column, panel in zip(st.columns(2, gap="large"), pair, strict=False):
            with column:
                heading(panel[1], "")
                known = {name: h for name, h in histories.items() if panel[0] in h}
                draw(
                    charts.histories_chart(known, chosen, panel, palette()), f"{panel[1]} by epoch"
                )


# --- whether the split can be trusted ---


def split(subject: Subject, one: LabelReport) -> None:
    """Say which films trained, chose and are scored, and whether any lie on two sides."""
    integrity = subject.integrity()
    verdict = "This split leaks." if integrity.leaks else integrity.sentences[0]
    st.html(f'<section class="cxr-summary"><h1>{escape(verdict)}</h1></section>')
    note(" ".join(integrity.sentences[0 if integrity.leaks else 1 :]))
    if subject.card is None:
        return
    facts = subject.card.training
    st.html(
        fact_table(
            {
                "Operating point": subject.card.operating_rule,
                "Training films": f"{facts['films']:,}",
                "Films that chose": f"{facts['validation_films']:,}",
                "Test films": f"{subject.report.n:,}",
                "Films, SHA-256": subject.card.data_digest,
                "Predictions, SHA-256": export.predictions_digest(subject.table),
            }
        )
    )
