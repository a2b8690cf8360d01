"""Bundles of made predictions: a record to look at, without a film and without a network."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cxr_core.calibration import Calibration
from cxr_core.cards import ModelCard
from cxr_core.evaluation import EvaluationReport
from cxr_core.predictions import PredictionTable, evaluate_table, write_predictions
from cxr_core.preprocess import Preprocessing

# What four groups of films hold, by construction: score, truth, films.
KNOWN = ((0.2, 0, 215), (0.7, 0, 19), (0.3, 1, 30), (0.9, 1, 360))
# Of pairs of a film with and one without, those at 0.9 win all, those at 0.3 against 0.2.
KNOWN_AUROC = (360 * 234 + 30 * 215) / (390 * 234)


def known_table() -> PredictionTable:
    """624 films whose matrix is ((215, 19), (30, 360)) from 0.31 to 0.70."""
    scores = [score for score, _, films in KNOWN for _ in range(films)]
    truth = [truth for _, truth, films in KNOWN for _ in range(films)]
    return table_of(("Pneumonia",), np.array([truth]).T, np.array([scores]).T)


def table_of(
    labels: Sequence[str], truth: np.ndarray, scores: np.ndarray, **more: object
) -> PredictionTable:
    """Name the films of (N, K) truths and scores; each patient has two."""
    films = range(len(truth))
    return PredictionTable(
        files=tuple(f"test/film{k:05}.png" for k in films),
        patients=tuple(f"p{k // 2:05}" for k in films),
        labels=tuple(labels),
        y_true=truth,
        y_score=scores,
        split="test",
        **more,
    )


def random_table(
    labels: Sequence[str], films: int, seed: int = 0, **more: object
) -> PredictionTable:
    """Films of which each finding is rarer than the one before, and scores that know of it."""
    random = np.random.default_rng(seed)
    shares = 0.4 / np.arange(1, len(labels) + 1)
    truth = (random.random((films, len(labels))) < shares).astype(np.int8)
    truth[0], truth[1] = 0, 1  # both kinds of every finding
    scores = 1 / (1 + np.exp(-(random.normal(size=truth.shape) + 2 * truth - 1.5)))
    return table_of(labels, truth, scores.round(4), **more)


def write_bundle(
    root: Path,
    name: str,
    table: PredictionTable,
    points: Sequence[float | None],
    *,
    exclusive: bool = False,
    **training: object,
) -> EvaluationReport:
    """Write a bundle without weights; its report is the core's."""
    folder = root / name
    folder.mkdir(parents=True)
    facts = {
        "films": 1000,
        "validation_films": 200,
        "best_epoch": 2,
        "patients_known": True,
        "in_two_parts": 0,
    }
    card = replace(
        CARD,
        name=name,
        labels=table.labels,
        activation="softmax" if exclusive else "sigmoid",
        operating_points=tuple(points),
        cannot_tell=(None,) * len(points),
        training=facts | training,
    )
    report = evaluate_table(table, card.operating_points, model=name, exclusive=exclusive)
    (folder / "card.json").write_text(json.dumps(card.to_json()))
    (folder / "evaluation.json").write_text(json.dumps(report.to_json()))
    write_predictions(folder / "predictions.csv", table)
    with (folder / "history.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("loss", "validation_loss", "validation_auroc", "learning_rate"))
        writer.writerows(((0.6, 0.7, 0.8, 0.001), (0.4, 0.5, 0.9, 0.001), (0.3, 0.6, 0.85, 0.0005)))
    return report


CARD = ModelCard(
    name="made",
    labels=("Pneumonia",),
    activation="sigmoid",
    preprocessing=Preprocessing(size=64),
    operating_points=(0.5,),
    operating_rule="By hand.",
    cannot_tell=(None,),
    calibration=Calibration(),
    network="residual",
    recipe="pediatric-pneumonia",
    training={},
    data_digest="0" * 64,
    data="None.",
    intended_use="Tests.",
    not_for=("Anything else.",),
    age_range=None,
    views=("AP", "PA"),
    limits=("Everything.",),
    version="1",
    created="2026-01-01",
)
