"""What `screen` takes on this machine: by threads, by processes, with contours; memory by films.

Wall times are worth what the machine is left alone; processor times hardly care.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.runtime import once
from benchmarks.speed import MODEL, jpeg
from cxr_core.cards import models_root

ROOT = Path(__file__).parents[1]
MODELS = (MODEL, "adult-findings")
FILMS = 96  # a round
ROUNDS = 3
# Ways to spread the work: processes, and threads that decode in each.
WAYS = ((1, 1), (1, 2), (1, 4), (2, 1))
COUNTS = (256, 2048)  # films of the runs whose memory is compared
# Answers films and prints seconds and processor seconds, both without the start.
ANSWER = """
import sys, time
from cxr_core.classifier import load_classifier
from cxr_core.screening import screen
model, readers, *files = sys.argv[1:]
classifier = load_classifier(model)
list(screen(classifier, files[:4], gate=False))
began, busy = time.perf_counter(), time.process_time()
list(screen(classifier, files, gate=False, readers=int(readers)))
print(time.perf_counter() - began, time.process_time() - busy)
"""


def measure(_: Path) -> str:
    """Measure films of 1,800 pixels, as JPEG."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "film.jpg").write_bytes(jpeg())
        return "\n".join(
            [
                f"{FILMS} links to a JPEG of 1,800 x 1,600 pixels, median of {ROUNDS} rounds.",
                "",
                "| model | processes x threads that decode | films a second "
                "| processor ms a film |",
                "|---|---|---:|---:|",
                *(row for model in MODELS for row in _ways(model, folder)),
                "",
                f"| `screen --model {MODEL}`, the whole command | films a second "
                "| processor ms a film | peak memory MB |",
                "|---|---:|---:|---:|",
                *(_command(folder, films) for films in COUNTS),
                _command(folder, COUNTS[0], "--contours"),
            ]
        )


def _ways(model: str, folder: Path) -> list[str]:
    """Spread the same films in every way, round by round, so that noise meets all alike."""
    taken: dict[tuple[int, int], list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            taken[way].append(_spread(model, folder, *way))
    rows = []
    for (processes, readers), runs in taken.items():
        wall, busy = (median(values) for values in zip(*runs, strict=True))
        cells = f"{FILMS / wall:.1f} | {1e3 * busy / FILMS:.1f}"
        rows.append(f"| {model} | {processes} x {readers} | {cells} |")
    return rows


def _spread(model: str, folder: Path, processes: int, readers: int) -> tuple[float, float]:
    """Return the seconds of the slowest process, and the processor seconds of all."""
    films = [str(folder / "film.jpg")] * (FILMS // processes)
    command = [sys.executable, "-c", ANSWER, model, str(readers), *films]
    running = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    told = [process.communicate()[0].split() for process in running]
    return max(float(one[0]) for one in told), sum(float(one[1]) for one in told)


def _command(folder: Path, films: int, *more: str) -> str:
    """Run the command on so many links to the same film."""
    archive, out = folder / f"{films}{''.join(more)}", folder / f"{films}{''.join(more)}.parquet"
    archive.mkdir()
    for number in range(films):
        os.link(folder / "film.jpg", archive / f"{number:06}")
    asked = ["screen", "--model", MODEL, str(archive), "-o", str(out), *more]
    wall, busy, memory = once(asked, models_root())
    if not out.exists():
        raise RuntimeError(f"`{' '.join(asked)}` wrote nothing.")
    what = " ".join([f"{films:,} films", *(f"with `{one}`" for one in more)])
    return f"| {what} | {films / wall:.1f} | {1e3 * busy / films:.1f} | {memory:.0f} |"
