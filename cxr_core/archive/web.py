"""An archive that speaks DICOMweb: asked for studies, for their films, and sent answers.

What it answers is bounded in size and time. Errors are sentences without its address, a user or
a password; the address of a request may hold a patient's number, so that the libraries which
would log it say nothing.

Reference: DICOM PS3.18 10.4 (retrieve), 10.5 (store), 10.6 (search).
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from hashlib import sha256
from io import BytesIO
from typing import Any

import requests
from requests.exceptions import RequestException

from cxr_core.archive.kinds import FILMS, MODALITIES
from cxr_core.archive.settings import AUTHORITY, PASSWORD, TOKEN, URL, USER, WebArchive
from cxr_core.errors import ArchiveError, ArgumentError
from cxr_core.gate.facts import CHEST_WORDS
from cxr_core.images import MAX_BYTES
from cxr_core.logs import silence

CONNECT, SILENCE, WHOLE = 5.0, 20.0, 180.0  # seconds: to connect, between bytes, for an answer
MOST_TOLD = 8 * 2**20  # bytes of a list of studies
MOST_STUDIES, MOST_FILMS = 100, 40
CHUNK = 2**18
Progress = Callable[[str, int, int], None]
"""Told what is coming, how many films came, and how many will."""

silence("dicomweb_client", "urllib3", "requests")

_STRANGE = (
    f"The archive answered, but not as DICOMweb does: check that the address in {URL} is that of "
    "its DICOMweb service."
)
# DICOM PS3.5 9.1, and what a search takes for a pattern or for several values.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_PATTERN = re.compile(r"[*?\\\x00-\x1f]")


@dataclass(frozen=True, kw_only=True, repr=False)
class Sought:
    """What an archive is asked for; all that is given must hold.

    Attributes:
        patient_id: The patient's number, or "".
        accession: The number of the request, or "".
        since: First day of the study, or None.
        until: Last day, or None.
        modality: One of `MODALITIES`, or "" for all of them.
    """

    patient_id: str = ""
    accession: str = ""
    since: date | None = None
    until: date | None = None
    modality: str = ""

    def __post_init__(self) -> None:
        """Refuse what would ask for everything, or for something else.

        Raises:
            ArgumentError: When nothing is sought, or it cannot be.
        """
        if not (self.patient_id or self.accession or self.since):
            raise ArgumentError("Say whom to look for: a patient ID, an accession number or a day.")
        for name in ("patient_id", "accession"):
            value = getattr(self, name)
            if len(value) > 64 or _PATTERN.search(value):
                raise ArgumentError(
                    f"{name} has up to 64 letters and digits, without *, ? and backslash: write "
                    "it in full."
                )
        if self.until is not None and (self.since is None or self.until < self.since):
            raise ArgumentError("The last day must not lie before the first: mend the days.")
        if self.modality and self.modality not in MODALITIES:
            raise ArgumentError(
                f"The modality must be one of {', '.join(MODALITIES)}, but '{self.modality}' came."
            )

    def filters(self, modality: str) -> dict[str, str]:
        """Write it as a search takes it."""
        days = ""
        if self.since is not None:
            days = f"{self.since:%Y%m%d}-{self.until or self.since:%Y%m%d}"
        told = {
            "PatientID": self.patient_id,
            "AccessionNumber": self.accession,
            "StudyDate": days,
            "ModalitiesInStudy": modality,
        }
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, repr=False)
class Study:
    """A study that the archive holds, as it says itself; "" where it is silent."""

    uid: str
    patient_id: str = ""
    accession: str = ""
    date: str = ""
    description: str = ""
    modality: str = ""

    @property
    def day(self) -> str:
        """The date as one reads it, where it is one."""
        return re.sub(r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3", self.date)


@dataclass(frozen=True, repr=False)
class Fetched:
    """One film that came from the archive: its file, and the day and kind of its study."""

    data: bytes
    title: str


class _TooMuch(Exception):
    """More came than may."""


class Archive:
    """An archive on the web; opened by `with`.

    Args:
        settings: Where it is, and how to sign in.
    """

    def __init__(self, settings: WebArchive) -> None:
        """Make ready; nothing is asked yet."""
        from dicomweb_client import DICOMwebClient

        self._settings = settings
        self._session = _Bounded()
        self._session.verify = settings.authority or True
        if settings.user:
            self._session.auth = (settings.user, settings.password)
        if settings.token:
            self._session.headers["Authorization"] = f"Bearer {settings.token}"
        self._client = DICOMwebClient(
            settings.url, session=self._session, timeout=(CONNECT, SILENCE), permissive_uid=True
        )
        self._client.set_http_retry_params(retry=False)

    def __enter__(self) -> "Archive":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self._session.close()

    def studies(self, sought: Sought) -> list[Study]:
        """Return the studies that match, the latest first.

        Raises:
            ArchiveError: When the archive cannot be asked, or names too many.
        """
        found: dict[str, Study] = {}
        for modality in [sought.modality] if sought.modality else MODALITIES:
            told = self._list(
                self._client.search_for_studies,
                search_filters=sought.filters(modality),
                fields=["StudyDescription"],
                limit=MOST_STUDIES + 1,
            )
            for one in map(_study, told):
                before = found.get(one.uid)
                kinds = f"{before.modality}, {modality}" if before else modality
                found[one.uid] = replace(one, modality=kinds)
        if len(found) > MOST_STUDIES:
            raise ArchiveError(
                f"More than {MOST_STUDIES} studies match: narrow the search by a patient, an "
                "accession number or a shorter time."
            )
        return sorted(found.values(), key=lambda one: one.date, reverse=True)

    def films(self, study: Study, progress: Progress | None = None) -> Iterator[Fetched]:
        """Fetch the chest films of a study, one after the other.

        Raises:
            ArchiveError: When one cannot be fetched, or the study holds none or too many.
        """
        places = self._places(study)
        if not places:
            raise ArchiveError(
                "The archive holds no chest film of this study, or does not say so: it was asked "
                f"for {', '.join(MODALITIES)} of the chest."
            )
        if len(places) > MOST_FILMS:
            raise ArchiveError(
                f"The study holds {len(places)} films, and up to {MOST_FILMS} are fetched: send "
                "them from the archive to the listener instead."
            )
        for done, place in enumerate(places):
            if progress is not None:
                progress("Films", done, len(places))
            data = self._film(place)
            yield Fetched(data, _title(study, done + 1, len(places), data))
        if progress is not None:
            progress("Films", len(places), len(places))

    def store(self, files: Sequence[bytes]) -> None:
        """Send DICOM files there (STOW-RS).

        Raises:
            ArchiveError: When it does not take them all.
        """
        from pydicom import dcmread

        datasets = [dcmread(BytesIO(one)) for one in files]
        with _in_words():
            answer = self._client.store_instances(datasets)
            failed = list(answer.get("FailedSOPSequence") or ())
            stored = list(answer.get("ReferencedSOPSequence") or ())
        if failed or len(stored) < len(files):
            codes = ", ".join(sorted({f"{one.get('FailureReason', 0):04X}" for one in failed}))
            raise ArchiveError(
                f"The archive took {len(stored)} of {len(files)} files"
                f"{f' and gave the reason {codes}' if codes else ''}: ask those who run it."
            )

    # --- how it is asked ---

    def _places(self, study: Study) -> list[str]:
        """Return the addresses of a study's chest films."""
        found = []
        series = self._list(
            self._client.search_for_series,
            study_instance_uid=_uid(study.uid),
            fields=["BodyPartExamined"],
        )
        for one in series:
            part = _text(one, "00180015").upper()
            chest = not part or any(word in part for word in CHEST_WORDS)
            if _text(one, "00080060") not in MODALITIES or not chest:
                continue
            inner = _uid(_text(one, "0020000E"))
            listed = self._list(
                self._client.search_for_instances,
                study_instance_uid=study.uid,
                series_instance_uid=inner,
                limit=MOST_FILMS + 1,
            )
            found += [
                f"{self._settings.url}/studies/{study.uid}/series/{inner}/instances/"
                f"{_uid(_text(film, '00080018'))}"
                for film in listed
                if _text(film, "00080016") in FILMS
            ]
        return found

    def _list(self, ask: Callable[..., Any], **how: Any) -> list[Mapping[str, Any]]:
        """Ask for a list of things."""
        self._session.most = MOST_TOLD
        with _in_words():
            told = ask(**how)
            if not all(isinstance(one, dict) for one in told):
                raise ValueError("no list of data sets")
            return list(told)

    def _film(self, place: str) -> bytes:
        """Fetch one film as the archive holds it, byte by byte."""
        self._session.most = MAX_BYTES + CHUNK
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        with _in_words():
            answer = self._session.get(
                place, headers={"Accept": accept}, timeout=(CONNECT, SILENCE)
            )
            answer.raise_for_status()
            return _only_part(answer.headers.get("Content-Type", ""), answer.content)


class _Bounded(requests.Session):
    """A session whose answers end, in size and in time, and that goes nowhere else."""

    most = MOST_TOLD

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # no proxy and no password that the machine holds for others

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        """Ask, and read the answer as far as may be."""
        answer = super().send(request, **how | {"stream": True, "allow_redirects": False})
        try:
            answer._content = b"".join(self._pieces(answer))
        finally:
            answer.close()
        answer._content_consumed = True
        if answer.is_redirect:
            raise requests.TooManyRedirects(response=answer)
        return answer

    def _pieces(self, answer: requests.Response) -> Iterator[bytes]:
        size, end = 0, time.monotonic() + WHOLE
        for piece in answer.iter_content(CHUNK):
            size += len(piece)
            if size > self.most:
                raise _TooMuch
            if time.monotonic() > end:
                raise requests.Timeout
            yield piece


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn what goes wrong on the way into a sentence.

    Raises:
        ArchiveError: Without its cause, which may quote an address or a patient's number.
    """
    try:
        yield
    except ArchiveError:
        raise
    except _TooMuch:
        raise ArchiveError(
            "The archive sent more than is taken in one answer: narrow the search, or fetch "
            "fewer films."
        ) from None
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        raise ArchiveError(_status(code)) from None
    except requests.exceptions.InvalidJSONError:
        raise ArchiveError(_STRANGE) from None
    except RequestException as error:
        raise ArchiveError(_trouble(error)) from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ArchiveError(_STRANGE) from None


def _trouble(error: RequestException) -> str:
    """Say what stood in the way of an answer."""
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "The archive's certificate is not trusted, or does not fit its name: have it "
            f"mended, or name the authority that signed it in {AUTHORITY}."
        )
    if isinstance(error, requests.ConnectTimeout):
        return "The archive does not answer: check that it runs and may be reached from here."
    if isinstance(error, requests.Timeout):
        return "The archive took too long to answer: try again, or ask for less."
    if isinstance(error, requests.TooManyRedirects):
        return f"The archive answers from another address: write that one to {URL}."
    if isinstance(error, requests.exceptions.InvalidHeader | requests.exceptions.InvalidURL):
        return f"The settings of the archive cannot be used: check {URL}, {USER} and {TOKEN}."
    return (
        "The archive cannot be reached: check that it runs, that this machine may reach it, "
        f"and the address in {URL}."
    )


def _status(code: int) -> str:
    """Say what an HTTP status means here."""
    if code == 401:
        return f"The archive wants another sign-in (401): check {USER} and {PASSWORD}, or {TOKEN}."
    if code == 403:
        return "The archive does not allow this (403): ask those who run it for the right."
    if code == 404:
        return f"The archive does not know what was asked for (404): check the path in {URL}."
    if code in (413, 507):
        return f"The archive has no room for this ({code}): ask those who run it."
    if code == 409:
        return "The archive turned the files away (409): ask those who run it."
    kind = "is in trouble" if code >= 500 else "does not understand what was asked"
    return f"The archive {kind} ({code}): try again later, or ask those who run it."


def _only_part(kind: str, body: bytes) -> bytes:
    """Return the one DICOM file of an answer (RFC 2046 5.1)."""
    if kind.partition(";")[0].strip().lower() == "application/dicom":
        return body
    found = re.search(r'boundary="?([^";]+)"?', kind)
    if not kind.lower().startswith("multipart/related") or found is None:
        raise ValueError("no multipart answer")
    mark = b"--" + found[1].encode()
    start = body.index(b"\r\n\r\n", body.index(mark)) + 4
    return body[start : body.index(b"\r\n" + mark, start)]


def _study(told: Mapping[str, Any]) -> Study:
    numbers = ("0020000D", "00100020", "00080050", "00080020", "00081030")
    uid, *rest = map(partial(_text, told), numbers)
    return Study(uid, *rest)


def _text(told: Mapping[str, Any], tag: str) -> str:
    """Return the first value of an element, as text; "" where there is none (PS3.18 F.2)."""
    element = told.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]).strip() if isinstance(values, list) and values else ""


def _uid(text: str) -> str:
    """Return what is safe as a part of an address.

    Raises:
        ArchiveError: When the archive said something else.
    """
    if len(text) > 64 or not _UID.fullmatch(text):
        raise ArchiveError("The archive names a study or a film by what is no DICOM UID.")
    return text


def _title(study: Study, number: int, films: int, data: bytes) -> str:
    """Call a film by kind and day, and by its digest: films of two patients never look alike.

    Who it is of is in its header.
    """
    day = f" of {study.day}" if study.day else ""
    which = f", film {number} of {films}" if films > 1 else ""
    return f"{study.modality}{day}{which}, {sha256(data).hexdigest()[:8]}"
