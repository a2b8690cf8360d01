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
from cxr_core.attribution import Integral, explain, integrate
from cxr_core.cards import load_history
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.images import read_radiograph
from cxr_core.phantom import Opacity, thorax
from cxr_core.preprocess import prepare

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
    """Measure on the shipped model; needs no films."""
    import keras

    keras.config.disable_interactive_logging()
    classifier = load_classifier(MODEL)
    classifier.warm_up()
    rows = [*_answer(classifier), *_integrated(classifier), *_starts(), *app.measure(jpeg())]
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


def _integrated(classifier: Classifier) -> list[str]:
    """Integrated gradients against one forward pass: 32 nodes, and until complete."""
    film = prepare(read_radiograph(jpeg()), classifier.card.preprocessing)
    direction = np.eye(len(classifier.card.labels), dtype=np.float32)[0]
    black = np.full_like(film.pixels, film.black)

    def run(**limits: int) -> Integral:
        return integrate(
            lambda points: classifier.input_gradients(points.astype(np.float32), direction),
            film.pixels,
            black,
            **limits,
        )

    bare = _bare(classifier, film.pixels[None])
    t = timed(
        {
            "bare": lambda: bare(film.pixels[None]),
            "forward": lambda: classifier.forward(film.pixels[None]),
            "32": lambda: run(most=32),
            "complete": run,
        },
        9,
    )
    within, complete = run(most=32), run()
    return [
        f"| Integrated gradients, at most 32 nodes ({within.nodes} used), over one bare forward "
        f"pass | {t['32'] / t['bare']:.1f} | <= 45 |",
        f"| ... over our own forward pass, which is faster | {t['32'] / t['forward']:.1f} | |",
        f"| ... completeness gap of the same run, on the phantom | "
        f"{within.relative_gap:.2%} | < 1 % |",
        f"| ... until complete ({complete.nodes} nodes, gap {complete.relative_gap:.2%}), over one "
        f"bare forward pass | {t['complete'] / t['bare']:.1f} | |",
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
