"""The DICOM listener: X-ray units and archives send films here, and they come to the inbox.

It speaks C-ECHO and C-STORE, for the kinds of picture and of compression that `images` reads. A
film is looked at before it is accepted, so that what lies in the inbox can be read, and "success"
is answered only once it is on the disk. What is held in memory is bounded, whatever callers
send. Its log tells digests and the peers of the site's list, nothing that a header says.

Reference: DICOM PS3.4 B.2.3 (statuses of C-STORE), PS3.7 9.1.1, PS3.8 9.3.4.
"""

import logging
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, cast

from pydicom import Dataset
from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from cxr_core.archive.inbox import NoRoom, keep, sweep
from cxr_core.archive.kinds import FILMS, is_ours
from cxr_core.archive.settings import Door
from cxr_core.errors import ArgumentError, ImageError
from cxr_core.images import (
    MAX_BYTES,
    TRANSFER_SYNTAXES,
    read_radiograph,
    read_study_reference,
)
from cxr_core.logs import silence

LOG = logging.getLogger("cxr_core.archive")
# Of what was received and not dealt with: of one caller, and of all.
MOST_HELD, MOST_HELD_OF_ALL = MAX_BYTES + 2**20, 2**30
PIECE = 2**17  # bytes that we ask callers to send at a time (PS3.8 D.1)
MOST_IN_A_PIECE = 2**20  # a request to associate may be longer than that
GRACE = 0.5  # seconds in which an answer reaches whoever waits for it

SUCCESS, NO_ROOM, MISMATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
NOT_RECOGNISED = (1, 1, 3)  # rejected for good, by the user, calling AE title not recognised

# pynetdicom logs requests and, on errors, what they hold.
_config.LOG_HANDLER_LEVEL = "none"
silence("pynetdicom")


class _Load:
    """What was received from each caller and not yet dealt with, in bytes."""

    def __init__(self) -> None:
        self._held: dict[Association, int] = {}
        self._lock = Lock()

    def add(self, caller: Association, size: int) -> None:
        """Count what is about to be received.

        Raises:
            OSError: When that is more than may be held; it ends the connection.
        """
        with self._lock:
            held = self._held.get(caller, 0) + size
            of_all = sum(self._held.values()) + size
            if size > MOST_IN_A_PIECE or held > MOST_HELD or of_all > MOST_HELD_OF_ALL:
                LOG.warning("ended a connection: it sent more than may be held in memory")
                raise OSError("more than may be held in memory")
            self._held[caller] = held

    def done(self, caller: Association, size: int | None = None) -> None:
        """Forget what was dealt with; all of it, unless more waits behind it."""
        with self._lock:
            waits = size is not None and not caller.dimse.msg_queue.empty()
            self._held[caller] = max(0, self._held.get(caller, 0) - (size or 0)) if waits else 0

    def forget(self, caller: Association) -> None:
        """Forget a caller who has left."""
        with self._lock:
            self._held.pop(caller, None)

    def busy(self, caller: Association) -> bool:
        """Say whether something of a caller is under way."""
        return bool(self._held.get(caller))


class _Call(RequestHandler):
    """One connection; it reads no more than may be held."""

    server: "_Server"

    def _create_association(self) -> Association:
        caller = super()._create_association()
        load, socket = self.server.load, caller.dul.socket
        if socket is not None:
            plain: Callable[[int], bytearray] = socket.recv

            def counted(nr_bytes: int) -> bytearray:
                load.add(caller, nr_bytes)
                return plain(nr_bytes)

            socket.recv = counted  # type: ignore[method-assign]
        return caller


class _Server(ThreadedAssociationServer):
    """The socket that is listened on."""

    daemon_threads = True
    door: Door
    load: _Load

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Hang up on strangers, and on all when too many are connected, before a word is read."""
        known = self.door.knows(str(client_address[0]))
        if not known:
            LOG.warning("hung up on %s, which is no peer", client_address[0])
        return known and len(self.active_associations) < 2 * self.door.callers

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say that a connection failed; a traceback might quote what came."""
        LOG.warning("a connection from %s failed", client_address[0])


class Listener:
    """Takes films in until it is told to stop.

    Args:
        door: How it listens.
        folder: The inbox.
    """

    def __init__(self, door: Door, folder: Path) -> None:
        """Listen; whoever connects is answered once `serve` runs.

        Raises:
            ArgumentError: When the address cannot be listened on.
        """
        self.door, self.folder = door, folder
        self._load, self._reading, self._stop = _Load(), Lock(), Event()
        entity = _entity(door)
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ESTABLISHED, lambda event: self._load.done(event.assoc)),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_CLOSE, lambda event: self._load.forget(event.assoc)),
        ]
        # The parts that connections ask for are there before the first can come.
        made = type("_Bound", (_Server,), {"door": door, "load": self._load})
        try:
            self._server: _Server = entity.make_server(  # type: ignore[assignment]
                (door.host, door.port),
                evt_handlers=handlers,
                server_class=made,
                request_handler=_Call,
            )
        except OSError as error:
            raise ArgumentError(
                f"Nobody can listen on {door.host} port {door.port} ({error.strerror}); choose "
                "another with --host and --port."
            ) from error
        entity._servers.append(self._server)
        sweep(folder)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Take no more callers, finish what is under way, and have `serve` return."""
        self._stop.set()

    def serve(self) -> None:
        """Answer callers until `stop`."""
        LOG.info("%s listens on %s port %d", self.door.title, self.door.host, self.port)
        thread = Thread(target=partial(self._server.serve_forever, 0.1), daemon=True)
        thread.start()
        self._stop.wait()
        self._server.shutdown()
        self._drain()
        LOG.info("stopped")

    def _drain(self) -> None:
        """Let what is under way end, and hang up on whoever is silent or takes too long."""
        end = time.monotonic() + self.door.patience
        silent: dict[Association, float] = {}
        while callers := self._server.active_associations:
            now = time.monotonic()
            for caller in callers:
                if self._load.busy(caller):
                    silent.pop(caller, None)
                elif now - silent.setdefault(caller, now) > GRACE:
                    caller.abort()
            if now > end:
                LOG.warning("hung up on %d callers after %g s", len(callers), self.door.patience)
                for caller in callers:
                    caller.abort()
                return
            time.sleep(0.05)

    # --- what callers ask ---

    def _requested(self, event: evt.Event) -> None:
        """Turn away whoever is not on the list."""
        caller: Any = event.assoc
        title, address = caller.requestor.primitive.calling_ae_title, caller.requestor.address
        if self.door.admits(title.strip(), address):
            return
        LOG.warning("turned away a caller from %s: its AE title is not that of a peer", address)
        caller.acse.send_reject(*NOT_RECOGNISED)
        evt.trigger(caller, evt.EVT_REJECTED, {})
        caller.kill()

    def _echo(self, event: evt.Event) -> int:
        self._load.done(event.assoc)
        return SUCCESS

    def _store(self, event: evt.Event) -> Dataset:
        """Answer one film."""
        data = event.encoded_dataset()
        try:
            status, comment = self._judged(data, event)
        finally:
            self._load.done(event.assoc, len(data))
        answer = Dataset()
        answer.Status = status
        if comment:
            answer.ErrorComment = comment[:64]  # a long string (PS3.5 6.2)
        return answer

    def _judged(self, data: bytes, event: evt.Event) -> tuple[int, str]:
        """Look at a film, and keep it if it can be read; return status and comment."""
        who, request = self._named(event.assoc), cast(C_STORE, event.request)
        if len(data) > MAX_BYTES:
            return self._refused(who, NO_ROOM, f"More than {MAX_BYTES // 2**20} MB")
        try:
            with self._reading:  # one at a time, for a decoded film is large
                whose = read_study_reference(data)
                asked = (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
                if whose is None or (whose.sop_class_uid, whose.sop_uid) != asked:
                    return self._refused(who, MISMATCH, "Data set and command name two objects")
                if is_ours(data):
                    return self._refused(who, CANNOT_UNDERSTAND, "Made here, and no film")
                read_radiograph(data)
        except ImageError as error:
            # Not its sentence, which may quote the header.
            return self._refused(who, CANNOT_UNDERSTAND, f"Not read as a film: {error.code}")
        try:
            digest, new = keep(self.folder, data, room=self.door.room, spare=self.door.spare)
        except NoRoom as error:
            return self._refused(who, NO_ROOM, str(error))
        told = "kept" if new else "already had"
        LOG.info("%s film %s, %.1f MB, from %s", told, digest[:8], len(data) / 2**20, who)
        return SUCCESS, ""

    def _refused(self, who: str, status: int, why: str) -> tuple[int, str]:
        LOG.warning("refused a film from %s (%04X): %s", who, status, why)
        return status, why

    def _named(self, caller: Association) -> str:
        """Name a caller by the site's own list, else by the address alone."""
        title = caller.requestor.ae_title.strip()
        address = str(caller.requestor.address)
        listed = any(one.title == title for one in self.door.peers)
        return f"{title} at {address}" if listed else address


def listen(door: Door, folder: Path) -> None:
    """Take films in until SIGTERM or SIGINT came; then finish what was begun.

    Raises:
        ArgumentError: When the address cannot be listened on.
    """
    listener = Listener(door, folder)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: listener.stop())
    listener.serve()


def _entity(door: Door) -> ApplicationEntity:
    entity = ApplicationEntity(door.title)
    entity.require_called_aet = True
    entity.maximum_associations = door.callers
    entity.maximum_pdu_size = PIECE
    entity.acse_timeout = min(5.0, door.patience)  # whoever says nothing holds a place so long
    entity.dimse_timeout = entity.network_timeout = door.patience
    entity.add_supported_context(Verification)
    for kind in FILMS:
        entity.add_supported_context(kind, list(TRANSFER_SYNTAXES))
    return entity
