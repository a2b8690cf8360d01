"""How far Grad-CAM and integrated gradients agree on films that choose, not on test films.

What withholds a map (`attribution.DISAGREE`) comes from here, by a rule that was written down
before any of it was measured; `python -m benchmarks withholding` measures it again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import floor
from pathlib import Path

import numpy as np

from cxr_core.attribution import examine, explain
from cxr_core.classifier import Classifier
from cxr_core.datasets import DatasetIndex, Film, read_film
from cxr_core.errors import DataError
from cxr_core.parts import open_folder, own_films
from cxr_core.preprocess import prepare
from cxr_core.recipes import get_recipe

FILMS, LEAST_SHARE = 40, 0.05
SEED = 0


@dataclass(frozen=True)
class Agreement:
    """What is known of one model.

    Attributes:
        films: Flagged validation films, one of a patient.
        values: Rank correlations, -1 to 1, of those that have one: the lung field was found
            and no map is flat in it.
    """

    films: int
    values: tuple[float, ...]

    @property
    def fifth(self) -> float:
        """Return the 5th percentile."""
        return float(np.quantile(self.values, LEAST_SHARE))

    @property
    def median(self) -> float:
        """Return the median."""
        return float(np.median(self.values))


def bound(fifths: Iterable[float]) -> float:
    """Return below which agreement a map is withheld.

    That is the largest of the models' 5th percentiles, rounded down to one decimal, and not
    below 0: of the model whose maps agree best about one in twenty is withheld, of the others
    those that agree less than that.
    """
    return max(floor(10 * max(fifths)) / 10, 0.0)


def measure_agreement(classifier: Classifier, data: Path, count: int = FILMS) -> Agreement:
    """Compare both maps on a model's flagged validation films, one finding of each.

    Args:
        classifier: The model.
        data: The folder that it learned from.
        count: Films at most.

    Raises:
        DataError: When the folder is another one, or none of the films is flagged, or none of
            those has maps that can be compared.
    """
    dataset, recipe = open_folder(get_recipe(classifier.card.recipe), data)
    films = own_films(classifier.card, dataset, recipe)["validation"]
    found = list(islice(_agreements(classifier, dataset, films), count))
    known = tuple(value for value in found if value is not None)
    if not known:
        raise DataError(
            f"Of {len(films)} validation films in '{data}' '{classifier.card.name}' flags none "
            "whose maps can be compared."
        )
    return Agreement(len(found), known)


def _agreements(
    classifier: Classifier, dataset: DatasetIndex, films: tuple[Film, ...]
) -> Iterator[float | None]:
    """Go through the flagged films in a random order, one of a patient."""
    random, seen = np.random.default_rng(SEED), set[str]()
    for place in random.permutation(len(films)).tolist():
        film = films[place]
        if film.patient in seen:
            continue
        radiograph = read_film(dataset.root, film)
        model_input = prepare(radiograph, classifier.card.preprocessing)
        prediction = classifier.predict(model_input)
        labels = [answer.label for answer in prediction.labels if answer.flag]
        if not labels:
            continue
        seen.add(film.patient)
        asked, features = str(random.choice(labels)), prediction.features
        attribution = explain(classifier, model_input, asked, "grad-cam", features=features)
        yield examine(
            classifier, model_input, radiograph.pixels, attribution, features=features
        ).agreement
