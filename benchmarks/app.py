"""How long a reader waits: from starting the app to the first answer, in a real browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def measure(film: bytes, rounds: int = 3) -> list[str]:
    """Start the app, drop a film as soon as the page takes one, wait for the answer in words."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return ["| First answer after starting the app | not measured: no chromium | < 3 s |"]
    runs = [_one_round(chromium, film) for _ in range(rounds)]
    first, second, busy = (median(values) for values in zip(*runs, strict=True))
    return [
        f"| From starting the app to its first answer, browser included | {first:.1f} s | < 3 s |",
        f"| ... of it processor time of the server | {busy:.1f} s | |",
        f"| A second film in the same session, drop to answer | {second:.2f} s | |",
    ]


def processor_seconds(process: int) -> float:
    """Return what a running process has taken of the processor so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _one_round(chromium: str, film: bytes) -> tuple[float, float, float]:
    """Return seconds to the first answer, to the second, and the server's until the first."""
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        paths = [Path(folder) / name for name in ("first.jpg", "second.jpg")]
        for k, path in enumerate(paths):
            path.write_bytes(film + bytes(k))  # another digest, the same film
        context = playwright.chromium.launch_persistent_context(
            Path(folder) / "profile", executable_path=chromium, headless=True, args=FLAGS
        )
        page = context.new_page()
        began = time.perf_counter()
        with server() as (address, process):
            page.goto(address)
            took, busy = [], []
            for path in paths:
                page.set_input_files(".st-key-intake input[name=films]", path)
                page.get_by_text(path.name).first.wait_for(timeout=120_000)
                answer = page.get_by_role("status", name="Answer")
                answer.get_by_text("pneumonia").first.wait_for(timeout=120_000)
                took.append(time.perf_counter() - began)
                busy.append(processor_seconds(process))
                page.locator("[data-test-script-state=notRunning]").wait_for(timeout=120_000)
                began = time.perf_counter()
        context.close()
    return took[0], took[1], busy[0]


def _environment() -> dict[str, str]:
    """Return that of a user, whose Python keeps what it compiled for the next start."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "3"}


@contextmanager
def server() -> Iterator[tuple[str, int]]:
    """Run the app on a free port; yield its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}"],
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                with urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
                    break
            except (URLError, OSError):
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(30)
