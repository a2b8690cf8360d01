"""What the server does to the page that Streamlit serves, and to nothing else."""

import asyncio
import socket

import pytest
from starlette.applications import Starlette
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from uvicorn import Server

from cxr_core.ui import serving
from cxr_core.ui.serving import DARK_FIRST, MIDDLEWARE

PAGE = "<!DOCTYPE html><html><head><title>Read</title></head><body></body></html>"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "accept-encoding": "gzip"}


@pytest.fixture
def client(tmp_path):
    """A browser before a server of a page, a missing page, a text and a table in many pieces."""
    table = tmp_path / "table.csv"
    table.write_bytes(b"<head>,1\n" * 400_000)

    def known(request):
        unchanged = request.headers.get("if-none-match") == '"1"'
        return Response(status_code=304) if unchanged else HTMLResponse(PAGE)

    routes = [
        Route("/", known),
        Route("/missing", lambda _: HTMLResponse(PAGE, 404)),
        Route("/text", lambda _: PlainTextResponse(PAGE)),
        Route("/table", lambda _: FileResponse(table, media_type="text/csv")),
        Route("/empty", lambda _: Response(status_code=204)),
    ]
    return TestClient(Starlette(routes=routes, middleware=list(MIDDLEWARE)))


def test_a_page_begins_with_the_script_and_is_otherwise_as_it_was(client):
    answer = client.get("/", headers=BROWSER)
    assert answer.text.startswith("<!DOCTYPE html><html><head>" + DARK_FIRST.decode())
    assert answer.text.replace(DARK_FIRST.decode(), "") == PAGE
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_a_browser_that_knows_the_page_of_an_older_version_gets_it_whole(client):
    answer = client.get("/", headers=BROWSER | {"if-none-match": '"1"'})
    assert (answer.status_code, DARK_FIRST in answer.content) == (200, True)


@pytest.mark.parametrize("path", ["/missing", "/text", "/table", "/empty"])
def test_whatever_is_no_page_passes_as_it_is(client, path):
    got, plain = client.get(path, headers=BROWSER), client.get(path)
    assert (got.status_code, got.content) == (plain.status_code, plain.content)
    assert DARK_FIRST not in got.content


def test_a_program_that_asks_for_no_page_gets_what_streamlit_serves(client):
    assert client.get("/", headers={"accept": "*/*"}).text == PAGE
    assert client.head("/", headers=BROWSER).text == ""


def test_what_the_server_writes_in_pieces_is_not_held_back(monkeypatch):
    """Its socket comes from Streamlit, whose connections asyncio would leave to wait."""
    begun = []

    async def begin(server, sockets):
        begun.append((server, sockets))

    monkeypatch.setattr(serving, "_startup", begin)
    with socket.socket() as listener:
        asyncio.run(Server.startup("server", [listener]))
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert begun == [("server", [listener])]
