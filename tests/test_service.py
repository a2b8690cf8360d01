"""The HTTP API in one process: what is asked, answered, turned away, counted and kept silent."""

import asyncio
import io
import json
import logging
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
import schemathesis
import uvicorn
from bundles import CARD
from fastapi.testclient import TestClient
from httpx2 import Request as Sent
from hypothesis import HealthCheck, given, settings
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.requests import Request

from cxr_core.__main__ import main
from cxr_core.addresses import is_loopback
from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.errors import ArgumentError, ModelError
from cxr_core.images import read_radiograph
from cxr_core.phantom import png_bytes, sample_film, thorax
from cxr_core.preprocess import Preprocessing, prepare
from cxr_core.service import Desk, Settings, create_app
from cxr_core.service.batcher import Batcher
from cxr_core.service.limits import MOST_BYTES, Places, Rates, Refused
from cxr_core.service.schemas import ANSWERED, FAILED, REFUSED, UNREAD, Answered, Model, Unread
from cxr_core.service.server import _config, _listening
from cxr_core.service.settings import MOST_FILMS
from cxr_core.service.uploads import read_films

TOKEN = "a-token-of-tests"


class Scripted:
    """A classifier whose answer is the mean of the film, given when it is let go.

    Attributes:
        batches: How many films came at once, batch by batch.
        entered: Set once a batch came.
        go: Batches wait for it.
    """

    def __init__(self, card):
        self.card, self.batches = card, []
        self.entered, self.go = threading.Event(), threading.Event()
        self.go.set()

    def hold(self):
        self.entered.clear()
        self.go.clear()
        self.batches.clear()

    def predict_batch(self, inputs):
        self.batches.append(len(inputs))
        self.entered.set()
        assert self.go.wait(60)
        return [self.predict(one) for one in inputs]

    def predict(self, one):
        mean = float(one.pixels.mean())
        label = LabelPrediction(self.card.labels[0], mean, mean, 0.4, mean >= 0.4, False)
        return Prediction(self.card.name, (label,), np.zeros((1, 1, 1), np.float32))


@pytest.fixture
def plain_card(made_card):
    """A card without a gate, whose network reads the film's own greys."""
    greys = Preprocessing(size=64, standardise=False)
    return replace(made_card, name="plain", preprocessing=greys, training={"gate": False})


@pytest.fixture
def scripted(plain_card):
    return Scripted(plain_card)


@contextmanager
def served(load, models=("plain",), **more):
    """Open a desk, wait until its models are loaded, and give its client."""
    desk = Desk(Settings(models=models, **more), load=load, doubts=lambda card: ())
    with TestClient(create_app(desk), raise_server_exceptions=False) as client:
        client.desk = desk
        wait_for(lambda: desk.ready or desk.failure)
        yield client


@pytest.fixture
def client(scripted):
    with served(lambda name: scripted, rate=10**6) as client:
        yield client


def wait_for(happened):
    """Look again and again; fail when it never happens."""
    for _ in range(6000):
        if happened():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen within a minute")


def film(seed=1, side=96):
    """A film as PNG; each seed has another mean."""
    return png_bytes(thorax(side, side - 4, seed=seed))


def grey(value):
    """A film of two greys, `value` and the one above, as PNG."""
    pixels = np.full((40, 40), value, np.uint8)
    pixels[20:] += 8
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def form(*films, field="film"):
    return [(field, (name, data, "image/png")) for name, data in films]


# --- what is answered ---


@pytest.fixture(scope="module")
def tiny(tiny_classifier):
    with served(lambda name: tiny_classifier, ("tiny",)) as client:
        yield client


@pytest.fixture
def command(capsys, tiny_models, monkeypatch):
    """Run the command line on the same model; return its objects."""
    monkeypatch.setenv("CXR_MODELS", str(tiny_models))

    def call(*arguments):
        assert main([str(argument) for argument in arguments]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


def unsure(answer):
    """Take the probabilities out, which batching may move by rounding."""
    values = [label.pop("probability") for label in answer.get("predictions", ())]
    return answer, values


@pytest.mark.slow
def test_a_film_is_answered_as_the_command_line_answers_it(tiny, command, tmp_path):
    data = png_bytes(sample_film())
    coloured = Image.open(io.BytesIO(data)).convert("RGB")
    coloured.paste((255, 0, 0), (0, 0, 500, 900))
    (tmp_path / "b").mkdir()
    (tmp_path / "a.png").write_bytes(data)
    coloured.save(tmp_path / "b" / "refused.png")
    (tmp_path / "words.png").write_text("not a film")
    paths = [tmp_path / "a.png", tmp_path / "b" / "refused.png", tmp_path / "words.png"]
    for options, query in (((), ""), (("--no-gate",), "?no_gate=true")):
        for path in paths:
            (wanted,) = command("predict", "--model", "tiny", path, "--json", *options)
            # The command line names a film by its argument, a client by its name.
            wanted["file"] = path.name
            as_form = tiny.post(f"/predict{query}", files=form((path.name, path.read_bytes())))
            named = {"Content-Disposition": f'attachment; filename="{path.name}"'}
            as_body = tiny.post(f"/predict{query}", content=path.read_bytes(), headers=named)
            wanted, values = unsure(wanted)
            for came in (as_form, as_body):
                answer, probabilities = unsure(came.json())
                assert answer == wanted
                assert probabilities == pytest.approx(values, abs=1e-6)
                assert came.status_code == (200 if wanted["ok"] else 422)


@pytest.mark.slow
def test_refused_films_have_their_report_and_no_predictions(tiny):
    colour = Image.open(io.BytesIO(png_bytes(sample_film()))).convert("RGB")
    colour.paste((255, 0, 0), (0, 0, 500, 900))
    stream = io.BytesIO()
    colour.save(stream, "PNG")
    came = tiny.post("/predict", content=stream.getvalue())

    assert came.status_code == 200
    assert came.json()["ok"] is True and came.json()["predictions"] == []
    assert came.json()["gate"]["verdict"] == "refuse"
    regardless = tiny.post("/predict?no_gate=1", content=stream.getvalue())
    assert len(regardless.json()["predictions"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grad-cam", "integrated-gradients"])
def test_an_overlay_is_the_picture_that_explain_writes(tiny, command, tmp_path, method):
    (tmp_path / "a.png").write_bytes(film(3, 200))
    written = tmp_path / "map.png"
    asked = ("--model", "tiny", "--label", "Pneumonia", "--method", method)
    command("explain", *asked, tmp_path / "a.png", "-o", written, "--json")
    query = {"label": "Pneumonia", "method": method}
    came = tiny.post("/explain", params=query, content=(tmp_path / "a.png").read_bytes())

    assert came.headers["content-type"] == "image/png"
    ours, theirs = (Image.open(io.BytesIO(one)) for one in (came.content, written.read_bytes()))
    assert ours.size == (196, 200)
    gap = np.abs(np.asarray(ours, np.int16) - np.asarray(theirs, np.int16))
    assert gap.max() <= 2
    assert len(np.unique(np.asarray(ours).reshape(-1, 3), axis=0)) > 256  # not a bare grey film


def test_an_explanation_that_takes_too_long_is_stopped(scripted, monkeypatch):
    ended = threading.Event()

    def endless(*asked, progress, **more):
        try:
            while True:
                progress(1, 2)
                time.sleep(0.005)
        finally:
            ended.set()

    monkeypatch.setattr("cxr_core.service.desk.explain", endless)
    with served(lambda name: scripted, patience=0.3) as client:
        came = client.post("/explain", params={"label": "Pneumonia"}, content=film())
        assert ended.wait(60)
        wait_for(lambda: client.desk.places.taken_films == 0)

    assert (came.status_code, came.json()["code"]) == (504, "timeout")


def test_an_unknown_label_or_method_is_told_before_the_wait(client):
    for query, told in (
        ({"label": "Pneumoni"}, "Did you mean 'Pneumonia'?"),
        ({"label": "Pneumonia", "method": "gradcam"}, "Did you mean 'grad-cam'?"),
    ):
        came = client.post("/explain", params=query, content=b"no film")
        assert (came.status_code, came.json()["code"]) == (404, "unknown-name")
        assert told in came.json()["error"]
    came = client.post("/explain", params={"label": "Pneumonia"}, content=b"no film")
    assert (came.status_code, came.json()["code"]) == (422, "unreadable")


def test_a_batch_is_answered_in_order_and_a_bad_film_stops_nothing(client):
    films = [("a.png", grey(40)), ("b.png", b"words"), ("c.png", grey(200)), ("a.png", b"")]
    rows = client.post("/predict/batch", files=form(*films)).json()

    assert [row["file"] for row in rows] == ["a.png", "b.png", "c.png", "a.png"]
    assert [row["ok"] for row in rows] == [True, False, True, False]
    assert rows[0]["predictions"][0]["probability"] == pytest.approx(44 / 255, abs=1e-3)
    assert rows[-1]["error"] == "a.png: The file is empty; export or copy it again."


def test_several_models_are_told_apart(plain_card):
    made = {name: Scripted(replace(plain_card, name=name)) for name in ("one", "two")}
    with served(made.__getitem__, ("one", "two")) as client:
        for name in made:
            came = client.post("/predict", params={"model": name}, content=film())
            assert came.json()["model"] == name
        unnamed = client.post("/predict", content=film())
        unknown = client.post("/predict?model=tow", content=film())
        listed = client.get("/models").json()

    assert (unnamed.status_code, unnamed.json()["code"]) == (422, "argument")
    assert "one, two" in unnamed.json()["error"]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-name")
    assert [row["model"] for row in listed] == ["one", "two"]
    assert all(Model.model_validate(row).labels == ["Pneumonia"] for row in listed)


def test_each_answer_belongs_to_its_film(client, scripted):
    """Forty clients at once, each film another grey: whoever batches must not mix them up."""
    greys = list(range(10, 210, 5))
    with ThreadPoolExecutor(len(greys)) as clients:
        rows = list(clients.map(lambda k: ask_grey(client, k), greys))

    for value, row in zip(greys, rows, strict=True):
        mean = prepare(read_radiograph(grey(value)), scripted.card.preprocessing).pixels.mean()
        assert row["file"] == f"{value}.png"
        assert row["predictions"][0]["probability"] == pytest.approx(float(mean), abs=1e-7)


def ask_grey(client, value):
    came = client.post("/predict", files=form((f"{value}.png", grey(value))))
    assert came.status_code == 200
    return came.json()


# --- who is turned away ---


def test_health_is_told_at_once_and_ready_once_the_models_answered(scripted):
    scripted.hold()
    doubts = {"plain": ("Its weights are others.",)}
    desk = Desk(
        Settings(models=("plain",)), load=lambda name: scripted, doubts=lambda c: doubts[c.name]
    )
    with TestClient(create_app(desk)) as client:
        assert scripted.entered.wait(60)
        assert client.get("/health").json() == {"ok": True}
        for early in (client.get("/ready"), client.post("/predict", content=film())):
            assert (early.status_code, early.json()["code"]) == (503, "loading")
            assert int(early.headers["Retry-After"]) >= 1
        scripted.go.set()
        wait_for(lambda: desk.ready)
        notes = {"plain": ["Its weights are others."]}
        assert client.get("/ready").json() == {"ready": True, "models": ["plain"], "notes": notes}
        assert client.get("/models").json()[0]["notes"] == notes["plain"]


def test_a_model_that_cannot_be_loaded_is_told_to_whoever_runs_the_service():
    told = threading.Event()

    def load(name):
        raise ModelError("The model is damaged.")

    desk = Desk(Settings(models=("plain",)), load=load, failed=told.set)
    with TestClient(create_app(desk)) as client:
        assert told.wait(60)
        assert client.get("/ready").status_code == 503
    assert isinstance(desk.failure, ModelError)


@contextmanager
def full(scripted, **more):
    """A service all of whose places are taken by films that wait for their answer."""
    with (
        served(lambda name: scripted, places=MOST_FILMS, **more) as client,
        ThreadPoolExecutor(MOST_FILMS) as clients,
        ExitStack() as last,
    ):
        scripted.hold()
        last.callback(scripted.go.set)
        waiting = [clients.submit(ask_grey, client, 10 * k) for k in range(MOST_FILMS)]
        wait_for(lambda: client.desk.places.taken_films == MOST_FILMS)
        yield client, waiting


def test_what_does_not_fit_is_turned_away_and_what_was_taken_is_answered(scripted):
    with full(scripted) as (client, waiting):
        for path in ("/predict", "/predict/batch", "/explain?label=Pneumonia"):
            came = client.post(path, content=film())
            assert (came.status_code, came.json()["code"]) == (503, "busy")
            assert int(came.headers["Retry-After"]) >= 1
        assert client.get("/health").status_code == 200
        assert gauge(client, "cxr_places_taken") == MOST_FILMS
        scripted.go.set()
        assert [row.result()["file"] for row in waiting] == [
            f"{10 * k}.png" for k in range(MOST_FILMS)
        ]
        assert ask_grey(client, 7)["ok"]
        assert client.desk.places.taken_films == client.desk.places.taken_bytes == 0


def gauge(client, name):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {row.name: row.value for family in families for row in family.samples}[name]


def test_a_batch_takes_a_place_for_each_of_its_films(scripted):
    with served(lambda name: scripted, places=MOST_FILMS) as client:
        scripted.hold()
        with ThreadPoolExecutor(1) as clients:
            waiting = clients.submit(ask_grey, client, 30)
            wait_for(lambda: client.desk.places.taken_films == 1)
            many = form(*[(f"{k}.png", grey(k)) for k in range(MOST_FILMS)])
            came = client.post("/predict/batch", files=many)
            assert (came.status_code, came.json()["code"]) == (503, "busy")
            scripted.go.set()
            waiting.result()
            assert len(client.post("/predict/batch", files=many).json()) == MOST_FILMS
            assert client.desk.places.taken_films == 0


def test_an_answer_that_takes_too_long_keeps_its_place_until_it_ends(scripted):
    with served(lambda name: scripted, patience=0.05) as client:
        scripted.hold()
        came = client.post("/predict", content=film())
        assert (came.status_code, came.json()["code"]) == (504, "timeout")
        assert client.desk.places.taken_films == 1
        scripted.go.set()
        wait_for(lambda: client.desk.places.taken_films == 0)


def test_more_films_than_a_minute_has_are_turned_away(scripted):
    with served(lambda name: scripted, rate=MOST_FILMS) as client:
        many = form(*[(f"{k}.png", grey(k)) for k in range(MOST_FILMS)])
        assert client.post("/predict/batch", files=many).status_code == 200
        came = client.post("/predict", content=film())
        assert (came.status_code, came.json()["code"]) == (429, "rate")
        assert 1 <= int(came.headers["Retry-After"]) <= 4  # a film each 60 / 16 s
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/explain", "/models", "/metrics"])
def test_the_token_is_asked_for(scripted, path):
    with served(lambda name: scripted, token=TOKEN) as client:
        method = "GET" if path in ("/models", "/metrics") else "POST"
        for sent in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"},
                     {"Authorization": "Bearer"}, {"Authorization": b"Bearer \xe9"}):  # fmt: skip
            came = client.request(method, path, headers=sent)
            assert (came.status_code, came.json()["code"]) == (401, "token")
            assert came.headers["WWW-Authenticate"] == "Bearer"
            assert TOKEN not in came.text
        came = client.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
        assert came.status_code in (200, 422)
        assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_a_request_without_the_token_is_not_read(scripted):
    with served(lambda name: scripted, token=TOKEN) as client:
        status, read = call(client.app, {"content-length": "5"}, [b"films"])

    assert (status, read) == (401, 0)


def call(app, headers, chunks, path="/predict"):
    """Send a request piece by piece and then break off; return the status and the pieces read."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "scheme": "http", "server": ("test", 80), "client": ("127.0.0.1", 5),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    sent, read, left = [], [], list(chunks)

    async def receive():
        if not left:
            return {"type": "http.disconnect"}
        read.append(left[0])
        if left[0] is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": True}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], len(read)


@pytest.mark.parametrize(
    ("headers", "chunks", "status"),
    [
        ({}, [b"film"], 411),
        ({"transfer-encoding": "chunked"}, [b"film"], 411),
        ({"content-length": "-5"}, [b"film"], 411),
        ({"content-length": str(MOST_BYTES + 1)}, [b"film"], 413),
        ({"content-length": "9" * 5000}, [b"film"], 411),
        ({"content-length": "3"}, [b"film"], 400),
        ({"content-length": "9"}, [b"film"], 400),
        ({"content-length": "9"}, [b"film", None], 408),
    ],
)
def test_bodies_that_lie_about_their_length_are_turned_away(scripted, headers, chunks, status):
    with served(lambda name: scripted, patience=0.05) as client:
        assert call(client.app, headers, chunks)[0] == status
        assert client.desk.places.taken_films == client.desk.places.taken_bytes == 0


def test_a_film_beyond_the_limits_is_413_and_says_so(client):
    header = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(header, "PNG")
    came = client.post("/predict", content=header.getvalue())

    assert (came.status_code, came.json()["code"]) == (413, "too-large")
    assert "20000 x 10000 pixels" in came.json()["error"]


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("?no_gate=maybe", 422, "'no_gate' cannot be used"),
        ("?nogate=1", 422, "no query parameter 'nogate'"),
        ("?model=tiny", 404, "no model named 'tiny'"),
        ("?model=../plain", 404, "no model named '../plain'"),
    ],
)
def test_what_is_asked_amiss_is_said(client, query, status, told):
    came = client.post(f"/predict{query}", content=film())
    assert came.status_code == status
    assert set(came.json()) == {"ok", "error", "code"} and told in came.json()["error"]


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
        ("multipart/form-data; boundary=" + "x" * 500, b"--x--", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n", 400),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n--x--\r\n', 422),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\ncut', 400),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n'
         b"Content-Transfer-Encoding: base64\r\n\r\n!\r\n--x--\r\n", 400),
    ],
)  # fmt: skip
def test_forms_that_are_none_are_turned_away(client, kind, body, status):
    came = client.post("/predict", content=body, headers={"Content-Type": kind})
    assert came.status_code == status, came.text
    assert came.json()["code"] == "form"


def test_more_films_than_a_request_may_bring_are_turned_away(client):
    many = form(*[(f"{k}.png", grey(k)) for k in range(MOST_FILMS + 1)])
    for path, films in (("/predict", many[:2]), ("/predict/batch", many)):
        came = client.post(path, files=films)
        assert (came.status_code, came.json()["code"]) == (422, "too-many")
    assert client.desk.places.taken_films == 0


def test_other_addresses_and_methods_get_a_sentence(client):
    for came, status, code in (
        (client.get("/nothing"), 404, "not-found"),
        (client.get("/predict"), 405, "method"),
        (client.get("/docs"), 404, "not-found"),
    ):
        assert (came.status_code, came.json()["code"]) == (status, code)
        assert came.json()["error"].endswith("/openapi.json.")


# --- what is said of it ---


def test_lines_and_numbers_hold_nothing_that_came_from_outside(client, caplog, scripted):
    secret = "Quillfeather"

    def fail(inputs):
        raise RuntimeError(f"the film of {secret}")

    with caplog.at_level(logging.DEBUG):
        client.post("/predict", files=form((f"{secret}.png", film())))
        client.post("/predict", files=form((f"{secret}.txt", secret.encode())))
        client.post(f"/predict?model={secret}", content=film())
        client.post(f"/{secret}?{secret}={secret}", headers={secret: secret})
        client.request(secret.upper(), "/predict")
        scripted.predict_batch = fail
        failed = client.post("/predict", files=form((f"{secret}.png", film())))

    lines = [row.getMessage() for row in caplog.records if row.name == "cxr_core.service"]
    assert (failed.status_code, failed.json()["code"]) == (500, "error")
    assert secret not in failed.text
    assert any(line.startswith("RuntimeError at test_service.py:") for line in lines)
    assert len([line for line in lines if " in " in line]) == 6
    # The client of the tests itself writes the addresses that it asks.
    ours = [row for row in caplog.records if not row.name.startswith("httpx2")]
    assert not [row for row in ours if secret.lower() in row.getMessage().lower()]
    assert secret.lower() not in client.get("/metrics").text.lower()


def test_a_damaged_model_is_told_and_noted(client, caplog, scripted):
    def fail(inputs):
        raise ModelError("The gate is damaged.")

    scripted.predict_batch = fail
    with caplog.at_level(logging.DEBUG):
        failed = client.post("/predict", files=form(("a.png", film())))
    assert (failed.status_code, failed.json()["code"]) == (500, ModelError.code)
    lines = [row.getMessage() for row in caplog.records if row.name == "cxr_core.service"]
    assert any(line.startswith("ModelError at test_service.py:") for line in lines)


def test_numbers_count_what_happened(client, scripted):
    ask_grey(client, 50)
    client.post("/predict/batch", files=form(("a", grey(1)), ("b", grey(2)), ("c", b"words")))
    client.post("/predict?no=1", content=film())
    families = text_string_to_metric_families(client.get("/metrics").text)
    rows = {(row.name, *row.labels.values()): row.value for f in families for row in f.samples}

    assert rows["cxr_requests_total", "/predict", "200"] == 1
    assert rows["cxr_requests_total", "/predict", "422"] == 1
    assert rows["cxr_requests_total", "/predict/batch", "200"] == 1
    assert rows["cxr_films_total", "plain", "answered"] == 3
    assert rows["cxr_films_total", "plain", "unread"] == 1
    assert rows["cxr_batch_films_sum", "plain"] == 3  # trying the model at the start is not counted
    assert rows["cxr_request_seconds_count", "/predict"] == 2
    if sys.platform == "linux":
        assert rows["process_resident_memory_bytes",] > 10 * 2**20


def test_the_examples_are_what_is_answered(client):
    for example in (ANSWERED, REFUSED):
        Answered.model_validate(example)
    Unread.model_validate(UNREAD)
    Answered.model_validate(client.post("/predict", content=film()).json())
    named = {"Content-Disposition": 'attachment; filename="film.txt"'}
    assert client.post("/predict", content=b"some words", headers=named).json() == UNREAD
    missing = client.post("/explain", content=film()).json()
    assert missing["error"].startswith(FAILED[422][1].removesuffix("."))
    assert client.post("/predict", headers={"Content-Length": ""}).json()["error"] == FAILED[411][1]
    shown = client.get("/openapi.json").json()
    for path in ("/predict", "/predict/batch", "/explain"):
        told = shown["paths"][path]["post"]
        assert {"200", "413", "422", "429", "503", "504"} <= set(told["responses"])
        assert "multipart/form-data" in told["requestBody"]["content"]


# --- the parts ---


def model_input(value):
    return prepare(read_radiograph(grey(value)), Preprocessing(size=64, standardise=False))


def test_what_comes_while_the_network_works_goes_through_it_together(scripted):
    told = []
    batcher = Batcher(scripted, lambda films, seconds: told.append(films), wait=0)
    scripted.hold()
    first = batcher.ask(model_input(5))
    assert scripted.entered.wait(60)
    others = [batcher.ask(model_input(k)) for k in range(20)]
    scripted.go.set()
    values = [answer.result(60).labels[0].probability for answer in (first, *others)]
    batcher.close()

    assert scripted.batches == told == [1, MOST_FILMS, 4]
    means = [float(model_input(k).pixels.mean()) for k in (5, *range(20))]
    assert values == pytest.approx(means, abs=1e-7)


def test_a_full_batch_waits_for_nobody(scripted):
    batcher = Batcher(scripted, wait=3600)
    answers = [batcher.ask(model_input(k)) for k in range(MOST_FILMS)]
    assert len([answer.result(60) for answer in answers]) == MOST_FILMS
    late = batcher.ask(model_input(1))
    batcher.close()  # what was asked before is answered, without the wait

    assert late.done() and scripted.batches == [MOST_FILMS, 1]


def test_a_failing_network_fails_those_in_its_batch_alone(scripted):
    batcher = Batcher(scripted, wait=0)
    answer, scripted.predict_batch = scripted.predict_batch, None
    broken = batcher.ask(model_input(5))
    with pytest.raises(TypeError):
        broken.result(60)
    scripted.predict_batch = answer
    assert batcher.ask(model_input(5)).result(60).model == "plain"
    batcher.close()


def test_a_film_nobody_waits_for_is_left_out(scripted):
    batcher = Batcher(scripted, wait=0)
    scripted.hold()
    first = batcher.ask(model_input(5))
    assert scripted.entered.wait(60)
    left, kept = batcher.ask(model_input(6)), batcher.ask(model_input(7))
    assert left.cancel()
    scripted.go.set()
    assert kept.result(60) and first.done()
    with pytest.raises(CancelledError):
        left.result()
    batcher.close()
    assert scripted.batches == [1, 1]


def test_an_allowance_grows_back_by_the_second():
    now = [0.0]
    rates = Rates(60, lambda: now[0])
    rates.spend("a", 50)
    rates.spend("a", 16)  # the last request may overdraw: 60 - 66 = -6
    rates.spend("b", 1)
    for later in (0.0, 6.5):
        now[0] = later
        with pytest.raises(Refused) as refused:
            rates.spend("a", 1)
        # From -6 to 1 are 7 s at one film a second.
        assert refused.value.headers["Retry-After"] == ("7" if later == 0 else "1")
    now[0] = 7.0
    rates.spend("a", 1)
    now[0] = 10_000.0
    rates.spend("a", 60)  # full again, and not fuller
    with pytest.raises(Refused):
        rates.spend("a", 1)


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.sampled_from("ab"), st.integers(1, MOST_FILMS)), max_size=60
    )
)
def test_no_client_gets_more_than_its_allowance(steps):
    now, taken = [0.0], {"a": 0, "b": 0}
    rates = Rates(60, lambda: now[0])
    for wait, client, films in steps:
        now[0] += wait
        try:
            rates.spend(client, films)
        except Refused:
            continue
        taken[client] += films
        # A minute's films at once, one a second, and what the last request overdrew.
        assert taken[client] <= 60 + now[0] + MOST_FILMS - 1 + 1e-6


def test_clients_without_number_are_not_all_remembered():
    rates = Rates(60)
    for k in range(5000):
        rates.spend(str(k), 1)

    assert len(rates._left) == 4096


def test_places_are_freed_whatever_happens():
    places = Places(3, 100)
    with places.taken(films=2, size=60):
        for more in ({"films": 2}, {"films": 1, "size": 41}):
            with pytest.raises(Refused), places.taken(**more):
                pass
        with pytest.raises(KeyError), places.taken(films=1, size=40):
            raise KeyError
        assert (places.taken_films, places.taken_bytes) == (2, 60)
    assert (places.taken_films, places.taken_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"host": "0.0.0.0"}, "CXR_TOKEN"),
        ({"host": "::"}, "CXR_TOKEN"),
        ({"host": "hospital.example"}, "CXR_TOKEN"),
        ({"host": "0.0.0.0", "token": ""}, "not be empty"),
        ({"token": "two words"}, "openssl"),
        ({"models": ()}, "one model or more"),
        ({"models": ("a", "a")}, "each once"),
        ({"port": 70_000}, "65535"),
        ({"places": 15}, "at least 16"),
        ({"rate": 0}, "at least 16"),
        ({"patience": 0}, "3600"),
    ],
)
def test_settings_that_could_not_serve_are_refused(wrong, told):
    with pytest.raises(ArgumentError, match=told):
        Settings(**{"models": ("plain",), **wrong})


def test_with_a_token_any_address_may_be_listened_on():
    assert Settings(models=("plain",), host="0.0.0.0", token=TOKEN).host == "0.0.0.0"
    assert TOKEN not in repr(Settings(models=("plain",), token=TOKEN))


@given(st.ip_addresses())
def test_loopback_is_what_the_standard_says(address):
    assert is_loopback(str(address)) == address.is_loopback
    assert is_loopback("localhost") and not is_loopback("localhost.example")


# --- whatever bytes come ---

FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read(body, kind, cuts=()):
    """Read the films of a body that comes in pieces."""
    edges = [0, *sorted(cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(edges)]

    async def receive():
        more = len(pieces) > 1
        return {"type": "http.request", "body": pieces.pop(0), "more_body": more}

    headers = {"content-length": str(len(body)), "content-type": kind}
    scope = {
        "type": "http",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    return asyncio.run(read_films(Request(scope, receive), MOST_FILMS))


@FUZZ
@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=300)), min_size=1, max_size=4
    ),
    st.data(),
)
def test_a_form_brings_its_files_whole_wherever_the_network_cuts_it(films, data):
    sent = Sent("POST", "http://x", files=form(*films))
    body = sent.read()
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=6))
    came = read(body, sent.headers["content-type"], cuts)

    assert [one.data for one in came] == [content for _, content in films]


@FUZZ
@given(st.binary(max_size=400))
def test_any_body_is_answered_with_a_sentence(client, body):
    for kind in ("application/octet-stream", "multipart/form-data; boundary=x", "text/plain"):
        came = client.post("/predict", content=body, headers={"Content-Type": kind})
        assert came.status_code in (400, 413, 422), came.text
        assert came.json()["ok"] is False and came.json()["error"].endswith(".")
    assert client.desk.places.taken_films == 0


@FUZZ
@given(st.data())
def test_a_damaged_film_is_answered_or_said_to_be_damaged(client, data):
    good = bytearray(film(2, 40))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    came = client.post("/predict", content=bytes(good[: data.draw(st.integers(1, len(good)))]))

    assert came.status_code in (200, 413, 422)
    (Answered if came.status_code == 200 else Unread).model_validate(came.json())


@FUZZ
@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=3))
def test_any_query_is_answered_with_a_sentence(client, query):
    came = client.post("/explain", params=query, content=b"words")
    assert came.status_code in (404, 422)
    assert came.json()["ok"] is False


@pytest.fixture(scope="module")
def described():
    """The service on a real port, as its own OpenAPI document describes it."""
    greys = Preprocessing(size=64, standardise=False)
    card = replace(CARD, name="plain", preprocessing=greys, training={"gate": False})
    told = Settings(models=("plain",), port=0, token=TOKEN, rate=10**6)
    desk = Desk(told, load=lambda name: Scripted(card), doubts=lambda card: ())
    server = uvicorn.Server(_config(create_app(desk), told))
    with _listening(told) as listener, ThreadPoolExecutor(1) as thread:
        running = thread.submit(server.run, [listener])
        wait_for(lambda: desk.ready or running.done())
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/openapi.json"
        yield schemathesis.openapi.from_url(address)
        server.should_exit = True
        running.result(60)


FILMS = [("/predict", "POST"), ("/predict/batch", "POST"), ("/explain", "POST")]
ROUTES = [("/health", "GET"), ("/ready", "GET"), ("/metrics", "GET"), ("/models", "GET"), *FILMS]
RIGHT, WRONG = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


def test_every_route_is_asked_below(described):
    found = [one.ok() for one in described.get_all_operations()]
    assert sorted((one.path, one.method.upper()) for one in found) == sorted(ROUTES)


@pytest.mark.parametrize(
    ("route", "mode"), [*((one, RIGHT) for one in ROUTES), *((one, WRONG) for one in FILMS)]
)
def test_the_service_is_as_it_describes_itself(described, route, mode):
    """What schemathesis makes of the document, right and wrong, is answered as it says there."""
    path, method = route

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(described[path][method].as_strategy(generation_mode=mode))
    def ask(case):
        # Of bytes in the right place most are no film, and 422 is what that should be told.
        case.call_and_validate(
            headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=[positive_data_acceptance]
        )

    ask()
