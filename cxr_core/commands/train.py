"""`train`: run a recipe, or train the gate, from folders of films to a model."""

import argparse
import json
import sys
from pathlib import Path

from cxr_core.commands.output import Commands, ShownProgress, headline, share
from cxr_core.errors import ArgumentError, require_tensorflow


def add_train(commands: Commands) -> None:
    """Add `train`."""
    command = commands.add_parser("train", help="run a recipe from a folder to a model")
    command.add_argument("recipe", help='or "gate", the network that looks at films beforehand')
    command.add_argument("--data", required=True, type=Path, metavar="FOLDER")
    command.add_argument("--name", help="of the new model; the recipe's own by default")
    command.add_argument("--weights", metavar="imagenet|FILE|none", help="weights to start from")
    command.add_argument("--backbone", help="instead of the recipe's, where it has one")
    command.add_argument("--epochs", type=int)
    command.add_argument(
        "--epoch", type=int, help="train nothing; register this epoch of a finished training"
    )
    command.add_argument("--trained-as", metavar="NAME", help="whose epoch that is")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--skip-damaged", action="store_true", help="leave damaged shards out")
    command.add_argument("--resume", action="store_true", help="continue an interrupted training")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    require_tensorflow("Training")
    if options.recipe == "gate":
        _train_gate(options)
        return
    from cxr_core.recipes import get_recipe

    recipe = get_recipe(options.recipe)
    weights = None if options.weights == "none" else options.weights
    if weights is None and "backbone" in recipe.options:
        print(
            f"No --weights: the backbone of '{recipe.name}' starts from random weights, not from "
            "pretrained ones.",
            file=sys.stderr,
        )
    from cxr_core.release import train

    folder = train(
        recipe,
        options.data,
        name=options.name,
        epochs=options.epochs,
        epoch=options.epoch,
        trained_as=options.trained_as,
        layout=options.layout,
        backbone=options.backbone,
        seed=options.seed,
        resume=options.resume,
        weights=weights,
        skip_damaged=options.skip_damaged,
        progress=ShownProgress(),
    )
    _print_record(folder.name)


def _train_gate(options: argparse.Namespace) -> None:
    """Train the gate's own network, which is no recipe: it reads several folders at once."""
    given = ("name", "weights", "backbone", "epochs", "epoch", "trained_as", "layout")
    odd = [f"--{name.replace('_', '-')}" for name in given if getattr(options, name) is not None]
    if odd:
        raise ArgumentError(f"The gate takes only --data, --seed and --resume, not {odd[0]}.")
    from cxr_core.gate_training import train_gate

    folder = train_gate(
        options.data, seed=options.seed, resume=options.resume, progress=ShownProgress()
    )
    for rate in json.loads((folder / "evaluation.json").read_text("utf-8"))["rates"]:
        share = "no films" if rate["share"] is None else f"{rate['share']:.1%}"
        print(f"{rate['group']} ({rate['network']}): {share} of {rate['n']} {rate['asked']}")


def _print_record(name: str) -> None:
    """Print a new model's test record, what its source reported, and our better model's."""
    from cxr_core.cards import list_models, load_card, load_evaluation

    report, facts = load_evaluation(name), load_card(name).training
    twice = f"patients or films on two sides: {facts['in_two_parts']}"
    if not facts["patients_known"]:
        twice = "patients are not known"
    print(
        f"{name}: {facts['films']} films trained, {facts['validation_films']} chose, "
        f"{facts['test_films']} are scored; {twice}"
    )
    for note in facts["notes"]:
        print(note)
    for label in report.labels:
        print(f"{label.label}: {headline(label)}")
        if label.confusion is not None:
            (tn, fp), (fn, tp) = label.confusion
            print(
                f"  tn {tn}, fp {fp}, fn {fn}, tp {tp}; precision {share(label.ppv.value)}, "
                f"recall {share(label.sensitivity.value)}, F1 {share(label.f1)}, "
                f"support {label.positives}"
            )
    for figure, value in facts["reported"].items():
        here = facts["as_sources_count"].get(figure)
        print(f"As the source counts, {figure}: {share(here)} here, {value:.3f} there")
    for name_of, area in facts.get("control", {}).get("auroc", {}).items():
        print(f"With the middle blacked out, {name_of}: AUROC {share(area[0])}")
    better = facts["better"]
    if better in {other.name for other in list_models()}:
        for label in load_evaluation(better).labels:
            print(f"Our better way, {better}, {label.label}: {headline(label)}")
