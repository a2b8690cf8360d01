"""The HTTP API as a process of its own: what it writes, how it ends, what it never tells."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset

from cxr_core.__main__ import main
from cxr_core.phantom import png_bytes, sample_film, thorax
from cxr_core.service import server
from cxr_core.service.settings import Settings

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-of-tests"
SECRET = "Quillfeather"

pytestmark = pytest.mark.slow


@contextmanager
def running(models, *options, token=None, waits=True):
    """Start the service on a free port; give the process, its address and its words so far."""
    outside = {name: value for name, value in os.environ.items() if name != "CXR_TOKEN"}
    outside |= {"CXR_MODELS": str(models)} | ({"CXR_TOKEN": token} if token else {})
    command = [sys.executable, "-m", "cxr_core", "serve", "--model", "tiny", "--port", "0"]
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, env=outside, stderr=subprocess.PIPE, text=True
    )
    try:
        first = process.stderr.readline()
        if first.startswith("The weights of 'tiny' are not those"):
            first = process.stderr.readline()
        assert "listening on 127.0.0.1 port " in first, first
        port = int(first.split("port ")[1].split(";")[0])
        address = f"http://127.0.0.1:{port}"
        for _ in range(1200 if waits else 0):
            if httpx2.get(f"{address}/ready", timeout=60).status_code == 200:
                break
            time.sleep(0.1)
        yield process, address, port
    finally:
        process.kill()
        process.communicate()


def ended(process):
    """Wait for the process; return its status and everything it wrote."""
    words = process.communicate(timeout=120)[1]
    return process.returncode, words


def dicom(name):
    """A film of somebody, with an age that libraries complain about."""
    film = thorax(96, 92, seed=3)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    dataset.PatientName, dataset.PatientID = f"{name}^Ada", name
    dataset.Rows, dataset.Columns = film.pixels.shape
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PatientAge, dataset.AccessionNumber = "012Y", name
    dataset.PixelData = (film.pixels * 255).astype("uint8").tobytes()
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue().replace(b"012Y", name.upper()[:4].encode())


def test_it_stops_by_finishing_what_it_accepted(tiny_models):
    film = png_bytes(sample_film())
    with running(tiny_models) as (process, address, port):
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(film)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 60) as upload:
            upload.sendall(head.encode() + film[:1000])
            wait_for(lambda: "cxr_places_taken 1.0" in httpx2.get(f"{address}/metrics").text)
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses(port))
            assert process.poll() is None
            upload.sendall(film[1000:])
            answer = b"".join(iter(lambda: upload.recv(65536), b""))
        status, words = ended(process)

    assert answer.startswith(b"HTTP/1.1 200") and b'"predictions": [{"label"' in answer
    assert status == 0
    assert "/predict 200 in " in words and words.rstrip().endswith("stopped")


def wait_for(happened):
    for _ in range(6000):
        if happened():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen within a minute")


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return True
    return False


def test_it_writes_no_name_no_identifier_and_no_token(tiny_models):
    film = dicom(SECRET)
    assert SECRET.encode() in film
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with running(tiny_models, token=TOKEN) as (process, address, port):
        with httpx2.Client(base_url=address, headers=bearer, timeout=60) as client:
            sent = {"film": (f"{SECRET}.dcm", film)}
            answered = client.post("/predict", files=sent).json()
            assert answered["ok"] and answered["file"] == f"{SECRET}.dcm"
            assert client.post("/predict", files={"f": (SECRET, film[:700])}).status_code == 422
            assert client.post(f"/explain?label={SECRET}", files=sent).status_code == 404
            assert client.post(f"/{SECRET}?{SECRET}={SECRET}", files=sent).status_code == 404
            strange = f"--x\r\nContent-Transfer-Encoding: {SECRET}\r\n" + (
                f'Content-Disposition: form-data; name="{SECRET}"; filename="{SECRET}"\r\n\r\n'
            )
            form = {"Content-Type": "multipart/form-data; boundary=x", SECRET: SECRET}
            assert client.post("/predict", content=strange, headers=form).status_code == 400
            numbers = client.get("/metrics").text
        assert answer_to(port, f"{SECRET}\r\n\r\n").startswith(b"HTTP/1.1 400")
        assert answer_to(port, f"GET /?{SECRET} HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
        process.send_signal(signal.SIGTERM)
        status, words = ended(process)

    assert status == 0 and len(words.splitlines()) >= 6
    for told in (words, numbers):
        assert SECRET.lower() not in told.lower() and TOKEN not in told
        assert "127.0.0.1" not in told.split("models load")[-1]


def answer_to(port, words):
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(words.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_whoever_is_turned_away_early_still_reads_why(tiny_models):
    """The body of a refused request is let run out, so that no reset hides the answer."""
    with running(tiny_models, token=TOKEN, waits=False) as (_, address, _):
        for _ in range(3):
            came = httpx2.post(f"{address}/predict", content=bytes(20 * 2**20), timeout=60)
            assert (came.status_code, came.json()["code"]) == (401, "token")


def test_a_damaged_model_ends_it_with_one_sentence(tiny_models, tmp_path):
    shutil.copytree(tiny_models, tmp_path / "models")
    (tmp_path / "models" / "tiny" / "model.keras").write_bytes(b"damaged")
    with running(tmp_path / "models", waits=False) as (process, _, _):
        status, words = ended(process)

    assert status == 1
    assert words.splitlines()[-1].startswith("cxr_core: 'model.keras' of model 'tiny' cannot")


def test_what_cannot_be_served_is_told_before_anything_loads(tiny_models, monkeypatch, capsys):
    monkeypatch.setenv("CXR_MODELS", str(tiny_models))
    monkeypatch.delenv("CXR_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for options, told in (
            (("--model", "tinny"), "Did you mean 'tiny'"),
            (("--model", "tiny", "--host", "0.0.0.0"), "CXR_TOKEN"),
            (("--model", "tiny", "--port", port), "choose another with --host and --port"),
        ):
            assert main(["serve", *options]) == 2
            out, err = capsys.readouterr()
            assert (out, len(err.splitlines())) == ("", 1) and told in err


def test_an_answer_does_not_wait_for_the_client_to_confirm_its_head():
    with (
        server._listening(Settings(models=("tiny",), port=0)) as listener,
        socket.create_connection(listener.getsockname()[:2]),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
