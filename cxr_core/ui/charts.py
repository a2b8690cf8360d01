"""A test record as charts of the browser: values in, charts out; nothing is computed.

Each chart has the same specification whatever its threshold; only its data changes, so that
the browser moves a mark instead of drawing all anew. Data therefore goes by fixed names: those
that Altair gives are digests of the content. Altair takes a quarter of a second to write and
check one specification, so each is written once and kept. What a chart shows stands in words in
its `alt` text. Amber is flagged and slate is not; shape, place or words tell the same again,
so that the charts can be read in greyscale.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from cxr_core.evaluation import LabelReport, ThresholdReport
from cxr_core.explanations import Gain, Randomisation, areas
from cxr_core.figures import Palette
from cxr_core.predictions import FEW_FILMS, FEW_OF_A_KIND
from cxr_core.ranking import Curve, Interval, precision_recall_curve, roc_curve
from cxr_core.ui.numerals import rest, rule, title, with_bounds, words
from cxr_core.ui.vega import HEIGHT, Chart, Data, Row, dressed, finished, on, once

Point = tuple[Interval, Interval]
# More points than a curve of this many pixels can show are left out.
MOST_POINTS = 400
BINS = 40
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
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
    spec, data = _curve(titles, "linear", palette), _curve_data(curve, point, (0.0, 1.0))
    area = f"AUROC {with_bounds(report.auroc, 3)}"
    alarms, found = words(point[0])[0], words(point[1])[0]
    return finished(
        spec, data, f"ROC curve, {area}. At {rule(at)}: sensitivity {found}, false alarms {alarms}."
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
    spec = _curve(titles, "step-before", palette)
    data = _curve_data(curve, (at.sensitivity, at.ppv), level)
    area = f"AUPRC {with_bounds(report.auprc, 3)}, prevalence {report.prevalence:.2f}"
    found, right = words(at.sensitivity)[0], words(at.ppv)[0]
    told = f"Precision-recall curve, {area}. At {rule(at)}: sensitivity {found}, PPV {right}."
    return finished(spec, data, told)


def _curve_data(curve: Curve, point: Point, chance: tuple[float, float]) -> Data:
    ends = [{"x": 0.0, "y": chance[0]}, {"x": 1.0, "y": chance[1]}]
    return {"curve": _points(curve), "chance": ends, "point": _point(point)}


@once
def _curve(titles: tuple[str, str], interpolate: str, palette: Palette) -> str:
    x, y = (
        _share_axis(channel, title) for channel, title in zip((alt.X, alt.Y), titles, strict=True)
    )
    line = (
        on("curve")
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
    dashes = (
        on("chance")
        .mark_line(color=palette.muted, strokeDash=[3, 3], strokeWidth=1)
        .encode(x="x:Q", y="y:Q")
    )
    return dressed(alt.layer(dashes, line, *_cross(palette)), palette, HEIGHT)


def _points(curve: Curve) -> list[Row]:
    """Keep as many points of a curve as its pixels can show, the ends among them.

    They are spread evenly along the way the curve takes: evenly by rank, the few films with a
    rare finding would lose the steep part, which is the one that counts.
    """
    if not curve.x.size:
        return []
    kept = np.arange(curve.x.size)
    if kept.size > MOST_POINTS:
        way = np.append(0.0, np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y))))
        near = np.searchsorted(way, np.linspace(0, way[-1], MOST_POINTS - 1))
        kept = np.unique(np.append(near, curve.x.size - 1))
    return [
        {
            "i": i,
            "x": float(curve.x[k]),
            "y": float(curve.y[k]),
            "threshold": f"{curve.threshold[k]:.3f}" if k else "above all",
        }
        for i, k in enumerate(kept)
    ]


def _point(point: Point) -> list[Row]:
    """Say where the model works, and the 95 % intervals both ways; nothing where unknown."""
    x, y = point
    if x.value is None or y.value is None:
        return []
    row: Row = {"x": x.value, "y": y.value, "left": x.low, "right": x.high}
    return [row | {"low": y.low, "high": y.high}]


def _cross(palette: Palette) -> list[alt.Chart]:
    """Mark where the model works, with the 95 % intervals as a cross."""
    data = on("point")
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
    ends = [{"x": 0.0, "y": 0.0}, {"x": end, "y": end}]
    marks = [row for row in _threshold(at) if row["x"] <= end]
    told = "; ".join(
        f"predicted {row['x']:.2f}, observed {row['y']:.2f} of {row['films']}" for row in rows
    )
    data: Data = {"groups": rows, "even": ends, "threshold": marks}
    spec = _calibration(end, palette)
    return finished(spec, data, f"Calibration, {len(rows)} groups: {told}.")


@once
def _calibration(end: float, palette: Palette) -> str:
    x = _share_axis(alt.X, "Predicted probability", end)
    y = _share_axis(alt.Y, "Share with the finding", end)
    data = on("groups")
    chart = alt.layer(
        on("even")
        .mark_line(color=palette.muted, strokeDash=[3, 3], strokeWidth=1)
        .encode(x=x, y=y),
        on("threshold")
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
    return dressed(chart, palette, HEIGHT)


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
    names = [
        {"x": 0.5, "y": 0.9 * tall, "name": "Present"},
        {"x": 0.5, "y": -0.9 * tall, "name": "Absent"},
    ]
    (tn, fp), (fn, tp) = at.confusion or ((0, 0), (0, 0))
    told = f"{fn + tp} films with {report.label}, {tp} of them flagged at {rule(at)}; "
    told += f"{tn + fp} without, {fp} of them flagged"
    data = {"bars": rows, "threshold": _threshold(at), "names": names}
    return finished(_histogram(tall, palette), data, f"Scores of the films: {told}.")


@once
def _histogram(tall: float, palette: Palette) -> str:
    colours = alt.Scale(domain=["Present", "Absent"], range=[palette.accent, palette.cleared])
    bars = (
        on("bars")
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
    mark = on("threshold").mark_rule(color=palette.flagged, strokeWidth=1.5).encode(x="x:Q")
    texts = (
        on("names")
        .mark_text(color=palette.muted, fontSize=12)
        .encode(x="x:Q", y="y:Q", text="name:N")
    )
    return dressed(alt.layer(bars, mark, texts), palette, HEIGHT)


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
            rows.append(row | {"few": _is_small(one)})
    level = getattr(whole, number).value
    spoken = "; ".join(
        f"{row['group']} {with_bounds(Interval(row['value'], row['low'], row['high']))}"
        for row in rows
    )
    data: Data = {"groups": rows, "whole": [] if level is None else [{"value": level}]}
    spec = _forest(tuple(row["group"] for row in rows), title(number), palette)
    return finished(spec, data, f"{title(number)} by group: {spoken}.")


@once
def _forest(groups: tuple[str, ...], name: str, palette: Palette) -> str:
    y = alt.Y(
        "group:N",
        sort=list(groups),
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
    x = _share_axis(alt.X, name, name="value")
    data = on("groups")
    chart = alt.layer(
        on("whole").mark_rule(color=palette.muted, strokeDash=[3, 3]).encode(x=x),
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
                alt.Tooltip("value:Q", title=name, format=".3f"),
                alt.Tooltip("low:Q", title="From", format=".3f"),
                alt.Tooltip("high:Q", title="To", format=".3f"),
                alt.Tooltip("films:N", title="With the finding"),
            ],
        ),
    )
    return dressed(chart, palette, 60 + 30 * len(groups))


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
    told = "; ".join(
        _course(name, history.get(column, ()), chosen.get(name))
        for name, history in histories.items()
    )
    spec = _histories(tuple(histories), title, palette)
    return finished(spec, {"epochs": rows}, f"{title} by epoch: {told}.")


@once
def _histories(names: tuple[str, ...], title: str, palette: Palette) -> str:
    tones = [palette.accent, palette.flagged, palette.text, palette.cleared]
    colour = alt.Color(
        "model:N",
        sort=list(names),
        legend=None,
        scale=alt.Scale(
            domain=list(names), range=[tones[i % len(tones)] for i in range(len(names))]
        ),
    )
    dashes = alt.StrokeDash(
        "model:N",
        legend=None,
        scale=alt.Scale(domain=list(names), range=[[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]),
    )
    axis = alt.Axis(tickMinStep=1, grid=False, title="Epoch")
    base = on("epochs").encode(
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
    return dressed(chart, palette, 190)


def _course(name: str, values: Sequence[float], epoch: int | None) -> str:
    if not values:
        return f"{name} not recorded"
    at = f", {values[epoch - 1]:.3f} at the chosen epoch {epoch}" if epoch else ""
    return f"{name} from {values[0]:.3f} to {values[-1]:.3f} in {len(values)} epochs{at}"


# --- explanations ---


def exchange_chart(gain: Gain, kind: str, method: str, palette: Palette) -> Chart:
    """Draw how the logit follows while cells of films are exchanged, by three orders.

    Args:
        gain: The curves.
        kind: "Deletion" or "Insertion".
        method: What the map's order is called.
        palette: Of the theme.
    """
    named = {method: gain.method, "random": gain.random, "centre first": gain.centre}
    rows = [
        {"name": name, "x": k / (len(curve) - 1), "y": value}
        for name, curve in named.items()
        for k, value in enumerate(curve)
    ]
    told = ", ".join(f"{name} {float(areas(curve)):.2f}" for name, curve in named.items())
    data: Data = {"points": rows}
    spec = _lines(("Share of the film exchanged", "Mean logit"), tuple(named), palette)
    return finished(spec, data, f"{kind}, area under the logit: {told}.")


def cascade_chart(falls: Mapping[str, Randomisation], palette: Palette) -> Chart:
    """Draw how like the original each method's maps stay while weights are shuffled."""
    rows: list[Row] = []
    for name, found in falls.items():
        most = max(stage.layers for stage in found.stages)
        rows.append({"name": name, "x": 0.0, "y": 1.0})
        rows += [
            {"name": name, "x": stage.layers / most, "y": stage.likeness(found.films).value}
            for stage in found.stages
        ]
    told = "; ".join(
        f"{name} {with_bounds(found.stages[-1].likeness(found.films))}"
        for name, found in falls.items()
    )
    spec = _lines(("Share of the layers shuffled", "Likeness"), tuple(falls), palette)
    return finished(spec, {"points": rows}, f"Likeness with all weights shuffled: {told}.")


@once
def _lines(titles: tuple[str, str], names: tuple[str, ...], palette: Palette) -> str:
    """Draw one line for each name, told apart by hue and by dashes."""
    tones = [palette.accent, palette.muted, palette.flagged, palette.text]
    strokes = [[1, 0], [2, 2], [6, 3], [8, 3, 2, 3], [3, 1]]
    shades = [tones[i % len(tones)] for i in range(len(names))]
    dashes = [strokes[i % len(strokes)] for i in range(len(names))]
    legend = alt.Legend(title=None, orient="bottom", columns=3, labelColor=palette.muted)
    chart = (
        on("points")
        .mark_line(strokeWidth=2)
        .encode(
            x=_share_axis(alt.X, titles[0]),
            y=alt.Y("y:Q", title=titles[1], axis=alt.Axis(tickCount=5)),
            color=alt.Color(
                "name:N", legend=legend, scale=alt.Scale(domain=list(names), range=shades)
            ),
            strokeDash=alt.StrokeDash(
                "name:N", legend=legend, scale=alt.Scale(domain=list(names), range=dashes)
            ),
            tooltip=[
                alt.Tooltip("name:N", title="Order or method"),
                alt.Tooltip("x:Q", title=titles[0], format=".2f"),
                alt.Tooltip("y:Q", title=titles[1], format=".2f"),
            ],
        )
    )
    return dressed(alt.layer(chart), palette, HEIGHT)


# --- parts ---


def _threshold(at: ThresholdReport) -> list[Row]:
    return [] if at.operating_point is None else [{"x": at.operating_point}]


def _share_axis(channel: Any, title: str, end: float = 1.0, name: str = "") -> Any:
    field = name or ("x" if channel is alt.X else "y")
    axis = alt.Axis(values=[end * share for share in SHARES], format=".2~f")
    return channel(
        f"{field}:Q", title=title, scale=alt.Scale(domain=(0, end), nice=False), axis=axis
    )


def _is_small(one: LabelReport) -> bool:
    """Say whether a group has too few films for its numbers, as its note then tells."""
    return one.n < FEW_FILMS or min(one.positives, one.n - one.positives) < FEW_OF_A_KIND
