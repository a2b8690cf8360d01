"""What the films of a site decide by the card's own rule, cross-validated by patient."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from cxr_core.calibration import FOLDS, Calibration, Curve, probabilities
from cxr_core.cards import ModelCard
from cxr_core.datasets import Film, split_by_patient
from cxr_core.decisions import Decision, ValidationTable, decide
from cxr_core.evaluation import EvaluationReport
from cxr_core.local_check.honesty import SUREST
from cxr_core.mistakes import Coverage, coverage
from cxr_core.predictions import PredictionTable, evaluate_table
from cxr_core.ranking import Flags, Floats
from cxr_core.recipes import Recipe, get_recipe

SITE = "site"  # the split that such films are of


@dataclass(frozen=True, eq=False, kw_only=True)
class Suggestion:
    """What the films of a site decide, and how that does on them.

    Attributes:
        labels: Those of which there are films enough; the others stay as shipped.
        decision: Of all labels of the model.
        table: Scores of the films, each by what films of other patients decide. A score between
            that operating point and the decision's is told at the latter, so that flags are
            those of films that did not choose them.
        report: On that table.
        held: Whether cannot-tell bands kept their promise, for films that did not choose them.
    """

    labels: tuple[str, ...]
    decision: Decision
    table: PredictionTable
    report: EvaluationReport
    held: tuple[Coverage, ...]


def scored(table: ValidationTable, scores: Floats) -> PredictionTable:
    """Join films with their scores (N, K)."""
    return PredictionTable(
        files=table.files,
        patients=table.patients,
        labels=table.labels,
        y_true=table.y_true,
        y_score=scores,
        split=SITE,
    )


def suggest(
    card: ModelCard,
    table: ValidationTable,
    shipped: PredictionTable,
    enough: tuple[int, ...],
    held: tuple[Coverage, ...],
) -> Suggestion:
    """Let films decide for the labels of which there are enough, and cross-validate that.

    Args:
        card: The model's.
        table: The films.
        shipped: Their scores by the model as it is.
        enough: Which labels.
        held: How the shipped bands did.
    """
    recipe, exclusive = rule(card, table), card.activation == "softmax"
    decision = _joined(card, decide(_of(table, enough), recipe), enough)
    scores, promises = shipped.y_score.copy(), {one.label: one for one in held}
    for columns in [enough] if exclusive else [(k,) for k in enough]:
        found, flags, kept = _cross_validated(_of(table, columns), recipe)
        points = [decision.operating_points[k] for k in columns]
        scores[:, columns] = _told_at(found, flags, points)
        promises |= {one.label: one for one in kept}
    anew = replace(shipped, y_score=scores)
    return Suggestion(
        labels=tuple(card.labels[k] for k in enough),
        decision=decision,
        table=anew,
        report=evaluate_table(anew, decision.operating_points, exclusive=exclusive),
        held=tuple(promises[label] for label in card.labels if label in promises),
    )


def rule(card: ModelCard, table: ValidationTable) -> Recipe:
    """Return the model's recipe, whose rule is kept; films of the site are not perturbed."""
    recipe, films = get_recipe(card.recipe), f"{len(table.files)} of a site"
    return replace(
        recipe,
        config=replace(recipe.config, perturbed_copies=0),
        rule_changed=f"validation films here are {films}, which did not choose the weights",
    )


def _joined(card: ModelCard, decision: Decision, enough: tuple[int, ...]) -> Decision:
    """Return a decision on all labels: the films' where there are enough, else the card's."""
    if card.activation == "softmax":
        return decision
    fitted, own = decision.calibration, card.calibration
    curves = list(own.curves or (Curve(),) * len(card.labels))
    prevalence = list(own.prevalence)
    points, bands = list(card.operating_points), list(card.cannot_tell)
    for place, k in enumerate(enough):
        curves[k] = fitted.curves[place]
        points[k], bands[k] = decision.operating_points[place], decision.cannot_tell[place]
        if prevalence:
            prevalence[k] = fitted.prevalence[place]
    if len(enough) == len(card.labels):
        prevalence = list(fitted.prevalence)
    calibration = Calibration(tuple(curves), fitted.films, tuple(prevalence))
    return replace(
        decision,
        calibration=calibration,
        operating_points=tuple(points),
        cannot_tell=tuple(bands),
    )


def _of(table: ValidationTable, columns: Sequence[int]) -> ValidationTable:
    """Return some labels of a table."""
    at = list(columns)
    labels = tuple(table.labels[k] for k in at)
    return replace(table, labels=labels, y_true=table.y_true[:, at], logits=table.logits[:, at])


def _some(table: ValidationTable, rows: Flags) -> ValidationTable:
    """Return some films of a table."""
    at = np.flatnonzero(rows).tolist()
    return replace(
        table,
        files=tuple(table.files[k] for k in at),
        patients=tuple(table.patients[k] for k in at),
        copies=tuple(table.copies[k] for k in at),
        y_true=table.y_true[at],
        logits=table.logits[at],
    )


def _cross_validated(
    table: ValidationTable, recipe: Recipe
) -> tuple[Floats, Flags, tuple[Coverage, ...]]:
    """Return scores and flags (N, K), and kept promises, each by films of other patients."""
    exclusive = recipe.activation == "softmax"
    scores, flags = np.zeros(table.y_true.shape), np.zeros(table.y_true.shape, bool)
    kept: dict[str, Coverage] = {}
    for here in _folds(table):
        decision, part = decide(_some(table, ~here), recipe), _some(table, here)
        scores[here] = probabilities(part.logits, decision.calibration, recipe.activation)
        points = [np.inf if point is None else point for point in decision.operating_points]
        flags[here] = scores[here] >= np.array(points)
        bands = (decision.operating_points, decision.cannot_tell)
        for one in coverage(scored(part, scores[here]), *bands, exclusive=exclusive):
            kept[one.label] = _sum(one, kept.get(one.label))
    return scores, flags, tuple(kept.values())


def _folds(table: ValidationTable) -> list[Flags]:
    """Deal films to folds, each patient to one, so that each gets its share of every kind."""
    rows = zip(table.files, table.patients, table.y_true, strict=True)
    films = [
        Film(file, tuple(np.array(table.labels)[truth == 1].tolist()), patient, None, file)
        for file, patient, truth in rows
    ]
    shares = {str(k): 1 / FOLDS for k in range(FOLDS)}
    dealt = split_by_patient(films, shares, seed=0).values()
    names = [{film.file for film in part} for part in dealt if part]
    return [np.array([file in part for file in table.files]) for part in names]


def _told_at(scores: Floats, flags: Flags, points: Sequence[float | None]) -> Floats:
    """Move scores (N, K) no farther than to the operating point, so that it gives these flags."""
    told = scores.copy()
    for k, point in enumerate(points):
        if point is not None:
            below = np.minimum(scores[:, k], np.nextafter(point, 0))
            told[:, k] = np.where(flags[:, k], np.maximum(scores[:, k], point), below)
    return told


def _sum(one: Coverage, other: Coverage | None) -> Coverage:
    """Add the counts of two sets of films."""
    if other is None:
        return one
    counts = {name: value for name, value in asdict(other).items() if name != "label"}
    return replace(one, **{name: getattr(one, name) + value for name, value in counts.items()})


def as_shipped(card: ModelCard, decision: Decision) -> list[float | None]:
    """Return decided operating points as the probabilities that the model shows now."""
    if card.activation == "softmax":
        return [None] * len(card.labels)
    own = card.calibration.curves or (Curve(),) * len(card.labels)
    curves = zip(decision.operating_points, decision.calibration.curves, own, strict=True)
    return [None if point is None else _through(point, *both) for point, *both in curves]


def _through(probability: float, undone: Curve, done: Curve) -> float:
    """Return what a probability by one curve is by another."""
    sure = min(max(probability, SUREST), 1 - SUREST)
    logit = done(undone.inverse(np.log(sure / (1 - sure))))
    return float(0.5 * (1 + np.tanh(logit / 2)))
