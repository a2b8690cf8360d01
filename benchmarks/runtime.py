"""What the exported graphs gain: one network both ways, and whole processes both ways."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
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

LABEL = "Pneumonia"
FILMS = 16
AT_ONCE = 8  # as integrated gradients ask
STARTS = 5
# The peak that Linux keeps of a process itself: getrusage counts the parent's in.
ANSWERED = """
import re, sys, time
from pathlib import Path
from cxr_core.__main__ import main
if main(sys.argv[1:]):
    sys.exit(1)
(peak,) = re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())
print(time.process_time(), peak, file=sys.stderr)
"""


def measure(data: Path) -> str:
    """Measure every model that carries a graph, and `predict` with its graph and without."""
    names = [card.name for card in list_models() if (models_root() / card.name / GRAPH).exists()]
    return "\n".join(
        [
            f"| model | one film, graph / Keras, ms | {FILMS} films, graph / Keras, ms "
            f"| gradients of {AT_ONCE} films, graph / Keras, ms | logits differ by "
            "| gradients differ by | MB |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *(_row(name) for name in names),
            "",
            f"| one film, model {MODEL}, a fresh process | wall | processor | memory |",
            "|---|---:|---:|---:|",
            *_starts(),
        ]
    )


def _row(name: str) -> str:
    light = load_classifier(name)
    heavy = Classifier(light.card, light.network)
    made = [thorax(256, 224 + k, seed=k) for k in range(FILMS)]
    films = np.stack([prepare(film, light.card.preprocessing).pixels for film in made])
    first = np.eye(len(light.card.labels), dtype=np.float32)[0]
    t = timed(
        {
            "graph 1": lambda: light.forward(films[:1]),
            "Keras 1": lambda: heavy.forward(films[:1]),
            "graph": lambda: light.forward(films),
            "Keras": lambda: heavy.forward(films),
            "graph back": lambda: light.input_gradients(films[:AT_ONCE], first),
            "Keras back": lambda: heavy.input_gradients(films[:AT_ONCE], first),
        }
    )
    gap = np.abs(light.forward(films)[0] - heavy.forward(films)[0]).max()
    found, expected = (one.input_gradients(films, first)[1] for one in (light, heavy))
    apart = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    size = (models_root() / name / GRAPH).stat().st_size / 1e6
    cells = (
        f"{t[f'graph{n}'] * 1e3:.1f} / {t[f'Keras{n}'] * 1e3:.1f}" for n in (" 1", "", " back")
    )
    return f"| {name} | {' | '.join(cells)} | {gap:.1g} | {apart:.1g} | {size:.1f} |"


def _starts() -> list[str]:
    """Answer and explain one film from nothing, with the graphs and without them."""
    with TemporaryDirectory() as folder:
        film, bare = Path(folder) / "film.jpg", Path(folder) / "models"
        film.write_bytes(jpeg())
        for name in (MODEL, "gate"):
            without = shutil.ignore_patterns(GRAPH, RECORD)
            shutil.copytree(models_root() / name, bare / name, ignore=without)
        roots = {"with its graph": models_root(), "without, by Keras": bare}
        asked = {
            "predict": ["--json", str(film)],
            "explain": [
                str(film), "--label", LABEL, "--method", "integrated-gradients", "-o",
                f"{folder}/map.png",
            ],
        }  # fmt: skip
        taken = {
            f"`{command}`, {way}": [
                once([command, "--model", MODEL, *more], root) for _ in range(STARTS)
            ]
            for command, more in asked.items()
            for way, root in roots.items()
        }
    rows = []
    for way, runs in taken.items():
        wall, processor, memory = (median(values) for values in zip(*runs, strict=True))
        rows.append(f"| {way} | {wall:.2f} s | {processor:.2f} s | {memory:.0f} MB |")
    return rows


def once(arguments: Sequence[str], root: Path) -> tuple[float, float, float]:
    """Run a command; return wall seconds, processor seconds and the peak of its memory in MB."""
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
