"""The gate's limits, from validation films alone: what few good films may be refused for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.augmentation import ACQUISITION, augment
from cxr_core.datasets import Film, Progress, pixel_cache
from cxr_core.gate import (
    EXTENTS,
    FRONTAL,
    KINDS,
    LABELS,
    LOOK,
    SIDES,
    TONES,
    TURNS,
    looked_at,
    parted,
    softmax,
)
from cxr_core.gate_training.films import KEPT, Collection
from cxr_core.preprocess import finish

# The largest share of validation films of any group that may be called no frontal film, as they
# are and perturbed, or no whole chest; and of all of them together that may be called mirrored.
NO_FILM, NO_FILM_PERTURBED, NOT_WHOLE, MIRRORED = 0.005, 0.01, 0.005, 0.01
# Nor is a film called turned or inverted that more likely is not.
EVEN = 0.5
RULE = (
    f"On validation films of each collection, and of each view where it is known: the highest "
    f"limit that calls at most {NO_FILM:.1%} of any group no frontal film, and at most "
    f"{NO_FILM_PERTURBED:.0%} of any group perturbed as other X-ray units would; the lowest that "
    f"calls at most {NOT_WHOLE:.1%} of any group partly cut away; limits of at "
    f"most {EVEN} that call none of them turned, of at least {EVEN} that call none inverted; the "
    f"lowest limit that calls at most {MIRRORED:.0%} of all mirrored."
)

Answers = list[NDArray[np.float64]]  # probabilities (N, K) of each question


def ask(network: Any, squares: NDArray[np.uint8]) -> Answers:
    """Put all questions about uint8 (N, 64, 64) squares, 128 at a time."""
    logits = [
        network.predict_on_batch(finish(squares[k : k + 128], LOOK))
        for k in range(0, len(squares), 128)
    ]
    return [softmax(part) for part in parted(np.concatenate(logits))]


def squares_of(
    folder: Path, films: Sequence[Film], progress: Progress | None = None
) -> NDArray[np.uint8]:
    """Show films as the gate looks at them, within even borders: uint8 (N, 64, 64)."""
    return np.stack([looked_at(kept) for kept in pixel_cache(folder, films, KEPT, progress)])


def highest_limit(scores: NDArray[np.float64], share: float) -> float:
    """Return the highest limit below which at most this share of the scores lies."""
    ordered = np.sort(scores)
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])


def validation_groups(frontal: Mapping[str, Collection]) -> dict[str, NDArray[np.int64]]:
    """Say which rows of all validation films, collection after collection, form each group."""
    names = [
        f"{name} {film.view or ''}".strip()
        for name, part in frontal.items()
        for film in part.validation
    ]
    return {name: np.flatnonzero(np.array(names) == name) for name in dict.fromkeys(names)}


def choose_limits(
    network: Any,
    frontal: Mapping[str, Collection],
    seed: int,
    progress: Progress | None = None,
) -> tuple[float | None, ...]:
    """Choose a limit for each label that has one; None for the others.

    Returns:
        In the order of `LABELS`: the least probability of a frontal film and of an upright
        one, the most of an inverted one, of a mirrored one and of one that is cut away.
    """
    squares = np.concatenate(
        [
            squares_of(part.folder, part.validation, progress)
            for part in frontal.values()
            if part.validation
        ]
    )
    films = augment(
        squares.astype(np.float32) / np.float32(255), ACQUISITION, np.random.default_rng(seed)
    )
    kind, turn, side, tone, extent = ask(network, squares)
    varied = ask(network, np.rint(films * 255).astype(np.uint8))[0]
    groups = validation_groups(frontal).values()

    def for_all(scores: NDArray[np.float64], share: float) -> float:
        return min(highest_limit(scores[rows], share) for rows in groups)

    limits = {
        KINDS[FRONTAL]: min(
            for_all(kind[:, FRONTAL], NO_FILM), for_all(varied[:, FRONTAL], NO_FILM_PERTURBED)
        ),
        TURNS[0]: min(EVEN, for_all(turn[:, 0], 0.0)),
        # An inverted or mirrored film lies above its limit, not below; equal counts as above.
        TONES[1]: max(EVEN, _above(for_all(tone[:, 0], 0.0))),
        SIDES[1]: _above(highest_limit(side[:, 0], MIRRORED)),
        EXTENTS[1]: _above(for_all(extent[:, 0], NOT_WHOLE)),
    }
    return tuple(limits.get(label) for label in LABELS)


def _above(limit: float) -> float:
    """Turn a least probability of the sound answer into a most of the faulty one."""
    return float(np.nextafter(1 - limit, 2))
