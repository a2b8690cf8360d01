"""The networks this library can train: one registry, one function each, pure Keras 3.

Every network is flat (no model inside a model: explanations must reach every layer),
ends in a layer named "logits" (no activation: gradients are of logits), and names
"features" the last map of at least 7x7 cells, so that Grad-CAM is not too coarse to
point anywhere. Pretrained backbones bring their own scaling of pixels from [0, 1].
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import ArgumentError, TrainingError, UnknownName

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
        # Steps come before the shortcut's convolution, not in it: TensorFlow 2.21 on Intel
        # processors writes beyond its memory when it trains a strided 1 x 1 on a single film.
        shortcut = x if stride == 1 else layers.MaxPooling2D(1, stride)(x)
        if stride != 1 or x.shape[-1] != width:
            shortcut = convolve(shortcut, width, 1, 1)
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


@register_network
def pooled(
    *,
    size: int,
    channels: int,
    outputs: int,
    widths: tuple[int, ...] = (32, 64, 64, 128, 128),
    strides: tuple[int, ...] = (1, 1, 2, 2, 2),
    dense: tuple[int, ...] = (256,),
    activation: str = "swish",
    normalise: bool = False,
    dropout: float = 0.3,
) -> Any:
    """Build convolutions of 3x3 with 2x2 max-pooling, then dense layers: the sources' plain CNN.

    With the defaults, three channels and one output this is the network of `swish-cnn`:
    311,041 parameters. Its last map at 300 pixels is 3x3, so "features" lies before.
    """
    import keras
    from keras import layers

    inputs = x = keras.Input((size, size, channels), name="film")
    pointing = _last_pointing(size, strides)
    for stage, (width, stride) in enumerate(zip(widths, strides, strict=True)):
        x = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=not normalise)(x)
        if normalise:
            x = layers.BatchNormalization(momentum=0.95)(x)
        name = "features" if stage == pointing else None
        x = layers.Activation(activation, name=name)(x)
        if min(x.shape[1:3]) > 1:
            x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for width in dense:
        x = layers.Dropout(dropout)(layers.Dense(width, activation=activation)(x))
    logits = layers.Dense(outputs, name="logits")(x)
    return keras.Model(inputs, logits, name="pooled")


def _last_pointing(size: int, strides: tuple[int, ...]) -> int:
    """Say after which convolution the map still has `POINTING` cells; none has: the first."""
    sides = []
    for stride in strides:
        sides.append(-(-size // stride))
        size = sides[-1] // 2
    return max((k for k, side in enumerate(sides) if side >= POINTING), default=0)


# --- pretrained backbones ---

# How each backbone's makers scaled pixels, from [0, 1]: (scale, offset), per channel for some.
_CENTRED = (2.0, -1.0)
_TORCH = ([1 / 0.229, 1 / 0.224, 1 / 0.225], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
# Blue, green, red, less the mean of ImageNet: a film's channels are all the same.
_CAFFE = (255.0, [-103.939, -116.779, -123.68])

# keras.applications, the layer to cut at, and the scaling. MobileNet is cut before its last
# block, whose pointwise kernel is missing from the weights that travel with the films.
BACKBONES: dict[str, tuple[str, str | None, tuple[Any, Any]]] = {
    "mobilenet-v1": ("MobileNet", "conv_pw_12_relu", _CENTRED),
    "vgg16": ("VGG16", None, _CAFFE),
    "inception-v3": ("InceptionV3", None, _CENTRED),
    "densenet121": ("DenseNet121", None, _TORCH),
}


def _backbone(
    name: str, inputs: Any, weights: str | None = None, depths: tuple[str, ...] = ()
) -> Any:
    """Lay a backbone's layers over `inputs`, pixels in [0, 1], up to its "features".

    These are its last map, or the maps of the layers that `depths` names, brought to the size
    of the last of them and joined.
    """
    import keras
    from keras import layers

    if name not in BACKBONES:
        raise UnknownName("backbone", name, BACKBONES)
    maker, cut, (scale, offset) = BACKBONES[name]
    if inputs.shape[-1] == 1:
        inputs = layers.Concatenate(name="colour")([inputs] * 3)
    scaled = layers.Rescaling(scale, offset, name="scaling")(inputs)
    # Flat: the layers take our tensor, instead of becoming one layer of our model.
    whole = getattr(keras.applications, maker)(
        include_top=False, weights=weights, input_tensor=scaled
    )
    if depths:
        return _joined([whole.get_layer(depth).output for depth in depths])
    last = whole.get_layer(cut).output if cut else whole.output
    return layers.Activation("linear", name="features")(last)


def _joined(maps: list[Any]) -> Any:
    """Join maps as "features"; the mean of each stays what it was.

    Raises:
        ArgumentError: When a map's side is no multiple of the last one's.
    """
    from keras import layers

    sides = [each.shape[1] for each in maps]
    if any(side % sides[-1] for side in sides):
        raise ArgumentError(
            f"The maps to be joined have the sides {', '.join(map(str, sides))}, which are no "
            "multiples of the last: choose another input size, such as 224 or 320."
        )
    ratios = [side // sides[-1] for side in sides]
    pooled = [
        each if ratio == 1 else layers.AveragePooling2D(ratio)(each)
        for each, ratio in zip(maps, ratios, strict=True)
    ]
    return layers.Concatenate(name="features")(pooled)


@register_network
def codes(
    *,
    size: int,
    channels: int,
    outputs: int,
    backbone: str = "mobilenet-v1",
    hidden: int = 64,
) -> Any:
    """Build two dense layers with batch normalisation over a backbone's last map, flattened.

    Over VGG16 at 224 pixels the codes are the 25,088 numbers of max-pool 5.
    """
    import keras
    from keras import layers

    inputs = keras.Input((size, size, channels), name="film")
    x = layers.Flatten(name="codes")(_backbone(backbone, inputs))
    x = layers.Dense(hidden, use_bias=False, name="hidden")(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    logits = layers.Dense(outputs, name="logits")(layers.ReLU()(x))
    return keras.Model(inputs, logits, name="codes")


@register_network
def pretrained(
    *,
    size: int,
    channels: int,
    outputs: int,
    backbone: str = "mobilenet-v1",
    dense: tuple[int, ...] = (),
    normalise: tuple[bool, ...] = (),
    dropout: float = 0.3,
    depths: tuple[str, ...] = (),
) -> Any:
    """Build a backbone, the mean of its last map, dense layers, logits.

    With `depths` the means of several of its maps are read side by side, for what a network
    learned on photographs is more use to films before its last layers (Yosinski et al., NIPS
    2014, arXiv:1411.1792).

    With InceptionV3, dense (512, 128, 32) and normalise (True, True, False) this is the
    network of `inceptionv3-nih15`.
    """
    import keras
    from keras import layers

    inputs = keras.Input((size, size, channels), name="film")
    x = layers.GlobalAveragePooling2D()(_backbone(backbone, inputs, depths=depths))
    for width, with_norm in zip(dense, normalise, strict=True):
        x = layers.Dense(width, activation="relu")(x)
        x = layers.BatchNormalization()(x) if with_norm else x
    x = layers.Dropout(dropout)(x)
    logits = layers.Dense(outputs, name="logits")(x)
    return keras.Model(inputs, logits, name="pretrained")


def below(network: Any, cut: str = "features") -> Any:
    """Return the network from film to the layer `cut`; it shares the weights."""
    import keras

    return keras.Model(network.input, network.get_layer(cut).output)


def above(network: Any, cut: str = "features") -> Any:
    """Return the network from the layer `cut` to "logits"; it shares the weights."""
    import keras

    lower, logits = (network.get_layer(name).output for name in (cut, "logits"))
    return keras.Model(lower, logits)


def codes_layer(network: Any) -> str:
    """Name the last layer whose output is fixed while everything up to "features" is frozen.

    That is "features", or what only reshapes or averages it.
    """
    names = [layer.name for layer in network.layers]
    last = "features"
    for layer in network.layers[names.index("features") + 1 :]:
        if layer.weights or type(layer).__name__ == "Dropout":
            return last
        last = layer.name
    return last


def load_pretrained(network: Any, weights: str, *, backbone: str | None) -> None:
    """Give a fresh network the weights of another training, in place.

    Args:
        network: As `build_network` made it.
        weights: "imagenet", which Keras downloads; or a file: an .npz with one array
            `layer__variable` for each, or .h5 or .keras weights, of the backbone alone or of
            the whole network.
        backbone: The network's backbone; None when it has none.

    Raises:
        TrainingError: When there are no such weights, or they do not fit.
    """
    if weights == "imagenet":
        _download(network, backbone)
        return
    path = Path(weights)
    if not path.is_file():
        raise TrainingError(f"There is no weights file '{weights}'; check the path.")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                _assign(below(network), arrays)
        else:
            _load_file(network, path, backbone)
    except (ValueError, OSError, KeyError, UserWarning, BadZipFile) as error:
        raise TrainingError(
            f"The weights in '{weights}' do not fit the network '{network.name}' ({error})."
        ) from error


def _assign(backbone: Any, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Set each variable from the array of its name; a depthwise kernel goes by either name."""
    for layer in backbone.layers:
        for variable in layer.weights:
            names = [f"{layer.name}__{variable.name}", f"{layer.name}__depthwise_{variable.name}"]
            found = [name for name in names if name in arrays]
            if not found:
                raise KeyError(f"there is no array '{names[0]}'")
            variable.assign(arrays[found[0]])


def _load_file(network: Any, path: Path, backbone: str | None) -> None:
    """Read weights of the whole network, or else of its backbone alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Keras only warns of layers that it leaves as they were
        try:
            network.load_weights(path)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            if backbone is None:
                raise ValueError(error) from error
            below(network).load_weights(path)


def _download(network: Any, backbone: str | None) -> None:
    import keras

    if backbone is None:
        raise TrainingError(
            f"There are no ImageNet weights for the network '{network.name}'. Leave --weights "
            "out to start from random weights, or name a file that this network was saved to."
        )
    inputs = keras.Input(network.input_shape[1:])
    try:
        donor = keras.Model(inputs, _backbone(backbone, inputs, "imagenet"))
    except Exception as error:  # whatever a missing network raises in urllib, ssl or Keras
        raise TrainingError(
            f"The ImageNet weights of '{backbone}' cannot be downloaded ({error}). Name a file "
            "with --weights, or leave it out to start from random weights."
        ) from error
    below(network).set_weights(donor.get_weights())
