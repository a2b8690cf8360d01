"""One chart of the browser: a specification that is written once, and its data by name.

Altair takes a quarter of a second to write and check one specification, so each is written
once and kept. Data goes by fixed names: those that Altair gives are digests of the content,
and the browser would draw all anew whenever a number changes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import altair as alt
import pandas  # noqa: F401  Streamlit imports it when a chart is drawn; two readers at once fail.

from cxr_core.figures import Palette

Row = dict[str, Any]
Data = Mapping[str, Sequence[Row]]  # by the name that the layers call it
HEIGHT = 290
FONT = "Source Sans, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif"

once = lru_cache(maxsize=128)


@dataclass(frozen=True)
class Chart:
    """A chart, and what it shows in words for those who cannot see it.

    Attributes:
        spec: Of Vega-Lite, its data under "datasets" by name.
        alt: The words.
    """

    spec: dict[str, Any]
    alt: str


def on(name: str) -> alt.Chart:
    """Begin a layer whose data `_dress` hands over under that name."""
    return alt.Chart(alt.NamedData(name))


def finished(spec: str, data: Data, told: str) -> Chart:
    """Join what a chart looks like, what it shows, and the words for that."""
    named = {name: list(rows) for name, rows in data.items()}
    return Chart(json.loads(spec) | {"datasets": named}, told)


def dressed(chart: alt.LayerChart, palette: Palette, height: int) -> str:
    """Take away what does not inform, and write the specification as JSON."""
    dressed = (
        chart.properties(height=height, background="transparent")
        .configure(font=FONT)
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
    spec = dressed.to_dict()
    spec["config"]["view"] = {"stroke": None}  # Altair's theme would fix the width here
    return json.dumps(spec)
