"""The trainings behind the gate: the network that is shipped, and those that only measure it.

Three deals of the few pictures that are no chest films let each be scored by a network that
never saw it; and whole kinds are left out of trainings of their own, to see what becomes of
a kind that nobody thought of. All go on from one that saw what every one of them may see:
frontal films of the classifiers' training patients, and pictures made of them. Finished
trainings are kept, so that a stopped run goes on.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from cxr_core.datasets import Progress
from cxr_core.errors import TrainingError
from cxr_core.gate_training.films import (
    CHILDREN,
    KEPT,
    Collection,
    digest_of,
    films_seen,
    frontal_films,
    other_pictures,
    training_squares,
)
from cxr_core.gate_training.fit import (
    BASE_STEPS,
    STEPS,
    Material,
    fit,
    phantoms,
    settings_digest,
)

Finished = tuple[Any, dict[str, list[float]]]  # a network and its history


@dataclass(frozen=True)
class Plan:
    """One training: which third of the other pictures it leaves out, and which kinds."""

    name: str
    third: int
    without: frozenset[str] = frozenset()


SHIPPED = Plan("shipped", 2)
THIRDS = (Plan("third-0", 0), Plan("third-1", 1))
LEFT_OUT = (
    Plan("without-bones", 2, frozenset({"bone", "hand"})),
    Plan("without-slices", 2, frozenset({"brainmri", "ct"})),
    Plan("without-photographs", 2, frozenset({"photo"})),
)
PLANS = (SHIPPED, *THIRDS, *LEFT_OUT)
BASE = "base"  # what all go on from


@dataclass(frozen=True)
class Trained:
    """A finished training: its network, what it was dealt, and its history."""

    plan: Plan
    network: Any
    frontal: dict[str, Collection]
    others: Collection
    history: dict[str, list[float]]


def forget(runs: Path) -> None:
    """Delete the finished trainings that `runs` holds, and nothing else."""
    for name in (BASE, *(plan.name for plan in PLANS)):
        for path in _kept(name, runs):
            path.unlink(missing_ok=True)


def _kept(name: str, runs: Path) -> tuple[Path, Path]:
    """Name the files of one training: its network; and its history and what it came from."""
    return runs / f"{name}.keras", runs / f"{name}.json"


def train_plan(
    plan: Plan, data: Path, runs: Path, *, seed: int, progress: Progress | None = None
) -> Trained:
    """Run one training, or take it from `runs` where it is finished.

    Raises:
        DataError: When the folders it needs are not there.
        TrainingError: When the one in `runs` had another seed, other films or other settings.
    """
    frontal, others = (
        frontal_films(data, plan.third),
        other_pictures(data, plan.third, plan.without),
    )

    def train() -> Finished:
        films, pictures = training_squares(frontal, others, progress)
        material = Material(films | {"phantom": phantoms(KEPT)}, pictures)
        base, _ = _base(material, frontal, runs, seed, progress)
        return fit(material, seed=seed, steps=STEPS, network=base, progress=progress)

    seen = digest_of(films_seen((*frontal.values(), others)))
    network, history = _finished(plan.name, runs, seed, seen, train)
    return Trained(plan, network, frontal, others, history)


def _base(
    material: Material,
    frontal: Mapping[str, Collection],
    runs: Path,
    seed: int,
    progress: Progress | None,
) -> Finished:
    """Run the training that all others go on from, on what of their material all share."""
    shared = {name: part for name, part in frontal.items() if name != CHILDREN}
    films = {name: part for name, part in material.films.items() if name != CHILDREN}
    return _finished(
        BASE,
        runs,
        seed,
        digest_of(films_seen(shared.values())),
        lambda: fit(Material(films, {}), seed=seed, steps=BASE_STEPS, progress=progress),
    )


def _finished(
    name: str, runs: Path, seed: int, films: str, train: Callable[[], Finished]
) -> Finished:
    """Take a training from `runs` where it is finished, else run and keep it.

    Raises:
        TrainingError: When the one in `runs` had another seed, other films or other settings.
    """
    source = {"seed": seed, "films": films, "settings": settings_digest()}
    path, table = _kept(name, runs)
    if path.is_file() and table.is_file():
        kept = json.loads(table.read_text("utf-8"))
        _require_same(path, kept, source)
        return keras.models.load_model(path, compile=False), kept["history"]
    network, history = train()
    runs.mkdir(parents=True, exist_ok=True)
    # The same layers without optimiser and loss, which no copy of the network could find.
    network = keras.Model(network.input, network.output, name=network.name)
    network.save(path)
    table.write_text(json.dumps(source | {"history": history}), "utf-8")
    return network, history


def _require_same(path: Path, kept: dict[str, Any], source: dict[str, Any]) -> None:
    """Refuse to go on with a training that came from something else.

    Raises:
        TrainingError: When its seed, its films or its settings differ, or nobody kept them.
    """
    if kept["seed"] != source["seed"]:
        raise TrainingError(
            f"'{path}' was trained with seed {kept['seed']}, not {source['seed']}. Give that "
            "--seed, or train anew without --resume."
        )
    odd = [name for name in ("films", "settings") if kept.get(name) != source[name]]
    if odd:
        raise TrainingError(
            f"'{path}' was trained with other {' and '.join(odd)} than are here now, or does not "
            "say with which. Put back what it was trained with, or train anew without --resume."
        )
