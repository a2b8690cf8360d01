"""`explain`: draw where the evidence for a label lies."""

import argparse
from pathlib import Path

from cxr_core.commands.output import Commands, print_json


def add_explain(commands: Commands) -> None:
    """Add `explain`."""
    command = commands.add_parser("explain", help="draw where the evidence for a label lies")
    command.add_argument("film", metavar="FILE", type=Path)
    command.add_argument("--model", required=True)
    command.add_argument("--label", required=True)
    command.add_argument("--method", default="grad-cam")
    starts = ("black", "blurred", "mean")
    command.add_argument("--baseline", choices=starts, help="where integrated gradients start")
    command.add_argument("--absence", action="store_true", help="what speaks against the label")
    command.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.png")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_explain)


def _explain(options: argparse.Namespace) -> None:
    from cxr_core.cards import load_card

    load_card(options.model).position(options.label)  # a wrong name is told before the wait
    from cxr_core.classifier import load_classifier
    from cxr_core.export import export_explanation

    asked = (options.film, options.label, options.method, options.output)
    told = export_explanation(
        load_classifier(options.model), *asked, absence=options.absence, baseline=options.baseline
    )
    if options.json:
        print_json(told)
    else:
        from cxr_core.ui.reading import told_apart

        gap = told["relative_gap"]
        check = f", completeness gap {gap:.2%}" if gap is not None else ""
        place = f"nothing on the film speaks {'against' if options.absence else 'for'} it"
        if told["peak"]:
            place = f"strongest at x {told['peak'][0]}, y {told['peak'][1]}"
        score, _ = told_apart(told["probability"], None)
        print(f"{options.label} {score}, {options.method}: {place}{check}. Wrote {told['output']}")
