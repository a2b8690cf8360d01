"""The viewer's way to the browser: what the component in `static/` is sent, and what it says.

A film is sent once, by a component that draws nothing: Streamlit does not send again what
has not changed, so that a new map costs its own few bytes. What is sent first is as large as
a screen; the film's own pixels follow once it is drawn. The maps come on their own grid, in
units of where their colours end; films and maps meet in the browser, which draws them as
`overlays` does. Of what the reader does there, Python hears only where he clicked.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cxr_core import overlays
from cxr_core.errors import ArgumentError
from cxr_core.preprocess import Box, Placement
from cxr_core.ui.fragments import fragment
from cxr_core.ui.session import Film, reduced

STATIC = Path(__file__).with_name("static")
FILM_SCRIPTS = ("payload.js", "film.js")
SCRIPTS = (
    "payload.js", "webgl.js", "software.js", "view.js", "rulers.js", "hands.js", "pane.js",
    "viewer.js",
)  # fmt: skip
KEY = "viewer"
# Pixels of a film that a browser is sent: 64 MB at two bytes. Larger films are reduced to that.
MOST_SENT = 32_000_000
MOST_SIDE = 8192
# What is said beside a length, by where the film's spacing holds.
MEASURED = {
    "detector": "at the detector, not corrected for magnification",
    "scanned": "on the film as it was scanned, not corrected for magnification",
    "patient": "corrected for magnification, as the file says",
    "unknown": "the file does not say whether corrected for magnification",
}
KINDS = {np.dtype(np.uint8): "u1", np.dtype(np.float32): "f4"}

Asked = Callable[[tuple[float, float] | None], None]
"""Told where the film was clicked, in shares of its width and height; None: take it back."""


@dataclass(frozen=True)
class Layer:
    """A map as the browser draws it.

    Attributes:
        values: float32 (h, w) over the model's square, divided by where the colours end.
        square: Where the film lies in that square: left, top, width and height, in shares.
        signed: Whether negative values speak against.
        ends: What the two ends of the colours mean.
        lined: Whether lines around its evidence are drawn over its colours, too.
    """

    values: NDArray[np.float32]
    square: Box
    signed: bool
    ends: tuple[str, str]
    lined: bool = True


@dataclass(frozen=True)
class Pane:
    """One view of a film.

    Attributes:
        name: Written under it where there are two.
        title: What it shows, for those who cannot see it.
        layer: The map over the film; None for the film alone.
        film: Shown instead of the film that is looked at; None for that.
        align: (2, 3) affine from places on the film looked at to places on this one, both in
            shares of width and height; None when both are simply fitted.
    """

    name: str
    title: str
    layer: Layer | None = None
    film: Film | None = None
    align: NDArray[np.float64] | None = None


SIGNED = "Orange and blue"  # the colours of signed maps


def square_of(placement: Placement) -> Box:
    """Return where a film lies in the model's square: left, top, width, height, in shares."""
    edges = (placement.left, placement.top, placement.inner_width, placement.inner_height)
    left, top, width, height = (edge / placement.size for edge in edges)
    return left, top, width, height


def show(film: Film, panes: Sequence[Pane], region: Box | None, asked: Asked | None) -> None:
    """Draw the film, once for each pane that has no film of its own; all are looked at alike.

    Args:
        film: On screen.
        panes: One or two.
        region: Outlined on the film.
        asked: Told of clicks on the film; None when they mean nothing.

    Raises:
        ArgumentError: When a pane's `align` is not a (2, 3) affine that can be turned round.
    """
    sent: dict[str, Film] = {}
    aside = st.container(key="film-sent")
    with aside:
        name = _send(film, sent)
        films = [name if pane.film is None else _send(pane.film, sent) for pane in panes]
    with st.container(key="lightbox"):
        _viewer(
            key=KEY,
            data=packed_panes(name, panes, region, asks=asked is not None, films=films),
            on_asked_change=lambda: _hear(asked),
        )
    with aside:
        for number, (named, one) in enumerate(sent.items()):
            _follow(one, named, f"film-own-{number}")


def _send(film: Film, sent: dict[str, Film]) -> str:
    """Send a film, unless it is among those sent; return its name, which is that of its pixels.

    So a mended film is another, and so is one of another header.
    """
    pixels, facts = _greys(film.shown, film.radiograph.facts.bits), film.radiograph.facts
    # The same pixels may come with another header: lengths are measured by each one's own.
    told = (pixels.shape, film.radiograph.pixels.shape, facts.pixel_spacing_mm, facts.spacing_at)
    head = repr((*told, facts.windows)).encode()
    name = blake2b(head + pixels.tobytes(), digest_size=16).hexdigest()
    if name not in sent:
        _keep_sent(film, name, pixels, f"film-bytes-{len(sent)}")
        sent[name] = film
    return name


@fragment
def _keep_sent(film: Film, name: str, pixels: NDArray[Any], key: str) -> None:
    """Send a film as large as a screen; at the viewer's wish, which reruns this alone, in full.

    It wishes for what should have followed, and is not there: after a visit to another page.
    """
    wish = f"{key}-wanted"
    side = st.session_state.pop(wish, None)
    if isinstance(side, int | float) and side >= max(pixels.shape):
        pixels = _greys(own_pixels(film, int(side)), film.radiograph.facts.bits)

    def want() -> None:
        st.session_state[wish] = st.session_state[key]["wanted"]

    _film(key=key, data=packed_film(film, name, pixels), on_wanted_change=want)


def _follow(film: Film, name: str, key: str) -> None:
    """Send a film's own pixels after it, unless they were; the browser keeps them beside it."""
    known = f"{key}-name"
    if st.session_state.get(known) == name:
        return
    st.session_state[known] = name
    if film.radiograph.pixels.shape != film.shown.shape:
        pixels = _greys(own_pixels(film, MOST_SIDE), film.radiograph.facts.bits)
        _film(key=key, data=packed_film(film, name, pixels, follows=True))


def own_pixels(film: Film, side: int) -> NDArray[np.float32]:
    """Return a film's own pixels (H, W), reduced where a browser could not hold so many.

    Args:
        film: On screen.
        side: The longest that the browser can draw.
    """
    pixels = film.radiograph.pixels
    most = int(max(pixels.shape) * (MOST_SENT / pixels.size) ** 0.5)
    return reduced(pixels, min(side, most))


def _hear(asked: Asked | None) -> None:
    """Pass a click on, unless it is not one: what comes from a browser may be anything."""
    said = st.session_state[KEY]["asked"]
    if asked is None or not isinstance(said, list) or len(said) not in (0, 2):
        return
    if all(isinstance(one, int | float) and 0 <= one <= 1 for one in said):
        asked((float(said[0]), float(said[1])) if said else None)


def _greys(pixels: NDArray[np.float32], bits: int) -> NDArray[Any]:
    """Return pixels as sent: uint8, or uint16 where their file holds more than 8 bits."""
    if bits <= 8:
        return overlays.to_grey(pixels)
    fine: NDArray[np.uint16] = np.rint(np.clip(pixels, 0, 1) * np.float32(65535)).astype("<u2")
    return fine


def packed_film(film: Film, name: str, pixels: NDArray[Any], *, follows: bool = False) -> bytes:
    """Pack a film under a name: what is known of it, and a sheet of it, uint8 or uint16 (h, w).

    A sheet that `follows` another is kept as long as that.
    """
    facts, (height, width) = film.radiograph.facts, film.radiograph.pixels.shape
    spacing = facts.pixel_spacing_mm
    header = {
        "film": name,
        "follows": follows,
        "width": width,
        "height": height,
        "sheet": pixels.shape[::-1],
        "bytes": pixels.itemsize,
        "millimetres": spacing and (width * spacing[1], height * spacing[0]),
        "measured": MEASURED.get(facts.spacing_at or "unknown", MEASURED["unknown"]),
        "windows": facts.windows,
    }
    return pack(header, pixels=np.ascontiguousarray(pixels).view(np.uint8))


def packed_panes(
    film: str,
    panes: Sequence[Pane],
    region: Box | None,
    *,
    asks: bool,
    films: Sequence[str] | None = None,
) -> bytes:
    """Pack what is drawn over the film of a name, and whether a click on it means anything.

    Args:
        film: Name of the film that is looked at.
        panes: One or two.
        region: Outlined on it.
        asks: Whether a click on it means anything.
        films: Name of each pane's film; None when all show the film that is looked at.

    Raises:
        ArgumentError: When a pane's `align` is not a (2, 3) affine that can be turned round.
    """
    arrays: dict[str, NDArray[Any]] = {
        **{name: overlays.colour_table(False, name) for name in overlays.COLOURS},
        SIGNED: overlays.colour_table(True),
    }
    told: list[dict[str, Any]] = []
    for number, pane in enumerate(panes):
        layer = None
        if pane.layer is not None:
            values = f"values{number}"
            arrays[values] = pane.layer.values
            height, width = pane.layer.values.shape
            layer = {
                "values": values, "width": width, "height": height,
                "square": pane.layer.square, "signed": pane.layer.signed,
                "ends": pane.layer.ends, "lined": pane.layer.lined, "level": overlays.LEVEL,
                "lines": overlays.line_colours(pane.layer.signed),
            }  # fmt: skip
        told.append({
            "film": film if films is None else films[number], "name": pane.name,
            "title": pane.title, "layer": layer, "align": _aligned(pane),
        })  # fmt: skip
    header = {
        "film": film, "panes": told, "region": region, "asks": asks,
        "colours": list(overlays.COLOURS), "signed": SIGNED,
    }  # fmt: skip
    return pack(header, **arrays)


def _aligned(pane: Pane) -> list[list[float]] | None:
    if pane.align is None:
        return None
    align = np.asarray(pane.align, np.float64)
    if align.shape != (2, 3) or not np.isfinite(align).all() or not _turns_round(align):
        raise ArgumentError(
            f"align of the pane '{pane.name}' must be a (2, 3) affine that can be turned round, "
            f"but {align.tolist()} came. Give None where the films are not aligned."
        )
    rows: list[list[float]] = align.tolist()
    return rows


def _turns_round(align: NDArray[np.float64]) -> bool:
    return bool(abs(np.linalg.det(align[:, :2])) > 1e-6)


def pack(header: dict[str, Any], **arrays: NDArray[Any]) -> bytes:
    """Write facts and arrays as one run of bytes, as `unpack` in static/payload.js reads it.

    Args:
        header: JSON values; `arrays` holds where each array lies in what follows.
        arrays: uint8 or float32.
    """
    places, parts, start = {}, [], 0
    for name, array in arrays.items():
        parts.append(np.ascontiguousarray(array).tobytes())
        places[name] = {"kind": KINDS[array.dtype], "start": start, "length": len(parts[-1])}
        start += len(parts[-1])
    text = json.dumps(header | {"arrays": places}, allow_nan=False).encode()
    return b"".join([len(text).to_bytes(4, "little"), text, *parts])


def _text(*names: str) -> str:
    return "\n".join((STATIC / name).read_text() for name in names)


_film = st.components.v2.component("cxr_film", js=_text(*FILM_SCRIPTS))
_viewer = st.components.v2.component(
    "cxr_viewer", html=_text("viewer.html"), css=_text("viewer.css"), js=_text(*SCRIPTS)
)
