"""A graph as it is run, kept beside its network, and written only where it does the same."""

import hashlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import ModelError
from cxr_core.runtime.backward import Start, backward
from cxr_core.runtime.forward import exported

GRAPH, RECORD, NETWORK = "model.onnx", "graph.json", "model.keras"
# Largest difference of a logit that another way to run a network may make; of features, as a
# share of the largest where that is above 1.
SAME_LOGITS = 1e-4
# Largest difference of a gradient, as a share of its length. Rounding alone makes some where a
# network bends: at a maximum of two values that are nearly the same, one or the other counts.
SAME_GRADIENTS = 0.03
# Films whose gradients are worked out at once, at most; each takes its memory.
AT_ONCE = 8

LOG = logging.getLogger(__name__)

Pixels = NDArray[np.float32]


class Told(NamedTuple):
    """What a network says of films, to be compared with what another way to run it says.

    Attributes:
        logits: float32 (N, K).
        features: float32 (N, h, w, C).
        gradients: float32 (N, S, S, C): of the sum of the logits, with respect to the film.
    """

    logits: Pixels
    features: Pixels
    gradients: Pixels


class Graph:
    """An exported network, ready to run; any number of threads may share it.

    Runs on as many threads as OMP_NUM_THREADS says, or else on all processors.

    Args:
        content: An ONNX model, as `exported` makes it.
        weights: SHA-256 of the model.keras that it repeats, if it lies beside one.
    """

    def __init__(self, content: bytes, weights: str = "") -> None:
        """Load the graph; ONNX Runtime merges and folds here what it can.

        Raises:
            ModelError: When ONNX Runtime cannot load it.
        """
        self._session = _opened(content, _threads())
        self.outputs: int = self._session.get_outputs()[0].shape[-1]
        self._weights, self._content = weights, content
        self._backward: dict[Start, Any] = {}
        self._drawing = Lock()
        self._pool = ThreadPoolExecutor(
            min(AT_ONCE, _threads() or os.cpu_count() or 1), thread_name_prefix="gradients"
        )

    def check(self, network: Path) -> None:
        """Make sure that a file still is the network which this graph repeats.

        Raises:
            ValueError: When it has been replaced.
            OSError: When it cannot be read.
        """
        if _digest(network.read_bytes()) != self._weights:
            raise ValueError("it was replaced after the model was loaded: start the program again")

    def forward(self, pixels: Pixels) -> tuple[Pixels, Pixels]:
        """Run the network once on each film.

        One film after the other: memory does not grow with the batch, and the maps of large
        films stay in the processor's cache, which saves the adult models a quarter of the time.

        Args:
            pixels: float32 (N, S, S, C), N at least 1.

        Returns:
            Logits (N, K) and features (N, h, w, C), float32.

        Raises:
            ModelError: When ONNX Runtime cannot go through with it.
        """
        films = np.ascontiguousarray(pixels, np.float32)
        logits, features = _run(self._session, [{"film": film[None]} for film in films])
        return logits, features

    def gradients(self, start: Start, values: Pixels, directions: Pixels) -> tuple[Pixels, Pixels]:
        """Differentiate combinations of logits with respect to films, or to their features.

        Each film keeps to one thread, and as many run at once as there are: on two that takes
        three quarters of the time of two threads to a film.

        Args:
            start: What `values` are.
            values: float32 (N, S, S, C) films or (N, h, w, C) features, N at least 1.
            directions: float32 (N, K).

        Returns:
            direction · logits (N,), and its gradient, of the shape of `values`.

        Raises:
            ModelError: When ONNX Runtime cannot go through with it.
        """
        with self._drawing:  # once, whoever asks first
            if start not in self._backward:
                self._backward[start] = _opened(backward(self._content, start), threads=1)
            session = self._backward[start]
        given = (np.ascontiguousarray(one, np.float32) for one in (values, directions))
        films = [
            {start: one[None], "direction": way[None]} for one, way in zip(*given, strict=True)
        ]
        value, gradient = _run(session, films, self._pool.map if len(films) > 1 else map)
        return value, gradient


def _opened(content: bytes, threads: int) -> Any:
    """Load an ONNX model to be run on so many threads, 0 for one on each processor.

    Raises:
        ModelError: When ONNX Runtime cannot.
    """
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Threads that spin while they wait take the processor from other readers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except ImportError as error:
        raise ModelError(f"ONNX Runtime is not installed as it should be: {error}") from error
    except _refusals() as error:
        raise ModelError(f"ONNX Runtime cannot load it: {_first_line(error)}") from error


def _run(session: Any, films: list[dict[str, Pixels]], each: Any = map) -> list[Pixels]:
    """Run a model on each film, one after the other or as `each` has it; join what it gives.

    Raises:
        ModelError: When ONNX Runtime cannot go through with it.
    """
    try:
        given = list(each(partial(session.run, None), films))
    except _refusals() as error:
        shape = next(iter(films[0].values())).shape[1:]
        raise ModelError(
            f"The model could not answer: its graph failed on films of {shape} "
            f"({_first_line(error)}). Try again; if it stays so, restore the model's folder."
        ) from error
    return [np.concatenate(parts) for parts in zip(*given, strict=True)]


def _threads() -> int:
    """Return on how many threads a network runs; 0 for one on each processor."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() else 0


def _refusals() -> tuple[type[Exception], ...]:
    """Name every error that ONNX Runtime raises: they have no parent of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (one for one in vars(state).values() if isinstance(one, type))
    return (RuntimeError, *(one for one in own if issubclass(one, Exception)))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def load_graph(folder: Path) -> Graph | None:
    """Load the graph of a bundle; None where there is none, or none that can be relied on.

    A graph that is damaged, of other weights, or not to be run here, is left alone, and the log
    says so.
    """
    if not (folder / GRAPH).exists() and not (folder / RECORD).exists():
        return None
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        content = (folder / GRAPH).read_bytes()
        if record["graph"] != _digest(content):
            raise ValueError(f"{GRAPH} is damaged")
        if record["weights"] != _digest((folder / NETWORK).read_bytes()):
            raise ValueError(f"{NETWORK} has changed since")
        return Graph(content, record["weights"])
    except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
        LOG.warning(
            "The graph of model '%s' is not used (%s); Keras answers instead, where it is "
            "installed, and takes longer to start. Restore the folder, or train the model again.",
            folder.name,
            error,
        )
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- writing ---


def write_graph(network: Any, folder: Path, films: Pixels, expected: Told) -> Graph | None:
    """Write a network's graph beside its model.keras, if it does the same.

    Args:
        network: The flat keras.Model that `folder` holds.
        folder: A bundle.
        films: float32 (N, S, S, C) to compare the two ways on.
        expected: What Keras says of these films.

    Returns:
        The graph; None when it does not do the same: then nothing is written, and the log says
        why.
    """
    try:
        content = exported(network)
        graph = Graph(content)
        gaps = _gaps(_told(graph, films), expected)
        most_apart = (SAME_LOGITS, SAME_LOGITS, SAME_GRADIENTS)
        if not all(gap <= most for gap, most in zip(gaps, most_apart, strict=True)):
            raise ModelError(
                f"its logits differ by {gaps[0]:.2g}, its features by {gaps[1]:.2g}, its "
                f"gradients by {gaps[2]:.2g}"
            )
    except ModelError as error:
        LOG.warning("No graph was written to '%s', Keras will answer: %s.", folder, error)
        return None
    record = {
        "graph": _digest(content),
        "weights": _digest((folder / NETWORK).read_bytes()),
        "compared_films": len(films),
        "logits_differ_by": gaps[0],
        "features_differ_by": gaps[1],
        "gradients_differ_by": gaps[2],
    }
    (folder / GRAPH).write_bytes(content)
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    return graph


def _told(graph: Graph, films: Pixels) -> Told:
    logits, features = graph.forward(films)
    return Told(logits, features, graph.gradients("film", films, np.ones_like(logits))[1])


def _gaps(found: Told, expected: Told) -> tuple[float, float, float]:
    """Return how far apart they lie: logits; features, as a share of the largest; gradients."""
    logits, features, gradients = (
        np.abs(one - other) for one, other in zip(found, expected, strict=True)
    )
    return (
        float(logits.max()),
        float(features.max()) / max(1.0, float(np.abs(expected.features).max())),
        float(np.linalg.norm(gradients)) / (float(np.linalg.norm(expected.gradients)) or 1.0),
    )
