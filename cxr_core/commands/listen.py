"""`listen`: take films in by DICOM."""

import argparse
import os

from cxr_core.commands.output import Commands
from cxr_core.errors import ArgumentError


def add_listen(commands: Commands) -> None:
    """Add `listen`."""
    command = commands.add_parser("listen", help="take films in by DICOM, into the inbox")
    command.add_argument("--aet", metavar="TITLE", help="our AE title: CXR_DICOM_AET, or CXR")
    command.add_argument("--host", help="CXR_DICOM_HOST, or 127.0.0.1; any other asks for peers")
    command.add_argument("--port", help="CXR_DICOM_PORT, or 11112")
    command.add_argument(
        "--peer",
        action="append",
        metavar="TITLE@ADDRESS",
        help="who may send, once for each: CXR_DICOM_PEERS, or whoever is on this machine",
    )
    command.add_argument("--room", type=float, default=20, help="GB that the inbox may hold")
    command.add_argument("--spare", type=float, default=1, help="GB of its disk that stay free")
    command.add_argument("--patience", type=float, default=30, help="seconds until a time-out")
    command.set_defaults(run=_listen)


def _listen(options: argparse.Namespace) -> None:
    from cxr_core.archive import settings as told
    from cxr_core.archive.inbox import INBOX, inbox
    from cxr_core.archive.settings import Door, Peer, peers_told

    listed = [Peer.told(one) for one in options.peer or ()]
    door = Door(
        title=options.aet or os.environ.get(told.TITLE) or told.OUR_TITLE,
        host=options.host or os.environ.get(told.HOST) or told.OUR_HOST,
        port=_port(options.port or os.environ.get(told.PORT) or str(told.OUR_PORT)),
        peers=tuple(listed) or peers_told(os.environ.get(told.PEERS, "")),
        room=round(options.room * 2**30),
        spare=round(options.spare * 2**30),
        patience=options.patience,
    )
    folder = inbox()
    if folder is None:
        raise ArgumentError(
            f"Where do films go? Set the environment variable {INBOX} to a folder, the same for "
            "the app."
        )
    from cxr_core.archive.listener import listen
    from cxr_core.logs import ours_to_stderr

    ours_to_stderr()
    listen(door, folder)


def _port(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ArgumentError(f"A port is a whole number, but '{text}' came.") from error
