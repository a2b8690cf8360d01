"""How much a model's answer moves though the patient does not: what is less is no change.

Two exposures of one chest never give the same answer, for the patient stands a little
otherwise and the unit exposes otherwise. No repeat exposures of one patient were at hand, so
that they are made by computer: each of a model's validation films (one of each patient) is
taken again several times as another unit would take it (`augmentation.ACQUISITION`, the very
perturbations for which operating points are chosen, and set before any of this was measured).
The smaller variations of `uncertainty` will not do, for they are less than two films of one
patient differ by. Nobody knows the true limit: breathing, posture and the weeks between are
not in this one, and perturbations as large as between any two units may be more than lies
between two films of one hospital. `python -m benchmarks prior` holds it against real pairs of
films of one patient. A change beyond it need not be one of the patient.

Answers are compared as log-odds before calibration, which the limit suits alike at either end
of the scale; the within-film standard deviation is pooled over films, and the repeatability
coefficient 1.96 * sqrt(2) times it: of two exposures of an unchanged chest so taken, 95 % of
the differences are smaller, if they are normal. `models/NAME/repeatability.json` is made by
`train`, and for a model that is there by `python -m cxr_core repeatability`.

Reference:
    Bland and Altman, Measuring agreement in method comparison studies, Statistical Methods in
    Medical Research 8(2), 1999, section 4; Raunig et al. (QIBA), Quantitative imaging
    biomarkers, ibid. 24(1), 2015.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from cxr_core.cards import load_card, model_folder, reading
from cxr_core.classifier import Classifier, load_classifier, open_bundle
from cxr_core.datasets import Film, Progress, pixel_cache
from cxr_core.errors import ModelError
from cxr_core.parts import open_folder, own_films
from cxr_core.preprocess import normalise
from cxr_core.publishing import changing, renewed
from cxr_core.recipes import get_recipe
from cxr_core.runtime import NETWORK

FILE = "repeatability.json"
COPIES = 8  # of each film; as many different strengths of blur
MOST_FILMS = (
    100  # 700 degrees of freedom: the spread is known to 3 %, by the chi-square distribution
)
COEFFICIENT = 1.96 * 2**0.5
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Repeatability:
    """What was measured of one model.

    Attributes:
        model: Its name.
        version: Its card's, when this was measured.
        weights: SHA-256 of its model.keras: what is measured is theirs, whatever is decided.
        date: When, ISO 8601.
        command: What measures it again.
        films: Validation films, one of each patient.
        copies: Of each.
        spread: For each label the within-film standard deviation of its log-odds.
    """

    model: str
    version: str
    weights: str
    date: str
    command: str
    films: int
    copies: int
    spread: dict[str, float]

    @property
    def limits(self) -> dict[str, float]:
        """For each label the repeatability coefficient of its log-odds."""
        return {label: COEFFICIENT * spread for label, spread in self.spread.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the record, with the limits for whoever reads it without this module."""
        return asdict(self) | {"limits": self.limits}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Restore what `to_json` wrote; limits follow from the spreads."""
        return cls(**{name: value for name, value in values.items() if name != "limits"})


def log_odds(logits: ArrayLike, activation: str) -> NDArray[np.float64]:
    """Return the log-odds of each label before calibration, on which answers are compared.

    Args:
        logits: (..., K).
        activation: "sigmoid": they are log-odds already; "softmax": each against all others.
    """
    scores = np.asarray(logits, np.float64)
    if activation == "sigmoid" or scores.shape[-1] < 2:
        return scores
    others = [np.delete(scores, k, axis=-1) for k in range(scores.shape[-1])]
    against = np.stack([logsumexp(each, axis=-1) for each in others], axis=-1)
    return np.asarray(scores - against)


def load_repeatability(name: str, root: Path | None = None) -> Repeatability | None:
    """Read what was measured of a model; None when nobody did, or not of its present weights.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When the record is damaged.
    """
    folder = model_folder(name, root)
    path = folder / FILE
    if not path.is_file() or not (folder / NETWORK).is_file():
        return None
    with reading(path):
        found = Repeatability.from_json(json.loads(path.read_text("utf-8")))
        if set(found.spread) != set(load_card(name, root).labels):
            raise ValueError(f"it is of {', '.join(found.spread)}")
        return found if found.weights == _digest(folder / NETWORK) else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- measuring ---


def measure(
    name: str,
    data: Path,
    *,
    layout: str | None = None,
    skip_damaged: bool = False,
    progress: Progress | None = None,
) -> Repeatability:
    """Measure a registered model on its validation films, and write the record beside it.

    Args:
        name: The model.
        data: The folder that it was trained on.
        layout: Of the folder; found out by default.
        skip_damaged: Leave damaged TFRecord shards out, as the training did.
        progress: Told how far it is.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When it came without its weights, or cannot be changed.
        DataError: When this is not the folder that it was trained on.
    """
    with changing(name):
        card = load_classifier(name).card
        dataset, recipe = open_folder(
            get_recipe(card.recipe), data, layout, progress, skip_damaged=skip_damaged
        )
        films = own_films(card, dataset, recipe)["validation"]
        some = [films[k] for k in one_of_each(films)]
        squares = pixel_cache(dataset.root, some, card.preprocessing, progress)
        with renewed(name) as aside:
            return write_repeatability(aside, open_bundle(card, aside), squares, progress)


def one_of_each(films: Sequence[Film]) -> list[int]:
    """Choose the first film of each patient; of many patients some, evenly among them."""
    firsts = {film.patient: k for k, film in reversed(list(enumerate(films)))}
    places = sorted(firsts.values())
    some = np.linspace(0, len(places) - 1, min(len(places), MOST_FILMS)).round().astype(int)
    return [places[k] for k in some]


def write_repeatability(
    folder: Path,
    classifier: Classifier,
    squares: NDArray[np.uint8],
    progress: Progress | None = None,
) -> Repeatability:
    """Measure a model on films of different patients, and write the record into its bundle.

    Args:
        folder: Of the bundle.
        classifier: The model.
        squares: uint8 (N, S, S), as training decoded them.
        progress: Told how far it is.

    Raises:
        ModelError: When its answers are not finite.
    """
    card, weights = classifier.card, _digest(folder / NETWORK)  # of those that answer
    spread = within_film_spread(classifier, squares, progress=progress)
    if not np.isfinite(spread).all():
        raise ModelError(f"'{card.name}' answers varied films with no finite number.")
    found = Repeatability(
        model=card.name,
        version=card.version,
        weights=weights,
        date=datetime.now(UTC).date().isoformat(),
        command=f"python -m cxr_core repeatability --model {card.name} --data FOLDER",
        films=len(squares),
        copies=COPIES,
        spread=dict(zip(card.labels, (round(float(one), 4) for one in spread), strict=True)),
    )
    text = json.dumps(found.to_json(), indent=2, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", "utf-8")
    return found


def within_film_spread(
    classifier: Classifier,
    squares: NDArray[np.uint8],
    *,
    copies: int = COPIES,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Return the standard deviation (K,) of each label's log-odds within films taken anew.

    Args:
        classifier: The model.
        squares: uint8 (N, S, S), each a film of another patient.
        copies: How often each is taken anew.
        progress: Told how far it is.
    """
    from cxr_core.augmentation import ACQUISITION, augment  # Keras' operations warp the films

    card, rng, variances = classifier.card, np.random.default_rng(SEED), []
    for k in range(0, len(squares), 32):
        films = squares[k : k + 32].astype(np.float32) / np.float32(255)
        taken = [augment(films, ACQUISITION, rng) for _ in range(copies)]
        logits = [classifier.forward(normalise(one, card.preprocessing)[0])[0] for one in taken]
        answers = log_odds(np.stack(logits), card.activation)
        variances.append(answers.var(axis=0, ddof=1))
        if progress:
            progress("Films taken anew", k + len(films), len(squares))
    return np.asarray(np.sqrt(np.concatenate(variances).mean(axis=0)))
