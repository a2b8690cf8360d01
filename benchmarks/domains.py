"""What models say of films that they were not made for: why the gate asks for the age.

Test films only. Each model is asked without its gate and held against its own operating
point, as if somebody had not heeded what its card says.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cxr_core.cards import list_models
from cxr_core.classifier import load_classifier
from cxr_core.datasets import Film, index
from cxr_core.evaluation import LabelReport, evaluate
from cxr_core.parts import deal
from cxr_core.recipes import get_recipe
from cxr_core.screening import screen

# Model, its label, whose films, and which of their findings would be a hit.
TRIALS = (
    ("pediatric-pneumonia", "Pneumonia", "adults", "Pneumonia"),
    ("pediatric-pneumonia", "Pneumonia", "adults", "any finding"),
    ("adult-abnormality", "Abnormal", "children", "any finding"),
    ("covid-radiography", "COVID-19", "children", "any finding"),
)


def measure(data: Path) -> str | None:
    """Score each trial; needs the films."""
    known = {card.name for card in list_models()}
    folders = {"adults": data / "nih_chestxray14", "children": data / "pediatric_pneumonia"}
    if not all(folder.is_dir() for folder in folders.values()):
        return None
    lines = [
        "| model | on test films of | films | held against | AUROC | flagged of films with it | "
        "flagged of films without it |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    films = {name: _test_films(folder) for name, folder in folders.items()}
    told = {
        (model, whose): _scores(model, label, folders[whose], films[whose])
        for model, label, whose in dict.fromkeys(trial[:3] for trial in TRIALS)
        if model in known
    }
    for model, label, whose, finding in TRIALS:
        if model not in known:
            continue
        scores, point = told[model, whose]
        truth = [
            finding in film.findings or (finding == "any finding" and bool(film.findings))
            for film in films[whose]
        ]
        report = evaluate(
            np.array(truth)[:, None], scores[:, None], [label], operating_points=[point]
        ).labels[0]
        lines.append(f"| {model} | {whose} | {report.n} | {finding} | {_cells(report)} |")
    return "\n".join(lines)


def _test_films(folder: Path) -> tuple[Film, ...]:
    """Return the published test films, or those that the adult models were not trained on.

    The COVID-19 model is not asked about the NIH films: some of its own may be of the same
    patients.
    """
    dataset = index(folder)
    if any(film.split for film in dataset.films):
        return tuple(film for film in dataset.films if film.split == "test")
    return deal(dataset, get_recipe("adult-abnormality"), 0)["test"]


def _scores(
    model: str, label: str, folder: Path, films: Iterable[Film]
) -> tuple[np.ndarray, float | None]:
    """Return the calibrated probabilities (N,) of one label, and its operating point."""
    classifier = load_classifier(model)
    files = [str(folder / film.file) for film in films]
    answers = [answer.to_json(model) for answer in screen(classifier, files, gate=False)]
    told = [
        next(each["probability"] for each in answer["predictions"] if each["label"] == label)
        for answer in answers
    ]
    return np.array(told), classifier.card.operating_points[classifier.card.position(label)]


def _cells(report: LabelReport) -> str:
    area, found = report.auroc, report.sensitivity
    spared = report.specificity
    return (
        f"{area.value:.3f} ({area.low:.3f}-{area.high:.3f}) | "
        f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f}) | "
        f"{1 - spared.value:.3f} ({1 - spared.high:.3f}-{1 - spared.low:.3f})"
    )
