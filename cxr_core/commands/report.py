"""`report`: write what a model says of one film as a file, or send it to an archive."""

import argparse
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from cxr_core.commands.output import Commands, tell_belonging
from cxr_core.errors import ArgumentError

FORMS = ("pdf", "sr", "secondary-capture", "fhir", "csv")
# The form that a name asks for when nobody says which.
ENDINGS = {".pdf": "pdf", ".dcm": "sr", ".json": "fhir", ".csv": "csv"}


def add_report(commands: Commands) -> None:
    """Add `report`."""
    command = commands.add_parser("report", help="write or send the answer on one film")
    command.add_argument("film", metavar="FILE", type=Path)
    command.add_argument("--model", required=True)
    endings = "OUT.{pdf,dcm,json,csv}"
    command.add_argument("-o", "--output", type=Path, metavar=endings)
    command.add_argument("--form", choices=FORMS, help="by the ending of OUT by default")
    command.add_argument("--send", action="store_true", help="to the archive of CXR_SEND_TO")
    command.add_argument(
        "--synthetic-study",
        action="store_true",
        help="let --send make up a study for a film that came without a DICOM header",
    )
    command.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    form, to = _form(options), _destination(options)
    from cxr_core.cards import load_card
    from cxr_core.images import load_radiograph

    card, radiograph = load_card(options.model), load_radiograph(options.film)
    tell_belonging(card)
    from cxr_core.classifier import load_classifier
    from cxr_core.ui.report import read_film

    now = datetime.now().astimezone().replace(microsecond=0)
    record = read_film(load_classifier(card.name), radiograph, now)
    whose = partial(_whose, options.film, radiograph.digest)
    if form is not None:
        _write(options.output, _written(record, form, whose))
    told = f" Wrote {options.output}" if form is not None else ""
    print(f"{record.headline.rstrip('.')}.{told}")
    return 0 if to is None else _send(record, to, whose(), synthetic=options.synthetic_study)


def _whose(film: Path, digest: str) -> Any:
    """Read whose film it is, from the very file that was answered.

    Raises:
        ArgumentError: When another one lies there by now.
    """
    from cxr_core.images import read_study_reference

    data = film.read_bytes()
    if sha256(data).hexdigest() != digest:
        raise ArgumentError(
            f"'{film}' was changed while it was read, so that nobody knows whose answer this is. "
            "Ask again."
        )
    return read_study_reference(data)


def _form(options: argparse.Namespace) -> str | None:
    """Return the form of the file; None when there is to be none."""
    if options.output is None:
        if options.send and not options.form:
            return None
        raise ArgumentError("Where does the answer go? Name a file with -o, or say --send.")
    form = options.form or ENDINGS.get(options.output.suffix.lower())
    if form is None:
        raise ArgumentError(
            f"The name of a report ends in {', '.join(ENDINGS)}, but '{options.output}' came. Name "
            f"it so, or say --form: {', '.join(FORMS)}."
        )
    return str(form)


def _destination(options: argparse.Namespace) -> Any:
    """Return where the answer is sent; None when it is not."""
    if not options.send:
        return None
    from cxr_core.archive.settings import SEND_TO, destination

    found = destination()
    if found is None:
        raise ArgumentError(
            f"Where is the archive? Set the environment variable {SEND_TO} to TITLE@HOST:PORT, or "
            "to web."
        )
    return found


def _send(record: Any, to: Any, whose: Any, *, synthetic: bool) -> int:
    """Send the answer, say and keep what became of it; return the exit status."""
    from cxr_core.archive.sending import send
    from cxr_core.records import Records, wanted

    sent = send(record, whose, to, synthetic=synthetic)
    print(sent.sentence, file=sys.stdout if sent.done else sys.stderr)
    if wanted():
        Records().add(sent.event)
    return 0 if sent.done else 1


def _write(path: Path, made: bytes) -> None:
    try:
        path.write_bytes(made)
    except OSError as error:
        raise ArgumentError(
            f"'{path}' cannot be written ({error.strerror}); name a file in a folder that exists."
        ) from error


def _written(record: Any, form: str, whose: Callable[[], Any]) -> bytes:
    """Write a reading in one form; only what an archive files learns whose film it is."""
    from cxr_core import export

    if form == "pdf":
        return export.reading_pdf(record)
    if form == "csv":
        return export.reading_csv(record)
    writers = {
        "fhir": export.reading_fhir,
        "sr": export.structured_report,
        "secondary-capture": export.secondary_capture,
    }
    return writers[form](record, whose())
