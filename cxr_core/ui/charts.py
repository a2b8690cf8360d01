"""A test record as charts of the browser: values in, Altair charts out; nothing is computed.

Each chart has the same specification whatever its threshold; only its data changes, so that
the browser moves a mark instead of drawing all anew. What a chart shows stands in words in
its `alt` text. Amber is flagged and slate is not; shape, place or words tell the same again,
so that the charts can be read in greyscale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import altair as alt
import numpy as np
import pandas  # noqa: F401  Streamlit imports it when a chart is drawn; two readers at once fail.
from numpy.typing import NDArray

from cxr_core.evaluation import EvaluationReport, LabelReport, ThresholdReport
from cxr_core.figures import Palette
from cxr_core.ranking import Curve, Interval, precision_recall_curve, roc_curve

Row = dict[str, Any]
# More points than a curve of this many pixels can show are left out.
MOST_POINTS = 400
BINS = 40
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
HEIGHT = 290
FONT = "Source Sans, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif"


@dataclass(frozen=True)
class Chart:
    """A chart, and what it shows in words for those who cannot see it."""

    chart: alt.LayerChart | alt.VConcatChart
    alt: str


# --- the confusion matrix ---


def confusion_chart(report: ThresholdReport, palette: Palette) -> Chart:
    """Draw the 2 x 2 of a label; a click selects a cell by its name, tn, fp, fn or tp.

    Rows are what is true, columns what the model says; each cell holds its count and the
    share of its row, with its interval.
    """
    (tn, fp), (fn, tp) = report.confusion or ((0, 0), (0, 0))
    cells = (
        ("tn", "Absent", "Not flagged", tn, "cleared", report.specificity),
        ("fp", "Absent", "Flagged", fp, "false alarms", rest(report.specificity)),
        ("fn", "Present", "Not flagged", fn, "missed", rest(report.sensitivity)),
        ("tp", "Present", "Flagged", tp, "found", report.sensitivity),
    )
    rows = [
        {
            "cell": cell,
            "truth": truth,
            "said": said,
            "films": count,
            "share": share.value or 0.0,
            "line": f"{name} {words(share)[0]}",
            "bounds": words(share)[1],
        }
        for cell, truth, said, count, name, share in cells
    ]
    told = "; ".join(f"{name} {count}" for _, _, _, count, name, _ in cells)
    chart = _cells(rows, ["Not flagged", "Flagged"], ["Absent", "Present"], palette, (28, -20))
    return Chart(chart, f"Confusion matrix of {report.n} films: {told}.")


def matrix_chart(report: EvaluationReport, palette: Palette) -> Chart:
    """Draw the K x K of a model that gives one answer; a click selects "truth>said"."""
    names = [one.label for one in report.labels]
    rows = []
    for truth, counts in zip(names, report.matrix or (), strict=True):
        for said, count in zip(names, counts, strict=True):
            share = count / max(sum(counts), 1)
            rows.append(
                {
                    "cell": f"{truth}>{said}",
                    "truth": truth,
                    "said": said,
                    "films": count,
                    "share": share,
                    "line": f"{share:.2f}",
                    "bounds": "",
                }
            )
    told = "; ".join(
        f"{row['films']} of truth {row['truth']} called {row['said']}" for row in rows if row
    )
    chart = _cells(rows, names, names, palette, (20, -8))
    return Chart(chart, f"Confusion matrix of {report.n} films: {told}.")


def _cells(
    rows: Sequence[Row],
    columns: Sequence[str],
    lines: Sequence[str],
    palette: Palette,
    text: tuple[int, int],
) -> alt.LayerChart:
    """Draw cells of one hue, the stronger the larger the share of the row."""
    size, rise = text
    axis: Row = {"labelFontSize": 12, "labelColor": palette.text, "title": None, "ticks": False}
    axis |= {"domain": False, "labelPadding": 8, "labelLimit": 110, "grid": False}
    across = alt.Axis(orient="top", labelAngle=0, **axis)
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        x=alt.X("said:N", sort=list(columns), axis=across, scale=alt.Scale(paddingInner=0.04)),
        y=alt.Y("truth:N", sort=list(lines), axis=alt.Axis(**axis)),
    )
    chosen = alt.selection_point(name="cell", fields=["cell"], on="click", clear=False)
    patch = base.mark_rect(color=palette.accent, cornerRadius=3, cursor="pointer").encode(
        opacity=alt.Opacity(
            "share:Q", scale=alt.Scale(domain=(0, 1), range=(0.08, 0.5)), legend=None
        ),
        tooltip=[
            alt.Tooltip("truth:N", title="True"),
            alt.Tooltip("said:N", title="Said"),
            alt.Tooltip("films:Q", title="Films"),
            alt.Tooltip("line:N", title="Share of its row"),
        ],
        description=alt.Description("line:N"),
    )
    over: Row = {"align": "center", "color": palette.text, "tooltip": None}
    count = base.mark_text(fontSize=size, dy=rise, **over).encode(text="films:Q")
    name = base.mark_text(fontSize=12, dy=rise + 30, **over).encode(text="line:N")
    bounds = base.mark_text(fontSize=11, dy=rise + 47, opacity=0.75, **over).encode(text="bounds:N")
    layers = [patch.add_params(chosen), count, name, *([bounds] if rows[0]["bounds"] else [])]
    return _dress(alt.layer(*layers), palette, HEIGHT)


# --- curves over all thresholds ---


def roc_chart(
    truth: NDArray[np.int8],
    scores: NDArray[np.float64],
    report: LabelReport,
    at: ThresholdReport,
    palette: Palette,
) -> Chart:
    """Draw sensitivity over false alarms, and where `at` works with its intervals as a cross."""
    curve = roc_curve(truth, scores)
    titles = ("False alarms (1 − specificity)", "Sensitivity")
    point = (rest(at.specificity), at.sensitivity)
    chart = _curve(curve, titles, point, palette, (0.0, 1.0), "linear")
    area = f"AUROC {' '.join(words(report.auroc, 3))}"
    alarms, found = words(point[0])[0], words(point[1])[0]
    return Chart(
        chart, f"ROC curve, {area}. At {rule(at)}: sensitivity {found}, false alarms {alarms}."
    )


def precision_recall_chart(
    truth: NDArray[np.int8],
    scores: NDArray[np.float64],
    report: LabelReport,
    at: ThresholdReport,
    palette: Palette,
) -> Chart:
    """Draw the share of flags that are right over sensitivity; as `roc_chart`."""
    curve = precision_recall_curve(truth, scores)
    titles = ("Sensitivity (recall)", "Right when flagged (PPV, precision)")
    level = (report.prevalence, report.prevalence)
    chart = _curve(curve, titles, (at.sensitivity, at.ppv), palette, level, "step-before")
    area = f"AUPRC {' '.join(words(report.auprc, 3))}, prevalence {report.prevalence:.2f}"
    found, right = words(at.sensitivity)[0], words(at.ppv)[0]
    return Chart(chart, f"Precision-recall curve, {area}. At {rule(at)}: {found}, {right}.")


def _curve(
    curve: Curve,
    titles: tuple[str, str],
    point: tuple[Interval, Interval],
    palette: Palette,
    chance: tuple[float, float],
    interpolate: str,
) -> alt.LayerChart:
    x, y = (
        _share_axis(channel, title) for channel, title in zip((alt.X, alt.Y), titles, strict=True)
    )
    line = (
        alt.Chart(_points(curve))
        .mark_line(color=palette.accent, strokeWidth=2, interpolate=interpolate, clip=True)
        .encode(
            x=x,
            y=y,
            order="i:Q",
            tooltip=[
                alt.Tooltip("x:Q", title=titles[0], format=".3f"),
                alt.Tooltip("y:Q", title=titles[1], format=".3f"),
                alt.Tooltip("threshold:N", title="Threshold"),
            ],
        )
    )
    ends = [{"x": 0.0, "y": chance[0]}, {"x": 1.0, "y": chance[1]}]
    dashes = (
        alt.Chart(alt.InlineData(values=ends))
        .mark_line(color=palette.muted, strokeDash=[3, 3], strokeWidth=1)
        .encode(x="x:Q", y="y:Q")
    )
    return _dress(alt.layer(dashes, line, *_cross(point, palette)), palette, HEIGHT)


def _points(curve: Curve) -> alt.InlineData:
    """Keep as many points of a curve as its pixels can show, the ends among them."""
    kept = np.unique(np.linspace(0, max(curve.x.size - 1, 0), MOST_POINTS).astype(int))
    rows = [
        {
            "i": i,
            "x": float(curve.x[k]),
            "y": float(curve.y[k]),
            "threshold": f"{curve.threshold[k]:.3f}"
            if isfinite(curve.threshold[k])
            else "above all",
        }
        for i, k in enumerate(kept)
        if curve.x.size
    ]
    return alt.InlineData(values=rows)


def _cross(point: tuple[Interval, Interval], palette: Palette) -> list[alt.Chart]:
    """Mark where the model works, with the 95 % intervals as a cross."""
    x, y = point
    row: Row = {}
    if x.value is not None and y.value is not None:
        row = {"x": x.value, "y": y.value, "left": x.low, "right": x.high}
        row |= {"low": y.low, "high": y.high}
    data = alt.Chart(alt.InlineData(values=[row] if row else []))
    arms: Row = {"color": palette.flagged, "strokeWidth": 1.5, "opacity": 0.8}
    return [
        data.mark_rule(**arms).encode(x="left:Q", x2="right:Q", y="y:Q"),
        data.mark_rule(**arms).encode(x="x:Q", y="low:Q", y2="high:Q"),
        data.mark_point(
            shape="diamond", size=90, filled=True, color=palette.flagged, opacity=1
        ).encode(x="x:Q", y="y:Q"),
    ]


def calibration_chart(report: LabelReport, at: ThresholdReport, palette: Palette) -> Chart:
    """Draw the share of films with the finding over the probability they were given."""
    rows = [
        {
            "x": one.mean_score,
            "y": one.observed.value,
            "low": one.observed.low,
            "high": one.observed.high,
            "films": one.n,
        }
        for one in report.calibration
    ]
    # A rare finding keeps to a corner, which is drawn larger.
    most = max(value or 0 for row in rows for value in (row["x"], row["high"]))
    end = next(end for end in (0.1, 0.2, 0.4, 1.0) if most <= end)
    x = _share_axis(alt.X, "Predicted probability", end)
    y = _share_axis(alt.Y, "Share with the finding", end)
    data = alt.Chart(alt.InlineData(values=rows))
    ends = [{"x": 0.0, "y": 0.0}, {"x": end, "y": end}]
    marks = [{"x": at.operating_point}] if (at.operating_point or 2) <= end else []
    chart = alt.layer(
        alt.Chart(alt.InlineData(values=ends))
        .mark_line(color=palette.muted, strokeDash=[3, 3], strokeWidth=1)
        .encode(x=x, y=y),
        alt.Chart(alt.InlineData(values=marks))
        .mark_rule(color=palette.flagged, strokeDash=[2, 3], strokeWidth=1.5)
        .encode(x="x:Q"),
        data.mark_rule(color=palette.accent, strokeWidth=1.5, opacity=0.6).encode(
            x="x:Q", y="low:Q", y2="high:Q"
        ),
        data.mark_line(color=palette.accent, strokeWidth=1, opacity=0.5).encode(x="x:Q", y="y:Q"),
        data.mark_point(color=palette.accent, filled=True, size=45, opacity=1).encode(
            x="x:Q",
            y="y:Q",
            tooltip=[
                alt.Tooltip("x:Q", title="Mean probability", format=".3f"),
                alt.Tooltip("y:Q", title="Share with the finding", format=".3f"),
                alt.Tooltip("films:Q", title="Films"),
            ],
        ),
    )
    told = "; ".join(
        f"predicted {row['x']:.2f}, observed {row['y']:.2f} of {row['films']}" for row in rows
    )
    return Chart(_dress(chart, palette, HEIGHT), f"Calibration, {len(rows)} groups: {told}.")


def histogram_chart(
    truth: NDArray[np.int8],
    scores: NDArray[np.float64],
    report: LabelReport,
    at: ThresholdReport,
    palette: Palette,
) -> Chart:
    """Draw how films scored, with the finding upwards and without it downwards.

    Heights are square roots: most films score near 0 or 1, and the others stay visible.
    """
    edges = np.linspace(0, 1, BINS + 1)
    rows = []
    for sign, name, films in ((1, "Present", truth == 1), (-1, "Absent", truth == 0)):
        counts = np.histogram(scores[films], edges)[0]
        for low, high, count in zip(edges, edges[1:], counts.tolist(), strict=False):
            height = sign * float(np.sqrt(count))
            rows.append({"low": low, "high": high, "y": height, "truth": name, "films": count})
    tall = max(1.0, *(abs(row["y"]) for row in rows)) * 1.1
    colours = alt.Scale(domain=["Present", "Absent"], range=[palette.accent, palette.cleared])
    bars = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_rect()
        .encode(
            x=_share_axis(alt.X, "Predicted probability", name="low"),
            x2="high:Q",
            y=alt.Y("y:Q", axis=None, scale=alt.Scale(domain=(-tall, tall))),
            y2=alt.Y2Datum(0),
            color=alt.Color("truth:N", scale=colours, legend=None),
            tooltip=[
                alt.Tooltip("truth:N", title="Finding"),
                alt.Tooltip("low:Q", title="From", format=".3f"),
                alt.Tooltip("high:Q", title="To", format=".3f"),
                alt.Tooltip("films:Q", title="Films"),
            ],
        )
    )
    point = at.operating_point
    mark = (
        alt.Chart(alt.InlineData(values=[] if point is None else [{"x": point}]))
        .mark_rule(color=palette.flagged, strokeWidth=1.5)
        .encode(x="x:Q")
    )
    names = [
        {"x": 0.5, "y": 0.9 * tall, "name": "Present"},
        {"x": 0.5, "y": -0.9 * tall, "name": "Absent"},
    ]
    texts = (
        alt.Chart(alt.InlineData(values=names))
        .mark_text(color=palette.muted, fontSize=12)
        .encode(x="x:Q", y="y:Q", text="name:N")
    )
    (tn, fp), (fn, tp) = at.confusion or ((0, 0), (0, 0))
    told = f"{fn + tp} films with {report.label}, {tp} of them flagged at {rule(at)}; "
    told += f"{tn + fp} without, {fp} of them flagged"
    return Chart(
        _dress(alt.layer(bars, mark, texts), palette, HEIGHT), f"Scores of the films: {told}."
    )


# --- several groups, models or epochs ---


def forest_chart(
    groups: Mapping[str, Mapping[str, LabelReport]],
    number: str,
    whole: LabelReport,
    palette: Palette,
) -> Chart:
    """Draw one number of every subgroup with its interval, and the whole as a line.

    Args:
        groups: Reports by grouping ("view") and group ("PA").
        number: Which interval of a report, such as "auroc" or "sensitivity".
        whole: The report of all films.
        palette: Of the theme.
    """
    rows: list[Row] = []
    for by, reports in groups.items():
        for name, one in reports.items():
            share: Interval = getattr(one, number)
            row = {"group": f"{by.capitalize()}: {name}", "value": share.value}
            row |= {"low": share.low, "high": share.high, "films": f"{one.positives} of {one.n}"}
            rows.append(row | {"few": bool(one.notes)})
    order = [row["group"] for row in rows]
    y = alt.Y(
        "group:N",
        sort=order,
        title=None,
        axis=alt.Axis(
            labelLimit=220,
            labelFontSize=12,
            labelColor=palette.text,
            grid=False,
            ticks=False,
            domain=False,
            labelPadding=8,
        ),
    )
    x = _share_axis(
        alt.X, number.upper() if number.startswith("au") else number.capitalize(), name="value"
    )
    data = alt.Chart(alt.InlineData(values=rows))
    level = getattr(whole, number).value
    chart = alt.layer(
        alt.Chart(alt.InlineData(values=[] if level is None else [{"value": level}]))
        .mark_rule(color=palette.muted, strokeDash=[3, 3])
        .encode(x=x),
        data.mark_rule(color=palette.accent, strokeWidth=2).encode(x="low:Q", x2="high:Q", y=y),
        data.mark_point(size=90, filled=True, color=palette.accent, opacity=1).encode(
            x="value:Q",
            y=y,
            shape=alt.Shape(
                "few:N",
                legend=None,
                scale=alt.Scale(domain=[False, True], range=["square", "circle"]),
            ),
            tooltip=[
                alt.Tooltip("group:N", title="Group"),
                alt.Tooltip("value:Q", title=number, format=".3f"),
                alt.Tooltip("low:Q", title="From", format=".3f"),
                alt.Tooltip("high:Q", title="To", format=".3f"),
                alt.Tooltip("films:N", title="With the finding"),
            ],
        ),
    )
    told = "; ".join(
        f"{row['group']} {' '.join(words(Interval(row['value'], row['low'], row['high'])))}"
        for row in rows
    )
    return Chart(_dress(chart, palette, 60 + 30 * len(rows)), f"{number} by subgroup: {told}.")


def histories_chart(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    chosen: Mapping[str, int],
    panel: tuple[str, str],
    palette: Palette,
) -> Chart:
    """Draw one column of several trainings over their epochs, the chosen epoch as a ring.

    Args:
        histories: Columns of history.csv by model.
        chosen: The epoch, from 1, whose weights became each model.
        panel: The column, and what it is called.
        palette: Of the theme.
    """
    column, title = panel
    rows = [
        {"model": name, "epoch": epoch, "value": value, "chosen": chosen.get(name) == epoch}
        for name, history in histories.items()
        for epoch, value in enumerate(history.get(column, ()), 1)
        if isfinite(value)
    ]
    names = list(histories)
    tones = [palette.accent, palette.flagged, palette.text, palette.cleared]
    colour = alt.Color(
        "model:N",
        sort=names,
        legend=None,
        scale=alt.Scale(domain=names, range=[tones[i % len(tones)] for i in range(len(names))]),
    )
    dashes = alt.StrokeDash(
        "model:N",
        legend=None,
        scale=alt.Scale(domain=names, range=[[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]),
    )
    axis = alt.Axis(tickMinStep=1, grid=False, title="Epoch")
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("epoch:Q", axis=axis, scale=alt.Scale(nice=False)),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4)),
        color=colour,
        tooltip=[
            alt.Tooltip("model:N", title="Model"),
            alt.Tooltip("epoch:Q", title="Epoch"),
            alt.Tooltip("value:Q", title=title, format=".4f"),
        ],
    )
    ring = base.transform_filter("datum.chosen").mark_point(size=110, strokeWidth=2.5, opacity=1)
    last = (
        base.transform_joinaggregate(last="max(epoch)", groupby=["model"])
        .transform_filter("datum.epoch == datum.last")
        .mark_text(align="left", dx=9, fontSize=12)
        .encode(text="model:N")
    )
    layers = [base.mark_line(strokeWidth=2).encode(strokeDash=dashes), ring]
    chart = alt.layer(*layers, *([last] if len(names) > 1 else []))
    told = "; ".join(
        _course(name, history.get(column, ()), chosen.get(name))
        for name, history in histories.items()
    )
    return Chart(_dress(chart, palette, 190), f"{title} by epoch: {told}.")


def _course(name: str, values: Sequence[float], epoch: int | None) -> str:
    if not values:
        return f"{name} not recorded"
    at = f", {values[epoch - 1]:.3f} at the chosen epoch {epoch}" if epoch else ""
    return f"{name} from {values[0]:.3f} to {values[-1]:.3f} in {len(values)} epochs{at}"


# --- parts ---


def _share_axis(channel: Any, title: str, end: float = 1.0, name: str = "") -> Any:
    field = name or ("x" if channel is alt.X else "y")
    axis = alt.Axis(values=[end * share for share in SHARES], format=".2~f")
    return channel(
        f"{field}:Q", title=title, scale=alt.Scale(domain=(0, end), nice=False), axis=axis
    )


def _dress(chart: alt.LayerChart, palette: Palette, height: int) -> alt.LayerChart:
    """Take away what does not inform."""
    dressed: alt.LayerChart = (
        chart.properties(height=height, background="transparent")
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(
            gridColor=palette.line,
            gridOpacity=0.6,
            domainColor=palette.line,
            tickColor=palette.line,
            labelColor=palette.muted,
            titleColor=palette.muted,
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
        )
    )
    return dressed


def rest(share: Interval) -> Interval:
    """Return 1 - share, with its interval."""
    if share.value is None or share.low is None or share.high is None:
        return Interval(None if share.value is None else 1 - share.value, None, None)
    return Interval(1 - share.value, 1 - share.high, 1 - share.low)


def words(share: Interval, digits: int = 2) -> tuple[str, str]:
    """Write a number and its interval; "not known" and "" where there is none."""
    if share.value is None:
        return "not known", ""
    bounds = "" if share.low is None else f"{share.low:.{digits}f}-{share.high:.{digits}f}"
    return f"{share.value:.{digits}f}", bounds


def rule(report: ThresholdReport) -> str:
    """Say in words what decides."""
    if report.confusion is None:
        return "no operating point"
    point = report.operating_point
    return "the largest probability" if point is None else f"threshold {point:.2f}"
