"""Undoing what can be undone on the film as it came: turned, inverted, mirrored, in borders.

Nothing is mended unasked: the gate refuses and says how, the reader decides.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import UnknownName
from cxr_core.gate.learned import SIDES, TONES, TURNS
from cxr_core.gate.pixels import BORDERS, without_borders
from cxr_core.gate.report import GateCheck, GateReport
from cxr_core.images import Radiograph

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Mend:
    """One thing that can be done to a film.

    Attributes:
        fault: What it undoes: a check's value, or the name of one that measures a share.
        offer: What a button says.
        done: What is said of the film afterwards.
    """

    fault: str
    offer: str
    done: str


_DONE = "by the reader; the file itself is as it was."
_MENDS: dict[str, tuple[Mend, Callable[[Radiograph], Pixels]]] = {
    TONES[1]: (
        Mend(TONES[1], "Undo the inversion", f"Inversion undone {_DONE}"),
        lambda film: np.float32(1) - film.pixels,
    ),
    TURNS[1]: (
        Mend(TURNS[1], "Turn clockwise by 90 degrees", f"Turned clockwise {_DONE}"),
        lambda film: np.rot90(film.pixels, -1),
    ),
    TURNS[2]: (
        Mend(TURNS[2], "Turn by 180 degrees", f"Turned by 180 degrees {_DONE}"),
        lambda film: np.rot90(film.pixels, 2),
    ),
    TURNS[3]: (
        Mend(TURNS[3], "Turn anticlockwise by 90 degrees", f"Turned anticlockwise {_DONE}"),
        lambda film: np.rot90(film.pixels),
    ),
    SIDES[1]: (
        Mend(SIDES[1], "Mirror the film", f"Mirrored {_DONE}"),
        lambda film: film.pixels[:, ::-1],
    ),
    BORDERS: (
        Mend(BORDERS, "Crop the even borders", f"Even borders cropped {_DONE}"),
        without_borders,
    ),
}


def mend_for(report: GateReport) -> tuple[Mend, ...]:
    """Name what can be undone: all that refuses at once, else one thing that is a caution."""
    refused, noted = (
        tuple(
            _MENDS[fault][0]
            for check in report.by_verdict(verdict)
            if (fault := _fault(check)) in _MENDS
        )
        for verdict in ("refuse", "caution")
    )
    return refused or noted[:1]


def _fault(check: GateCheck) -> str:
    """Name a check's fault: what it found, or its own name where it measured a number."""
    return check.value if isinstance(check.value, str) else check.name


def mended(radiograph: Radiograph, mend: Mend) -> Radiograph:
    """Return the film with one fault undone; its digest stays that of the file.

    Raises:
        UnknownName: When nobody knows how.
    """
    if mend.fault not in _MENDS:
        raise UnknownName("fault", mend.fault, _MENDS)
    pixels = np.ascontiguousarray(_MENDS[mend.fault][1](radiograph))
    pixels.flags.writeable = False
    facts, spacing = radiograph.facts, radiograph.facts.pixel_spacing_mm
    if spacing is not None and mend.fault in (TURNS[1], TURNS[3]):
        facts = replace(facts, pixel_spacing_mm=(spacing[1], spacing[0]))
    if mend.fault == TONES[1]:
        inverted = tuple((name, 1 - high, 1 - low) for name, low, high in facts.windows)
        facts = replace(facts, windows=inverted)
    return replace(radiograph, pixels=pixels, facts=facts)
