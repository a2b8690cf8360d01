"""What the adult models score within each collection, beside what needs no anatomy.

The films of the NIH part come from collections that differ in how they look and how often
they are normal: figures over all of them flatter, so each is given by source, beside a
logistic regression on a frozen backbone's mean codes and beside the file's size alone.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_core.cards import list_models, load_predictions
from cxr_core.datasets import Film, index
from cxr_core.parts import Part, prepare_parts
from cxr_core.ranking import Interval, auroc, compare
from cxr_core.recipes import Recipe, get_recipe

WEIGHTS = Path("weights") / "mobilenet_v1_1.0_224_imagenet.npz"
SOURCES = ("all", "A", "B")


def measure(data: Path) -> str | None:
    """Tabulate both adult models by source; needs the films."""
    folder = data / "nih_chestxray14"
    cards = [card for card in list_models() if card.recipe.startswith("adult-")]
    if not folder.is_dir() or not cards:
        return None
    lines = [
        "| model | test films | n | mean AUROC | frozen backbone, logistic regression | file "
        "size alone | better than frozen, paired |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for card in cards:
        recipe = get_recipe(card.recipe)
        parts = prepare_parts(index(folder, "nih-csv"), recipe, card.training["seed"])
        lines += _rows(card.name, recipe, parts, probe(recipe, parts, data / WEIGHTS), folder)
    return "\n".join(lines)


def probe(recipe: Recipe, parts: dict[str, Part], weights: Path) -> NDArray[np.float64]:
    """Score the test films (N, K) by a linear reading of the backbone as it came."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from cxr_core.codes import with_codes
    from cxr_core.networks import build_network, load_pretrained

    network = build_network(recipe.network, size=224, channels=1, outputs=1, **recipe.options)
    load_pretrained(network, str(weights), backbone="mobilenet-v1")
    means = {
        split: np.asarray(with_codes(part, network, recipe.preprocessing).codes, np.float32).mean(
            axis=(1, 2)
        )
        for split, part in parts.items()
    }
    x = np.concatenate([means["train"], means["validation"]])
    y = np.concatenate([parts["train"].targets, parts["validation"].targets])
    scores = []
    for k in range(y.shape[1]):
        reading = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=2000))
        scores.append(reading.fit(x, y[:, k]).predict_proba(means["test"])[:, 1])
    return np.stack(scores, axis=1)


def _rows(
    name: str, recipe: Recipe, parts: dict[str, Part], frozen: NDArray[np.float64], folder: Path
) -> list[str]:
    test, table = parts["test"], load_predictions(name)
    require_same(test.films, table.files)
    size = _size_scores(parts, folder)
    findings = [k for k, label in enumerate(recipe.labels) if label != "No Finding"]
    rows = []
    for source in SOURCES:
        films = np.array([source in ("all", film.source) for film in test.films])
        truth = test.targets[films]
        told = [k for k in findings if 0 < truth[:, k].sum() < len(truth)]
        ours, theirs, bytes_ = (
            [auroc(truth[:, k], scores[films][:, k]) for k in told]
            for scores in (table.y_score, frozen, size)
        )
        better = "-"
        if len(told) == 1:
            k = told[0]
            pair = compare(truth[:, k], table.y_score[films][:, k], frozen[films][:, k])
            better = f"{pair.difference.value:+.3f}, p {pair.p_value:.2f}"
        where = "all" if source == "all" else f"within {source}"
        rows.append(
            f"| {name} | {where} | {len(truth)} | {_mean(ours)} | {_mean(theirs)} | "
            f"{_mean(bytes_)} | {better} |"
        )
    return rows


def _size_scores(parts: dict[str, Part], folder: Path) -> NDArray[np.float64]:
    """Score test films (N, K) by their file's size; training films say which way it points."""
    sizes = {
        split: np.log([(folder / film.file).stat().st_size for film in parts[split].films])
        for split in ("train", "test")
    }
    low, high = sizes["test"].min(), sizes["test"].max()
    up = (sizes["test"] - low) / (high - low)
    truth = parts["train"].targets
    grows = [sizes["train"][y == 1].mean() > sizes["train"][y == 0].mean() for y in truth.T]
    return np.stack([up if rises else 1 - up for rises in grows], axis=1)


def require_same(films: tuple[Film, ...], files: tuple[str, ...]) -> None:
    """Refuse to compare scores of other films."""
    if tuple(film.file for film in films) != files:
        raise SystemExit("predictions.csv is of other films than this folder's test part.")


def _mean(areas: list[Interval]) -> str:
    """Write one area with its interval, or the mean of several with how many they are."""
    if len(areas) == 1:
        return f"{areas[0].value:.3f} ({areas[0].low:.3f}-{areas[0].high:.3f})"
    return f"{np.mean([area.value for area in areas]):.3f} (of {len(areas)} findings)"
