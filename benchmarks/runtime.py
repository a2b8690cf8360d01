"""What the exported graphs gain: one network both ways, and whole processes both ways."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.speed import MODEL, jpeg, timed
from cxr_core.cards import list_models, models_root
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.phantom import thorax
from cxr_core.preprocess import prepare
from cxr_core.runtime import GRAPH, RECORD

FILMS = 16
STARTS = 5
# The peak that Linux keeps of a process itself: getrusage counts the parent's in.
ANSWERED = """
import re, sys, time
from pathlib import Path
from cxr_core.__main__ import main
main(sys.argv[1:])
(peak,) = re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())
print(time.process_time(), peak, file=sys.stderr)
"""


def measure(data: Path) -> str:
    """Measure every model that carries a graph, and `predict` with its graph and without."""
    names = [card.name for card in list_models() if (models_root() / card.name / GRAPH).exists()]
    return "\n".join(
        [
            f"| model | one film, graph / Keras, ms | {FILMS} films, graph / Keras, ms "
            "| logits differ by | MB |",
            "|---|---:|---:|---:|---:|",
            *(_row(name) for name in names),
            "",
            f"| `predict --model {MODEL} --json FILM`, a fresh process | wall | processor "
            "| memory |",
            "|---|---:|---:|---:|",
            *_starts(),
        ]
    )


def _row(name: str) -> str:
    light = load_classifier(name)
    heavy = Classifier(light.card, light.network)
    made = [thorax(256, 224 + k, seed=k) for k in range(FILMS)]
    films = np.stack([prepare(film, light.card.preprocessing).pixels for film in made])
    t = timed(
        {
            "graph 1": lambda: light.forward(films[:1]),
            "Keras 1": lambda: heavy.forward(films[:1]),
            "graph": lambda: light.forward(films),
            "Keras": lambda: heavy.forward(films),
        }
    )
    gap = np.abs(light.forward(films)[0] - heavy.forward(films)[0]).max()
    size = (models_root() / name / GRAPH).stat().st_size / 1e6
    one, many = (f"{t[f'graph{n}'] * 1e3:.1f} / {t[f'Keras{n}'] * 1e3:.1f}" for n in (" 1", ""))
    return f"| {name} | {one} | {many} | {gap:.1g} | {size:.1f} |"


def _starts() -> list[str]:
    """Answer one film from nothing, with the graphs and without them."""
    with TemporaryDirectory() as folder:
        film, bare = Path(folder) / "film.jpg", Path(folder) / "models"
        film.write_bytes(jpeg())
        for name in (MODEL, "gate"):
            without = shutil.ignore_patterns(GRAPH, RECORD)
            shutil.copytree(models_root() / name, bare / name, ignore=without)
        roots = {"with its graph": models_root(), "without, by Keras": bare}
        taken = {way: [_once(film, root) for _ in range(STARTS)] for way, root in roots.items()}
    rows = []
    for way, runs in taken.items():
        wall, processor, memory = (median(values) for values in zip(*runs, strict=True))
        rows.append(f"| {way} | {wall:.2f} s | {processor:.2f} s | {memory:.0f} MB |")
    return rows


def _once(film: Path, root: Path) -> tuple[float, float, float]:
    """Return wall seconds, processor seconds and the peak of memory in MB."""
    arguments = ["predict", "--model", MODEL, "--json", str(film)]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", ANSWERED, *arguments],
        env=os.environ | {"CXR_MODELS": str(root)},
        check=True,
        capture_output=True,
        text=True,
    )
    wall = time.perf_counter() - began
    processor, memory = map(float, done.stderr.splitlines()[-1].split())
    return wall, processor, memory / 1024
