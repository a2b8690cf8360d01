"""Who trains, who chooses, who is scored: by patient, or by film where a source did so."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import ceil

import numpy as np

from cxr_core.datasets.films import Film
from cxr_core.errors import ArgumentError


def _groups(films: Sequence[Film]) -> Iterator[list[Film]]:
    """Yield films that must stay together: same patient, or same bytes, or linked by both."""
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for film in films:
        parent[find(f"digest {film.digest}")] = find(f"patient {film.patient}")
    together = defaultdict(list)
    for film in films:
        together[find(f"patient {film.patient}")].append(film)
    yield from together.values()


def _require_shares(fractions: Mapping[str, float]) -> None:
    if any(share <= 0 for share in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ArgumentError(f"Split fractions must be positive and sum to 1, but {fractions} came.")


def split_by_patient(
    films: Sequence[Film], fractions: Mapping[str, float], seed: int
) -> dict[str, tuple[Film, ...]]:
    """Split films so that no patient and no duplicate falls into two parts.

    Stratified by findings: within each stratum, whole patients are dealt in random
    order to the part that lacks most films, of this stratum and of all dealt so far.

    Args:
        films: What to split.
        fractions: Share of the films for each part, such as {"train": 0.85, "validation": 0.15}.
        seed: The same seed gives the same split, whatever order the films come in.

    Returns:
        The films of each part, in sorted order.

    Raises:
        ArgumentError: When the shares are not positive or do not sum to 1.
    """
    _require_shares(fractions)
    strata = defaultdict(list)
    for group in _groups(sorted(films, key=lambda film: film.file)):
        strata[group[0].findings].append(group)
    parts: dict[str, list[Film]] = {name: [] for name in fractions}
    rng = np.random.default_rng(seed)
    for _, groups in sorted(strata.items()):
        total = sum(map(len, groups))
        dealt: dict[str, int] = dict.fromkeys(fractions, 0)
        for k in rng.permutation(len(groups)):
            # Its own shortfall keeps a stratum's shares; that of all films so far has small
            # strata, of which each would begin with the same part, reach every part.
            seen = sum(map(len, parts.values()))
            shortfall = {
                part: share * (total + seen) - dealt[part] - len(parts[part])
                for part, share in fractions.items()
            }
            name = max(shortfall, key=lambda part: shortfall[part])
            parts[name] += groups[k]
            dealt[name] += len(groups[k])
    return {name: tuple(sorted(part, key=lambda film: film.file)) for name, part in parts.items()}


def split_by_film(
    films: Sequence[Film], fractions: Mapping[str, float], seed: int
) -> dict[str, tuple[Film, ...]]:
    """Split films as if each were a patient of its own, the way many published figures were made.

    Patients and duplicates fall on both sides, which flatters what is scored: this is for
    showing by how much, and for taking a part of films that all serve the same purpose. Every
    part but the first gets its share of all films rounded up, the first what is left (as
    scikit-learn's train_test_split, used twice); strata are findings.

    Args:
        films: What to split.
        fractions: Share of the films for each part, the first being what is left.
        seed: The same seed gives the same split, whatever order the films come in.

    Returns:
        The films of each part, in sorted order.

    Raises:
        ArgumentError: When the shares are not positive or do not sum to 1.
    """
    _require_shares(fractions)
    first, *others = fractions
    rng = np.random.default_rng(seed)
    left = sorted(films, key=lambda film: film.file)
    total, parts = len(left), {}
    for name in others:
        wanted = ceil(round(fractions[name] * total, 6))
        taken = _stratified(left, min(wanted, len(left)), rng)
        parts[name] = tuple(film for k, film in enumerate(left) if k in taken)
        left = [film for k, film in enumerate(left) if k not in taken]
    return {first: tuple(left)} | parts


def _stratified(films: Sequence[Film], wanted: int, rng: np.random.Generator) -> set[int]:
    """Choose positions so that each stratum gives its share, to the nearest film."""
    strata = defaultdict(list)
    for position, film in enumerate(films):
        strata[film.findings].append(position)
    quotas = {key: wanted * len(places) / len(films) for key, places in strata.items()}
    counts = {key: int(quota) for key, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda key: (counts[key] - quotas[key], key))
    for key in by_remainder[: wanted - sum(counts.values())]:
        counts[key] += 1
    return {
        int(position)
        for key in sorted(strata)
        for position in rng.permutation(strata[key])[: counts[key]]
    }
