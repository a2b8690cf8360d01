"""`predict`: answer films and folders of films."""

import argparse
import csv
from pathlib import Path
from typing import Any

from cxr_core.commands.output import (
    Commands,
    ShownProgress,
    print_json,
    tell_belonging,
    touch,
)


def add_predict(commands: Commands) -> None:
    """Add `predict`."""
    command = commands.add_parser("predict", help="answer films and folders of films")
    command.add_argument("films", nargs="+", metavar="FILE|FOLDER")
    command.add_argument("--model", required=True)
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per film")
    form.add_argument("--csv", metavar="OUT", type=Path, help="write a table")
    command.add_argument("--no-gate", action="store_true", help="answer refused films too")
    command.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    from cxr_core.cards import load_card
    from cxr_core.screening import find_films, screen

    card = load_card(options.model)
    files = find_films(options.films)
    if options.csv:
        touch(options.csv)  # a place that cannot be written is told before the wait
    tell_belonging(card)
    table: list[dict[str, Any]] = []
    progress = ShownProgress()
    from cxr_core.classifier import load_classifier

    answers = screen(load_classifier(card.name), files, gate=not options.no_gate)
    for done, answer in enumerate(answers, 1):
        row = answer.to_json(card.name)
        if options.json:
            print_json(row)
        elif options.csv:
            table.append(row)
        else:
            print(_sentence(row), flush=True)
        progress("Films", done, len(files))
    if options.csv:
        write_table(options.csv, table, card.labels)


def _sentence(row: dict[str, Any]) -> str:
    """Say in one line what became of one film."""
    from cxr_core.ui.reading import told_apart

    if not row["ok"]:
        return f"{row['file']}: not read. {row['error']}"
    if not row["predictions"]:
        reasons = [c["reason"] for c in row["gate"]["checks"] if c["verdict"] == "refuse"]
        return f"{row['file']}: refused. {' '.join(reasons)}"
    answers = []
    for item in row["predictions"]:
        value, point = told_apart(item["probability"], item["operating_point"])
        limit = f", operating point {point}" if point else ""
        word = "flag" if item["flag"] else "no flag"
        unsure = ", cannot tell" if item["cannot_tell"] else ""
        answers.append(f"{item['label']} {value} ({word}{limit}{unsure})")
    cautions = [c["reason"] for c in row["gate"]["checks"] if c["verdict"] != "ok"]
    return " ".join([f"{row['file']}: {'; '.join(answers)}.", *cautions])


def write_table(path: Path, rows: list[dict[str, Any]], labels: tuple[str, ...]) -> None:
    """Write answers as CSV, one row a film; four columns for each label."""
    fixed = ["file", "ok", "gate", "error"]
    each = ["probability", "operating_point", "flag", "cannot_tell"]
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow([*fixed, *(f"{name}_{label}" for label in labels for name in each)])
        for row in rows:
            gate = (row.get("gate") or {}).get("verdict", "")
            cells = [item[name] for item in row.get("predictions", ()) for name in each]
            writer.writerow([row["file"], row["ok"], gate, row.get("error", ""), *cells])
