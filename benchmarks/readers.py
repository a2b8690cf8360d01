"""Several readers at once: browsers that read different films at the same time on one server.

Every answer is compared with what the library says of that very film: its score on screen, and
in the CSV that the page saves its digest and all digits. The browsers run here too and take
their share of the cores.
"""

import asyncio
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from PIL import Image

from benchmarks.app import FLAGS, ROOT, processor_seconds
from cxr_core.cards import models_root
from cxr_core.classifier import load_classifier
from cxr_core.images import read_radiograph
from cxr_core.phantom import Opacity, thorax
from cxr_core.preprocess import prepare
from cxr_core.ui import reading as words
from cxr_core.ui.serving import LOOK

MODEL = "pediatric-pneumonia"
READERS, ROUNDS = 10, 4
SIDE = 1800
PATIENCE = 240_000  # milliseconds
SAME = 1e-7  # the phantoms are films that the model is sure of, each a little differently
GONE = 2  # seconds after which a closed tab's films must leave the server, in this benchmark
# The app, which says on SIGUSR1 what is alive in it: [sessions of Streamlit, films].
WATCHED = """
import gc, json, signal, sys
from pathlib import Path

place, *flags = sys.argv[1:]

def tell(*_):
    gc.collect()
    names = [type(one).__name__ for one in gc.get_objects()]
    aside = Path(place + ".aside")
    aside.write_text(json.dumps([names.count("AppSession"), names.count("Radiograph")]))
    aside.replace(place)

signal.signal(signal.SIGUSR1, tell)
from streamlit.web.cli import main
main(["run", "app.py", *flags])
"""


@dataclass(frozen=True)
class Sheet:
    """One film to be read, and what must be said of it.

    Attributes:
        name: Of its file, which the page shows.
        content: The file.
        digest: SHA-256 of the file.
        probability: By the library, without the app.
        score: The same as the page writes it.
    """

    name: str
    content: bytes = field(repr=False)
    digest: str
    probability: float
    score: str


def sheets(
    readers: int, rounds: int, side: int = SIDE, models: Path | None = None
) -> list[list[Sheet]]:
    """Make films for each reader and round: a reader's look alike, no two files are the same."""
    classifier = load_classifier(MODEL, models)
    made = []
    for reader in range(readers):
        opacities = (Opacity(0.3, 0.35 + 0.03 * (reader % 10), 0.06 + 0.005 * (reader % 10)),)
        film = thorax(side * 8 // 9, side, seed=reader, opacities=opacities)
        stream = BytesIO()
        pixels = (film.pixels * 255).astype(np.uint8)
        Image.fromarray(pixels).save(stream, "JPEG", quality=92)
        files = [stream.getvalue() + bytes(1 + number) for number in range(rounds)]
        first = read_radiograph(files[0])
        answer = classifier.predict(prepare(first, classifier.card.preprocessing)).labels[0]
        names = [f"reader-{reader}-film-{number}.jpg" for number in range(rounds)]
        made.append(
            [
                Sheet(
                    name,
                    content,
                    read_radiograph(content).digest,
                    answer.probability,
                    words.score(answer),
                )
                for name, content in zip(names, files, strict=True)
            ]
        )
    return made


class Server:
    """The app in a process of its own.

    Attributes:
        address: Where it answers.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", address: str, told: Path) -> None:
        """Take hold of a server that runs."""
        self.address, self._process, self._told = address, process, told

    def memory(self) -> float:
        """Return the megabytes that it holds."""
        return self._number("VmRSS") / 1024

    def busy(self) -> float:
        """Return the processor seconds that it took so far."""
        return processor_seconds(self._process.pid)

    def _number(self, name: str) -> int:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    def alive(self) -> tuple[int, int]:
        """Count Streamlit's sessions and the films that are alive in it."""
        self._told.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        for _ in range(600):
            if self._told.exists():
                sessions, films = json.loads(self._told.read_text())
                return sessions, films
            time.sleep(0.05)
        raise RuntimeError("The server does not say what is alive in it.")


@contextmanager
def serving(folder: Path, models: Path | None = None) -> Iterator[Server]:
    """Start the app on a free port, and stop it again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = folder / "alive.json"
    flags = [f"--server.port={port}", f"--server.disconnectedSessionTTL={GONE}"]
    named = {"CXR_RECORDS": "off", "CXR_MODELS": str(models or models_root())}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHED, str(told), *flags],
            cwd=ROOT,
            env=os.environ | named | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(f"{address}/_stcore/health", process)
            yield Server(process, address, told)
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(1200):
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            if process.poll() is not None:
                break
            time.sleep(0.05)
    raise RuntimeError("The app did not start.")


# --- one reader ---


async def open_page(browser: Any, address: str) -> Any:
    """Open the app as somebody new."""
    context = await browser.new_context(accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    await page.goto(address)
    await page.locator(".st-key-intake input[name=films]").wait_for(state="attached")
    return page


async def read(page: Any, sheet: Sheet) -> float:
    """Drop a film and wait for its answer; return the seconds that took.

    Raises:
        RuntimeError: When the answer is of another film.
    """
    film = {"name": sheet.name, "mimeType": "image/jpeg", "buffer": sheet.content}
    began = time.perf_counter()
    await page.set_input_files(".st-key-intake input[name=films]", film)
    await page.locator("p.cxr-note strong", has_text=sheet.name).first.wait_for()
    taken = time.perf_counter() - began
    answer = page.get_by_role("status", name="Answer")
    _check(sheet, sheet.score in await answer.inner_text(), "score on screen")
    return taken


async def settled(page: Any) -> None:
    """Wait until the page is drawn to its end, checks of maps and all."""
    await page.locator("[data-test-script-state=notRunning]").wait_for()


async def verify(page: Any, sheet: Sheet) -> None:
    """Compare what the page saves with what must be said.

    Raises:
        RuntimeError: When it is of another film.
    """
    await page.get_by_role("button", name="Save", exact=True).click()
    async with page.expect_download() as download:
        await page.get_by_role("button", name="CSV", exact=True).click()
    path = await (await download.value).path()
    (row,) = csv.DictReader(StringIO(path.read_text("utf-8")))
    _check(sheet, row["film_sha256"] == sheet.digest, "digest")
    _check(sheet, abs(float(row["probability"]) - sheet.probability) < SAME, "probability")
    await page.keyboard.press("Escape")


async def remove(page: Any) -> None:
    """Take the film off the page."""
    await page.get_by_role("button", name="Remove film").click()
    await page.locator("p.cxr-note strong").first.wait_for(state="detached")
    await settled(page)


def _check(sheet: Sheet, right: bool, what: str) -> None:
    if not right:
        raise RuntimeError(f"The page of {sheet.name} shows another {what} than its film has.")


async def one_round(pages: Sequence[Any], films: Sequence[Sheet]) -> list[float]:
    """Let every reader drop a film at the same moment; check each answer twice."""
    taken = await asyncio.gather(*map(read, pages, films))
    await asyncio.gather(*map(settled, pages))
    for page, sheet in zip(pages, films, strict=True):
        await verify(page, sheet)
    return list(taken)


@contextmanager
def alone() -> Iterator[Any]:
    """Give what runs one coroutine after another with a browser: `run(coroutine function)`."""
    from playwright.async_api import async_playwright

    path = shutil.which("chromium")
    with asyncio.Runner() as runner:
        playwright = runner.run(async_playwright().start())
        browser = runner.run(playwright.chromium.launch(executable_path=path, args=FLAGS))
        try:
            yield lambda work: runner.run(work(browser))
        finally:
            runner.run(browser.close())
            runner.run(playwright.stop())


# --- the benchmark ---


def measure(_: Path) -> str | None:
    """Let one reader read, then ten at once, round by round; then close all tabs."""
    if shutil.which("chromium") is None:
        return None
    films = sheets(READERS, ROUNDS + 1)
    with TemporaryDirectory() as folder, serving(Path(folder)) as server, alone() as run:
        load = os.getloadavg()[0]
        told = run(partial(_told, server, films))
        time.sleep(GONE + LOOK + 5)
        _, kept = server.alive()
    return f"Load of the machine before it began {load:.0f}.\n\n" + "\n".join(
        [
            "| readers at once | films | drop to answer, median s | 95 % within s "
            "| processor s of the server a film | server holds, MB | a reader, MB |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *told,
            "",
            f"{GONE + LOOK + 5} s after all tabs were closed {kept} films were alive in the server "
            f"(closed tabs may come back for {GONE} s here, for 60 s as shipped; it looks every "
            f"{LOOK} s). Errors, and answers of another film: 0 (one would end the benchmark).",
        ]
    )


async def _told(server: Server, films: Sequence[Sequence[Sheet]], browser: Any) -> list[str]:
    """Measure, and write a row for each round."""
    first = await open_page(browser, server.address)
    rows = []
    warm, *own = films[0]
    await one_round([first], [warm])
    await remove(first)
    base, busy, taken = server.memory(), server.busy(), []
    for sheet in own:
        taken += await one_round([first], [sheet])
        await remove(first)
    rows.append(_row("1", taken, server.busy() - busy, server.memory(), 0.0))
    pages = [await open_page(browser, server.address) for _ in films]
    for number in range(ROUNDS):
        busy = server.busy()
        taken = await one_round(pages, [sheets[1 + number] for sheets in films])
        memory = server.memory()
        each = (memory - base) / len(pages)
        rows.append(
            _row(f"{len(pages)}, round {number + 1}", taken, server.busy() - busy, memory, each)
        )
        for page in pages:
            await remove(page)
    for page in [first, *pages]:
        await page.context.close()
    return rows


def _row(who: str, taken: Sequence[float], busy: float, memory: float, each: float) -> str:
    half, most = np.percentile(taken, [50, 95])
    share = f"{each:.0f}" if each else ""
    return (
        f"| {who} | {len(taken)} | {half:.2f} | {most:.2f} | {busy / len(taken):.2f} "
        f"| {memory:.0f} | {share} |"
    )
