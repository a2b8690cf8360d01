"""`reference`: what the films that a model learned from look like, for its later films."""

import argparse
from pathlib import Path

from cxr_core.commands.output import Commands, ShownProgress
from cxr_core.errors import require_tensorflow


def add_reference(commands: Commands) -> None:
    """Add `reference`."""
    command = commands.add_parser(
        "reference", help="look at a model's own films, to tell others from them"
    )
    command.add_argument("--model", required=True)
    command.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--skip-damaged", action="store_true", help="leave damaged shards out")
    command.set_defaults(run=_reference)


def _reference(options: argparse.Namespace) -> None:
    require_tensorflow("`reference`")
    from cxr_core.release import renew_reference

    found, measured = renew_reference(
        options.model,
        options.data,
        layout=options.layout,
        skip_damaged=options.skip_damaged,
        progress=ShownProgress(),
    )
    print(
        f"{options.model}: {found.films:,} training films, as they are and perturbed, make the "
        f"cloud; a film is unlike them from a distance of {found.limit:.4g} on. Measured on "
        f"{measured.films:,} validation films, one of each patient: {', '.join(measured.measures)}."
    )
