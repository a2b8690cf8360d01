"""How unlike a film is to those that a model learned from, as the model itself sees it.

An answer follows from the features of one forward pass. Averaged over the film they are a
point; the films that trained the model fill a cloud of such points, each film as it is and once
as another X-ray unit might have taken it. A new film's distance is counted in deviations of
that cloud (Mahalanobis): along its widest directions each by its own deviation, in what is left
by one for all, which keeps the inverse of a covariance of few films steady (Tipping and Bishop,
Probabilistic principal component analysis, J R Stat Soc B 61, 1999; Lee et al., A simple unified
framework for detecting out-of-distribution samples, NeurIPS 2018).

The limit follows from validation films by a rule written down before any was scored: the
smallest beyond which lie at most 1 % of them as they are and 2 % as other units might have
taken them. A film beyond is a caution, never a refusal: rare is not wrong.

    models/NAME/familiarity.npz    the cloud, the limit, and of which model.keras they are

It sees what changes the features, and nothing else: a film that no training film resembles may
still lie within the cloud.
"""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import ArgumentError, ModelError
from cxr_core.runtime import NETWORK

FILE = "familiarity.npz"
# Shares of validation films, as they are and perturbed, that may lie beyond the limit.
BEYOND = (0.01, 0.02)
# Directions of the cloud with a deviation of their own.
DIRECTIONS = 64
# A direction narrower than this share of the widest has no deviation of its own.
NARROWEST = 1e-6
# What a file that was cut short or changed raises, beside what any wrong one does.
DAMAGED = (BadZipFile, zlib.error, EOFError)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Likeness:
    """How unlike a film is to those that a model learned from.

    Attributes:
        distance: In deviations of the training films; about 1 for one of them.
        limit: What hardly any validation film exceeds.
    """

    distance: float
    limit: float

    @property
    def unfamiliar(self) -> bool:
        """Whether the film lies beyond."""
        return self.distance > self.limit


@dataclass(frozen=True, eq=False, kw_only=True)
class Familiarity:
    """The films that a model learned from, as its features have them.

    Attributes:
        centre: float32 (C,), their mean.
        scale: float32 (C,), what each feature is divided by.
        directions: float32 (C, D), orthonormal columns, the cloud's widest directions.
        deviations: float32 (D,), along each of them.
        rest: The deviation in every other direction.
        limit: Distance beyond which a film is unlike them.
        films: How many films made the cloud.
    """

    centre: Floats
    scale: Floats
    directions: Floats
    deviations: Floats
    rest: float
    limit: float
    films: int

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            ArgumentError: On shapes that do not fit, or numbers that are none or no deviations.
        """
        channels, kept = self.directions.shape if self.directions.ndim == 2 else (0, 0)
        shapes = (self.centre.shape, self.scale.shape, self.deviations.shape)
        if shapes != ((channels,), (channels,), (kept,)):
            raise ArgumentError(f"centre, scale, directions and deviations do not fit: {shapes}.")
        widths = (*self.scale, *self.deviations, self.rest, self.limit)
        numbers = (self.centre, self.directions, np.array(widths))
        if not all(np.isfinite(one).all() for one in numbers) or min(widths) <= 0:
            raise ArgumentError("deviations and limit must be finite and above 0.")

    def distances(self, points: Floats) -> NDArray[np.float64]:
        """Return how far points (N, C) lie from the cloud: (N,), in deviations."""
        away = (points - self.centre) / self.scale
        along = away @ self.directions
        left = np.maximum((away**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        squares = ((along / self.deviations) ** 2).sum(axis=1) + left / self.rest**2
        return np.asarray(np.sqrt(squares / len(self.centre)), np.float64)

    def likeness(self, features: Floats) -> Likeness:
        """Say how unlike a film is, of its features (h, w, C)."""
        (distance,) = self.distances(pooled(features[None]))
        return Likeness(float(distance), self.limit)


def pooled(features: Floats) -> Floats:
    """Average features (N, h, w, C) over each film: (N, C)."""
    return np.asarray(features.mean(axis=(1, 2)), np.float32)


def fit(training: Floats, plain: Floats, perturbed: Floats) -> Familiarity:
    """Describe the films that a model learned from, and set the limit.

    Args:
        training: (N, C), averaged features of training films, as they are and perturbed.
        plain: (M, C), of validation films as they are.
        perturbed: (P, C), of validation films as other units might have taken them.

    Raises:
        ArgumentError: On fewer than two training films, or no validation films.
    """
    if len(training) < 2 or not len(plain):
        raise ArgumentError(
            f"familiarity needs at least 2 training films and 1 validation film, but "
            f"{len(training)} and {len(plain)} came."
        )
    centre, scale = training.mean(axis=0), training.std(axis=0)
    # A feature that never changes in training gets the scale of the others.
    scale = np.where(scale > NARROWEST * scale.max(), scale, np.median(scale) or 1.0)
    _, widths, rows = np.linalg.svd((training - centre) / scale, full_matrices=False)
    squares = widths.astype(np.float64) ** 2 / (len(training) - 1)
    kept = min(DIRECTIONS, len(training) // 2, len(squares) - 1)
    kept = max(1, min(kept, int((squares > NARROWEST * squares[0]).sum())))
    rest = max(squares[kept:].sum() / max(len(centre) - kept, 1), NARROWEST * squares[0])
    cloud: dict[str, Any] = {
        "centre": centre.astype(np.float32),
        "scale": scale.astype(np.float32),
        "directions": rows[:kept].T.astype(np.float16).astype(np.float32),
        "deviations": np.sqrt(squares[:kept]).astype(np.float32),
        "rest": float(np.sqrt(rest)),
        "films": len(training),
    }
    bare = Familiarity(**cloud, limit=1.0)
    return Familiarity(**cloud, limit=limit_of(bare.distances(plain), bare.distances(perturbed)))


def limit_of(plain: NDArray[np.float64], perturbed: NDArray[np.float64]) -> float:
    """Return the smallest limit that the rule allows.

    Args:
        plain: (M,), distances of validation films as they are, M at least 1.
        perturbed: (P,), of the same as other units might have taken them.
    """
    tops = [
        np.sort(values)[len(values) - 1 - int(share * len(values))]
        for values, share in zip((plain, perturbed), BEYOND, strict=True)
        if len(values)
    ]
    return float(max(tops))


# --- on disk ---


def write_familiarity(familiarity: Familiarity, folder: Path) -> None:
    """Write the cloud beside the model.keras that it is of.

    Raises:
        OSError: When the folder cannot be written, or holds no network.
    """
    np.savez_compressed(
        folder / FILE,
        weights=np.array(_digest(folder / NETWORK)),
        centre=familiarity.centre,
        scale=familiarity.scale,
        directions=familiarity.directions.astype(np.float16),
        deviations=familiarity.deviations,
        rest=np.array(familiarity.rest),
        limit=np.array(familiarity.limit),
        films=np.array(familiarity.films),
    )


def load_familiarity(folder: Path) -> Familiarity | None:
    """Read what `write_familiarity` wrote; None where a bundle has none.

    Raises:
        ModelError: When it is damaged, or of other weights.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            if str(arrays["weights"]) != _digest(folder / NETWORK):
                raise ValueError(f"it is of other weights than {NETWORK}")
            return _read(arrays)
    except (OSError, ValueError, KeyError, TypeError, ArgumentError, *DAMAGED) as error:
        raise ModelError(
            f"'{FILE}' of model '{folder.name}' cannot be used ({error}). Restore its folder, or "
            f"make it again: python -m cxr_core reference --model {folder.name} --data FOLDER."
        ) from error


def _read(arrays: Mapping[str, NDArray[Any]]) -> Familiarity:
    floats = ("centre", "scale", "directions", "deviations")
    numbers: dict[str, Any] = {name: arrays[name].astype(np.float32) for name in floats}
    return Familiarity(
        **numbers,
        rest=float(arrays["rest"]),
        limit=float(arrays["limit"]),
        films=int(arrays["films"]),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
