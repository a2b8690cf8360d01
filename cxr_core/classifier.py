"""A trained network as people use it: its answers, its gradients, its bundle on disk.

Answers and gradients come from the graph that the bundle carries (`runtime`); Keras and
TensorFlow are imported where there is none.
"""

import json
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxr_core.calibration import probabilities
from cxr_core.cards import ModelCard, load_card, model_folder, reading
from cxr_core.errors import ModelError, UnknownName, require_tensorflow
from cxr_core.familiarity import Familiarity, Likeness, load_familiarity
from cxr_core.preprocess import ModelInput, prepare
from cxr_core.runtime import NETWORK, SAME_LOGITS, Graph, Start, Told, load_graph, write_graph

# Phantoms on which a graph is compared with its network.
COMPARED = 4


@dataclass(frozen=True)
class LabelPrediction:
    """The answer for one label.

    Attributes:
        label: What is asked.
        logit: The network's raw output, which explanations explain.
        probability: Calibrated.
        operating_point: On the same scale; None for softmax, and for a label of which
            validation had too few films to choose one.
        flag: probability >= operating point; for softmax, the largest.
        cannot_tell: The probability lies where validation films of both kinds lie.
    """

    label: str
    logit: float
    probability: float
    operating_point: float | None
    flag: bool
    cannot_tell: bool


@dataclass(frozen=True)
class Prediction:
    """What one model says of one film.

    Attributes:
        model: Its name.
        labels: One answer for each label of its card, in order.
        features: float32 (h, w, C), the last map of this very forward pass, from which
            class activation maps follow without another.
        likeness: How unlike the film is to those that the model learned from; None where its
            bundle does not say what those look like.
    """

    model: str
    labels: tuple[LabelPrediction, ...]
    features: NDArray[np.float32] = field(repr=False, compare=False)
    likeness: Likeness | None = None

    def label(self, name: str) -> LabelPrediction:
        """Return the answer for one label.

        Raises:
            UnknownName: When the model does not answer it.
        """
        for answer in self.labels:
            if answer.label == name:
                return answer
        raise UnknownName("label", name, [answer.label for answer in self.labels])

    def to_json(self) -> list[dict[str, Any]]:
        """Return the answers as `predict --json` prints them."""
        return [
            {
                "label": answer.label,
                "probability": answer.probability,
                "operating_point": answer.operating_point,
                "flag": answer.flag,
                "cannot_tell": answer.cannot_tell,
            }
            for answer in self.labels
        ]


class Classifier:
    """A network and its card, ready to answer; read-only, so that sessions may share it.

    Args:
        card: What the network is.
        network: A flat keras.Model with layers "features" and "logits", or the path of one.
        graph: The same network without Keras. Where there is one, it answers, and a network
            that is given by its path is loaded when it is itself asked for.

    Attributes:
        familiarity: What the films that trained it look like to it, where that is known.
    """

    def __init__(self, card: ModelCard, network: Any, graph: Graph | None = None) -> None:
        """Take hold of the network; nothing is traced until it is first used.

        Raises:
            ModelError: When the network lacks those layers or answers other labels, or its
                file is damaged.
        """
        self.card = card
        self.familiarity: Familiarity | None = None
        self._given, self._graph = network, graph
        self._loading = threading.Lock()
        self._loaded: _Differentiable | None = None
        if graph is None:
            self._differentiable()  # a network that does not fit is told at once
        else:
            _check_labels(card, graph.outputs)

    @property
    def network(self) -> Any:
        """The keras.Model as it was saved."""
        return self._differentiable().network

    def _differentiable(self) -> "_Differentiable":
        """Return the network in Keras, loaded once, whoever asks first."""
        with self._loading:
            if self._loaded is None:
                self._loaded = _Differentiable(self.card, self._read_network())
            return self._loaded

    def _read_network(self) -> Any:
        """Return the network as it was given, or else from its file."""
        if not isinstance(self._given, Path):
            return self._given
        require_tensorflow(
            f"The network of model '{self.card.name}' itself"
            if self._graph
            else f"Model '{self.card.name}', which has no graph that can be used,"
        )
        import keras

        with reading(self._given):
            if self._graph is not None:
                self._graph.check(self._given)
            return keras.models.load_model(self._given, compile=False)

    def forward(
        self, pixels: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the network once.

        Args:
            pixels: float32 (N, S, S, C), from `prepare`.

        Returns:
            Logits (N, K) and features (N, h, w, C), float32.
        """
        return self._runs.forward(pixels)

    def input_gradients(
        self, pixels: NDArray[np.float32], direction: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Differentiate a combination of logits with respect to the pixels.

        Args:
            pixels: float32 (N, S, S, C).
            direction: float32 (K,): 1 at a label explains it, -1 its absence.

        Returns:
            direction · logits (N,), and its gradient (N, S, S, C).
        """
        directions = np.broadcast_to(direction, (len(pixels), len(direction)))
        return self._runs.gradients("film", pixels, directions)

    def feature_gradients(
        self, features: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Differentiate combinations of logits with respect to one film's features.

        Only the head runs, there and back, once for each direction.

        Args:
            features: float32 (h, w, C), as `Prediction` holds them.
            directions: float32 (M, K).

        Returns:
            (M, h, w, C).
        """
        repeated = np.broadcast_to(features, (len(directions), *features.shape))
        return self._runs.gradients("features", repeated, directions)[1]

    @property
    def _runs(self) -> "Graph | _Differentiable":
        """Whatever runs the network: the graph, where there is one."""
        return self._graph or self._differentiable()

    @property
    def points_at_once(self) -> bool:
        """Whether gradients are at hand: by the graph, or by Keras where that is loaded."""
        return self._graph is not None or self._loaded is not None

    def predict(self, model_input: ModelInput) -> Prediction:
        """Answer every label for one film."""
        return self.predict_batch([model_input])[0]

    def predict_batch(self, inputs: Sequence[ModelInput]) -> list[Prediction]:
        """Answer every label for several films in one forward pass."""
        logits, features = self.forward(np.stack([item.pixels for item in inputs]))
        scores = probabilities(logits, self.card.calibration, self.card.activation)
        return [
            Prediction(self.card.name, self._answers(*film), maps, self._likeness(maps))
            for *film, maps in zip(logits, scores, features, strict=True)
        ]

    def _likeness(self, features: NDArray[np.float32]) -> Likeness | None:
        return self.familiarity.likeness(features) if self.familiarity is not None else None

    def _answers(
        self, logits: NDArray[np.float32], scores: NDArray[np.float64]
    ) -> tuple[LabelPrediction, ...]:
        card = self.card
        largest = int(scores.argmax()) if card.activation == "softmax" else None
        return tuple(
            LabelPrediction(
                label,
                float(logits[k]),
                float(scores[k]),
                point,
                bool(scores[k] >= point) if point is not None else k == largest,
                band is not None and bool(band[0] <= scores[k] <= band[1]),
            )
            for k, (label, point, band) in enumerate(
                zip(card.labels, card.operating_points, card.cannot_tell, strict=True)
            )
        )

    def warm_up(self) -> None:
        """Make ready what any map and its check need, so that no reader waits for it."""
        self.warm_head()
        film = self._empty_film()
        self.input_gradients(film, np.eye(len(self.card.labels), dtype=np.float32)[0])

    def warm_head(self) -> None:
        """Make ready what an answer and its class activation maps need."""
        _, features = self.forward(self._empty_film())
        self.feature_gradients(features[0], np.eye(len(self.card.labels), dtype=np.float32))

    def _empty_film(self) -> NDArray[np.float32]:
        size, channels = self.card.preprocessing.size, self.card.preprocessing.channels
        return np.zeros((1, size, size, channels), np.float32)


class _Differentiable:
    """A network in Keras, split at "features", its normalisations merged."""

    def __init__(self, card: ModelCard, network: Any) -> None:
        """Split the network; nothing is traced until it is first used.

        Raises:
            ModelError: When it lacks the layers to be split at, or answers other labels.
        """
        import keras

        self.network = network
        try:
            network.get_layer("features")
            logits = network.get_layer("logits").output
        except ValueError as error:
            raise ModelError(
                f"Model '{card.name}' has no layers named 'features' and 'logits'; build it with "
                "a network of cxr_core.networks."
            ) from error
        _check_labels(card, logits.shape[-1])
        served = fold(network)
        features, logits = (served.get_layer(name).output for name in ("features", "logits"))
        self._both = keras.Model(served.input, [logits, features])
        self._head = keras.Model(features, logits)

    def forward(
        self, pixels: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and features, as `Classifier.forward`."""
        logits, features = self._forward(pixels)
        return logits.numpy(), features.numpy()

    def gradients(
        self, start: Start, values: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return direction · logits and its gradient, as `Graph.gradients`."""
        traced = self._input_gradient if start == "film" else self._feature_gradient
        value, gradient = traced(values, directions)
        return value.numpy(), gradient.numpy()

    @cached_property
    def _forward(self) -> Any:
        import tensorflow as tf

        spec = tf.TensorSpec(self.network.input_shape, tf.float32)
        return tf.function(lambda x: self._both(x, training=False), input_signature=[spec])

    @cached_property
    def _input_gradient(self) -> Any:
        """(pixels, directions) -> (directions · logits, its gradient), traced."""
        return self._gradient_of(lambda x: self._both(x, training=False)[0], self.network.input)

    @cached_property
    def _feature_gradient(self) -> Any:
        """(features, directions) -> (directions · logits, its gradient), traced."""
        return self._gradient_of(lambda x: self._head(x, training=False), self._head.input)

    def _gradient_of(self, function: Any, example: Any) -> Any:
        """Trace (x, direction) -> (direction · logits(x), its gradient with respect to x)."""
        import tensorflow as tf

        def gradient(x: Any, direction: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = tf.reduce_sum(function(x) * direction, axis=1)
            return value, tape.gradient(value, x)

        inputs = tf.TensorSpec(example.shape, tf.float32)
        direction = tf.TensorSpec((None, self._head.output.shape[-1]), tf.float32)
        return tf.function(gradient, input_signature=[inputs, direction])


def _check_labels(card: ModelCard, outputs: int) -> None:
    """Refuse a network that answers other labels than its card says."""
    if outputs != len(card.labels):
        raise ModelError(
            f"Model '{card.name}' has {outputs} outputs but {len(card.labels)} labels."
        )


def fold(network: Any) -> Any:
    """Merge each batch normalisation into the convolution it follows.

    A trained normalisation multiplies and adds constants, which the kernel and a bias can do
    as well (Jacob et al., CVPR 2018, arXiv:1712.05877, section 3.2): the same logits up to
    rounding, and less work (`make bench` prints both forward passes).

    Returns:
        A new network with the layer names of the old one, which stays as it is.
    """
    import keras

    pairs = {
        layer.input._keras_history.operation.name: layer.name
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization) and _follows_convolution(layer)
    }

    def clone(layer: Any) -> Any:
        if layer.name in pairs.values():
            # Not Identity: cloning hands over the arguments of a normalisation, a mask too.
            return keras.layers.Lambda(lambda x, mask=None: x, name=layer.name)
        changed = {"use_bias": True} if layer.name in pairs else {}
        return type(layer).from_config(layer.get_config() | changed)

    folded = keras.models.clone_model(network, clone_function=clone)
    for layer in network.layers:
        if layer.name in pairs:
            norm = network.get_layer(pairs[layer.name])
            folded.get_layer(layer.name).set_weights(_merged(layer, norm))
        elif layer.name not in pairs.values():
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    return folded


def _follows_convolution(norm: Any) -> bool:
    """Say whether a normalisation is all that reads a plain convolution's output."""
    import keras

    source = norm.input._keras_history.operation
    return (
        type(source) is keras.layers.Conv2D
        and source.activation is keras.activations.linear
        and len(source._outbound_nodes) == 1
    )


def _merged(convolution: Any, norm: Any) -> list[NDArray[np.float32]]:
    """Return the kernel and bias that do what both layers did."""
    kernel, *bias = convolution.get_weights()
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = (norm.gamma.numpy() if norm.scale else 1) / np.sqrt(variance + norm.epsilon)
    shift = norm.beta.numpy() if norm.center else 0
    return [kernel * scale, ((bias[0] if bias else 0) - mean) * scale + shift]


def load_classifier(
    name: str, root: Path | None = None, *, kind: Literal["classifier", "gate"] = "classifier"
) -> Classifier:
    """Load a model to answer; imports TensorFlow only where its graph cannot be used.

    Raises:
        UnknownName: When there is no such model.
        ArgumentError: When it is of another kind.
        ModelError: When its files are damaged, or only its card and record are shipped.
    """
    card = load_card(name, root, kind=kind)
    path = model_folder(name, root) / NETWORK
    if not path.is_file():
        raise ModelError(
            f"Model '{name}' is shipped without its weights. Train it with "
            f"`python -m cxr_core train {card.recipe} --data FOLDER`."
        )
    return open_bundle(card, path.parent)


def open_bundle(card: ModelCard, folder: Path) -> Classifier:
    """Load the network of a bundle that holds one, with what belongs to it.

    Raises:
        ModelError: When its files are damaged.
    """
    found = Classifier(card, folder / NETWORK, load_graph(folder))
    found.familiarity = load_familiarity(folder)  # what is wrong with the network is told first
    return found


def round_weights(network: Any) -> None:
    """Round every weight to float16, in place: it is what the bundle stores."""
    network.set_weights(
        [value.astype(np.float16).astype(value.dtype) for value in network.get_weights()]
    )


def write_bundle(card: ModelCard, network: Any, folder: Path) -> Classifier:
    """Write card, network and graph to a new folder, load them back, and compare.

    Weights should have gone through `round_weights`: stored as float32 whose last 13 bits
    are zero they deflate to about half.

    Returns:
        The classifier as loaded from the folder: what should be scored.

    Raises:
        ModelError: When the loaded network gives other logits than the one saved.
    """
    folder.mkdir(parents=True)
    card_text = json.dumps(card.to_json(), indent=2, ensure_ascii=False)
    (folder / "card.json").write_text(card_text + "\n", "utf-8")
    import keras

    # The same layers without the optimiser, whose moments weigh three times what they do.
    bare = keras.Model(network.input, network.output, name=network.name)
    bare.save(folder / NETWORK)
    _deflate(folder / NETWORK)
    loaded = Classifier(card, folder / NETWORK)
    shape = (4, *network.input_shape[1:])
    probe = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    gap = float(np.abs(loaded.forward(probe)[0] - network.predict_on_batch(probe)).max())
    if not gap <= SAME_LOGITS:
        raise ModelError(f"Model '{card.name}' changed by {gap:.2g} logits when saved.")
    return with_graph(loaded, folder)


def with_graph(classifier: Classifier, folder: Path) -> Classifier:
    """Write a network's graph to its bundle, if it answers phantoms as the network does.

    Args:
        classifier: Without a graph.
        folder: The bundle, which holds its network.

    Returns:
        The classifier that answers by its graph, or else the same as came.
    """
    from cxr_core.phantom import thorax

    shape = classifier.card.preprocessing
    films = [thorax(256, 224 + 16 * seed, seed=seed) for seed in range(COMPARED)]
    pixels = np.stack([prepare(film, shape).pixels for film in films])
    logits, features = classifier.forward(pixels)
    _, gradients = classifier.input_gradients(pixels, np.ones_like(logits[0]))
    graph = write_graph(classifier.network, folder, pixels, Told(logits, features, gradients))
    return Classifier(classifier.card, classifier.network, graph) if graph else classifier


def _deflate(path: Path) -> None:
    """Compress the members of a .keras file, which Keras stores as they are."""
    aside = path.with_suffix(".tmp")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(aside, "w") as target:
        for item in source.namelist():
            target.writestr(item, source.read(item), zipfile.ZIP_DEFLATED, 9)
    aside.replace(path)
