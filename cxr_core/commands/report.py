"""`report`: write what a model says of one film as a file."""

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

from cxr_core.commands.output import Commands, tell_belonging
from cxr_core.errors import ArgumentError

FORMS = ("pdf", "sr", "secondary-capture", "fhir", "csv")
# The form that a name asks for when nobody says which.
ENDINGS = {".pdf": "pdf", ".dcm": "sr", ".json": "fhir", ".csv": "csv"}


def add_report(commands: Commands) -> None:
    """Add `report`."""
    command = commands.add_parser("report", help="write the answer on one film as a file")
    command.add_argument("film", metavar="FILE", type=Path)
    command.add_argument("--model", required=True)
    endings = "OUT.{pdf,dcm,json,csv}"
    command.add_argument("-o", "--output", required=True, type=Path, metavar=endings)
    command.add_argument("--form", choices=FORMS, help="by the ending of OUT by default")
    command.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> None:
    form = options.form or ENDINGS.get(options.output.suffix.lower())
    if form is None:
        raise ArgumentError(
            f"The name of a report ends in {', '.join(ENDINGS)}, but '{options.output}' came. Name "
            f"it so, or say --form: {', '.join(FORMS)}."
        )
    from cxr_core.cards import load_card
    from cxr_core.images import load_radiograph

    card, radiograph = load_card(options.model), load_radiograph(options.film)
    tell_belonging(card)
    from cxr_core.classifier import load_classifier
    from cxr_core.ui.report import read_film

    now = datetime.now().astimezone().replace(microsecond=0)
    record = read_film(load_classifier(card.name), radiograph, now)
    made = _written(record, form, options.film)
    try:
        options.output.write_bytes(made)
    except OSError as error:
        raise ArgumentError(
            f"'{options.output}' cannot be written ({error.strerror}); name a file in a folder "
            "that exists."
        ) from error
    print(f"{record.headline.rstrip('.')}. Wrote {options.output}")


def _written(record: Any, form: str, film: Path) -> bytes:
    """Write a reading in one form; only what an archive files learns whose film it is."""
    from cxr_core import export
    from cxr_core.images import read_study_reference

    if form == "pdf":
        return export.reading_pdf(record)
    if form == "csv":
        return export.reading_csv(record)
    writers = {
        "fhir": export.reading_fhir,
        "sr": export.structured_report,
        "secondary-capture": export.secondary_capture,
    }
    return writers[form](record, read_study_reference(film.read_bytes()))
