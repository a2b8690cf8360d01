"""Answers out to an archive: by C-STORE to an application entity, or by STOW-RS.

Only what `export` makes is sent, and a study that was made up for a picture only when somebody
said that it may be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from cxr_core import export
from cxr_core.archive.settings import SEND_TO, Elsewhere, WebArchive
from cxr_core.errors import ArchiveError, ArgumentError
from cxr_core.export import ReadingRecord
from cxr_core.images import StudyReference
from cxr_core.logs import silence
from cxr_core.records import Event

CONNECT, SILENCE = 10.0, 60.0  # seconds
# DICOM PS3.4 B.2.3; the ranges by their first digits.
_REASONS = {
    0xA700: "it has no room",
    0xA900: "the files do not fit their kind",
    0xC000: "it cannot understand them",
    0x0122: "it does not take this kind",
    0x0124: "it is not allowed",
}


@dataclass(frozen=True)
class Sent:
    """What became of sending an answer.

    Attributes:
        sentence: In words, for the reader.
        event: For the journal: what was sent where, or why it was not.
    """

    sentence: str
    event: Event

    @property
    def done(self) -> bool:
        """Whether the archive has it all."""
        return self.event.what == "sent"


def send(
    record: ReadingRecord,
    reference: StudyReference | None,
    to: WebArchive | Elsewhere,
    *,
    synthetic: bool = False,
    reader: str = "",
) -> Sent:
    """Send the structured report and the picture of a reading.

    Args:
        record: The reading; a map that was withheld is not in it.
        reference: Of the DICOM file that was read; None for any other picture.
        to: The archive.
        synthetic: Whether a study may be made up for a picture.
        reader: Who asked, for the journal.

    Raises:
        ArgumentError: When there is no answer, or nowhere to file it.
    """
    if reference is None and not synthetic:
        raise ArgumentError(
            "The film came without a DICOM header, so that it belongs to no study: nothing was "
            "sent. Say that a synthetic study may be made up for it, or read the film as DICOM."
        )
    files = [
        write(record, reference) for write in (export.structured_report, export.secondary_capture)
    ]
    what = "report and picture" + (", under a synthetic study" if reference is None else "")
    try:
        place = _deliver(files, to)
    except ArchiveError as error:
        return Sent(str(error), _event(record, "not sent", f"{what}: {error}", reader))
    whose = "a synthetic study" if reference is None else "the film's own study"
    return Sent(
        f"Sent to {place}: structured report and picture, filed under {whose}.",
        _event(record, "sent", f"{what}, to {place}", reader),
    )


def _event(record: ReadingRecord, what: Any, note: str, reader: str) -> Event:
    card = record.card
    return Event(
        digest=record.film.digest,
        what=what,
        model=card.name,
        version=card.version,
        note=note,
        reader=reader,
    )


def _deliver(files: Sequence[bytes], to: WebArchive | Elsewhere) -> str:
    """Send files; return what the place is called."""
    if isinstance(to, Elsewhere):
        _store(files, to)
        return to.title
    from cxr_core.archive.web import Archive

    with Archive(to) as archive:
        archive.store(files)
    return "the archive"


def _store(files: Sequence[bytes], to: Elsewhere) -> None:
    """Send files by C-STORE, all over one association.

    Raises:
        ArchiveError: When not all of them were taken.
    """
    from pydicom import dcmread
    from pynetdicom import _config
    from pynetdicom.ae import ApplicationEntity

    _config.LOG_HANDLER_LEVEL = "none"
    silence("pynetdicom")
    datasets = [dcmread(BytesIO(one)) for one in files]
    entity = ApplicationEntity(to.ours)
    entity.connection_timeout = entity.acse_timeout = CONNECT
    entity.dimse_timeout = entity.network_timeout = SILENCE
    for one in datasets:
        entity.add_requested_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
    try:
        association = entity.associate(to.host, to.port, ae_title=to.title)
    except OSError:
        raise ArchiveError(_unreachable(to)) from None
    if not association.is_established:
        raise ArchiveError(_unwelcome(to) if association.is_rejected else _unreachable(to))
    try:
        for done, one in enumerate(datasets):
            try:
                status = int(association.send_c_store(one).get("Status", -1))
            except (ValueError, RuntimeError):  # it takes no such kind, or has hung up
                status = 0x0122 if association.is_established else -1
            if status != 0 and status >> 12 != 0xB:  # a warning: taken, with a change
                raise ArchiveError(_refused(to, status, done, len(datasets)))
    finally:
        association.release()


def _unreachable(to: Elsewhere) -> str:
    return (
        f"{to.title} cannot be reached: check that it runs, that this machine may reach it, and "
        f"{SEND_TO}."
    )


def _unwelcome(to: Elsewhere) -> str:
    return (
        f"{to.title} turned this machine away: have its keepers list the AE title {to.ours} and "
        f"this machine's address, and check the title in {SEND_TO}."
    )


def _refused(to: Elsewhere, status: int, done: int, files: int) -> str:
    if status < 0:
        why = "it hung up or took too long"
    else:
        known = (
            _REASONS.get(status) or _REASONS.get(status & 0xFF00) or _REASONS.get(status & 0xF000)
        )
        why = f"{known or 'it gave no reason that is known'} (status {status:04X})"
    return f"{to.title} took {done} of {files} files, then none: {why}. Ask those who run it."
