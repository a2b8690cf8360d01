"""Ratios in one run: what a reader waits for, over what the network alone would take."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks import app
from cxr_core.attribution import (
    COMPLETE,
    Integral,
    explain,
    get_method,
    integrate,
    list_methods,
)
from cxr_core.attribution.gradients import NOISE, SAMPLES
from cxr_core.attribution.perturbation import CHANNELS
from cxr_core.cards import load_history
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.images import read_radiograph
from cxr_core.phantom import Opacity, thorax
from cxr_core.preprocess import ModelInput, prepare

MODEL = "pediatric-pneumonia"
ROUNDS = 21
# Of methods that take seconds.
FEW_ROUNDS = 5


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
    rows = [*_answer(classifier), *_integrated(classifier, data), *_methods(classifier)]
    rows += [*_starts(), *app.measure(jpeg())]
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


def _methods(classifier: Classifier) -> list[str]:
    """Every method from the film alone, in forward passes; libraries given the same work."""
    film = prepare(read_radiograph(jpeg()), classifier.card.preprocessing)
    label = classifier.card.labels[0]
    names = list_methods()
    nodes = explain(classifier, film, label, "integrated-gradients").nodes or 0
    theirs = _keras_vis(classifier, film) | _pair(classifier, film, nodes)
    tasks = {"one pass": lambda: classifier.forward(film.pixels[None])}
    tasks |= {name: partial(explain, classifier, film, label, name) for name in names}
    t = timed(tasks | {f"their {name}": task for name, (_, task) in theirs.items()}, FEW_ROUNDS)
    rows = []
    for name in names:
        library = ""
        if name in theirs:
            library = f" ({theirs[name][0]}: {t[f'their {name}'] / t['one pass']:.0f})"
        cost = t[name] / t["one pass"]
        title = get_method(name).title
        rows.append(
            f"| {title}, {t[name] * 1e3:.0f} ms, in forward passes | {cost:.1f}{library} | |"
        )
    return rows


Library = tuple[str, Callable[[], object]]


def _keras_vis(classifier: Classifier, film: ModelInput) -> dict[str, Library]:
    """tf-keras-vis, its traps stepped around: our layer, no enlarging, Score-CAM of two logits."""
    import keras
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
    from tf_keras_vis.layercam import Layercam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.scores import CategoricalScore

    network, pixels = classifier.network, film.pixels[None]
    logit = network.output[:, :1]
    pair = keras.Model([network.input], keras.ops.concatenate([logit * 0, logit], axis=1))
    layer = {"penultimate_layer": "features", "seek_penultimate_conv_layer": False}
    kinds = {"grad-cam": Gradcam, "grad-cam++": GradcamPlusPlus, "layer-cam": Layercam}
    calls: dict[str, Callable[[], object]] = {
        name: partial(
            kind(network, clone=False), CategoricalScore(0), pixels, expand_cam=False, **layer
        )
        for name, kind in kinds.items()
    }
    scorecam = Scorecam(pair, clone=False)
    calls["score-cam"] = partial(scorecam, CategoricalScore(1), pixels, max_N=CHANNELS, **layer)
    saliency = Saliency(keras.Model([network.input], network.output), clone=False)
    calls["smoothgrad"] = partial(
        saliency, CategoricalScore(0), pixels, smooth_samples=SAMPLES, smooth_noise=NOISE
    )
    return {name: ("tf-keras-vis", call) for name, call in calls.items()}


def _pair(classifier: Classifier, film: ModelInput, nodes: int) -> dict[str, Library]:
    """PAIR's saliency over our gradients, with as many nodes as ours took."""
    from saliency.core.base import INPUT_OUTPUT_GRADIENTS
    from saliency.core.integrated_gradients import IntegratedGradients
    from saliency.core.xrai import XRAI, XRAIParameters

    direction = np.eye(len(classifier.card.labels), dtype=np.float32)[0]

    def slopes(films: np.ndarray, **_: object) -> dict[str, np.ndarray]:
        gradient = classifier.input_gradients(np.asarray(films, np.float32), direction)[1]
        return {INPUT_OUTPUT_GRADIENTS: gradient}

    black = np.full_like(film.pixels, film.black)
    integrated = partial(
        IntegratedGradients().GetMask, film.pixels, slopes, {}, black, nodes, batch_size=8
    )
    regions = partial(
        XRAI().GetMask,
        film.pixels,
        slopes,
        {},
        batch_size=8,
        extra_parameters=XRAIParameters(steps=nodes),
    )
    return {
        "integrated-gradients": ("PAIR saliency", integrated),
        "xrai": ("PAIR saliency", regions),
    }


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
