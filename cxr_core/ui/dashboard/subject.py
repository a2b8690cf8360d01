"""What the evaluation page speaks of, and the small parts that its views share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cxr_core.cards import ModelCard, SplitIntegrity, split_integrity
from cxr_core.evaluation import EvaluationReport
from cxr_core.figures import PALETTES, Palette
from cxr_core.predictions import PredictionTable
from cxr_core.ranking import Interval
from cxr_core.ui.numerals import words
from cxr_core.ui.record import theme
from cxr_core.ui.vega import Chart

# The numbers of a record: what each says in words. Those that the threshold moves come first.
MOVED = {
    "sensitivity": "of films with it, flagged",
    "specificity": "of films without it, not flagged",
    "ppv": "of flagged films, right",
    "npv": "of films not flagged, right",
    "accuracy": "of all films, right",
    "balanced_accuracy": "mean of sensitivity and specificity",
    "f1": "harmonic mean of sensitivity and PPV",
    "mcc": "Matthews correlation, -1 to 1",
}
FIXED = {
    "auroc": "chance that a film with it outranks one without",
    "auprc": "precision, averaged over recall",
    "brier": "mean squared error of the probability",
    "log_loss": "mean surprise at the truth, in nats",
    "ece": "expected calibration error",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """What the page speaks of: a table of predictions and its report.

    Attributes:
        name: Of the model, or of the file whose scores these are.
        report: Its record.
        table: Its films.
        card: None for scores that came from elsewhere.
        history: Its training; empty where unknown.
        upload: Which files these scores came with; "" for a model.
    """

    name: str
    report: EvaluationReport
    table: PredictionTable
    card: ModelCard | None = None
    history: Mapping[str, Sequence[float]]
    upload: str = ""

    @property
    def exclusive(self) -> bool:
        """Whether the largest score decides."""
        return self.report.matrix is not None

    @property
    def key(self) -> str:
        """Tell its controls from those of others; a file may be called as a model is."""
        return f"{self.name} {self.upload}".strip()

    def integrity(self) -> SplitIntegrity:
        """Say whether the split can be believed."""
        if self.card is None:
            told = "These scores came from elsewhere: nothing is known of what trained the system."
            return SplitIntegrity(False, (told,))
        return split_integrity(self.card, self.table)


def columns(table: PredictionTable, label: str) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Return truth (N,) and scores (N,) of one label."""
    column = table.labels.index(label)
    return table.y_true[:, column], table.y_score[:, column]


def cell(share: Interval, digits: int = 3) -> str:
    """Write a number and, under it, its interval as a cell of a table."""
    value, bounds = words(share, digits)
    return f'<td class="number">{value}<br><small>{bounds}</small></td>'


def palette() -> Palette:
    """Return the colours of the theme on screen."""
    return PALETTES[theme()]


def draw(chart: Chart, name: str) -> None:
    """Draw a chart as wide as its column, and say what it shows to those who cannot see it."""
    st.vega_lite_chart(spec=chart.spec, theme=None, width="stretch", alt=name)
    unseen(chart)


def unseen(chart: Chart) -> None:
    """Write what a chart shows for screen readers alone.

    As the `alt` of the chart, words that change would have the browser draw it anew.
    """
    st.html(f'<p class="cxr-unseen">{escape(chart.alt)}</p>')


def heading(text: str, beside: str = "") -> None:
    """Write the name of a figure, and what goes beside it in small letters."""
    more = f' <small class="cxr-note">{escape(beside)}</small>' if beside else ""
    st.html(f'<h2 class="cxr-title">{escape(text)}{more}</h2>')


def note(text: str) -> None:
    """Write a quiet sentence."""
    st.html(f'<p class="cxr-note">{escape(text)}</p>')


def shown(label: str) -> str:
    """Write a label as a reader would."""
    return label.replace("_", " ")
