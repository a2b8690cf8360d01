"""`evaluate`: score a model, or any other system's scores."""

import argparse
from pathlib import Path
from typing import Any

from cxr_core.commands.output import Commands, ShownProgress, headline, print_json
from cxr_core.errors import require_tensorflow


def add_evaluate(commands: Commands) -> None:
    """Add `evaluate`."""
    command = commands.add_parser("evaluate", help="score a model, or any other system's scores")
    whose = command.add_mutually_exclusive_group(required=True)
    whose.add_argument("--model", help="of ours, on a split of a data folder")
    whose.add_argument("--predictions", type=Path, metavar="P.csv", help="scores of any system")
    command.add_argument("--data", type=Path, metavar="FOLDER")
    command.add_argument("--split", help="test by default")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--skip-damaged", action="store_true", help="leave damaged shards out")
    command.add_argument("--labels", type=Path, metavar="L.csv", help="what is true of the films")
    command.add_argument("--threshold", type=float, metavar="T", help="operating point, 0 to 1")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_evaluate, refuse=command.error)


def _evaluate(options: argparse.Namespace) -> None:
    _require_companions(options)
    report = _evaluate_model(options) if options.predictions is None else _evaluate_scores(options)
    if options.json:
        print_json(report.to_json())
        return
    for note in report.notes:
        print(note)
    for label in report.labels:
        print(f"{label.label}, {label.n} films: {headline(label)}")
        if label.confusion is not None:
            (tn, fp), (fn, tp) = label.confusion
            print(f"  tn {tn}, fp {fp}, fn {fn}, tp {tp}")
        for note in label.notes:
            print(f"  {note}")


def _require_companions(options: argparse.Namespace) -> None:
    """End with the usage where an option is missing, or belongs to the other kind of scores."""
    whose, needs, of_other = "model", "data", ["labels", "threshold"]
    if options.predictions is not None:
        whose, needs, of_other = "predictions", "labels", ["data", "split", "layout"]
        of_other += ["skip_damaged"] * options.skip_damaged
    for name in of_other:
        if getattr(options, name) is not None:
            told = name.replace("_", "-")
            options.refuse(f"argument --{told}: not allowed with argument --{whose}")
    if getattr(options, needs) is None:
        options.refuse(f"argument --{needs}: required with argument --{whose}")


def _evaluate_model(options: argparse.Namespace) -> Any:
    from cxr_core.cards import load_card
    from cxr_core.predictions import evaluate_table
    from cxr_core.recipes import get_recipe

    card = load_card(options.model)
    recipe = get_recipe(card.recipe)
    require_tensorflow("Scoring a folder of films by `evaluate --model`")
    from cxr_core.classifier import load_classifier
    from cxr_core.release import score_split

    table = score_split(
        load_classifier(card.name),
        recipe,
        options.data,
        options.split or "test",
        ShownProgress(),
        layout=options.layout,
        skip_damaged=options.skip_damaged,
    )
    return evaluate_table(
        table,
        card.operating_points,
        model=card.name,
        exclusive=card.activation == "softmax",
    )


def _evaluate_scores(options: argparse.Namespace) -> Any:
    from cxr_core.scores import evaluate_scores, read_score_files

    scores = read_score_files(options.predictions, options.labels)
    return evaluate_scores(
        scores,
        model=options.predictions.stem,
        threshold=options.threshold,
        advice="Give another with --threshold.",
    )
