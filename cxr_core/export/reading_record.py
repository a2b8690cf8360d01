"""What a model said of one film, as one frozen value that every writer of a file takes.

The words are those of the screen, so that paper and archive say what the reader read.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from cxr_core import overlays
from cxr_core.attribution import Attribution
from cxr_core.cards import ModelCard
from cxr_core.classifier import LabelPrediction
from cxr_core.errors import ArgumentError
from cxr_core.evaluation import LabelReport
from cxr_core.gate import GateReport
from cxr_core.images import Radiograph
from cxr_core.preprocess import Placement, restore
from cxr_core.wording import spoken, summary_sentences

Decision = Literal["flag", "no flag", "undecided"]
# Any fixed UUID will do: under it, names become the UUIDs of what is written.
NAMESPACE = UUID("6f1b4c1e-7a0d-4a55-9d0e-2f6a3c8e51b7")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was said of one label, and how good such answers were.

    Attributes:
        answer: The model's.
        band: Probabilities in which it cannot tell, or None.
        record: How it did on its test films.
        written: The probability and the operating point (None where there is none) with the
            digits that the screen gives them.
    """

    answer: LabelPrediction
    band: tuple[float, float] | None
    record: LabelReport
    written: tuple[str, str | None]

    @property
    def decision(self) -> Decision:
        """Return what was decided; "undecided" where the label has nothing to decide by.

        That the model cannot tell (`answer.cannot_tell`) is said beside it, in every file: it
        warns of the decision and never alters it.
        """
        if self.record.confusion is None:
            return "undecided"
        return "flag" if self.answer.flag else "no flag"

    @property
    def sentences(self) -> tuple[str, ...]:
        """Say what such answers are worth: the test record, and where nothing is decided."""
        told = list(summary_sentences(replace(self.record, label=spoken(self.answer.label))))
        if self.band is not None:
            told.append(
                "Cannot tell between probabilities of {:.3f} and {:.3f}.".format(*self.band)
            )
        if self.decision == "undecided":
            told.append("There is no operating point: nothing was decided.")
        return tuple(told)


@dataclass(frozen=True, kw_only=True)
class ShownMap:
    """A map that the reader saw.

    Attributes:
        found: The map, over the model's square.
        placement: How the film lies in that square.
        title: Method and what is explained ("Grad-CAM, for pneumonia").
        caption: What it shows and how far it holds, as the screen says under it.
    """

    found: Attribution
    placement: Placement
    title: str
    caption: str

    def over(self, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw the map over its film, grey (h, w) at any resolution: uint8 (h, w, 3)."""
        height, width = grey.shape
        placed = replace(self.placement, height=height, width=width)
        values, signed = restore(self.found.values, placed), self.found.signed
        end = overlays.full_colour(values, signed=signed)
        lined = end is not None and overlays.has_outlines(self.found.values, end)
        style: overlays.Style = "both" if lined else "heatmap"
        film = grey.astype(np.float32) / np.float32(255)
        return overlays.overlay(film, values, signed=signed, style=style)


@dataclass(frozen=True, kw_only=True)
class ReadingRecord:
    """One answer of one model on one film; no name, no identifier but the film's digest.

    Attributes:
        film: As the model read it: with faults undone, where the reader asked for that.
        card: The model's.
        gate: The checks of the film.
        findings: One for each label of the card, in its order; none when the film was refused.
        split: The part that the test record is of.
        scored: Films in it.
        headline: The answer in one line.
        detail: What qualifies it, one sentence each.
        facts: What is known of the film, in one line.
        mended: What was undone of the film, one sentence each.
        shown: The map on screen; None where none was shown.
        not_shown: Why there is no map; empty where there is one.
        opinions: What readers said of this film, one sentence each.
        at: When the model answered, to the second, with its time zone.
    """

    film: Radiograph
    card: ModelCard
    gate: GateReport
    findings: tuple[Finding, ...]
    split: str
    scored: int
    headline: str
    detail: tuple[str, ...]
    facts: str
    at: datetime
    mended: tuple[str, ...] = ()
    shown: ShownMap | None = None
    not_shown: str = ""
    opinions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what nobody could file.

        Raises:
            ArgumentError: When the findings are not those of the card, a map is of another
                label, or the time has no time zone.
        """
        labels = tuple(one.answer.label for one in self.findings)
        if labels not in ((), self.card.labels):
            raise ArgumentError(
                f"A reading by {self.card.name} has findings for {', '.join(self.card.labels)}, "
                f"or none, but {', '.join(labels)} came. Read the film with this model again."
            )
        if self.shown is not None and self.shown.found.label not in labels:
            raise ArgumentError(
                f"The map must be of a finding that was answered, but it is of "
                f"'{self.shown.found.label}'. Explain one of {', '.join(labels) or 'none'}."
            )
        if self.at.tzinfo is None:
            raise ArgumentError(
                f"The time of a reading needs its time zone, but '{self.at}' came without. Say "
                "datetime.now(UTC)."
            )

    @property
    def exclusive(self) -> bool:
        """Whether exactly one label is true, and the largest probability wins."""
        return self.card.activation == "softmax"

    @property
    def cautions(self) -> tuple[str, ...]:
        """What the gate has against the film, one sentence each."""
        return tuple(one.reason for one in self.gate.checks if one.verdict != "ok")

    def uuid(self, kind: str) -> UUID:
        """Return the UUID of one kind of output: the same for the same reading, and only for it."""
        shown = self.shown
        seen = shown.found if shown is not None else None
        what = (
            kind,
            *(self.film.digest, self.card.name, self.card.version, self.at.isoformat()),
            *(self.headline, self.detail, self.facts, self.mended, self.opinions),
            seen and (seen.label, seen.method, seen.absence, seen.baseline),
            shown.caption if shown is not None else self.not_shown,
        )
        return uuid5(NAMESPACE, repr(what))

    def require_answer(self, what: str) -> None:
        """Refuse to file what was never said.

        Args:
            what: Is to be made, in words.

        Raises:
            ArgumentError: When the film was refused.
        """
        if not self.findings:
            raise ArgumentError(
                f"There is no answer that {what} could hold: the film was refused. Save the PDF, "
                "which says why."
            )
