"""`repeatability`: measure how much a model's answer moves though the patient does not."""

import argparse
from pathlib import Path

from cxr_core.commands.output import Commands, ShownProgress, print_json
from cxr_core.errors import require_tensorflow


def add_repeatability(commands: Commands) -> None:
    """Add `repeatability`."""
    command = commands.add_parser(
        "repeatability", help="measure the smallest change of an answer that is not noise"
    )
    command.add_argument("--model", required=True)
    command.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--skip-damaged", action="store_true", help="leave damaged shards out")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_repeatability)


def _repeatability(options: argparse.Namespace) -> None:
    require_tensorflow("`repeatability`")
    from cxr_core.repeatability import measure

    found = measure(
        options.model,
        options.data,
        layout=options.layout,
        skip_damaged=options.skip_damaged,
        progress=ShownProgress(),
    )
    if options.json:
        print_json(found.to_json())
        return
    print(
        f"{found.model}: {found.films} validation films of as many patients, each taken anew "
        f"{found.copies} times by computer; no real repeat exposures were at hand"
    )
    for label, limit in found.limits.items():
        print(f"{label}: a change of less than {limit:.2f} in log-odds is within repeatability")
