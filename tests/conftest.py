"""Fixtures that many test files share."""

import os

# Before anything imports TensorFlow, which otherwise logs about missing GPUs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# No test writes into the records of whoever runs it; those that need records say where.
os.environ["CXR_RECORDS"] = "off"

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cxr_core.calibration import Calibration, Curve
from cxr_core.cards import ModelCard
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.images import Radiograph
from cxr_core.phantom import thorax, write_dataset
from cxr_core.preprocess import Preprocessing
from cxr_core.recipes import Recipe, get_recipe
from cxr_core.records import Records

# No test is about the time that one example takes, on whatever machine.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The real films, which travel beside the repository and are absent on a fresh clone."""
    folder = DATA.resolve()
    if not folder.is_dir():
        pytest.skip(f"the real films are not here: {folder} is absent")
    return folder


@pytest.fixture(scope="session")
def phantom_film() -> Radiograph:
    """A computer-made film without opacities, 256 x 224 pixels."""
    return thorax(256, 224, seed=1)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of computer-made films, {train,test}/{NORMAL,PNEUMONIA}."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, patients_per_class=8, size=96)
    return folder


@pytest.fixture
def made_card() -> ModelCard:
    """A card for children of 1-5 years, as the shipped model has, with a 64-pixel input."""
    return ModelCard(
        name="made",
        labels=("Pneumonia",),
        activation="sigmoid",
        preprocessing=Preprocessing(size=64),
        operating_points=(0.4,),
        operating_rule="By hand.",
        cannot_tell=((0.3, 0.5),),
        calibration=Calibration((Curve("temperature", (1.5,)),), 200, (0.4,)),
        network="residual",
        recipe="pediatric-pneumonia",
        training={},
        data_digest="0" * 64,
        data="None.",
        intended_use="Tests.",
        not_for=("Anything else.",),
        age_range=(1.0, 5.0),
        views=("AP", "PA"),
        limits=("Everything.",),
        version="0",
        created="2026-01-01",
    )


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """The real recipe, small enough to train in seconds."""
    recipe = get_recipe("pediatric-pneumonia")
    return replace(
        recipe,
        preprocessing=Preprocessing(size=64),
        options={"widths": (8, 16, 16, 16), "blocks": (1, 1, 1, 1)},
        config=replace(recipe.config, epochs=2, batch=8, validation=0.3, average=0.5),
    )


@pytest.fixture
def eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings run their steps as they are written: to trace takes longer than a few steps."""
    from cxr_core import training

    compile_network = training.compile_network

    def compile_eagerly(network: Any, *others: Any) -> None:
        compile_network(network, *others)
        network.run_eagerly = True

    monkeypatch.setattr(training, "compile_network", compile_eagerly)


@pytest.fixture(scope="session")
def tiny_models(
    tmp_path_factory: pytest.TempPathFactory, phantom_folder: Path, tiny_recipe: Recipe
) -> Path:
    """A models folder with one real bundle in it, trained on phantoms by the real path."""
    from cxr_core.release import train

    place = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_MODELS", str(place / "models"))
        patch.setenv("CXR_CACHE", str(place / "cache"))
        (place / "models").mkdir()
        train(tiny_recipe, phantom_folder, name="tiny", runs=place / "runs")
    return place / "models"


@pytest.fixture(scope="session")
def tiny_classifier(tiny_models: Path) -> Classifier:
    """The tiny bundle, loaded."""
    return load_classifier("tiny", tiny_models)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    """Records of this test alone, as the pages open them."""
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    monkeypatch.setenv("CXR_RECORDS", url)
    return Records(url)


@pytest.fixture
def flags(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny bundle, made to flag every film."""
    shutil.copytree(tiny_models / "tiny", tmp_path / "models" / "flags")
    path = tmp_path / "models" / "flags" / "card.json"
    card = json.loads(path.read_text())
    card |= {"name": "flags", "operating_points": [1e-6], "cannot_tell": [None]}
    path.write_text(json.dumps(card))
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
