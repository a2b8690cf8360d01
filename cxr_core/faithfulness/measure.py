"""The report card of a model's explanations, measured method by method and label by label.

Each entry is written as soon as it is measured, so that a run that was stopped goes on where
it was when it is started again with the same options.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_core.attribution import explain, get_method, list_methods
from cxr_core.cards import load_explanations, load_predictions, model_folder
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.datasets import DatasetIndex, Film, Progress, read_film
from cxr_core.errors import ArgumentError
from cxr_core.evaluation import wilson
from cxr_core.explanations import (
    LEAST_BOXES,
    ExplanationReport,
    Faithfulness,
    Gain,
    Localisation,
    Measured,
    Randomisation,
    Repeatability,
    Settings,
    Stage,
    areas,
)
from cxr_core.faithfulness import boxes as drawn
from cxr_core.faithfulness.cascade import (
    likeness,
    mean_likeness,
    shuffled,
    stages,
    weighted_layers,
)
from cxr_core.faithfulness.curves import (
    GRID,
    STEPS,
    blurred,
    bootstrap,
    cells,
    centre_order,
    follow,
    order_of,
    random_order,
)
from cxr_core.faithfulness.sample import (
    LEAST_SHOWN,
    MANY_LABELS,
    boxed_films,
    boxes_of,
    choose_films,
    default_films,
    measured_labels,
    require_films,
    shown,
    write_mean_film,
)
from cxr_core.parts import open_folder, seen_films
from cxr_core.predictions import PredictionTable
from cxr_core.preprocess import ModelInput, prepare
from cxr_core.ranking import ROUNDS
from cxr_core.recipes import ANY, Recipe, get_recipe

RANDOM_ORDERS = 4
# Methods of more forward passes than this are measured, of models of many labels, on those
# labels alone that boxes can judge (or on the first); and their maps are randomised less often.
COSTLY = 10.0
STAGES, RANDOMISED = {False: 5, True: 2}, {False: 6, True: 3}  # by whether it is costly
SETTINGS = Settings(
    grid=GRID,
    steps=STEPS,
    replaced_by="the film blurred by a Gaussian of one eighth of its side, both ways",
    scale="logit",
    random_orders=RANDOM_ORDERS,
    mask="half of the map's peak",
    rounds=ROUNDS,
)
SEED = 0
Floats = NDArray[np.floating]


def measure(
    name: str,
    data: Path,
    *,
    films: int | None = None,
    methods: Sequence[str] | None = None,
    sister: str | None = None,
    layout: str | None = None,
    progress: Progress | None = None,
) -> ExplanationReport:
    """Measure a model's explanations and write explanations.json and mean_film.png beside it.

    Args:
        name: Of the model.
        data: The folder with its test films.
        films: Of each label; by default as many as about six minutes allow.
        methods: To be measured anew, those of an earlier run beside them; by default all that
            no earlier run with the same options has measured.
        sister: A model of the same labels, trained with another seed.
        layout: Of the folder; found out by default.
        progress: Told of every method, label and film.

    Raises:
        UnknownName: When a model or method does not exist.
        ArgumentError: When films is below 1, or the sister cannot be compared.
        DataError: When the folder lacks the model's test films.
    """
    for method in methods or ():
        get_method(method)
    if films is not None and films < 1:
        raise ArgumentError(f"films must be at least 1, but {films} came.")
    classifier = load_classifier(name)
    folder = open_folder(get_recipe(classifier.card.recipe), data, layout)
    bench = _Bench(classifier, _sister(classifier, sister), *folder, load_predictions(name))
    labels = measured_labels(bench.table, classifier.card)
    count = films or default_films(classifier.network, len(labels))
    bench.draw(count)
    seen = seen_films(bench.dataset, bench.recipe, classifier.card)
    if seen is not None:
        bench.boxed = boxed_films(bench.dataset, bench.recipe)
    report = _begin(bench, data, layout, count, sister)
    if seen is None:
        told = "This is not the folder that trained the model: no boxes are used, no mean is taken."
        report = replace(report, notes=(*report.notes, told))
    else:
        bundle = model_folder(name)
        write_mean_film(bench.dataset, seen["train"], classifier.card, bundle, progress)
    kept = _kept(report, methods)
    wanted = [pair for pair in _pairs(bench, methods) if pair not in kept]
    report = replace(report, films=len(bench.measured_films()), entries=_in_order(kept, bench))
    for method, label in wanted:
        kept[method, label] = _entry(bench, method, label, progress)
        report = replace(report, entries=_in_order(kept, bench))
        write_report(report, model_folder(name) / "explanations.json")
    return report


def _in_order(kept: dict[tuple[str, str], Measured], bench: "_Bench") -> tuple[Measured, ...]:
    """Sort entries by method, cheapest first, then as the model names its labels."""
    order = product(list_methods(), bench.classifier.card.labels)
    return tuple(kept[pair] for pair in order if pair in kept)


def write_report(report: ExplanationReport, path: Path) -> None:
    """Write explanations.json in one rename, an entry a line."""
    values = report.to_json()
    entries = values.pop("entries")
    head = json.dumps(values, indent=2, ensure_ascii=False).removesuffix("\n}")
    lines = ",\n    ".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    aside = path.with_suffix(".new")
    aside.write_text(f'{head},\n  "entries": [\n    {lines}\n  ]\n}}\n', "utf-8")
    aside.replace(path)


# --- what is measured ---


@dataclass
class _Viewed:
    """One film as the model reads it, and how its logits follow orders that know no map."""

    classifier: Classifier
    film: Film
    model_input: ModelInput

    @property
    def seed(self) -> int:
        """Draw otherwise for every film, and alike in every run."""
        return int(self.film.digest[:8], 16)

    def forward(self, pixels: NDArray[np.float32]) -> Floats:
        """Return the logits (N, K) of changed films."""
        return self.classifier.forward(pixels)[0]

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """Return the last map, from which class activation maps follow."""
        features: NDArray[np.float32]
        _, (features,) = self.classifier.forward(self.model_input.pixels[None])
        return features

    @cached_property
    def blurred(self) -> NDArray[np.float32]:
        return blurred(self.model_input.pixels)

    def follow(self, order: NDArray[np.intp], *, insertion: bool = True) -> tuple[Floats, Floats]:
        """Return the logits (STEPS + 1, K) of deletion and insertion."""
        film = self.model_input.pixels
        return follow(self.forward, film, self.blurred, order, insertion=insertion)

    @cached_property
    def random(self) -> Floats:
        """Return the mean curve of deletion in random orders; insertion is its reverse."""
        orders = [random_order(self.seed + k) for k in range(RANDOM_ORDERS)]
        curves = [self.follow(order, insertion=False)[0] for order in orders]
        return np.asarray(np.mean(curves, axis=0))

    @cached_property
    def centre(self) -> tuple[Floats, Floats]:
        """Return both curves from the centre outwards."""
        return self.follow(centre_order(self.seed))

    def map_of(self, label: str, method: str, by: Classifier | None = None) -> Floats:
        """Explain what speaks for a label, by this film's model or another."""
        if by is not None:
            return explain(by, self.model_input, label, method).values
        return explain(
            self.classifier, self.model_input, label, method, features=self.features
        ).values


@dataclass
class _Bench:
    """A model, the films at hand, and what was already computed of them."""

    classifier: Classifier
    sister: Classifier | None
    dataset: DatasetIndex
    recipe: Recipe
    table: PredictionTable
    boxed: list[Film] = field(default_factory=list)
    sample: dict[str, tuple[tuple[Film, ...], int]] = field(default_factory=dict)
    _viewed: dict[str, _Viewed] = field(default_factory=dict)
    _stages: dict[bool, list[tuple[int, str, Classifier]]] = field(default_factory=dict)

    def draw(self, count: int) -> None:
        """Choose the films of every label, and note how many of them are flagged."""
        by_file = require_films(self.dataset, self.table.files)
        card = self.classifier.card
        for label in measured_labels(self.table, card):
            rows, flags = choose_films(self.table, card, label, count, SEED)
            chosen = tuple(by_file[self.table.files[row]] for row in rows)
            self.sample[label] = chosen, int(flags.sum())

    def view(self, film: Film) -> _Viewed:
        """Read a film once."""
        if film.file not in self._viewed:
            radiograph = read_film(self.dataset.root, film)
            model_input = prepare(radiograph, self.classifier.card.preprocessing)
            self._viewed[film.file] = _Viewed(self.classifier, film, model_input)
        return self._viewed[film.file]

    def with_boxes(self, label: str) -> list[Film]:
        """List the films with boxes that mean a label."""
        meaning = self.recipe.labels[label]
        return [film for film in self.boxed if boxes_of(film, meaning)]

    def boxes(self, label: str) -> int:
        """Count the boxes that mean a label."""
        meaning = self.recipe.labels[label]
        return sum(len(boxes_of(film, meaning)) for film in self.boxed)

    @property
    def judged(self) -> list[str]:
        """List the measured labels that boxes can judge."""
        return [label for label in self.sample if self.boxes(label) >= LEAST_BOXES]

    @property
    def few(self) -> list[str]:
        """List the labels on which costly methods are measured."""
        labels = list(self.sample)
        return labels if len(labels) <= MANY_LABELS else self.judged or labels[:1]

    def stages(self, costly: bool) -> list[tuple[int, str, Classifier]]:
        """Return the networks whose top layers are shuffled, made on first use."""
        if costly not in self._stages:
            names = weighted_layers(self.classifier.network)
            self._stages[costly] = [
                (count, names[count - 1], shuffled(self.classifier, count, SEED))
                for count in stages(len(names), STAGES[costly])
            ]
        return self._stages[costly]

    def measured_films(self) -> set[str]:
        """Name all films that any entry rests on."""
        sampled = {film.file for films, _ in self.sample.values() for film in films}
        return sampled | {film.file for label in self.judged for film in self.with_boxes(label)}


def _sister(classifier: Classifier, name: str | None) -> Classifier | None:
    if name is None:
        return None
    other, card = load_classifier(name), classifier.card
    same = other.card.labels == card.labels and other.card.preprocessing == card.preprocessing
    if not same or name == card.name:
        raise ArgumentError(
            f"'{name}' is no sister of '{card.name}': it must be another model with the same "
            "labels and preprocessing, trained with another seed."
        )
    return other


def _begin(
    bench: _Bench, data: Path, layout: str | None, count: int, sister: str | None
) -> ExplanationReport:
    """Say what will be measured, before anything is."""
    card = bench.classifier.card
    command = f"python -m cxr_core faithfulness --model {card.name} --data {data.resolve().name}"
    command += f" --films {count}" + (f" --sister {sister}" if sister else "")
    command += f" --layout {layout}" if layout else ""
    weights = (model_folder(card.name) / "model.keras").read_bytes()
    return ExplanationReport(
        model=card.name,
        version=card.version,
        digest=hashlib.sha256(weights).hexdigest(),
        date=datetime.now(UTC).date().isoformat(),
        command=command,
        data=data.resolve().name,
        part=bench.table.split,
        films=0,
        seed=SEED,
        sister=sister,
        settings=SETTINGS,
        notes=tuple(_notes(bench)),
        entries=(),
    )


def _notes(bench: _Bench) -> Iterator[str]:
    """Say what is not measured, and what a box counts for."""
    card = bench.classifier.card
    few = [
        f"{label} (n = {shown(bench.table, card, label)})"
        for label in card.labels
        if label not in bench.sample
    ]
    if few:
        told = f"fewer than {LEAST_SHOWN} test films have it or are flagged"
        yield f"Not measured, for {told}: {', '.join(few)}."
    if any(film.boxes for film in bench.dataset.films):
        for label, meaning in bench.recipe.labels.items():
            if ANY in meaning:
                yield f"For {label}, a box of any finding counts."
    if len(bench.few) < len(bench.sample):
        costly = ", ".join(get_method(name).title for name in list_methods() if _costly(name))
        yield f"Measured on {', '.join(bench.few)} alone, for what they cost: {costly}."


def _kept(
    report: ExplanationReport, methods: Sequence[str] | None
) -> dict[tuple[str, str], Measured]:
    """Take what an earlier run with the same options has measured, but for what was named.

    Flags choose the films, so that entries from before thresholds moved are of other films: the
    version changes with the thresholds, and with it all is measured anew.
    """
    older = load_explanations(report.model)
    same = ("digest", "version", "command", "settings", "part")
    if older is None or any(getattr(older, one) != getattr(report, one) for one in same):
        return {}
    return {
        (entry.method, entry.label): entry
        for entry in older.entries
        if entry.method not in (methods or ())
    }


def _pairs(bench: _Bench, methods: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """Name the methods, cheapest first, with the labels on which each is measured."""
    labels = list(bench.sample)
    for method in list_methods():
        if not methods or method in methods:
            yield from product((method,), bench.few if _costly(method) else labels)


def _costly(method: str) -> bool:
    return get_method(method).cost > COSTLY


# --- one entry ---


def _entry(bench: _Bench, method: str, label: str, progress: Progress | None) -> Measured:
    """Measure one method on one label."""
    films, flags = bench.sample[label]
    judged = bench.with_boxes(label) if bench.boxes(label) >= LEAST_BOXES else []
    distinct = list({film.file: film for film in (*films, *judged)}.values())
    maps: dict[str, Floats] = {}
    curves = []
    for done, film in enumerate(distinct):
        if progress:
            progress(f"{method}, {label}, films", done, len(distinct))
        maps[film.file] = bench.view(film).map_of(label, method)
        if film in films:
            curves.append(_curves(bench, film, label, maps[film.file]))
    if progress:
        progress(f"{method}, {label}, films", len(distinct), len(distinct))
    return Measured(
        method=method,
        label=label,
        faithfulness=_faithfulness(np.stack(curves), flags),
        localisation=_localisation(bench, label, maps) if bench.boxed else None,
        randomisation=_randomisation(bench, method, label, maps, progress),
        repeatability=_repeatability(bench, method, label, maps),
    )


def _curves(bench: _Bench, film: Film, label: str, values: Floats) -> Floats:
    """Follow one label's logit: (2, 3, STEPS + 1), deletion and insertion by three orders."""
    column, view = bench.classifier.card.position(label), bench.view(film)
    own = view.follow(order_of(cells(values), view.seed))
    orders = zip(own, (view.random, view.random[::-1]), view.centre, strict=True)
    return np.stack([[curve[:, column] for curve in kind] for kind in orders])


def _faithfulness(curves: Floats, flags: int) -> Faithfulness:
    """Sum up the curves (N, 2, 3, STEPS + 1) of N films."""
    under = areas(curves)
    gains = []
    for kind, better in ((0, -1), (1, 1)):  # deletion should fall, insertion rise
        method, random, centre = (tuple(curve.tolist()) for curve in curves[:, kind].mean(axis=0))
        gains.append(
            Gain(
                method=method,
                random=random,
                centre=centre,
                over_random=bootstrap(better * (under[:, kind, 0] - under[:, kind, 1])),
                over_centre=bootstrap(better * (under[:, kind, 0] - under[:, kind, 2])),
            )
        )
    return Faithfulness(films=len(curves), flagged=flags, deletion=gains[0], insertion=gains[1])


def _localisation(bench: _Bench, label: str, maps: dict[str, Floats]) -> Localisation:
    """Compare where maps point with the boxes, and with points that look at no film."""
    films, boxes = bench.with_boxes(label), bench.boxes(label)
    if boxes < LEAST_BOXES or len(films) < 2:
        return Localisation(boxes=boxes, films=len(films))
    meaning = bench.recipe.labels[label]
    masks = np.stack(
        [
            drawn.mask_of(boxes_of(film, meaning), bench.view(film).model_input.placement)
            for film in films
        ]
    )
    rasters = [drawn.raster(maps[film.file]) for film in films]
    hits = np.array([drawn.hits(*each) for each in zip(rasters, masks, strict=True)])
    centre, point = drawn.centre_hits(masks), drawn.fixed_point_hits(masks)
    floor = centre if centre.sum() > point.sum() else point
    fits = np.array(
        [drawn.overlap(drawn.region(one), mask) for one, mask in zip(rasters, masks, strict=True)]
    )
    box_fits = drawn.fixed_box_overlaps(masks)
    return Localisation(
        boxes=boxes,
        films=len(films),
        flagged=_flagged(bench, films, label),
        hits=int(hits.sum()),
        pointing=wilson(int(hits.sum()), len(films)),
        centre_hits=int(centre.sum()),
        point_hits=int(point.sum()),
        over_point=bootstrap(hits.astype(float) - floor),
        iou=bootstrap(fits),
        box_iou=float(box_fits.mean()),
        over_box=bootstrap(fits - box_fits),
    )


def _flagged(bench: _Bench, films: Sequence[Film], label: str) -> int:
    """Count the films that the model flags for a label."""
    inputs = [bench.view(film).model_input for film in films]
    answers = (bench.classifier.predict(one).label(label) for one in inputs)
    return sum(answer.flag for answer in answers)


def _randomisation(
    bench: _Bench, method: str, label: str, maps: dict[str, Floats], progress: Progress | None
) -> Randomisation:
    """Compare maps with those of networks whose weights were shuffled from the top down."""
    costly = _costly(method)
    films = bench.sample[label][0][: RANDOMISED[costly]]

    def against(other: Classifier) -> Callable[[Film], float | None]:
        return lambda film: likeness(maps[film.file], bench.view(film).map_of(label, method, other))

    found = []
    for done, (layers, down_to, network) in enumerate(steps := bench.stages(costly)):
        if progress:
            progress(f"{method}, {label}, shuffled networks", done, len(steps))
        similarity, flat = mean_likeness(list(map(against(network), films)))
        found.append(Stage(layers=layers, down_to=down_to, similarity=similarity, flat=flat))
    return Randomisation(films=len(films), stages=tuple(found))


def _repeatability(
    bench: _Bench, method: str, label: str, maps: dict[str, Floats]
) -> Repeatability | None:
    """Compare maps with the sister's of the same films."""
    if bench.sister is None:
        return None
    films = bench.sample[label][0]
    alike = [
        likeness(maps[film.file], bench.view(film).map_of(label, method, bench.sister))
        for film in films
    ]
    similarity, flat = mean_likeness(alike)
    return Repeatability(films=len(films), similarity=similarity, flat=flat)
