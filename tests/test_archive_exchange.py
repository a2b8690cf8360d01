"""Films and answers exchanged with a real archive: Orthanc, by DICOM and by DICOMweb."""

import hashlib
import http.server
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from peers import (
    COMPUTED_RADIOGRAPHY,
    PASSWORD,
    PATIENT,
    STUDY,
    USER,
    Orthanc,
    a_socket_is_left,
    dicom_film,
    eventually,
    free_port,
    listening,
    needs_dcmtk,
    needs_orthanc,
    needs_validator,
    running_orthanc,
    scu,
)
from pydicom import dcmread
from readings import WHO, finding, record, refused, shown
from test_logs import LOUD, SECRETS, check_silent

from cxr_core.__main__ import main
from cxr_core.archive import web
from cxr_core.archive.sending import send
from cxr_core.archive.settings import Elsewhere, WebArchive, destination, web_archive
from cxr_core.archive.web import Archive, Sought, Study
from cxr_core.errors import ArchiveError, ArgumentError
from cxr_core.images import read_radiograph, read_study_reference
from cxr_core.phantom import thorax
from cxr_core.records import Records

ROOT = Path(__file__).resolve().parents[1]
ANSWER = (finding("Pneumonia", 0.9, 0.4),)
STRUCTURED = "1.2.840.10008.5.1.4.1.1.88.33"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

pytestmark = a_socket_is_left


def phantom(seed: int = 1, **more: Any) -> bytes:
    return dicom_film(thorax(256, 224, seed=seed), number=seed, **more)


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as found:
        yield found


@pytest.fixture
def orthanc(running: Orthanc) -> Orthanc:
    running.empty()
    return running


@pytest.fixture
def by_web(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Orthanc:
    """Orthanc as the archive that the site names."""
    for name, value in (("URL", orthanc.web), ("USER", USER), ("PASSWORD", PASSWORD)):
        monkeypatch.setenv(f"CXR_ARCHIVE_{name}", value)
    monkeypatch.setenv("CXR_SEND_TO", "web")
    return orthanc


def put(orthanc: Orthanc, *films: bytes) -> None:
    for one in films:
        orthanc.ask("/instances", one)


def filed(orthanc: Orthanc) -> dict[str, Any]:
    """What lies in the archive, by kind."""
    return {one.SOPClassUID: one for one in map(dcmread, map(BytesIO, orthanc.files()))}


# --- asking the archive ---


@needs_orthanc
def test_a_study_is_found_by_patient_accession_day_and_modality(by_web: Orthanc):
    put(by_web, phantom(1), phantom(2), phantom(3, StudyInstanceUID="1.2.3", Modality="CT",
        SeriesInstanceUID="1.2.3.4", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))  # fmt: skip
    day = date(2025, 11, 20)
    with Archive(web_archive()) as archive:
        for sought in (
            Sought(patient_id=PATIENT),
            Sought(accession="ACC90125"),
            Sought(since=day),
            Sought(since=date(2025, 11, 1), until=date(2025, 11, 30), modality="CR"),
        ):
            (found,) = archive.studies(sought)
            assert found == Study(STUDY, PATIENT, "ACC90125", "20251120", "Chest", "CR")
        for sought in (
            Sought(patient_id=PATIENT[:-1]),
            Sought(since=date(2025, 11, 21)),
            Sought(patient_id=PATIENT, modality="DX"),
        ):
            assert archive.studies(sought) == []


@needs_orthanc
def test_the_chest_films_of_a_study_come_as_they_lie_there(by_web: Orthanc):
    hand = {"SeriesInstanceUID": f"{STUDY}.2", "BodyPartExamined": "HAND"}
    put(by_web, phantom(1), phantom(2), phantom(3, **hand))
    told: list[tuple[str, int, int]] = []
    with Archive(web_archive()) as archive:
        (study,) = archive.studies(Sought(patient_id=PATIENT))
        films = list(archive.films(study, lambda *one: told.append(one)))

    assert {one.data for one in films} == {phantom(1), phantom(2)}
    told_apart = [hashlib.sha256(one.data).hexdigest()[:8] for one in films]
    titles = [f"CR of 2025-11-20, film {k} of 2, {which}" for k, which in enumerate(told_apart, 1)]
    assert [one.title for one in films] == titles
    assert told == [("Films", 0, 2), ("Films", 1, 2), ("Films", 2, 2)]


@needs_orthanc
def test_a_study_without_a_chest_film_says_so(by_web: Orthanc):
    put(by_web, phantom(1, BodyPartExamined="HAND"))
    with Archive(web_archive()) as archive:
        (study,) = archive.studies(Sought(patient_id=PATIENT))
        with pytest.raises(ArchiveError, match="no chest film"):
            list(archive.films(study))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({}, "Say whom"),
        ({"until": date(2025, 1, 1)}, "Say whom"),
        ({"patient_id": "*"}, "without"),
        ({"patient_id": "A\\B"}, "without"),
        ({"accession": "9" * 65}, "64"),
        ({"since": date(2025, 2, 1), "until": date(2025, 1, 1)}, "last day"),
        ({"patient_id": "1", "modality": "CT"}, "CR, DX, DR"),
    ],
)
def test_what_cannot_be_sought_is_a_sentence(how, told):
    with pytest.raises(ArgumentError, match=told):
        Sought(**how)


@needs_orthanc
def test_the_command_fetches_to_the_inbox_once(by_web, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXR_INBOX", str(tmp_path))
    put(by_web, phantom(1), phantom(2))

    assert main(["fetch", "--patient", PATIENT, "--list"]) == 0
    assert "2025-11-20  CR  MRN47110815  ACC90125  Chest" in capsys.readouterr().out
    assert main(["fetch", "--patient", PATIENT, "--day", "2025-11-20"]) == 0
    assert "2 films of 1 studies came, 2 of them new" in capsys.readouterr().out
    assert main(["fetch", "--accession", "ACC90125"]) == 0
    assert "0 of them new" in capsys.readouterr().out
    assert {read_radiograph(one.read_bytes()).digest for one in tmp_path.iterdir()} == {
        read_radiograph(phantom(k)).digest for k in (1, 2)
    }
    assert main(["fetch", "--patient", "NOBODY"]) == 0
    assert "no such study" in capsys.readouterr().out
    assert main(["fetch", "--patient", "X", "--day", "yesterday"]) == 2


# --- when it does not answer as it should ---


@contextmanager
def served(answer: Callable[[http.server.BaseHTTPRequestHandler], None], tls: Any = None):
    """Run a web server of one answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer(self)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Stay silent: clients hang up here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/dicom-web"
        finally:
            server.shutdown()
            thread.join(20)


def says(status: int, body: bytes = b"", **headers: str) -> Callable[..., None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def ask(url: str, **more: str) -> None:
    with Archive(WebArchive(url, **more)) as archive:
        archive.studies(Sought(patient_id=PATIENT))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (says(401), "another sign-in"),
        (says(403), "does not allow"),
        (says(404), "does not know"),
        (says(400), "does not understand"),
        (says(503), "in trouble"),
        (says(302, Location="http://127.0.0.1:1/"), "from another address"),
        (says(200, b"<html>", Content_Type="text/html"), "not as DICOMweb does"),
        (says(200, b"[1]", Content_Type="application/dicom+json"), "not as DICOMweb does"),
        (says(200, b" " * (9 * 2**20)), "more than is taken"),
    ],
)
def test_what_an_archive_answers_amiss_is_a_sentence(answer, told):
    with served(answer) as url, pytest.raises(ArchiveError, match=told) as caught:
        ask(url, user="reader", password="secret-word")
    assert not [word for word in (PATIENT, "secret-word", url) if word in str(caught.value)]
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_an_archive_that_says_nothing_is_none():
    with served(says(204)) as url, Archive(WebArchive(url)) as archive:
        assert archive.studies(Sought(patient_id=PATIENT)) == []


def test_an_archive_that_is_not_there_is_a_sentence():
    with pytest.raises(ArchiveError, match="cannot be reached"):
        ask(f"http://127.0.0.1:{free_port()}/dicom-web")
    with pytest.raises(ArchiveError, match="cannot be reached"):
        ask("https://archive.invalid/dicom-web")


def test_an_archive_that_falls_silent_is_a_sentence(monkeypatch):
    monkeypatch.setattr(web, "SILENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        with pytest.raises(ArchiveError, match="too long"):
            ask(f"http://127.0.0.1:{deaf.getsockname()[1]}/dicom-web")


def test_an_archive_that_trickles_is_a_sentence(monkeypatch):
    monkeypatch.setattr(web, "WHOLE", -1.0)
    with served(says(200, b"[]")) as url, pytest.raises(ArchiveError, match="too long"):
        ask(url)


def test_a_certificate_that_nobody_signed_is_a_sentence(tmp_path: Path):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert,
         "-days", "2", "-subj", "/CN=archive", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    with served(says(204), tls) as url:
        with pytest.raises(ArchiveError, match="certificate is not trusted"):
            ask(url)
        ask(url, authority=str(cert))


def test_what_an_archive_names_a_film_by_never_becomes_an_address():
    study = Study("1.2/../../secrets")
    with Archive(WebArchive("http://127.0.0.1:1/x")) as archive:
        with pytest.raises(ArchiveError, match="no DICOM UID"):
            list(archive.films(study))


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"URL": "ftp://archive"}, "no address of a DICOMweb service"),
        ({"URL": "https://"}, "no address of a DICOMweb service"),
        ({"URL": "https://archive:99999"}, "no address of a DICOMweb service"),
        ({"URL": "https://me:secret-word@archive/x"}, "holds a user or a password"),
        ({"URL": "http://archive.example/x"}, "unencrypted"),
        ({"URL": "https://archive/x", "USER": "me", "TOKEN": "secret-word"}, "not both"),
        ({"URL": "https://archive/x", "CA": "/none.pem"}, "no file"),
    ],
)
def test_settings_of_the_archive_that_cannot_be_are_a_sentence(settings, told, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setenv(f"CXR_ARCHIVE_{name}", value)
    with pytest.raises(ArgumentError, match=told) as caught:
        web_archive()
    assert "secret-word" not in str(caught.value)


def test_no_print_shows_how_to_sign_in():
    told = repr(WebArchive("https://archive/x", "someone", "secret-word"))
    assert not [word for word in ("archive/x", "someone", "secret-word") if word in told]


def test_where_answers_go_is_told_by_a_setting(monkeypatch):
    monkeypatch.delenv("CXR_SEND_TO", raising=False)
    assert destination() is None and web_archive() is None
    monkeypatch.setenv("CXR_SEND_TO", "PACS@10.20.30.40:104")
    assert destination() == Elsewhere("PACS", "10.20.30.40", 104, "CXR")
    monkeypatch.setenv("CXR_DICOM_AET", "SECOND")
    monkeypatch.setenv("CXR_SEND_TO", "PACS@[::1]:11112")
    assert destination() == Elsewhere("PACS", "::1", 11112, "SECOND")
    for wrong in ("web", "PACS", "PACS@host", "PACS@host:0", "A TITLE@host:1", "@host:1"):
        monkeypatch.setenv("CXR_SEND_TO", wrong)
        with pytest.raises(ArgumentError):
            destination()


# --- sending ---


def elsewhere(orthanc: Orthanc, **more: Any) -> Elsewhere:
    return replace(Elsewhere(orthanc.title, "127.0.0.1", orthanc.dicom), **more)


@needs_orthanc
@needs_validator
@pytest.mark.parametrize("way", ["dicom", "web"])
def test_an_answer_is_filed_under_the_films_own_patient_and_study(by_web, way, tmp_path):
    put(by_web, phantom(1))
    whose = read_study_reference(phantom(1))
    to = web_archive() if way == "web" else elsewhere(by_web)
    said = record(*ANSWER, film=read_radiograph(phantom(1)), shown=shown())

    sent = send(said, whose, to, reader="ada@hospital.example")

    assert sent.done, sent.sentence
    assert "filed under the film's own study" in sent.sentence
    assert (sent.event.what, sent.event.reader) == ("sent", "ada@hospital.example")
    assert sent.event.digest == said.film.digest
    kinds = filed(by_web)
    assert set(kinds) == {COMPUTED_RADIOGRAPHY, STRUCTURED, CAPTURE}
    assert {(one.PatientID, one.StudyInstanceUID) for one in kinds.values()} == {(PATIENT, STUDY)}
    assert len(by_web.ask("/patients")) == len(by_web.ask("/studies")) == 1
    for kind in (STRUCTURED, CAPTURE):
        path = tmp_path / kind
        kinds[kind].save_as(path)
        told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, timeout=60)
        assert "Error" not in told.stdout + told.stderr

    again = send(said, whose, to)
    assert again.done and len(by_web.ask("/instances")) == 3, "the same answer is there once"


@needs_orthanc
def test_a_picture_is_sent_only_when_somebody_says_so(orthanc: Orthanc):
    said = record(*ANSWER)
    with pytest.raises(ArgumentError, match="belongs to no study: nothing was sent"):
        send(said, None, elsewhere(orthanc))
    assert orthanc.ask("/instances") == []

    sent = send(said, None, elsewhere(orthanc), synthetic=True)

    assert sent.done and "a synthetic study" in sent.sentence
    assert "synthetic" in sent.event.note
    assert {str(one.PatientName) for one in filed(orthanc).values()} == {"NONE^SYNTHETIC"}


def test_what_cannot_be_filed_is_not_sent():
    nowhere = Elsewhere("X", "127.0.0.1", 1)
    with pytest.raises(ArgumentError, match="refused"):
        send(refused(), WHO, nowhere)
    with pytest.raises(ArgumentError, match="StudyInstanceUID"):
        send(record(*ANSWER), replace(WHO, study_uid=""), nowhere)


@needs_orthanc
def test_a_map_that_was_withheld_does_not_leave(orthanc: Orthanc):
    said = record(*ANSWER, not_shown="Map withheld: another method contradicts it.")

    assert send(said, WHO, elsewhere(orthanc)).done

    pixels = filed(orthanc)[CAPTURE].pixel_array[:640]
    assert (pixels[..., 0] == pixels[..., 2]).all(), "grey: the film alone"


@needs_orthanc
def test_an_archive_that_does_not_know_us_is_a_sentence(tmp_path: Path):
    with running_orthanc(tmp_path, DicomAlwaysAllowStore=False) as found:
        sent = send(record(*ANSWER), WHO, elsewhere(found))
        assert (sent.done, sent.event.what) == (False, "not sent")
        assert "turned this machine away" in sent.sentence or "took 0 of 2" in sent.sentence
        other = send(record(*ANSWER), WHO, elsewhere(found, title="OTHER"))
        assert "turned this machine away" in other.sentence
        assert not [secret for secret in SECRETS if secret in sent.sentence + sent.event.note]


def test_an_archive_that_is_gone_is_a_sentence():
    for host in ("127.0.0.1", "archive.invalid"):
        sent = send(record(*ANSWER), WHO, Elsewhere("PACS", host, free_port()))
        assert (sent.done, sent.event.what) == (False, "not sent")
        assert sent.sentence.startswith("PACS cannot be reached")


def test_an_archive_that_takes_films_alone_is_a_sentence(tmp_path: Path):
    """Our own listener knows no structured reports."""
    with listening(tmp_path) as found:
        sent = send(record(*ANSWER), WHO, Elsewhere("CXR", "127.0.0.1", found.port))
        assert (sent.done, found.films()) == (False, [])
        assert "took 0 of 2 files" in sent.sentence
        assert "does not take this kind" in sent.sentence


def test_a_store_over_the_web_that_is_taken_in_part_is_a_sentence():
    body = {
        "00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]},
        "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]},
    }
    part = says(202, json.dumps(body).encode(), Content_Type="application/dicom+json")
    with served(part) as url:
        sent = send(record(*ANSWER), WHO, WebArchive(url))
    assert (sent.done, sent.sentence) == (
        False,
        "The archive took 1 of 2 files and gave the reason A700: ask those who run it.",
    )
    with served(says(200)) as url:
        assert not send(record(*ANSWER), WHO, WebArchive(url)).done, "it must say that it did"


# --- the whole story ---


@needs_orthanc
@pytest.mark.slow
def test_the_command_reads_a_film_and_sends_the_answer(
    by_web: Orthanc, tiny_models, tmp_path, monkeypatch, capsys
):
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    monkeypatch.setenv("CXR_MODELS", str(tiny_models))
    monkeypatch.setenv("CXR_RECORDS", url)
    path = tmp_path / "film.dcm"
    path.write_bytes(phantom(1))

    assert main(["report", "--model", "tiny", str(path), "--send"]) == 0

    told = capsys.readouterr()
    assert "Sent to the archive" in told.out
    assert set(filed(by_web)) == {STRUCTURED, CAPTURE}
    (event,) = Records(url).events()
    assert (event.what, event.model) == ("sent", "tiny")
    assert not [secret for secret in SECRETS if secret in told.out + told.err + event.note]

    from cxr_core.phantom import png_bytes, sample_film

    picture = tmp_path / "film.png"
    picture.write_bytes(png_bytes(sample_film()))
    assert main(["report", "--model", "tiny", str(picture), "--send"]) == 2
    assert "belongs to no study" in capsys.readouterr().err
    assert main(["report", "--model", "tiny", str(picture), "--send", "--synthetic-study"]) == 0
    assert main(["report", "--model", "tiny", str(picture)]) == 2
    monkeypatch.setenv("CXR_SEND_TO", f"GONE@127.0.0.1:{free_port()}")
    assert main(["report", "--model", "tiny", str(path), "--send"]) == 1
    assert [one.what for one in Records(url).events()] == ["sent", "sent", "not sent"]
    monkeypatch.delenv("CXR_SEND_TO")
    assert main(["report", "--model", "tiny", str(path), "--send"]) == 2
    assert "CXR_SEND_TO" in capsys.readouterr().err


@needs_orthanc
def test_what_is_asked_and_sent_names_nobody_in_the_log(by_web: Orthanc, tmp_path: Path):
    put(by_web, phantom(1))
    code = LOUD + "\n"
    import os
    import sys

    environment = os.environ | {"CXR_INBOX": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, "fetch", "--patient", PATIENT],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "every level is heard" in done.stderr
    assert len(list(tmp_path.iterdir())) == 1
    for word in (*SECRETS, PASSWORD, by_web.web, STUDY):
        assert word not in done.stderr + done.stdout
    check_silent(done.stderr)


# --- the Orthanc of compose.yaml ---


@needs_orthanc
@needs_dcmtk
def test_the_deployed_orthanc_passes_films_on_and_files_answers(tmp_path: Path):
    """With the settings of deploy/orthanc, but for its folders and ports."""
    told = json.loads((ROOT / "deploy" / "orthanc" / "orthanc.json").read_text())
    inbox, script = tmp_path / "inbox", tmp_path / "inbox.lua"
    inbox.mkdir()
    code = (ROOT / "deploy" / "orthanc" / "inbox.lua").read_text()
    script.write_text(code.replace("/srv/inbox/", f"{inbox}/"))
    room = {"room1": {"AET": "ROOM1", "Host": "127.0.0.1", "Port": 104, "AllowStore": True}}
    more = {name: told[name] for name in told if name.startswith("Dicom") and name != "DicomPort"}
    more |= {"LuaScripts": [str(script)], "DicomModalities": told["DicomModalities"] | room}
    film = tmp_path / "film.dcm"
    film.write_bytes(phantom(1))
    with running_orthanc(tmp_path, **more) as found:
        title = told["DicomAet"]

        def sent_by(unit: str) -> int:
            done = scu("storescu", found.dicom, str(film), "-aet", unit, called=title)
            return int(done.returncode)

        assert sent_by("ROOM9") != 0
        assert sent_by("ROOM1") == 0
        (came,) = eventually(lambda: list(inbox.glob("*.dcm")), "the film is passed on")
        assert (
            read_radiograph(came.read_bytes()).pixels == read_radiograph(phantom(1)).pixels
        ).all()

        app = told["DicomModalities"]["app"]["AET"]
        to = Elsewhere(title, "127.0.0.1", found.dicom, app)
        sent = send(record(*ANSWER), read_study_reference(phantom(1)), to)

        assert sent.done, sent.sentence
        assert len(found.ask("/studies")) == 1 and len(found.ask("/instances")) == 3
        assert len(list(inbox.iterdir())) == 1, "an answer is no film"
