"""What was measured of a model's explanations, and what that allows to be said under a map.

`models/NAME/explanations.json` is made by `python -m cxr_core faithfulness` and read by the
screens; nothing here needs the films, the network or TensorFlow. It holds

    model, version, digest   what was measured (the card's version, SHA-256 of model.keras)
    date, command            when, and what measures it again
    data, part, films, seed  the folder's name, the part of the split, distinct films, the draw
    sister                   the model whose maps were compared for repeatability, or null
    settings                 how (see `Settings`)
    notes                    what the reader should be told, one sentence each
    entries                  one for each method and label (see `Measured`)

An interval is a number and `..._ci`, its 95 % bounds. Verdicts and their reasons are written
into the file for whoever reads it without this module; read back they follow from the numbers.

*Faithful* asks whether the score depends on what a map marks. The film is cut into cells;
cells are exchanged for those of a blurred film in the order of the map (deletion), and the
other way round (insertion), and the explained logit is followed. Gains are areas between the
map's curve and that of another order on the same film, in logits; above 0 the map is better.
Deletion and insertion must each alone be better, with the whole interval, than random orders and
than from the centre outwards. This is strict: an order that leaves many borders between sharp
and blurred cells, as a random one does, moves the logit by these alone, alike in both curves,
which counts for it in one and against it in the other.
*Points* asks whether the map's peak lies in boxes that readers drew, more often than a fixed
point does that was chosen from the other films' boxes and looks at no film.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_core.errors import DataError
from cxr_core.evaluation import plain
from cxr_core.ranking import NO_INTERVAL, Interval

# Verdicts, a closed set.
FAITHFUL = "faithful"
NO_BETTER_THAN_CENTRE = "no better than the centre"
NO_BETTER_THAN_CHANCE = "no better than chance"
POINTS = "points"
DO_NOT_LOCALISE = "do not use to localise"
DEPENDS = "depends on the weights"
IGNORES = "does not depend on the weights"
NOT_ASSESSABLE = "not assessable"
VERDICTS = (
    *(FAITHFUL, NO_BETTER_THAN_CENTRE, NO_BETTER_THAN_CHANCE),
    *(POINTS, DO_NOT_LOCALISE, DEPENDS, IGNORES, NOT_ASSESSABLE),
)

LEAST_BOXES = 20  # fewer say nothing of where a map points
LEAST_FILMS = 8  # fewer say nothing of how the score follows a map
# With all weights shuffled, a map must have lost at least half of its likeness to the original.
LIKE = 0.5

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the measurements were made.

    Attributes:
        grid: Cells on a side, in which films are changed and maps are ranked.
        steps: Exchanges from one end of a curve to the other; curves have one point more.
        replaced_by: What takes a deleted cell's place.
        scale: Of the curves.
        random_orders: Random orders averaged for each film.
        mask: What of a map counts as its region for the IoU.
        rounds: Of the bootstrap over films.
    """

    grid: int
    steps: int
    replaced_by: str
    scale: str
    random_orders: int
    mask: str
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Gain:
    """One kind of curve, averaged over films; each has `steps` + 1 points of the logit.

    Attributes:
        method: In the order of the map.
        random: In random order, on the same films.
        centre: From the centre of the film outwards.
        over_random: Area by which the map's order does better, mean over films, in logits.
        over_centre: The same against the centre-first order.
    """

    method: tuple[float, ...]
    random: tuple[float, ...]
    centre: tuple[float, ...]
    over_random: Interval
    over_centre: Interval


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """Whether the score depends on what the maps mark.

    Attributes:
        films: Measured.
        flagged: Of these, flagged by the model.
        deletion: Removing what is marked: the lower the curve, the better.
        insertion: Showing only what is marked: the higher, the better.
    """

    films: int
    flagged: int
    deletion: Gain
    insertion: Gain

    @property
    def verdict(self) -> str:
        """Return what the curves allow to be said."""
        return self._judged()[0]

    @property
    def reason(self) -> str:
        """Return why, as a sentence."""
        return self._judged()[1]

    def _judged(self) -> tuple[str, str]:
        if self.films < LEAST_FILMS:
            return NOT_ASSESSABLE, f"Measured on {self.films} films only."
        alone = {"deletion": self.deletion, "insertion": self.insertion}
        weak = [name for name, gain in alone.items() if not _above(gain.over_random)]
        if weak:
            return NO_BETTER_THAN_CHANCE, f"By {_joined(weak)} not better than in random order."
        weak = [name for name, gain in alone.items() if not _above(gain.over_centre)]
        if weak:
            return (
                NO_BETTER_THAN_CENTRE,
                f"Better than in random order, by {_joined(weak)} not better than centre first.",
            )
        return FAITHFUL, "By deletion and by insertion better than at random and centre first."


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """Whether the maps' peaks lie where readers drew the finding.

    Attributes:
        boxes: Drawn for the label.
        films: That have them; a hit is a peak inside any box of its film.
        flagged: Of these, flagged by the model; None, as all that follows, with fewer than 20
            boxes.
        hits: Of the method.
        pointing: Their share, Wilson interval.
        centre_hits: Of the film's centre.
        point_hits: Of the best fixed point, for each film chosen from the other films' boxes.
        over_point: Share of films hit less that of the better floor, bootstrap over films.
        iou: Mean overlap of the map's region with the boxes, intersection over union.
        box_iou: Of the best fixed box, chosen as the point.
        over_box: Mean of the differences.
    """

    boxes: int
    films: int
    flagged: int | None = None
    hits: int | None = None
    pointing: Interval | None = None
    centre_hits: int | None = None
    point_hits: int | None = None
    over_point: Interval | None = None
    iou: Interval | None = None
    box_iou: float | None = None
    over_box: Interval | None = None

    @property
    def floor(self) -> int | None:
        """Return how many films the better of both points hits without looking at a film."""
        if self.centre_hits is None or self.point_hits is None:
            return None
        return max(self.centre_hits, self.point_hits)

    @property
    def verdict(self) -> str:
        """Return what the boxes allow to be said."""
        if self.hits is None:
            return NOT_ASSESSABLE
        return POINTS if self.over_point and _above(self.over_point) else DO_NOT_LOCALISE

    @property
    def reason(self) -> str:
        """Return why, as a sentence."""
        if self.hits is None or self.over_point is None:
            return f"n = {self.boxes} {'box' if self.boxes == 1 else 'boxes'}."
        fixed = "the centre" if self.floor == self.centre_hits else "a fixed point"
        told = f"Hits {self.hits} of {self.films} films; {fixed} hits {self.floor}"
        if self.verdict == DO_NOT_LOCALISE and (self.over_point.value or 0) > 0:
            return f"{told}, and chance alone may explain the difference."
        return f"{told}."


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How much a map is like the original after shuffling weights from the top down.

    Attributes:
        layers: Layers with weights, shuffled so far.
        down_to: The lowest of them, by name.
        similarity: Mean rank correlation with the original map, -1 to 1, over the films whose two
            maps can be compared.
        flat: Films of which a map is empty, so that nothing can be compared; None in records
            from before these were counted apart, where each of them counts as 0.
    """

    layers: int
    down_to: str
    similarity: Interval
    flat: int | None = None

    def not_compared(self, films: int) -> int:
        """Return of how many of the films nothing could be compared."""
        if self.flat is not None:
            return self.flat
        # Correlations of maps are never 0 on all films alike.
        return films if self.similarity == Interval(0, 0, 0) else 0

    def likeness(self, films: int) -> Interval:
        """Return the similarity; none where not one of the films could be compared."""
        return NO_INTERVAL if self.not_compared(films) == films else self.similarity


@dataclass(frozen=True, kw_only=True)
class Randomisation:
    """Cascading weight randomisation (Adebayo et al., NeurIPS 2018, arXiv:1810.03292)."""

    films: int
    stages: tuple[Stage, ...]

    @property
    def verdict(self) -> str:
        """Say whether the map falls with the weights."""
        if not self.stages or self.stages[-1].similarity.value is None:
            return NOT_ASSESSABLE
        if 2 * self.stages[-1].not_compared(self.films) > self.films:
            return NOT_ASSESSABLE
        return DEPENDS if self.stages[-1].similarity.value < LIKE else IGNORES

    @property
    def reason(self) -> str:
        """Return why, as a sentence."""
        if self.verdict == NOT_ASSESSABLE:
            return self._not_compared()
        last = self.stages[-1].similarity.value
        return (
            f"With all weights shuffled the maps keep a rank correlation of {last:.2f} with the "
            f"originals; {LIKE} is the most allowed."
        )

    def _not_compared(self) -> str:
        """Say why nothing can be said."""
        counts = [stage.not_compared(self.films) for stage in self.stages]
        if not counts or not counts[-1]:
            return "Not measured."
        if min(counts) == self.films:
            return "The maps are empty."
        films = "" if counts[-1] == self.films else f" of {counts[-1]} of {self.films} films"
        return f"The maps of shuffled weights{films} are empty."


@dataclass(frozen=True, kw_only=True)
class Repeatability:
    """How like the maps are that another model of the same kind gives of the same films.

    Attributes:
        films: Measured.
        similarity: Mean rank correlation of both maps, -1 to 1; as in `Stage`.
        flat: As in `Stage`.
    """

    films: int
    similarity: Interval
    flat: int | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that is known of one method's maps of one label; None is not measured.

    Attributes:
        method: As `attribution.list_methods` names it.
        label: Which answer is explained, always what speaks for it.
        faithfulness: On a sample of test films, flagged and not.
        localisation: On the test films with boxes; None for data without any.
        randomisation: On a few of the films.
        repeatability: Against the sister model.
    """

    method: str
    label: str
    faithfulness: Faithfulness | None = None
    localisation: Localisation | None = None
    randomisation: Randomisation | None = None
    repeatability: Repeatability | None = None

    @property
    def sentence(self) -> str:
        """Say in one short sentence how far a map can be trusted."""
        parts = [_place_in_words(self.localisation), _score_in_words(self.faithfulness)]
        if self.randomisation and self.randomisation.verdict == IGNORES:
            parts.append("looks alike with shuffled weights")
        told = "; ".join(filter(None, parts))
        return f"{told[:1].upper()}{told[1:]}." if told else NOT_MEASURED


NOT_MEASURED = "Not measured on this finding."
_IN_WORDS = {
    FAITHFUL: "faithful to the score",
    NO_BETTER_THAN_CENTRE: "no more faithful to the score than the centre of the film",
    NO_BETTER_THAN_CHANCE: "no more faithful to the score than chance",
}


def _place_in_words(found: Localisation | None) -> str:
    if found is None:
        return "localisation not assessable (no boxes)"
    if found.verdict == NOT_ASSESSABLE:
        return f"localisation {NOT_ASSESSABLE} ({found.reason.rstrip('.')})"
    fixed = "the centre" if found.floor == found.centre_hits else "a fixed point"
    return f"{found.verdict} (hits {found.hits} of {found.films} films, {fixed} {found.floor})"


def _score_in_words(found: Faithfulness | None) -> str:
    if found is None:
        return ""
    unknown = f"faithfulness {NOT_ASSESSABLE} (n = {found.films} films)"
    return _IN_WORDS.get(found.verdict, unknown)


@dataclass(frozen=True, kw_only=True)
class ExplanationReport:
    """The report card of a model's explanations; explanations.json.

    Attributes are those of the file (see the module).
    """

    model: str
    version: str
    digest: str
    date: str
    command: str
    data: str
    part: str
    films: int
    seed: int
    sister: str | None
    settings: Settings
    notes: tuple[str, ...]
    entries: tuple[Measured, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Name the methods that were measured, in the order of the file."""
        return tuple(dict.fromkeys(entry.method for entry in self.entries))

    @property
    def labels(self) -> tuple[str, ...]:
        """Name the labels that were measured, in the order of the file."""
        return tuple(dict.fromkeys(entry.label for entry in self.entries))

    def entry(self, method: str, label: str) -> Measured | None:
        """Return what is known of one method's maps of one label; None when nothing is."""
        for entry in self.entries:
            if (entry.method, entry.label) == (method, label):
                return entry
        return None

    def verdict(self, method: str, label: str) -> str:
        """Say in one short sentence, for under a map, how far it can be trusted."""
        entry = self.entry(method, label)
        return NOT_MEASURED if entry is None else entry.sentence

    def to_json(self) -> dict[str, Any]:
        """Return the object that explanations.json holds, numbers to five decimals."""
        values = _rounded(plain(self))
        for written, entry in zip(values["entries"], self.entries, strict=True):
            for name in ("faithfulness", "localisation", "randomisation"):
                part = getattr(entry, name)
                if part is not None:
                    written[name] |= {"verdict": part.verdict, "reason": part.reason}
            written["sentence"] = entry.sentence
        return dict(values)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Restore what `to_json` wrote.

        Raises:
            DataError: When a key is missing or holds something else.
        """
        try:
            return _restore(cls, values)
        except (KeyError, TypeError, AttributeError, ValueError) as problem:
            raise DataError(
                f"This is no record of explanations ({problem!r}). Measure them again: "
                "python -m cxr_core faithfulness --model NAME --data FOLDER."
            ) from problem


def areas(curves: ArrayLike) -> NDArray[np.float64]:
    """Return the areas under curves (..., P) whose points lie evenly from 0 to 1: (...)."""
    values = np.asarray(curves, np.float64)
    return np.asarray((values[..., 1:] + values[..., :-1]).mean(axis=-1) / 2)


def _joined(kinds: Sequence[str]) -> str:
    return " and by ".join(kinds)


def _above(interval: Interval) -> bool:
    """Say whether a difference is above 0 with its whole interval."""
    return interval.low is not None and interval.low > 0


_PARTS: dict[str, type[Any]] = {
    "settings": Settings,
    "entries": Measured,
    "faithfulness": Faithfulness,
    "localisation": Localisation,
    "randomisation": Randomisation,
    "repeatability": Repeatability,
    "deletion": Gain,
    "insertion": Gain,
    "stages": Stage,
}
# What older records lack.
_LATER: dict[str, Any] = {"flat": None}


def _restore(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Undo `plain`; what was written for readers alone is left out."""
    known = {**_LATER, **values}
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: _value(name, known) for name in names})


def _value(name: str, values: Mapping[str, Any]) -> Any:
    value, part = values[name], _PARTS.get(name)
    if f"{name}_ci" in values:
        return Interval(value, *(values[f"{name}_ci"] or (None, None)))
    if part is not None and value is not None:
        several = isinstance(value, list)
        return tuple(_restore(part, one) for one in value) if several else _restore(part, value)
    return tuple(value) if isinstance(value, list) else value


def _rounded(value: Any) -> Any:
    """Keep five decimals: more is noise, and the file holds thousands of numbers."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value
