"""A network without Keras: its graph beside model.keras, written, verified and run.

Importing TensorFlow takes seconds and 700 MB, ONNX Runtime a tenth of a second and 50 MB
(docs/performance.md has the numbers, and why it is not OpenVINO). So a bundle carries its
network a second time, and whoever wants an answer only never loads the first:

    models/NAME/model.onnx   the network from film to "logits" and "features"
                graph.json   digests of this graph and of the model.keras that it repeats

The weights are those of model.keras to the last bit, as float16 where they are float16
values; normalisations are merged when the graph is loaded. Of gradients a graph knows one: that
of the logits with respect to "features", where the head only averages and weighs them. All
others are Keras' affair.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_core.errors import ModelError

GRAPH, RECORD, NETWORK = "model.onnx", "graph.json", "model.keras"
# Largest difference of a logit that another way to run a network may make; of features, as a
# share of the largest where that is above 1.
SAME_LOGITS = 1e-4
# Of ONNX: any runtime since 2022 reads it.
OPSET, FORMAT = 17, 8

LOG = logging.getLogger(__name__)

Pixels = NDArray[np.float32]


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
        try:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            # Threads that spin while they wait take the processor from other readers.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.intra_op_num_threads = _threads()
            options.log_severity_level = 3  # errors
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except ImportError as error:
            raise ModelError(f"ONNX Runtime is not installed as it should be: {error}") from error
        except _refusals() as error:
            raise ModelError(f"ONNX Runtime cannot load it: {_first_line(error)}") from error
        self.outputs: int = self._session.get_outputs()[0].shape[-1]
        self._weights, self._content = weights, content

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
        try:
            pairs = [self._session.run(None, {"film": film[None]}) for film in films]
        except _refusals() as error:
            raise ModelError(
                f"The model could not answer: its graph failed on films of {films.shape[1:]} "
                f"({_first_line(error)}). Try again; if it stays so, remove its model.onnx and "
                "graph.json, and Keras answers."
            ) from error
        logits, features = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        return logits, features

    @cached_property
    def kernel(self) -> Pixels | None:
        """Return what the head multiplies the mean of each feature map by, float32 (C, K).

        None of a head that does more than to average and to weigh.
        """
        return _kernel(self._content)


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


def _kernel(content: bytes) -> Pixels | None:
    """Follow a graph from its logits back to its features: mean of each map, one dense layer."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(content).graph
    made = {output: node for node in graph.node for output in node.output}
    name, weights = "logits", ""
    for kind in ("Identity", "Gemm", "Flatten", "GlobalAveragePool"):
        node = made.get(name)
        if node is None or node.op_type != kind:
            return None
        name, weights = node.input[0], node.input[1] if kind == "Gemm" else weights
    if made["features"].input[0] != name:
        return None
    weights = made[weights].input[0] if weights in made else weights  # before its cast
    (stored,) = (one for one in graph.initializer if one.name == weights)
    return np.asarray(numpy_helper.to_array(stored), np.float32)


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
            "The graph of model '%s' is not used (%s); Keras answers instead, which takes longer "
            "to start. Restore the folder, or train the model again.",
            folder.name,
            error,
        )
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- writing ---


def write_graph(
    network: Any, folder: Path, films: Pixels, expected: tuple[Pixels, Pixels]
) -> Graph | None:
    """Write a network's graph beside its model.keras, if it does the same.

    Args:
        network: The flat keras.Model that `folder` holds.
        folder: A bundle.
        films: float32 (N, S, S, C) to compare the two ways on.
        expected: Logits and features of these films by Keras.

    Returns:
        The graph; None when it does not do the same: then nothing is written, and the log says
        why.
    """
    try:
        content = exported(network)
        graph = Graph(content)
        gaps = _gaps(graph.forward(films), expected)
        if not all(gap <= SAME_LOGITS for gap in gaps):
            raise ModelError(f"its logits differ by {gaps[0]:.2g}, its features by {gaps[1]:.2g}")
    except ModelError as error:
        LOG.warning("No graph was written to '%s', Keras will answer: %s.", folder, error)
        return None
    record = {
        "graph": _digest(content),
        "weights": _digest((folder / NETWORK).read_bytes()),
        "compared_films": len(films),
        "logits_differ_by": gaps[0],
        "features_differ_by": gaps[1],
    }
    (folder / GRAPH).write_bytes(content)
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    return graph


def _gaps(found: tuple[Pixels, Pixels], expected: tuple[Pixels, Pixels]) -> tuple[float, float]:
    """Return how far logits, and features in terms of the largest, lie apart."""
    logits, features = (
        float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True)
    )
    return logits, features / max(1.0, float(np.abs(expected[1]).max()))


def exported(network: Any) -> bytes:
    """Write a flat network as an ONNX model, layer by layer.

    Keras' own exporter goes through TensorFlow's graph, which has merged the normalisations by
    then: weights that are no float16 values any more, and a file of twice the size.

    Args:
        network: keras.Model with layers "features" and "logits", channels last.

    Returns:
        A model from "film" (N, S, S, C) to "logits" (N, K) and "features" (N, h, w, C).

    Raises:
        ModelError: When a layer is of a kind that nobody has written down here.

    Reference:
        ONNX operator set 17, https://onnx.ai/onnx/operators/.
    """
    from onnx import checker

    drawing = _Drawing()
    drawn: dict[str, str] = {}
    for layer in network.layers:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        sources = [drawn.get(one._keras_history.operation.name, "film") for one in inputs]
        kind = type(layer).__name__
        if kind not in _LAYERS:
            raise _unknown(layer)
        name = _LAYERS[kind](drawing, layer, *sources)
        drawn[layer.name] = _activated(drawing, layer, name)
    model = drawing.model(network, drawn["logits"], drawn["features"])
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


class _Drawing:
    """A graph as it grows: its nodes and its weights, each with a name."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append an operation; return the name of what it gives."""
        from onnx import helper

        name = output or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def hold(self, value: ArrayLike) -> str:
        """Append float32 weights, as float16 where nothing is lost; return their name."""
        from onnx import TensorProto

        exact = np.asarray(value, np.float32, order="C")
        with np.errstate(over="ignore"):
            half = exact.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), exact):
            return self._store(exact)
        return self.add("Cast", self._store(half), to=TensorProto.FLOAT)

    def integers(self, value: Sequence[int]) -> str:
        """Append integers that an operation takes as an input; return their name."""
        return self._store(np.array(value, np.int64))

    def _store(self, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"weights_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def model(self, network: Any, logits: str, features: str) -> Any:
        """Close the graph: name its ends, and bring features back to channels last."""
        from onnx import TensorProto, helper

        self.add("Identity", logits, output="logits")
        self.add("Transpose", features, output="features", perm=[0, 2, 3, 1])

        def end(name: str, tensor: Any) -> Any:
            shape = ["films", *tensor.shape[1:]]
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        outputs = [end(name, network.get_layer(name).output) for name in ("logits", "features")]
        films = [end("film", network.input)]
        graph = helper.make_graph(self._nodes, network.name, films, outputs, self._weights)
        version = helper.make_operatorsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[version], ir_version=FORMAT)


def _unknown(layer: Any) -> ModelError:
    return ModelError(
        f"layer '{layer.name}' ({type(layer).__name__}) has no counterpart in cxr_core.runtime as "
        "it is set; add one there"
    )


# --- one function for each kind of layer; maps are (N, C, H, W) inside the graph ---

_Layer = Callable[..., str]
_LAYERS: dict[str, _Layer] = {}


def _draws(*kinds: str) -> Callable[[_Layer], _Layer]:
    """Register what draws Keras layers of these kinds: (drawing, layer, *inputs) -> its name."""

    def register(function: _Layer) -> _Layer:
        _LAYERS.update(dict.fromkeys(kinds, function))
        return function

    return register


@_draws("InputLayer")
def _film(drawing: _Drawing, layer: Any, *inputs: str) -> str:
    return drawing.add("Transpose", "film", perm=[0, 3, 1, 2])


@_draws("Dropout", "Activation")
def _as_it_came(drawing: _Drawing, layer: Any, source: str) -> str:
    return source  # what an activation does is drawn after every layer that has one


@_draws("Rescaling")
def _rescaled(drawing: _Drawing, layer: Any, source: str) -> str:
    scale, offset = (
        drawing.hold(np.reshape(np.asarray(value, np.float32), (1, -1, 1, 1)))
        for value in (layer.scale, layer.offset)
    )
    return drawing.add("Add", drawing.add("Mul", source, scale), offset)


@_draws("Conv2D")
def _convolved(drawing: _Drawing, layer: Any, source: str) -> str:
    kernel, *bias = layer.get_weights()
    return _convolution(drawing, layer, source, kernel.transpose(3, 2, 0, 1), bias, layer.groups)


@_draws("DepthwiseConv2D")
def _convolved_apart(drawing: _Drawing, layer: Any, source: str) -> str:
    kernel, *bias = layer.get_weights()
    height, width, channels, multiplier = kernel.shape
    apart = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    return _convolution(drawing, layer, source, apart, bias, channels)


def _convolution(
    drawing: _Drawing,
    layer: Any,
    source: str,
    kernel: NDArray[np.float32],
    bias: Sequence[NDArray[np.float32]],
    groups: int,
) -> str:
    """Convolve with a kernel (out, in / groups, h, w)."""
    weights = [drawing.hold(value) for value in (kernel, *bias)]
    window = _window(layer, layer.kernel_size, layer.dilation_rate)
    return drawing.add(
        "Conv", source, *weights, group=groups, dilations=layer.dilation_rate, **window
    )


def _window(layer: Any, size: Sequence[int], dilations: Sequence[int] = (1, 1)) -> dict[str, Any]:
    """Say how a window moves; of an uneven "same" padding Keras puts the larger part behind."""
    missing = [0, 0]
    if layer.padding == "same":
        missing = [
            max((-(-side // stride) - 1) * stride + (cells - 1) * dilation + 1 - side, 0)
            for side, stride, cells, dilation in zip(
                layer.input.shape[1:3], layer.strides, size, dilations, strict=True
            )
        ]
    before = [total // 2 for total in missing]
    after = [total - part for total, part in zip(missing, before, strict=True)]
    return {"kernel_shape": [*size], "strides": [*layer.strides], "pads": [*before, *after]}


@_draws("BatchNormalization")
def _normalised(drawing: _Drawing, layer: Any, source: str) -> str:
    mean, variance = np.array(layer.moving_mean), np.array(layer.moving_variance)
    scale = np.array(layer.gamma) if layer.scale else np.ones_like(mean)
    shift = np.array(layer.beta) if layer.center else np.zeros_like(mean)
    weights = [drawing.hold(value) for value in (scale, shift, mean, variance)]
    return drawing.add("BatchNormalization", source, *weights, epsilon=layer.epsilon)


@_draws("ReLU")
def _rectified(drawing: _Drawing, layer: Any, source: str) -> str:
    if layer.negative_slope or layer.threshold:
        raise _unknown(layer)
    if layer.max_value is None:
        return drawing.add("Relu", source)
    return drawing.add("Clip", source, drawing.hold(0.0), drawing.hold(layer.max_value))


@_draws("MaxPooling2D", "AveragePooling2D")
def _pooled(drawing: _Drawing, layer: Any, source: str) -> str:
    kind = {"MaxPooling2D": "MaxPool", "AveragePooling2D": "AveragePool"}[type(layer).__name__]
    return drawing.add(kind, source, **_window(layer, layer.pool_size))


@_draws("GlobalAveragePooling2D")
def _averaged(drawing: _Drawing, layer: Any, source: str) -> str:
    return drawing.add("Flatten", drawing.add("GlobalAveragePool", source))


@_draws("ZeroPadding2D")
def _padded(drawing: _Drawing, layer: Any, source: str) -> str:
    (top, bottom), (left, right) = layer.padding
    return drawing.add("Pad", source, drawing.integers((0, 0, top, left, 0, 0, bottom, right)))


@_draws("Add")
def _added(drawing: _Drawing, layer: Any, *sources: str) -> str:
    return drawing.add("Sum", *sources)


@_draws("Concatenate")
def _joined(drawing: _Drawing, layer: Any, *sources: str) -> str:
    if layer.axis not in (-1, len(layer.output.shape) - 1):
        raise _unknown(layer)
    return drawing.add("Concat", *sources, axis=1)


@_draws("Flatten")
def _flattened(drawing: _Drawing, layer: Any, source: str) -> str:
    if len(layer.input.shape) == 4:  # Keras counts channels last
        source = drawing.add("Transpose", source, perm=[0, 2, 3, 1])
    return drawing.add("Flatten", source)


@_draws("Dense")
def _weighed(drawing: _Drawing, layer: Any, source: str) -> str:
    if len(layer.input.shape) != 2:
        raise _unknown(layer)
    return drawing.add("Gemm", source, *map(drawing.hold, layer.get_weights()))


def _activated(drawing: _Drawing, layer: Any, source: str) -> str:
    """Draw a layer's activation, if it has one."""
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation == "linear":
        return source
    if activation == "relu":
        return drawing.add("Relu", source)
    if activation == "silu":
        return drawing.add("Mul", source, drawing.add("Sigmoid", source))
    raise _unknown(layer)
