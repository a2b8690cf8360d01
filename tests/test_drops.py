"""No film that is dropped is lost in silence: driven in a real browser, as fast as hands can be.

Films are dropped by the events that a browser makes of a drag from outside.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect
from test_browser import browser, models, open_app, running, server, settled  # noqa: F401

from cxr_core.images import MAX_BYTES
from cxr_core.phantom import png_bytes, thorax

pytestmark = pytest.mark.browser

DROP = """async ({ files, apart }) => {
  for (const [number, [name, encoded]] of files.entries()) {
    if (number) await new Promise((done) => setTimeout(done, apart));
    const dataTransfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(encoded), (one) => one.charCodeAt(0));
    dataTransfer.items.add(new File([bytes], name));
    const options = { dataTransfer, bubbles: true, cancelable: true, composed: true };
    const target = document.querySelector(".st-key-intake") ?? document.body;
    target.dispatchEvent(new DragEvent("drop", options));
  }
}"""
DRAG = """() => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File(["film"], "film.png"));
  // Else it can be set by drags of a user alone.
  Object.defineProperty(dataTransfer, "dropEffect", { value: "copy", writable: true });
  const event = new DragEvent("dragover", { dataTransfer, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
  return [event.defaultPrevented, dataTransfer.dropEffect];
}"""
Named = tuple[str, bytes]


def films(count: int, start: int = 0) -> list[Named]:
    """Small films, each another."""
    return [
        (f"film-{k}.png", png_bytes(thorax(96, 84, seed=k))) for k in range(start, start + count)
    ]


def open_worklist(browser: BrowserContext, server: str) -> Page:  # noqa: F811
    """Open the worklist, and wait until it asks for films."""
    page = browser.new_page()
    page.goto(f"{server}/worklist")
    page.locator(".st-key-intake button").first.wait_for()
    return page


def drop(page: Page, files: Sequence[Named], apart: int = 0) -> None:
    """Drop files one after the other, some milliseconds apart."""
    encoded = [(name, b64encode(data).decode()) for name, data in files]
    page.evaluate(DROP, {"files": encoded, "apart": apart})


def check_listed(page: Page, files: Sequence[Named]) -> None:
    expect(page.locator(".st-key-films label").filter(has_text=".png")).to_have_count(len(files))
    shown = " ".join(page.locator(".st-key-films label").all_inner_texts())
    assert [name for name, _ in files if name not in shown] == []


@pytest.mark.parametrize("apart", [0, 50, 100, 200, 300])
def test_films_dropped_one_after_the_other_are_all_read(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
    apart: int,
) -> None:
    page, witness = open_app(browser, server)
    dropped = films(5)
    drop(page, dropped[:3], apart)  # while the empty page is replaced
    drop(page, dropped[3:], apart)
    check_listed(page, dropped)
    settled(page)
    dropped += films(3, start=5)
    drop(page, dropped[5:], apart)  # onto the reading page
    check_listed(page, dropped)
    assert witness.complaints == []


def test_films_dropped_on_the_worklist_are_all_listed(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
) -> None:
    page = open_worklist(browser, server)
    for number, apart in enumerate((0, 100, 300)):
        drop(page, films(4, start=4 * number), apart)
        standing = page.get_by_role("status", name="Worklist")
        expect(standing).to_contain_text(f"of {4 * (number + 1)} films flagged")
    expect(standing).not_to_contain_text("so far")
    drop(page, films(2))
    expect(page.get_by_text("film-0.png and 1 more were on the list already.")).to_be_visible()


def test_a_film_dropped_just_before_the_page_is_left_waits_there(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
) -> None:
    page, _ = open_app(browser, server)
    dropped = films(3)
    drop(page, dropped)
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_text("How not to use it").first).to_be_visible()
    page.get_by_role("link", name="Read").click()
    check_listed(page, dropped)


def test_a_film_dropped_while_pages_change_is_for_the_page_that_comes(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
) -> None:
    page, _ = open_app(browser, server)
    page.evaluate("() => { const now = Date.now(); Date.now = () => now; }")
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_text("How not to use it").first).to_be_visible()
    expect(page.locator(".st-key-intake")).to_have_count(0)
    drop(page, films(2))  # one drop each
    page.get_by_role("link", name="Worklist").click()
    standing = page.get_by_role("status", name="Worklist")
    expect(standing).to_contain_text("of 2 films flagged")


def test_a_page_that_asks_for_no_films_shows_so_and_is_not_replaced(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
) -> None:
    page, _ = open_app(browser, server)
    expect(page.get_by_text("anywhere on this page")).to_be_visible()
    assert page.evaluate(DRAG) == [True, "copy"]
    begin = "(kind) => document.body.dispatchEvent(new DragEvent(kind, { bubbles: true }))"
    page.evaluate(begin, "dragstart")
    assert page.evaluate(DRAG) == [True, "none"], "a picture of the page itself is no film"
    page.evaluate(begin, "dragend")
    assert page.evaluate(DRAG) == [True, "copy"]
    page.get_by_role("link", name="Models").click()
    expect(page.locator(".st-key-intake")).to_have_count(0)
    page.evaluate("() => { const later = Date.now() + 60000; Date.now = () => later; }")
    assert page.evaluate(DRAG) == [True, "none"]


def test_one_film_that_hangs_keeps_no_other_waiting(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
) -> None:
    page = open_worklist(browser, server)
    hanging: list[Route] = []

    def hang(route: Route) -> None:
        hanging.append(route) if not hanging else route.continue_()

    page.route("**/upload_file/**", hang)
    drop(page, films(12))
    standing = page.get_by_role("status", name="Worklist")
    expect(standing).to_contain_text(re.compile("of (8|9|10|11) films"))
    hanging[0].continue_()
    expect(standing).to_contain_text("of 12 films")


def test_no_more_is_sent_than_the_page_takes(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    page, _ = open_app(browser, server)
    expect(page.get_by_text("anywhere on this page")).to_be_visible()
    large = [tmp_path / f"{k}.dcm" for k in range(6)]
    for one in large:
        with one.open("wb") as file:
            file.truncate(60 * 2**20)  # sparse: takes no room
    sent: list[Route] = []
    page.route("**/upload_file/**", lambda route: sent.append(route))
    page.set_input_files(".st-key-intake input[name=films]", large)
    expect(page.get_by_text("Sending 1 of 6")).to_be_visible()
    page.wait_for_timeout(300)
    assert len(sent) == 3, "180 MB: with a fourth they would be more than 128 MB before it"
    for route in sent[:]:
        route.fulfill(status=204)  # as if they had come
    expect(page.get_by_text("Sending 4 of 6")).to_be_visible()
    for _ in range(300):
        page.wait_for_timeout(100)
        if len(sent) > 4:
            break
    assert len(sent) == 5, "the page ran, and took two; the third is not told of before more come"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (413, "it is larger than this server, or what stands before it, takes"),
        (403, "you are not let in. Sign in again"),
        (200, "the server does not answer for this page"),  # of a page to sign in on
    ],
)
def test_a_refused_film_is_told_at_once(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
    status: int,
    told: str,
) -> None:
    page, _ = open_app(browser, server)
    tries: list[Route] = []

    def refuse(route: Route) -> None:
        tries.append(route)
        route.fulfill(status=status)

    page.route("**/upload_file/**", refuse)
    drop(page, films(1))
    lost = page.locator(".st-key-intake").get_by_role("alert")
    expect(lost).to_contain_text(f"film-0.png did not arrive: {told}")
    assert len(tries) == 1


def test_a_film_is_sent_again_while_the_server_comes_back(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
) -> None:
    page, _ = open_app(browser, server)
    statuses = [400, 503]

    def busy(route: Route) -> None:
        route.fulfill(status=statuses.pop()) if statuses else route.continue_()

    page.route("**/upload_file/**", busy)
    drop(page, films(1))
    expect(page.get_by_role("status", name="Answer")).to_contain_text("pneumonia")
    assert statuses == []
    expect(page.locator(".st-key-intake").get_by_role("alert")).to_have_count(0)


def test_a_film_that_cannot_be_sent_is_told_until_that_is_closed(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    page, _ = open_app(browser, server)
    page.route("**/upload_file/**", lambda route: route.abort())
    dropped = films(1)
    drop(page, dropped)
    lost = page.locator(".st-key-intake").get_by_role("alert")
    expect(lost).to_contain_text("film-0.png did not arrive: the file or the server cannot be")
    page.unroute("**/upload_file/**")
    page.route("**/upload_file/**", lambda route: route.fulfill(status=400))
    drop(page, dropped)
    expect(lost).to_contain_text("the server does not answer for this page")
    page.unroute("**/upload_file/**")

    large = tmp_path / "large.dcm"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room
    page.set_input_files(".st-key-intake input[name=films]", large)
    expect(lost).to_contain_text("large.dcm was left out: it has 257 MB, the limit is 256 MB.")
    expect(lost.get_by_role("listitem")).to_have_count(3)

    drop(page, [*dropped, ("notes.txt", b"these are notes")])
    answer = page.get_by_role("status", name="Answer")
    expect(answer).to_contain_text("pneumonia")
    expect(page.get_by_text("The file is plain text, not a picture")).to_be_visible()
    drop(page, dropped)
    expect(page.get_by_text("film-0.png was here already.")).to_be_visible()
    expect(page.get_by_text("The file is plain text, not a picture")).to_be_visible()
    expect(lost.get_by_role("listitem")).to_have_count(3)
    lost.get_by_role("button", name="Close").click()
    expect(lost).to_have_count(0)


def test_films_come_in_by_keyboard_and_by_folder(
    browser: BrowserContext,  # noqa: F811
    server: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ward" / "monday"
    folder.mkdir(parents=True)
    for name, data in films(2):
        (folder / name).write_bytes(data)
    page, _ = open_app(browser, server)
    expect(page.get_by_text("anywhere on this page")).to_be_visible()  # it hears its buttons now
    settled(page)
    choose = page.get_by_role("button", name="Choose films")
    with page.expect_file_chooser() as asked:
        for _ in range(10):  # a key, as sent by the driver, is not always a user's act
            choose.press("Space")
            page.wait_for_timeout(1000)
            if asked.is_done():
                break
    asked.value.set_files(folder / "film-0.png")
    expect(page.get_by_role("status", name="Answer")).to_contain_text("pneumonia")

    page.get_by_role("link", name="Worklist").click()
    expect(page.get_by_role("button", name="Choose a folder")).to_be_visible()
    page.set_input_files(".st-key-intake input[name=folder]", tmp_path / "ward")
    standing = page.get_by_role("status", name="Worklist")
    expect(standing).to_contain_text("2 of 2 films flagged")
    expect(page.get_by_role("button", name="monday/film-1.png")).to_be_visible()
