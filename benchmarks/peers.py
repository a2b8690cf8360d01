"""What a user would pick instead, on the same film, and what the machine itself allows.

Each contender is a process of its own, kept to one core; they take turns, task by task and round
by round. Times are of the processor: what each would take on a core that nobody else uses. This
file is also what those processes run, one of them in another environment: at the top it imports
nothing but Python.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from importlib.metadata import distribution
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MODEL = "pediatric-pneumonia"
PEERS = ROOT / ".cache" / "peers"
INSTALL = (
    "TorchXRayVision is not here. To measure it: `python3 -m venv .cache/peers`, then "
    "`.cache/peers/bin/pip install torch==2.13.0+cpu --index-url "
    "https://download.pytorch.org/whl/cpu` and "
    "`.cache/peers/bin/pip install torchxrayvision==1.5.7 grad-cam==1.5.7`."
)
ROUNDS = 9
FEW_ROUNDS = 3  # of what takes seconds
FILMS = 16
NODES, AT_ONCE = 32, 8
SIDE = 1024  # of the matrices
COPIED = 2**28  # bytes


Packages = tuple[list[str], list[str], list[str]]
"""What to install to answer and point; to have an app, too; to train, too."""


# --- what each process does ---


class Ours:
    """This library; a network that answers and points through its graph."""

    title = "ours"

    def __init__(self, film: bytes) -> None:
        """Load what an answer needs, and no more."""
        from cxr_core.attribution import explain, integrate
        from cxr_core.classifier import load_classifier
        from cxr_core.images import read_radiograph
        from cxr_core.preprocess import prepare

        self._explain, self._integrate = explain, integrate
        self._classifier = load_classifier(MODEL)
        card = self._classifier.card
        self._label = card.labels[0]
        self._read = lambda: prepare(read_radiograph(film), card.preprocessing)
        self._film = self._read()

    def answer(self) -> None:
        """From the bytes of the file to a probability."""
        self._classifier.predict(self._read())

    def map(self) -> None:
        """An answer and its Grad-CAM."""
        film = self._read()
        features = self._classifier.predict(film).features
        self._explain(self._classifier, film, self._label, "grad-cam", features=features)

    def integrated(self) -> None:
        """Integrated gradients of a film that was read."""
        np = import_module("numpy")
        direction = np.eye(len(self._classifier.card.labels), dtype=np.float32)[0]
        self._integrate(
            lambda points: self._classifier.input_gradients(points.astype(np.float32), direction),
            self._film.pixels,
            np.full_like(self._film.pixels, self._film.black),
            nodes=NODES,
            most=NODES,
        )

    def many(self) -> None:
        """Films by the handful, each from its bytes."""
        self._classifier.predict_batch([self._read() for _ in range(FILMS)])

    def network(self) -> None:
        """The network alone."""
        self._classifier.forward(self._film.pixels[None])

    def size(self) -> tuple[float, float]:
        """The size of the network is Keras' to tell."""
        return 0.0, 0.0

    def packages(self) -> Packages:
        """Return what answers and points, the app, and all of it."""
        app = pins(file="deploy/requirements.txt")
        return pins(file="deploy/requirements-answers.txt"), app, [*app, *pins()]


def pins(name: str = "", file: str = "requirements.txt") -> list[str]:
    """Return the lines of a file of requirements that name packages, by how those begin."""
    lines = (ROOT / file).read_text("utf-8").splitlines()
    return [line for line in lines if line and line[0] not in "#-" and line.startswith(name)]


class Keras:
    """The same network as anyone has it: Pillow, `predict`, tf-keras-vis, PAIR saliency."""

    title = "Keras `predict`, tf-keras-vis, PAIR saliency"

    def __init__(self, film: bytes) -> None:
        """Load the network."""
        import keras

        self._source = film
        self._network = keras.saving.load_model(
            ROOT / "models" / MODEL / "model.keras", compile=False
        )
        self._side = self._network.input_shape[1]
        self._film = self._read()

    def _read(self) -> Any:
        import numpy as np
        from PIL import Image

        image = Image.open(BytesIO(self._source)).convert("L")
        square = image.resize((self._side, self._side), Image.Resampling.BILINEAR)
        pixels = np.asarray(square, np.float32)[None, :, :, None]
        return pixels.repeat(self._network.input_shape[-1], axis=-1)

    def answer(self) -> None:
        """From the bytes of the file to a logit."""
        self._network.predict(self._read(), verbose=0)

    def map(self) -> None:
        """An answer and its Grad-CAM."""
        from tf_keras_vis.gradcam import Gradcam
        from tf_keras_vis.utils.scores import CategoricalScore

        pixels = self._read()
        self._network.predict(pixels, verbose=0)
        Gradcam(self._network, clone=False)(
            CategoricalScore(0),
            pixels,
            penultimate_layer="features",
            seek_penultimate_conv_layer=False,
            expand_cam=False,
        )

    def integrated(self) -> None:
        """Integrated gradients by PAIR saliency, gradients by a tape."""
        import tensorflow as tf
        from saliency.core.base import INPUT_OUTPUT_GRADIENTS
        from saliency.core.integrated_gradients import IntegratedGradients

        def slopes(films: Any, **_: object) -> dict[str, Any]:
            points = tf.convert_to_tensor(films, tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(points)
                score = self._network(points)[:, 0]
            return {INPUT_OUTPUT_GRADIENTS: tape.gradient(score, points).numpy()}

        film = self._film[0]
        IntegratedGradients().GetMask(film, slopes, {}, film * 0, NODES, batch_size=AT_ONCE)

    def many(self) -> None:
        """Films by the handful, each from its bytes."""
        import numpy as np

        films = np.concatenate([self._read() for _ in range(FILMS)])
        self._network.predict(films, verbose=0)

    def network(self) -> None:
        """The network alone."""
        self._network.predict(self._film, verbose=0)

    def size(self) -> tuple[float, float]:
        """Return operations of one pass, and bytes that it must at least read."""
        kinds = ("Conv2D", "DepthwiseConv2D", "Dense")
        layers = [one for one in self._network.layers if type(one).__name__ in kinds]
        passes = sum(
            one.kernel.shape.num_elements() * places(one.output.shape[1:-1]) for one in layers
        )
        return 2.0 * passes, 4.0 * self._network.count_params() + self._film.nbytes

    def packages(self) -> Packages:
        """What trains is also what answers and points; there is no app."""
        each = [*pins("tensorflow"), "keras", "pillow", "tf-keras-vis", "saliency"]
        return each, each, each


class Torch:
    """TorchXRayVision's DenseNet121 with random weights, read as its page shows."""

    title = "TorchXRayVision, pytorch-grad-cam"

    def __init__(self, film: bytes) -> None:
        """Build the network."""
        torch = self._torch = import_module("torch")
        _define_what_detects(torch)
        self._vision = import_module("torchxrayvision")
        self._skimage = import_module("skimage.io")
        transforms = import_module("torchvision").transforms
        sets = self._vision.datasets
        self._fit = transforms.Compose([sets.XRayCenterCrop(), sets.XRayResizer(224)])
        self._model = self._vision.models.DenseNet(weights=None).eval()
        self._source = film
        self._film = self._read()

    def _read(self) -> Any:
        image = self._skimage.imread(BytesIO(self._source))
        film = self._vision.datasets.normalize(image, 255)[None]
        return self._torch.from_numpy(self._fit(film))[None]

    def answer(self) -> None:
        """From the bytes of the file to logits."""
        with self._torch.inference_mode():
            self._model(self._read())

    def map(self) -> None:
        """Grad-CAM, whose forward pass is the answer, too."""
        cam = import_module("pytorch_grad_cam")
        targets = import_module("pytorch_grad_cam.utils.model_targets")
        with cam.GradCAM(model=self._model, target_layers=[self._model.features[-1]]) as drawn:
            drawn(input_tensor=self._read(), targets=[targets.ClassifierOutputTarget(0)])

    def integrated(self) -> None:
        """Integrated gradients by autograd; pytorch-grad-cam has none."""
        torch = self._torch
        shares = (torch.arange(NODES, dtype=torch.float32) + 0.5) / NODES
        for some in shares.split(AT_ONCE):
            points = (some[:, None, None, None] * self._film).requires_grad_()
            torch.autograd.grad(self._model(points)[:, 0].sum(), points)

    def many(self) -> None:
        """Films by the handful, each from its bytes."""
        with self._torch.inference_mode():
            self._model(self._torch.cat([self._read() for _ in range(FILMS)]))

    def network(self) -> None:
        """The network alone."""
        with self._torch.inference_mode():
            self._model(self._film)

    def size(self) -> tuple[float, float]:
        """Return operations of one pass, and bytes that it must at least read."""
        nn, passes = self._torch.nn, []

        def note(layer: Any, _: object, output: Any) -> None:
            passes.append(layer.weight.numel() * places(output.shape[2:]))

        layers = [one for one in self._model.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
        hooks = [one.register_forward_hook(note) for one in layers]
        self.network()
        for hook in hooks:
            hook.remove()
        values = sum(one.numel() for one in self._model.parameters()) + self._film.numel()
        return 2.0 * sum(passes), 4.0 * values

    def packages(self) -> Packages:
        """As for `Keras`."""
        names = ["torchxrayvision", "grad-cam"]
        return names, names, names


class Machine:
    """The machine alone: how fast it multiplies matrices, and moves memory."""

    def __init__(self, _: bytes) -> None:
        """Make room."""
        import numpy as np

        self._np = np
        self._factor = np.ones((SIDE, SIDE), np.float32)
        self._from, self._to = np.ones(COPIED, np.uint8), np.zeros(COPIED, np.uint8)

    def multiply(self) -> None:
        """2 SIDE^3 operations."""
        self._factor @ self._factor

    def copy(self) -> None:
        """COPIED bytes read, and as many written."""
        self._np.copyto(self._to, self._from)


CONTENDERS = {one.__name__: one for one in (Ours, Keras, Torch, Machine)}
CONTEST = ("answer", "map", "integrated", "many", "network")


def places(shape: Iterable[int | None]) -> int:
    """Count the places at which a layer applies its weights."""
    count = 1
    for side in shape:
        count *= side or 1
    return count


def _define_what_detects(torch: Any) -> None:
    """Name two operations that torchvision lacks where it was built for another torch."""
    try:
        import_module("torchvision")
    except RuntimeError:
        for name in [one for one in sys.modules if one.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            kind = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", kind)


def _work(name: str, film: Path) -> None:
    """Do one task for each line that comes; answer with seconds and memory, in JSON."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    contender = CONTENDERS[name](film.read_bytes())
    for line in sys.stdin:
        if line.strip() == "size":
            said: object = [*contender.size(), *map(installed, contender.packages())]
        else:
            began = time.process_time()
            getattr(contender, line.strip())()
            now = time.process_time()
            said = [now - began, now, _peak()]
        print(json.dumps(said), file=answers, flush=True)


def _peak() -> float:
    """Return the most megabytes that this process held; ru_maxrss counts its parent's, too."""
    return int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024


def installed(names: Sequence[str]) -> float:
    """Return the megabytes that packages take with all that they need."""
    requirement = import_module("packaging.requirements").Requirement
    waiting = [*names]
    seen: set[str] = set()
    total = 0
    while waiting:
        wanted = requirement(waiting.pop())
        name = wanted.name.lower().replace("_", "-")
        if name in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        found = distribution(name)
        waiting += found.requires or []
        paths = (Path(str(one.locate())) for one in found.files or () if one.suffix != ".pyc")
        total += sum(path.stat().st_size for path in paths if path.exists())
    return total / 1e6


# --- the contest ---


class Measured(NamedTuple):
    """What one contender took.

    Attributes:
        seconds: Of each task, median over rounds.
        shortest: Seconds of the network alone, to be held against the machine's own shortest.
        first: Processor seconds from the start of the process to its first answer.
        memory: Largest so far, in MB: after the first answer, Grad-CAM, integrated gradients.
        operations: Of one pass of its network.
        bytes: That such a pass must at least read.
        answers: MB on disk of what answers and maps need.
        app: With an app, where there is one.
        install: With what trains, too.
    """

    seconds: dict[str, float]
    shortest: float
    first: float
    memory: tuple[float, float, float]
    operations: float
    bytes: float
    answers: float
    app: float
    install: float


class _Process:
    """A contender at work in a process of its own."""

    def __init__(self, python: Path, name: str, film: Path, stack: ExitStack) -> None:
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "OPENBLAS_NUM_THREADS": "1"}
        started = subprocess.Popen(
            [str(python), "-W", "ignore", str(Path(__file__).resolve()), name, str(film)],
            cwd=ROOT,
            env=os.environ | quiet | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._process = stack.enter_context(started)
        stack.callback(started.kill)
        self.name = name

    def ask(self, what: str) -> list[float]:
        """Have one task done."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("The process has no pipes.")
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended at '{what}': run this file with its name.")
        answer: list[float] = json.loads(line)
        return answer


def measure(_: Path) -> str:
    """Let all contenders that are here take turns, and write a table."""
    from benchmarks.speed import jpeg

    python = {"Ours": Path(sys.executable), "Keras": Path(sys.executable)}
    if (PEERS / "bin" / "python").exists():
        python["Torch"] = PEERS / "bin" / "python"
    load = os.getloadavg()[0]
    with NamedTemporaryFile(suffix=".jpg") as file, ExitStack() as stack:
        file.write(jpeg())
        file.flush()
        film = Path(file.name)
        runs = [_Process(path, name, film, stack) for name, path in python.items()]
        machine = _Process(Path(sys.executable), "Machine", film, stack)
        found, limits = _contest(runs, machine)
    # Ours is the network that Keras has.
    same = {"operations": found["Keras"].operations, "bytes": found["Keras"].bytes}
    found["Ours"] = found["Ours"]._replace(**same)
    missing = "" if "Torch" in found else f"\n\n{INSTALL}"
    return _table(found, limits, load) + missing


def _contest(
    runs: Sequence[_Process], machine: _Process
) -> tuple[dict[str, Measured], tuple[float, float]]:
    """Return what each took; operations and bytes that the machine manages in a second."""
    firsts = {one.name: {task: one.ask(task) for task in CONTEST} for one in runs}
    taken: dict[str, dict[str, list[float]]] = {
        one.name: {task: [] for task in CONTEST} for one in runs
    }
    multiplied, copied = [], []
    for number in range(ROUNDS):
        for task in CONTEST:
            if task == "integrated" and number >= FEW_ROUNDS:
                continue
            for one in runs:
                taken[one.name][task].append(one.ask(task)[0])
            multiplied.append(machine.ask("multiply")[0])
            copied.append(machine.ask("copy")[0])
    found = {}
    for one in runs:
        first = firsts[one.name]
        found[one.name] = Measured(
            {task: median(values) for task, values in taken[one.name].items()},
            min(taken[one.name]["network"]),
            first["answer"][1],
            (first["answer"][2], first["map"][2], first["integrated"][2]),
            *one.ask("size"),
        )
    return found, (2 * SIDE**3 / min(multiplied), 2 * COPIED / min(copied))


def _table(found: Mapping[str, Measured], limits: tuple[float, float], load: float) -> str:
    """Write a row for each figure, a column for each contender; in brackets, times ours."""
    multiplies, copies = limits
    titles = " | ".join(CONTENDERS[name].title for name in found)
    return "\n".join(
        [
            f"One core; processor time, medians of {ROUNDS} rounds ({FEW_ROUNDS} of integrated "
            f"gradients) in turns; load of the machine {load:.0f}. In brackets: times ours. The "
            f"machine: {multiplies / 1e9:.0f} thousand million operations a second in products "
            f"of {SIDE} x {SIDE} matrices, float32; {copies / 1e9:.1f} GB a second copied.",
            "",
            f"| what | {titles} |",
            f"|---|{'---:|' * len(found)}",
            *(
                _row(what, [value(one) for one in found.values()], form)
                for what, value, form in _figures(limits)
            ),
        ]
    )


def _row(what: str, values: Sequence[float], form: str) -> str:
    ours, *theirs = values
    cells = [f"{value:{form}} ({value / ours:.1f})" for value in theirs]
    return f"| {what} | {ours:{form}} | {' | '.join(cells)} |"


def _figures(limits: tuple[float, float]) -> list[tuple[str, Callable[[Measured], float], str]]:
    """Return what each row says, how it is found, and its format."""
    multiplies, copies = limits

    def took(task: str) -> Callable[[Measured], float]:
        return lambda one: 1e3 * one.seconds[task]

    def over_limit(one: Measured) -> float:
        return one.shortest / max(one.operations / multiplies, one.bytes / copies)

    return [
        ("One answer, from a JPEG of 1,800 pixels, ms", took("answer"), ".1f"),
        ("One answer with Grad-CAM, ms", took("map"), ".1f"),
        (f"Integrated gradients, {NODES} nodes, ms", took("integrated"), ".1f"),
        (
            f"Films a second and core, {FILMS} at a time",
            lambda one: FILMS / one.seconds["many"],
            ".1f",
        ),
        ("Start of the process to its first answer, s", lambda one: one.first, ".2f"),
        ("Memory for answers, MB", lambda one: one.memory[0], ".0f"),
        ("Memory with Grad-CAM, MB", lambda one: one.memory[1], ".0f"),
        ("Memory with integrated gradients, MB", lambda one: one.memory[2], ".0f"),
        ("Packages on disk for all of this, MB", lambda one: one.answers, ".0f"),
        ("... ours with the app, which they lack, MB", lambda one: one.app, ".0f"),
        ("... ours with the app and what trains, MB", lambda one: one.install, ".0f"),
        ("The network alone, ms", took("network"), ".1f"),
        (
            "... its operations, in thousand millions",
            lambda one: one.operations / 1e9,
            ".2f",
        ),
        ("... its shortest time over what the machine allows", over_limit, ".2f"),
    ]


if __name__ == "__main__":
    _work(sys.argv[1], Path(sys.argv[2]))
