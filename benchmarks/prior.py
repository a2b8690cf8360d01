"""Two films of one patient: how well they are laid over each other, and what counts as change.

Phantoms moved by known amounts give the errors. NIH films of the training part say how often
a transform is believed: of consecutive films of one patient, where it should be, of films of
different patients and of films turned upside down, where it should not. The bound was set on
validation films (cxr_core/registration.py). How repeatable answers are was measured by
`python -m cxr_core repeatability`; how often consecutive validation films of one patient, whose
labels are the same, differ by more says how far that limit can be taken for all that differs.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from cxr_core.cards import ModelCard, list_models, model_folder
from cxr_core.datasets import Film, index, read_film
from cxr_core.decisions import PLAIN, read_validation
from cxr_core.images import Radiograph
from cxr_core.parts import deal
from cxr_core.phantom import Opacity, thorax
from cxr_core.recipes import get_recipe
from cxr_core.registration import LIKENESS, Affine, Registration, register
from cxr_core.repeatability import load_repeatability, log_odds

PHANTOMS, PAIRS, TURNED = 12, 50, 10
HEIGHT, WIDTH = 512, 448
ILL = (Opacity(0.3, 0.55, 0.12, 0.9),)
Floats = NDArray[np.float64]


def moved(film: Radiograph, turn: float, scale: float, right: float, down: float) -> Radiograph:
    """Show a film turned clockwise by degrees, scaled, and moved by shares of its longer side."""
    shape = np.array(film.pixels.shape)
    angle, centre = np.radians(turn), (shape - 1) / 2
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    offset = centre - back @ (centre + np.array([down, right]) * max(shape))
    return replace(film, pixels=affine_transform(film.pixels, back, offset, order=1))


def true_places(film: Radiograph, move: Sequence[float], places: Floats) -> Floats:
    """Return where places (n, 2) of a film, in shares, lie on what `moved` makes of it."""
    turn, scale, right, down = move
    sides = np.array(film.pixels.shape[::-1]) / max(film.pixels.shape)
    angle = np.radians(turn)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (((places - 0.5) * sides) @ linear.T + [right, down]) / sides + 0.5


def found_places(matrix: Affine, places: Floats) -> Floats:
    """Apply a transform to places (n, 2), in shares."""
    affine = np.array(matrix)
    return places @ affine[:, :2].T + affine[:, 2]


def measure(data: Path) -> str | None:
    """Measure all of it; needs the NIH films."""
    folder = data / "nih_chestxray14"
    if not folder.is_dir():
        return None
    return "\n".join([*_phantoms(), "", *_films(folder), "", *_repeatability()])


def _phantoms() -> list[str]:
    lines = [
        f"| {PHANTOMS} phantoms of {WIDTH} x {HEIGHT} pixels, moved by a known amount | believed "
        "| error, median (largest), pixels | degrees | scale |",
        "|---|---:|---:|---:|---:|",
    ]
    kinds = {
        "as they are": lambda film, seed: film,
        "the prior with another gamma and contrast": lambda film, seed: _toned(film),
        "an opacity on the current film only": lambda film, seed: thorax(
            HEIGHT, WIDTH, seed=seed, opacities=ILL
        ),
    }
    grid = np.stack(np.meshgrid(*[np.linspace(0.1, 0.9, 5)] * 2), -1).reshape(-1, 2)
    for name, change in kinds.items():
        rng, errors, believed = np.random.default_rng(0), [], 0
        for seed in range(PHANTOMS):
            film = thorax(HEIGHT, WIDTH, seed=seed)
            move = (rng.uniform(-12, 12), rng.uniform(0.8, 1.25), *rng.uniform(-0.1, 0.1, 2))
            prior, current = moved(film, *move), film
            if "prior" in name:
                prior = change(prior, seed)
            else:
                current = change(film, seed)
            found = register(prior, current)
            believed += found.believed
            if found.believed:
                apart = found_places(found.matrix, grid) - true_places(film, move, grid)
                off = np.linalg.norm(apart * [WIDTH, HEIGHT], axis=1).mean()
                errors.append((off, abs(found.turned - move[0]), abs(found.scale - move[1])))
        middle, worst = np.median(errors, axis=0), np.max(errors, axis=0)
        cells = (f"{m:.{n}f} ({w:.{n}f})" for m, w, n in zip(middle, worst, (1, 2, 3), strict=True))
        lines.append(f"| {name} | {believed} of {PHANTOMS} | {' | '.join(cells)} |")
    return lines


def _toned(film: Radiograph) -> Radiograph:
    toned = np.clip(0.8 * film.pixels**1.6 + 0.05, 0, 1)
    return replace(film, pixels=toned.astype(np.float32))


def _films(folder: Path) -> list[str]:
    films = deal(index(folder), get_recipe("adult-findings"), 0)["train"]
    rng = np.random.default_rng(0)
    consecutive = _consecutive(films)
    same = [consecutive[k] for k in rng.permutation(len(consecutive))[:PAIRS]]
    firsts = list({film.patient: film for film in films}.values())
    order = rng.permutation(len(firsts))[: 2 * PAIRS].reshape(-1, 2)
    pairs = [(firsts[a], firsts[b]) for a, b in order]
    kinds = {
        "consecutive films of one patient": _registered(folder, same),
        "films of different patients": _registered(folder, pairs),
        "of one patient, the prior upside down": _registered(folder, same[:TURNED], turned=True),
    }
    lines = [
        f"| NIH films of the training part | pairs | believed (likeness at least {LIKENESS:g}) | "
        "likeness, median | 5th to 95th percentile |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, found in kinds.items():
        likeness = np.array([one.after for one in found])
        low, middle, high = np.percentile(likeness, [5, 50, 95])
        believed = sum(one.believed for one in found)
        lines.append(
            f"| {name} | {len(found)} | {believed} ({believed / len(found):.0%}) | {middle:.2f} | "
            f"{low:.2f} to {high:.2f} |"
        )
    return lines


def _consecutive(films: Iterable[Film]) -> list[tuple[Film, Film]]:
    """Pair each film with the next of its patient, in the order of the follow-up."""
    by_patient = defaultdict(list)
    for film in films:
        by_patient[film.patient].append(film)
    return [pair for each in by_patient.values() for pair in pairwise(each)]


def _registered(
    folder: Path, pairs: Sequence[tuple[Film, Film]], *, turned: bool = False
) -> list[Registration]:
    found = []
    for pair in pairs:
        prior, current = (read_film(folder, film) for film in pair)
        if turned:
            prior = replace(prior, pixels=prior.pixels[::-1, ::-1])
        found.append(register(prior, current))
    return found


def _repeatability() -> list[str]:
    lines = [
        "| model | label | films, each 8 times anew | repeatability coefficient, log-odds | "
        "validation pairs of one patient with the same labels | of these beyond it |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for card in list_models():
        found = load_repeatability(card.name)
        if found is None:
            lines.append(f"| {card.name} {card.version} | | not measured | | | |")
            continue
        differences = _differences(card)
        for label, limit in found.limits.items():
            beyond = "-"
            if len(differences):
                count = int((differences[:, card.position(label)] > limit).sum())
                beyond = f"{count} ({count / len(differences):.0%})"
            lines.append(
                f"| {card.name} {card.version} | {label} | {found.films} | {limit:.2f} | "
                f"{len(differences)} | {beyond} |"
            )
    return lines


def _differences(card: ModelCard) -> Floats:
    """Return by how much consecutive validation films of one patient differ: (pairs, K)."""
    table = read_validation(model_folder(card.name) / "validation.csv")
    odds, by_patient = log_odds(table.logits, card.activation), defaultdict(list)
    for row in np.flatnonzero(table.rows(PLAIN)).tolist():
        by_patient[table.patients[row]].append(row)
    pairs = [pair for rows in by_patient.values() for pair in pairwise(rows)]
    same = [(a, b) for a, b in pairs if (table.y_true[a] == table.y_true[b]).all()]
    return np.abs([odds[a] - odds[b] for a, b in same]).reshape(len(same), len(card.labels))
