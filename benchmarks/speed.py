"""Ratios in one run: what a reader waits for, over what the network alone would take."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks import app
from cxr_core.attribution import COMPLETE, Integral, explain, integrate
from cxr_core.cards import load_history
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.images import read_radiograph
from cxr_core.phantom import Opacity, thorax
from cxr_core.preprocess import ModelInput, prepare

MODEL = "pediatric-pneumonia"
ROUNDS = 21


@cache
def jpeg() -> bytes:
    """Make a grey JPEG of a phantom, 1,800 pixels wide, as large as the real films."""
    film = thorax(1600, 1800, seed=7, opacities=(Opacity(0.3, 0.6, 0.09, 0.75),))
    stream = BytesIO()
    Image.fromarray((film.pixels * 255).astype(np.uint8)).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def timed(tasks: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Run all tasks in turn, again and again, so that noise meets all alike: median seconds."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            taken[name].append(time.perf_counter() - began)
    return {name: median(values) for name, values in taken.items()}


def measure(data: Path) -> str:
    """Measure on the shipped model; without real films, integrated gradients on a phantom only."""
    import keras

    keras.config.disable_interactive_logging()
    classifier = load_classifier(MODEL)
    classifier.warm_up()
    rows = [*_answer(classifier), *_integrated(classifier, data), *_starts(), *app.measure(jpeg())]
    rows.append(_training())
    return "\n".join(["| what | measured | wanted |", "|---|---:|---:|", *rows])


def _answer(classifier: Classifier) -> list[str]:
    """One film, from bytes to Grad-CAM."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    film = jpeg()
    label = classifier.card.labels[0]
    pixels = prepare(read_radiograph(film), classifier.card.preprocessing).pixels[None]
    bare = _bare(classifier, pixels)
    theirs = Gradcam(classifier.network, clone=False)

    def ours() -> None:
        model_input = prepare(read_radiograph(film), classifier.card.preprocessing)
        prediction = classifier.predict(model_input)
        explain(classifier, model_input, label, "grad-cam", features=prediction.features)

    def seen_and_pointed() -> None:
        prediction = classifier.predict(prepare_input)
        explain(classifier, prepare_input, label, "grad-cam", features=prediction.features)

    prepare_input = prepare(read_radiograph(film), classifier.card.preprocessing)

    def library() -> None:
        classifier.network.predict(pixels, verbose=0)
        theirs(
            CategoricalScore(0),
            pixels,
            penultimate_layer="features",
            seek_penultimate_conv_layer=False,
            expand_cam=False,
        )

    t = timed(
        {
            "decode": lambda: np.asarray(Image.open(BytesIO(film))),
            "bare": lambda: bare(pixels),
            "ours": ours,
            "pointed": seen_and_pointed,
            "library": library,
        }
    )
    floor = t["decode"] + t["bare"]
    return [
        f"| Bare forward pass, one film | {t['bare'] * 1e3:.1f} ms | |",
        f"| Pillow alone decoding a 1,800-px JPEG | {t['decode'] * 1e3:.1f} ms | |",
        f"| Decode + preprocess + predict + Grad-CAM | {t['ours'] * 1e3:.1f} ms | |",
        f"| ... over bare forward pass + Pillow | {t['ours'] / floor:.2f} | <= 1.5 |",
        f"| tf-keras-vis Grad-CAM + model.predict, over our predict + Grad-CAM | "
        f"{t['library'] / t['pointed']:.1f} | >= 5 |",
    ]


def _bare(classifier: Classifier, pixels: np.ndarray) -> Callable[[np.ndarray], object]:
    """Trace the network as it was saved: what anyone gets without this library."""
    import tensorflow as tf

    return tf.function(classifier.network, input_signature=[tf.TensorSpec(pixels.shape)])


def _integrated(classifier: Classifier, data: Path) -> list[str]:
    """Integrated gradients: what 32 gradients cost, and how complete films are by then."""
    direction = np.eye(len(classifier.card.labels), dtype=np.float32)[0]
    paths = sorted((data / "pediatric_fullres").rglob("*.jp*g"))
    sources = [path.read_bytes() for path in paths] or [jpeg()]
    said = "the benchmark film" if len(sources) == 1 else f"{len(sources)} films at full size"
    films = [prepare(read_radiograph(source), classifier.card.preprocessing) for source in sources]

    def run(film: ModelInput, **limits: int) -> Integral:
        return integrate(
            lambda points: classifier.input_gradients(points.astype(np.float32), direction),
            film.pixels,
            np.full_like(film.pixels, film.black),
            **limits,
        )

    film = films[0]
    bare = _bare(classifier, film.pixels[None])
    t = timed(
        {
            "bare": lambda: bare(film.pixels[None]),
            "32": lambda: run(film, nodes=32, most=32),
        },
        9,
    )
    within = [run(each, most=32).relative_gap for each in films]
    complete = [run(each).nodes for each in films]
    done = sum(gap < COMPLETE for gap in within)
    return [
        f"| Integrated gradients, 32 nodes, over one bare forward pass | "
        f"{t['32'] / t['bare']:.1f} | <= 45 |",
        f"| ... completeness gap within 32 nodes, median over {said} | "
        f"{median(within):.2%} | < 1 % |",
        f"| ... films complete (gap below 1 %) within 32 nodes | {done} of {len(films)} | |",
        f"| ... nodes until complete, median and most | "
        f"{median(complete):.0f}, {max(complete)} | |",
    ]


def _starts() -> list[str]:
    """Whole processes, from nothing."""
    rows = []
    for what, code in (
        ("`python -m cxr_core --help`", "-m cxr_core --help"),
        ("Dashboard data without TensorFlow", "-c import~cxr_core.cards,cxr_core.figures"),
        (
            "First answer of a fresh process",
            f"-m cxr_core predict --model {MODEL} --json FILM",
        ),
    ):
        arguments = [part.replace("~", " ") for part in code.split(" ")]
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            _run(arguments)
            taken.append(time.perf_counter() - began)
        rows.append(f"| {what} | {median(taken):.2f} s | |")
    return rows


def _run(arguments: list[str]) -> None:
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(suffix=".jpg") as file:
        file.write(jpeg())
        file.flush()
        command = [file.name if part == "FILM" else part for part in arguments]
        subprocess.run([sys.executable, *command], check=True, capture_output=True)


def _training() -> str:
    """What the shipped model's history says of its own training."""
    history = load_history(MODEL)
    rate, waited = median(history["films_per_second"]), median(history["waiting_share"])
    return (
        f"| Training: share of the epoch spent in the network ({rate:.0f} films/s) | "
        f"{1 - waited:.1%} | >= 90 % |"
    )
