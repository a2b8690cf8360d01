"""`monitor`: what the app saw over time, against what a model was tested on."""

import argparse

from cxr_core.commands.output import Commands, print_json
from cxr_core.errors import ArgumentError


def add_monitor(commands: Commands) -> None:
    """Add `monitor`."""
    command = commands.add_parser("monitor", help="what was read over time, against the test films")
    command.add_argument("--model", required=True)
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_monitor)


def _monitor(options: argparse.Namespace) -> None:
    from cxr_core.cards import load_card, load_inputs, load_predictions
    from cxr_core.monitoring import in_words, monitor
    from cxr_core.records import Records, wanted

    if not wanted():
        raise ArgumentError("No records are kept: CXR_RECORDS is off.")
    card, records = load_card(options.model), Records()
    report = monitor(
        card,
        load_predictions(card.name),
        records.reads(),
        records.opinions(model=card.name),
        load_inputs(card.name),
    )
    if options.json:
        print_json(report.to_json())
        return
    for sentence in in_words(report):
        print(sentence)
