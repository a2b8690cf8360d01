"""Recipes: which folder, which labels, which network, trained how. Data only.

A recipe says everything that `python -m cxr_core train RECIPE --data FOLDER` needs; the
loops that run it live in `training`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cxr_core.errors import ArgumentError, UnknownName
from cxr_core.preprocess import Preprocessing


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is fitted.

    Attributes:
        epochs: Passes over the training films.
        batch: Films per step.
        learning_rate: Peak of a cosine schedule that ends at zero.
        warmup: Share of all steps over which the rate climbs to its peak.
        weight_decay: Decoupled (AdamW, Loshchilov 2019, arXiv:1711.05101).
        label_smoothing: Moves targets this far towards the middle.
        average: Momentum of the running average of weights that is validated and kept
            (Polyak averaging: steadier than the last step's weights).
        class_weight: "balanced" weighs films inversely to how common their class is.
        validation: Share of the training films, by patient, that only chooses.
        perturbed_copies: How many times each validation film is also scored perturbed.
    """

    epochs: int
    batch: int = 32
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    average: float = 0.995
    class_weight: Literal["balanced", "none"] = "balanced"
    validation: float = 0.13
    perturbed_copies: int = 2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One reproducible model.

    Attributes:
        name: What `train` calls it.
        model: The name under which the trained model is registered by default.
        layout: How its data folder is laid out (see `datasets`).
        labels: Each label the model answers, and the findings in the data that mean yes.
            A label with no findings means that nothing was found ("Normal").
        activation: "sigmoid" (labels apart) or "softmax" (exactly one is true).
        network: A name from `networks`.
        options: Passed to its builder.
        preprocessing: How films are squared and scaled.
        config: How the network is fitted.
        sensitivity: The operating point is the highest threshold that reaches this
            sensitivity on validation films, plain and perturbed together.
        card: Words for the model card: data, intended_use, not_for, limits, age_range, views.
        data_digest: Of the films that these words are about (see `cards.ModelCard`); a model
            trained on others says so.
    """

    name: str
    model: str
    layout: str
    labels: Mapping[str, tuple[str, ...]]
    activation: Literal["sigmoid", "softmax"]
    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing
    config: TrainingConfig
    sensitivity: float = 0.95
    card: Mapping[str, Any]
    data_digest: str = ""


_RECIPES: dict[str, Recipe] = {}


def register_recipe(make: Callable[[], Recipe]) -> Callable[[], Recipe]:
    """Register a recipe under the name of the function that makes it.

    Raises:
        ArgumentError: When the name is taken, or differs from the recipe's own.
    """
    name, recipe = make.__name__.replace("_", "-"), make()
    if name in _RECIPES:
        raise ArgumentError(f"A recipe named '{name}' is registered already; rename one of them.")
    if recipe.name != name:
        raise ArgumentError(f"The recipe made by '{name}' calls itself '{recipe.name}'.")
    _RECIPES[name] = recipe
    return make


def list_recipes() -> list[str]:
    """Name the registered recipes, sorted."""
    return sorted(_RECIPES)


def get_recipe(name: str) -> Recipe:
    """Return one recipe.

    Raises:
        UnknownName: When no such recipe is registered.
    """
    if name not in _RECIPES:
        raise UnknownName("recipe", name, _RECIPES)
    return _RECIPES[name]


_KERMANY = {
    "data": "Chest X-ray images (pneumonia), Kermany et al., Cell 2018; Guangzhou Women and "
    "Children's Medical Center; CC BY 4.0. Published train folder for training and validation, "
    "published test folder for the test record.",
    "limits": (
        "One hospital, one country, films of 2013 or earlier; not tested elsewhere.",
        "The files carry no dates, sexes or exact ages, so no subgroup can be reported.",
        "Training films had been squashed to squares; film shape and sharpness differ "
        "between its classes, which training works against but cannot prove undone.",
        "Labels were read from the films by experts, not confirmed by culture.",
    ),
    "age_range": (1.0, 5.0),
    "views": ("AP", "PA"),
}
_KERMANY_TRAIN = "ad58f2fc6fc4fc998b1858ec7b34fed6287c6dfdc94fcdf8b3a39573038f650b"
_NOT_FOR_CHILDREN_ELSEWHERE = (
    "Adults, infants under 1 year, children over 5 years.",
    "Lateral films, computed tomography, photographs of films.",
)


@register_recipe
def pediatric_pneumonia() -> Recipe:
    """Pneumonia in children: the published split, our own network, honest thresholds."""
    return Recipe(
        name="pediatric-pneumonia",
        model="pediatric-pneumonia",
        layout="class-folders",
        labels={"Pneumonia": ("PNEUMONIA",)},
        activation="sigmoid",
        network="residual",
        preprocessing=Preprocessing(size=160, fit="stretch", channels=1, standardise=True),
        config=TrainingConfig(epochs=18),
        card=_KERMANY
        | {
            "intended_use": "A second opinion on whether a frontal (anterior-posterior) chest "
            "radiograph of a child of 1 to 5 years shows pneumonia, for research and teaching.",
            "not_for": (
                "Diagnosis, triage or ruling out pneumonia in patient care.",
                *_NOT_FOR_CHILDREN_ELSEWHERE,
                "Findings other than pneumonia: it does not know them and stays silent.",
            ),
        },
        data_digest=_KERMANY_TRAIN,
    )


@register_recipe
def pediatric_type() -> Recipe:
    """Normal, bacterial or viral pneumonia in children: exactly one of three."""
    return Recipe(
        name="pediatric-type",
        model="pediatric-type",
        layout="class-folders",
        labels={
            "Normal": (),
            "Bacterial pneumonia": ("bacteria",),
            "Viral pneumonia": ("virus",),
        },
        activation="softmax",
        network="residual",
        preprocessing=Preprocessing(size=160, fit="stretch", channels=1, standardise=True),
        config=TrainingConfig(epochs=18),
        card=_KERMANY
        | {
            "intended_use": "A second opinion on whether a frontal (anterior-posterior) chest "
            "radiograph of a child of 1 to 5 years is normal or shows bacterial or viral "
            "pneumonia, for research and teaching.",
            "not_for": (
                "Choosing or withholding antibiotics; diagnosis or triage in patient care.",
                *_NOT_FOR_CHILDREN_ELSEWHERE,
                "Findings other than pneumonia: each film is forced into one of three answers.",
            ),
        },
        data_digest=_KERMANY_TRAIN,
    )
