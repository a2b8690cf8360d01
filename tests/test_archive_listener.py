"""The DICOM listener, called by Debian's dcmtk, by ourselves, and by strangers."""

import os
import signal
import socket
import struct
import subprocess
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from peers import (
    COMPUTED_RADIOGRAPHY,
    a_socket_is_left,
    dicom_film,
    eventually,
    listening,
    needs_dcmtk,
    scu,
)
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from readings import record
from test_logs import LOUD, SECRETS, check_silent, film

from cxr_core.__main__ import main
from cxr_core.archive import inbox as inboxes
from cxr_core.archive import listener as listener_room
from cxr_core.archive.inbox import NoRoom, keep
from cxr_core.archive.kinds import FILMS
from cxr_core.archive.settings import Door, Peer, peers_told
from cxr_core.errors import ArgumentError
from cxr_core.export import secondary_capture
from cxr_core.images import TRANSFER_SYNTAXES, read_radiograph
from cxr_core.phantom import thorax

pytestmark = a_socket_is_left
VERIFICATION = "1.2.840.10008.1.1"


def phantom(seed: int = 1, **more: object) -> bytes:
    return dicom_film(thorax(256, 224, seed=seed), number=seed, **more)


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    """One listener for all that does not end it."""
    with listening(tmp_path_factory.mktemp("listener")) as found:
        yield found


@pytest.fixture
def one(tmp_path: Path) -> Path:
    path = tmp_path / "film.dcm"
    path.write_bytes(phantom())
    return path


def store(port: int, data: bytes, *, calling: str = "ROOM1", called: str = "CXR"):
    """Send a file with pynetdicom; return the status of the answer, None when turned away."""
    entity = AE(calling)
    dataset = dcmread(BytesIO(data))
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return None
    answer = association.send_c_store(dataset)
    association.release()
    return answer


# --- what is accepted ---


@needs_dcmtk
def test_it_answers_an_echo_and_takes_a_film_byte_by_byte(listener, one):
    assert scu("echoscu", listener.port).returncode == 0
    before = set(listener.films())

    sent = scu("storescu", listener.port, str(one))

    assert sent.returncode == 0, sent.stdout + sent.stderr
    (path,) = set(listener.films()) - before
    kept, given = dcmread(path), dcmread(one)
    assert {e.tag: e.value for e in kept} == {e.tag: e.value for e in given}
    assert path.stem == read_radiograph(path.read_bytes()).digest
    assert not [secret for secret in SECRETS if secret in path.name]
    text = subprocess.run(["dcmdump", path], capture_output=True, text=True, check=True).stdout
    assert "ComputedRadiographyImageStorage" in text


@needs_dcmtk
def test_a_film_that_is_sent_again_is_there_once(listener, one):
    scu("storescu", listener.port, str(one))
    before = {path: path.stat().st_mtime_ns for path in listener.films()}

    again = scu("storescu", listener.port, str(one))

    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in listener.films()} == before


def test_every_kind_and_compression_that_is_read_may_come_and_no_other(listener):
    def answered(kind: str, syntax: str) -> bool:
        entity = AE("ROOM1")
        entity.add_requested_context(VERIFICATION)
        entity.add_requested_context(kind, syntax)
        association = entity.associate("127.0.0.1", listener.port, ae_title="CXR")
        assert association.is_established
        found = [cx.abstract_syntax for cx in association.accepted_contexts]
        association.release()
        return kind in found

    assert all(answered(COMPUTED_RADIOGRAPHY, one) for one in TRANSFER_SYNTAXES)
    assert all(answered(kind, TRANSFER_SYNTAXES[1]) for kind in FILMS)
    assert not answered(COMPUTED_RADIOGRAPHY, "1.2.840.10008.1.2.4.100")  # MPEG2
    assert not answered("1.2.840.10008.5.1.4.1.1.2", TRANSFER_SYNTAXES[1])  # CT
    assert not answered("1.2.840.10008.5.1.4.1.1.88.33", TRANSFER_SYNTAXES[1])  # SR


def test_a_compressed_film_is_kept_as_it_came(listener):
    dataset = dcmread(BytesIO(phantom(seed=3)))
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    stream = BytesIO()
    dataset.save_as(stream)
    before = set(listener.films())

    assert store(listener.port, stream.getvalue()).Status == 0

    (path,) = set(listener.films()) - before
    assert dcmread(path).file_meta.TransferSyntaxUID == JPEG2000Lossless
    np.testing.assert_array_equal(
        read_radiograph(path.read_bytes()).pixels, read_radiograph(phantom(seed=3)).pixels
    )


# --- what is refused, and how ---


def test_what_cannot_be_read_as_a_film_is_not_taken(listener):
    before = set(listener.films())
    for more, said in (
        ({"PhotometricInterpretation": "LOVELACE^AUG"}, "unsupported"),
        ({"Rows": 900}, "unreadable"),
        ({"NumberOfFrames": 4}, "too-large"),
    ):
        answer = store(listener.port, phantom(**more))
        assert (answer.Status, said in answer.ErrorComment) == (0xC000, True), answer
        assert "LOVELACE" not in answer.ErrorComment
    assert set(listener.films()) == before


def test_a_film_that_is_not_what_its_command_says_is_not_taken(listener):
    data = dcmread(BytesIO(phantom()))
    association = called(listener.port, data)
    asked = request(data)
    asked.AffectedSOPInstanceUID = "1.2.3"
    association._reactor_checkpoint.clear()  # or it would take the answer
    eventually(lambda: association._is_paused, "its own reactor pauses")
    association.dimse.send_msg(asked, association.accepted_contexts[0].context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()

    assert answer.Status == 0xA900


def called(port: int, data: Dataset) -> Association:
    """Call the listener, to send a film."""
    entity = AE("ROOM1")
    entity.add_requested_context(data.SOPClassUID, data.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="CXR")
    assert association.is_established
    return association


def request(data: Dataset) -> C_STORE:
    """Ask that a film be stored."""
    asked = C_STORE()
    asked.MessageID, asked.Priority = 7, 2
    asked.AffectedSOPClassUID, asked.AffectedSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    asked.DataSet = BytesIO(encode(data, False, True))
    return asked


def test_our_own_picture_does_not_come_back_as_a_film(listener):
    answer = store(listener.port, secondary_capture(record()))

    assert (answer.Status, answer.ErrorComment) == (0xC000, "Made here, and no film")


def test_a_wrong_title_is_turned_away(listener):
    assert store(listener.port, phantom(), called="SOMEBODY") is None
    assert store(listener.port, phantom(), called="CXR").Status == 0


def test_only_peers_of_the_list_may_send(tmp_path: Path):
    peers = ("--peer", "ROOM1@127.0.0.1", "--peer", "ROOM2@10.20.30.0/24")
    with listening(tmp_path, *peers) as found:
        assert store(found.port, phantom(), calling="ROOM1").Status == 0
        assert store(found.port, phantom(), calling="ROOM2") is None, "it calls from elsewhere"
        assert store(found.port, phantom(), calling="ROOM3") is None
        assert len(found.films()) == 1
        assert "from ROOM1 at 127.0.0.1" in found.said()
        assert "ROOM3" not in found.said(), "a stranger's words are not written down"


def test_a_stranger_is_hung_up_on_before_a_word(tmp_path: Path):
    with listening(tmp_path, CXR_DICOM_PEERS="ROOM1@10.20.30.60") as found:
        with socket.create_connection(("127.0.0.1", found.port), timeout=20) as caller:
            assert caller.recv(10) == b""
        assert "is no peer" in found.said()


def test_a_full_inbox_turns_films_away_and_takes_them_again(tmp_path: Path):
    room = (len(phantom()) + 3000) / 2**30
    with listening(tmp_path, "--room", f"{room:.9f}") as found:
        assert store(found.port, phantom(seed=1)).Status == 0
        answer = store(found.port, phantom(seed=2))
        assert (answer.Status, "full" in answer.ErrorComment) == (0xA700, True)
        found.films()[0].unlink()
        assert store(found.port, phantom(seed=2)).Status == 0
        assert len(found.films()) == 1


def test_a_disk_that_fills_up_turns_films_away(tmp_path: Path):
    with listening(tmp_path, "--spare", "1000000") as found:
        assert store(found.port, phantom()).Status == 0xA700
        assert list(found.inbox.iterdir()) == []


# --- writing ---


def test_a_film_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inboxes.os, "link", fail)
    with pytest.raises(NoRoom, match="No space left"):
        keep(tmp_path, b"film", room=100, spare=0)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_ever_overwritten(tmp_path: Path):
    digest, new = keep(tmp_path, b"film", room=100, spare=0)
    path = tmp_path / f"{digest}.dcm"
    path.write_bytes(b"something else")

    assert new and keep(tmp_path, b"film", room=100, spare=0) == (digest, False)
    assert path.read_bytes() == b"something else"


def test_parts_that_a_killed_listener_left_are_swept_away(tmp_path: Path):
    old, young, other = tmp_path / ".a.part", tmp_path / ".b.part", tmp_path / ".c"
    for path in (old, young, other):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))

    inboxes.sweep(tmp_path)

    assert sorted(tmp_path.iterdir()) == [young, other]


# --- what happens to it ---


def half_a_film(port: int) -> Association:
    """Begin to send a film, and fall silent in the middle of it."""
    data = dcmread(BytesIO(phantom()))
    association = called(port, data)
    message = C_STORE_RQ()
    message.primitive_to_message(request(data))
    pieces = list(message.encode_msg(association.accepted_contexts[0].context_id, 16000))
    for piece in pieces[:3]:
        association.dul.send_pdu(piece)
    eventually(lambda: association.dul.to_provider_queue.empty(), "half of it is sent")
    association.dul.socket.socket.send(struct.pack(">BBL", 4, 0, 16000) + bytes(500))
    return association


def test_a_listener_that_is_killed_in_the_middle_leaves_no_film(tmp_path: Path):
    with listening(tmp_path) as found:
        association = half_a_film(found.port)
        found.stop(signal.SIGKILL)
        assert list(found.inbox.iterdir()) == []
        association.abort()
    with listening(tmp_path) as found:
        assert store(found.port, phantom()).Status == 0
        assert len(found.films()) == 1


def test_a_caller_who_leaves_in_the_middle_leaves_no_film(listener):
    before = set(listener.inbox.iterdir())

    half_a_film(listener.port).abort()

    assert store(listener.port, phantom(seed=9)).Status == 0
    assert len(set(listener.inbox.iterdir()) - before) == 1


def test_what_was_begun_is_finished_when_it_is_told_to_stop(tmp_path: Path):
    """The signal comes while a film is being looked at: its sender still hears "success"."""
    code = LOUD.replace(
        "import logging, runpy, sys",
        "import logging, runpy, sys, time, cxr_core.archive.listener as l\n"
        "real = l.read_radiograph\n"
        "def slow(data):\n"
        "    print('looking', flush=True)\n"
        "    time.sleep(1.5)\n"
        "    return real(data)\n"
        "l.read_radiograph = slow",
    )
    with listening(tmp_path, code=code) as found:
        answers: list[object] = []
        sender = threading.Thread(
            target=lambda: answers.append(store(found.port, phantom()).Status)
        )
        sender.start()
        eventually(lambda: "looking" in found.said(), "a film is looked at")
        assert found.stop() == 0
        sender.join(60)
        assert answers == [0]
        assert len(found.films()) == 1
        assert "stopped" in found.said()


def test_a_silent_caller_does_not_keep_it_from_stopping(tmp_path: Path):
    with listening(tmp_path) as found:
        entity = AE("ROOM1")
        entity.add_requested_context(VERIFICATION)
        association = entity.associate("127.0.0.1", found.port, ae_title="CXR")
        assert association.is_established
        assert found.stop() == 0
        eventually(lambda: not association.is_established, "it was told")


@needs_dcmtk
def test_two_senders_at_once(listener, tmp_path: Path):
    before = set(listener.films())
    folders = []
    for sender in range(2):
        folder = tmp_path / str(sender)
        folder.mkdir()
        for k in range(6):
            (folder / f"{k}.dcm").write_bytes(phantom(seed=100 + 10 * sender + k))
        folders.append(folder)
    command = ["storescu", "-aec", "CXR", "+sd", "127.0.0.1", str(listener.port)]

    senders = [subprocess.Popen([*command, str(folder)]) for folder in folders]

    assert [one.wait(120) for one in senders] == [0, 0]
    assert len(set(listener.films()) - before) == 12


GARBAGE = {
    "nothing": b"",
    "noise": np.random.default_rng(1).bytes(5000),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a length without end": struct.pack(">BBL", 4, 0, 2**32 - 1) + bytes(100_000),
    "data before a request": struct.pack(">BBL", 4, 0, 12) + bytes(12),
    "an empty request": struct.pack(">BBL", 1, 0, 0),
    "a request of noise": struct.pack(">BBL", 1, 0, 400) + np.random.default_rng(2).bytes(400),
    "a release": struct.pack(">BBL", 5, 0, 4) + bytes(4),
}


def test_garbage_does_not_stop_it(listener, one):
    random = np.random.default_rng(7)
    pieces = list(GARBAGE.values())
    request = association_request(listener.port)
    for _ in range(60):  # a right request, with bytes turned
        turned = bytearray(request)
        for at in random.integers(0, len(turned), 4):
            turned[at] = random.integers(256)
        pieces.append(bytes(turned))
    for piece in pieces:
        with socket.create_connection(("127.0.0.1", listener.port), timeout=20) as caller:
            try:
                caller.sendall(piece)
            except OSError:
                continue  # it hung up before we were through
    answer = eventually(lambda: store(listener.port, phantom(seed=20)), "it answers again")
    assert answer.Status == 0
    assert listener.process.poll() is None
    assert "Traceback" not in listener.said()


def association_request(port: int) -> bytes:
    """Record what a right caller says first."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as ear:

        def hear() -> None:
            wire, _ = ear.accept()
            with wire:
                heard.append(wire.recv(65536))

        thread = threading.Thread(target=hear)
        thread.start()
        entity = AE("ROOM1")
        entity.add_requested_context(COMPUTED_RADIOGRAPHY, TRANSFER_SYNTAXES[1])
        entity.associate("127.0.0.1", ear.getsockname()[1], ae_title="CXR")
        thread.join(30)
    assert heard[0][0] == 1
    return heard[0]


# --- its log ---


@needs_dcmtk
def test_its_log_names_nobody_at_any_level(tmp_path: Path):
    whole, damaged = tmp_path / "whole.dcm", tmp_path / "damaged.dcm"
    whole.write_bytes(film())
    damaged.write_bytes(film().replace(b"MONOCHROME2 ", b"LOVELACE^AUG"))
    with listening(tmp_path, code=LOUD) as found:
        assert scu("storescu", found.port, str(whole)).returncode == 0
        scu("storescu", found.port, str(damaged))
        scu("storescu", found.port, str(whole), called="Lovelace^Augusta")
        half_a_film(found.port).abort()
        assert found.stop() == 0
        assert "every level is heard" in found.said()
        assert "kept film" in found.said() and "refused a film" in found.said()
        check_silent(found.said())


# --- its settings ---


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "Without a list of peers"),
        (["--host", "0.0.0.0", "--peer", "ROOM1"], "An AE title is no secret"),
        (["--peer", "ROOM1@nowhere"], "names no peer"),
        (["--peer", "RO OM1@10.0.0.1"], "An AE title has"),
        (["--aet", "MUCH-TOO-LONG-A-TITLE"], "An AE title has"),
        (["--port", "99999"], "between 0 and 65535"),
        (["--port", "x"], "whole number"),
        (["--patience", "0"], "patience"),
        (["--room", "0"], "room"),
    ],
)
def test_settings_that_cannot_be_are_a_sentence(options, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXR_INBOX", str(tmp_path))
    monkeypatch.setattr(listener_room, "listen", lambda *_: pytest.fail("it listens"))

    assert main(["listen", *options]) == 2
    assert told in capsys.readouterr().err


def test_without_an_inbox_it_does_not_listen(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("CXR_INBOX", raising=False)
    assert main(["listen"]) == 2
    monkeypatch.setenv("CXR_INBOX", str(tmp_path / "none"))
    assert main(["listen"]) == 2
    assert capsys.readouterr().err.count("CXR_INBOX") == 2


def test_a_port_that_is_taken_is_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("CXR_INBOX", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(ArgumentError, match="Nobody can listen"):
            listener_room.Listener(Door(port=int(port)), tmp_path)


def test_peers_are_known_by_title_and_address():
    door = Door(host="0.0.0.0", peers=peers_told("ROOM1@10.20.30.60, ROOM2@10.9.0.0/16"))

    assert door.admits("ROOM1", "10.20.30.60") and door.admits("ROOM2", "10.9.8.7")
    assert door.admits("ROOM1", "::ffff:10.20.30.60")
    assert not door.admits("ROOM2", "10.20.30.60")
    assert not door.admits("ROOM1", "10.20.30.61")
    assert not door.admits("room1", "10.20.30.60")
    assert door.knows("10.9.8.7") and not door.knows("192.168.0.1")
    assert Door().admits("ANY", "127.0.0.1") and Peer.told("ROOM1").is_at("::1")


@needs_dcmtk
def test_real_films_come_through_or_are_refused_as_they_are_read(data: Path, listener):
    """As storescu proposes them: compressed ones need their own syntax (-xv, -xs, ...)."""
    came = {}
    for path in sorted((data / "dicom").glob("*.dcm")):
        header = dcmread(path, stop_before_pixels=True, force=True)
        syntax = str(header.file_meta.get("TransferSyntaxUID", "")) if header.file_meta else ""
        flags = {JPEG2000Lossless: "-xv", JPEG2000: "-xw", JPEGBaseline8Bit: "-xy"}
        flags |= {JPEGExtended12Bit: "-xx"}
        if syntax:
            before = set(listener.films())
            options = filter(None, [flags.get(syntax)])
            done = scu("storescu", listener.port, "-R", *options, str(path))
            came[path.name] = (done.returncode, len(set(listener.films()) - before))

    assert came["rsna_pa_mono1_jpeg.dcm"] == (0, 1)
    assert came["cr_chest_mono1_10bit.dcm"] == (0, 1)
    assert came["cr_tibia_jpeg_extended_12bit.dcm"][1] == 0, "12-bit JPEG is not read"
