"""The main story in a real browser: a film in, a second opinion out, nothing asked of outside.

Runs `streamlit run app.py` on a free port of this machine and drives Debian's Chromium. The
pictures of docs/ are made by test_screens.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
from bundles import known_table, write_bundle
from PIL import Image
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from skimage.data import camera
from studies import dicom

from cxr_core.evaluation import threshold_report
from cxr_core.images import Radiograph
from cxr_core.phantom import png_bytes, sample_film, thorax
from cxr_core.ui.selection import PAGE
from cxr_core.wording import NOTICE

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "models" / "pediatric-pneumonia"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SCREEN = {"width": 1440, "height": 900}
MATRIX = "[class*=st-key-cells] svg.marks"  # the confusion matrix of the evaluation page
PATIENCE = 120_000  # milliseconds: TensorFlow takes long to load on a busy machine

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session")
def models(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, made to flag every film, and none."""
    root = tmp_path_factory.mktemp("browser-models")
    for name, point in (("tiny", 0.01), ("unflagged", 1 - 1e-6)):
        shutil.copytree(tiny_models / "tiny", root / name)
        path = root / name / "card.json"
        card = json.loads(path.read_text())
        card |= {"name": name, "operating_points": [point], "cannot_tell": [None]}
        path.write_text(json.dumps(card))
    return root


@pytest.fixture(scope="session")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running app."""
    with running(models, tmp_path_factory.mktemp("server") / "log") as address:
        yield address


@contextmanager
def running(models: Path, log: Path) -> Iterator[str]:
    """Start the app and stop it again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}"]
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"CXR_MODELS": str(models), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    pytest.fail(f"the app did not answer: {log.read_text()}")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[BrowserContext]:
    """Chromium with nothing remembered, on a computer that prefers light themes."""
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed: apt-get install chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=CHROMIUM,
            headless=True,
            args=flags,
            viewport=SCREEN,
            color_scheme="light",
        )
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield context
        context.close()


class Witness:
    """What a page asked for, and what it complained of."""

    def __init__(self, page: Page) -> None:
        self.hosts: set[str | None] = set()
        self.complaints: list[str] = []
        page.on("request", lambda request: self.ask(request.url))
        page.on("websocket", lambda opened: self.ask(opened.url))
        page.on("console", self.hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def ask(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.hosts.add(urlsplit(url).hostname)

    def hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)


def open_app(browser: BrowserContext, address: str) -> tuple[Page, Witness]:
    page = browser.new_page()
    witness = Witness(page)
    page.goto(address)
    page.locator(".st-key-intake input[name=films]").wait_for(state="attached")
    return page, witness


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def pixels(page: Page, number: int = 0) -> np.ndarray:
    """What a canvas of the viewer shows, int (h, w, 3)."""
    script = """async (shown) => {
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      const copy = Object.assign(document.createElement("canvas"),
        { width: shown.width, height: shown.height });
      copy.getContext("2d").drawImage(shown, 0, 0);
      return copy.toDataURL("image/png").split(",")[1];
    }"""
    encoded = page.locator(".st-key-lightbox canvas").nth(number).evaluate(script)
    picture = Image.open(BytesIO(b64decode(encoded))).convert("RGB")
    return np.asarray(picture).astype(int)


def colourful(shown: np.ndarray) -> float:
    """The share of pixels that are no grey."""
    return float((np.ptp(shown, axis=2) > 40).mean())


def wait_for_film(page: Page, *, number: int = 0) -> np.ndarray:
    """Wait until the film is on the canvas."""
    page.locator(".st-key-lightbox canvas").nth(number).wait_for()
    for _ in range(100):
        shown = pixels(page, number)
        if shown.max() > 128:
            return shown
        page.wait_for_timeout(100)
    pytest.fail("no film was drawn")


def wait_for_colour(page: Page) -> float:
    """Wait until a map lies on the film; return the share of it that is coloured, or 0."""
    for _ in range(100):
        if share := colourful(wait_for_film(page)):
            return share
        page.wait_for_timeout(100)
    return 0.0


def scheme(page: Page) -> str:
    script = "getComputedStyle(document.querySelector('.stApp')).colorScheme"
    return str(page.evaluate(script))


def settled(page: Page) -> None:
    """Wait until the run that draws the page has ended."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def test_a_film_in_a_second_opinion_out(
    browser: BrowserContext, server: str, tmp_path: Path
) -> None:
    film = tmp_path / "sample.png"
    film.write_bytes(png_bytes(sample_film()))
    page, witness = open_app(browser, server)
    assert scheme(page) == "dark", "a reading room is dark, whatever its computers prefer"
    page.screenshot(path=tmp_path / "empty.png")

    page.set_input_files(".st-key-intake input[name=films]", film)
    answer = page.get_by_role("status", name="Answer")
    expect(answer).to_contain_text("pneumonia")
    expect(answer).to_contain_text("Age not stated; this model knows children of 1-5 years.")
    expect(page.locator(".st-key-lightbox canvas")).to_have_count(1)
    settled(page)
    shown = wait_for_film(page)
    height, width = sample_film().pixels.shape
    lit = (shown.max(axis=2) > 0).any(axis=0)
    assert np.ptp(np.flatnonzero(lit)) <= len(shown) * width / height + 1, "the film is not bent"
    main = page.locator("[data-testid=stMain]")
    assert main.evaluate("it => it.scrollHeight - it.clientHeight") <= 0, "the page scrolls"
    page.screenshot(path=tmp_path / "read.png")

    if "Flag" in answer.inner_text():
        before = pixels(page)
        choose(page, "Explained by", "Integrated gradients")
        expect(page.get_by_text("Integrated gradients:")).to_be_visible()
        settled(page)
        assert (pixels(page) != before).any()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")

    for name, sign in (("Evaluation", "films with"), ("Models", "How not to use it")):
        page.get_by_role("link", name=name).click()
        expect(page.get_by_text(sign).first).to_be_visible()
        expect(page.get_by_text(NOTICE)).to_have_count(1)
        settled(page)
        page.screenshot(path=tmp_path / f"{name.lower()}.png")
    page.get_by_role("link", name="Read").click()
    expect(answer).to_contain_text("pneumonia")
    wait_for_film(page)

    assert witness.hosts == {"127.0.0.1"}
    assert witness.complaints == []


def test_the_gate_refuses_says_why_and_mends_on_one_click(
    browser: BrowserContext, server: str, tmp_path: Path
) -> None:
    chest = thorax(512, 448, seed=3).pixels
    page, witness = open_app(browser, server)
    answer, mend = page.get_by_role("status", name="Answer"), page.locator(".st-key-mend button")

    def drop(name: str, pixels: np.ndarray, told: str, offer: str | None = None) -> None:
        """Drop a picture; it must be answered so, and this be offered, or nothing."""
        film = tmp_path / f"{name}.png"
        film.write_bytes(png_bytes(film_of(pixels)))
        page.set_input_files(".st-key-intake input[name=films]", film)
        expect(answer).to_contain_text(told)
        settled(page)
        expect(mend).to_have_text([offer] if offer else [])

    def mended(done: str) -> None:
        """Click what is offered: it is said to be done, and the film is answered."""
        mend.click()
        expect(page.get_by_text(f"{done} by the reader")).to_be_visible()
        expect(answer).to_contain_text("lag: pneumonia")
        settled(page)
        expect(mend).to_have_count(0)

    drop("good", chest, "lag: pneumonia")
    drop("photograph", camera() / 255, "No answer: this does not look like one frontal chest film")
    drop("upside-down", np.rot90(chest, 2), "looks upside down", "Turn by 180 degrees")
    mended("Turned by 180 degrees")
    turned = "looks turned anticlockwise by 90 degrees"
    drop("turned", np.rot90(chest), turned, "Turn clockwise by 90 degrees")
    drop("part", chest[128:384, 112:336], "No answer: this does not look like one frontal chest")
    borders = "No answer: wide borders of one grey surround the film"
    drop("in-borders", np.pad(chest, 100, constant_values=1), borders, "Crop the even borders")
    mended("Even borders cropped")
    expect(answer).not_to_contain_text("borders")
    assert witness.hosts == {"127.0.0.1"}
    assert witness.complaints == []


def test_a_lateral_film_is_refused(browser: BrowserContext, server: str, data: Path) -> None:
    page, _ = open_app(browser, server)
    film = data / "not_chest_xray" / "lateral" / "lateral_015.jpg"
    page.set_input_files(".st-key-intake input[name=films]", film)
    answer = page.get_by_role("status", name="Answer")
    expect(answer).to_contain_text("No answer: this does not look like one frontal chest film")
    settled(page)
    expect(page.locator(".st-key-mend button")).to_have_count(0)


def film_of(pixels: np.ndarray) -> Radiograph:
    return replace(thorax(64, 64, seed=0), pixels=np.ascontiguousarray(pixels, np.float32))


def expect_matrix(page: Page, *counts: int) -> None:
    """Wait until the drawn matrix holds these films: tn, fp, fn, tp."""
    texts = page.locator(MATRIX).locator(".mark-text text")
    for place, count in enumerate(counts):
        expect(texts.nth(place)).to_have_text(f"{count:,}")


def named(page: Page) -> set[str]:
    """The films that are shown, by the last part of their names."""
    cards = page.locator(".cxr-film").all_text_contents()
    return {match for card in cards for match in re.findall(r"film\d+\.png", card)}


def test_from_the_matrix_to_its_films_and_back_to_the_threshold(
    browser: BrowserContext, tmp_path: Path
) -> None:
    table = known_table()
    write_bundle(tmp_path / "models", "known", table, [0.5])
    missed, found = 30, 360
    with running(tmp_path / "models", tmp_path / "log") as address:
        page = browser.new_page()
        witness = Witness(page)
        page.goto(f"{address}/evaluation")
        expect(page.get_by_text("Of 390 films with pneumonia, 360 were flagged")).to_be_visible()
        settled(page)
        expect_matrix(page, 215, 19, 30, 360)
        page.locator(MATRIX).locator(".mark-rect path").nth(2).click()

        expect(
            page.get_by_text(f"{missed} of {missed + found} films with pneumonia")
        ).to_be_visible()
        settled(page)
        wrong = (table.y_true[:, 0] == 1) & (table.y_score[:, 0] < 0.5)
        names = {Path(table.files[row]).name for row in np.flatnonzero(wrong)}
        assert named(page) < names
        page.get_by_role("button", name="Next").click()
        expect(page.locator(".cxr-film")).to_have_count(missed - PAGE)
        settled(page)
        others = named(page)
        assert len(others) == missed - PAGE
        assert others < names

        expect(page.locator("#vg-tooltip-element.visible")).to_have_count(0)
        page.get_by_role("link", name="Evaluation").click()
        slider = page.get_by_role("slider", name="Threshold to try")
        expect(slider).to_have_value("0.5")
        settled(page)
        before = page.locator(MATRIX).element_handle()
        slider.focus()
        for _ in range(21):
            slider.press("ArrowRight")
        expect(page.get_by_text("You are trying threshold 0.71")).to_be_visible()
        settled(page)
        at = threshold_report(table.y_true[:, 0], table.y_score[:, 0], 0.71)
        assert at.confusion == ((234, 0), (30, 360))
        expect_matrix(page, 234, 0, 30, 360)
        assert before is not None
        assert before.evaluate("it => it.isConnected"), "the chart was drawn anew"

        page.get_by_role("radio", name="Files", exact=True).click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Evaluation report, PDF").click()
        assert Path(download.value.path()).read_bytes().startswith(b"%PDF")
        assert witness.hosts == {"127.0.0.1"}
        # Opened by a page's own address, Streamlit looks for its endpoints below it first.
        assert [one for one in witness.complaints if "404 (Not Found)" not in one] == []


def open_sample(browser: BrowserContext, address: str) -> tuple[Page, Witness]:
    """Open the app with the sample film, read and checked."""
    page, witness = open_app(browser, address)
    page.get_by_role("button", name="Try the sample film").first.click()
    expect(page.get_by_role("status", name="Answer")).to_contain_text("pneumonia")
    wait_for_film(page)
    settled(page)
    return page, witness


def test_the_keyboard_takes_the_overlay_off_and_on(browser: BrowserContext, server: str) -> None:
    page, witness = open_sample(browser, server)
    original = page.get_by_role("button", name="Original", exact=True)
    overlaid = pixels(page)
    assert colourful(overlaid) > 0.02
    page.keyboard.press("o")
    expect(original).to_have_attribute("aria-pressed", "true")
    assert colourful(pixels(page)) == 0
    page.keyboard.press("o")
    expect(original).to_have_attribute("aria-pressed", "false")
    assert (pixels(page) == overlaid).all()
    choose(page, "Explained by", "SmoothGrad")  # no other method can contradict it
    expect(page.get_by_text("SmoothGrad:")).to_be_visible()
    settled(page)  # a map that comes is shown, whatever was pressed while it came
    page.keyboard.press("o")
    expect(original).to_have_attribute("aria-pressed", "true")
    assert witness.complaints == []


def test_a_region_is_left_out_at_a_click(browser: BrowserContext, server: str) -> None:
    page, witness = open_sample(browser, server)
    glass = page.locator(".st-key-lightbox canvas")
    before = pixels(page)
    glass.click()
    sentence = page.get_by_text("Without this region: pneumonia")
    expect(sentence).to_contain_text("→")
    settled(page)
    frame = page.locator(".st-key-lightbox .region")
    expect(frame).to_be_visible()
    box, outline = glass.bounding_box(), frame.bounding_box()
    assert box is not None
    assert outline is not None
    assert outline["width"] == pytest.approx(outline["height"], abs=2), "a square of the film"
    assert outline["x"] + outline["width"] / 2 == pytest.approx(box["x"] + box["width"] / 2, abs=3)
    main = page.locator("[data-testid=stMain]")
    assert main.evaluate("it => it.scrollHeight - it.clientHeight") <= 0, "the page scrolls"
    page.get_by_role("button", name="Clear the region").click()
    expect(sentence).to_have_count(0)
    settled(page)
    expect(frame).to_be_hidden()
    page.wait_for_function(f"innerHeight == {SCREEN['height']}")
    assert (pixels(page) == before).all(), "the film's own picture was never altered"
    assert witness.complaints == []


def test_two_methods_stand_side_by_side_on_one_zoom(browser: BrowserContext, server: str) -> None:
    page, witness = open_sample(browser, server)
    choose(page, "Beside it", "Original")
    drawn, plain = wait_for_film(page), wait_for_film(page, number=1)
    settled(page)
    assert colourful(drawn) > 0.02
    assert colourful(plain) == 0
    choose(page, "Beside it", "Integrated gradients")
    expect(page.get_by_text("Integrated gradients:")).to_be_visible()
    settled(page)
    page.get_by_label("Opacity").fill("0")
    page.locator(".st-key-lightbox canvas").nth(1).hover()
    page.mouse.wheel(0, -500)
    expect(page.locator(".st-key-lightbox output")).to_contain_text(": 1")
    left, right = pixels(page, 0), pixels(page, 1)
    assert np.abs(left - right).max() <= 1, "the same film, the same part of it"
    assert witness.hosts == {"127.0.0.1"}
    assert witness.complaints == []


def test_the_prior_film_stands_beside_the_current_and_the_change_is_said(
    browser: BrowserContext, server: str, tmp_path: Path
) -> None:
    """With CXR_SCREENSHOT_PRIOR=PATH the page is saved there."""
    wide = thorax(512, 560, seed=1)  # the earlier film is of another shape
    page, witness = open_app(browser, server)
    page.set_input_files(
        ".st-key-intake input[name=films]",
        [
            {"name": name, "mimeType": "application/dicom", "buffer": data}
            for name, data in (
                ("now.dcm", dicom("20250610", ill=True)),
                ("then.dcm", dicom("20250503", film=wide)),
            )
        ],
    )
    answer = page.get_by_role("status", name="Answer")
    expect(answer).to_contain_text("pneumonia")
    settled(page)
    page.locator("label").filter(has_text="now.dcm").first.click()
    expect(answer.locator(".change")).to_contain_text("3 May 2025")
    expect(page.locator(".st-key-lightbox canvas")).to_have_count(2)
    expect(page.locator(".st-key-lightbox")).to_contain_text("Prior, 3 May 2025")
    expect(page.locator(".cxr-bar span.was").first).to_contain_text("was 0.")
    settled(page)
    assert colourful(wait_for_film(page, number=1)) == 0, "no map lies over the prior"
    for theme in ("dark", "light"):
        shot = tmp_path / f"prior-{theme}.png"
        page.screenshot(path=shot)
        if os.environ.get("CXR_SCREENSHOT_PRIOR"):
            shutil.copy(shot, os.environ["CXR_SCREENSHOT_PRIOR"].format(theme))
        if theme == "dark":
            page.get_by_role("button", name="Main menu").click()
            page.get_by_role("menuitemradio", name="Light").click()
            page.keyboard.press("Escape")
            expect(answer.locator(".change")).to_be_visible()
    choose(page, "Compared with the prior film", "none")
    expect(answer.locator(".change")).to_have_count(0)
    expect(page.locator(".st-key-lightbox canvas")).to_have_count(1)
    assert witness.hosts == {"127.0.0.1"}
    assert witness.complaints == []


def test_what_is_withheld_is_shown_at_a_click(browser: BrowserContext, server: str) -> None:
    page, witness = open_sample(browser, server)
    choose(page, "Model", "unflagged")
    expect(page.get_by_text("No explanation: pneumonia was not flagged")).to_be_visible()
    settled(page)
    assert colourful(wait_for_film(page)) == 0
    page.get_by_role("button", name="Show it all the same").click()
    expect(page.get_by_text("This explains pneumonia, which was not flagged.")).to_be_visible()
    expect(page.get_by_text("Grad-CAM:")).to_be_visible()
    settled(page)
    assert wait_for_colour(page) > 0.02
    assert witness.complaints == []


def test_a_film_is_sent_once_however_often_its_map_changes(
    browser: BrowserContext, server: str
) -> None:
    page = browser.new_page()
    frames: list[int] = []
    page.on(
        "websocket",
        lambda opened: opened.on("framereceived", lambda said: frames.append(len(said))),
    )
    page.goto(server)
    page.locator(".st-key-intake input[name=films]").wait_for(state="attached")
    page.get_by_role("button", name="Try the sample film").first.click()
    wait_for_film(page)
    settled(page)
    film = sample_film().pixels.size
    assert max(frames) > film
    frames.clear()
    choose(page, "Explained by", "Layer-CAM")
    # Once it was checked: of a network that knows nothing another method may contradict it.
    checked = page.get_by_text(re.compile("Layer-CAM:.*On this film:|Map withheld:"))
    expect(checked.first).to_be_visible()
    settled(page)
    if page.get_by_text("Map withheld:").count():
        page.get_by_role("button", name="Show it all the same").click()
        expect(page.get_by_text("Layer-CAM:")).to_be_visible()
        settled(page)
    page.get_by_role("button", name="Invert").click()
    page.get_by_label("Opacity").fill("20")
    assert frames
    assert sum(frames) < film / 4


def test_the_light_theme_is_a_switch_away_and_stays(browser: BrowserContext, server: str) -> None:
    page, witness = open_app(browser, server)
    page.get_by_role("button", name="Main menu").click()
    page.get_by_role("menuitemradio", name="Light").click()
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.stApp')).colorScheme == 'light'"
    )
    page.reload()
    page.locator(".st-key-intake input[name=films]").wait_for(state="attached")
    assert scheme(page) == "light"
    assert witness.complaints == []


def test_the_light_theme_stays_also_where_the_computer_is_dark(
    browser: BrowserContext, server: str
) -> None:
    page = browser.new_page()
    page.emulate_media(color_scheme="dark")
    page.goto(server)
    page.locator(".st-key-intake input[name=films]").wait_for(state="attached")
    assert scheme(page) == "dark"
    page.get_by_role("button", name="Main menu").click()
    page.get_by_role("menuitemradio", name="Light").click()
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.stApp')).colorScheme == 'light'"
    )
    for _ in range(2):
        page.reload()
        page.locator(".st-key-intake input[name=films]").wait_for(state="attached")
        settled(page)
        assert scheme(page) == "light", "the choice was the reader's"


def test_the_dark_theme_comes_first_on_every_page(browser: BrowserContext, server: str) -> None:
    page = browser.new_page()
    page.goto(f"{server}/evaluation")
    expect(page.get_by_text("films with").first).to_be_visible()
    assert scheme(page) == "dark"


def test_a_browser_that_keeps_nothing_follows_its_computer(
    browser: BrowserContext, server: str
) -> None:
    browser.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('kept nowhere') }})"
    )
    page, _ = open_app(browser, server)
    assert scheme(page) == "light"


def test_many_files_dropped_at_once_are_all_taken(
    browser: BrowserContext, server: str, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "no-extension"
    good.write_bytes(png_bytes(sample_film()))
    bad.write_bytes(bytes(range(256)) * 40_000)  # slower to arrive than the film
    page, witness = open_app(browser, server)
    page.set_input_files(".st-key-intake input[name=films]", [bad, good])
    expect(page.get_by_role("status", name="Answer")).to_contain_text("pneumonia")
    expect(page.get_by_role("alert")).to_contain_text("no-extension")
    expect(page.get_by_text("good.png")).to_be_visible()
    assert witness.hosts == {"127.0.0.1"}


@pytest.mark.parametrize("name", ["models", "datasets"])
def test_the_first_visitor_of_a_server_may_come_by_a_pages_own_address(
    models: Path, tmp_path: Path, browser: BrowserContext, name: str
) -> None:
    with running(models, tmp_path / "log") as address:
        page = browser.new_page()
        page.goto(f"{address}/{name}")
        expect(page.get_by_text(NOTICE)).to_be_visible()
        assert urlsplit(page.url).path == f"/{name}"


def answered(page: Page) -> str:
    """Wait for an answer and return its first line."""
    answer = page.get_by_role("status", name="Answer")
    expect(answer).to_contain_text("pneumonia")
    settled(page)
    return answer.inner_text()


def test_many_films_are_read_in_turn_opened_and_found_again(
    models: Path, browser: BrowserContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_RECORDS", f"sqlite:///{tmp_path / 'records.sqlite'}")
    for seed in (1, 2):
        (tmp_path / f"film{seed}.png").write_bytes(png_bytes(thorax(256, 224, seed=seed)))
    (tmp_path / "notes.txt").write_text("these are notes")
    files = [tmp_path / name for name in ("notes.txt", "film1.png", "film2.png")]
    with running(models, tmp_path / "log") as address:
        page = browser.new_page()
        witness = Witness(page)
        page.goto(f"{address}/worklist")
        page.set_input_files(".st-key-intake input[name=films]", files)
        standing = page.get_by_role("status", name="Worklist")
        expect(standing).to_contain_text("2 of 3 films flagged")
        expect(standing).not_to_contain_text("so far")
        settled(page)
        expect(page.get_by_text("The file is plain text, not a picture")).to_be_visible()
        lines = page.locator("[class*=st-key-listed-] .state")
        assert lines.all_inner_texts() == ["Flag", "Flag", "Not read"]
        main = page.locator("[data-testid=stMain]")
        assert main.evaluate("it => it.scrollHeight - it.clientHeight") <= 0, "the page scrolls"

        names = page.locator("[class*=st-key-open-] button")
        first, second = names.nth(0).inner_text(), names.nth(1).inner_text()
        names.nth(0).click()
        answered(page)
        expect(page.get_by_text("1 of 2 on the list")).to_be_visible()
        expect(page.get_by_text(first)).to_be_visible()
        page.keyboard.press("n")
        expect(page.get_by_text("2 of 2 on the list")).to_be_visible()
        answered(page)
        expect(page.get_by_text(second)).to_be_visible()
        page.keyboard.press("l")
        expect(standing).to_contain_text("2 of 3 films flagged")
        expect(page.get_by_text("seen ")).to_have_count(2)

        page.reload()
        expect(standing).to_contain_text("2 of 3 films flagged")
        expect(page.get_by_text("To look at it, drop it again.")).to_have_count(2)
        assert witness.hosts == {"127.0.0.1"}
        assert [one for one in witness.complaints if "404 (Not Found)" not in one] == []


def test_the_reader_commits_before_the_answer_is_sent(
    models: Path, browser: BrowserContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_RECORDS", f"sqlite:///{tmp_path / 'records.sqlite'}")
    monkeypatch.setenv("CXR_READ_FIRST", "1")
    with running(models, tmp_path / "log") as address:
        page, witness = open_app(browser, address)
        received: list[bytes] = []

        def hear(said: str | bytes) -> None:
            received.append(said.encode() if isinstance(said, str) else said)

        page.on("websocket", lambda opened: opened.on("framereceived", hear))
        page.reload()
        page.locator(".st-key-intake input[name=films]").wait_for(state="attached")
        page.get_by_role("button", name="Try the sample film").first.click()
        expect(page.get_by_role("status", name="Read first")).to_contain_text("What do you see?")
        wait_for_film(page)
        settled(page)
        assert colourful(pixels(page)) == 0
        sent = b"".join(received)
        assert sent
        for told in (b"Flag:", b'class="cxr-bar', b"Explained by", b"films scoring like this"):
            assert told not in sent, told
        show = page.get_by_role("button", name="Show the answer")
        expect(show).to_be_disabled()
        page.get_by_text("Absent", exact=True).click()
        page.get_by_role("radio", name="4", exact=True).click()
        expect(show).to_be_enabled()
        show.click()
        assert "Flag" in answered(page)
        compared = "You said absent, sure 4 of 5; the model flags it."
        expect(page.get_by_text(compared)).to_be_visible()
        page.get_by_text("Disagree", exact=True).click()
        page.get_by_role("button", name="Keep").click()
        expect(page.get_by_text("Your opinion on pneumonia (2 so far)")).to_be_visible()
        assert witness.complaints == []
