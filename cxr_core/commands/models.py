"""`list`: the models with their labels and headline numbers."""

import argparse
import sys
from typing import Any

from cxr_core.commands.output import Commands, headline, print_json
from cxr_core.errors import CxrError


def add_list(commands: Commands) -> None:
    """Add `list`."""
    command = commands.add_parser("list", help="models with labels and headline numbers")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> None:
    from cxr_core.cards import damaged_models, list_models, load_evaluation, model_folder
    from cxr_core.local_check import belonging

    models = list_models()
    for sentence in damaged_models():  # one damaged card must not hide the other models
        print(f"cxr_core: {sentence}", file=sys.stderr)
    if not models and not options.json:
        print("No models yet. Train one: python -m cxr_core train RECIPE --data FOLDER")
    for card in models:
        told: dict[str, Any] = {
            "model": card.name,
            "labels": card.labels,
            "macro": None,
            "notes": [],
        }
        try:
            report, notes = load_evaluation(card.name), belonging(card)
        except CxrError as error:  # one damaged record must not hide the other models
            if options.json:
                print_json(told | {"error": str(error)})
            else:
                print(f"{card.name}  ({card.version})\n  {error}")
            continue
        if options.json:
            print_json(told | {"macro": report.to_json()["macro"], "notes": list(notes)})
            continue
        print(f"{card.name}  ({card.version}, {report.n} test films)")
        for label in report.labels:
            print(f"  {label.label}: {headline(label)}")
        for note in notes:
            print(f"  {note}")
        if not (model_folder(card.name) / "model.keras").is_file():
            print(f"  No weights: python -m cxr_core train {card.recipe} --data FOLDER makes them.")
