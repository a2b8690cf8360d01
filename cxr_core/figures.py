"""Figures of a model's test record: reports go in, matplotlib figures come out.

Nothing is computed about a model here, only drawn. It is the only module that knows
matplotlib, and it never touches `pyplot`, whose figures all sessions of a server share; it
imports it when something is drawn, for palettes are asked of pages that draw nothing.
Maps over films are drawn by `overlays`, whose names can be had from here too.

Amber is flagged and slate is not, present is blue; nothing is told by red against green,
or by colour alone. Lines are labelled where they run rather than in a legend. Sizes suit
a column of about 400 pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from cxr_core.errors import ArgumentError
from cxr_core.evaluation import EvaluationReport, LabelReport, ThresholdReport
from cxr_core.overlays import Bytes as Bytes
from cxr_core.overlays import Style as Style
from cxr_core.overlays import colour_table
from cxr_core.overlays import overlay as overlay
from cxr_core.overlays import png as png
from cxr_core.overlays import to_grey as to_grey
from cxr_core.ranking import Interval, precision_recall_curve, roc_curve
from cxr_core.wording import means_absence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Theme = Literal["dark", "light"]


@dataclass(frozen=True)
class Palette:
    """The colours of a theme, as in .streamlit/config.toml."""

    ground: str
    line: str
    text: str
    muted: str
    accent: str
    flagged: str
    cleared: str


PALETTES: dict[Theme, Palette] = {
    "dark": Palette("#0e1419", "#26323c", "#d7dee4", "#8796a3", "#5aa9e6", "#f2a93b", "#6d8194"),
    "light": Palette("#f3f6f8", "#d3dce3", "#17212a", "#5a6873", "#1f6fae", "#a75c00", "#566a7d"),
}

TICKS = np.linspace(0, 1, 5)

# Columns of history.csv that are drawn: their panel, and what the line is called.
HISTORY = {
    "loss": ("Loss", "training"),
    "validation_loss": ("Loss", "validation"),
    "validation_auroc": ("AUROC on validation films", "as taken"),
    "perturbed_auroc": ("AUROC on validation films", "perturbed"),
}


def figure_png(figure: "Figure", dpi: int = 200) -> bytes:
    """Encode a figure on the ground of its theme."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def font_file(bold: bool = False) -> Path:
    """Return the TrueType file of the letters that figures are written in."""
    from matplotlib import get_data_path

    return Path(get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' * bold}.ttf")


def colour_bar(signed: bool = False, theme: Theme = "dark", dpi: int = 200) -> bytes:
    """Say what the colours of an overlay mean: a small PNG on a transparent ground."""
    from matplotlib.figure import Figure

    figure, palette = Figure(figsize=(2.6, 0.4)), PALETTES[theme]
    axes = figure.add_axes((0.02, 0.56, 0.96, 0.36))
    axes.imshow(colour_table(signed)[None, int(signed) :], aspect="auto", extent=(0, 1, 0, 1))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=palette.line, linewidth=0.8)
    words = ("against", "neither", "for") if signed else ("none", "half of the peak", "peak")
    for x, word, side in zip((0, 0.5, 1), words, ("left", "center", "right"), strict=True):
        _text(axes, x, -0.35, word, palette.muted, size=7.5, ha=side, va="top")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, transparent=True)
    return buffer.getvalue()


def confusion_figure(report: ThresholdReport, *, theme: Theme = "dark") -> "Figure":
    """Draw the 2 x 2 of a label: rows are what is true, columns what the model says.

    Each cell holds its count and the share of its row, with its 95 % interval; under each
    column stands how often that answer is right.

    Raises:
        ArgumentError: When nothing decided, so that there is no matrix.
    """
    if report.confusion is None:
        raise ArgumentError("There is no operating point, so no confusion matrix: choose one.")
    note = _rule(report)
    if isinstance(report, LabelReport):
        note = f"{_plain(report.label)} · {note}"
    figure, axes, palette = _frame(theme, (4.5, 4.0), "Confusion matrix", note)
    _draw_cells(axes, report.confusion, palette, size=20, rise=0.17)
    # A film wrongly called normal is no false alarm, nor is one held back missed.
    normal = isinstance(report, LabelReport) and means_absence(report.label)
    alarms, missed = ("called normal", "not called so") if normal else ("false alarms", "missed")
    cells = (
        (0, 0, "specificity", report.specificity),
        (1, 0, alarms, _rest(report.specificity)),
        (0, 1, missed, _rest(report.sensitivity)),
        (1, 1, "sensitivity", report.sensitivity),
        (0, 1.57, "right (NPV)", report.npv),
        (1, 1.57, "right (PPV)", report.ppv),
    )
    for x, y, name, share in cells:
        value, bounds = _words(share)
        _text(axes, x, y + 0.14, f"{name} {value}", palette.text)
        _text(axes, x, y + 0.3, bounds, palette.text, alpha=0.7, size=8)
    columns = (("Not flagged", palette.cleared), ("Flagged", palette.flagged))
    rows = (("Absent", report.n - report.positives), ("Present", report.positives))
    _draw_headers(axes, columns, rows, palette)
    axes.set_ylim(1.95, -0.75)
    return figure


def matrix_figure(report: EvaluationReport, *, theme: Theme = "dark") -> "Figure":
    """Draw the K x K matrix of a model that gives one answer of several; as `confusion_figure`.

    Raises:
        ArgumentError: When its labels do not exclude each other: each has a 2 x 2 then.
    """
    if report.matrix is None:
        raise ArgumentError("These labels do not exclude each other: draw one 2 x 2 for each.")
    value, bounds = _words(report.accuracy)
    note = f"{report.n} films · accuracy {value} ({bounds})"
    size = 1.5 + 1.0 * len(report.matrix)
    figure, axes, palette = _frame(theme, (size, 0.9 * size), "Confusion matrix", note)
    _draw_cells(axes, report.matrix, palette, size=14, rise=0.08)
    for row, counts in enumerate(report.matrix):
        for column, count in enumerate(counts):
            share = f"{count / max(sum(counts), 1):.2f}"
            _text(axes, column, row + 0.28, share, palette.text, alpha=0.7, size=8)
    names = [_plain(label.label).replace(" ", "\n", 1) for label in report.labels]
    films = [sum(counts) for counts in report.matrix]
    columns = [(name, palette.text) for name in names]
    _draw_headers(axes, columns, list(zip(names, films, strict=True)), palette)
    axes.set_ylim(len(names) - 0.5, -1)
    return figure


def roc_figure(
    y_true: ArrayLike,
    y_score: ArrayLike,
    report: LabelReport,
    *,
    at: ThresholdReport | None = None,
    theme: Theme = "dark",
) -> "Figure":
    """Draw sensitivity over false alarms, with the operating point and its 95 % intervals.

    Args:
        y_true: (N,) of 0 and 1.
        y_score: (N,) in [0, 1].
        report: The record of these films.
        at: Another threshold to mark instead of the report's own, as a slider chooses it.
        theme: "dark" or "light".
    """
    curve, chosen = roc_curve(y_true, y_score), at or report
    names = ("ROC curve", "False alarms (1 − specificity)", "Sensitivity")
    figure, axes, palette = _share_frame(theme, report, names)
    if not curve.x.size:
        return _say_one_class(figure, axes, palette)
    _draw_dashes(axes, 0, 1, palette)
    axes.plot(curve.x, curve.y, color=palette.accent, linewidth=2, solid_joinstyle="round")
    axes.fill_between(curve.x, curve.y, color=palette.accent, alpha=0.08, linewidth=0)
    _draw_headline(axes, 0.05, "AUROC", report.auroc, palette)
    _draw_point(axes, _rest(chosen.specificity), chosen.sensitivity, _rule(chosen), palette)
    return figure


def precision_recall_figure(
    y_true: ArrayLike,
    y_score: ArrayLike,
    report: LabelReport,
    *,
    at: ThresholdReport | None = None,
    theme: Theme = "dark",
) -> "Figure":
    """Draw the share of flags that are right over sensitivity; arguments as `roc_figure`."""
    curve, chosen = precision_recall_curve(y_true, y_score), at or report
    names = ("Precision and recall", "Sensitivity (recall)", "Right when flagged (PPV, precision)")
    figure, axes, palette = _share_frame(theme, report, names)
    if not curve.x.size:
        return _say_one_class(figure, axes, palette)
    share, accent = report.prevalence, palette.accent
    _draw_dashes(axes, share, share, palette)
    _write(axes, 0.02, share + 0.015, f"prevalence {share:.2f}", palette.muted, ha="left")
    axes.step(curve.x, curve.y, color=accent, linewidth=2, where="pre")
    axes.fill_between(curve.x, curve.y, color=accent, alpha=0.08, linewidth=0, step="pre")
    # The corner that the curve leaves free.
    low = (report.auprc.value or 0) < 0.5
    _draw_headline(axes, 0.86 if low else 0.05, "AUPRC", report.auprc, palette)
    _draw_point(axes, chosen.sensitivity, chosen.ppv, _rule(chosen), palette, above=low)
    return figure


def calibration_figure(report: LabelReport, *, theme: Theme = "dark") -> "Figure":
    """Draw the share of films with the finding over the probability they were given."""
    names = ("Calibration", "Predicted probability", "Share with the finding")
    figure, axes, palette = _share_frame(theme, report, names)
    _draw_dashes(axes, 0, 1, palette)
    scores = [one.mean_score for one in report.calibration]
    values, low, high = zip(*(_numbers(one.observed) for one in report.calibration), strict=True)
    axes.vlines(scores, low, high, color=palette.accent, linewidth=1.5, alpha=0.55)
    axes.plot(scores, values, color=palette.accent, linewidth=1, alpha=0.5)
    axes.plot(scores, values, "o", color=palette.accent, markersize=5, clip_on=False)
    # A rare finding keeps to a corner, which is drawn larger.
    end = next(end for end in (0.1, 0.2, 0.4, 1) if max(*scores, *high) <= end)
    axes.set(xlim=(0, end), ylim=(0, end), xticks=end * TICKS, yticks=end * TICKS)
    point = report.operating_point
    if point is not None and point < end:
        axes.axvline(point, color=palette.flagged, linewidth=1, linestyle=":")
        beside = {"ha": "right", "va": "center", "rotation": 90, "size": 8}
        _write(axes, point, 0.6 * end, _rule(report), palette.flagged, **beside)
    words = f"ECE {report.ece:.3f}\nBrier {report.brier:.3f}"
    inside = {"transform": axes.transAxes}
    _write(axes, 0.97, 0.05, words, palette.text, ha="right", size=9, **inside)
    _write(axes, 0.03, 0.93, "predicted too low", palette.muted, ha="left", **inside)
    _write(axes, 0.97, 0.2, "predicted too high", palette.muted, ha="right", **inside)
    return figure


def score_histogram_figure(
    y_true: ArrayLike,
    y_score: ArrayLike,
    report: LabelReport,
    *,
    at: ThresholdReport | None = None,
    theme: Theme = "dark",
) -> "Figure":
    """Draw how films scored, with the finding upwards and without it downwards.

    The operating point cuts the picture into the four cells of the confusion matrix.
    Heights are square roots: most films score near 0 or 1, and the others stay visible.
    Arguments as `roc_figure`.
    """
    chosen = at or report
    note = f"{_plain(report.label)} · {_rule(chosen)}"
    figure, axes, palette = _frame(theme, (4.5, 3.4), "Scores of the films", note)
    truth, scores, edges = np.asarray(y_true) == 1, np.asarray(y_score), np.linspace(0, 1, 41)
    up, down = (np.sqrt(np.histogram(scores[films], edges)[0]) for films in (truth, ~truth))
    tallest = max(1.0, float(up.max()), float(down.max()))
    axes.bar(edges[:-1], up, 0.0225, color=palette.accent, align="edge", linewidth=0)
    axes.bar(edges[:-1], -down, 0.0225, color=palette.cleared, align="edge", linewidth=0)
    axes.axhline(0, color=palette.muted, linewidth=0.8)
    for y, name, colour in ((0.6, "Present", palette.accent), (-0.6, "Absent", palette.muted)):
        _text(axes, -0.02, y * tallest, name, colour, ha="right", va="center", rotation=90)
    _draw_quarters(axes, chosen, tallest, palette)
    axes.set(xlim=(0, 1), ylim=(-1.35 * tallest, 1.35 * tallest), yticks=[])
    axes.set_xlabel("Predicted probability", color=palette.muted, size=9)
    axes.spines["left"].set_visible(False)
    return figure


def history_figure(history: Mapping[str, Sequence[float]], *, theme: Theme = "dark") -> "Figure":
    """Draw how a training went, epoch by epoch: loss, and AUROC on validation films.

    Args:
        history: Columns of history.csv; those of `HISTORY` are drawn.
        theme: "dark" or "light".

    Raises:
        ArgumentError: When it holds none of them.
    """
    names = [name for name in HISTORY if len(history.get(name, ()))]
    if not names:
        raise ArgumentError(
            f"A history must hold one of {', '.join(HISTORY)}, but {', '.join(history)} came."
        )
    palette = PALETTES[theme]
    panels = list(dict.fromkeys(HISTORY[name][0] for name in names))
    figure = _figure((4.5, 0.4 + 2 * len(panels)), palette)
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        _dress(axes, palette, panel, "")
        lines = {HISTORY[name][1]: history[name] for name in names if HISTORY[name][0] == panel}
        _draw_lines(axes, lines, palette)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlim(0.5, len(history[names[0]]) + 0.5)
    axes.set_xlabel("Epoch", color=palette.muted, size=9)
    return figure


def _figure(size: tuple[float, float], palette: Palette) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    return Figure(figsize=size, facecolor=palette.ground, layout=layout)


def _frame(
    theme: Theme, size: tuple[float, float], title: str, note: str
) -> tuple["Figure", Any, Palette]:
    figure = _figure(size, PALETTES[theme])
    axes = figure.add_subplot()
    _dress(axes, PALETTES[theme], title, note)
    return figure, axes, PALETTES[theme]


def _share_frame(
    theme: Theme, report: LabelReport, names: tuple[str, str, str]
) -> tuple["Figure", Any, Palette]:
    """Open a square of shares, 0 to 1 each way; names are of the figure, x and y."""
    note = f"{_plain(report.label)} · {report.positives} of {report.n} films"
    figure, axes, palette = _frame(theme, (4.0, 4.3), names[0], note)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=TICKS, yticks=TICKS)
    axes.grid(color=palette.line, linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(names[1], color=palette.muted, size=9, labelpad=6)
    axes.set_ylabel(names[2], color=palette.muted, size=9, labelpad=6)
    return figure, axes, palette


def _dress(axes: Any, palette: Palette, title: str, note: str) -> None:
    """Take away what does not inform, and write a heading."""
    axes.set_facecolor(palette.ground)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(palette.line)
    axes.tick_params(colors=palette.muted, labelsize=8, length=0, pad=5)
    pad = 22 if note else 8
    axes.set_title(title, color=palette.text, size=10.5, weight="bold", loc="left", pad=pad)
    style = {"xytext": (0, 8), "textcoords": "offset points", "color": palette.muted, "size": 8.5}
    axes.annotate(note, (0, 1), xycoords="axes fraction", **style).set_in_layout(False)


def _text(axes: Any, x: float, y: float, words: str, colour: str, **style: Any) -> Any:
    return axes.text(x, y, words, color=colour, **({"size": 8.5, "ha": "center"} | style))


def _write(axes: Any, x: float, y: float, words: str, colour: str, **style: Any) -> None:
    """Write inside the axes, which do not make room for it."""
    _text(axes, x, y, words, colour, **style).set_in_layout(False)


def _say_one_class(figure: "Figure", axes: Any, palette: Palette) -> "Figure":
    words = "Every film is of one class:\nthere is no curve to draw."
    _write(axes, 0.5, 0.5, words, palette.muted, size=9)
    return figure


def _draw_dashes(axes: Any, left: float, right: float, palette: Palette) -> None:
    style = {"color": palette.muted, "alpha": 0.6, "linewidth": 0.9, "linestyle": (0, (3, 3))}
    axes.plot((0, 1), (left, right), **style)


def _draw_headline(axes: Any, y: float, name: str, area: Interval, palette: Palette) -> None:
    value, bounds = _words(area)
    _write(axes, 0.97, y + 0.06, f"{name} {value}", palette.text, ha="right", size=13)
    _write(axes, 0.97, y, bounds, palette.muted, ha="right")


def _draw_point(
    axes: Any, x: Interval, y: Interval, words: str, palette: Palette, above: bool = False
) -> None:
    """Mark where the model works, with the 95 % intervals as a cross."""
    if x.value is None or y.value is None:
        return
    (x0, left, right), (y0, low, high) = _numbers(x), _numbers(y)
    axes.plot((left, right), (y0, y0), color=palette.flagged, linewidth=1.5, alpha=0.7)
    axes.plot((x0, x0), (low, high), color=palette.flagged, linewidth=1.5, alpha=0.7)
    (dot,) = axes.plot(x0, y0, "o", color=palette.flagged, markersize=8, clip_on=False, zorder=5)
    dot.set(markeredgecolor=palette.ground, markeredgewidth=1.5)
    ha, shift = ("left", 0.035) if x0 < 0.55 else ("right", -0.035)
    y0, va = (y0 + 0.03, "bottom") if above else (y0 - 0.035, "top")
    _write(axes, x0 + shift, y0, words, palette.flagged, ha=ha, va=va)


def _draw_quarters(axes: Any, report: ThresholdReport, tallest: float, palette: Palette) -> None:
    """Cut a histogram at the operating point, and count what lies in each of four parts."""
    if report.operating_point is None or report.confusion is None:
        return
    x = (report.operating_point, report.operating_point)
    axes.plot(x, (-1.05 * tallest, 1.05 * tallest), color=palette.flagged, linewidth=1.5)
    for sign, (cleared, flagged) in zip((-1, 1), report.confusion, strict=True):
        y = 1.2 * sign * tallest
        _write(axes, 0, y, f"{cleared} not flagged", palette.muted, ha="left", va="center")
        _write(axes, 1, y, f"{flagged} flagged", palette.flagged, ha="right", va="center")


def _draw_cells(
    axes: Any, counts: Sequence[Sequence[int]], palette: Palette, size: float, rise: float
) -> None:
    """Draw a matrix as cells of one hue, the stronger the larger the share of the row."""
    from matplotlib.patches import Rectangle

    for row, values in enumerate(counts):
        for column, count in enumerate(values):
            strength = 0.05 + 0.4 * count / max(sum(values), 1)
            cell = Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, color=palette.accent)
            cell.set(alpha=strength, linewidth=0)
            axes.add_patch(cell)
            _text(axes, column, row - rise, f"{count}", palette.text, size=size, va="center")
    axes.set(xticks=[], yticks=[], xlim=(-0.5, len(counts[0]) - 0.5))
    axes.spines[:].set_visible(False)


def _draw_headers(
    axes: Any,
    columns: Sequence[tuple[str, str]],
    rows: Sequence[tuple[str, int]],
    palette: Palette,
) -> None:
    for column, (name, colour) in enumerate(columns):
        _text(axes, column, -0.57, name, colour, size=9.5, weight="bold")
    for row, (name, films) in enumerate(rows):
        _text(axes, -0.56, row - 0.03, name, palette.text, size=9.5, ha="right", va="bottom")
        _text(axes, -0.56, row + 0.05, f"{films} films", palette.muted, ha="right", va="top")


def _draw_lines(axes: Any, lines: Mapping[str, Sequence[float]], palette: Palette) -> None:
    """Draw lines over the epochs, each with its name at its end, apart from each other."""
    shades = dict(zip(lines, (palette.accent, palette.text), strict=False))
    for kind, values in lines.items():
        (line,) = axes.plot(range(1, len(values) + 1), values, "o-", color=shades[kind])
        line.set(linewidth=1.8, markersize=4, markevery=[-1])
    low, high = axes.get_ylim()
    free = -np.inf
    for kind, values in sorted(lines.items(), key=lambda line: line[1][-1]):
        y = max(values[-1], free)
        free = y + 0.13 * (high - low)
        place = {"xytext": (5, 0), "textcoords": "offset points", "annotation_clip": False}
        axes.annotate(kind, (len(values), y), color=shades[kind], size=8, va="center", **place)


def _plain(label: str) -> str:
    # Between two dollar signs matplotlib would read mathematics.
    return label.replace("_", " ").replace("$", r"\$")


def _rule(report: ThresholdReport) -> str:
    if report.confusion is None:
        return "no operating point"
    point = report.operating_point
    return "largest probability wins" if point is None else f"operating point {point:.2f}"


def _rest(share: Interval) -> Interval:
    """Return 1 - share."""
    value, low, high = _numbers(share)
    return share if share.value is None else Interval(1 - value, 1 - high, 1 - low)


def _numbers(share: Interval) -> tuple[float, float, float]:
    """Return value, low and high; an unknown bound is the value, and an unknown value NaN."""
    value = float("nan") if share.value is None else share.value
    low = value if share.low is None else share.low
    return value, low, value if share.high is None else share.high


def _words(share: Interval | None) -> tuple[str, str]:
    if share is None or share.value is None:
        return "unknown", ""
    value, low, high = _numbers(share)
    return f"{value:.2f}", "" if share.low is None else f"{low:.2f}–{high:.2f}"
