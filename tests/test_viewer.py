"""The viewer, alone in a real browser: its pixels read back and compared with `overlays`.

The component's own files run in Debian's Chromium on a bare page, fed with what `canvas`
packs; no server and no network. What Python makes of clicks, and the reading page around
the viewer, are in test_pages and test_browser.
"""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page, sync_playwright
from streamlit.testing.v1 import AppTest

from cxr_core import overlays
from cxr_core.errors import ArgumentError
from cxr_core.images import Facts, Radiograph
from cxr_core.phantom import thorax
from cxr_core.preprocess import Placement, Preprocessing, place, restore
from cxr_core.ui import canvas
from cxr_core.ui.canvas import Layer, Pane
from cxr_core.ui.session import Film, reduced

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
HEIGHT, WIDTH = 300, 240
WITHOUT_WEBGL = """
const give = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind === "webgl2" ? null : give.call(this, kind, ...rest);
};"""
# Chromium without a graphics processor draws WebGL in software, which the viewer declines.
WITH_WEBGL = """
const tell = WebGL2RenderingContext.prototype.getParameter;
WebGL2RenderingContext.prototype.getParameter = function (what) {
  return what === 37446 ? "a graphics processor" : tell.call(this, what); // the renderer
};"""
HARNESS = """
async ({ html, css, film, viewer }) => {
  const module = (text) => import(URL.createObjectURL(new Blob([text], {type: "text/javascript"})));
  const [hold, show] = [(await module(film)).default, (await module(viewer)).default];
  document.body.innerHTML =
    `<input id="typing"><div id="film"></div><div id="film-1"></div>` +
    `<div id="host"><style>${css}</style>${html}</div>`;
  document.body.style.margin = 0;
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const at = (id) => document.getElementById(id);
  Object.assign(globalThis, { hold, bytes, told: [] });
  globalThis.sendFilm = (text, place = "film") => hold({ data: bytes(text),
    parentElement: at(place), setTriggerValue: (name, value) => told.push([name, value]) });
  globalThis.sendPanes = (text) => show({ data: bytes(text), parentElement: at("host"),
    setTriggerValue: (name, value) => told.push([name, value]) });
  globalThis.frames = () => new Promise((done) =>
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))));
  globalThis.pixels = async (number) => {
    await frames();
    const shown = document.querySelectorAll("canvas")[number];
    const copy = Object.assign(document.createElement("canvas"),
      { width: shown.width, height: shown.height });
    const pen = copy.getContext("2d");
    pen.drawImage(shown, 0, 0);
    const { data } = pen.getImageData(0, 0, copy.width, copy.height);
    let text = "";
    for (let k = 0; k < data.length; k += 32768)
      text += String.fromCharCode(...data.subarray(k, k + 32768));
    return [copy.width, copy.height, btoa(text)];
  };
}"""

browser_only = pytest.mark.browser


@dataclass
class Room:
    """A page with the viewer in it."""

    page: Page

    def send(self, film: Film, *panes: Pane, region: Any = None, asks: bool = True) -> None:
        self.page.evaluate("text => sendFilm(text)", packed(sent(film)))
        for pane in panes:
            if pane.film is not None:
                self.page.evaluate("text => sendFilm(text, 'film-1')", packed(sent(pane.film)))
        self.draw(film, *panes, region=region, asks=asks)

    def draw(self, film: Film, *panes: Pane, region: Any = None, asks: bool = True) -> None:
        names = [(pane.film or film).name for pane in panes]
        told = canvas.packed_panes(film.name, panes, region, asks=asks, films=names)
        self.page.evaluate("async (text) => { sendPanes(text); await frames(); }", packed(told))

    def turn(self, notches: int, zoom: float) -> None:
        """Turn the wheel one notch after another, until the film is so large."""
        for _ in range(abs(notches)):
            self.page.mouse.wheel(0, -100 if notches > 0 else 100)
        view = "document.querySelector('.viewer').viewer.view"
        self.page.wait_for_function(f"Math.abs({view}.zoom - {zoom}) < 1e-6")

    def pixels(self, number: int = 0) -> np.ndarray:
        """Return what a pane's canvas holds, int (h, w, 3)."""
        width, height, text = self.page.evaluate("number => pixels(number)", number)
        data = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)
        assert (data[..., 3] == 255).all()
        return data[..., :3].astype(int)

    def film_pixels(self, film: Film, number: int = 0, turns: int = 0) -> np.ndarray:
        """Return the film's part of the canvas at one pixel for one, as pressing 1:1 shows it."""
        self.press("1:1")
        shown = self.pixels(number)
        height, width = film.radiograph.pixels.shape[:: -1 if turns % 2 else 1]
        top, left = -(-(shown.shape[0] - height) // 2), -(-(shown.shape[1] - width) // 2)
        return shown[top : top + height, left : left + width]

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def slide(self, name: str, value: int) -> None:
        self.page.get_by_label(name).fill(str(value))

    def told(self) -> list[Any]:
        return list(self.page.evaluate("told.splice(0)"))

    def point(self, across: float, down: float, number: int = 0) -> tuple[float, float]:
        """Return where a share of a pane's canvas lies on the page."""
        box = self.page.locator("canvas").nth(number).bounding_box()
        assert box is not None
        return box["x"] + across * box["width"], box["y"] + down * box["height"]


def sent(film: Film) -> bytes:
    return packed_sheet(film, film.shown)


def packed_sheet(film: Film, pixels: np.ndarray, *, follows: bool = False) -> bytes:
    greys = canvas._greys(pixels, film.radiograph.facts.bits)
    return canvas.packed_film(film, film.name, greys, follows=follows)


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(params=["webgl", "software"])
def either_room(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Room]:
    """The viewer with WebGL 2, and in a browser that has none."""
    yield from rooms(chromium, WITHOUT_WEBGL if request.param == "software" else WITH_WEBGL)


@pytest.fixture
def room(chromium: Any) -> Iterator[Room]:
    yield from rooms(chromium, WITH_WEBGL)


def rooms(chromium: Any, script: str) -> Iterator[Room]:
    page = chromium.new_page(viewport={"width": 700, "height": 620}, has_touch=True)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
    if script:
        page.add_init_script(script)
    page.goto("about:blank")
    texts = {
        "html": canvas._text("viewer.html"),
        "css": canvas._text("viewer.css") + ":root { --cxr-viewer-height: 520px; }",
        "film": canvas._text(*canvas.FILM_SCRIPTS),
        "viewer": canvas._text(*canvas.SCRIPTS),
    }
    page.evaluate(HARNESS, texts)
    yield Room(page)
    page.close()
    assert complaints == []


def film_of(
    pixels: np.ndarray, *, bits: int = 8, name: str = "one", shown: int = 4096, **facts: Any
) -> Film:
    taken = np.asarray(pixels, np.float32)
    radiograph = Radiograph(taken, Facts("PNG", bits, "MONOCHROME2", **facts), name)
    return Film(name, radiograph, reduced(taken, shown))


def chest(name: str = "one", bits: int = 8) -> Film:
    return film_of(thorax(HEIGHT, WIDTH, seed=3).pixels, name=name, bits=bits)


def bump(rows: int, columns: int, at: tuple[float, float], width: float) -> np.ndarray:
    """A smooth hill on a grid of cells; `at` in shares of the height and the width."""
    y, x = np.mgrid[:rows, :columns]
    distance = np.hypot((y + 0.5) / rows - at[0], (x + 0.5) / columns - at[1])
    return np.exp(-((distance / width) ** 2)).astype(np.float32)


def fitted(values: np.ndarray, placement: Placement, *, signed: bool = False) -> Pane:
    """Lay a map over a film as the reading page does."""
    end = overlays.full_colour(restore(values, placement), signed=signed)
    assert end is not None
    layer = Layer(
        (values / np.float32(end)).astype(np.float32),
        canvas.square_of(placement),
        signed,
        ("against", "for") if signed else ("nothing", "for"),
    )
    return Pane("Map", "Film with its map", layer)


def whole(pixels: np.ndarray) -> Placement:
    return place(*pixels.shape, Preprocessing(size=64))


PLAIN = Pane("Original", "Film")
HILL = bump(8, 8, (0.4, 0.6), 0.25)


# --- pixels ---


@browser_only
@pytest.mark.parametrize("bits", [8, 12])
def test_the_film_is_shown_as_it_is(either_room: Room, bits: int) -> None:
    film = chest(bits=bits)
    either_room.send(film, PLAIN)
    shown = either_room.film_pixels(film)
    assert np.abs(shown - overlays.to_grey(film.shown)[..., None]).max() <= 1


@browser_only
def test_sixteen_bits_survive_a_narrow_window(either_room: Room) -> None:
    """Greys that eight bits would join are told apart when the window opens between them."""
    ramp = np.tile(np.linspace(0.5, 0.5 + 16 / 65535, WIDTH), (HEIGHT, 1))
    film = film_of(ramp, bits=16)
    either_room.send(film, PLAIN)
    assert len(np.unique(either_room.film_pixels(film))) <= 2
    either_room.page.evaluate(
        "Object.assign(document.querySelector('.viewer').viewer.panes[0].greys,"
        " { width: 16 / 65535, level: 0.5 + 8 / 65535 })"
    )
    row = either_room.film_pixels(film)[HEIGHT // 2, :, 0]
    assert len(np.unique(row)) >= 14
    assert (np.diff(row) >= 0).all()


@browser_only
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_map_lies_exactly_where_restore_puts_it(
    either_room: Room, fit: Any, signed: bool
) -> None:
    film = chest()
    placement = place(HEIGHT, WIDTH, Preprocessing(size=64, fit=fit))
    values = bump(8, 8, (0.3, 0.7), 0.3) - (bump(8, 8, (0.8, 0.3), 0.2) if signed else 0)
    either_room.send(film, fitted(values, placement, signed=signed))
    either_room.press("Heatmap")
    shown = either_room.film_pixels(film)
    drawn = overlays.overlay(film.shown, restore(values, placement), signed=signed).astype(int)
    apart = np.abs(shown - drawn)
    assert (drawn.max(axis=2) - drawn.min(axis=2)).max() > 80, "the map is coloured"
    # A value on the border of two of the 256 levels may fall to either side: 2 greys at most.
    assert apart.max() <= 4
    assert (apart <= 1).mean() > 0.99
    moved = np.abs(np.roll(shown, 2, axis=1) - drawn)
    assert (moved <= 1).mean() < 0.9, "two pixels aside it would not fit"


@browser_only
def test_no_opacity_is_the_film(either_room: Room) -> None:
    film = chest()
    either_room.send(film, fitted(HILL, whole(film.shown)))
    coloured = either_room.film_pixels(film)
    peak = int(0.4 * HEIGHT), int(0.6 * WIDTH)
    assert np.ptp(coloured[peak]) > 60, "coloured where the map peaks"
    either_room.slide("Opacity", 0)
    grey = overlays.to_grey(film.shown)[..., None]
    assert np.abs(either_room.film_pixels(film) - grey).max() <= 1
    either_room.slide("Opacity", 100)
    full = either_room.film_pixels(film)
    assert np.ptp(full[peak]) > np.ptp(coloured[peak])


@browser_only
def test_what_lies_below_the_threshold_is_hidden(either_room: Room) -> None:
    film = chest()
    either_room.send(film, fitted(HILL, whole(film.shown)))
    either_room.press("Heatmap")
    before = either_room.film_pixels(film)
    either_room.slide("Hide below", 60)
    after = either_room.film_pixels(film)
    values = restore(HILL, whole(film.shown))
    share, grey = values / values.max(), overlays.to_grey(film.shown)[..., None]
    assert np.abs(after - grey)[share < 0.59].max() <= 1
    assert (after == before)[share > 0.61].all()
    assert (np.abs(before - grey).max(axis=2) > 8)[(share > 0.4) & (share < 0.59)].mean() > 0.9


@browser_only
def test_the_contour_runs_at_half_of_the_peak_and_nowhere_else(either_room: Room) -> None:
    film = film_of(np.full((HEIGHT, WIDTH), 0.3))
    values = bump(32, 32, (0.5, 0.5), 0.3)
    either_room.send(film, fitted(values, whole(film.shown)))
    either_room.press("Contour")
    shown = either_room.film_pixels(film)
    share = restore(values, whole(film.shown))
    share = share / share.max()
    touched = np.abs(shown - overlays.to_grey(film.shown)[..., None]).max(axis=2) > 3
    assert not touched[np.abs(share - 0.5) > 0.1].any()
    line = np.array([255, 210, 122])  # overlays.LINE
    near = np.abs(shown - line).max(axis=2) < 30
    assert near[np.abs(share - 0.5) < 0.004].mean() > 0.9


@browser_only
def test_no_contour_runs_beside_a_step_that_stops_short(either_room: Room) -> None:
    film = film_of(np.full((HEIGHT, WIDTH), 0.3))
    values = np.full((64, 64), 0.1, np.float32)
    values[16:48, 16:48] = 0.45
    values[30:34, 30:34] = 1
    either_room.send(film, fitted(values, whole(film.shown)))
    either_room.press("Contour")
    touched = (np.ptp(either_room.film_pixels(film), axis=2) > 3).reshape(HEIGHT, WIDTH)
    rows, columns = np.nonzero(touched)
    assert len(rows) > 50, "the line around the peak"
    # From cell 29 to cell 35 of 64, and three pixels for the line itself.
    assert rows.min() > 29 / 64 * HEIGHT - 3
    assert rows.max() < 35 / 64 * HEIGHT + 3
    assert columns.min() > 29 / 64 * WIDTH - 3
    assert columns.max() < 35 / 64 * WIDTH + 3


@browser_only
def test_invert_swaps_black_and_white(either_room: Room) -> None:
    film = chest()
    either_room.send(film, PLAIN)
    either_room.press("Invert")
    inverted = either_room.film_pixels(film)
    assert np.abs(inverted - (255 - overlays.to_grey(film.shown)[..., None].astype(int))).max() <= 1
    either_room.press("Reset")
    upright = either_room.film_pixels(film)
    assert np.abs(upright - overlays.to_grey(film.shown)[..., None]).max() <= 1


@browser_only
def test_the_whole_film_fits_and_around_it_is_black(either_room: Room) -> None:
    film = film_of(np.full((HEIGHT, WIDTH), 0.5))
    either_room.send(film, PLAIN)
    shown = either_room.pixels()[..., 0]
    lit = shown > 64
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height == len(shown)
    assert width / height == pytest.approx(WIDTH / HEIGHT, abs=0.01)
    assert np.abs(columns.mean() - shown.shape[1] / 2) <= 1
    assert (shown[~lit] == 0).all()


@browser_only
def test_nothing_is_left_of_how_the_film_was_looked_at_before(either_room: Room) -> None:
    """After each step, what is kept from frame to frame shows what a new viewer works out."""
    room, film = either_room, chest(bits=12)
    other = film_of(thorax(HEIGHT, WIDTH, seed=5).pixels, name="other")
    hill = fitted(HILL, whole(film.shown))
    room.send(film, hill)
    stage = room.page.locator("canvas").first

    def keys(*names: str) -> Callable[[], None]:
        def press() -> None:
            for name in names:
                stage.press(name)

        return press

    steps: dict[str, Callable[[], None]] = {
        "window": keys("Shift+ArrowUp", "Shift+ArrowLeft"),
        "zoom": keys("+", "+", "+", "+"),
        "move": keys("ArrowRight", "ArrowUp", "ArrowRight"),
        "turn": keys("t"),
        "move, turned": keys("ArrowDown", "ArrowLeft"),
        "colours": keys("c"),
        "opacity": lambda: room.slide("Opacity", 80),
        "threshold": lambda: room.slide("Hide below", 40),
        "style": lambda: room.press("Contour"),
        "invert": keys("i"),
        "another map": lambda: room.draw(
            film, fitted(bump(8, 8, (0.6, 0.4), 0.3), whole(film.shown))
        ),
        "reset": keys("0"),
        "another film, looked at alike": lambda: room.send(other, hill),
        "the film again": lambda: room.send(film, hill),
        "two panes": lambda: room.draw(film, hill, PLAIN),
        "one pane": lambda: room.draw(film, PLAIN),
    }
    before = room.pixels()
    for name, step in steps.items():
        step()
        kept = room.pixels()
        assert kept.shape != before.shape or (kept != before).any(), f"{name} changes something"
        room.page.evaluate(
            """() => {
              const { viewer } = document.querySelector(".viewer");
              for (const pane of viewer.panes)
                if (pane.painter.pen) pane.painter = new pane.painter.constructor(pane.canvas);
                else pane.painter.begin();
              viewer.refresh();
            }"""
        )
        assert (room.pixels() == kept).all(), f"{name}: as drawn anew"
        before = kept


@browser_only
def test_both_ways_of_drawing_agree_where_the_film_is_reduced(chromium: Any) -> None:
    film = film_of(thorax(1500, 1200, seed=3).pixels, bits=12)
    drawn = []
    for script in (WITH_WEBGL, WITHOUT_WEBGL):
        for room in rooms(chromium, script):
            room.send(film, fitted(HILL, whole(film.shown)))
            room.press("Heatmap")
            drawn.append([room.pixels()])
            for key in "+++":
                room.page.keyboard.press(key)
            drawn[-1].append(room.pixels())
    for webgl, plain in zip(*drawn, strict=True):
        apart = np.abs(webgl - plain)
        assert apart.mean() < 1
        assert (apart <= 4).mean() > 0.99


@browser_only
def test_webgl_in_software_is_declined(chromium: Any) -> None:
    for room in rooms(chromium, ""):
        film = chest()
        room.send(film, fitted(HILL, whole(film.shown)))
        painter = "document.querySelector('.viewer').viewer.panes[0].painter.constructor.name"
        assert room.page.evaluate(painter) == "SoftwarePainter"
        assert (room.pixels() > 0).any()


@browser_only
def test_a_lost_drawing_context_is_taken_up_again(room: Room) -> None:
    film = chest()
    room.send(film, fitted(HILL, whole(film.shown)))
    before = room.pixels()
    room.page.evaluate(
        """async () => {
          const canvas = document.querySelector("canvas");
          const hold = canvas.getContext("webgl2").getExtension("WEBGL_lose_context");
          const heard = (name) => new Promise((done) => canvas.addEventListener(name, done));
          const lost = heard("webglcontextlost"), back = heard("webglcontextrestored");
          hold.loseContext();
          await lost;
          setTimeout(() => hold.restoreContext());
          await back;
        }"""
    )
    assert (room.pixels() == before).all()


@browser_only
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_film_takes_all_that_lies_on_it_along(either_room: Room, turns: int) -> None:
    film = chest()
    placement = place(HEIGHT, WIDTH, Preprocessing(size=64, fit="letterbox"))
    values = bump(8, 8, (0.3, 0.7), 0.3)
    region = (0.2, 0.6, 0.4, 0.9)
    either_room.send(film, fitted(values, placement), region=region)
    either_room.press("Heatmap")
    for _ in range(turns):
        either_room.press("Turn")
    shown = either_room.film_pixels(film, turns=turns)
    drawn = np.rot90(overlays.overlay(film.shown, restore(values, placement)), -turns).astype(int)
    apart = np.abs(shown - drawn)
    assert apart.max() <= 4
    assert (apart <= 1).mean() > 0.99
    frame, box = (either_room.page.locator(one).bounding_box() for one in (".region", "canvas"))
    assert frame is not None
    assert box is not None
    mask = np.zeros((HEIGHT, WIDTH))
    mask[int(0.6 * HEIGHT) : int(0.9 * HEIGHT), int(0.2 * WIDTH) : int(0.4 * WIDTH)] = 1
    rows, columns = np.nonzero(np.rot90(mask, -turns))
    height, width = np.rot90(mask, -turns).shape
    left, top = frame["x"] - box["x"], frame["y"] - box["y"]
    assert left == pytest.approx(columns.min() + (box["width"] - width) / 2, abs=1.5)
    assert top == pytest.approx(rows.min() + (box["height"] - height) / 2, abs=1.5)
    either_room.page.mouse.click(frame["x"] + 5, frame["y"] + 5)
    assert either_room.told() == [["asked", []]], "a click into the region"
    assert "on screen only" in either_room.page.locator("output").inner_text()
    assert f"{90 * turns}°" in either_room.page.locator("output").inner_text()


@browser_only
@pytest.mark.parametrize(("bits", "follows"), [(8, True), (12, False), (16, True)])
def test_zoomed_in_the_film_has_its_own_pixels(either_room: Room, bits: int, follows: bool) -> None:
    film = film_of(thorax(900, 800, seed=3).pixels, bits=bits, shown=600)
    own = film.radiograph.pixels
    either_room.send(film, PLAIN)
    assert either_room.told() == [], "as large as the screen is enough for the whole"
    either_room.press("1:1")
    coarse = either_room.pixels()
    ((name, side),) = either_room.told()
    assert name == "wanted"
    assert side >= 4096
    assert "finer pixels follow" in either_room.page.locator("output").inner_text()
    own_sheet = packed(packed_sheet(film, own, follows=follows))
    place = "film-1" if follows else "film"
    either_room.page.evaluate("told => sendFilm(...told)", [own_sheet, place])
    shown = either_room.pixels()
    height, width = shown.shape[:2]
    top, left = int((900 - height) / 2), int((800 - width) / 2)
    there = overlays.to_grey(own)[top : top + height, left : left + width, None].astype(int)
    assert np.abs(shown - there).max() <= 1
    assert np.abs(coarse - there).max() > 8
    assert "finer" not in either_room.page.locator("output").inner_text()
    either_room.page.evaluate("text => sendFilm(text)", packed(sent(film)))
    assert (either_room.pixels() == shown).all(), "and keeps them"
    assert either_room.told() == [], "asked for once"


@browser_only
def test_a_film_too_large_for_the_browser_says_so(room: Room) -> None:
    film = film_of(thorax(HEIGHT, WIDTH, seed=3).pixels, shown=100)
    room.send(film, PLAIN)
    room.press("1:1")
    bounded = packed_sheet(film, reduced(film.radiograph.pixels, 200))
    room.page.evaluate("text => sendFilm(text)", packed(bounded))
    room.pixels()
    assert "too large for its own pixels" in room.page.locator("output").inner_text()


@browser_only
def test_the_colours_of_a_map_are_the_readers_choice(either_room: Room) -> None:
    film = chest()
    either_room.send(film, fitted(HILL, whole(film.shown)))
    either_room.press("Heatmap")
    values = restore(HILL, whole(film.shown))
    share = np.clip(values / values.max(), 0, 1)
    levels = (share * 255 + 0.5).astype(int)
    grey = overlays.to_grey(film.shown)[..., None].astype(float)
    for colours in [*list(overlays.COLOURS)[1:], "Inferno"]:
        either_room.page.keyboard.press("c")
        table = overlays.colour_table(False, colours).astype(float)[levels]
        drawn = grey + (table[..., :3] - grey) * table[..., 3:] / 255 * 0.5
        apart = np.abs(either_room.film_pixels(film) - drawn)
        assert (apart <= 2).mean() > 0.99
        assert either_room.page.get_by_role(
            "button", name=f"Colours: {colours.lower()}"
        ).is_visible()
    either_room.draw(
        film, fitted(HILL - bump(8, 8, (0.8, 0.3), 0.2), whole(film.shown), signed=True)
    )
    before = either_room.film_pixels(film)
    either_room.page.keyboard.press("c")
    assert (either_room.film_pixels(film) == before).all(), "signed maps stay as they are"


# --- windows ---


def windowed(film: Film, low: float, high: float) -> np.ndarray:
    return np.rint(255 * np.clip((film.shown - low) / (high - low), 0, 1))


def shares_of_the_middle(film: Film, *shares: float) -> np.ndarray:
    """Return the greys between which given shares of the middle lie, as the help says."""
    height, width = film.shown.shape
    middle = film.shown[height // 10 : -(height // 10), width // 10 : -(width // 10)]
    middle = middle[(middle >= 0.02) & (middle <= 0.98)]
    return np.quantile(middle, shares, method="inverted_cdf")


@browser_only
@pytest.mark.parametrize("bits", [8, 16])
def test_windows_are_worked_out_on_the_film(room: Room, bits: int) -> None:
    pixels = 0.1 + 0.7 * thorax(HEIGHT, WIDTH, seed=3).pixels
    pixels[:20, :20] = 0.95
    film = film_of(pixels, bits=bits)
    room.send(film, PLAIN)
    for key, name, ends in (
        ("2", "Full range", (pixels.min(), pixels.max())),
        ("3", "Lungs", shares_of_the_middle(film, 0.01, 0.75)),
        ("4", "Mediastinum, bone", shares_of_the_middle(film, 0.3, 0.995)),
    ):
        room.page.keyboard.press(key)
        by_key = room.film_pixels(film)[..., 0]
        assert np.abs(by_key - windowed(film, *ends)).max() <= (2 if bits == 16 else 4)
        room.press("Reset")
        room.press("Window")
        room.page.get_by_role("button", name=name).click()
        room.page.keyboard.press("Escape")
        assert (room.film_pixels(film)[..., 0] == by_key).all()
        assert room.page.locator(".presets").is_hidden()


@browser_only
def test_the_windows_of_the_file_have_their_names(room: Room) -> None:
    film = film_of(
        thorax(HEIGHT, WIDTH, seed=3).pixels, windows=(("NORMAL", 0.0, 1.0), ("", 0.25, 0.5))
    )
    room.send(film, PLAIN)
    room.press("Window")
    names = room.page.locator(".presets button").all_inner_texts()
    assert [name.split("\n")[0] for name in names][3:] == ["Normal (file)", "Window 2 (file)"]
    room.page.keyboard.press("6")
    shown = room.film_pixels(film)[..., 0]
    assert np.abs(shown - windowed(film, 0.25, 0.5)).max() <= 2
    room.page.keyboard.press("5")
    assert np.abs(room.film_pixels(film)[..., 0] - windowed(film, 0, 1)).max() <= 1
    room.page.keyboard.press("9")
    assert np.abs(room.film_pixels(film)[..., 0] - windowed(film, 0, 1)).max() <= 1


# --- lengths ---


def measurable(**facts: Any) -> Film:
    known = {"pixel_spacing_mm": (0.5, 0.25), "spacing_at": "detector"} | facts
    return film_of(np.full((HEIGHT, WIDTH), 0.3), **known)


def drag_on(room: Room, start: tuple[float, float], end: tuple[float, float]) -> None:
    room.page.mouse.move(*room.point(*start))
    room.page.mouse.down()
    room.page.mouse.move(*room.point(*end), steps=3)
    room.page.mouse.up()
    room.pixels()


def lengths(room: Room) -> list[float]:
    texts = room.page.locator(".rulers text").all_text_contents()
    return [float(text.removesuffix(" mm")) for text in texts]


@browser_only
@pytest.mark.parametrize("turned", [False, True])
def test_lengths_are_in_millimetres_of_rows_and_columns(room: Room, turned: bool) -> None:
    film = measurable()
    room.send(film, PLAIN)
    if turned:
        room.press("Turn")
    room.press("1:1")
    room.press("Measure")
    before = room.pixels()
    size = room.page.locator("canvas").bounding_box()
    assert size is not None
    width, height = size["width"], size["height"]
    drag_on(room, (0.5, 0.5), (0.5 + 100 / width, 0.5))
    drag_on(room, (0.5, 0.5), (0.5, 0.5 + 60 / height))
    across, down = (0.5, 0.25) if turned else (0.25, 0.5)
    assert lengths(room) == pytest.approx([100 * across, 60 * down], abs=0.3)
    assert room.told() == []
    assert (room.pixels() == before).all(), "the window stays as it is"
    assert f"{60 * down:.0f}" in room.page.locator("output").inner_text()
    note = room.page.locator(".measured").inner_text()
    assert note == "Lengths at the detector, not corrected for magnification."
    room.page.keyboard.press("+")
    room.pixels()
    assert lengths(room) == pytest.approx([100 * across, 60 * down], abs=0.3)
    room.press("Delete last")
    room.pixels()
    assert lengths(room) == pytest.approx([100 * across], abs=0.3)
    room.page.keyboard.press("Escape")
    drag_on(room, (0.5, 0.5), (0.5, 0.4))
    assert len(lengths(room)) == 1, "Esc ended measuring; what was measured stays"
    assert (room.pixels() != before).any()


@browser_only
def test_lengths_are_measured_without_a_mouse(room: Room) -> None:
    room.send(measurable(spacing_at="patient"), PLAIN)
    room.press("1:1")
    stage = room.page.locator("canvas")
    for _ in range(3):
        stage.press("+")
    stage.press("m")
    stage.press("Enter")
    stage.press("ArrowRight")
    stage.press("Enter")
    width = room.pixels().shape[1]
    # The film moved by 0.08 of the canvas, at 1.2^3 pixels of the canvas for one of the film.
    assert lengths(room) == pytest.approx([0.08 * width / 1.2**3 * 0.25], abs=0.2)
    assert "corrected for magnification, as" in room.page.locator(".measured").inner_text()
    stage.press("Enter")
    stage.press("Escape")
    stage.press("Backspace")
    room.pixels()
    assert lengths(room) == []
    stage.press("Escape")
    stage.press("Enter")
    assert len(room.told()) == 1, "Enter asks again"


@browser_only
def test_without_spacing_nothing_is_measured_and_the_reason_is_told(room: Room) -> None:
    room.send(chest(), PLAIN)
    button = room.page.get_by_role("button", name="Measure", exact=True)
    assert button.get_attribute("aria-disabled") == "true"
    room.page.keyboard.press("m")
    room.pixels()
    assert "does not say how far apart" in room.page.locator(".measured").inner_text()
    drag_on(room, (0.4, 0.5), (0.6, 0.5))
    assert room.page.locator(".rulers text").count() == 0
    assert room.page.locator(".measured").is_hidden()


# --- hands ---


def dot_film(down: float, across: float) -> Film:
    pixels = np.zeros((HEIGHT, WIDTH))
    row, column = int(down * HEIGHT), int(across * WIDTH)
    pixels[row - 1 : row + 2, column - 1 : column + 2] = 1
    return film_of(pixels)


def dot(pixels: np.ndarray) -> np.ndarray:
    """Where the bright dot lies, in shares of the canvas: across, down."""
    rows, columns = np.nonzero(pixels[..., 0] > 128)
    height, width = pixels.shape[:2]
    return np.array([(columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height])


@browser_only
def test_the_wheel_zooms_to_the_pointer(room: Room) -> None:
    film = dot_film(0.3, 0.6)
    room.send(film, PLAIN)
    before = dot(room.pixels())
    size = (room.pixels()[..., 0] > 128).sum()
    height, width = room.pixels().shape[:2]
    pointer = np.round(before * (width, height)) + 3
    room.page.mouse.move(*pointer + np.array(room.point(0, 0)))
    room.turn(6, zoom=1.2**6)
    after = room.pixels()
    expected = pointer + (before * (width, height) - pointer) * 1.2**6
    assert dot(after) * (width, height) == pytest.approx(expected, abs=1.5)
    assert (after[..., 0] > 128).sum() == pytest.approx(size * 1.2**12, rel=0.2)
    room.turn(-6, zoom=1)
    assert np.abs(dot(room.pixels()) - before).max() < 0.004, "zoomed out, it fits again"


@browser_only
@pytest.mark.parametrize("way", ["right", "shift"])
def test_the_film_moves_with_the_hand(room: Room, way: str) -> None:
    room.send(dot_film(0.5, 0.5), PLAIN)
    page, before = room.page, dot(room.pixels())
    page.keyboard.press("+")
    if way == "shift":
        page.keyboard.down("Shift")
    page.mouse.move(*room.point(0.5, 0.5))
    page.mouse.down(button="right" if way == "right" else "left")
    page.mouse.move(*room.point(0.6, 0.4), steps=4)
    page.mouse.up(button="right" if way == "right" else "left")
    page.keyboard.up("Shift")
    assert dot(room.pixels()) - before == pytest.approx([0.1, -0.1], abs=0.01)
    assert room.told() == []


@browser_only
def test_dragging_opens_the_window_and_asks_nothing(room: Room) -> None:
    film = film_of(np.full((HEIGHT, WIDTH), 0.5))
    room.send(film, PLAIN)
    assert set(room.film_pixels(film).ravel()) <= {127, 128}
    page = room.page

    def drag(across: float, down: float) -> None:
        page.mouse.move(*room.point(0.5, 0.5))
        page.mouse.down()
        page.mouse.move(*room.point(0.5 + across, 0.5 + down), steps=5)
        page.mouse.up()

    drag(0, -0.2)
    assert room.film_pixels(film).mean() == pytest.approx(255 * 0.7, abs=4), "up is brighter"
    drag(-0.4, 0)
    # 0.5 in a window 0.6 wide around 0.3.
    assert room.film_pixels(film).mean() == pytest.approx(255 * 0.5 / 0.6 + 0, abs=12)
    assert "window 0.60" in page.locator("output").inner_text()
    assert room.told() == []
    room.press("Reset")
    assert set(room.film_pixels(film).ravel()) <= {127, 128}


@browser_only
def test_a_click_tells_its_place_on_the_film(room: Room) -> None:
    film = chest()
    room.send(film, PLAIN)
    box = room.page.locator("canvas").bounding_box()
    assert box is not None
    left = (box["width"] - box["height"] * WIDTH / HEIGHT) / 2
    room.page.mouse.click(box["x"] + left / 2, box["y"] + box["height"] / 2)
    assert room.told() == [], "beside the film"
    across = left + 0.25 * box["height"] * WIDTH / HEIGHT
    room.page.mouse.click(box["x"] + across, box["y"] + 0.75 * box["height"])
    (told,) = room.told()
    assert told == ["asked", pytest.approx([0.25, 0.75], abs=0.005)]
    room.draw(film, PLAIN, region=(0.2, 0.7, 0.3, 0.8))
    frame = room.page.locator(".region").bounding_box()
    assert frame is not None
    assert frame["x"] == pytest.approx(
        box["x"] + left + 0.2 * box["height"] * WIDTH / HEIGHT, abs=1.5
    )
    assert frame["height"] == pytest.approx(0.1 * box["height"], abs=1.5)
    room.page.mouse.click(box["x"] + across, box["y"] + 0.75 * box["height"])
    room.page.keyboard.press("Escape")
    assert room.told() == [["asked", []], ["asked", []]], "twice taken back"
    room.draw(film, PLAIN, asks=False)
    room.page.mouse.click(box["x"] + across, box["y"] + 0.75 * box["height"])
    assert room.told() == []
    assert room.page.locator(".region").is_hidden()


@browser_only
def test_two_fingers_zoom(room: Room) -> None:
    room.send(dot_film(0.5, 0.5), PLAIN)
    before, place_before = (room.pixels()[..., 0] > 128).sum(), dot(room.pixels())
    session = room.page.context.new_cdp_session(room.page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", room.point(0.45, 0.5), room.point(0.55, 0.5))
    for step in range(1, 6):
        reach = 0.05 + 0.01 * step
        touch("touchMove", room.point(0.5 - reach, 0.5), room.point(0.5 + reach, 0.5))
    touch("touchEnd")
    after = room.pixels()
    assert (after[..., 0] > 128).sum() == pytest.approx(4 * before, rel=0.25), "twice as large"
    assert dot(after) == pytest.approx(0.5 + 2 * (place_before - 0.5), abs=0.01)
    assert room.told() == []
    room.page.touchscreen.tap(*room.point(0.5, 0.5))
    (told,) = room.told()
    assert told == ["asked", pytest.approx([0.5, 0.5], abs=0.01)]


# --- keys ---


@browser_only
def test_a_held_key_shows_the_film_alone_and_a_tap_stays(room: Room) -> None:
    film = chest()
    room.send(film, fitted(HILL, whole(film.shown)))
    overlaid = room.pixels()
    key, bare = room.page.keyboard, room.page.get_by_role("button", name="Original")

    def coloured() -> bool:
        return bool((np.ptp(room.pixels(), axis=2) > 60).any())

    key.down("o")
    assert not coloured()
    room.page.wait_for_timeout(400)
    key.up("o")
    assert (room.pixels() == overlaid).all()
    key.press("o")
    assert not coloured()
    assert bare.get_attribute("aria-pressed") == "true"
    key.press("o")
    assert coloured()
    bare.click()
    assert not coloured()


@browser_only
def test_keys_are_not_heard_while_somebody_types(room: Room) -> None:
    film = chest()
    room.send(film, fitted(HILL, whole(film.shown)))
    before = room.pixels()
    room.page.locator("#typing").press_sequentially("oi+0?")
    assert (room.pixels() == before).all()
    assert room.page.locator(".help").is_hidden()
    room.page.locator("canvas").focus()
    room.page.keyboard.press("i")
    assert (room.pixels() != before).any()
    room.page.keyboard.press("?")
    assert room.page.locator(".help").is_visible()
    room.page.keyboard.press("Escape")
    assert room.page.locator(".help").is_hidden()


@browser_only
def test_the_middle_is_asked_about_without_a_mouse(room: Room) -> None:
    room.send(chest(), PLAIN)
    room.page.keyboard.press("Enter")
    assert room.told() == [], "only when the film has the focus"
    room.page.locator("canvas").focus()
    room.page.keyboard.press("Enter")
    (told,) = room.told()
    assert told == ["asked", pytest.approx([0.5, 0.5])]
    room.page.keyboard.press("+")
    room.page.keyboard.press("ArrowRight")
    room.page.keyboard.press("Enter")
    ((_, (across, down)),) = room.told()
    assert across > 0.52
    assert down == pytest.approx(0.5)


@browser_only
def test_the_window_is_opened_without_a_mouse(room: Room) -> None:
    film = film_of(np.full((HEIGHT, WIDTH), 0.5))
    room.send(film, PLAIN)
    room.page.locator("canvas").focus()
    for _ in range(4):
        room.page.keyboard.press("Shift+ArrowUp")
    # A window as wide as all greys, around 0.3.
    assert room.film_pixels(film).mean() == pytest.approx(255 * 0.7, abs=1)
    for _ in range(4):
        room.page.locator("canvas").press("Shift+ArrowLeft")
    # 0.8 wide around 0.3: from -0.1 to 0.7.
    assert room.film_pixels(film).mean() == pytest.approx(255 * 0.6 / 0.8, abs=1)


@browser_only
def test_every_control_has_a_name(room: Room) -> None:
    film = chest()
    room.send(film, fitted(HILL, whole(film.shown)))
    snapshot = room.page.locator(".viewer").aria_snapshot()
    for name in (
        'img "Film with its map"', 'slider "Opacity"', 'slider "Hide below"', 'button "Invert"',
        'button "Original"', 'button "Both" [pressed]', 'toolbar "How the map is drawn"',
    ):  # fmt: skip
        assert name in snapshot


# --- what stays ---


@browser_only
def test_another_map_of_the_film_leaves_the_view_as_it_is(room: Room) -> None:
    film, other = chest(), chest("other")
    room.send(film, fitted(HILL, whole(film.shown)))
    room.slide("Opacity", 80)
    room.page.mouse.move(*room.point(0.4, 0.4))
    room.turn(3, zoom=1.2**3)
    room.press("Invert")
    zoomed = room.pixels()
    room.draw(film, fitted(bump(8, 8, (0.9, 0.1), 0.1), whole(film.shown)))
    assert (room.pixels() != zoomed).any()
    room.draw(film, fitted(HILL, whole(film.shown)))
    assert (room.pixels() == zoomed).all()

    room.send(other, PLAIN)
    whole_film = room.pixels()
    assert (whole_film != zoomed).any()
    assert room.page.get_by_label("Opacity").input_value() == "80", "is the reader's taste"
    room.send(film, fitted(HILL, whole(film.shown)))
    assert (room.pixels() == zoomed).all(), "the film comes back as it was looked at"


@browser_only
def test_only_the_film_on_screen_is_held(room: Room) -> None:
    for name in ("one", "two"):
        room.send(chest(name), PLAIN)
    assert room.page.evaluate("[...cxrViewer.films.keys()]") == ["two"]


@browser_only
def test_a_film_is_let_go_by_its_last_holder_only(room: Room) -> None:
    film = chest()
    held = room.page.evaluate(
        """(text) => {
          const [first, second] = [{}, {}];
          const gone = hold({ data: bytes(text), parentElement: first });
          const goneToo = hold({ data: bytes(text), parentElement: second });
          gone();
          const between = cxrViewer.films.size;
          goneToo();
          return [between, cxrViewer.films.size];
        }""",
        packed(sent(film)),
    )
    assert held == [1, 0]


@browser_only
def test_a_film_may_arrive_after_its_map(room: Room) -> None:
    film = chest()
    room.draw(film, fitted(HILL, whole(film.shown)))
    assert (room.pixels() == 0).all()
    room.page.evaluate("text => sendFilm(text)", packed(sent(film)))
    assert (room.pixels() > 0).any()


@browser_only
def test_two_panes_are_looked_at_alike(room: Room) -> None:
    film = dot_film(0.4, 0.5)
    room.send(film, PLAIN, fitted(HILL, whole(film.shown)))
    room.slide("Opacity", 0)
    assert dot(room.pixels(0)) == pytest.approx(dot(room.pixels(1)))
    room.page.mouse.move(*room.point(0.2, 0.2, number=1))
    room.turn(3, zoom=1.2**3)
    left, right = room.pixels(0), room.pixels(1)
    assert left.shape == right.shape
    assert np.abs(left - right).max() <= 1
    assert (left[..., 0] > 128).sum() > 20
    captions = room.page.locator("figcaption").all_inner_texts()
    assert [text.split()[0] for text in captions] == ["Original", "Map"]
    room.draw(film, PLAIN)
    assert room.page.locator("canvas").count() == 1


# --- two films ---

# From the first film to the second: as a similarity in pixels, 0.8 times as large and moved.
NOW, BEFORE = (HEIGHT, WIDTH), (200, 260)
ALIGN = np.array([[0.8 * 240 / 260, 0, 0.1], [0, 0.8 * 300 / 200, -0.05]])
PLACES = np.array([[0.35, 0.3], [0.6, 0.55]])


def dots_film(name: str, shape: tuple[int, int], places: np.ndarray) -> Film:
    """Soft dots at places in shares of the width and height: no grid moves their middle."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    pixels = np.zeros(shape)
    for across, down in places * (shape[1], shape[0]):
        pixels += np.exp(-((x - across) ** 2 + (y - down) ** 2) / 18)
    return film_of(pixels.clip(0, 1), name=name)


def dots(pixels: np.ndarray) -> np.ndarray:
    """Where the two dots lie on a canvas, in pixels: the upper first."""
    light = np.where(pixels[..., 0] > 100, pixels[..., 0].astype(float), 0)
    rows = np.flatnonzero(light.any(axis=1))
    cut = rows[np.argmax(np.diff(rows))] + 1
    found = []
    for part, top in ((light[:cut], 0), (light[cut:], cut)):
        y, x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
        found.append([(part * x).sum() / part.sum(), (part * y).sum() / part.sum() + top])
    return np.array(found)


def aligned_pair() -> tuple[Film, Film]:
    there = PLACES @ ALIGN[:, :2].T + ALIGN[:, 2]
    return dots_film("one", NOW, PLACES), dots_film("before", BEFORE, there)


@browser_only
def test_a_pane_may_carry_its_own_film(either_room: Room) -> None:
    now, before = chest(), film_of(thorax(*BEFORE, seed=5).pixels, name="before", bits=12)
    either_room.send(now, PLAIN, Pane("Before", "Film of before", film=before))
    for number, film in enumerate((now, before)):
        shown = either_room.pixels(number)[..., 0]
        scale = min(np.divide(shown.shape, film.shown.shape))
        rows, columns = (
            ((np.arange(there) + 0.5 - there / 2) / scale + here / 2).clip(0, here - 1).astype(int)
            for there, here in zip(shown.shape, film.shown.shape, strict=True)
        )
        height, width = (np.multiply(film.shown.shape, scale)).astype(int)
        top, left = (shown.shape[0] - height) // 2, (shown.shape[1] - width) // 2
        inside = np.s_[top + 2 : top + height - 2, left + 2 : left + width - 2]
        expected = overlays.to_grey(film.shown)[rows[:, None], columns].astype(int)
        assert np.abs(shown - expected)[inside].mean() < 3, "the whole of it, fitted"
    assert sorted(either_room.page.evaluate("[...cxrViewer.films.keys()]")) == ["before", "one"]


@browser_only
@pytest.mark.parametrize("hand", [0, 1])
def test_linked_panes_show_the_same_anatomy(either_room: Room, hand: int) -> None:
    """Whatever is done in either pane, corresponding places lie at the same point of both."""
    room = either_room
    now, before = aligned_pair()
    room.send(now, PLAIN, Pane("Before", "Film of before", film=before, align=ALIGN))

    def agree() -> np.ndarray:
        found = [dots(room.pixels(number)) for number in (0, 1)]
        assert np.abs(found[0] - found[1]).max() < 1.5
        return found[hand]

    first = agree()
    zoomed = room.page.locator("canvas").nth(hand)
    box = zoomed.bounding_box()
    assert box is not None
    pointer = np.round(first.mean(axis=0))
    room.page.mouse.move(box["x"] + pointer[0], box["y"] + pointer[1])
    room.turn(3, zoom=1.2**3)
    second = agree()
    expected = pointer + (first - pointer) * 1.2**3
    assert np.abs(second - expected).max() < 1.5, "zoomed to the pointer"
    room.page.mouse.down(button="right")
    room.page.mouse.move(box["x"] + pointer[0] + 20, box["y"] + pointer[1] - 12, steps=3)
    room.page.mouse.up(button="right")
    assert agree() - second == pytest.approx(np.tile([20, -12], (2, 1)), abs=1.5)


@browser_only
def test_fitted_both_films_show_whole(room: Room) -> None:
    now, before = (film_of(np.full(shape, 0.8), name=name) for name, shape in
                   (("one", NOW), ("before", BEFORE)))  # fmt: skip
    align = ALIGN + np.array([[0, 0, 0.2], [0, 0, 0]])
    room.send(now, PLAIN, Pane("Before", "Film of before", film=before, align=align))
    for number, film in enumerate((now, before)):
        lit = room.pixels(number)[..., 0] > 100
        rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert width / height == pytest.approx(film.shown.shape[1] / film.shown.shape[0], rel=0.02)
        assert max(width / lit.shape[1], height / lit.shape[0]) > 0.5


@browser_only
def test_each_film_has_its_window_and_both_turn_together_when_linked(room: Room) -> None:
    now, before = (film_of(np.full(shape, grey), name=name) for name, shape, grey in
                   (("one", NOW, 0.5), ("before", BEFORE, 0.4)))  # fmt: skip
    room.send(now, PLAIN, Pane("Before", "Film of before", film=before))

    def middles() -> list[int]:
        shown = [room.pixels(number)[..., 0] for number in (0, 1)]
        return [int(one[one.shape[0] // 2, one.shape[1] // 2]) for one in shown]

    def brighter(number: int) -> None:
        room.page.locator("canvas").nth(number).press("Shift+ArrowUp")
        room.page.locator("canvas").nth(number).press("Shift+ArrowUp")

    assert middles() == pytest.approx([127.5, 102], abs=1)
    brighter(1)
    assert middles() == pytest.approx([127.5, 127.5], abs=1), "this film alone"
    room.press("Link")
    brighter(0)
    assert middles() == pytest.approx([153, 153], abs=1), "both"
    room.press("Invert")
    assert middles() == pytest.approx([102, 102], abs=1)
    room.press("Reset")
    assert middles() == pytest.approx([127.5, 102], abs=1)
    room.draw(now, PLAIN)
    assert room.page.get_by_role("button", name="Link").is_hidden()


@browser_only
def test_only_the_film_looked_at_is_asked_about(room: Room) -> None:
    now, before = aligned_pair()
    panes = PLAIN, Pane("Before", "Film of before", film=before)
    room.send(now, *panes, region=(0.2, 0.2, 0.3, 0.3))
    assert [one.is_visible() for one in room.page.locator(".region").all()] == [True, False]
    room.page.mouse.click(*room.point(0.5, 0.5, number=1))
    room.page.locator("canvas").nth(1).press("Enter")
    assert room.told() == []
    room.page.mouse.click(*room.point(0.5, 0.5, number=0))
    assert room.told() == [["asked", pytest.approx([0.5, 0.5], abs=0.01)]]


@browser_only
def test_a_film_beside_waits_for_the_film_looked_at(room: Room) -> None:
    now, before = aligned_pair()
    room.page.evaluate("text => sendFilm(text, 'film-1')", packed(sent(before)))
    room.draw(now, PLAIN, Pane("Before", "Film of before", film=before, align=ALIGN))
    assert (room.pixels(1) == 0).all()
    room.page.evaluate("text => sendFilm(text)", packed(sent(now)))
    assert (room.pixels(1) > 0).any()


# --- what Python packs and hears ---


def unpacked(data: bytes) -> tuple[dict[str, Any], Callable[[str], np.ndarray]]:
    size = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + size])
    kinds = {"u1": np.uint8, "f4": np.float32}

    def array(name: str) -> np.ndarray:
        place = header["arrays"][name]
        start = 4 + size + place["start"]
        return np.frombuffer(data[start : start + place["length"]], kinds[place["kind"]])

    return header, array


@given(
    st.text(max_size=20),
    st.lists(st.integers(0, 255), max_size=9),
    st.lists(st.floats(width=32, allow_nan=False), max_size=9),
)
def test_what_is_packed_comes_out_again(text: str, small: list[int], values: list[float]) -> None:
    arrays = {"small": np.array(small, np.uint8), "values": np.array(values, np.float32)}
    header, array = unpacked(canvas.pack({"text": text}, **arrays))
    assert header["text"] == text
    for name, sent in arrays.items():
        np.testing.assert_array_equal(array(name), sent)


def test_a_film_is_sent_with_as_many_bits_as_it_has() -> None:
    pixels = np.linspace(0, 1, 12).reshape(3, 4)
    header, array = unpacked(sent(film_of(pixels, bits=8)))
    assert (header["width"], header["height"], header["bytes"]) == (4, 3, 1)
    assert header["sheet"] == [4, 3]
    assert array("pixels").tolist() == np.rint(np.linspace(0, 255, 12)).astype(int).tolist()
    header, array = unpacked(sent(film_of(pixels, bits=12)))
    assert header["bytes"] == 2
    assert (
        array("pixels").view("<u2").tolist()
        == np.rint(np.linspace(0, 65535, 12).astype(np.float32)).astype(int).tolist()
    )


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ([0.25, 0.75], [(0.25, 0.75)]),
        ([], [None]),
        (None, []),
        ([0.5], []),
        ([0.5, 1.5], []),
        ([0.5, float("nan")], []),
        (["0.5", 0.5], []),
        ({"x": 1}, []),
    ],
)
def test_only_a_place_on_the_film_is_heard(
    monkeypatch: pytest.MonkeyPatch, said: object, heard: list[object]
) -> None:
    monkeypatch.setattr(canvas.st, "session_state", {canvas.KEY: {"asked": said}})
    asked: list[object] = []
    canvas._hear(asked.append)
    assert asked == heard
    canvas._hear(None)
    assert asked == heard


def test_a_mended_film_is_sent_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(canvas, "_keep_sent", lambda *_: None)
    monkeypatch.setattr(
        canvas,
        "_viewer",
        lambda **told: names.append(unpacked(told["data"])[0]["panes"][0]["film"]),
    )
    film = chest()
    for pixels in (film.shown, 1 - film.shown, film.shown):
        film.shown = pixels
        canvas.show(film, [PLAIN], None, None)
    assert names[0] == names[2] != names[1]


def test_each_film_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sends: list[tuple[str, str]] = []
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(
        canvas, "_keep_sent", lambda film, name, pixels, key: sends.append((key, name))
    )
    monkeypatch.setattr(canvas, "_viewer", lambda **told: shown.append(unpacked(told["data"])[0]))
    now, before = aligned_pair()
    canvas.show(now, [PLAIN, Pane("Before", "", film=before, align=ALIGN)], None, None)
    assert len({key for key, _ in sends}) == len({name for _, name in sends}) == len(sends) == 2
    (told,) = shown
    assert [pane["film"] for pane in told["panes"]] == [name for _, name in sends]
    assert told["film"] == sends[0][1]
    assert [pane["align"] for pane in told["panes"]] == [None, ALIGN.tolist()]
    sends.clear()
    canvas.show(now, [PLAIN, Pane("Same", "", film=now)], None, None)
    assert len(sends) == 1


def test_a_films_own_pixels_follow_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sends: list[dict[str, Any]] = []
    monkeypatch.setattr(canvas, "_keep_sent", lambda *_: None)
    monkeypatch.setattr(canvas, "_viewer", lambda **_: None)
    monkeypatch.setattr(canvas, "_film", lambda *, key, data: sends.append(unpacked(data)[0]))
    monkeypatch.setattr(canvas.st, "session_state", {})
    large = film_of(thorax(HEIGHT, WIDTH, seed=3).pixels, shown=100)
    small = chest("small")
    for film in (large, large, small, large):
        canvas.show(film, [PLAIN], None, None)
    assert [told["sheet"] for told in sends] == [[WIDTH, HEIGHT]] * 2, "once each time it comes"
    assert all(told["follows"] for told in sends)


def test_what_a_browser_is_sent_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    film = film_of(thorax(HEIGHT, WIDTH, seed=3).pixels, shown=100)
    assert canvas.own_pixels(film, 4096) is film.radiograph.pixels
    assert canvas.own_pixels(film, 200).shape == (200, 160)
    monkeypatch.setattr(canvas, "MOST_SENT", HEIGHT * WIDTH // 4)
    assert canvas.own_pixels(film, 4096).shape == (HEIGHT // 2, WIDTH // 2)


def test_a_wish_is_answered_with_the_films_own_pixels() -> None:
    def page() -> None:
        from cxr_core.phantom import thorax
        from cxr_core.ui import canvas
        from cxr_core.ui.session import Film, reduced

        taken = thorax(300, 240, seed=3)
        film = Film("one", taken, reduced(taken.pixels, 100))
        canvas.show(film, [canvas.Pane("Original", "Film")], None, None)

    def sheets(app: AppTest) -> list[list[int]]:
        mounted = [one.proto for one in app.get("bidi_component")]
        films = [one for one in mounted if one.component_name == "cxr_film"]
        return [unpacked(one.bytes)[0]["sheet"] for one in films]

    app = AppTest.from_function(page).run()
    assert sheets(app) == [[80, 100], [240, 300]], "the film's own pixels follow"
    assert sheets(app.run()) == [[80, 100]]
    app.session_state["film-bytes-0-wanted"] = 16384
    assert sheets(app.run()) == [[240, 300]]
    assert sheets(app.run()) == [[80, 100]]
    app.session_state["film-bytes-0-wanted"] = "everything"
    assert sheets(app.run()) == [[80, 100]], "what comes from a browser may be anything"


@pytest.mark.parametrize(
    "align",
    [np.eye(3), np.zeros((2, 3)), np.full((2, 3), np.nan), np.array([[1, 2, 0], [2, 4, 0]])],
)
def test_films_are_aligned_by_what_can_be_turned_round(align: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match=r"\(2, 3\) affine"):
        canvas.packed_panes("one", [Pane("Before", "", align=align)], None, asks=False)


def test_square_of_a_letterboxed_film_leaves_out_the_padding() -> None:
    placement = place(100, 50, Preprocessing(size=64, fit="letterbox"))
    assert canvas.square_of(placement) == (16 / 64, 0, 32 / 64, 1)
