"""Training: what goes in, what validation decides, and that a killed training goes on."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cxr_core import training
from cxr_core.cards import load_card, load_history
from cxr_core.datasets import Film, index
from cxr_core.decisions import decide
from cxr_core.errors import ArgumentError, DataError, TrainingError
from cxr_core.evaluation import threshold_report
from cxr_core.parts import Part, blacked_out, prepare_parts, targets
from cxr_core.preprocess import finish
from cxr_core.recipes import get_recipe, list_recipes, register_recipe
from cxr_core.release import train, validate
from cxr_core.training import (
    Run,
    as_sources_count,
    batches,
    chosen_epoch,
    film_weights,
    fit,
    perturbed,
    predict_logits,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def parts(phantom_folder, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return prepare_parts(index(phantom_folder), tiny_recipe, 0)


def test_targets_follow_the_recipes_meaning():
    films = [Film(n, f, n, None, n) for n, f in (("a", ()), ("b", ("PNEUMONIA", "virus")))]
    recipe = get_recipe("pediatric-pneumonia")
    assert targets(films, recipe).tolist() == [[0], [1]]
    three = replace(recipe, labels={"Normal": (), "Bacterial": ("bacteria",), "Viral": ("virus",)})
    assert targets(films, three).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_parts_share_no_patient_and_validation_comes_from_train(parts):
    patients = {name: {film.patient for film in part.films} for name, part in parts.items()}
    assert not patients["train"] & patients["validation"]
    assert all(film.split == "train" for film in parts["validation"].films)
    assert all(film.split == "test" for film in parts["test"].films)


def test_a_leaking_folder_is_refused(phantom_folder, tiny_recipe):
    dataset = index(phantom_folder)
    first = dataset.films[0]
    leak = replace(first, split="train" if first.split == "test" else "test", digest="other")
    with pytest.raises(DataError, match="more than one split"):
        prepare_parts(replace(dataset, films=(*dataset.films, leak)), tiny_recipe, 0)


def test_test_films_never_become_training_films(phantom_folder, tiny_recipe):
    dataset = index(phantom_folder)
    only = replace(dataset, films=tuple(film for film in dataset.films if film.split == "test"))
    with pytest.raises(DataError, match="films for test but none to train on"):
        prepare_parts(only, tiny_recipe, 0)


def test_a_part_with_one_class_is_refused(phantom_folder, tiny_recipe):
    dataset = index(phantom_folder)
    normal = tuple(film for film in dataset.films if not film.findings)
    with pytest.raises(DataError, match="both kinds are needed"):
        prepare_parts(replace(dataset, films=normal), tiny_recipe, 0)


def weighed(targets, config, activation="sigmoid", sources=None):
    films = tuple(
        Film(str(k), ("x",) if row[0] else (), str(k), None, str(k), source=source)
        for k, (row, source) in enumerate(
            zip(targets, sources or [None] * len(targets), strict=True)
        )
    )
    part = Part(films, np.empty((len(films), 1, 1), np.uint8), np.array(targets, np.float32))
    return film_weights(part, config, activation)


def test_weights_make_classes_count_the_same():
    four = [[1], [1], [1], [0]]
    config = get_recipe("pediatric-pneumonia").config
    weights = weighed(four, config)
    assert weights[:3].sum() == pytest.approx(weights[3:].sum())
    assert weights.mean() == pytest.approx(1)
    assert weighed(four, replace(config, class_weight="none")).tolist() == [1] * 4
    assert weighed(four, replace(config, class_weight=2.0)).tolist() == [1, 1, 1, 2]
    assert weighed([[1, 0], [1, 1], [0, 0]], config).tolist() == [1] * 3
    three = weighed([[1, 0, 0], [0, 1, 0], [0, 1, 0]], config, "softmax")
    assert three.tolist() == [1.5, 0.75, 0.75]


def test_weights_within_sources_make_the_source_tell_nothing():
    config = replace(get_recipe("pediatric-pneumonia").config, class_weight="within-source")
    sources = ["A", "A", "A", "B", "B", "B"]
    weights = weighed([[1], [1], [0], [1], [0], [0]], config, sources=sources)
    assert weights.tolist() == [0.75, 0.75, 1.5, 1.5, 0.75, 0.75]


def test_half_of_the_way_within_sources_lies_between_and_keeps_the_mean():
    config = replace(get_recipe("pediatric-pneumonia").config, class_weight="half-within-source")
    weights = weighed([[1], [1], [1], [0], [1], [0]], config, sources=["A"] * 4 + ["B"] * 2)
    assert weights.mean() == pytest.approx(1)
    # Within A one film without stands against three with: its weight is three times theirs.
    assert weights[3] / weights[0] == pytest.approx(3**0.5)


def test_a_finding_that_would_flag_nearly_every_film_gets_no_operating_point(
    tiny_recipe, monkeypatch
):
    from cxr_core import release

    truth = np.repeat([[1, 1], [0, 0]], [10, 30], axis=0).astype(np.float32)
    logits = np.zeros((40, 2), np.float32)
    logits[:, 0] = np.where(truth[:, 0] == 1, 2, np.linspace(-3, 1, 40))
    logits[:, 1] = np.where(truth[:, 1] == 1, -2, np.linspace(-3, 1, 40))  # worse than chance
    films = tuple(Film(f"{k}", (), f"p{k}", None, f"d{k}") for k in range(40))
    held = Part(films, np.zeros((40, 8, 8), np.uint8), truth)
    recipe = replace(
        tiny_recipe,
        labels={"Seen": ("a",), "Unseen": ("b",)},
        least_specificity=1 / 3,
        config=replace(tiny_recipe.config, perturbed_copies=0),
    )
    monkeypatch.setattr(
        release, "predict_logits", lambda network, part, shape: logits[: len(part.films)]
    )
    points = decide(validate(None, held, recipe, 0), recipe).operating_points
    assert points[0] is not None and points[1] is None


@pytest.mark.usefixtures("eagerly")
def test_only_a_single_layer_over_a_frozen_backbone_is_solved_at_once(parts, tiny_recipe, tmp_path):
    config = replace(
        tiny_recipe.config, optimizer="solve", frozen=True, epochs=1, average=0.0, keep="last"
    )
    solved = replace(tiny_recipe, config=config)
    network = fit(solved, parts, Run(tmp_path / "run"), seed=0)
    assert np.abs(network.get_layer("logits").get_weights()[0]).max() > 0
    told = Run(tmp_path / "run").history()
    assert len(told) == 1 and told[0]["learning_rate"] == 0
    deep = replace(solved, network="codes", options={"hidden": 4})
    with pytest.raises(TrainingError, match="one dense layer"):
        fit(deep, parts, Run(tmp_path / "deep"), seed=0)


def test_figures_are_counted_as_keras_counts_them():
    import keras

    rng = np.random.default_rng(0)
    y_true = (rng.random((40, 3)) < 0.4).astype(np.float32)
    logits = rng.normal(size=(40, 3)).astype(np.float32)
    told = as_sources_count(y_true, logits, "sigmoid")
    loss = keras.losses.BinaryCrossentropy(from_logits=True)(y_true, logits)
    assert told["loss"] == pytest.approx(float(loss), rel=1e-4)
    metrics = {
        "accuracy": keras.metrics.BinaryAccuracy(threshold=0.5),
        "precision": keras.metrics.Precision(0.5),
        "recall": keras.metrics.Recall(0.5),
        "auc": keras.metrics.AUC(num_thresholds=2000),
    }
    for name, metric in metrics.items():
        metric.update_state(y_true, 1 / (1 + np.exp(-logits)))
        assert told[name] == pytest.approx(float(metric.result()), abs=1e-3), name
    one = np.eye(3, dtype=np.float32)[y_true.argmax(axis=1)]
    told = as_sources_count(one, logits, "softmax")
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)(one, logits)
    assert told["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert told["accuracy"] == (logits.argmax(axis=1) == one.argmax(axis=1)).mean()
    assert "auc" not in as_sources_count(np.ones((2, 1), np.float32), logits[:2, :1], "sigmoid")


def test_batches_repeat_for_an_epoch_and_change_with_it(parts, tiny_recipe):
    def epoch(number):
        made = batches(parts["train"], tiny_recipe, 0, number)
        return [np.concatenate(each) for each in zip(*made, strict=True)]

    for one, other in zip(epoch(3), epoch(3), strict=True):
        assert_array_equal(one, other)
    assert np.abs(epoch(3)[0] - epoch(4)[0]).max() > 0.1
    assert len(epoch(3)[0]) == len(parts["train"].films) // 8 * 8


def test_perturbed_copies_are_fixed_by_the_seed(parts, tiny_recipe):
    held = parts["validation"]
    hard = perturbed(held, tiny_recipe, 0)
    assert hard.squares.shape == (2 * len(held.films), 64, 64) and hard.squares.dtype == np.uint8
    assert_array_equal(hard.squares, perturbed(held, tiny_recipe, 0).squares)
    assert (hard.squares[: len(held.films)] != held.squares).mean() > 0.5
    assert_array_equal(hard.targets[len(held.films) :], held.targets)
    none = replace(tiny_recipe, config=replace(tiny_recipe.config, perturbed_copies=0))
    assert perturbed(held, none, 0).squares.shape == (0, 64, 64)


def test_the_chosen_epoch_is_the_first_highest_on_perturbed_films_or_the_last(tiny_recipe):
    rows = [
        {"perturbed_auroc": value, "validation_auroc": value + (value == 0.85)}
        for value in (0.8, 0.9, 0.85, 0.9)
    ]
    config = tiny_recipe.config
    assert chosen_epoch(rows, config) == 2
    assert chosen_epoch(rows, replace(config, perturbed_copies=0)) == 3
    assert chosen_epoch(rows, replace(config, keep="last")) == 4
    assert chosen_epoch([{"perturbed_auroc": np.nan}], config) == 1


def test_a_network_learns_the_films_it_is_shown(parts, tiny_recipe, tmp_path):
    """Not by one epoch's loss: the augmented batch of a few films is noise."""
    config = replace(tiny_recipe.config, epochs=20, batch=15, perturbed_copies=0)
    config = replace(config, augmentation="none", label_smoothing=0.0)
    run = Run(tmp_path / "run")
    fit(replace(tiny_recipe, config=config), parts, run, seed=1)
    losses = [row["loss"] for row in run.history()]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


@pytest.mark.usefixtures("eagerly")
def test_a_training_keeps_its_best_and_resumes_with_the_same_history(parts, tiny_recipe, tmp_path):
    """Two epochs, then --resume for two more, equal four at once: order, rate and rows."""
    four = replace(tiny_recipe, config=replace(tiny_recipe.config, epochs=4))
    whole = Run(tmp_path / "whole")
    network = fit(four, parts, whole, seed=1)
    kept = predict_logits(network, parts["validation"], four.preprocessing)

    class Stop(Exception):
        pass

    def stop_after_two(what, done, total):
        if "loss" in what and done == 2:
            raise Stop

    broken = Run(tmp_path / "broken")
    with pytest.raises(Stop):
        fit(four, parts, broken, seed=1, progress=stop_after_two)
    assert len(broken.history()) == 2
    with pytest.raises(TrainingError, match="Add --resume"):
        fit(four, parts, broken, seed=1)
    with pytest.raises(TrainingError, match="began with other seed"):
        fit(four, parts, broken, seed=2, resume=True)
    corrected = replace(parts["train"], targets=1 - parts["train"].targets)
    with pytest.raises(TrainingError, match="began with other train films"):
        fit(four, parts | {"train": corrected}, broken, seed=1, resume=True)
    dark = {name: blacked_out(part, 0.5) for name, part in parts.items()}
    with pytest.raises(TrainingError, match="began with other train films and validation films"):
        fit(four, dark, broken, seed=1, resume=True)
    again = fit(four, parts, broken, seed=1, resume=True)
    rows, expected = broken.history(), whole.history()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    for key in ("loss", "learning_rate", "perturbed_auroc"):
        assert_allclose([r[key] for r in rows], [r[key] for r in expected], rtol=2e-2)
    resumed = predict_logits(again, parts["validation"], four.preprocessing)
    assert_allclose(resumed, kept, atol=0.1)


def test_a_training_killed_in_the_middle_goes_on_from_its_last_epoch(
    phantom_folder, tmp_path, monkeypatch
):
    """kill -9 of a real process between two epochs, then --resume in another."""
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, time\n"
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "from cxr_core.preprocess import Preprocessing\n"
        "from cxr_core.recipes import get_recipe\n"
        "from cxr_core.release import train\n"
        "base = get_recipe('pediatric-pneumonia')\n"
        "recipe = replace(base, preprocessing=Preprocessing(size=64),\n"
        "    options={'widths': (8, 16, 16, 16), 'blocks': (1, 1, 1, 1)},\n"
        "    config=replace(base.config, epochs=3, batch=8, validation=0.3))\n"
        "def progress(what, done, total):\n"
        "    if 'loss' in what:\n"
        "        print('epoch', done, flush=True)\n"
        "    elif done == 1 and what == 'Epoch 3' and '--resume' not in sys.argv:\n"
        "        time.sleep(600)\n"
        "train(recipe, Path(sys.argv[1]), name='killed', runs=Path(sys.argv[2]),\n"
        "    resume='--resume' in sys.argv, progress=progress)\n"
    )
    models = tmp_path / "models"
    models.mkdir()
    environment = os.environ | {
        "CXR_MODELS": str(models),
        "CXR_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, str(script), str(phantom_folder), str(tmp_path / "runs")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(2)]
        time.sleep(1)  # into the third epoch, which waits
        process.send_signal(signal.SIGKILL)
    assert lines == ["epoch 1\n", "epoch 2\n"]
    assert list(models.iterdir()) == []
    run = Run(tmp_path / "runs" / "killed")
    before = run.history()
    assert len(before) == 2
    done = subprocess.run(
        [*command, "--resume"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "epoch 3\n"
    history = load_history("killed", models)
    assert history["epoch"] == [1, 2, 3]
    assert history["loss"][:2] == [row["loss"] for row in before]


def test_two_trainings_do_not_share_a_folder(parts, tiny_recipe, tmp_path):
    run = Run(tmp_path / "run")
    with run.alone():
        with pytest.raises(TrainingError, match=r"Another training works in .*--name"):
            fit(tiny_recipe, parts, Run(tmp_path / "run"), seed=0)
        assert not run.conditions.exists(), "the other's folder stays as it is"
    with run.alone():
        pass


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.usefixtures("eagerly")
def test_a_full_disk_is_a_sentence_and_the_kept_epochs_stay(
    parts, tiny_recipe, tmp_path, monkeypatch
):
    run = Run(tmp_path / "run")

    def fill_after_one(what, done, total):
        if "loss" in what and done == 1:
            monkeypatch.setattr(Path, "replace", no_room)

    with pytest.raises(TrainingError, match=r"cannot be kept in .*No space left.*--resume"):
        fit(tiny_recipe, parts, run, seed=0, progress=fill_after_one)
    monkeypatch.undo()
    assert len(run.history()) == 1
    assert run.state.exists() and run.best.exists()
    assert not list(run.folder.glob("aside.*"))
    elsewhere = Run(tmp_path / "elsewhere")
    monkeypatch.setattr(Path, "write_text", no_room)
    with pytest.raises(TrainingError, match="No space left"):
        elsewhere.claim({"seed": 0})
    with pytest.raises(TrainingError, match=r"cannot be kept in '/proc/none/run'"):
        fit(tiny_recipe, parts, Run(Path("/proc/none/run")), seed=0)


@pytest.mark.usefixtures("eagerly")
def test_the_operating_point_keeps_its_promise_on_the_films_that_chose_it(
    parts, tiny_recipe, tmp_path
):
    network = fit(tiny_recipe, parts, Run(tmp_path / "run"), seed=0)
    held = parts["validation"]
    decision = decide(validate(network, held, tiny_recipe, 0), tiny_recipe)
    from cxr_core.calibration import probabilities

    squares = np.concatenate([held.squares, perturbed(held, tiny_recipe, 0).squares])
    scores = probabilities(
        network.predict_on_batch(finish(squares, tiny_recipe.preprocessing)),
        decision.calibration,
        "sigmoid",
    )[:, 0]
    truth = np.tile(held.targets[:, 0], 3)
    point = decision.operating_points[0]
    # Scored in other batches the last digit may differ: look a hair below the point.
    assert threshold_report(truth, scores, point - 1e-6).sensitivity.value >= 0.95
    higher = np.min(scores[scores > point + 1e-6])
    assert threshold_report(truth, scores, higher).sensitivity.value < 0.95 or higher > 0.999


def test_what_cannot_be_trained_is_told_before_any_work(
    parts, tiny_recipe, phantom_folder, tmp_path
):
    runs = tmp_path / "runs"
    with pytest.raises(ArgumentError, match="lower-case"):
        train(tiny_recipe, phantom_folder, name="My Model", runs=runs)
    (tmp_path / "models" / "taken").mkdir()
    with pytest.raises(ArgumentError, match="registered already"):
        train(tiny_recipe, phantom_folder, name="taken", runs=runs)
    with pytest.raises(TrainingError, match="no ImageNet weights"):
        train(tiny_recipe, phantom_folder, name="new", runs=runs, weights="imagenet")
    (tmp_path / "odd.weights.h5").write_bytes(b"odd")
    for weights, told in (("absent.h5", "no weights file"), ("odd.weights.h5", "do not fit")):
        with pytest.raises(TrainingError, match=told):
            train(
                tiny_recipe, phantom_folder, name="new", runs=runs, weights=str(tmp_path / weights)
            )
    large = replace(tiny_recipe, config=replace(tiny_recipe.config, batch=1000))
    with pytest.raises(TrainingError, match="do not fill one batch"):
        fit(large, parts, Run(runs / "large"), seed=0)


def test_cards_tell_what_was_trained(tiny_models):
    card = load_card("tiny", tiny_models)
    assert card.training["films"] > card.training["validation_films"] > 0
    assert set(card.training["validation"]) == {"plain", "perturbed"}
    assert "0.95" in card.operating_rule
    assert len(card.data_digest) == 64
    assert card.data.startswith("Films of the user's own folder")


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_are_whole(name):
    recipe = get_recipe(name)
    for field in ("data", "intended_use", "not_for", "limits", "age_range", "views"):
        assert field in recipe.card


def test_recipe_names_are_unique():
    from cxr_core import recipes

    with pytest.raises(ArgumentError, match="already"):
        register_recipe(recipes.pediatric_pneumonia)


def test_the_shipped_parts_are_read_only(parts):
    assert isinstance(parts["train"], Part)
    assert not parts["train"].squares.flags.writeable


# --- several devices ---

# Two devices out of one processor, and a training whose epochs are told.
ON_TWO = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import keras
import numpy as np
from cxr_core.datasets import Film
from cxr_core.parts import Part
from cxr_core.preprocess import Preprocessing
from cxr_core.recipes import get_recipe
from cxr_core.training import Run, devices, fit, predict_logits

recipe = get_recipe("pediatric-pneumonia")
recipe = replace(
    recipe,
    preprocessing=Preprocessing(size=64),
    options={"widths": (8, 16, 16, 16), "blocks": (1, 1, 1, 1), "dropout": 0.0},
    config=replace(recipe.config, epochs=2, batch=8, augmentation="none", perturbed_copies=0),
)

def part(count, seed):
    squares = np.random.default_rng(seed).integers(0, 256, (count, 64, 64), np.uint8)
    films = tuple(Film(f"{k}", ("x",) if k % 2 else (), f"{k}", None, f"{k}") for k in range(count))
    return Part(films, squares, (np.arange(count) % 2).astype(np.float32)[:, None])

parts = {"train": part(24, 0), "validation": part(11, 1)}  # no even share of the last films
run = Run(Path(sys.argv[1]))
network = fit(recipe, parts, run, seed=0)
scores = predict_logits(network, parts["validation"], recipe.preprocessing)
print(json.dumps([len(devices()), [row["loss"] for row in run.history()], scores.ravel().tolist()]))
"""


def test_two_devices_train_what_one_trains(tmp_path):
    """Under JAX, which alone shows one processor as several devices; not a dependency here."""
    pytest.importorskip("jax", reason="JAX is not installed: pip install jax")
    told = []
    for count in (1, 2):
        named = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        named["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
        done = subprocess.run(
            [sys.executable, "-c", ON_TWO, str(tmp_path / str(count))],
            cwd=Path(__file__).parents[1],
            env=os.environ | named,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout.splitlines()[-1]))
    (one, *alone), (two, *shared) = told
    assert (one, two) == (1, 2)
    for first, second in zip(alone, shared, strict=True):
        assert_allclose(first, second, rtol=1e-3, atol=1e-3)


def test_one_device_shares_nothing():
    import keras

    with training.shared_out(8):
        assert keras.distribution.distribution() is None


def test_several_devices_share_each_batch_until_the_training_ends(monkeypatch):
    import keras

    monkeypatch.setattr(training, "devices", lambda: ["cpu:0", "cpu:1"])
    with pytest.raises(KeyError), training.shared_out(8):
        spread = keras.distribution.distribution()
        assert isinstance(spread, keras.distribution.DataParallel)
        assert spread.device_mesh.devices.tolist() == ["cpu:0", "cpu:1"]
        raise KeyError
    assert keras.distribution.distribution() is None


def test_a_batch_that_devices_cannot_share_evenly_is_refused(monkeypatch):
    monkeypatch.setattr(training, "devices", lambda: ["gpu:0", "gpu:1", "gpu:2"])
    told = r"Batches of 8 films cannot be shared out evenly among 3 devices \(gpu:0, gpu:1, gpu:2\)"
    with pytest.raises(TrainingError, match=told), training.shared_out(8):
        pass


def test_under_tensorflow_one_device_trains_whatever_there_are(monkeypatch):
    import keras

    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0", "gpu:1"])
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    assert training.devices() == ["gpu:0"]
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert training.devices() == ["gpu:0", "gpu:1"]
