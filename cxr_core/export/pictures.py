"""The figures of one label as PNG files, for print and for slides."""

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from zipfile import ZipFile, ZipInfo

from cxr_core import figures
from cxr_core.errors import ArgumentError
from cxr_core.evaluation import EvaluationReport, ThresholdReport
from cxr_core.figures import Theme
from cxr_core.predictions import PredictionTable


def require_same_films(report: EvaluationReport, table: PredictionTable) -> None:
    """Refuse a report that was not made from these predictions.

    Raises:
        ArgumentError: When labels, films or films with a finding differ.
    """
    reported = {one.label: (one.positives, one.n) for one in report.labels}
    films = len(table.files)
    counted = {
        label: (int(table.y_true[:, column].sum()), films)
        for column, label in enumerate(table.labels)
    }
    if reported != counted:
        raise ArgumentError(
            "The report must be of the same films as the predictions, but it counts "
            f"{_in_words(reported)} and they hold {_in_words(counted)}. Evaluate these "
            "predictions again."
        )


def label_pictures(
    report: EvaluationReport,
    table: PredictionTable,
    label: str,
    *,
    at: ThresholdReport | None = None,
    theme: Theme = "light",
    dpi: int = 200,
) -> dict[str, bytes]:
    """Draw all that is known of one label: PNG by name ("roc"), in the order of a reader.

    There is no "confusion" where nothing decides. Arguments as `figures_zip`.
    """
    one, column = report.label(label), table.labels.index(label)
    truth, scores = table.y_true[:, column], table.y_score[:, column]
    chosen = at or one
    drawn = {}
    if chosen.confusion is not None:
        drawn["confusion"] = figures.confusion_figure(chosen, theme=theme)
    drawn |= {
        "scores": figures.score_histogram_figure(truth, scores, one, at=at, theme=theme),
        "roc": figures.roc_figure(truth, scores, one, at=at, theme=theme),
        "precision-recall": figures.precision_recall_figure(truth, scores, one, at=at, theme=theme),
        "calibration": figures.calibration_figure(one, theme=theme),
    }
    return {name: figures.figure_png(figure, dpi) for name, figure in drawn.items()}


def matrix_picture(report: EvaluationReport, theme: Theme = "light", dpi: int = 200) -> bytes:
    """Draw the K x K matrix of a model that gives one answer of several."""
    return figures.figure_png(figures.matrix_figure(report, theme=theme), dpi)


def history_picture(
    history: Mapping[str, Sequence[float]] | None, theme: Theme = "light", dpi: int = 200
) -> bytes | None:
    """Draw how a training went; None when nothing of it is known that can be drawn."""
    if not history or not any(len(history.get(name, ())) for name in figures.HISTORY):
        return None
    return figures.figure_png(figures.history_figure(history, theme=theme), dpi)


def figures_zip(
    report: EvaluationReport,
    table: PredictionTable,
    history: Mapping[str, Sequence[float]] | None,
    *,
    label: str,
    at: ThresholdReport | None = None,
    theme: Theme = "light",
) -> bytes:
    """Pack every figure of one label as PNG files named MODEL-LABEL-roc.png and so on.

    Args:
        report: The record of a model.
        table: The predictions that it was made from.
        history: Columns of history.csv; None when the training is not known.
        label: One of the report's labels.
        at: Another threshold of that label to mark, as a slider chooses it.
        theme: "dark" or "light".

    Raises:
        UnknownName: When the model does not answer that label.
        ArgumentError: When the report is not of these predictions.
    """
    require_same_films(report, table)
    pictures = label_pictures(report, table, label, at=at, theme=theme)
    if report.matrix is not None:
        pictures["matrix"] = matrix_picture(report, theme)
    training = history_picture(history, theme)
    if training is not None:
        pictures["history"] = training
    stem = f"{file_name(report.model)}-{file_name(label)}"
    packed = BytesIO()
    # A ZipInfo is of 1980 unless told otherwise: the same figures make the same file on any day.
    with ZipFile(packed, "w") as archive:  # PNG is compressed already
        for name, picture in pictures.items():
            archive.writestr(ZipInfo(f"{stem}-{name}.png"), picture)
    return packed.getvalue()


def file_name(words: str) -> str:
    """Keep the letters and digits of any language; others could leave the folder."""
    return re.sub(r"[^\w-]+", "_", words).strip("_-") or "evaluation"


def _in_words(counts: Mapping[str, tuple[int, int]]) -> str:
    return ", ".join(
        f"{label} on {there} of {films} films" for label, (there, films) in counts.items()
    )
