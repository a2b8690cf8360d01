"""Whether a model's own features tell films that it learned from from those of others.

How this was chosen, written down before anything was scored. Three ways to say how far a film
lies from the training films, each with the training films as they are or also as other units
might have taken them, were compared on films that choose, with one model of each set: its
validation films set the limit (`cxr_core.familiarity`), and `SAMPLE` films of the *training*
part of each other set were held against it. Taken is the way with the largest share of those
beyond its limit, averaged over models and sets; of ways within `ALIKE` of it, the first of the
list, which goes from the simplest to the least simple. Test films were scored once, after that.

    python -m benchmarks familiarity-ways    the comparison, on films that choose
    python -m benchmarks familiarity         the test films, by the files in the bundles
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import timed
from cxr_core.cards import ModelCard, list_models, load_card, load_predictions, model_folder
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.datasets import Film, index, pixel_cache
from cxr_core.evaluation import wilson
from cxr_core.familiarity import fit, limit_of, load_familiarity
from cxr_core.parts import Part, deal, decoded, fit_labels, own_films
from cxr_core.ranking import Interval, auroc
from cxr_core.recipes import get_recipe
from cxr_core.reference import ENOUGH, clouds, points

SAMPLE, SEED, ALIKE = 200, 0, 0.02
NEIGHBOURS, KEPT = 10, 2000
# Each set of films: its folder, and the recipe whose parts are meant.
SETS = {
    "children": ("pediatric_pneumonia", "pediatric-pneumonia"),
    "NIH adults": ("nih_chestxray14", "adult-abnormality"),
    "COVID-19 set": ("covid_radiography", "covid-radiography"),
}
# Which set a model's recipe learned from; of children where nothing is said.
LEARNED = {
    "adult-abnormality": "NIH adults",
    "adult-findings": "NIH adults",
    "vgg16-codes": "NIH adults",
    "covid-radiography": "COVID-19 set",
}
Floats = NDArray[np.float32]
Distances = Callable[[Floats], NDArray[np.float64]]


# --- the ways that were compared ---


def _gaussian(training: Floats, kinds: NDArray[np.int64]) -> Distances:
    """Mahalanobis distance from the mean, as `familiarity.fit` has it."""
    return fit(training, training[:1], training[:1]).distances


def _by_class(training: Floats, kinds: NDArray[np.int64]) -> Distances:
    """The same from the nearest mean of films with the same labels (Lee et al. 2018)."""
    means = np.stack([training[kinds == kind].mean(axis=0) for kind in np.unique(kinds)])
    within = fit(training - means[kinds], training[:1], training[:1]).distances
    return lambda films: np.min([within(films - mean) for mean in means], axis=0)


def _neighbours(training: Floats, kinds: NDArray[np.int64]) -> Distances:
    """Mean distance to the nearest films on the unit sphere (Sun et al., ICML 2022)."""
    centre, scale = training.mean(axis=0), training.std(axis=0) + 1e-6
    chosen = np.random.default_rng(SEED).permutation(len(training))[:KEPT]

    def laid(films: Floats) -> Floats:
        away = (films - centre) / scale
        return away / np.linalg.norm(away, axis=1, keepdims=True)

    kept = laid(training[chosen])

    def distances(films: Floats) -> NDArray[np.float64]:
        squares = np.sort(2 - 2 * laid(films) @ kept.T, axis=1)[:, :NEIGHBOURS]
        return np.sqrt(np.maximum(squares, 0)).mean(axis=1).astype(np.float64)

    return distances


WAYS = {"gaussian": _gaussian, "gaussian by class": _by_class, "neighbours": _neighbours}


def compare(data: Path) -> str | None:
    """Compare the ways on validation films and other sets' training films."""
    if not _here(data):
        return None
    shares: dict[tuple[str, str], list[float]] = {}
    rows = []
    for card in (load_card(recipe) for _, recipe in SETS.values()):
        learned, others, kinds = _choosing(card, data)
        for way, make in WAYS.items():
            for cloud in ("as they are", "also perturbed"):
                count = len(kinds) if cloud == "as they are" else 2 * len(kinds)
                far = make(learned["training"][:count], np.resize(kinds, count))
                plain, hard = far(learned["plain"]), far(learned["perturbed"])
                limit = limit_of(plain, hard)
                cells = []
                for name, films in others.items():
                    beyond = far(films)
                    shares.setdefault((way, cloud), []).append(float((beyond > limit).mean()))
                    area = _area(plain, beyond).value
                    cells.append(f"{name} {(beyond > limit).mean():.3f}, {area:.3f}")
                rows.append(f"| {card.name} | {way} | {cloud} | {' | '.join(cells)} |")
                print(rows[-1], flush=True)
    means = [
        f"| **all** | {way} | {cloud} | mean share beyond {np.mean(found):.3f}, least "
        f"{min(found):.3f} | |"
        for (way, cloud), found in shares.items()
    ]
    head = [
        "| model | way | training films | other set: share beyond the limit, AUROC | the other |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, *means])


def _choosing(
    card: ModelCard, data: Path
) -> tuple[dict[str, Floats], dict[str, Floats], NDArray[np.int64]]:
    """Return the points of a model's own films, of others' training films, and labels as kinds."""
    classifier, recipe = load_classifier(card.name), get_recipe(card.recipe)
    seed, own = card.training["seed"], LEARNED.get(card.recipe, "children")
    dataset = index(data / SETS[own][0], recipe.layouts[0] if len(recipe.layouts) == 1 else None)
    recipe = fit_labels(recipe, dataset)
    films = own_films(card, dataset, recipe)
    parts = {split: decoded(dataset, some, recipe) for split, some in films.items()}
    drawn = np.linspace(0, len(films["train"]) - 1, ENOUGH).astype(int)
    kinds = _kinds(parts["train"].targets[np.unique(drawn)])
    others = {
        name: _points(classifier, data, name, _sampled(data, name, "train"))
        for name in SETS
        if name != own
    }
    return clouds(classifier, parts, recipe, seed), others, kinds


def _kinds(targets: Floats) -> NDArray[np.int64]:
    """Number films (N,) by their labels; what fewer than 20 films share is one kind."""
    _, kinds, counts = np.unique(targets, axis=0, return_inverse=True, return_counts=True)
    many = np.where(counts >= 20, np.arange(len(counts)), -1)[kinds.ravel()]
    return np.unique(many, return_inverse=True)[1]


def _sampled(data: Path, name: str, split: str) -> tuple[Film, ...]:
    folder, recipe = SETS[name]
    films = deal(index(data / folder), get_recipe(recipe), 0)[split]
    some = np.random.default_rng(SEED).permutation(len(films))[:SAMPLE]
    return tuple(films[k] for k in sorted(some))


def _points(classifier: Classifier, data: Path, name: str, films: tuple[Film, ...]) -> Floats:
    squares = pixel_cache(data / SETS[name][0], films, classifier.card.preprocessing)
    return points(classifier, Part(films, squares, np.zeros((len(films), 1), np.float32)))


def _models() -> list[ModelCard]:
    return [c for c in list_models() if (model_folder(c.name) / "model.keras").is_file()]


def _here(data: Path) -> bool:
    return all((data / folder).is_dir() for folder, _ in SETS.values())


def _area(own: NDArray[np.float64], others: NDArray[np.float64]) -> Interval:
    truth = np.r_[np.zeros(len(own)), np.ones(len(others))]
    far = np.r_[own, others]
    return auroc(truth, far / (1 + far))  # in order, and below 1


# --- the test films ---


def measure(data: Path) -> str | None:
    """Score test films by the file in each bundle, and time the check."""
    if not _here(data):
        return None
    lines = [
        "| model | test films of | films | cautioned (95 % interval) | AUROC, its own against "
        "these |",
        "|---|---|---:|---:|---:|",
    ]
    taken = {}
    for card in _models():
        found, classifier = load_familiarity(model_folder(card.name)), load_classifier(card.name)
        if found is None:
            lines.append(f"| {card.name} | it has no familiarity.npz | | | |")
            continue
        own = LEARNED.get(card.recipe, "children")
        films = {own: _own_test(card, data / SETS[own][0])}
        films |= {name: _test(data, name) for name in SETS if name != own}
        far = {
            name: found.distances(_points(classifier, data, name, some))
            for name, some in films.items()
        }
        for name, distances in far.items():
            beyond = wilson(int((distances > found.limit).sum()), len(distances))
            whose = f"{name}, its own" if name == own else name
            area = "" if name == own else _interval(_area(far[own], distances))
            lines.append(
                f"| {card.name} | {whose} | {len(distances)} | {_interval(beyond)} | {area} |"
            )
        taken[card.name] = _cost(classifier)
    return "\n".join([*lines, "", *_costs(taken)])


def _own_test(card: ModelCard, folder: Path) -> tuple[Film, ...]:
    by_file = {film.file: film for film in index(folder).films}
    return tuple(by_file[file] for file in load_predictions(card.name).files)


def _test(data: Path, name: str) -> tuple[Film, ...]:
    folder, recipe = SETS[name]
    return deal(index(data / folder), get_recipe(recipe), 0)["test"]


def _interval(one: Interval) -> str:
    return f"{one.value:.3f} ({one.low:.3f}-{one.high:.3f})"


def _cost(classifier: Classifier) -> tuple[float, float]:
    """Time one check, and the forward pass that it comes after: seconds."""
    shape = classifier.card.preprocessing
    pixels = np.random.default_rng(SEED).random(
        (1, shape.size, shape.size, shape.channels), np.float32
    )
    features = classifier.forward(pixels)[1][0]
    found = load_familiarity(model_folder(classifier.card.name))
    taken = timed(
        {"check": lambda: found.likeness(features), "pass": lambda: classifier.forward(pixels)}
    )
    return taken["check"], taken["pass"]


def _costs(taken: dict[str, tuple[float, float]]) -> Iterator[str]:
    yield "| time of the check, once features are there | ms | in forward passes | wanted |"
    yield "|---|---:|---:|---:|"
    for name, (check, forward) in taken.items():
        yield f"| {name} | {1e3 * check:.3f} | {check / forward:.4f} | < 1 ms |"
