"""What a method is asked and what it answers, and the list of all methods.

Methods explain logits, never probabilities (which saturate), and see the network only
through the classifier's forward passes and gradients, so that each can be tested on a
function whose attributions are known.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr_core.classifier import Classifier
from cxr_core.errors import ArgumentError, UnknownName
from cxr_core.preprocess import ModelInput

Progress = Callable[[int, int], None]
"""Called with how much of the work is done, and of how much; what it raises stops the work."""
Baseline = Literal["black", "blurred", "mean"]
# Films in one forward or backward pass: more gain little, and wait longer to be cancelled.
BATCH = 8


@dataclass(frozen=True)
class Attribution:
    """One map, of one label, by one method.

    Attributes:
        values: float32 (h, w) over the model's square; `preprocess.restore` lays it on
            the film.
        label: What is explained.
        method: By which method.
        signed: Whether negative values speak against the label; otherwise all are >= 0.
        absence: Whether the label's absence is explained (its negated logit).
        completeness_gap: For integrated gradients, what the map's sum misses of
            f(film) - f(baseline), in logits; None for methods that promise no sum.
        relative_gap: |gap| / max(|f(film) - f(baseline)|, 1 logit).
        nodes: Gradients averaged along the path.
        note: What the reader should know before trusting the map, or None.
        baseline: For integrated gradients, the film they started from.
    """

    values: NDArray[np.float32]
    label: str
    method: str
    signed: bool
    absence: bool = False
    completeness_gap: float | None = None
    relative_gap: float | None = None
    nodes: int | None = None
    note: str | None = None
    baseline: Baseline | None = None


@dataclass(frozen=True)
class Question:
    """What a method is asked to explain.

    Attributes:
        classifier: The model that spoke.
        model_input: The film as it read it.
        label: Which of its answers.
        absence: Explain the negated logit instead: what speaks against the label.
        features: float32 (h, w, C) from the answer's own forward pass, when at hand.
        baseline: Where integrated gradients start.
        progress: Called as the work goes on.
    """

    classifier: Classifier
    model_input: ModelInput
    label: str
    absence: bool = False
    features: NDArray[np.float32] | None = None
    baseline: Baseline = "black"
    progress: Progress | None = None

    @property
    def direction(self) -> NDArray[np.float32]:
        """Return float32 (K,): the explained logit is direction · logits."""
        direction = np.zeros(len(self.classifier.card.labels), np.float32)
        direction[self.classifier.card.position(self.label)] = -1 if self.absence else 1
        return direction

    def values(self, films: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the explained logit (N,) of films (N, S, S, C), which fit into one batch."""
        return self.classifier.forward(films)[0] @ self.direction

    def slopes(self, films: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the explained logit (N,) of films (N, S, S, C) and its gradient, in batches."""
        parts = [films[start : start + BATCH] for start in range(0, len(films), BATCH)]
        told = [self.classifier.input_gradients(part, self.direction) for part in parts]
        values, gradients = zip(*told, strict=True)
        return np.concatenate(values), np.concatenate(gradients)

    def batches(self, count: int) -> Iterator[slice]:
        """Go through `count` films in batches, and tell after each how far the work is."""
        for start in range(0, count, BATCH):
            end = min(start + BATCH, count)
            yield slice(start, end)
            self.report(end, count)

    def answer(self, values: NDArray[np.float32], method: str, **facts: object) -> Attribution:
        """Make the map that answers this question."""
        known: dict[str, object] = {"absence": self.absence, **facts}
        return Attribution(values, self.label, method, **known)  # type: ignore[arg-type]

    def report(self, done: int, total: int) -> None:
        """Tell whoever waits how far the work is."""
        if self.progress is not None:
            self.progress(done, total)


Explainer = Callable[[Question], Attribution]


@dataclass(frozen=True)
class Method:
    """What is known of a method without running it.

    Attributes:
        name: As on the command line ("grad-cam").
        title: As its paper writes it ("Grad-CAM").
        signed: Whether its maps also say what speaks against the label.
        cost: Roughly, in forward passes of the network.
        shows: What a map by it says, in half a sentence.
        hides: What it cannot show.
        run: The method.
    """

    name: str
    title: str
    signed: bool
    cost: float
    shows: str
    hides: str
    run: Explainer


_METHODS: dict[str, Method] = {}


def register_method(
    *, title: str, signed: bool, cost: float, shows: str, hides: str
) -> Callable[[Explainer], Explainer]:
    """Register a method under its function's name, underscores written as hyphens.

    Raises:
        ArgumentError: When the name is taken.
    """

    def register(explainer: Explainer) -> Explainer:
        name = explainer.__name__.removesuffix("_plus_plus").replace("_", "-")
        name += "++" * explainer.__name__.endswith("_plus_plus")
        if name in _METHODS:
            raise ArgumentError(
                f"A method named '{name}' is registered already; rename one of them."
            )
        _METHODS[name] = Method(name, title, signed, cost, shows, hides, explainer)
        return explainer

    return register


def list_methods() -> list[str]:
    """Name the registered methods, cheapest first."""
    return sorted(_METHODS, key=lambda name: _METHODS[name].cost)


def get_method(name: str) -> Method:
    """Return what is known of a method.

    Raises:
        UnknownName: When it does not exist.
    """
    if name not in _METHODS:
        raise UnknownName("method", name, _METHODS)
    return _METHODS[name]


def explain(
    classifier: Classifier,
    model_input: ModelInput,
    label: str,
    method: str,
    *,
    absence: bool = False,
    features: NDArray[np.float32] | None = None,
    baseline: Baseline = "black",
    progress: Progress | None = None,
) -> Attribution:
    """Explain one label on one film.

    Args:
        classifier: The model that spoke.
        model_input: The film as it read it.
        label: Which of its answers.
        method: One of `list_methods()`.
        absence: Explain what speaks against the label: its negated logit.
        features: float32 (h, w, C) from the prediction's own forward pass, when at hand:
            class activation maps then need no further pass.
        baseline: Where integrated gradients start; other methods take no notice.
        progress: Called as the work goes on; what it raises stops it.

    Raises:
        UnknownName: When the label or the method does not exist.
        ArgumentError: When the baseline does not exist, or is a mean film the model lacks.
    """
    found = get_method(method)
    return found.run(
        Question(classifier, model_input, label, absence, features, baseline, progress)
    )
