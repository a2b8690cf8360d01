"""A network of Keras written down as an ONNX graph, layer by layer."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import ModelError
from cxr_core.runtime.drawing import Drawing, Shape


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

    drawing = Drawing()
    drawn: dict[str, str] = {}
    for layer in network.layers:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        sources = [drawn.get(one._keras_history.operation.name, "film") for one in inputs]
        kind = type(layer).__name__
        if kind not in _LAYERS:
            raise _unknown(layer)
        name = _LAYERS[kind](drawing, layer, *sources)
        drawn[layer.name] = _activated(drawing, layer, name)
    drawing.add("Identity", drawn["logits"], output="logits")
    drawing.add("Transpose", drawn["features"], output="features", perm=[0, 2, 3, 1])

    def shape(tensor: Any) -> Shape:
        return ["films", *tensor.shape[1:]]

    ends = {name: shape(network.get_layer(name).output) for name in ("logits", "features")}
    model = drawing.model(network.name, {"film": shape(network.input)}, ends)
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _unknown(layer: Any) -> ModelError:
    return ModelError(
        f"layer '{layer.name}' ({type(layer).__name__}) has no counterpart in "
        "cxr_core.runtime.forward as it is set; add one there"
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
def _film(drawing: Drawing, layer: Any, *inputs: str) -> str:
    return drawing.add("Transpose", "film", perm=[0, 3, 1, 2])


@_draws("Dropout", "Activation")
def _as_it_came(drawing: Drawing, layer: Any, source: str) -> str:
    return source  # what an activation does is drawn after every layer that has one


@_draws("Rescaling")
def _rescaled(drawing: Drawing, layer: Any, source: str) -> str:
    scale, offset = (
        drawing.hold(np.reshape(np.asarray(value, np.float32), (1, -1, 1, 1)))
        for value in (layer.scale, layer.offset)
    )
    return drawing.add("Add", drawing.add("Mul", source, scale), offset)


@_draws("Conv2D")
def _convolved(drawing: Drawing, layer: Any, source: str) -> str:
    kernel, *bias = layer.get_weights()
    return _convolution(drawing, layer, source, kernel.transpose(3, 2, 0, 1), bias, layer.groups)


@_draws("DepthwiseConv2D")
def _convolved_apart(drawing: Drawing, layer: Any, source: str) -> str:
    kernel, *bias = layer.get_weights()
    height, width, channels, multiplier = kernel.shape
    apart = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    return _convolution(drawing, layer, source, apart, bias, channels)


def _convolution(
    drawing: Drawing,
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
def _normalised(drawing: Drawing, layer: Any, source: str) -> str:
    mean, variance = np.array(layer.moving_mean), np.array(layer.moving_variance)
    scale = np.array(layer.gamma) if layer.scale else np.ones_like(mean)
    shift = np.array(layer.beta) if layer.center else np.zeros_like(mean)
    weights = [drawing.hold(value) for value in (scale, shift, mean, variance)]
    return drawing.add("BatchNormalization", source, *weights, epsilon=layer.epsilon)


@_draws("ReLU")
def _rectified(drawing: Drawing, layer: Any, source: str) -> str:
    if layer.negative_slope or layer.threshold:
        raise _unknown(layer)
    if layer.max_value is None:
        return drawing.add("Relu", source)
    return drawing.add("Clip", source, drawing.hold(0.0), drawing.hold(layer.max_value))


@_draws("MaxPooling2D", "AveragePooling2D")
def _pooled(drawing: Drawing, layer: Any, source: str) -> str:
    kind = {"MaxPooling2D": "MaxPool", "AveragePooling2D": "AveragePool"}[type(layer).__name__]
    return drawing.add(kind, source, **_window(layer, layer.pool_size))


@_draws("GlobalAveragePooling2D")
def _averaged(drawing: Drawing, layer: Any, source: str) -> str:
    return drawing.add("Flatten", drawing.add("GlobalAveragePool", source))


@_draws("ZeroPadding2D")
def _padded(drawing: Drawing, layer: Any, source: str) -> str:
    (top, bottom), (left, right) = layer.padding
    return drawing.add("Pad", source, drawing.integers(0, 0, top, left, 0, 0, bottom, right))


@_draws("Add")
def _added(drawing: Drawing, layer: Any, *sources: str) -> str:
    return drawing.add("Sum", *sources)


@_draws("Concatenate")
def _joined(drawing: Drawing, layer: Any, *sources: str) -> str:
    if layer.axis not in (-1, len(layer.output.shape) - 1):
        raise _unknown(layer)
    return drawing.add("Concat", *sources, axis=1)


@_draws("Flatten")
def _flattened(drawing: Drawing, layer: Any, source: str) -> str:
    if len(layer.input.shape) == 4:  # Keras counts channels last
        source = drawing.add("Transpose", source, perm=[0, 2, 3, 1])
    return drawing.add("Flatten", source)


@_draws("Dense")
def _weighed(drawing: Drawing, layer: Any, source: str) -> str:
    if len(layer.input.shape) != 2:
        raise _unknown(layer)
    return drawing.add("Gemm", source, *map(drawing.hold, layer.get_weights()))


def _activated(drawing: Drawing, layer: Any, source: str) -> str:
    """Draw a layer's activation, if it has one."""
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation == "linear":
        return source
    if activation == "relu":
        return drawing.add("Relu", source)
    if activation == "silu":
        return drawing.add("Mul", source, drawing.add("Sigmoid", source))
    raise _unknown(layer)
