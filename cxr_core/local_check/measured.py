"""How a model does on the films of a site, as it is and as they would decide."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr_core.calibration import probabilities
from cxr_core.cards import ModelCard
from cxr_core.decisions import ValidationTable
from cxr_core.evaluation import EvaluationReport, plain
from cxr_core.local_check.films import SiteFilms
from cxr_core.local_check.honesty import Line, honest_line
from cxr_core.local_check.suggestion import Suggestion, as_shipped, scored, suggest
from cxr_core.mistakes import Coverage, coverage
from cxr_core.predictions import FEW_OF_A_KIND, evaluate_table
from cxr_core.wording import spoken

# Fewer films, or fewer patients of either kind (`FEW_OF_A_KIND`), decide nothing.
ENOUGH = 50
# Films of either kind from which a check may be trusted: Vergouwe et al., Substantial effective
# sample sizes were required for external validation studies, J Clin Epidemiol 58, 2005.
ADVISED = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class LocalCheck:
    """What is known of a model on the films of a site.

    Attributes:
        card: The model's.
        films: The site's.
        report: The model as it is, on them.
        lines: How honest its probabilities are, one for each label.
        held: Whether its cannot-tell bands kept their promise.
        suggestion: What the films would decide instead; None where they are too few.
        notes: What cannot be said, and what was left out, a sentence each.
    """

    card: ModelCard
    films: SiteFilms
    report: EvaluationReport
    lines: tuple[Line, ...]
    held: tuple[Coverage, ...]
    suggestion: Suggestion | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the object that `check --json` prints."""
        counted = self.films.table
        return {
            "model": self.card.name,
            "version": self.card.version,
            "source": self.films.source,
            "films": len(counted.files),
            "patients": len(set(counted.patients)),
            "report": self.report.to_json(),
            "calibration": {
                label: plain(line) | {"holds": line.holds}
                for label, line in zip(self.card.labels, self.lines, strict=True)
            },
            "cannot_tell": [one.to_json() for one in self.held],
            "suggestion": _suggestion_json(self.card, self.suggestion) if self.suggestion else None,
            "notes": list(self.notes),
        }


def _suggestion_json(card: ModelCard, anew: Suggestion) -> dict[str, Any]:
    """Return what films decide, by label, as plain JSON values."""
    labels, decision = card.labels, anew.decision
    return {
        "labels": list(anew.labels),
        "operating_points": dict(zip(labels, decision.operating_points, strict=True)),
        "as_this_model_counts": dict(zip(labels, as_shipped(card, decision), strict=True)),
        "bands": dict(zip(labels, decision.cannot_tell, strict=True)),
        "calibration": decision.calibration.to_json(),
        "cross_validated": anew.report.to_json(),
        "cannot_tell": [one.to_json() for one in anew.held],
    }


def measure(card: ModelCard, films: SiteFilms) -> LocalCheck:
    """Say how a model does on the films of a site, and what they would decide instead."""
    table, exclusive = films.table, card.activation == "softmax"
    shipped = scored(table, probabilities(table.logits, card.calibration, card.activation))
    enough, lacking = _enough(table, exclusive)
    report = evaluate_table(shipped, card.operating_points, model=card.name, exclusive=exclusive)
    held = coverage(shipped, card.operating_points, card.cannot_tell, exclusive=exclusive)
    return LocalCheck(
        card=card,
        films=films,
        report=report,
        lines=tuple(
            honest_line(table.y_true[:, k], shipped.y_score[:, k], table.patients)
            for k in range(len(card.labels))
        ),
        held=held,
        suggestion=suggest(card, table, shipped, enough, held) if enough else None,
        notes=(*films.notes, *lacking, *report.notes),
    )


def _enough(table: ValidationTable, exclusive: bool) -> tuple[tuple[int, ...], list[str]]:
    """Return the labels of which films may decide, and say what the others lack."""
    films = len(table.files)
    if films < ENOUGH:
        return (), [
            f"{films} films came: from {ENOUGH} on, of at least {FEW_OF_A_KIND} patients with and "
            "without a finding, operating points can be suggested and a copy registered."
        ]
    patients = [_fewest(table, k, table.patients) for k in range(len(table.labels))]
    found = tuple(k for k, number in enumerate(patients) if number >= FEW_OF_A_KIND)
    few = [k for k in found if _fewest(table, k, table.files) < ADVISED]
    lacking = [k for k in range(len(table.labels)) if k not in found]
    notes = {
        f"Of fewer than {FEW_OF_A_KIND} patients with or without it nothing can be decided; so "
        f"nothing changes for {_listed(table, lacking)}.": lacking,
        f"{ADVISED} films with and {ADVISED} without a finding are advised; fewer came for "
        f"{_listed(table, few)}: read the intervals, not the numbers.": few,
    }
    told = [note for note, holds in notes.items() if holds]
    return (() if exclusive and lacking else found), told


def _fewest(table: ValidationTable, label: int, names: Sequence[str]) -> int:
    """Count the films, or patients, of the rarer kind of one label."""
    kinds = (np.array(names)[table.y_true[:, label] == value] for value in (0, 1))
    return min(len(np.unique(kind)) for kind in kinds)


def _listed(table: ValidationTable, labels: Iterable[int]) -> str:
    return ", ".join(spoken(table.labels[k]) for k in labels)
