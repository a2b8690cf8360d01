"""The film viewer in headless Chromium: frames a second by hand, what a frame costs, first paint.

There is no graphics processor behind it here: Chromium draws WebGL in software, on the same
cores that run the page. Figures of a workstation are better, never worse.
"""

import base64
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import app
from cxr_core.images import Facts, Radiograph
from cxr_core.phantom import thorax
from cxr_core.ui import canvas
from cxr_core.ui.canvas import Layer, Pane
from cxr_core.ui.session import Film, reduced

WIDTH, HEIGHT = 1440, 900
SIDE = 3000
FRAMES = 120  # that the hand moves, in each row
WITHOUT_WEBGL = """
const give = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind === "webgl2" ? null : give.call(this, kind, ...rest);
};"""
# Asked for all the same, although the viewer declines WebGL that is drawn in software.
WITH_WEBGL = """
const tell = WebGL2RenderingContext.prototype.getParameter;
WebGL2RenderingContext.prototype.getParameter = function (what) {
  return what === 37446 ? "a graphics processor" : tell.call(this, what); // the renderer
};"""
BARE_PAGE = """
async ({ html, css, film, viewer }) => {
  const module = (text) => import(URL.createObjectURL(new Blob([text], {type: "text/javascript"})));
  const [hold, show] = [(await module(film)).default, (await module(viewer)).default];
  document.body.innerHTML = `<div></div><div></div><div><style>${css}</style>${html}</div>`;
  const [first, second, host] = document.body.children;
  host.style.width = "850px"; // as on the reading page of a screen of 1440 by 900
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  globalThis.send = (shown, own, panes) => {
    hold({ data: bytes(shown), parentElement: first, setTriggerValue() {} });
    show({ data: bytes(panes), parentElement: host, setTriggerValue() {} });
    hold({ data: bytes(own), parentElement: second, setTriggerValue() {} });
    globalThis.viewer = host.querySelector(".viewer").viewer;
  };
}"""
# One move of the hand for each frame that the browser draws, and how long the painting of it takes:
# in the page's own thread, and until the pixels are there.
DRIVE = """
async ([count, what]) => {
  const canvases = viewer.panes.map((pane) => pane.canvas), [canvas] = canvases;
  const next = () => new Promise((done) => requestAnimationFrame(done));
  const settled = () => canvases.forEach((one) => {
    const gl = one.getContext("webgl2");
    if (gl) gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    else one.getContext("2d").getImageData(0, 0, 1, 1);
  });
  viewer.reset();
  if (what === "pan") viewer.exact();
  const box = canvas.getBoundingClientRect(), buttons = what === "pan" ? 2 : 1;
  const at = (k) => ({ clientX: box.left + box.width / 2 + 60 * Math.sin(k / 20),
    clientY: box.top + box.height / 2 + 40 * Math.sin(k / 13), buttons, pointerId: 1,
    button: buttons - 1, pointerType: "mouse", bubbles: true });
  canvas.setPointerCapture = () => {};
  canvas.dispatchEvent(new PointerEvent("pointerdown", at(0)));
  for (let k = 1; k < 20; k++) { // the first frames take up textures
    canvas.dispatchEvent(new PointerEvent("pointermove", at(k)));
    await next();
  }
  settled();
  const begun = performance.now();
  for (let k = 20; k < count + 20; k++) {
    canvas.dispatchEvent(new PointerEvent("pointermove", at(k)));
    await next();
  }
  settled();
  const rate = (1000 * count) / (performance.now() - begun);
  const script = [], whole = [];
  for (let k = 20; k < 50; k++) {
    canvas.dispatchEvent(new PointerEvent("pointermove", at(k)));
    const start = performance.now();
    viewer.panes.forEach((pane) => pane.paint());
    script.push(performance.now() - start);
    settled();
    whole.push(performance.now() - start);
    await next();
  }
  canvas.dispatchEvent(new PointerEvent("pointerup", at(50)));
  const middle = (times) => times.sort((one, two) => one - two)[times.length >> 1];
  return [rate, middle(script), middle(whole)];
}"""
# When the answer stands on the page, and when the film is drawn below it.
WATCH = """
globalThis.seen = {};
const draw = CanvasRenderingContext2D.prototype.putImageData;
CanvasRenderingContext2D.prototype.putImageData = function (...rest) {
  draw.apply(this, rest);
  if (seen.begun || !globalThis.cxrViewer?.films.size) return;
  seen.begun = true;
  queueMicrotask(() => (seen.drawn = performance.now())); // once all of it is drawn
};
new MutationObserver(() => {
  if (document.querySelector(".cxr-answer .verdict")) seen.answer ??= performance.now();
}).observe(document, { subtree: true, childList: true });
const look = () => {
  if ([...(globalThis.cxrViewer?.films.values() ?? [])].some((film) => film.sheets.length > 1))
    seen.own ??= performance.now();
  setTimeout(look, 5);
};
look();"""


def measure(_: Path) -> str | None:
    """Move the hand over a film of 3,000 pixels, and read one in the app; write a table."""
    if shutil.which("chromium") is None:
        return None
    rows = [row for webgl in (True, False) for row in _by_hand(webgl=webgl)]
    answer, own = _first_paint()
    return "\n".join(
        [
            f"The phantom at {SIDE} x {SIDE * 5 // 6} pixels and 12 bits with a map of 7 x 7 over "
            f"it, {WIDTH} x {HEIGHT}, headless Chromium without a graphics processor: WebGL is "
            "drawn in software here, which the viewer declines for a plain canvas unless told "
            "otherwise. 60 frames a second are the most that the browser draws.",
            "",
            "| drawn by, panes, what the hand does | frames a second "
            "| ms in the page's script a frame | ms until its pixels are there |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            f"From the answer on the page to the film below it: {answer:.0f} ms; to the film's own "
            f"{SIDE * SIDE * 5 / 6e6:.1f} million pixels: {own:.0f} ms (medians of three, app and "
            "browser on this machine).",
        ]
    )


def _by_hand(*, webgl: bool) -> Iterator[str]:
    film = _film()
    with _page(WITH_WEBGL if webgl else WITHOUT_WEBGL) as page:
        page.evaluate(BARE_PAGE, _texts())
        for panes in (1, 2):
            page.evaluate("told => send(...told)", _sent(film, panes))
            for what, words in (("window", "window of the whole film"), ("pan", "pan at 1:1")):
                rate, script, whole = page.evaluate(DRIVE, [FRAMES, what])
                drawn = f"{'WebGL 2' if webgl else 'a plain canvas'}, {panes}, {words}"
                yield f"| {drawn} | {rate:.0f} | {script:.1f} | {whole:.1f} |"


@contextmanager
def _page(script: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), headless=True, args=app.FLAGS
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(300_000)
        if script:
            page.add_init_script(script)
        page.goto("about:blank")
        yield page
        browser.close()


def _texts() -> dict[str, str]:
    read = canvas._text
    css = read("viewer.css") + ":root { --cxr-viewer-height: 576px; }"
    film, viewer = read(*canvas.FILM_SCRIPTS), read(*canvas.SCRIPTS)
    return {"html": read("viewer.html"), "css": css, "film": film, "viewer": viewer}


def _film() -> Film:
    pixels = thorax(SIDE, SIDE * 5 // 6, seed=4).pixels
    radiograph = Radiograph(pixels, Facts("DICOM", 12, "MONOCHROME2"), "phantom")
    return Film("phantom", radiograph, reduced(pixels))


def _sent(film: Film, panes: int) -> list[str]:
    y, x = np.mgrid[-1:1:7j, -1:1:7j]
    values = np.exp(-4 * (x**2 + y**2)).astype(np.float32)
    layer = Layer(values, (0.0, 0.0, 1.0, 1.0), False, ("no evidence", "for pneumonia"))
    shown = [Pane("Map", "Film with its map", layer), Pane("Original", "Film")][:panes]
    greys = [canvas._greys(one, 12) for one in (film.shown, film.radiograph.pixels)]
    parts = [
        canvas.packed_film(film, "phantom", greys[0]),
        canvas.packed_film(film, "phantom", greys[1], follows=True),
        canvas.packed_panes("phantom", shown, None, asks=True),
    ]
    return [base64.b64encode(part).decode() for part in parts]


def _first_paint(rounds: int = 3) -> tuple[float, float]:
    """Return the milliseconds from answer to film, and to its own pixels; once all is loaded."""
    took = []
    with TemporaryDirectory() as folder, app.server() as (address, _), _page(WATCH) as page:
        page.goto(address)
        page.get_by_role("button", name=re.compile("sample film")).click()
        for seed in range(rounds):
            page.locator("[data-test-script-state=notRunning]").wait_for()
            page.get_by_role("button", name="Remove film").click()
            page.get_by_role("button", name="Remove film").wait_for(state="detached")
            path = Path(folder) / f"{seed}.png"
            path.write_bytes(_png(seed))
            page.evaluate("seen = {}")
            page.set_input_files(".st-key-intake input[name=films]", path)
            page.wait_for_function("seen.answer && seen.drawn && seen.own")
            took.append(page.evaluate("[seen.drawn - seen.answer, seen.own - seen.answer]"))
    first, own = zip(*took, strict=True)
    return median(first), median(own)


def _png(seed: int) -> bytes:
    buffer = BytesIO()
    pixels = np.rint(thorax(SIDE, SIDE * 5 // 6, seed=seed).pixels * 65535).astype(np.uint16)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
