"""The way back through a graph: which way its logits move with the film, as a graph too.

Reverse accumulation (Baydin et al., Automatic differentiation in machine learning: a survey,
JMLR 18, 2018, arXiv:1502.05767, section 3.2): the operations are gone through once more from the
last to the first, and each says by its own rule what a slope at what it gave is worth at what it
was given. Weights are constants here. So maps that need gradients do without Keras, too.
"""

from collections.abc import Callable
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import ModelError
from cxr_core.runtime.drawing import Drawing

Start = Literal["film", "features"]
Weights = NDArray[np.float32]


def backward(content: bytes, start: Start) -> bytes:
    """Write the gradient of an exported network as an ONNX model, for one film at a time.

    Args:
        content: An ONNX model, as `exported` makes it.
        start: What to differentiate with respect to: the film, or the last map.

    Returns:
        A model from `start` (1, ..., C) and "direction" (1, K) to "value" (1,), which is
        direction · logits, and "gradient", of the shape of `start`.

    Raises:
        ModelError: When an operation has no rule here.
    """
    way = _Way(content, start)
    for node in reversed(way.passed):
        if node.op_type not in _RULES:
            raise ModelError(f"{node.op_type} has no rule in cxr_core.runtime.backward; add one")
        _RULES[node.op_type](way, node, way.slope(node.output[0]))
    drawing = way.drawing
    drawing.add("Identity", way.slope(start), output="gradient")
    combined = drawing.add("Mul", "logits", "direction")
    drawing.add("ReduceSum", combined, drawing.integers(1), output="value", keepdims=0)
    here = way.shapes[start]
    gradient: bytes = drawing.model(
        way.name,
        {start: here, "direction": way.shapes["logits"]},
        {"value": [1], "gradient": here},
    ).SerializeToString()
    return gradient


class _Way:
    """A graph on the way back through it.

    Attributes:
        name: Of the graph.
        shapes: Of everything that is computed, for one film.
        weights: What is known beforehand.
        passed: The operations between the start and the logits, in their order.
        drawing: All operations that the logits need, and those that were drawn since.
        merged: What a normalisation multiplies each channel of a convolution by.
    """

    def __init__(self, content: bytes, start: Start) -> None:
        """Find the way."""
        import onnx
        from onnx import numpy_helper, shape_inference

        model = onnx.load_from_string(content)
        for end in (*model.graph.input, *model.graph.output):
            end.type.tensor_type.shape.dim[0].dim_value = 1
        graph = shape_inference.infer_shapes(model).graph
        known = (*graph.input, *graph.value_info, *graph.output)
        self.name = graph.name
        self.shapes = {
            one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in known
        }
        self.weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        nodes = _needed([*graph.node] if start == "film" else _from_features([*graph.node]))
        self.passed, self._live = [], {start}
        for node in nodes:
            if node.op_type == "Cast":  # weights kept as float16
                self.weights[node.output[0]] = self.weights[node.input[0]].astype(np.float32)
            elif self._live & {*node.input}:
                self._live |= {*node.output}
                self.passed.append(node)
        self._made = {name: node for node in nodes for name in node.output}
        self._read = [name for node in nodes for name in node.input]
        self.drawing = Drawing(nodes, graph.initializer, "back_")
        self.merged: dict[str, Weights] = {}
        self._slopes = {"logits": ["direction"]}

    def slope(self, name: str) -> str:
        """Return the slope of the logits at something, from all that read it."""
        slopes = self._slopes[name]
        return slopes[0] if len(slopes) == 1 else self.drawing.add("Sum", *slopes)

    def moves(self, name: str) -> bool:
        """Say whether something depends on the start."""
        return name in self._live

    def lead(self, name: str, slope: str) -> None:
        """Lead a slope on to something, if that depends on the start."""
        if self.moves(name):
            self._slopes.setdefault(name, []).append(slope)

    def merges(self, name: str) -> bool:
        """Say whether what reads this can be merged into its convolution: nothing else does."""
        return self._made[name].op_type == "Conv" and self._read.count(name) == 1


def _from_features(nodes: list[Any]) -> list[Any]:
    """Begin a graph with what it gives as "features"."""
    from onnx import helper

    (end,) = (node for node in nodes if node.output[0] == "features")
    maps = end.input[0]
    first = helper.make_node("Transpose", ["features"], [maps], "begin", perm=[0, 3, 1, 2])
    return [first, *(node for node in nodes if node is not end and maps not in node.output)]


def _needed(nodes: list[Any]) -> list[Any]:
    """Leave out what the logits do not need."""
    made = {name: node for node in nodes for name in node.output}
    needed, waiting = set(), ["logits"]
    while waiting:
        name = waiting.pop()
        if name in made and name not in needed:
            needed.add(name)
            waiting += made[name].input
    return [node for node in nodes if node.output[0] in needed]


def _settings(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


# --- one rule for each kind of operation: (way, node, slope at what it gave) ---

_Rule = Callable[[_Way, Any, str], None]
_RULES: dict[str, _Rule] = {}


def _passes(*kinds: str) -> Callable[[_Rule], _Rule]:
    """Register the rule of operations of these kinds."""

    def register(rule: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


@_passes("Identity", "Sum", "Add")
def _alike(way: _Way, node: Any, slope: str) -> None:
    for name in _of_one_shape(way, node):
        way.lead(name, slope)


@_passes("Mul")
def _product(way: _Way, node: Any, slope: str) -> None:
    moving = _of_one_shape(way, node)
    for name, other in (node.input, reversed(node.input)):
        if name in moving:
            way.lead(name, way.drawing.add("Mul", slope, other))


def _of_one_shape(way: _Way, node: Any) -> list[str]:
    """Return what of an operation's inputs depends on the start, all of them of its shape.

    Raises:
        ModelError: When one is spread over a larger one: nobody wrote down how to sum that up.
    """
    moving = [name for name in node.input if way.moves(name)]
    if any(way.shapes[name] != way.shapes[node.output[0]] for name in moving):
        raise ModelError(
            f"{node.op_type} of unlike shapes has no rule in cxr_core.runtime.backward; add one"
        )
    return moving


@_passes("Sigmoid")
def _sigmoid(way: _Way, node: Any, slope: str) -> None:
    (value,) = node.output
    rest = way.drawing.add("Sub", way.drawing.hold(1.0), value)
    own = way.drawing.add("Mul", value, rest)
    way.lead(node.input[0], way.drawing.add("Mul", slope, own))


@_passes("Relu")
def _above_zero(way: _Way, node: Any, slope: str) -> None:
    inside = way.drawing.add("Greater", node.output[0], way.drawing.hold(0.0))
    way.lead(node.input[0], _where(way, inside, slope))


@_passes("Clip")
def _between(way: _Way, node: Any, slope: str) -> None:
    _, low, high = node.input
    above = way.drawing.add("Greater", node.output[0], low)
    below = way.drawing.add("Less", node.output[0], high)
    inside = way.drawing.add("And", above, below)
    way.lead(node.input[0], _where(way, inside, slope))


def _where(way: _Way, inside: str, slope: str) -> str:
    """Keep a slope where a condition holds; one of the quickest ways to say so."""
    from onnx import TensorProto

    return way.drawing.add("Mul", slope, way.drawing.add("Cast", inside, to=TensorProto.FLOAT))


@_passes("Transpose")
def _turned_back(way: _Way, node: Any, slope: str) -> None:
    order = np.argsort(_settings(node)["perm"]).tolist()
    way.lead(node.input[0], way.drawing.add("Transpose", slope, perm=order))


@_passes("Flatten")
def _merged_up(way: _Way, node: Any, slope: str) -> None:
    way.lead(node.input[0], _reshaped(way, slope, *way.shapes[node.input[0]]))


def _reshaped(way: _Way, name: str, *shape: int) -> str:
    return way.drawing.add("Reshape", name, way.drawing.integers(*shape))


@_passes("Gemm")
def _weighed(way: _Way, node: Any, slope: str) -> None:
    way.lead(node.input[0], way.drawing.add("Gemm", slope, node.input[1], transB=1))


@_passes("Concat")
def _parted(way: _Way, node: Any, slope: str) -> None:
    sizes = way.drawing.integers(*(way.shapes[name][1] for name in node.input))
    parts = way.drawing.add_several("Split", slope, sizes, outputs=[""] * len(node.input), axis=1)
    for name, part in zip(node.input, parts, strict=True):
        way.lead(name, part)


@_passes("Pad")
def _cut_off(way: _Way, node: Any, slope: str) -> None:
    shape = way.shapes[node.input[0]]
    before = way.weights[node.input[1]][: len(shape)].tolist()
    ends = [first + size for first, size in zip(before, shape, strict=True)]
    bounds = way.drawing.integers(*before), way.drawing.integers(*ends)
    way.lead(node.input[0], way.drawing.add("Slice", slope, *bounds))


@_passes("BatchNormalization")
def _normalised(way: _Way, node: Any, slope: str) -> None:
    source, scale, _, _, variance = node.input
    factor = way.weights[scale] / np.sqrt(way.weights[variance] + _settings(node)["epsilon"])
    if way.merges(source):
        way.merged[source] = factor  # into its kernel
        way.lead(source, slope)
    else:
        flat = [1] * (len(way.shapes[source]) - 2)  # of a map: height and width
        held = way.drawing.hold(factor.reshape(-1, *flat))
        way.lead(source, way.drawing.add("Mul", slope, held))


@_passes("Conv")
def _convolved(way: _Way, node: Any, slope: str) -> None:
    """Convolve with the kernel turned round; with strides by ConvTranspose, which is slower."""
    given = _settings(node)
    kernel = way.weights[node.input[1]]
    if node.output[0] in way.merged:
        kernel = kernel * way.merged[node.output[0]].reshape(-1, 1, 1, 1)
    reach = [d * (k - 1) for d, k in zip(given["dilations"], given["kernel_shape"], strict=True)]
    padding = [far - before for far, before in zip(2 * reach, given["pads"], strict=True)]
    if given["strides"] == [1, 1] and min(padding) >= 0:
        turned = way.drawing.hold(_turned_round(kernel, given["group"]))
        back = way.drawing.add("Conv", slope, turned, **given | {"pads": padding})
    else:
        back = _spread(way, node, slope, kernel, given)
    way.lead(node.input[0], back)


def _spread(way: _Way, node: Any, slope: str, kernel: Weights, given: dict[str, Any]) -> str:
    """Spread each slope over its window, as a kernel (C, out, h, w) weighs that."""
    sides, cells = (way.shapes[end][2:] for end in (node.input[0], node.output[0]))
    unseen = [  # behind the last window
        side + before + after - (count - 1) * stride - dilation * (size - 1) - 1
        for side, before, after, count, stride, dilation, size in zip(
            sides,
            given["pads"][:2],
            given["pads"][2:],
            cells,
            given["strides"],
            given.get("dilations", [1, 1]),
            given["kernel_shape"],
            strict=True,
        )
    ]
    held = way.drawing.hold(kernel)
    return way.drawing.add("ConvTranspose", slope, held, **given, output_padding=unseen)


def _turned_round(kernel: Weights, groups: int) -> Weights:
    """Turn a kernel (out, in / groups, h, w) round: inputs are outputs, the last row is first."""
    out, each, height, width = kernel.shape
    parts = kernel.reshape(groups, out // groups, each, height, width).swapaxes(1, 2)
    return parts[..., ::-1, ::-1].reshape(groups * each, out // groups, height, width)


@_passes("MaxPool")
def _largest(way: _Way, node: Any, slope: str) -> None:
    """Bring each slope to where the largest value was, the first of several."""
    where = f"{node.output[0]}_where"
    node.output.append(where)
    shape = way.shapes[node.input[0]]
    nothing = way.drawing.hold(np.zeros(prod(shape)))
    places, slopes = (_reshaped(way, name, -1) for name in (where, slope))
    brought = way.drawing.add("ScatterElements", nothing, places, slopes, reduction="add")
    way.lead(node.input[0], _reshaped(way, brought, *shape))


@_passes("GlobalAveragePool")
def _shared_by_all(way: _Way, node: Any, slope: str) -> None:
    shape = way.shapes[node.input[0]]
    share = way.drawing.add("Mul", slope, way.drawing.hold(1 / prod(shape[2:])))
    whole = way.drawing.integers(*shape)
    way.lead(node.input[0], way.drawing.add("Expand", share, whole))


@_passes("AveragePool")
def _shared(way: _Way, node: Any, slope: str) -> None:
    """Share each slope among the cells of its window; padding has no part in it."""
    given = _settings(node)
    shape, cells = way.shapes[node.input[0]], way.shapes[node.output[0]][2:]
    before, stride, size = given["pads"][:2], given["strides"], given["kernel_shape"]
    firsts = [np.arange(n) * s - p for n, s, p in zip(cells, stride, before, strict=True)]
    rows, columns = (  # of each window, how many lie on the map
        np.minimum(first + long, side) - np.maximum(first, 0)
        for first, long, side in zip(firsts, size, shape[2:], strict=True)
    )
    share = way.drawing.add("Mul", slope, way.drawing.hold(1 / np.outer(rows, columns)))
    evenly = np.ones((shape[1], 1, *size), np.float32)
    way.lead(node.input[0], _spread(way, node, share, evenly, given | {"group": shape[1]}))
