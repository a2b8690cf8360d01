"""Real DICOM peers on this machine alone: Debian's dcmtk and Orthanc, and our own listener.

Each runs on a free port in a folder of its own, and is started and ended by the test.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from cxr_core.images import Radiograph

ROOT = Path(__file__).resolve().parents[1]
COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"
PATIENT, PATIENT_NAME, STUDY = "MRN47110815", "Lovelace^Augusta", "1.2.826.0.1.3680043.8.498.4711"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "correct-horse"

# pynetdicom 3.0.4 leaves the socket of a peer who has gone to the garbage collector.
a_socket_is_left = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
needs_dcmtk = pytest.mark.skipif(
    not (shutil.which("storescu") and shutil.which("echoscu") and shutil.which("dcmdump")),
    reason="dcmtk is not installed",
)
needs_orthanc = pytest.mark.skipif(
    not shutil.which("Orthanc") or not PLUGIN.exists(),
    reason="orthanc with orthanc-dicomweb is not installed",
)
needs_validator = pytest.mark.skipif(
    not shutil.which("dciodvfy"), reason="dicom3tools is not installed"
)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def eventually(true: Any, what: str, seconds: float = 60) -> Any:
    """Wait until something holds, and return it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)
    return found


def dicom_film(film: Radiograph, number: int = 1, **more: Any) -> bytes:
    """Write a computer-made film as an X-ray unit would, with a patient in its header."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = COMPUTED_RADIOGRAPHY, f"{STUDY}.1.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, f"{STUDY}.1"
    made.PatientID, made.PatientName = PATIENT, PATIENT_NAME
    made.PatientBirthDate, made.PatientSex, made.PatientAge = "20210704", "F", "004Y"
    made.StudyDate, made.StudyTime, made.StudyID = "20251120", "101112", "S1"
    made.AccessionNumber, made.ReferringPhysicianName = "ACC90125", "Babbage^Charles"
    made.Modality, made.BodyPartExamined, made.ViewPosition = "CR", "CHEST", "AP"
    made.StudyDescription, made.Manufacturer = "Chest", "Made by a test"
    made.SeriesNumber, made.InstanceNumber = 1, number
    pixels = np.rint(film.pixels * 4095).astype("<u2")
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.RescaleIntercept, made.RescaleSlope = 0, 1
    made.PixelData = pixels.tobytes()
    for keyword, value in more.items():
        setattr(made, keyword, value)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    stream = BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


# --- Orthanc ---


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    dicom: int
    http: int
    title: str = "ORTHANC"

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def ask(self, path: str, data: bytes | None = None, method: str | None = None) -> Any:
        """Ask its REST interface."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data, method=method)
        sign = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {sign}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            body = answer.read()
        return json.loads(body) if body[:1] in (b"{", b"[") else body

    def empty(self) -> None:
        for one in self.ask("/patients"):
            self.ask(f"/patients/{one}", method="DELETE")

    def files(self) -> list[bytes]:
        return [self.ask(f"/instances/{one}/file") for one in self.ask("/instances")]


@contextmanager
def running_orthanc(folder: Path, **more: Any) -> Iterator[Orthanc]:
    found = Orthanc(free_port(), free_port())
    settings: dict[str, Any] = {
        "Name": "Test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": found.http,
        "DicomPort": found.dicom,
        "DicomAet": found.title,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": True,
        "Plugins": [str(PLUGIN)],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings | more))
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        ["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT, cwd=folder
    )
    try:

        def up() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return bool(found.ask("/system"))
            except OSError:
                return False

        eventually(up, "Orthanc answers")
        yield found
    finally:
        process.terminate()
        process.wait(30)
        log.close()


# --- our listener ---


@dataclass
class Listening:
    """Our listener, run as its command."""

    process: subprocess.Popen[bytes]
    port: int
    inbox: Path
    log: Path
    title: str = "CXR"
    options: tuple[str, ...] = field(default=())

    def films(self) -> list[Path]:
        """What a reader of the inbox would see."""
        return [one for one in self.inbox.iterdir() if not one.name.startswith(".")]

    def said(self) -> str:
        return self.log.read_text()

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


@contextmanager
def listening(
    folder: Path, *options: str, code: str = "", **environment: str
) -> Iterator[Listening]:
    """Run `python -m cxr_core listen`, or other code that does, on a free port."""
    inbox, log, port = folder / "inbox", folder / "listener.log", free_port()
    inbox.mkdir(exist_ok=True)
    start = ["-c", code] if code else ["-m", "cxr_core"]
    command = [sys.executable, *start, "listen", "--port", str(port), *options]
    with log.open("wb") as told:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"CXR_INBOX": str(inbox), "CXR_RECORDS": "off"} | environment,
            stdout=told,
            stderr=told,
        )
    found = Listening(process, port, inbox, log, options=options)
    try:

        def up() -> bool:
            assert process.poll() is None, found.said()
            return f"port {port}" in found.said()

        eventually(up, "the listener listens")
        yield found
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def scu(tool: str, port: int, *more: str, called: str = "CXR", **how: Any) -> Any:
    """Run a client of dcmtk against a port of this machine."""
    command = [tool, "-v", "-aec", called, "127.0.0.1", str(port), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **how)
