"""`fetch`: ask an archive for chest films, and bring them to the inbox."""

import argparse
from datetime import date
from pathlib import Path
from typing import Any

from cxr_core.commands.output import Commands, ShownProgress
from cxr_core.errors import ArgumentError


def add_fetch(commands: Commands) -> None:
    """Add `fetch`."""
    command = commands.add_parser("fetch", help="bring chest films from the archive to the inbox")
    command.add_argument("--patient", default="", metavar="ID")
    command.add_argument("--accession", default="", metavar="NUMBER")
    command.add_argument("--day", metavar="YYYY-MM-DD", help="of the study, or the first such day")
    command.add_argument("--until", metavar="YYYY-MM-DD", help="the last day")
    command.add_argument("--modality", default="", help="CR, DX or DR; all of them by default")
    command.add_argument("--list", action="store_true", help="name the studies, fetch nothing")
    command.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="not to the inbox")
    command.add_argument("--room", type=float, default=20, help="GB that the folder may hold")
    command.add_argument("--spare", type=float, default=1, help="GB of its disk that stay free")
    command.set_defaults(run=_fetch)


def _fetch(options: argparse.Namespace) -> int:
    from cxr_core.archive.settings import URL, web_archive
    from cxr_core.archive.web import Archive, Sought

    settings = web_archive()
    if settings is None:
        raise ArgumentError(
            f"Which archive? Set the environment variable {URL} to its DICOMweb address."
        )
    folder = None if options.list else _folder(options.output)
    sought = Sought(
        patient_id=options.patient,
        accession=options.accession,
        since=_day(options.day),
        until=_day(options.until),
        modality=options.modality.upper(),
    )
    with Archive(settings) as archive:
        studies = archive.studies(sought)
        if not studies:
            print("The archive has no such study.")
            return 0
        if folder is not None:
            return _bring(archive, studies, folder, options)
    for one in studies:
        told = (one.day, one.modality, one.patient_id, one.accession, one.description)
        print("  ".join(part or "-" for part in told))
    return 0


def _bring(archive: Any, studies: Any, folder: Path, options: argparse.Namespace) -> int:
    """Fetch the films of all studies; one that fails does not stop the rest."""
    import sys

    from cxr_core.archive.inbox import NoRoom, keep
    from cxr_core.errors import ArchiveError

    came, fresh, failed = 0, 0, 0
    for study in studies:
        try:
            for film in archive.films(study, ShownProgress()):
                room, spare = round(options.room * 2**30), round(options.spare * 2**30)
                fresh += keep(folder, film.data, room=room, spare=spare)[1]
                came += 1
        except NoRoom:
            raise
        except ArchiveError as error:
            failed += 1
            print(f"One study was left out. {error}", file=sys.stderr)
    print(f"{came} films of {len(studies) - failed} studies came, {fresh} of them new in {folder}.")
    return 1 if failed else 0


def _folder(output: Path | None) -> Path:
    """Return where films go."""
    from cxr_core.archive.inbox import INBOX, inbox

    if output is not None:
        if not output.is_dir():
            raise ArgumentError(f"'{output}' is no folder; make it, or leave -o out.")
        return output
    found = inbox()
    if found is None:
        raise ArgumentError(
            f"Where do films go? Name a folder with -o, or set the environment variable {INBOX}."
        )
    return found


def _day(text: str | None) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentError(f"A day is written as 2026-01-31, but '{text}' came.") from error
