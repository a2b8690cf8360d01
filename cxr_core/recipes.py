"""Recipes: which folder, which labels, which network, trained how. Data only.

A recipe says everything that `python -m cxr_core train RECIPE --data FOLDER` needs; the
loops that run it live in `training`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cxr_core.datasets import NIH_FINDINGS, NO_FINDING
from cxr_core.errors import ArgumentError, UnknownName
from cxr_core.preprocess import Preprocessing

ANY = "*"
"""Stands for whatever finding a film may have."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is fitted.

    Attributes:
        epochs: Passes over the training films.
        batch: Films per step.
        optimizer: "adamw" (decoupled weight decay, Loshchilov 2019, arXiv:1711.05101),
            "adam", "sgd" (momentum 0.9), or "solve": the one dense layer over a frozen
            backbone is computed at once, as logistic regressions.
        inverse_penalty: Of "solve": the smaller, the more its weights are held back.
        learning_rate: Its peak.
        schedule: "cosine" climbs to the peak, then falls to zero; "constant" stays there.
        warmup: Share of all steps over which a cosine schedule climbs.
        weight_decay: Of "adamw".
        label_smoothing: Moves targets this far towards the middle.
        average: Momentum of the running average of weights that is validated and kept
            (Polyak averaging: steadier than the last step's weights); 0 keeps the weights as
            they are.
        augmentation: "strong" (what other units, technicians and archives do to a film),
            "mild" (small moves only, as the sources had it) or "none".
        class_weight: "balanced" weighs films inversely to how common their class is; a number
            weighs films without the finding by it; "within-source" makes films with and without
            findings count the same within each source, so that knowing the source tells
            nothing; "half-within-source" goes half of the way; "none".
        frozen: Leave the backbone as it came: its last maps are computed once and cached, and
            only the layers above are fitted.
        keep: Which epoch's weights become the model: the "best" on (perturbed) validation, or
            the "last".
        checkpoints: Keep every epoch's weights, so that any can become a model.
        validation: Share of the training films, by patient, that only chooses.
        perturbed_copies: How many times each validation film is also scored perturbed.
    """

    epochs: int
    batch: int = 32
    optimizer: Literal["adamw", "adam", "sgd", "solve"] = "adamw"
    inverse_penalty: float = 1e-3
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    average: float = 0.995
    augmentation: Literal["strong", "mild", "none"] = "strong"
    class_weight: Literal["balanced", "within-source", "half-within-source", "none"] | float = (
        "balanced"
    )
    frozen: bool = False
    keep: Literal["best", "last"] = "best"
    checkpoints: bool = False
    validation: float = 0.13
    perturbed_copies: int = 2


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Which films of a folder train, choose and are scored.

    Attributes:
        resplit: Forget the folder's own splits: "patient" keeps each patient on one side;
            "film" does not, as many published figures did not, and so flatters; None keeps the
            folder's own splits where it has any, and else splits by patient.
        held_out: Shares of the films for validation and for test when it is split anew.
        share: Share of the training and validation films that is used at all.
        ages: Films of patients known to be outside of these years are left out.
    """

    resplit: Literal["patient", "film"] | None = None
    held_out: tuple[float, float] = (0.15, 0.15)
    share: float = 1.0
    ages: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One reproducible model.

    Attributes:
        name: What `train` calls it.
        model: The name under which the trained model is registered by default.
        layouts: How its data folder may be laid out (see `datasets`).
        labels: Each label the model answers, and the findings in the data that mean yes.
            A label with no findings means that nothing was found ("Normal"); `ANY` stands for
            every finding.
        activation: "sigmoid" (labels apart) or "softmax" (exactly one is true).
        network: A name from `networks`.
        options: Passed to its builder.
        preprocessing: How films are squared and scaled.
        protocol: Which films train, choose and are scored.
        config: How the network is fitted.
        sensitivity: The operating point is the highest threshold that reaches this
            sensitivity on validation films, plain and perturbed together; None keeps 0.5, as
            the sources did.
        least_specificity: A label whose threshold would leave less than this share of validation
            films without the finding unflagged gets no operating point.
        rule_changed: Why the rule of its operating points was changed after test films had been
            scored; empty when it was not.
        control: When above 0, the same network is also trained and scored with the middle of
            every film blacked out, this share of each side: what it still scores, it does not
            read from the lungs.
        replica: It repeats what a published system did, for comparison; readers are not offered it.
        reported: What the source reported, figure by figure, as its own words name them.
        better: Our model for the same question, whose figures are printed beside.
        gate: Whether the checks of `gate` fit its films: pictures of two classes of any kind
            are not refused for being no chest films.
        card: Words for the model card: data, intended_use, not_for, limits, age_range, views.
        data_digest: Of the films that these words are about (see `cards.ModelCard`); a model
            trained on others says so.
    """

    name: str
    model: str
    layouts: tuple[str, ...] = ("class-folders",)
    labels: Mapping[str, tuple[str, ...]]
    activation: Literal["sigmoid", "softmax"]
    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing
    protocol: Protocol = Protocol()
    config: TrainingConfig
    sensitivity: float | None = 0.95
    least_specificity: float = 0.0
    rule_changed: str = ""
    control: float = 0.0
    replica: bool = False
    reported: Mapping[str, float] = field(default_factory=dict)
    better: str | None = None
    gate: bool = True
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


# --- the five published student systems, by their own protocols (DESIGN section 5) ---

_AS_PUBLISHED = (
    "It reproduces what a published student system did; a better model for the same films is "
    "named beside it."
)


def _pediatric_replica(name: str, **changes: Any) -> Recipe:
    """Start from what the pediatric replicas share: pixels in [0, 1], Adam, 0.5, last epoch."""
    pneumonia = get_recipe("pediatric-pneumonia")
    card = dict(pneumonia.card)
    card["limits"] = (_AS_PUBLISHED, *card["limits"])
    return replace(
        pneumonia,
        name=name,
        model=name,
        network="pooled",
        sensitivity=None,
        replica=True,
        better="pediatric-pneumonia",
        card=card,
        **changes,
    )


def _as_the_sources(epochs: int, **changes: Any) -> TrainingConfig:
    plain: dict[str, Any] = {
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "label_smoothing": 0.0,
        "average": 0.0,
        "augmentation": "none",
        "class_weight": "none",
        "keep": "last",
        "perturbed_copies": 0,
    }
    return TrainingConfig(epochs=epochs, **plain | changes)


def _unscaled(size: int, channels: Literal[1, 3]) -> Preprocessing:
    return Preprocessing(size=size, fit="stretch", channels=channels, standardise=False)


@register_recipe
def two_folder_cnn() -> Recipe:
    """A plain CNN from scratch on the published train and test folders.

    The source does not print its network: four convolutions and one dense layer stand for it.
    """
    return _pediatric_replica(
        "two-folder-cnn",
        options={"widths": (32, 64, 128, 128), "strides": (1, 1, 1, 1), "dense": (128,)}
        | {"activation": "relu"},
        preprocessing=_unscaled(128, 1),
        config=_as_the_sources(12, augmentation="mild"),
        reported={"accuracy": 0.9437, "loss": 0.1586},
    )


def _subset(name: str, **changes: Any) -> Recipe:
    """All films split anew 70/15/15, stratified; low resolution and few epochs."""
    options = {"widths": (32, 64, 64), "strides": (1, 1, 1), "dense": (64,), "activation": "relu"}
    return _pediatric_replica(name, options=options, preprocessing=_unscaled(96, 1), **changes)


@register_recipe
def subset_cnn() -> Recipe:
    """Train on 22 % of the films at low resolution; split by film, as the source did."""
    return _subset(
        "subset-cnn",
        protocol=Protocol(resplit="film", share=0.22),
        config=_as_the_sources(10),
        reported={},
    )


@register_recipe
def subset_cnn_whole() -> Recipe:
    """The same network on all training films; split by film, as the source did."""
    return _subset(
        "subset-cnn-whole",
        protocol=Protocol(resplit="film"),
        config=_as_the_sources(10),
        reported={
            "train accuracy": 0.9736,
            "train loss": 0.0774,
            "accuracy": 0.9545,
            "loss": 0.1214,
        },
    )


@register_recipe
def subset_cnn_by_patient() -> Recipe:
    """The same network and shares, no patient on two sides: what the leak was worth."""
    return _subset(
        "subset-cnn-by-patient",
        protocol=Protocol(resplit="patient"),
        config=_as_the_sources(10),
        reported={},
    )


def _swish(name: str, activation: str, dense: tuple[int, ...], reported: Any) -> Recipe:
    """300x300x3, five convolutions, 60 epochs, normal films weighing 1.2."""
    return _pediatric_replica(
        name,
        options={"activation": activation, "dense": dense},
        preprocessing=_unscaled(300, 3),
        config=_as_the_sources(60, augmentation="mild", class_weight=1.2),
        reported=reported,
    )


@register_recipe
def swish_cnn() -> Recipe:
    """Five convolutions with swish; 311,041 parameters."""
    return _swish(
        "swish-cnn",
        "swish",
        (256,),
        {"accuracy": 0.9030, "auc": 0.9558, "precision": 0.9049, "recall": 0.9412},
    )


@register_recipe
def swish_cnn_relu() -> Recipe:
    """The twin with ReLU, which the source compared with."""
    return _swish("swish-cnn-relu", "relu", (256,), {})


@register_recipe
def swish_cnn_deep() -> Recipe:
    """The variant with a second dense layer and a second dropout."""
    return _swish("swish-cnn-deep", "swish", (256, 128), {})


@register_recipe
def vgg16_codes() -> Recipe:
    """Normal or abnormal from the codes of a frozen backbone; every epoch is kept."""
    return Recipe(
        name="vgg16-codes",
        model="vgg16-codes",
        layouts=("class-folders", "pickled-labels", "csv", "nih-csv"),
        labels={"Normal": (), "Abnormal": (ANY,)},
        activation="softmax",
        network="codes",
        options={"backbone": "mobilenet-v1"},
        preprocessing=_unscaled(224, 3),
        config=_as_the_sources(
            20, optimizer="sgd", learning_rate=1e-2, frozen=True, checkpoints=True, keep="best"
        ),
        sensitivity=None,
        replica=True,
        reported={"accuracy": 0.72},
        card={
            "data": "",
            "intended_use": "Telling films with any finding from films without, by the codes of "
            "a backbone trained on photographs, for research and teaching.",
            "not_for": (
                "Diagnosis, triage or ruling out disease in patient care.",
                "Films of other kinds of patients than those it was trained on.",
            ),
            "limits": (_AS_PUBLISHED, "The backbone has never seen a radiograph."),
            "age_range": None,
            "views": ("PA", "AP"),
        },
    )


_NIH = {
    "data": "NIH ChestX-ray14 (a part of 1,309 films), Wang et al., CVPR 2017, "
    "https://nihcc.app.box.com/v/ChestXray-NIHCC; labels mined from reports, 10 to 30 % wrong.",
    "not_for": (
        "Diagnosis, triage or ruling out disease in patient care.",
        "Children; lateral films, computed tomography, photographs of films.",
    ),
    "age_range": (18.0, 120.0),
    "views": ("PA", "AP"),
}


def _adult(
    name: str, labels: Mapping[str, tuple[str, ...]], sensitivity: float, intended: str
) -> Recipe:
    """Read a frozen backbone at six depths by logistic regressions; a fifth is held out.

    The films come from collections that differ in looks and in how often they are normal: so
    each source is balanced half of the way within itself. All of it was chosen by patient-wise
    cross-validation on training and validation films, where fine-tuning the backbone added
    nothing (BENCHMARKS.md).
    """
    return Recipe(
        name=name,
        model=name,
        layouts=("nih-csv",),
        labels=labels,
        activation="sigmoid",
        network="pretrained",
        options={
            "backbone": "mobilenet-v1",
            "dropout": 0.0,
            "depths": tuple(f"conv_pw_{depth}_relu" for depth in (5, 7, 9, 10, 11, 12)),
        },
        preprocessing=_unscaled(320, 1),
        protocol=Protocol(held_out=(0.16, 0.2), ages=(18.0, 120.0)),
        config=TrainingConfig(
            epochs=1,
            optimizer="solve",
            average=0.0,
            label_smoothing=0.0,
            augmentation="none",
            class_weight="half-within-source",
            frozen=True,
            keep="last",
        ),
        sensitivity=sensitivity,
        least_specificity=1 / 3,
        rule_changed="this rule replaced a first one (sensitivity 0.9, no exception) after test "
        "films had been scored, because on validation films too that one flagged nearly every "
        "film for some findings",
        card=_NIH
        | {
            "intended_use": intended,
            "limits": (
                "About 700 training films with labels mined from reports: a small, noisy set.",
                "The films come from collections that differ in how they look and how often "
                "they are normal; figures over all films flatter, see BENCHMARKS.md for each.",
                "Its network was trained on photographs; only the last layer has seen films, and "
                "films changed as another X-ray unit might take them are told apart far worse.",
                "One hospital in the United States; not tested elsewhere.",
            ),
        },
    )


@register_recipe
def adult_abnormality() -> Recipe:
    """Whether a frontal film of an adult shows any of 14 findings."""
    return _adult(
        "adult-abnormality",
        {"Abnormal": (ANY,)},
        0.9,
        "A second opinion on whether a frontal chest radiograph of an adult shows any of 14 "
        "findings, for research and teaching.",
    )


@register_recipe
def adult_findings() -> Recipe:
    """Which of 14 findings a frontal film of an adult shows, or none."""
    return _adult(
        "adult-findings",
        {name: (name,) for name in NIH_FINDINGS} | {NO_FINDING: ()},
        0.7,  # at 0.9, most validation films without a finding would be flagged for it
        "A second opinion on which of 14 findings a frontal chest radiograph of an adult shows, "
        "for research and teaching.",
    )


@register_recipe
def inceptionv3_nih15() -> Recipe:
    """14 findings and No Finding with InceptionV3 and four dense layers."""
    return Recipe(
        name="inceptionv3-nih15",
        model="inceptionv3-nih15",
        layouts=("nih-csv", "tfrecord"),
        labels={name: (name,) for name in NIH_FINDINGS} | {NO_FINDING: ()},
        activation="sigmoid",
        network="pretrained",
        options={
            "backbone": "inception-v3",
            "dense": (512, 128, 32),
            "normalise": (True, True, False),
            "dropout": 0.0,
        },
        preprocessing=_unscaled(299, 3),
        protocol=Protocol(ages=(18.0, 120.0)),
        config=_as_the_sources(10, keep="best"),
        sensitivity=None,
        replica=True,
        reported={"loss": 0.1946, "auc": 0.7301, "accuracy": 0.9307},
        better="adult-findings",
        card=_NIH
        | {
            "intended_use": "Reproducing a published student system that names 14 findings on "
            "frontal films of adults, for research and teaching.",
            "limits": (
                _AS_PUBLISHED,
                "Binary accuracy means little here: calling every finding absent scores 0.9.",
                "The films come from collections that differ in how they look and what they "
                "hold; pooled figures flatter.",
            ),
        },
    )


@register_recipe
def covid_radiography() -> Recipe:
    """COVID-19 or normal, with the lesson built in: the same network on the borders alone."""
    return Recipe(
        name="covid-radiography",
        model="covid-radiography",
        labels={"COVID-19": ("COVID",)},
        activation="sigmoid",
        network="residual",
        preprocessing=Preprocessing(size=128, fit="stretch", channels=1, standardise=True),
        config=TrainingConfig(epochs=20),
        control=0.8,
        card={
            "data": "COVID-19 Radiography set (2,100 films of each class), Chowdhury et al., IEEE "
            "Access 2020, and Rahman et al., Computers in Biology and Medicine 2021; each "
            "source its own terms.",
            "intended_use": "Showing what a network learns when its classes come from different "
            "hospitals, for research and teaching.",
            "not_for": (
                "Telling whether a patient has COVID-19.",
                "Children; lateral films, computed tomography, photographs of films.",
            ),
            "limits": (
                "Each class comes from sources of its own: that shortcuts are learned is certain, "
                "and a control trained on the borders alone is scored beside it.",
                "Patients are not named in the data, so that films of one patient may lie on "
                "both sides of the split.",
            ),
            "age_range": (18.0, 120.0),
            "views": ("PA", "AP"),
        },
    )
