"""What the adult models score within each collection, beside what needs no anatomy.

The films of the NIH part come from collections that differ in how they look and how often
they are normal: figures over all of them flatter, so each is given by source, beside a
logistic regression on the last map of a frozen backbone and beside the file's size alone.
What a source teaches about another is told by the same recipe fitted without that source.
"""

from collections.abc import Mapping
from dataclasses import replace
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
Scores = NDArray[np.float64]


def measure(data: Path) -> str | None:
    """Tabulate both adult models by source; needs the films."""
    folder = data / "nih_chestxray14"
    cards = [card for card in list_models() if card.recipe.startswith("adult-")]
    if not folder.is_dir() or not cards:
        return None
    lines = [
        "| model | test films | n | AUROC | trained without that source | frozen backbone, "
        "last map | file size alone | better than the last map, paired |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for card in cards:
        recipe = get_recipe(card.recipe)
        parts = prepare_parts(index(folder, "nih-csv"), recipe, card.training["seed"])
        frozen = last_map(recipe, folder, card.training["seed"], data / WEIGHTS)
        without = without_source(recipe, parts, data / WEIGHTS)
        lines += _rows(card.name, recipe, parts, without, frozen, folder)
    return "\n".join(lines)


def last_map(recipe: Recipe, folder: Path, seed: int, weights: Path) -> Scores:
    """Score the test films (N, K) by a linear reading of the backbone's last map, at 224 pixels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    plain = replace(
        recipe,
        options={"backbone": "mobilenet-v1", "dropout": 0.0},
        preprocessing=replace(recipe.preprocessing, size=224),
    )
    parts = _with_codes(plain, prepare_parts(index(folder, "nih-csv"), plain, seed), weights)
    seen = [parts["train"], parts["validation"]]
    x = np.concatenate([part.codes for part in seen]).astype(np.float32)
    y = np.concatenate([part.targets for part in seen])
    scores = []
    for k in range(y.shape[1]):
        reading = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=2000))
        told = reading.fit(x, y[:, k]).predict_proba(parts["test"].codes.astype(np.float32))
        scores.append(told[:, 1])
    return np.stack(scores, axis=1)


def without_source(recipe: Recipe, parts: Mapping[str, Part], weights: Path) -> dict[str, Scores]:
    """Score the test films (N, K) by the recipe's own head, fitted without each source in turn."""
    from cxr_core.heads import solve_head
    from cxr_core.training import film_weights

    coded = _with_codes(recipe, parts, weights)
    train, test = coded["train"], coded["test"]
    found = {}
    for source in SOURCES[1:]:
        kept = np.flatnonzero([film.source != source for film in train.films])
        part = Part(
            tuple(train.films[k] for k in kept),
            train.squares[kept],
            train.targets[kept],
            codes=train.codes[kept],
        )
        kernel, bias = solve_head(
            part.codes.astype(np.float32),
            part.targets,
            film_weights(part, recipe.config, recipe.activation),
            recipe.config.inverse_penalty,
        )
        logits = test.codes.astype(np.float32) @ kernel + bias
        found[source] = 0.5 * (1 + np.tanh(logits.astype(np.float64) / 2))
    return found


def _with_codes(recipe: Recipe, parts: Mapping[str, Part], weights: Path) -> dict[str, Part]:
    """Add what the backbone, as it came, sees on each film."""
    from cxr_core.codes import with_codes
    from cxr_core.networks import build_network, load_pretrained

    shape = recipe.preprocessing
    network = build_network(
        recipe.network, size=shape.size, channels=shape.channels, outputs=1, **recipe.options
    )
    load_pretrained(network, str(weights), backbone="mobilenet-v1")
    return {split: with_codes(part, network, shape) for split, part in parts.items()}


def _rows(
    name: str,
    recipe: Recipe,
    parts: Mapping[str, Part],
    without: Mapping[str, Scores],
    frozen: Scores,
    folder: Path,
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
        apart = "-"
        if source in without:
            apart = _mean([auroc(truth[:, k], without[source][films][:, k]) for k in told])
        better = "-"
        if len(told) == 1:
            k = told[0]
            pair = compare(truth[:, k], table.y_score[films][:, k], frozen[films][:, k])
            better = f"{pair.difference.value:+.3f}, p {pair.p_value:.2f}"
        where = "all" if source == "all" else f"within {source}"
        rows.append(
            f"| {name} | {where} | {len(truth)} | {_mean(ours)} | {apart} | {_mean(theirs)} | "
            f"{_mean(bytes_)} | {better} |"
        )
    return rows


def _size_scores(parts: Mapping[str, Part], folder: Path) -> Scores:
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
