"""The evaluation of a model as a report to print: what a department files and signs off.

It is composed from values alone. The foot of each page names the model, its version and the
SHA-256 of its predictions, so that whoever holds `predictions.csv` can recompute every number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from reportlab.lib.units import mm
from reportlab.platypus import CondPageBreak, KeepTogether, PageBreak

from cxr_core.cards import ModelCard
from cxr_core.errors import ArgumentError
from cxr_core.evaluation import (
    EvaluationReport,
    LabelReport,
    ThresholdReport,
    plain,
    wilson,
)
from cxr_core.export import paper
from cxr_core.export.numbers import Number, averages, numbers_in
from cxr_core.export.paper import COLUMN, WIDTH, Flowable, paragraph
from cxr_core.export.pictures import (
    history_picture,
    label_pictures,
    matrix_picture,
    require_same_films,
)
from cxr_core.predictions import PredictionTable, groupings, subgroups, write_predictions
from cxr_core.ranking import Interval
from cxr_core.wording import NOTICE, summary_sentences

# Labels of a model that are all shown in full; of more, one is.
MOST_IN_FULL = 3
DPI = 150  # of figures about an inch wider than they are printed
# Facts of the training that stand beside its curves: characters of each, and how many.
SHORT_FACT, MOST_BESIDE = 60, 14
# What a number is, in print; others are called by their name.
TITLES = {
    "n": ("Films", ""),
    "positives": ("Films with it", ""),
    "true_negatives": ("Not flagged, without it", "true negatives"),
    "false_positives": ("Flagged, without it", "false positives"),
    "false_negatives": ("Not flagged, with it", "false negatives"),
    "true_positives": ("Flagged, with it", "true positives"),
    "prevalence": ("Prevalence", "share of films with it"),
    "operating_point": ("Operating point", "probability from which a film is flagged"),
    "sensitivity": ("Sensitivity", "of films with it, flagged"),
    "specificity": ("Specificity", "of films without it, not flagged"),
    "ppv": ("PPV", "of flagged films, right"),
    "npv": ("NPV", "of films not flagged, right"),
    "accuracy": ("Accuracy", "of all films, right"),
    "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity"),
    "f1": ("F1", "harmonic mean of sensitivity and PPV"),
    "mcc": ("MCC", "Matthews correlation, -1 to 1"),
    "auroc": ("AUROC", "chance that a film with it outranks one without"),
    "auprc": ("AUPRC", "precision, averaged over recall"),
    "ece": ("ECE", "expected calibration error"),
    "brier": ("Brier score", "mean squared error of the probability"),
    "log_loss": ("Log loss", "mean surprise at the truth, 0 is best"),
}

NO_POINT = Number("operating_point", None)


def evaluation_pdf(
    card: ModelCard,
    report: EvaluationReport,
    table: PredictionTable,
    history: Mapping[str, Sequence[float]] | None,
    *,
    label: str | None = None,
    at: ThresholdReport | None = None,
    integrity: Sequence[str] = (),
) -> bytes:
    """Compose the evaluation of a model as a PDF of A4 pages, the same for the same values.

    Up to three labels are all shown in full. Of more there is one table, and `label` in full.

    Args:
        card: What the model is.
        report: Its record.
        table: The predictions that the record was made from.
        history: Columns of history.csv; None when the training is not known.
        label: The label of `at`, and the one to show in full where there are many.
        at: What another threshold, chosen by a reader, does to the films of `label`; None when
            none was chosen.
        integrity: How the films were kept apart from those of the training, in sentences.

    Raises:
        UnknownName: When the model does not answer `label`.
        ArgumentError: When card, report and predictions do not belong together, or `at` comes
            without the label that it is for.
    """
    _require_one_model(card, report, table)
    shown = _shown_in_full(report, label)
    if at is not None:
        _require_threshold_of(report, label, at)
    pictures = {one.label: label_pictures(report, table, one.label, dpi=DPI) for one in shown}
    matrix = None if report.matrix is None else matrix_picture(report, dpi=DPI)
    training = history_picture(history, dpi=DPI)

    def story() -> list[Flowable]:
        told = _front(card, report, table, integrity)
        if len(report.labels) > 1:
            told += _all_labels(report, matrix)
        for one in shown:
            told += _label(report, table, one, pictures[one.label])
            if at is not None and one.label == label:
                told += _exploration(one, at)
        return told + _training(card, training)

    return paper.print_pages(
        story,
        title=f"Evaluation of {card.name}, version {card.version}",
        subject=NOTICE,
        foot=(
            f"{card.name} · version {card.version} · {NOTICE}",
            f"SHA-256 of predictions.csv: {predictions_digest(table)}",
        ),
    )


def predictions_digest(table: PredictionTable) -> str:
    """Return the SHA-256 of `predictions.csv` as `write_predictions` writes it, in hexadecimal."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        write_predictions(path, table)
        return sha256(path.read_bytes()).hexdigest()


# --- what is asked for ---


def _require_one_model(card: ModelCard, report: EvaluationReport, table: PredictionTable) -> None:
    names = tuple(one.label for one in report.labels)
    if card.labels != names:
        raise ArgumentError(
            f"The report must be of {card.name}, which answers {', '.join(card.labels)}, but it "
            f"is of {', '.join(names)}. Load the evaluation of that model."
        )
    require_same_films(report, table)


def _shown_in_full(report: EvaluationReport, label: str | None) -> list[LabelReport]:
    asked = [] if label is None else [report.label(label)]
    return list(report.labels) if len(report.labels) <= MOST_IN_FULL else asked


def _require_threshold_of(report: EvaluationReport, label: str | None, at: ThresholdReport) -> None:
    if label is None:
        raise ArgumentError("A threshold belongs to one label: say which, as `label`.")
    one = report.label(label)
    if (at.n, at.positives) != (one.n, one.positives):
        raise ArgumentError(
            f"The threshold must be of the {one.n} films of the report, {one.positives} with "
            f"{label}, but it is of {at.n} and {at.positives}. Choose it on these films again."
        )


# --- the first page ---


def _front(
    card: ModelCard,
    report: EvaluationReport,
    table: PredictionTable,
    integrity: Sequence[str],
) -> list[Flowable]:
    """Say what was scored, and what the model is and is not for."""
    patients = len(set(table.patients))
    facts = {
        "Version": f"{card.version}, created {card.created}",
        "Scored on": f"{report.split.capitalize()} split: {report.n} films of {patients} patients",
        "Answers": ", ".join(map(_spoken, card.labels)),
        "Patients": _patients(card),
        "Operating point": card.operating_rule,
        "Calibration": card.calibration.in_words(),
        "Films, licence": card.data,
        "Network": f"{card.network}, recipe {card.recipe}",
    }
    told = [
        paragraph("Evaluation report", "over"),
        paragraph(card.name, "title"),
        paragraph(card.intended_use, "lead"),
        paragraph(NOTICE, "notice"),
        paper.gap(),
        _fact_table(facts),
    ]
    told += _listed("Not for", card.not_for)
    told += _listed("Known limits", card.limits)
    told += _listed("How the films were kept apart", integrity)
    return told + _listed("Notes", report.notes)


def _patients(card: ModelCard) -> str:
    ages = "age range not known"
    if card.age_range is not None:
        ages = "{:g} to {:g} years".format(*card.age_range)
    return f"{ages}; views: {', '.join(card.views) or 'not known'}"


def _fact_table(facts: Mapping[str, str], width: float = WIDTH, names: float = 0.2) -> Flowable:
    rows = [
        (paragraph(name, "muted"), paragraph(words or "not known", "cell"))
        for name, words in facts.items()
    ]
    return paper.table((), rows, (names, 1 - names), width=width)


def _listed(title: str, sentences: Sequence[str]) -> list[Flowable]:
    if not sentences:
        return []
    return [paragraph(title, "heading"), *paper.sentences(sentences)]


# --- all labels together ---


def _all_labels(report: EvaluationReport, matrix: bytes | None) -> list[Flowable]:
    """Compare the labels in one table, the best ranked first."""
    told = [PageBreak(), paragraph("All answers", "section")]
    if report.matrix is not None and matrix is not None:
        right = sum(row[k] for k, row in enumerate(report.matrix))
        share = wilson(right, report.n)
        told += [
            paragraph(
                f"The largest probability was right for {right} of {report.n} films "
                f"(accuracy {_value(share.value)}, {_bounds(share)}).",
                "lead",
            ),
            paper.picture(matrix, 1.15 * COLUMN),
            paper.gap(),
        ]
    told += [
        paragraph("At each label's operating point, with 95 % intervals; sorted by AUROC.", "note"),
        _label_table(report),
    ]
    kinds = averages(report)
    if kinds:
        told.append(KeepTogether([paragraph("Averages", "heading"), _average_table(kinds)]))
    return told


def _average_table(kinds: Mapping[str, Sequence[Number]]) -> Flowable:
    """Put the kinds of average beside each other."""
    by_name: dict[str, dict[str, str]] = {}
    for kind, numbers in kinds.items():
        for number in numbers:
            by_name.setdefault(number.name, {})[kind] = _value(number.value)
    rows = [
        (
            paragraph(_title(name)[0], "cell"),
            *(paragraph(values.get(kind, ""), "number") for kind in kinds),
            paragraph(_title(name)[1], "muted"),
        )
        for name, values in by_name.items()
    ]
    titles = ("", *(kind.capitalize() for kind in kinds), "Meaning")
    widths = (0.27, *[0.31 / len(kinds)] * len(kinds), 0.42)
    return paper.table(titles, rows, widths, right=range(1, 1 + len(kinds)))


def _label_table(report: EvaluationReport) -> Flowable:
    titles = ("", "Films with it", "AUROC", "AUPRC", "Sensitivity", "Specificity", "PPV", "NPV")
    ranked = sorted(
        report.labels, key=lambda one: (one.auroc.value is None, -(one.auroc.value or 0.0))
    )
    rows = [
        (
            paragraph(_spoken(one.label), "cell"),
            paragraph(str(one.positives), "number"),
            *(
                paper.two_lines(_value(share.value), _bounds(share))
                for share in (
                    one.auroc,
                    one.auprc,
                    one.sensitivity,
                    one.specificity,
                    one.ppv,
                    one.npv,
                )
            ),
        )
        for one in ranked
    ]
    return paper.table(titles, rows, (0.2, 0.08, *[0.12] * 6), right=range(1, 8))


# --- one label ---


def _label(
    report: EvaluationReport,
    table: PredictionTable,
    one: LabelReport,
    pictures: Mapping[str, bytes],
) -> list[Flowable]:
    """Tell all that is known of one label: what it decided, what its scores are worth."""
    said = replace(one, label=_spoken(one.label))
    drawn = {name: paper.picture(png) for name, png in pictures.items()}
    left = drawn.get("confusion") or paragraph("Nothing is decided: there is no matrix.", "note")
    told = [
        PageBreak(),
        paragraph(_spoken(one.label), "section"),
        *(paragraph(sentence, "lead") for sentence in summary_sentences(said)),
        paper.gap(),
        paper.side_by_side(left, drawn["scores"]),
        paper.side_by_side(drawn["roc"], drawn["precision-recall"]),
        paragraph("Probabilities", "heading"),
        paper.side_by_side(drawn["calibration"], _calibration_table(one)),
        paragraph("Numbers", "heading"),
        _number_table(numbers_in(report.to_json()["labels"][one.label])),
    ]
    told += _listed("Notes on this label", one.notes)
    return told + _subgroups(report, table, one)


def _calibration_table(one: LabelReport) -> Flowable:
    """List the bins behind the calibration figure."""
    rows = [
        (
            paragraph(str(each.n), "number"),
            paragraph(_value(each.mean_score), "number"),
            paragraph(_value(each.observed.value), "number"),
            paragraph(_bounds(each.observed), "bounds"),
        )
        for each in one.calibration
    ]
    titles = ("Films", "Mean probability", "Share with it", "95 % interval")
    return paper.table(titles, rows, (0.13, 0.31, 0.26, 0.3), right=range(4), width=COLUMN)


def _number_table(numbers: Sequence[Number]) -> Flowable:
    rows = []
    for number in numbers:
        title, meaning = _title(number.name)
        value = "none" if number == NO_POINT else _value(number.value)
        rows.append(
            (
                paragraph(title, "cell"),
                paragraph(value, "number"),
                paragraph(_range(number.low, number.high), "bounds"),
                paragraph(meaning, "muted"),
            )
        )
    titles = ("", "Value", "95 % interval", "Meaning")
    return paper.table(titles, rows, (0.27, 0.12, 0.19, 0.42), right=(1, 2))


def _subgroups(
    report: EvaluationReport, table: PredictionTable, one: LabelReport
) -> list[Flowable]:
    """Report on each group of films that the predictions tell apart, and say which are small."""
    exclusive = report.matrix is not None
    told: list[Flowable] = []
    for by in groupings(table):
        groups = subgroups(table, one.label, one.operating_point, by, exclusive=exclusive)
        told += [paragraph(f"By {by}", "heading"), _subgroup_table(groups)]
        told += paper.sentences(_small_groups(one, groups))
    return told


def _small_groups(one: LabelReport, groups: Mapping[str, LabelReport]) -> list[str]:
    """Say which groups are small; what holds for the whole label is noted there."""
    notes = {
        name: next((note for note in each.notes if note not in one.notes), "")
        for name, each in groups.items()
    }
    return [f"{name}: {_spoken(note)}" for name, note in notes.items() if note]


def _subgroup_table(groups: Mapping[str, LabelReport]) -> Flowable:
    rows = [
        (
            paragraph(name, "cell"),
            paragraph(str(one.n), "number"),
            paragraph(str(one.positives), "number"),
            *(
                paper.two_lines(_value(share.value), _bounds(share))
                for share in (one.sensitivity, one.specificity, one.auroc)
            ),
        )
        for name, one in groups.items()
    ]
    titles = ("", "Films", "Films with it", "Sensitivity", "Specificity", "AUROC")
    return paper.table(titles, rows, (0.25, 0.11, 0.16, 0.16, 0.16, 0.16), right=range(1, 6))


def _exploration(one: LabelReport, at: ThresholdReport) -> list[Flowable]:
    """Print what a reader's own threshold does, and how little that proves."""
    record = "The model has no operating point for this label."
    if one.operating_point is not None:
        record = f"The operating point of record stays {_value(one.operating_point)}."
    return [
        CondPageBreak(60 * mm),
        paragraph(f"Another threshold: {_value(at.operating_point)}", "heading"),
        paragraph(
            "This threshold was chosen on these test films, so its numbers are for exploration "
            f"only and likely better than on other films. {record}"
        ),
        paper.gap(),
        _number_table(numbers_in(plain(at))),
    ]


# --- the training ---


def _training(card: ModelCard, curves: bytes | None) -> list[Flowable]:
    """Show how the training went, and its plain facts; what the card nests is for scripts."""
    facts = {
        _called(name): f"{value:,.6g}" if isinstance(value, float) else str(value)
        for name, value in card.training.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    }
    digest = {"Films, SHA-256": card.data_digest}
    told = [paper.gap(), CondPageBreak(95 * mm), paragraph("Training", "section")]
    if curves is None:
        words = "No training curves are recorded."
        return [*told, paragraph(words, "note"), _fact_table(facts | digest)]
    # A column beside the curves cannot go on on the next page: what may not fit stands below.
    short = [name for name, words in facts.items() if len(name + words) <= SHORT_FACT]
    beside = {name: facts[name] for name in short[:MOST_BESIDE]}
    below = {name: words for name, words in facts.items() if name not in beside}
    listing = _fact_table(beside, COLUMN, 0.5) if beside else paper.gap()
    return [
        *told,
        paper.side_by_side(paper.picture(curves), listing),
        _fact_table(below | digest),
    ]


# --- words ---


def _spoken(label: str) -> str:
    return label.replace("_", " ")


def _title(name: str) -> tuple[str, str]:
    """Return what a number is called in print, and what it means."""
    return TITLES.get(name, (_called(name), ""))


def _called(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _value(value: float | None) -> str:
    """Write a number with 3 decimals, a count with none."""
    if value is None:
        return "not known"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _bounds(share: Interval) -> str:
    return _range(share.low, share.high)


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f}–{high:.3f}"
