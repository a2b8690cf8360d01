"""Confusion matrices as charts of the browser; a click selects a cell."""

import altair as alt

from cxr_core.evaluation import EvaluationReport, ThresholdReport
from cxr_core.figures import Palette
from cxr_core.ui.numerals import rest, words
from cxr_core.ui.vega import HEIGHT, Chart, Row, dressed, finished, on, once

# Of a 2 x 2: what is true, what the model says, and its cells from left to right and down.
MATRIX_WORDS = {
    False: (
        ("Absent", "Present"),
        ("Not flagged", "Flagged"),
        ("cleared", "false alarms", "missed", "found"),
    ),
    True: (
        ("Abnormal", "Normal"),
        ("Not called normal", "Called normal"),
        ("held back", "called normal", "held back", "called normal"),
    ),
}


def confusion_chart(report: ThresholdReport, palette: Palette, *, normal: bool = False) -> Chart:
    """Draw the 2 x 2 of a label; a click selects a cell by its name, tn, fp, fn or tp.

    Rows are what is true, columns what the model says; each cell holds its count and the
    share of its row, with its interval. A label that means that all is well (`normal`) is
    called rather than flagged: a film wrongly called normal is no false alarm.
    """
    (tn, fp), (fn, tp) = report.confusion or ((0, 0), (0, 0))
    truths, calls, names = MATRIX_WORDS[normal]
    shares = (
        report.specificity,
        rest(report.specificity),
        rest(report.sensitivity),
        report.sensitivity,
    )
    cells = [
        (cell, truths[k // 2], calls[k % 2], count, names[k], shares[k])
        for k, (cell, count) in enumerate((("tn", tn), ("fp", fp), ("fn", fn), ("tp", tp)))
    ]
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
    spec = _cells(calls, truths, palette, (28, -20))
    return finished(spec, {"cells": rows}, f"Confusion matrix of {report.n} films: {told}.")


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
    told = "; ".join(f"{row['films']} with {row['truth']} called {row['said']}" for row in rows)
    sides = ("The model says", "What is true")
    spec = _cells(tuple(names), tuple(names), palette, (20, -8), sides)
    return finished(spec, {"cells": rows}, f"Confusion matrix of {report.n} films: {told}.")


@once
def _cells(
    columns: tuple[str, ...],
    lines: tuple[str, ...],
    palette: Palette,
    text: tuple[int, int],
    titles: tuple[str | None, str | None] = (None, None),
) -> str:
    """Draw cells of one hue, the stronger the larger the share of the row.

    A cell says all in itself: a tooltip would stay on the page that a click leads to.
    """
    size, rise = text
    axis: Row = {"labelFontSize": 12, "labelColor": palette.text, "ticks": False}
    axis |= {"domain": False, "labelPadding": 8, "labelLimit": 110, "grid": False}
    across = alt.Axis(orient="top", labelAngle=0, title=titles[0], **axis)
    down = alt.Axis(title=titles[1], **axis)
    base = on("cells").encode(
        x=alt.X("said:N", sort=list(columns), axis=across, scale=alt.Scale(paddingInner=0.04)),
        y=alt.Y("truth:N", sort=list(lines), axis=down),
    )
    chosen = alt.selection_point(name="cell", fields=["cell"], on="click", clear=False)
    patch = base.mark_rect(color=palette.accent, cornerRadius=3, cursor="pointer").encode(
        opacity=alt.Opacity(
            "share:Q", scale=alt.Scale(domain=(0, 1), range=(0.08, 0.5)), legend=None
        ),
        description=alt.Description("line:N"),
    )
    over: Row = {"align": "center", "color": palette.text, "tooltip": None}
    count = base.mark_text(fontSize=size, dy=rise, **over).encode(
        text=alt.Text("films:Q", format=",d")
    )
    name = base.mark_text(fontSize=12, dy=rise + 30, **over).encode(text="line:N")
    bounds = base.mark_text(fontSize=11, dy=rise + 47, opacity=0.75, **over).encode(text="bounds:N")
    return dressed(alt.layer(patch.add_params(chosen), count, name, bounds), palette, HEIGHT)
