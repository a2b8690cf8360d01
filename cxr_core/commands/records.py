"""`records`: take away or forget what the site kept."""

import argparse

from cxr_core.commands.output import Commands, print_json
from cxr_core.errors import ArgumentError


def add_records(commands: Commands) -> None:
    """Add `records`."""
    command = commands.add_parser("records", help="take away or forget what was kept")
    command.add_argument("what", choices=("export", "reads", "opinions", "erase"))
    command.add_argument("digest", nargs="?", help="of one film, as export prints it")
    command.set_defaults(run=_records)


def _records(options: argparse.Namespace) -> None:
    from cxr_core.records import Records, films, wanted

    if not wanted() and options.what == "erase" and films.holds(options.digest or ""):
        films.forget(options.digest)
        print("The stored film is forgotten; no records are kept.")
        return
    if not wanted():
        raise ArgumentError("No records are kept: CXR_RECORDS is off.")
    records = Records()
    if options.what == "opinions":
        print(records.opinions_csv(), end="")
    elif options.what == "reads":
        print(records.reads_csv(), end="")
    elif options.what == "export":
        print_json(records.export(options.digest))
    elif options.digest is None:
        raise ArgumentError("Which film is to be forgotten? Give its digest, as export prints it.")
    else:
        print(f"{records.erase(options.digest)} rows forgotten.")
