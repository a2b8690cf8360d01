"""`faithfulness`: measure how far a model's maps can be trusted."""

import argparse
from pathlib import Path

from cxr_core.commands.output import Commands, ShownProgress, print_json
from cxr_core.errors import require_tensorflow


def add_faithfulness(commands: Commands) -> None:
    """Add `faithfulness`."""
    command = commands.add_parser("faithfulness", help="measure how far maps can be trusted")
    command.add_argument("--model", required=True)
    command.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    command.add_argument("--films", type=int, metavar="N", help="of each label")
    command.add_argument("--methods", nargs="+", metavar="METHOD", help="measured anew; else all")
    command.add_argument("--sister", metavar="NAME", help="the same model of another seed")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_faithfulness)


def _faithfulness(options: argparse.Namespace) -> None:
    require_tensorflow("`faithfulness`")
    from cxr_core.faithfulness import measure

    report = measure(
        options.model,
        options.data,
        films=options.films,
        methods=options.methods,
        sister=options.sister,
        layout=options.layout,
        progress=ShownProgress(),
    )
    if options.json:
        print_json(report.to_json())
        return
    for note in report.notes:
        print(note)
    for entry in report.entries:
        print(f"{entry.label}, {entry.method}: {entry.sentence}")
