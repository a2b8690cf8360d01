"""This site's readers against a model: what they said before its answer was shown.

Only such opinions count, each reader's first on a film: after the answer nobody is free of
it. On test films the truth is known, so there readers and model are held against it, on the
same films.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import streamlit as st

from cxr_core.agreement import Agreement, agreement
from cxr_core.cards import ModelCard
from cxr_core.comparison import mcnemar
from cxr_core.evaluation import LabelReport, ThresholdReport, decision_report
from cxr_core.predictions import PredictionTable
from cxr_core.records import VERDICTS, Opinion
from cxr_core.ui import access, journal
from cxr_core.ui.dashboard.subject import Subject, cell, heading, note, shown
from cxr_core.ui.numerals import with_bounds
from cxr_core.wording import spoken

FEWEST = 10  # films from which agreement is worth a headline
PRESENT = {"present": True, "absent": False}  # unsure is neither


@dataclass(frozen=True)
class Trial:
    """Readers and a model on test films, each of which both decided.

    Attributes:
        reader: What the readers' words do.
        model: What the model's flags do, on the same films.
        p_value: McNemar's, of who is right; None where they are right alike.
        unsure: Test films on which the reader was not sure, left out.
    """

    reader: ThresholdReport
    model: ThresholdReport
    p_value: float | None
    unsure: int


def readers(subject: Subject, one: LabelReport) -> None:
    """Show how readers and the model agree, on one finding and on all, and who is right."""
    if subject.card is None:
        note("These scores came from elsewhere: nobody reads films with that system here.")
        return
    said = journal.said_of(subject.card.name)
    version = [each for each in said if each.version == subject.card.version]
    # First over all versions: who read a film with an older one has seen an answer to it.
    every = journal.first(said)
    firsts = [each for each in every if each.version == subject.card.version]
    of_label = [each for each in firsts if each.label == one.label]
    _summary(one.label, of_label, len(every) - len(firsts))
    if not of_label:
        note(
            "Nobody has read first with this model yet. On the Read page, switch on Read first; "
            "on the worklist, test films can be drawn by lot to be read so."
        )
        return
    if never_flags(subject.card, one.label):
        note(
            f"The model has no operating point for {spoken(one.label)}, so that it never flags it: "
            "what it does not flag is no answer here."
        )
    left, right = st.columns([1, 1.2], gap="large")
    with left:
        heading(f"Reader and model on {spoken(one.label)}", "films")
        st.html(_matrix(_agreed(of_label)))
        _afterwards(version, one.label)
    with right:
        _against_truth(subject.table, one.label, of_label)
    if len(subject.report.labels) > 1:
        heading("All findings")
        st.html(_all_findings(subject, firsts))
    if access.visitor().may_see("Opinions, CSV"):
        st.download_button(
            "Opinions, CSV",
            _csv,
            f"{subject.name}-opinions.csv",
            "text/csv",
            on_click="ignore",
            help="Every opinion of this site, with its times, one a line.",
        )


def never_flags(card: ModelCard, label: str) -> bool:
    """Say whether a model has no operating point for a finding, where others have theirs."""
    return card.activation == "sigmoid" and card.operating_points[card.position(label)] is None


def _agreed(said: Sequence[Opinion]) -> Agreement:
    told = [one for one in said if one.stance is not None and one.flag is not None]
    return agreement([PRESENT.get(one.stance or "") for one in told], [bool(o.flag) for o in told])


def _summary(label: str, said: Sequence[Opinion], others: int) -> None:
    """Say in a line how far they agree; a film that several readers read counts for each."""
    found, films = _agreed(said), len({one.digest for one in said})
    (neither, _), (_, both) = found.counts
    head, what = "No film was read first yet.", "film" if films == len(said) else "reading"
    if found.n:
        head = f"On {neither + both} of {found.n} {what}{'s' * (found.n > 1)} reader and model "
        head += "say the same"
        kappa = with_bounds(found.kappa)
        head += f"; kappa {kappa}." if found.n >= FEWEST and found.kappa.value is not None else "."
    told = f"{shown(label)}, said before the answer was shown"
    if films < len(said):
        told += f"; {len(said)} readings of {films} films, which the intervals take for as many"
    if found.n and found.n < FEWEST:
        told += f"; {found.n} {what}{'s say' if found.n > 1 else ' says'} little"
    if others:
        told += f"; {others} opinions on other versions of the model are left out"
    st.html(
        f'<section class="cxr-summary"><p class="cxr-note">{escape(told)}.</p>'
        f"<h1>{escape(head)}</h1></section>"
    )


def _matrix(found: Agreement) -> str:
    """Draw reader by model, the unsure apart."""
    names = ("absent", "present", "unsure")
    rows = "".join(
        f'<tr><th scope="row">reader: {name}</th>'
        f'<td class="number">{clear}</td><td class="number">{flag}</td></tr>'
        for name, (clear, flag) in zip(names, (*found.counts, found.unsure), strict=True)
    )
    head = '<th></th><th class="number">not flagged</th><th class="number">flagged</th>'
    return (
        f'<table class="cxr-table numbers"><tr>{head}</tr>{rows}</table>'
        f'<p class="cxr-note">Share on which both say the same: {with_bounds(found.observed)}; '
        f"Cohen's kappa {with_bounds(found.kappa)}; 95 % intervals. Unsure counts in neither.</p>"
    )


def _afterwards(said: Sequence[Opinion], label: str) -> None:
    """Count what readers said once they knew the answer."""
    verdicts = [one.verdict for one in said if one.label == label and one.verdict is not None]
    if verdicts:
        told = ", ".join(f"{name} {verdicts.count(name)}" for name in VERDICTS)
        note(f"After the answer: {told}.")


def trial(table: PredictionTable, label: str, said: Sequence[Opinion]) -> Trial | None:
    """Hold readers and model against the truth of test films; None where nobody read any.

    Args:
        table: The model's test record.
        label: The finding.
        said: First opinions on it.
    """
    row = {file: place for place, file in enumerate(table.files)}
    tested = [one for one in said if one.test_film in row and one.flag is not None]
    decided = [one for one in tested if one.stance in PRESENT]
    if not decided:
        return None
    column = table.labels.index(label)
    truth = np.array([table.y_true[row[one.test_film], column] == 1 for one in decided])
    reader = np.array([PRESENT[one.stance or ""] for one in decided])
    model = np.array([bool(one.flag) for one in decided])
    only_reader = int(((reader == truth) & (model != truth)).sum())
    only_model = int(((model == truth) & (reader != truth)).sum())
    return Trial(
        decision_report(truth, reader, None),
        decision_report(truth, model, None),
        mcnemar(only_reader, only_model),
        len(tested) - len(decided),
    )


def _against_truth(table: PredictionTable, label: str, said: Sequence[Opinion]) -> None:
    heading("Against the truth", "test films read first; the same films for both")
    found = trial(table, label, said)
    if found is None:
        note("No test film was read first: draw some on the worklist.")
        return
    names = ("sensitivity", "specificity", "accuracy")
    rows = "".join(
        f'<tr data-number="{name}"><th scope="row">{name.capitalize()}</th>'
        f"{cell(getattr(found.reader, name), 2)}{cell(getattr(found.model, name), 2)}</tr>"
        for name in names
    )
    head = '<th></th><th class="number">readers</th><th class="number">model</th>'
    st.html(f'<table class="cxr-table numbers"><tr>{head}</tr>{rows}</table>')
    p = "" if found.p_value is None else f" Who is right: McNemar p {found.p_value:.3f}."
    unsure = f" Unsure, left out: {found.unsure}." if found.unsure else ""
    note(
        f"{found.reader.n} films, {found.reader.positives} with {spoken(label)}; 95 % Wilson "
        f"intervals.{unsure}{p}"
    )


def _all_findings(subject: Subject, said: Sequence[Opinion]) -> str:
    head = "".join(
        f'<th class="number">{name}</th>'
        for name in ("films", "both", "reader only", "model only", "neither", "unsure",
                     "the same", "kappa")
    )  # fmt: skip
    rows = "".join(
        _finding_row(shown(one.label), _agreed([each for each in said if each.label == one.label]))
        for one in subject.report.labels
    )
    return f'<table class="cxr-table numbers"><tr><th></th>{head}</tr>{rows}</table>'


def _finding_row(name: str, found: Agreement) -> str:
    (neither, model), (reader, both) = found.counts
    counts = "".join(
        f'<td class="number">{count}</td>'
        for count in (found.n, both, reader, model, neither, sum(found.unsure))
    )
    return (
        f'<tr><th scope="row">{escape(name)}</th>{counts}{cell(found.observed, 2)}'
        f"{cell(found.kappa, 2)}</tr>"
    )


def _csv() -> str:
    found = journal.opened()
    return found.opinions_csv() if found is not None else ""
