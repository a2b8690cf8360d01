"""`check`: hold a model against the labelled films of a site, and register what they decide."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cxr_core.commands.output import Commands, ShownProgress, print_json
from cxr_core.errors import DataError


def add_check(commands: Commands) -> None:
    """Add `check`."""
    command = commands.add_parser("check", help="hold a model against a site's labelled films")
    command.add_argument("--model", required=True)
    whose = command.add_mutually_exclusive_group(required=True)
    whose.add_argument("--data", type=Path, metavar="FOLDER", help="labelled films")
    whose.add_argument("--predictions", type=Path, metavar="P.csv", help="`predict --csv` wrote it")
    command.add_argument("--labels", type=Path, metavar="L.csv", help="what is true of the films")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--register", metavar="NAME", help="a copy that decides as they say")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_check, refuse=command.error)


def _check(options: argparse.Namespace) -> None:
    needs = "argument --labels: required with argument --predictions"
    if options.predictions is not None and options.labels is None:
        options.refuse(needs)
    if options.data is not None and options.labels is not None:
        options.refuse("argument --labels: not allowed with argument --data")
    if options.predictions is not None and options.layout is not None:
        options.refuse("argument --layout: not allowed with argument --predictions")
    from cxr_core.local_check import in_words, measure, register

    found = measure(*_films(options))
    copy = register(found, options.register) if options.register else None
    if options.json:
        print_json(json.loads(json.dumps(found.to_json())) | {"registered": copy and copy.name})
        return
    for sentence in in_words(found):
        print(sentence)
    if copy is not None:
        print(f"Registered: '{copy.name}' (version {copy.version}).", file=sys.stderr)


def _films(options: argparse.Namespace) -> Any:
    """Return the model's card and the films, wherever they come from."""
    from cxr_core.cards import load_card
    from cxr_core.local_check import films_of_folder, films_of_scores

    card = load_card(options.model)
    if options.data is not None:
        return card, films_of_folder(
            card, options.data, layout=options.layout, progress=ShownProgress()
        )
    files = (options.predictions, options.labels)
    predictions, labels = map(_content, files)
    names = (options.predictions.name, options.labels.name)
    return card, films_of_scores(card, predictions, labels, names=names)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read ({error.strerror}); name a CSV file.") from error
