"""What each released model scored on its test split, and what no anatomy at all scores."""

from pathlib import Path

import numpy as np

from cxr_core.cards import list_models, load_card, load_evaluation
from cxr_core.datasets import Film, index
from cxr_core.images import load_radiograph
from cxr_core.parts import targets
from cxr_core.ranking import Interval, auroc
from cxr_core.recipes import get_recipe


def _interval(item: Interval) -> str:
    if item.value is None:
        return "-"
    between = "" if item.low is None else f" ({item.low:.3f}-{item.high:.3f})"
    return f"{item.value:.3f}{between}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def measure(data: Path) -> str:
    """Tabulate the evaluation.json of every model; needs no films."""
    lines = [
        "| model | label | films | AUROC | sensitivity | specificity | accuracy | balanced "
        "accuracy | F1 | AUPRC | ECE |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for card in list_models():
        for label in load_evaluation(card.name).labels:
            cells = [label.auroc, label.sensitivity, label.specificity, label.accuracy]
            lines.append(
                f"| {card.name} {card.version} | {label.label} | {label.n} | "
                + " | ".join(map(_interval, cells))
                + f" | {_number(label.balanced_accuracy)} | {_number(label.f1)} "
                f"| {_interval(label.auprc)} | {label.ece:.3f} |"
            )
    return "\n".join([*lines, "", *_trainings(), *_controls()])


def _trainings() -> list[str]:
    """Say what each model was made from, at what cost, and whether its split leaks."""
    lines = [
        "| model | films trained, chose, scored | pixels | epochs | minutes | parameters | on two "
        "sides of the split |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for card in list_models():
        facts = card.training
        shared = facts.get("in_two_parts", "not recorded")
        unknown = "" if facts.get("patients_known", True) else ", patients unknown"
        lines.append(
            f"| {card.name} | {facts['films']:,}, {facts['validation_films']:,}, "
            f"{facts['test_films']:,} | {card.preprocessing.size} | {facts['epochs']} | "
            f"{facts['seconds'] / 60:.1f} | {facts['parameters']:,} | {shared}{unknown} |"
        )
    return lines


def _controls() -> list[str]:
    """Say what networks score that never saw the middle of a film."""
    told = [
        f"- `{card.name}`, {label}: the same network trained and scored with the middle "
        f"{100 * card.training['control']['blacked_out']:.0f} % of each side blacked out: AUROC "
        f"{_interval(Interval(*area))}."
        for card in list_models()
        for label, area in card.training.get("control", {}).get("auroc", {}).items()
    ]
    return ["", "Borders-only controls:", "", *told] if told else []


def sources(data: Path) -> str:
    """Tabulate what each published system reported beside ours by its protocol; needs no films."""
    lines = [
        "| recipe | epochs, films, pixels | minutes | parameters | figure | here | there | on two "
        "sides of the split |",
        "|---|---|---:|---:|---|---:|---:|---:|",
    ]
    for card in list_models():
        recipe, facts = get_recipe(card.recipe), card.training
        if not facts.get("replica"):
            continue
        figures = ("accuracy", "loss", "auc", "precision", "recall")
        counted = facts["as_sources_count"]
        for figure in dict.fromkeys((*figures, *facts["reported"])):
            there = facts["reported"].get(figure)
            lines.append(
                f"| {card.name} | {facts['epochs']} of {recipe.config.epochs}, {facts['films']:,}, "
                f"{card.preprocessing.size} | {facts['seconds'] / 60:.0f} | "
                f"{facts['parameters']:,} | {figure} | {counted[figure]:.4f} | "
                f"{'-' if there is None else f'{there:.4f}'} | {facts['in_two_parts']} |"
            )
    return "\n".join(lines)


def statistics(root: Path, film: Film) -> list[float]:
    """Ten numbers that know no anatomy: brightness, spread, edges, file size."""
    path = root / film.file
    pixels = np.asarray(load_radiograph(path).pixels)
    along_x, along_y = (float(np.abs(np.diff(pixels, axis=axis)).mean()) for axis in (1, 0))
    quantiles = np.percentile(pixels, (10, 50, 90))
    return [
        float(pixels.mean()),
        float(pixels.std()),
        *quantiles,
        along_x,
        along_y,
        along_x / along_y,
        float((pixels < 0.05).mean()),
        float(np.log(path.stat().st_size)),
    ]


def baselines(data: Path) -> str | None:
    """Fit a logistic regression on the statistics of the training films; score the test films."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folder = data / "pediatric_pneumonia"
    if not folder.is_dir():
        return None
    recipe = get_recipe(load_card("pediatric-pneumonia").recipe)
    films = index(folder).films
    x = {s: np.array([statistics(folder, f) for f in films if f.split == s]) for s in _SPLITS}
    y = {s: targets([f for f in films if f.split == s], recipe)[:, 0] for s in _SPLITS}
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(x["train"], y["train"])
    scores = {split: model.predict_proba(x[split])[:, 1] for split in _SPLITS}
    rows = [f"| {split} | {_interval(auroc(y[split], scores[split]))} |" for split in _SPLITS]
    return "\n".join(["| films | AUROC of ten statistics |", "|---|---:|", *rows])


_SPLITS = ("train", "test")
