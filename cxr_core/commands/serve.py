"""`serve`: the HTTP API."""

import argparse
import os

from cxr_core.commands.output import Commands, tell_belonging


def add_serve(commands: Commands) -> None:
    """Add `serve`."""
    command = commands.add_parser("serve", help="answer films over HTTP, for other programs")
    command.add_argument("--model", required=True, nargs="+", metavar="NAME")
    command.add_argument("--host", default="127.0.0.1", help="any other asks for CXR_TOKEN")
    command.add_argument("--port", type=int, default=8600, help="8600 by default")
    command.add_argument("--places", type=int, default=64, help="films held at a time")
    command.add_argument("--rate", type=int, default=600, help="films a minute from one address")
    command.add_argument("--patience", type=float, default=60, help="seconds until a time-out")
    command.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> None:
    from cxr_core.cards import load_card
    from cxr_core.service import Settings, serve

    settings = Settings(
        models=tuple(options.model),
        host=options.host,
        port=options.port,
        token=os.environ.get("CXR_TOKEN"),
        places=options.places,
        rate=options.rate,
        patience=options.patience,
    )
    for name in settings.models:
        tell_belonging(load_card(name))  # a wrong name is told before anything listens
    serve(settings)
