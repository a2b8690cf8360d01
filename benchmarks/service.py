"""The HTTP API under load on this machine: films a second and waiting times, by clients at once.

The clients run here too and take their share of the cores. Each keeps one connection and sends
its next film when it has the answer to the last.
"""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from benchmarks.speed import MODEL, jpeg
from cxr_core.classifier import load_classifier
from cxr_core.screening import Prepared, prepare_film

ROOT = Path(__file__).parents[1]
CLIENTS = (1, 4, 16)
FILMS = 320  # asked about by each number of clients; a multiple of them all


def measure(_: Path) -> str:
    """Start the service, ask it, and write a table."""
    film = jpeg()
    rows = [_row("without HTTP, one film after another", *_bare(film))]
    with _service() as port:
        _ask(port, film, 2 * max(CLIENTS))  # the first answers, which nobody measures
        for clients in CLIENTS:
            before = _numbers(port)
            taken, seconds = _load(port, film, clients)
            after = _numbers(port)
            busy = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
            passes = after["cxr_batch_films_count"] - before["cxr_batch_films_count"]
            rows.append(_row(f"clients at once: {clients}", taken, seconds, busy, FILMS / passes))
        memory = _numbers(port)["process_resident_memory_bytes"] / 2**20
    return "\n".join(
        [
            f"{MODEL}, {FILMS} films of 1,800 pixels for each row, errors 0 (one would end it); "
            f"the service then held {memory:.0f} MB.",
            "",
            "| what | films a second | median ms | 95 % within ms | 99 % within ms "
            "| processor ms a film | films in one pass |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *rows,
        ]
    )


def _row(what: str, taken: list[float], seconds: float, busy: float, share: float = 1) -> str:
    waits = " | ".join(f"{1e3 * np.percentile(taken, q):.0f}" for q in (50, 95, 99))
    rate, cost = len(taken) / seconds, 1e3 * busy / len(taken)
    return f"| {what} | {rate:.1f} | {waits} | {cost:.1f} | {share:.1f} |"


def _bare(film: bytes) -> tuple[list[float], float, float]:
    """Do the same work in this process: seconds of each film, of all, and of the processor."""
    classifier = load_classifier(MODEL)
    taken, busy = [], 0.0
    for done in range(FILMS + 10):
        if done == 10:  # the first ones are slower
            busy = time.process_time()
        began = time.perf_counter()
        read = prepare_film(film, "film.jpg", classifier.card, gate=False)
        if not isinstance(read, Prepared):
            raise RuntimeError(f"The film of the benchmark was not read: {read}.")
        json.dumps(read.answered(*classifier.predict_batch([read.model_input])).to_json(MODEL))
        taken.append(time.perf_counter() - began)
    return taken[10:], sum(taken[10:]), time.process_time() - busy


@contextmanager
def _service() -> Iterator[int]:
    """Run the service on a free port, and give that port once it is ready."""
    command = f"-m cxr_core serve --model {MODEL} --port 0 --rate 1000000"
    process = subprocess.Popen(
        [sys.executable, *command.split()], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    if process.stderr is None:
        raise RuntimeError("The service has no stderr.")
    try:
        port = int(process.stderr.readline().split(" port ")[1].split(";")[0])
        # Its lines are read, lest it waits for somebody to read them.
        with ThreadPoolExecutor(1) as reader:
            reader.submit(lambda lines: [None for _ in lines], process.stderr)
            while _get(port, "/ready")[0] != 200:
                time.sleep(0.2)
            yield port
            process.terminate()
            process.wait(60)
    finally:
        process.kill()
        process.wait()


def _get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def _numbers(port: int) -> dict[str, float]:
    """Ask what the service counted, whatever the labels."""
    numbers: dict[str, float] = defaultdict(float)
    for line in _get(port, "/metrics")[1].splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            numbers[name.split("{")[0]] += float(value)
    return numbers


def _load(port: int, film: bytes, clients: int) -> tuple[list[float], float]:
    """Let so many clients ask at once: seconds of each answer, and of all."""
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        taken = pool.map(partial(_ask, port, film), [FILMS // clients] * clients)
        return [one for several in taken for one in several], time.perf_counter() - began


def _ask(port: int, film: bytes, films: int) -> list[float]:
    """Ask about a film again and again over one connection; an error ends the benchmark."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    taken = []
    for _ in range(films):
        began = time.perf_counter()
        connection.request("POST", "/predict?no_gate=true", film)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        taken.append(time.perf_counter() - began)
        if answer.status != 200 or not body["predictions"]:
            raise RuntimeError(f"The service answered {answer.status}: {body}")
    connection.close()
    return taken
