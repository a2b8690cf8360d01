"""Two models side by side on the films that both have scored, for one finding.

Films that both have scored share their noise, so the difference of two models is measured
film by film: by DeLong's covariance for the AUROC, by McNemar's test for what each decides.

Reference:
    DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; McNemar, Note on the sampling
    error of the difference between correlated proportions, Psychometrika 12, 1947.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import DataError, UnknownName
from cxr_core.evaluation import ThresholdReport, decision_report, plain
from cxr_core.predictions import PredictionTable, flagged
from cxr_core.ranking import Comparison, Flags, compare

Rows = NDArray[np.intp]
WHICH = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class PairedDecisions:
    """How many films each of two models decides rightly; the four counts add up to all.

    `p_value` is McNemar's, exact and two-sided, from the films that only one has right; None
    without such films.
    """

    both_right: int
    only_a: int
    only_b: int
    neither: int
    p_value: float | None


@dataclass(frozen=True, kw_only=True)
class ModelComparison:
    """What two models, a and b, say of one finding on the films that both have scored.

    Attributes:
        label: The finding.
        n: Films in common.
        n_a_only: Films that only a has scored, left out.
        n_b_only: Films that only b has scored, left out.
        positives: Films in common that have the finding.
        auroc: Of each, and their paired difference a - b.
        a: What the operating point of a does to the films in common.
        b: The same of b.
        all_films: Who decides rightly; None where one of them decides nothing.
        with_finding: The same among the positives: a difference in sensitivity.
        without_finding: The same among the others: a difference in specificity.
        notes: What could not be had, and why.
    """

    label: str
    n: int
    n_a_only: int
    n_b_only: int
    positives: int
    auroc: Comparison
    a: ThresholdReport
    b: ThresholdReport
    all_films: PairedDecisions | None
    with_finding: PairedDecisions | None
    without_finding: PairedDecisions | None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; an interval becomes `name` and `name_ci`."""
        return plain(self)


def compare_models(
    a: PredictionTable,
    b: PredictionTable,
    label: str,
    points: tuple[float | None, float | None],
    *,
    exclusive: tuple[bool, bool] = (False, False),
) -> ModelComparison:
    """Compare two models on the films that both tables hold, matched by file name.

    Args:
        a: What one model said.
        b: What the other said.
        label: A finding that both answer.
        points: Operating point of each for it; None decides nothing, or is exclusive.
        exclusive: Whether the largest score of a film decides (softmax), for each.

    Raises:
        UnknownName: When a table lacks the label.
        ArgumentError: On an operating point that is no probability, or one for exclusive
            labels.
        DataError: When the tables share no film, or differ about what is true of one.
    """
    for table, which in zip((a, b), WHICH, strict=True):
        if label not in table.labels:
            raise UnknownName(f"label in the {which} table", label, table.labels)
    rows = _shared(a, b)
    truth = _agreed(a, b, label, rows)
    scores, decided, reports = [], [], []
    for table, films, point, largest in zip((a, b), rows, points, exclusive, strict=True):
        flags = flagged(table, label, point, exclusive=largest)
        scores.append(table.y_score[films, table.labels.index(label)])
        decided.append(None if flags is None else flags[films])
        reports.append(decision_report(truth, decided[-1], point))
    areas = compare(truth, *scores)
    pairs = {
        "all_films": _paired(truth, decided, np.ones_like(truth)),
        "with_finding": _paired(truth, decided, truth),
        "without_finding": _paired(truth, decided, ~truth),
    }
    return ModelComparison(
        label=label,
        n=truth.size,
        n_a_only=len(a.files) - truth.size,
        n_b_only=len(b.files) - truth.size,
        positives=int(truth.sum()),
        auroc=areas,
        a=reports[0],
        b=reports[1],
        **pairs,
        notes=(
            *_decision_notes(label, reports, pairs),
            *_area_notes(label, truth, areas),
            *_film_notes(a, b, rows[0]),
        ),
    )


def mcnemar(only_a: int, only_b: int) -> float | None:
    """Return how likely a split this uneven or more so is, were both sides equally likely.

    Exact and two-sided: twice the lower tail of the binomial distribution, at most 1; None
    without any film that only one of the two has right.

    Args:
        only_a: Films that only the first has right, from 0 up.
        only_b: Films that only the second has right.

    Reference:
        McNemar, Psychometrika 12, 1947; the exact form is the sign test.
    """
    from scipy.special import bdtr  # slow to load, and only two models need it

    if not only_a + only_b:
        return None
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def _shared(a: PredictionTable, b: PredictionTable) -> tuple[Rows, Rows]:
    """Return where the films of both lie in each table, in the order of the first."""
    place = {file: row for row, file in enumerate(b.files)}
    rows = [(row, place[file]) for row, file in enumerate(a.files) if file in place]
    if not rows:
        raise DataError(
            f"The two tables share no film: the first begins with {a.files[0]}, the second with "
            f"{b.files[0]}. Score the same films with both models, under the same file names."
        )
    first, second = np.array(rows).T
    return first, second


def _agreed(a: PredictionTable, b: PredictionTable, label: str, rows: tuple[Rows, Rows]) -> Flags:
    """Return which films have the finding, (N,), or name the first that is in dispute."""
    first: Flags = a.y_true[rows[0], a.labels.index(label)] == 1
    second: Flags = b.y_true[rows[1], b.labels.index(label)] == 1
    disputed = np.flatnonzero(first != second)
    if disputed.size:
        film = a.files[rows[0][disputed[0]]]
        words = ("with", "without") if first[disputed[0]] else ("without", "with")
        raise DataError(
            f"The tables differ about what is true of {disputed.size} of {first.size} films: "
            f"{film} is {words[0]} {label} in the first and {words[1]} in the second. "
            "Compare models against the same labels."
        )
    return first


def _paired(truth: Flags, decided: list[Flags | None], films: Flags) -> PairedDecisions | None:
    """Count who is right about some films; None where one of the two decides nothing."""
    first, second = decided
    if first is None or second is None:
        return None
    right_a, right_b = (first == truth)[films], (second == truth)[films]
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return PairedDecisions(
        both_right=int((right_a & right_b).sum()),
        only_a=only_a,
        only_b=only_b,
        neither=int((~right_a & ~right_b).sum()),
        p_value=mcnemar(only_a, only_b),
    )


def _decision_notes(
    label: str, reports: list[ThresholdReport], pairs: dict[str, PairedDecisions | None]
) -> list[str]:
    """Say which decisions could not be compared, and why."""
    silent = [
        which for which, report in zip(WHICH, reports, strict=True) if report.confusion is None
    ]
    if silent:
        return [
            f"The {which} model has no operating point for {label}, so decisions are not compared."
            for which in silent
        ]
    words = {
        "all_films": "the films",
        "with_finding": f"the films with {label}",
        "without_finding": f"the films without {label}",
    }
    return [
        f"Of {words[name]} there is none that only one model has right: no test of that."
        for name, pair in pairs.items()
        if pair is not None and pair.p_value is None
    ]


def _area_notes(label: str, truth: Flags, areas: Comparison) -> list[str]:
    if areas.difference.value is None:
        kind = "Every" if truth.all() else "No"
        return [f"{kind} film has {label}: AUROC cannot be computed."]
    if areas.difference.low is None:
        return ["A single film in one class leaves the AUROC without an interval."]
    if areas.p_value is None:
        return ["Both rank these films so alike that the AUROC shows no difference to test."]
    return []


def _film_notes(a: PredictionTable, b: PredictionTable, films: Rows) -> list[str]:
    notes = []
    if a.split != b.split:
        notes.append(
            f"The films are {a.split} films of the first model and {b.split} films of the second: "
            "a model looks better on films it has learned from."
        )
    owners = len({a.patients[film] for film in films})
    if owners < films.size:
        notes.append(
            f"{films.size} films come from {owners} patients, but count as independent: the "
            "intervals are somewhat narrow and the p values somewhat small."
        )
    return notes
