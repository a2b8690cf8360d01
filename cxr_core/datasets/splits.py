"""Who trains, who chooses, who is scored: splits that keep every patient on one side."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

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


def split_by_patient(
    films: Sequence[Film], fractions: Mapping[str, float], seed: int
) -> dict[str, tuple[Film, ...]]:
    """Split films so that no patient and no duplicate falls into two parts.

    Stratified by findings: within each stratum, whole patients are dealt in random
    order to the part that is furthest below its share of films.

    Args:
        films: What to split.
        fractions: Share of the films for each part, such as {"train": 0.85, "validation": 0.15}.
        seed: The same seed gives the same split, whatever order the films come in.

    Returns:
        The films of each part, in sorted order.

    Raises:
        ArgumentError: When the shares are not positive or do not sum to 1.
    """
    if any(share <= 0 for share in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ArgumentError(f"Split fractions must be positive and sum to 1, but {fractions} came.")
    strata = defaultdict(list)
    for group in _groups(sorted(films, key=lambda film: film.file)):
        strata[group[0].findings].append(group)
    parts: dict[str, list[Film]] = {name: [] for name in fractions}
    rng = np.random.default_rng(seed)
    for _, groups in sorted(strata.items()):
        total = sum(map(len, groups))
        dealt: dict[str, int] = dict.fromkeys(fractions, 0)
        for k in rng.permutation(len(groups)):
            name = min(fractions, key=lambda part: dealt[part] / (fractions[part] * total))
            parts[name] += groups[k]
            dealt[name] += len(groups[k])
    return {name: tuple(sorted(part, key=lambda film: film.file)) for name, part in parts.items()}
