"""What validation films decide: how probabilities are made, where they flag, what is promised.

All of it follows from one table, `validation.csv` in a model's folder: what the network said
of each film that chose, as it is and as other units might have taken it. Neither films nor
network are needed to decide again.
"""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.calibration import (
    Calibration,
    cannot_tell_band,
    choose_calibration,
    operating_point,
    out_of_fold,
    probabilities,
)
from cxr_core.cards import ModelCard
from cxr_core.errors import ArgumentError
from cxr_core.evaluation import brier, ece, log_loss, threshold_report
from cxr_core.mistakes import Coverage
from cxr_core.predictions import PredictionTable, evaluate_table, write_predictions
from cxr_core.ranking import auroc
from cxr_core.recipes import Recipe

VALIDATION = "validation.csv"  # in a model's folder
PLAIN, PERTURBED = "plain", "perturbed"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class ValidationTable:
    """What a network said of the films that choose, each once or more.

    Attributes:
        files: N file names; copies of a film share its name.
        patients: N patients; the file where they are unknown.
        copies: N times "plain" (the film as it is) or "perturbed".
        labels: K names.
        y_true: (N, K) of 0 and 1, int8.
        logits: (N, K), float32, before the activation.
    """

    files: tuple[str, ...]
    patients: tuple[str, ...]
    copies: tuple[str, ...]
    labels: tuple[str, ...]
    y_true: NDArray[np.int8]
    logits: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check that everything fits together.

        Raises:
            ArgumentError: On columns of different length, or a copy of another kind.
        """
        names = (self.files, self.patients, self.copies)
        shape = (len(self.files), len(self.labels))
        if {*map(len, names)} != {shape[0]} or {self.y_true.shape, self.logits.shape} != {shape}:
            raise ArgumentError(
                f"files, patients and copies must be as many as the rows of y_true and logits, "
                f"(films, {shape[1]}), but {', '.join(str(len(column)) for column in names)}, "
                f"{self.y_true.shape} and {self.logits.shape} came."
            )
        odd = set(self.copies) - {PLAIN, PERTURBED}
        if odd:
            raise ArgumentError(f"copies must be '{PLAIN}' or '{PERTURBED}', but {odd} came.")

    def rows(self, copy: str) -> NDArray[np.bool_]:
        """Say which rows (N,) are of one kind of copy."""
        return np.array([one == copy for one in self.copies], bool)


def write_validation(path: Path, table: ValidationTable) -> None:
    """Write a table so that `read_validation` restores every digit."""
    columns: dict[str, Any] = {
        "file": table.files,
        "patient": table.patients,
        "copy": table.copies,
    }
    for k, label in enumerate(table.labels):
        columns[f"true_{label}"] = table.y_true[:, k].tolist()
        columns[f"logit_{label}"] = map(str, table.logits[:, k])  # the shortest exact digits
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def read_validation(path: Path) -> ValidationTable:
    """Read what `write_validation` wrote.

    Raises:
        OSError: When the file cannot be read.
        ValueError: When a cell or a column is not as it must be.
    """
    with path.open(newline="", encoding="utf-8") as lines:
        titles, *rows = csv.reader(lines, strict=True)
    columns = dict(zip(titles, zip(*rows, strict=True), strict=True))
    labels = tuple(title.removeprefix("true_") for title in titles if title.startswith("true_"))
    return ValidationTable(
        files=columns["file"],
        patients=columns["patient"],
        copies=columns["copy"],
        labels=labels,
        y_true=np.array([columns[f"true_{label}"] for label in labels]).astype(np.int8).T,
        logits=np.array([columns[f"logit_{label}"] for label in labels]).astype(np.float32).T,
    )


@dataclass(frozen=True)
class Decision:
    """What validation films decided.

    Attributes:
        calibration: How probabilities are made.
        operating_points: Where each label flags, or None.
        cannot_tell: In which band of probabilities neither answer is safe enough, or None.
        record: What the operating points do to plain and to perturbed validation films.
        reliability: How honest the probabilities of each label are on validation films,
            "before" calibration and "after", by curves that the films did not fit.
    """

    calibration: Calibration
    operating_points: tuple[float | None, ...]
    cannot_tell: tuple[tuple[float, float] | None, ...]
    record: dict[str, Any]
    reliability: dict[str, Any]


def decide(table: ValidationTable, recipe: Recipe) -> Decision:
    """Choose calibration, operating points and cannot-tell bands on validation films.

    Each film counts as it is and as other units might have taken it: plain validation
    films are easier than the next hospital's, and a threshold taken from them alone
    would call too many normal films abnormal, or miss too many that are not. A label of
    which validation holds one kind of film only gets neither. One that could reach its
    sensitivity only by flagging most films gets no operating point where the recipe says so.
    """
    truth, patients, activation = table.y_true, table.patients, recipe.activation
    chosen = choose_calibration(table.logits, truth, patients, activation)
    calibration = replace(chosen, films=len(set(table.files)))
    scores = probabilities(table.logits, calibration, activation)
    bare = probabilities(table.logits, Calibration(), activation)
    honest = out_of_fold(table.logits, truth, patients, calibration, activation)
    points = _points(table, scores, calibration, recipe)
    return Decision(
        calibration,
        points,
        tuple(
            _band(table, scores[:, k], k, point, activation == "softmax")
            for k, point in enumerate(points)
        ),
        _record(table, scores, points),
        reliability(table.labels, truth, bare, honest),
    )


def _band(
    table: ValidationTable, scores: Floats, k: int, point: float | None, exclusive: bool
) -> tuple[float, float] | None:
    """Choose one label's band so that what lies outside it is told as its flag says.

    Below the band a film is told no, above it yes. So the band holds the operating point; or
    goes up to 1 where nothing is ever flagged; or, of several labels of which the largest
    wins, from what is never the largest to what always is.
    """
    if not _both(table, k):
        return None
    reach = (1 / len(table.labels), 0.5) if exclusive else (1.0 if point is None else point,)
    return cannot_tell_band(table.y_true[:, k], scores, table.patients, reach=reach)


def _both(table: ValidationTable, k: int) -> bool:
    """Say whether there are films with and without a label."""
    return 0 < int(table.y_true[:, k].sum()) < len(table.files)


def _points(
    table: ValidationTable, scores: Floats, calibration: Calibration, recipe: Recipe
) -> tuple[float | None, ...]:
    """Choose each label's operating point by the recipe's rule."""
    labels = range(len(table.labels))
    if recipe.activation == "softmax":
        return (None,) * len(labels)
    if recipe.sensitivity is None:  # a source's 0.5, wherever calibration has moved it
        halves = probabilities(np.zeros(len(labels)), calibration, recipe.activation).tolist()
        return tuple(halves[k] if _both(table, k) else None for k in labels)
    return tuple(
        _point(table, scores[:, k], k, recipe) if _both(table, k) else None for k in labels
    )


def _point(table: ValidationTable, scores: Floats, k: int, recipe: Recipe) -> float | None:
    """Choose the operating point of one label, unless it would flag too many."""
    truth, plain = table.y_true[:, k], table.rows(PLAIN)
    point = operating_point(truth, scores, sensitivity=recipe.sensitivity or 0.0)
    spared = threshold_report(truth[plain], scores[plain], point).specificity.value
    return point if spared is None or spared >= recipe.least_specificity else None


def _record(
    table: ValidationTable, scores: Floats, points: tuple[float | None, ...]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Say what the operating points do to plain and to perturbed validation films."""
    told: dict[str, dict[str, dict[str, float | None]]] = {}
    for copy in (PLAIN, PERTURBED):
        rows = table.rows(copy)
        for k, (label, point) in enumerate(zip(table.labels, points, strict=True)):
            if point is None or not rows.any():
                continue
            report = threshold_report(table.y_true[rows, k], scores[rows, k], point)
            told.setdefault(copy, {})[label] = {
                "auroc": auroc(table.y_true[rows, k], scores[rows, k]).value,
                "sensitivity": report.sensitivity.value,
                "specificity": report.specificity.value,
            }
    return told


def reliability(
    labels: Sequence[str], y_true: NDArray[Any], before: Floats, after: Floats
) -> dict[str, dict[str, dict[str, float]]]:
    """Measure how honest each label's probabilities are, before and after calibration.

    Args:
        labels: K names.
        y_true: (N, K) of 0 and 1.
        before: (N, K) in [0, 1].
        after: (N, K) in [0, 1].
    """
    measures = {"ece": ece, "brier": brier, "log_loss": log_loss}
    return {
        label: {
            when: {name: measure(y_true[:, k], scores[:, k]) for name, measure in measures.items()}
            for when, scores in (("before", before), ("after", after))
        }
        for k, label in enumerate(labels)
    }


def operating_rule(recipe: Recipe) -> str:
    """Say in words how operating points are chosen."""
    if recipe.activation == "softmax":
        return "The largest probability."
    if recipe.sensitivity is None:
        return (
            "Probability 0.5 before calibration, as the source of this recipe did; nothing was "
            "chosen."
        )
    copies = recipe.config.perturbed_copies
    again = (
        f" and {copies} times perturbed as other X-ray units would (tone, contrast, blur, noise, "
        "borders)"
        if copies
        else ""
    )
    spared = (
        f"; none where less than {recipe.least_specificity:.2f} of validation films without the "
        "finding would stay unflagged"
        if recipe.least_specificity
        else ""
    )
    return (
        f"The highest threshold with sensitivity of at least {recipe.sensitivity:g} on validation "
        f"films, each once as it is{again}{spared}; "
        f"{recipe.rule_changed or 'fixed before any test film was scored'}."
    )


# --- what a decided model is registered with ---


def logits_behind(card: ModelCard, table: PredictionTable) -> Floats:
    """Return the logits (N, K) behind a table of scores; for softmax up to a constant per film.

    Where a score was rounded to 0 or 1, the nearest logit that is not.
    """
    scores = np.clip(table.y_score, np.finfo(float).tiny, 1 - np.finfo(float).epsneg)
    scores = np.log(scores) - (np.log1p(-scores) if card.activation == "sigmoid" else 0)
    curves = card.calibration.curves
    if card.activation == "softmax" or not curves:
        return curves[0].inverse(scores) if curves else scores
    return np.stack([curve.inverse(scores[:, k]) for k, curve in enumerate(curves)], axis=1)


def version_of(before: bytes, decision: Decision) -> str:
    """Name a version by the day, and by all that makes a model's answers.

    Args:
        before: Its weights, or the version whose weights these are.
        decision: What was decided for them.
    """
    parts = (decision.calibration.to_json(), decision.operating_points, decision.cannot_tell)
    digest = hashlib.sha256(before + json.dumps(parts).encode()).hexdigest()
    return f"{datetime.now(UTC).date().isoformat()}-{digest[:8]}"


def write_record(
    folder: Path,
    card: ModelCard,
    table: PredictionTable,
    bare: Floats,
    held: Sequence[Coverage],
) -> None:
    """Write what a model scored on its test films, and its card with what follows from that.

    Args:
        folder: Of the bundle.
        card: The model's; what is measured on test films is added to its facts.
        table: Its scores.
        bare: (N, K) in [0, 1], the same without any calibration.
        held: Whether its cannot-tell bands kept their promise there.
    """
    exclusive = card.activation == "softmax"
    report = evaluate_table(table, card.operating_points, model=card.name, exclusive=exclusive)
    card.training["reliability"] |= {
        "test": reliability(card.labels, table.y_true, bare, table.y_score)
    }
    card.training["cannot_tell_on_test"] = [one.to_json() for one in held]
    write_predictions(folder / "predictions.csv", table)
    for name, value in (("evaluation", report), ("card", card)):
        text = json.dumps(value.to_json(), indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", "utf-8")
