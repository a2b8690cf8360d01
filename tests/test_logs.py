"""What is logged: nothing that names a patient, and no pixel, whatever the file is like.

Every logger is heard at every level here, with the tracebacks it is given, and so is stderr.
"""

import asyncio
import base64
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from dropping import drop
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser
from streamlit.testing.v1 import AppTest

from cxr_core.images import read_radiograph
from cxr_core.phantom import thorax
from cxr_core.ui import session  # noqa: F401 (it sees to how uploads are held)

ROOT = Path(__file__).resolve().parents[1]
TOLD = {
    "PatientName": "Lovelace^Augusta",
    "PatientID": "MRN47110815",
    "PatientBirthDate": "18151210",
    "AccessionNumber": "ACC90125",
    "ReferringPhysicianName": "Babbage^Charles",
    "StudyDate": "18430705",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.4711",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.4712",
    "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.4713",
}
# What must not be found: whole, and the parts by which somebody would still be known.
SECRETS = {*TOLD.values(), "Lovelace", "Augusta", "Babbage"}
FILE_NAME = "Lovelace_Augusta_18151210.dcm"
PIXELS = np.rint(thorax(128, 112, seed=2).pixels * 255).astype(np.uint8)


def film() -> bytes:
    """A chest film whose header says whose it is."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = TOLD["SOPInstanceUID"]
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    for name, text in TOLD.items():
        setattr(dataset, name, text)
    dataset.PatientAge, dataset.PatientSex = "004Y", "F"
    dataset.Modality, dataset.ViewPosition = "CR", "AP"
    dataset.Rows, dataset.Columns = PIXELS.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation, dataset.PixelData = 0, PIXELS.tobytes()
    return written(dataset)


def written(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def wrong_number() -> bytes:
    """The film whose window is, in letters, the patient's name."""
    dataset = dcmread(BytesIO(film()))
    dataset.WindowCenter, dataset.WindowWidth = "1234567812345678", "100"
    return written(dataset).replace(b"1234567812345678", TOLD["PatientName"].encode()[:16])


def wrong_colours() -> bytes:
    """The film whose photometric interpretation is the patient's name."""
    data = film()
    return data.replace(b"MONOCHROME2 ", b"LOVELACE^AUG")


DAMAGED: dict[str, Callable[[], bytes]] = {
    "a window that is a name": wrong_number,
    "colours that are a name": wrong_colours,
    "cut short in its pixels": lambda: film()[:-4000],
    "cut short in its header": lambda: film()[: film().index(b"18151210") + 12],
}


class Heard:
    """All that was logged, by any logger and at any level."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def hear(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        told = f"{logger.name}: {record.msg!r} {record.args!r}"
        with suppress(Exception):  # as everywhere, a message that does not fit stops nobody
            told = f"{logger.name}: {logging.Formatter().format(record)}"
        self.lines.append(told)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    found = Heard()
    monkeypatch.setattr(logging.Logger, "isEnabledFor", lambda logger, level: True)
    monkeypatch.setattr(logging.Logger, "handle", lambda logger, one: found.hear(logger, one))
    before = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    yield found
    logging.disable(before)


def check_silent(text: str) -> None:
    """Nothing in a text names the patient or holds a piece of the picture."""
    assert not [one for one in SECRETS if one.lower() in text.lower()]
    row = PIXELS[64, 40:56]
    pieces = [repr(row.tobytes())[2:-1], row.tobytes().hex(), base64.b64encode(row).decode()[:-4]]
    pieces += [", ".join(map(str, row[:6])), " ".join(map(str, row[:6]))]
    assert not [one for one in pieces if one in text]


def test_the_listener_hears_everything(heard: Heard) -> None:
    logging.getLogger("somewhere.deep").debug("whose film: %s", TOLD["PatientName"])
    try:
        raise ValueError(TOLD["PatientID"])
    except ValueError:
        logging.getLogger("elsewhere").info("no", exc_info=True)
    text = "\n".join(heard.lines)
    assert TOLD["PatientName"] in text and TOLD["PatientID"] in text
    with pytest.raises(AssertionError):
        check_silent(text)
    with pytest.raises(AssertionError):
        check_silent(f"pixels {list(map(int, PIXELS[64, 40:50]))}")


def test_the_damaged_films_say_whose_they_are() -> None:
    for make in DAMAGED.values():
        assert b"Lovelace^Augusta" in make() and make() != film()


def upload(page: AppTest, name: str, data: bytes) -> AppTest:
    return drop(page, (name, data))


@pytest.fixture
def page(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("CXR_MODELS", str(tiny_models))
    st.cache_resource.clear()
    st.cache_data.clear()
    return AppTest.from_file(str(ROOT / "pages" / "read.py"), default_timeout=120).run()


def test_the_reading_page_logs_nothing_of_a_patient(
    page: AppTest, heard: Heard, capfd: pytest.CaptureFixture[str]
) -> None:
    upload(page, FILE_NAME, film())
    assert not page.exception and not page.error
    assert page.session_state["session"].films, "the film was read"
    check_silent("\n".join(heard.lines))
    check_silent("\n".join(capfd.readouterr()))


@pytest.mark.parametrize("make", DAMAGED.values(), ids=DAMAGED.keys())
def test_the_reading_page_logs_nothing_of_a_damaged_film(
    page: AppTest, heard: Heard, capfd: pytest.CaptureFixture[str], make: Callable[[], bytes]
) -> None:
    upload(page, FILE_NAME, make())
    assert not page.exception
    assert page.session_state["session"].failures, [one.value for one in page.error]
    check_silent("\n".join(heard.lines))
    check_silent("\n".join(capfd.readouterr()))


# Run as `python -m cxr_core` is, with every logger at DEBUG on stderr.
LOUD = """
import logging, runpy, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
logging.getLogger("loud").debug("every level is heard")
sys.argv[0] = "cxr_core"
runpy.run_module("cxr_core", run_name="__main__", alter_sys=True)
"""


def test_predict_tells_stderr_nothing_of_a_patient(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_MODELS", str(tiny_models))
    folder = tmp_path / "films"
    folder.mkdir()
    for number, make in enumerate([film, *DAMAGED.values()]):
        (folder / f"{number}_{FILE_NAME}").write_bytes(make())
    command = [sys.executable, "-c", LOUD, "predict", "--model", "tiny", "--json", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [one["ok"] for one in answers] == [True] + [False] * len(DAMAGED)
    assert "every level is heard" in done.stderr
    check_silent(done.stderr)


def test_what_a_radiograph_shows_of_itself_names_nobody() -> None:
    check_silent(repr(read_radiograph(film()).facts))


def test_an_upload_stays_in_memory_on_its_way_in() -> None:
    data = film() + bytes(3_000_000)  # beyond what Starlette holds in memory by itself
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="film.dcm"\r\n\r\n'

    async def sent() -> AsyncIterator[bytes]:
        yield head + data + b"\r\n--x--\r\n"

    async def held() -> tuple[bool, bytes]:
        headers = Headers({"content-type": "multipart/form-data; boundary=x"})
        form = await MultiPartParser(headers, sent()).parse()
        (upload,) = form.values()
        found = upload.file._rolled, await upload.read()
        await form.close()
        return found

    on_disk, came = asyncio.run(held())
    assert came == data and not on_disk
