"""Who may enter: how the server must be set up, who is let in, and to which pages.

The last story is a whole one in Chromium, with a small OpenID Connect service of its own on
this machine: its keys, its codes and its signatures are real.
"""

import ast
import hashlib
import json
import re
import secrets as chance
import threading
import time
import tomllib
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import streamlit as st
from bundles import known_table, write_bundle
from dropping import asks_for_films
from hypothesis import given
from hypothesis import strategies as some
from joserfc import jwt
from joserfc.jwk import RSAKey
from playwright.sync_api import BrowserContext, Page, expect
from streamlit import config
from streamlit.runtime.secrets import Secrets, secrets_singleton
from streamlit.testing.v1 import AppTest
from test_browser import browser, running  # noqa: F401 (a fixture)

from cxr_core.cards import load_card
from cxr_core.errors import AccessError
from cxr_core.records import Opinion, Records
from cxr_core.ui import access, dashboard
from cxr_core.ui.access import AT_HOME, NOBODY, Guests, Visitor

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "pages").glob("*.py"))
CLIENT_SECRET = "told-to-nobody"
SECRET = "0123456789abcdef0123456789abcdef"
AUTH = {
    "redirect_uri": "https://cxr.hospital.example/oauth2callback",
    "cookie_secret": SECRET,
    "client_id": "cxr",
    "client_secret": CLIENT_SECRET,
    "server_metadata_url": "https://id.hospital.example/.well-known/openid-configuration",
}
ACCESS = {
    "administrators": ["ada@hospital.example"],
    "readers": ["@radiology.hospital.example", "Grace@elsewhere.example"],
}


class NoPages(type(Path())):  # type: ignore[misc]
    """Hides the folder pages/, as Streamlit does not look for it once app.py has run.

    AppTest would look before each run, and after the first run the page alone.
    """

    def exists(self) -> bool:
        return self.name != "pages" and super().exists()


class Server:
    """How the server of a test is set up."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = folder / "secrets.toml"
        self._patch = monkeypatch
        self.option("secrets.files", [str(self.file)])
        self.option("server.address", "127.0.0.1")
        monkeypatch.delenv(access.PROXY, raising=False)
        self.tell()

    def option(self, name: str, value: Any) -> None:
        option = config.get_config_options()[name]
        self._patch.setattr(option, "_get_val_func", lambda: value)

    def tell(self, text: str = "", **sections: Any) -> None:
        """Write the file of secrets anew; none without any of it."""
        self.file.unlink(missing_ok=True)
        for name, values in sections.items():
            text += f"[{name}]\n"
            text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        if text:
            self.file.write_text(text)
        self._patch.setattr(st, "secrets", Secrets())

    def behind_proxy(self, value: str = "1") -> None:
        self._patch.setenv(access.PROXY, value)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What Streamlit itself has read of a test's file of secrets is not for the next test."""
    yield
    secrets_singleton._reset()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    access._tell_log.cache_clear()
    monkeypatch.setattr("streamlit.runtime.pages_manager.Path", NoPages)
    return Server(tmp_path, monkeypatch)


@pytest.fixture
def site(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that asks people to sign in, with one model."""
    write_bundle(tmp_path / "models", "known", known_table(), (0.5,))
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    server.tell(auth=AUTH, access=ACCESS)
    return server


# --- how the server must be set up ---


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "127.8.9.10"])
def test_on_this_machine_alone_nobody_is_asked(server: Server, address: str) -> None:
    server.option("server.address", address)
    assert access.expected() is None
    assert access.visitor() == AT_HOME
    assert AT_HOME.may_see("Data folders")


@pytest.mark.parametrize(
    "address", [None, "", "0.0.0.0", "::", "192.168.1.7", "cxr.hospital.example", "127.0.0.1.nip"]
)
def test_others_are_not_let_in_without_settings(server: Server, address: str | None) -> None:
    server.option("server.address", address)
    with pytest.raises(AccessError, match=r"Nobody is asked to sign in, but .*server\.address"):
        access.expected()
    assert access.visitor() == NOBODY
    assert not NOBODY.may_see("Read")


def test_a_proxy_brings_others_to_this_machine(server: Server) -> None:
    server.behind_proxy("0")
    assert access.expected() is None
    for value in ("1", "true", "no"):  # whatever is unclear asks for a sign-in
        server.behind_proxy(value)
        with pytest.raises(AccessError, match="CXR_BEHIND_PROXY says that a proxy"):
            access.expected()


def test_settings_let_others_in(server: Server) -> None:
    server.tell(auth=AUTH, access=ACCESS)
    guests = Guests(
        administrators=frozenset({"ada@hospital.example"}),
        readers=frozenset({"@radiology.hospital.example", "grace@elsewhere.example"}),
    )
    assert access.expected() == guests
    server.option("server.address", "0.0.0.0")
    with pytest.raises(AccessError, match="would travel unencrypted"):
        access.expected()
    server.option("server.sslCertFile", "/etc/cxr/cert.pem")
    assert access.expected() == guests
    server.option("server.sslCertFile", None)
    server.behind_proxy()
    assert access.expected() == guests


@pytest.mark.parametrize("option", ["server.enableCORS", "server.enableXsrfProtection"])
@pytest.mark.parametrize("settings", [{}, {"auth": AUTH, "access": ACCESS}])
def test_safeguards_stay_on(server: Server, option: str, settings: dict[str, Any]) -> None:
    server.tell(**settings)
    server.option(option, False)
    with pytest.raises(AccessError, match=f"{option} is off"):
        access.expected()


def test_no_header_names_anybody(server: Server) -> None:
    server.tell(auth=AUTH, access=ACCESS)
    server.option("server.trustedUserHeaders", {"X-Forwarded-Email": "email"})
    with pytest.raises(AccessError, match="a header could name anybody"):
        access.expected()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no list": ({"auth": AUTH}, "must list administrators, readers or both, but none came"),
    "no service": ({"access": ACCESS}, "lacks redirect_uri, cookie_secret, client_id"),
    "empty lists": ({"auth": AUTH, "access": {"readers": []}}, "but none came"),
    "misspelt": (
        {"auth": AUTH, "access": ACCESS | {"administrator": ["eve@hospital.example"]}},
        "but administrator came",
    ),
    "no list of texts": (
        {"auth": AUTH, "access": {"readers": "ada@hospital.example, eve@hospital.example"}},
        "e-mail addresses are allowed",
    ),
    "no address": ({"auth": AUTH, "access": {"readers": ["*"]}}, r"lists '\*'"),
    "everybody": ({"auth": AUTH, "access": {"readers": ["@"]}}, "lists '@'"),
    "not a text": ({"auth": AUTH, "access": {"readers": [7]}}, "lists '7'"),
    "no client": (
        {"auth": {name: text for name, text in AUTH.items() if name != "client_id"}}
        | {"access": ACCESS},
        "lacks client_id;",
    ),
    "empty client": ({"auth": AUTH | {"client_id": ""}, "access": ACCESS}, "lacks client_id;"),
    "weak secret": ({"auth": AUTH | {"cookie_secret": "guess"}, "access": ACCESS}, "5 characters"),
    "plain way back": (
        {"auth": AUTH | {"redirect_uri": "http://cxr.example/oauth2callback"}, "access": ACCESS},
        "must begin with https",
    ),
    "plain service": (
        {"auth": AUTH | {"server_metadata_url": "http://id.example/x"}, "access": ACCESS},
        "must begin with https",
    ),
    "other way back": (
        {"auth": AUTH | {"redirect_uri": "https://cxr.example/"}, "access": ACCESS},
        "/oauth2callback",
    ),
}


@pytest.mark.parametrize(("sections", "said"), WRONG.values(), ids=WRONG.keys())
def test_settings_are_read_strictly(server: Server, sections: dict[str, Any], said: str) -> None:
    server.tell(**sections)
    with pytest.raises(AccessError, match=said):
        access.expected()
    assert access.visitor() == NOBODY


@pytest.mark.parametrize("damaged", [b"[access\nreaders = 3", b"\xff\xfe[auth]"])
def test_damaged_settings_let_nobody_in(server: Server, damaged: bytes) -> None:
    server.file.write_bytes(damaged)
    with pytest.raises(AccessError, match=r"secrets\.toml cannot be read"):
        access.expected()
    assert access.visitor() == NOBODY


def test_settings_of_others_do_not_matter(server: Server) -> None:
    server.tell('[database]\nurl = "sqlite://"\n')
    assert access.expected() is None


# --- who is let in ---

GUESTS = Guests(
    administrators=frozenset({"ada@hospital.example", "@it.hospital.example"}),
    readers=frozenset({"@radiology.hospital.example", "grace@elsewhere.example"}),
)


@pytest.mark.parametrize(
    ("address", "reader", "administrator"),
    [
        ("ada@hospital.example", True, True),
        ("ADA@Hospital.Example", True, True),
        ("anybody@it.hospital.example", True, True),
        ("anybody@radiology.hospital.example", True, False),
        ("grace@elsewhere.example", True, False),
        ("eve@elsewhere.example", False, False),
        ("eve@hospital.example", False, False),
        ("eve@night.radiology.hospital.example", False, False),
        ("eve@radiology.hospital.example.evil.example", False, False),
        ("eve@evil.example@radiology.hospital.example", False, False),
        ("@radiology.hospital.example", False, False),
        ("grace@elsewhere.example ", False, False),
        ("grace@elsewhere.example\n", False, False),
        ("gr\u0430ce@elsewhere.example", False, False),  # a Cyrillic letter
        ("ada@hospita\u217c.example", False, False),  # whose compatible form is an l
        ("ada@hospital.exam\u212aple", False, False),
        ("", False, False),
    ],
)
def test_people_are_known_by_their_whole_address(
    address: str, reader: bool, administrator: bool
) -> None:
    found = GUESTS.visitor(address)
    assert (found.reader, found.administrator) == (reader, administrator)
    assert not reader or found.name == address.lower()


@given(some.text() | some.emails())
def test_nobody_else_is_known(address: str) -> None:
    domain = address.lower().rpartition("@")[2]
    assert GUESTS.visitor(address).reader == (
        address.lower() in ("ada@hospital.example", "grace@elsewhere.example")
        or (
            address.count("@") == 1
            and address.isascii()
            and not address.startswith("@")
            and domain in ("it.hospital.example", "radiology.hospital.example")
        )
    )


def person(email: str = "grace@elsewhere.example", **more: Any) -> dict[str, Any]:
    """What the service that vouches says of somebody who has just signed in."""
    told = {"is_logged_in": True, "iat": int(time.time()), "email": email, "email_verified": True}
    return told | more


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "Sign in with"),
        (person(is_logged_in=False), "Sign in with"),
        (person(is_logged_in="yes"), "Sign in with"),
        (person(iat=time.time() - 12 * 3600 - 1), "more than 12 hours ago"),
        (person(iat=int(time.time()) - 12 * 3600 - 1), "more than 12 hours ago"),
        (person(iat=int(time.time()) + 3600), "more than 12 hours ago"),
        (person(iat=None), "more than 12 hours ago"),
        (person(email=None), "did not say your e-mail address"),
        (person(email=["ada@hospital.example"]), "did not say your e-mail address"),
        (person(email_verified=False), "was not verified"),
        (person(email_verified="false"), "was not verified"),
    ],
)
def test_a_sign_in_that_does_not_count_says_why(told: dict[str, Any], said: str) -> None:
    assert said in access._complaint(told)
    assert access._known(GUESTS, told) == NOBODY


def test_a_sign_in_counts_for_a_working_day() -> None:
    eleven_hours_ago = person(iat=int(time.time()) - 11 * 3600)
    silent = {name: value for name, value in person().items() if name != "email_verified"}
    for told in (person(), eleven_hours_ago, silent):
        assert access._complaint(told) == ""
        assert access._known(GUESTS, told) == Visitor("grace@elsewhere.example", reader=True)


# --- what is on screen ---


def app(user: dict[str, Any] | None = None) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    page.user = user or {}
    return page.run()


def html(page: AppTest) -> str:
    return "\n".join(element.proto.body for element in page.get("html"))


def labels(page: AppTest) -> list[str]:
    return [button.label for button in page.button]


def check_closed(page: AppTest) -> None:
    """Nothing of any page is there: no film can be given, no model named."""
    assert not page.exception and not page.error
    assert not asks_for_films(page) and not page.selectbox and not page.text_input
    assert "known" not in html(page)


def test_an_app_that_is_open_wrongly_shows_a_sentence_and_no_page(
    site: Server, caplog: pytest.LogCaptureFixture
) -> None:
    site.tell()
    site.option("server.address", "0.0.0.0")
    page = app(person("ada@hospital.example"))
    again = app(person("ada@hospital.example"))
    for one in (page, again):
        check_closed(one)
        assert not one.button
        assert "This app is not open" in html(one)
        assert "Nobody is asked to sign in, but server.address is &#x27;0.0.0.0&#x27;" in html(one)
    (told,) = [one for one in caplog.records if one.name.startswith("cxr_core")]
    assert told.levelname == "ERROR" and "server.address is '0.0.0.0'" in told.message


def test_a_page_asks_to_sign_in(site: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(st, "login", lambda: asked.append("login"))
    page = app()
    check_closed(page)
    assert labels(page) == ["Sign in"] and "Sign in with the account" in html(page)
    page.button[0].click().run()
    assert asked == ["login"]
    check_closed(page)


def test_somebody_not_on_the_list_gets_one_sentence(site: Server) -> None:
    page = app(person("<b>eve</b>@hospital.example"))
    check_closed(page)
    assert "&lt;b&gt;eve&lt;/b&gt;@hospital.example may not enter here" in html(page)
    assert "<b>" not in html(page).partition("Not on the list")[2]
    assert labels(page) == ["Sign out"]


def test_a_reader_is_named_and_may_read(site: Server) -> None:
    page = app(person())
    assert not page.exception and not page.error
    assert asks_for_films(page) and "Sign out" in labels(page)
    assert "grace@elsewhere.example, reader" in html(page)


def test_where_nobody_is_asked_nobody_is_named(site: Server) -> None:
    site.tell()
    page = app()
    assert asks_for_films(page) and "Sign out" not in labels(page)


def test_signing_out_forgets_what_was_on_screen(
    site: Server,
) -> None:
    page = app(person())
    page.session_state["session"].unkept = "something of a patient"
    next(button for button in page.button if button.label == "Sign out").click().run()
    check_closed(page)
    assert "session" not in page.session_state
    assert not page.user.get("is_logged_in") and labels(page) == ["Sign in"]


def titles() -> dict[str, str]:
    """The title of each page, as app.py says."""
    calls = [node for node in ast.walk(ast.parse((ROOT / "app.py").read_text()))
             if isinstance(node, ast.Call) and ast.unparse(node.func) == "st.Page"]  # fmt: skip
    return {
        Path(ast.literal_eval(call.args[0])).stem: ast.literal_eval(keyword.value)
        for call in calls
        for keyword in call.keywords
        if keyword.arg == "title"
    }


def admitted(path: Path) -> str:
    """The title under which a page asks whether it is open, before anything else it does."""
    (function,) = [
        node for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "page"
    ]  # fmt: skip
    first = function.body[1]  # after the docstring
    assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Call), path
    assert ast.unparse(first.value.func) == "access.admit", path
    title: str = ast.literal_eval(first.value.args[0])
    return title


def test_every_page_asks_first_and_by_its_title() -> None:
    assert {path.stem: admitted(path) for path in PAGES} == titles()


def alone(path: Path, user: dict[str, Any]) -> AppTest:
    """Run a page by itself, as nobody should be able to."""
    page = AppTest.from_file(str(path), default_timeout=120)
    page.user = user
    return page.run()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_page_shows_anything_to_who_is_not_let_in(site: Server, path: Path) -> None:
    for told in ({}, person("eve@hospital.example"), person(email_verified=False)):
        page = alone(path, told)
        assert not page.exception
        (error,) = page.error
        assert "is not open to you" in error.value
        assert not asks_for_films(page) and not page.selectbox and not page.text_input
        assert not html(page)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_shows_itself_to_those_it_is_for(site: Server, path: Path) -> None:
    reserved = titles()[path.stem] in access.RESERVED
    assert bool(alone(path, person()).error) == reserved
    assert not alone(path, person("ada@hospital.example")).error


def test_data_folders_are_for_administrators() -> None:
    assert titles()["datasets"] in access.RESERVED
    assert not access.RESERVED >= set(titles().values())


def test_a_reserved_page_is_not_there_for_a_reader(site: Server) -> None:
    mine = app(person("ada@hospital.example")).switch_page("pages/datasets.py").run()
    assert not mine.exception and mine.text_input
    with pytest.raises(ValueError, match="Could not find a navigation page"):
        app(person()).switch_page("pages/datasets.py")


def test_a_reserved_view_is_left_out_for_a_reader(
    site: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dashboard.VIEWS, "Monitoring", (lambda *_: None, lambda subject: True))
    path = ROOT / "pages" / "evaluation.py"
    mine, theirs = (
        alone(path, person(name)).segmented_control(key="view").options
        for name in ("ada@hospital.example", "grace@elsewhere.example")
    )
    assert set(mine) - set(theirs) == {"Monitoring"}


def test_what_others_said_is_exported_for_administrators(
    site: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    monkeypatch.setenv("CXR_RECORDS", url)
    st.cache_resource.clear()
    version = load_card("known").version
    said = Opinion(digest="1", label="Pneumonia", stance="present", before=True, model="known",
                   version=version, probability=0.9, flag=True)  # fmt: skip
    Records(url).add(said)

    def offered(address: str) -> list[str]:
        page = AppTest.from_file(str(ROOT / "pages" / "evaluation.py"), default_timeout=120)
        page.user, page.session_state["view"] = person(address), "Readers"
        page.run()
        assert not page.exception and not page.error
        assert "Reader and model on pneumonia" in html(page)
        return [one.proto.label for one in page.get("download_button")]

    assert "Opinions, CSV" in offered("ada@hospital.example")
    assert "Opinions, CSV" not in offered("grace@elsewhere.example")


def test_the_documented_settings_are_whole(server: Server) -> None:
    text = (ROOT / "docs" / "access.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    server.tell(block)
    server.behind_proxy()
    guests = access.expected()
    assert guests is not None
    assert guests.visitor("ada@hospital.example").administrator
    assert guests.visitor("somebody@radiology.hospital.example").reader
    assert all(name in text for name in (*access.SAFEGUARDS, access.PROXY, *ACCESS))
    assert all(title.partition(",")[0] in text for title in access.RESERVED)


def test_the_configuration_keeps_strangers_out() -> None:
    told = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["server"]
    assert told["address"] == "127.0.0.1"
    assert told["allowedHosts"] == ["localhost", "127.0.0.1", "::1"]
    assert all(told[name.removeprefix("server.")] for name in access.SAFEGUARDS)
    assert "--server.address=127.0.0.1" in (ROOT / "Makefile").read_text()
    assert ".streamlit/secrets.toml" in (ROOT / ".gitignore").read_text().splitlines()


# --- a whole story, in a browser ---


class Vouching(ThreadingHTTPServer):
    """A service that vouches for one person, after OpenID Connect: codes, PKCE and RS256."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.key = RSAKey.generate_key(2048, {"kid": "test"})
        self.email = ""
        self.codes: dict[str, dict[str, str]] = {}
        self.left = 0

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.address, "sub": "1", "aud": AUTH["client_id"], "nonce": nonce}
        claims |= {"iat": now, "exp": now + 300, "email": self.email, "email_verified": True}
        return jwt.encode({"alg": "RS256", "kid": "test"}, claims, self.key)


class Asked(BaseHTTPRequestHandler):
    """One request to it."""

    server: Vouching

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        if asked.path == "/.well-known/openid-configuration":
            places = {"authorization": "authorize", "token": "token", "end_session": "leave"}
            self.answer(
                {f"{name}_endpoint": f"{self.server.address}/{one}" for name, one in places.items()}
                | {"issuer": self.server.address, "jwks_uri": f"{self.server.address}/keys"}
                | {"code_challenge_methods_supported": ["S256"]}
                | {"id_token_signing_alg_values_supported": ["RS256"]}
            )
        elif asked.path == "/keys":
            self.answer({"keys": [self.server.key.as_dict(private=False)]})
        elif asked.path == "/authorize":
            code = chance.token_urlsafe()
            self.server.codes[code] = query
            back = urlencode({"code": code, "state": query["state"]})
            self.send_to(f"{query['redirect_uri']}?{back}")
        elif asked.path == "/leave":
            self.server.left += 1
            self.send_to(query["post_logout_redirect_uri"])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        who = b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        asked = self.server.codes.pop(form["code"])
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        proven = urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
        if who != f"{AUTH['client_id']}:{CLIENT_SECRET}" or not proven:
            self.send_error(401)
            return
        token = self.server.id_token(asked["nonce"])
        self.answer({"access_token": "a", "token_type": "Bearer", "id_token": token})

    def answer(self, value: object) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def send_to(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.end_headers()

    def log_message(self, format: str, *values: object) -> None:
        """Keep quiet."""


@pytest.fixture
def vouching() -> Iterator[Vouching]:
    service = Vouching()
    thread = threading.Thread(target=service.serve_forever)
    thread.start()
    yield service
    service.shutdown()
    thread.join()
    service.server_close()


@pytest.fixture
def started(
    vouching: Vouching, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Path]]:
    """The address of an app that trusts the service, and its log."""
    write_bundle(tmp_path / "models", "known", known_table(), (0.5,))
    server = Server(tmp_path, monkeypatch)
    found = f"{vouching.address}/.well-known/openid-configuration"
    auth = {"redirect_uri": "http://127.0.0.1:{port}/oauth2callback", "cookie_secret": SECRET}
    auth |= {"client_id": AUTH["client_id"], "client_secret": CLIENT_SECRET}
    server.tell(auth=auth | {"server_metadata_url": found}, access=ACCESS)
    monkeypatch.setenv("STREAMLIT_SECRETS_FILES", str(server.file))
    with running(tmp_path / "models", tmp_path / "log") as address:
        yield address, tmp_path / "log"


def check_asked_to_sign_in(page: Page) -> None:
    expect(page.get_by_text("Sign in with the account that your site gave you.")).to_be_visible()
    expect(page.locator(".st-key-intake")).to_have_count(0)
    expect(page.locator("[data-testid=stTextInput]")).to_have_count(0)


def greeted(address: str, host: str) -> int:
    """How a server answers a web page of another name that was made to point to it."""
    place = urlsplit(address)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=30)
    name = f"{host}:{place.port}"
    headers = {"Host": name, "Origin": f"http://{name}", "Connection": "Upgrade"}
    headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    connection.request("GET", "/_stcore/stream", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.browser
def test_people_sign_in_and_out(
    started: tuple[str, Path],
    vouching: Vouching,
    browser: BrowserContext,  # noqa: F811
) -> None:
    address, log = started
    page = browser.new_page()
    page.goto(f"{address}/datasets")  # the first request of all, and past the menu
    check_asked_to_sign_in(page)

    vouching.email = "Grace@elsewhere.example"
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("grace@elsewhere.example")).to_be_visible()
    expect(page.locator(".st-key-intake button").first).to_be_visible()
    expect(page.get_by_role("link", name="Evaluation")).to_be_visible()
    expect(page.get_by_role("link", name="Data folders")).to_have_count(0)
    page.goto(f"{address}/datasets")
    expect(page.get_by_text("grace@elsewhere.example")).to_be_visible()
    expect(page.locator("[data-testid=stTextInput]")).to_have_count(0)

    page.goto(address)
    page.get_by_role("button", name="Sign out").click()
    check_asked_to_sign_in(page)
    assert vouching.left == 1

    vouching.email = "eve@hospital.example"
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("eve@hospital.example may not enter here")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    check_asked_to_sign_in(page)

    vouching.email = "ada@hospital.example"
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Data folders").click()
    expect(page.locator("[data-testid=stTextInput]").first).to_be_visible()

    mine = next(one for one in browser.cookies() if one["name"] == "_streamlit_user")
    forged = mine["value"].replace(".", "x.", 1) if "." in mine["value"] else mine["value"] + "x"
    browser.add_cookies([{**mine, "value": forged}])
    page.goto(address)
    check_asked_to_sign_in(page)
    assert greeted(address, "localhost") == 101
    assert greeted(address, "evil.example") == 403
    assert "@" not in log.read_text(), "nobody is named in the log"
