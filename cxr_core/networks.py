"""The networks this library can train: one registry, one function each, pure Keras 3.

Every network is flat (no model inside a model: explanations must reach every layer),
ends in a layer named "logits" (no activation: gradients are of logits), and names
"features" the last map before pooling, of at least 7x7 cells so that Grad-CAM is not
too coarse to point anywhere.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cxr_core.errors import ArgumentError, UnknownName

if TYPE_CHECKING:
    import keras

# A map with fewer cells along a side points nowhere in particular.
POINTING = 7

Builder = Callable[..., "keras.Model"]
_NETWORKS: dict[str, Builder] = {}


def register_network(builder: Builder) -> Builder:
    """Register a builder under its own name, underscores written as hyphens.

    Raises:
        ArgumentError: When the name is taken.
    """
    name = builder.__name__.replace("_", "-")
    if name in _NETWORKS:
        raise ArgumentError(f"A network named '{name}' is registered already; rename one of them.")
    _NETWORKS[name] = builder
    return builder


def list_networks() -> list[str]:
    """Name the registered networks, sorted."""
    return sorted(_NETWORKS)


def build_network(name: str, *, size: int, channels: int, outputs: int, **options: Any) -> Any:
    """Build a fresh network with random weights.

    Args:
        name: One of `list_networks()`.
        size: Side of its square input, in pixels.
        channels: 1 or 3.
        outputs: Number of logits.
        options: What the builder takes beyond these.

    Returns:
        keras.Model from (N, size, size, channels) to logits (N, outputs).

    Raises:
        UnknownName: When no such network is registered.
    """
    if name not in _NETWORKS:
        raise UnknownName("network", name, _NETWORKS)
    return _NETWORKS[name](size=size, channels=channels, outputs=outputs, **options)


@register_network
def residual(
    *,
    size: int,
    channels: int,
    outputs: int,
    widths: tuple[int, ...] = (32, 64, 128, 192),
    blocks: tuple[int, ...] = (1, 1, 1, 1),
    dropout: float = 0.3,
) -> Any:
    """Build a compact residual network that two processor cores can train.

    A ResNet (He 2016, arXiv:1512.03385) of 0.9 million parameters: the side is
    quartered before the first block, where a processor without a GPU would otherwise
    spend its time, and halved by later stages as long as `POINTING` cells remain. So the
    last map, whose mean decides, is fine enough for Grad-CAM to point with; a map from
    before the last stage would not do, for its mean gradients hardly tell films apart.
    """
    import keras
    from keras import layers

    def convolve(x: Any, width: int, kernel: int, stride: int) -> Any:
        x = layers.Conv2D(
            width,
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
        )(x)
        return layers.BatchNormalization(momentum=0.95)(x)

    def block(x: Any, width: int, stride: int, name: str | None) -> Any:
        branch = layers.ReLU()(convolve(x, width, 3, stride))
        branch = convolve(branch, width, 3, 1)
        same = stride == 1 and x.shape[-1] == width
        shortcut = x if same else convolve(x, width, 1, stride)
        return layers.ReLU(name=name)(layers.Add()([branch, shortcut]))

    inputs = keras.Input((size, size, channels), name="film")
    x = layers.ReLU()(convolve(inputs, widths[0] // 2, 5, 2))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
        for index in range(depth):
            halve = stage > 0 and index == 0 and x.shape[1] >= 2 * POINTING - 1
            last = stage == len(widths) - 1 and index == depth - 1
            x = block(x, width, 2 if halve else 1, "features" if last else None)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    logits = layers.Dense(outputs, name="logits")(x)
    return keras.Model(inputs, logits, name="residual")
