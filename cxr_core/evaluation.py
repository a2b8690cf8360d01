"""From what is true and what a model scored to the record of that model.

Arrays go in, frozen reports come out: nothing here draws, and nothing needs the films or
the network, so that every figure of the dashboard can be recomputed from `predictions.csv`.
What the films at hand cannot answer is None, with the reason in the report's notes.

Throughout, `y_true` holds 0 and 1 and `y_score` probabilities in [0, 1]; a film is flagged
when its score reaches the operating point. Intervals are 95 % unless said otherwise.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from math import fsum, isfinite, log, sqrt
from statistics import NormalDist
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from cxr_core.errors import ArgumentError, DataError, UnknownName
from cxr_core.ranking import (
    NO_INTERVAL,
    ROUNDS,
    Flags,
    Floats,
    Interval,
    auroc,
    average_precision,
    average_precisions,
    checked,
    share_below,
)

Counts = tuple[tuple[int, int], tuple[int, int]]
LEAST_SCORE = 1e-15  # what the log loss takes a score of 0 for
Record = TypeVar("Record")


@dataclass(frozen=True)
class CalibrationBin:
    """Films of like score: their mean score, how many there are, which share is positive."""

    mean_score: float
    observed: Interval
    n: int


@dataclass(frozen=True, kw_only=True)
class ThresholdReport:
    """What one threshold does to the films of one label.

    `confusion` is ((tn, fp), (fn, tp)), or None where nothing decides; with it goes all
    that follows from it.
    """

    n: int
    positives: int
    operating_point: float | None
    confusion: Counts | None
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    f1: float | None
    accuracy: Interval
    balanced_accuracy: float | None
    mcc: float | None

    @property
    def prevalence(self) -> float:
        """Share of the films that are positive."""
        return self.positives / self.n


@dataclass(frozen=True, kw_only=True)
class LabelReport(ThresholdReport):
    """All that is known of one label: at its operating point, and over all thresholds."""

    label: str
    auroc: Interval
    auprc: Interval
    ece: float
    brier: float
    log_loss: float
    calibration: tuple[CalibrationBin, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Averages:
    """Numbers over all labels at once, all in [0, 1]; None where they cannot be had."""

    auroc: float | None
    auprc: float | None
    sensitivity: float | None
    specificity: float | None
    ppv: float | None
    npv: float | None
    f1: float | None
    balanced_accuracy: float | None


AVERAGED = tuple(field.name for field in fields(Averages))
# Written in capitals.
ABBREVIATED = ("auroc", "auprc", "ppv", "npv", "f1")


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """The record of a model on one split; `matrix` and `accuracy` only for exclusive labels.

    `matrix` is K x K, rows what is true, columns what the model says. `micro` counts every
    pair of a film and a label as one case; labels without decisions give none of those.
    """

    model: str
    split: str
    n: int
    labels: tuple[LabelReport, ...]
    micro: Averages
    matrix: tuple[tuple[int, ...], ...] | None = None
    accuracy: Interval | None = None
    notes: tuple[str, ...] = ()

    @property
    def macro(self) -> Averages:
        """Mean of each number over the labels that have it."""
        return Averages(
            **{name: _mean(_number(report, name) for report in self.labels) for name in AVERAGED}
        )

    @property
    def macro_auroc(self) -> float | None:
        """Mean AUROC over the labels that have one."""
        return self.macro.auroc

    @property
    def macro_auprc(self) -> float | None:
        """Mean AUPRC over the labels that have one."""
        return self.macro.auprc

    def label(self, name: str) -> LabelReport:
        """Return the report of one label.

        Raises:
            UnknownName: When the model does not answer that label.
        """
        for report in self.labels:
            if report.label == name:
                return report
        raise UnknownName("label", name, (report.label for report in self.labels))

    def to_json(self) -> dict[str, Any]:
        """Return the object that `evaluate --json` prints."""
        values = plain(self)
        if self.matrix is None:
            del values["matrix"], values["accuracy"]
        for one, report in zip(values["labels"], self.labels, strict=True):
            one["prevalence"] = report.prevalence
        values["labels"] = {one.pop("label"): one for one in values["labels"]}
        micro = values.pop("micro")
        return values | {"macro": plain(self.macro), "micro": micro}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Restore what `to_json` wrote.

        Raises:
            DataError: When a key is missing or holds something else.
        """
        try:
            labels = [
                _restore(LabelReport, {**report, "label": label})
                for label, report in values["labels"].items()
            ]
            exclusive = {"matrix": None, "accuracy": None} | values
            return _restore(cls, {**exclusive, "labels": labels})
        except (KeyError, TypeError, AttributeError) as problem:
            raise DataError(
                f"This is not an evaluation as `evaluate --json` writes it ({problem!r}). "
                "Restore the file, or train the model again."
            ) from problem


# --- one threshold ---


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Return a share and its score interval; all None without trials.

    Raises:
        ArgumentError: Unless 0 <= successes <= trials and 0 < confidence < 1.

    Reference:
        Wilson, Probable inference, the law of succession, and statistical inference,
        JASA 22, 1927.
    """
    if not 0 <= successes <= trials:
        raise ArgumentError(
            f"successes must lie between 0 and trials, but {successes} of {trials} came."
        )
    if not 0 < confidence < 1:
        raise ArgumentError(f"confidence must lie between 0 and 1, but {confidence} came.")
    if not trials:
        return NO_INTERVAL
    share = successes / trials
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = sqrt(z2 * (share * (1 - share) + z2 / (4 * trials)) / trials) / (1 + z2 / trials)
    # At the ends the formula gives exactly 0 and 1; rounding would not.
    low = centre - half if successes else 0.0
    high = centre + half if successes < trials else 1.0
    return Interval(share, low, high)


def confusion(y_true: ArrayLike, decided: ArrayLike) -> Counts:
    """Count ((tn, fp), (fn, tp)) of (N,) truths and (N,) decisions, both 0 or 1."""
    truth, decisions = checked(y_true, decided)
    if not ((decisions == 0) | (decisions == 1)).all():
        raise ArgumentError("decided must hold 0 and 1 only, but other values came.")
    return _confusion(truth, decisions == 1)


def threshold_report(y_true: ArrayLike, y_score: ArrayLike, threshold: float) -> ThresholdReport:
    """Report what flagging every film that reaches `threshold` would do; fast."""
    truth, scores = checked(y_true, y_score)
    _require_share("threshold", threshold)
    return decision_report(truth, scores >= threshold, float(threshold))


def decision_report(
    truth: Flags, decided: Flags | None, operating_point: float | None
) -> ThresholdReport:
    """Report what decisions (N,) do to films; None decides nothing.

    `operating_point` is the threshold behind them, if one was.
    """
    return ThresholdReport(**_decision_fields(truth, decided, operating_point))


def at_prevalence(
    sensitivity: float, specificity: float, prevalence: float
) -> tuple[float | None, float | None]:
    """Return (ppv, npv) where a share `prevalence` has the finding, by Bayes' rule."""
    names = ("sensitivity", "specificity", "prevalence")
    for name, share in zip(names, (sensitivity, specificity, prevalence), strict=True):
        _require_share(name, share)
    hit, alarm = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    miss, clear = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
    return _ratio(hit, hit + alarm), _ratio(clear, clear + miss)


# --- honest probabilities ---


def calibration_bins(
    y_true: ArrayLike, y_score: ArrayLike, bins: int = 10
) -> tuple[CalibrationBin, ...]:
    """Sort films by score into bins of equal size and count the positives in each.

    Films with the same score share a bin, so there may be fewer than `bins`.
    """
    truth, scores = checked(y_true, y_score)
    if bins < 1:
        raise ArgumentError(f"bins must be at least 1, but {bins} came.")
    which = (share_below(scores, scores) * bins).astype(int)
    return tuple(_bin(truth[which == one], scores[which == one]) for one in np.unique(which))


def ece(y_true: ArrayLike, y_score: ArrayLike, bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal size, 0 (best) to 1.

    Reference:
        Naeini et al., AAAI 2015; bins of equal size as in Nguyen and O'Connor, EMNLP 2015.
    """
    return _ece(calibration_bins(y_true, y_score, bins))


def brier(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Return the mean squared error of the probabilities, 0 (best) to 1."""
    truth, scores = checked(y_true, y_score)
    return float(np.mean((scores - truth) ** 2))


def log_loss(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Return the mean negative natural log of the probability given to what is true.

    0 is best. Scores count as at least 1e-15 and at most 1 - 1e-15, so that one film that
    was called certain and was not costs 34.5 and not infinitely much.
    """
    truth, scores = checked(y_true, y_score)
    of_truth = np.where(truth, scores, 1 - scores).clip(LEAST_SCORE, 1 - LEAST_SCORE)
    # Unlike numpy's, these give the same digits on every kind of processor.
    return -fsum(map(log, of_truth.tolist())) / truth.size


def similar_scores(
    y_true: ArrayLike, y_score: ArrayLike, score: float, k: int = 100, within: float = 0.05
) -> CalibrationBin:
    """Return how many of the k films scoring nearest to `score` are positive.

    Films as near as the k-th all count, so that the order of films does not matter: `n` of
    the answer may exceed k. It stays below it where fewer films score `within` so much of
    it, for films that lie farther off say nothing of this one.
    """
    truth, scores = checked(y_true, y_score)
    _require_share("score", score)
    if k < 1:
        raise ArgumentError(f"k must be at least 1, but {k} came.")
    distance = np.abs(scores - score)
    rank = min(k, distance.size) - 1
    near = distance <= min(float(np.partition(distance, rank)[rank]), within)
    if not near.any():
        return CalibrationBin(score, NO_INTERVAL, 0)
    return _bin(truth[near], scores[near])


# --- the whole report ---


def evaluate(
    y_true: ArrayLike,
    y_score: ArrayLike,
    labels: Sequence[str],
    *,
    operating_points: Sequence[float | None],
    model: str = "",
    split: str = "test",
    patients: Sequence[str] | None = None,
    exclusive: bool = False,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> EvaluationReport:
    """Report on every label of a model.

    Args:
        y_true: (N, K) of 0 and 1; exactly one 1 per film when exclusive.
        y_score: (N, K) in [0, 1].
        labels: K different names.
        operating_points: K thresholds; None decides nothing for that label. All None when
            exclusive.
        model: Its name, for the report.
        split: Which films these are.
        patients: (N,) patient of each film; None counts every film as a patient.
        exclusive: Exactly one label holds, and the largest score decides (softmax).
        rounds: Bootstrap rounds for the AUPRC intervals.
        seed: Seed of the bootstrap.

    Raises:
        ArgumentError: When shapes differ or values are not as described.
    """
    truth, scores = checked(y_true, y_score, dimensions=2)
    require_labels(labels, truth.shape[1])
    decided = decide(truth, scores, operating_points, exclusive)
    precisions = average_precisions(truth, scores, patients, rounds, seed)
    reports = tuple(
        label_report(label, truth[:, k], scores[:, k], decided[k], operating_points[k], precision)
        for k, (label, precision) in enumerate(zip(labels, precisions, strict=True))
    )
    matrix = _matrix(truth, scores) if exclusive else None
    correct = sum(row[k] for k, row in enumerate(matrix)) if matrix else 0
    return EvaluationReport(
        model=model,
        split=split,
        n=len(truth),
        labels=reports,
        micro=_micro(truth, scores, decided),
        matrix=matrix,
        accuracy=wilson(correct, len(truth)) if matrix else None,
        notes=_report_notes(reports, len(truth), patients),
    )


# --- parts of a report ---


def label_report(
    label: str,
    truth: Flags,
    scores: Floats,
    decided: Flags | None,
    operating_point: float | None,
    precision: Interval,
) -> LabelReport:
    """Report on one label of checked arrays (N,).

    Args:
        label: Its name.
        truth: Which films have it.
        scores: In [0, 1].
        decided: Which films it flags, from `decide`; None where nothing decides.
        operating_point: Threshold behind `decided`, if one was.
        precision: Average precision, which is drawn for all labels at once.
    """
    area, calibration = auroc(truth, scores), calibration_bins(truth, scores)
    return LabelReport(
        **_decision_fields(truth, decided, operating_point),
        label=label,
        auroc=area,
        auprc=precision,
        ece=_ece(calibration),
        brier=brier(truth, scores),
        log_loss=log_loss(truth, scores),
        calibration=calibration,
        notes=_label_notes(label, truth, decided, area),
    )


def _decision_fields(
    truth: Flags, decided: Flags | None, operating_point: float | None
) -> dict[str, Any]:
    """Return the fields of a ThresholdReport."""
    counts = None if decided is None else _confusion(truth, decided)
    (tn, fp), (fn, tp) = counts or ((0, 0), (0, 0))
    sensitivity, specificity = wilson(tp, tp + fn), wilson(tn, tn + fp)
    both = (sensitivity.value, specificity.value)
    return {
        "n": truth.size,
        "positives": int(truth.sum()),
        "operating_point": operating_point,
        "confusion": counts,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": wilson(tp, tp + fp),
        "npv": wilson(tn, tn + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "accuracy": wilson(tp + tn, tp + tn + fp + fn),
        "balanced_accuracy": None if None in both else _mean(both),
        "mcc": _ratio(tp * tn - fp * fn, sqrt((tp + fp) * (tp + fn)) * sqrt((tn + fp) * (tn + fn))),
    }


def _label_notes(
    label: str, truth: Flags, decided: Flags | None, area: Interval
) -> tuple[str, ...]:
    flagged = None if decided is None else int(decided.sum())
    lost = "balanced accuracy, MCC, AUROC and AUPRC cannot be computed."
    notes = {
        f"{label} has no operating point, so no film is flagged or cleared.": flagged is None,
        f"No film has {label}: sensitivity, {lost}": not truth.any(),
        f"Every film has {label}: specificity, {lost}": truth.all(),
        "No film is flagged: PPV and MCC cannot be computed.": flagged == 0,
        "Every film is flagged: NPV and MCC cannot be computed.": flagged == truth.size,
        "Nothing is there and nothing flagged: F1 cannot be computed.": (
            flagged == 0 and not truth.any()
        ),
        "A single film in one class leaves AUROC without an interval.": (
            area.value is not None and area.low is None
        ),
        "The scores rank these films all right, all wrong or all alike, so the AUROC interval "
        "has no width; more films would give it one.": (
            area.low is not None and area.low == area.high
        ),
    }
    return tuple(note for note, holds in notes.items() if holds)


def _report_notes(
    reports: Sequence[LabelReport], films: int, patients: Sequence[str] | None
) -> tuple[str, ...]:
    notes = _left_out(reports)
    owners = films if patients is None else len(set(patients))
    if owners < films:
        notes.append(
            f"{films} films come from {owners} patients. The AUPRC intervals allow for that; "
            "all others count films as independent and are somewhat narrow."
        )
    return tuple(notes)


def _left_out(reports: Sequence[LabelReport]) -> list[str]:
    """Say which labels the averages leave out, one sentence for numbers that miss the same."""
    numbers: dict[str, list[str]] = {}
    for name in AVERAGED:
        missing = [report.label for report in reports if _number(report, name) is None]
        if missing:
            title = name.upper() if name in ABBREVIATED else name.replace("_", " ")
            numbers.setdefault(", ".join(missing), []).append(title)
    notes = [
        f"The macro averages of {', '.join(names)} leave out {labels}."
        for labels, names in numbers.items()
    ]
    undecided = [report.label for report in reports if report.confusion is None]
    if undecided:
        notes.append(
            "The micro averages of all that is decided at an operating point leave out "
            f"{', '.join(undecided)}."
        )
    return notes


def _micro(truth: Flags, scores: Floats, decided: Sequence[Flags | None]) -> Averages:
    """Count every pair of a film and a label as one case."""
    flags = [one for one in decided if one is not None]
    films = truth[:, [one is not None for one in decided]].T.ravel()
    heap = decision_report(films, np.concatenate(flags) if flags else None, None)
    return Averages(
        auroc=auroc(truth.ravel(), scores.ravel()).value,
        auprc=average_precision(truth.ravel(), scores.ravel()),
        sensitivity=heap.sensitivity.value,
        specificity=heap.specificity.value,
        ppv=heap.ppv.value,
        npv=heap.npv.value,
        f1=heap.f1,
        balanced_accuracy=heap.balanced_accuracy,
    )


def decide(
    truth: Flags, scores: Floats, operating_points: Sequence[float | None], exclusive: bool
) -> list[Flags | None]:
    """Return for every label which films it flags, None where nothing decides.

    Args:
        truth: (N, K), one label for each film when exclusive.
        scores: (N, K) in [0, 1].
        operating_points: K thresholds or None; all None when exclusive.
        exclusive: The largest score of a film decides.

    Raises:
        ArgumentError: When these do not fit together.
    """
    if len(operating_points) != scores.shape[1]:
        raise ArgumentError(
            f"operating_points must have one entry for each of {scores.shape[1]} labels, "
            f"but {len(operating_points)} came."
        )
    if exclusive:
        if any(point is not None for point in operating_points):
            raise ArgumentError("Exclusive labels take no operating point: the largest score wins.")
        if (truth.sum(axis=1) != 1).any():
            raise ArgumentError("y_true must hold exactly one 1 per film for exclusive labels.")
        winner = scores.argmax(axis=1)
        return [winner == k for k in range(scores.shape[1])]
    for point in operating_points:
        if point is not None:
            _require_share("operating point", point)
    return [
        None if point is None else scores[:, k] >= point for k, point in enumerate(operating_points)
    ]


def _matrix(truth: Flags, scores: Floats) -> tuple[tuple[int, ...], ...]:
    labels = truth.shape[1]
    cells = truth.argmax(axis=1) * labels + scores.argmax(axis=1)
    counts = np.bincount(cells, minlength=labels**2).reshape(labels, labels)
    return tuple(tuple(row) for row in counts.tolist())


# --- mechanisms ---


def _confusion(truth: Flags, decided: Flags) -> Counts:
    tn, fp, fn, tp = np.bincount(2 * truth + decided, minlength=4).tolist()
    return (tn, fp), (fn, tp)


def _bin(truth: Flags, scores: Floats) -> CalibrationBin:
    observed = wilson(int(truth.sum()), truth.size)
    return CalibrationBin(float(scores.mean()), observed, truth.size)


def _ece(bins: Sequence[CalibrationBin]) -> float:
    gaps = [one.n * abs((one.observed.value or 0.0) - one.mean_score) for one in bins]
    return sum(gaps) / sum(one.n for one in bins)


def _number(report: Any, name: str) -> float | None:
    """Return one number of a report, without its interval where it has one."""
    number: Interval | float | None = getattr(report, name)
    return number.value if isinstance(number, Interval) else number


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _ratio(sum(known), len(known))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


# --- checks and JSON ---


def _require_share(name: str, value: float) -> None:
    if not (isfinite(value) and 0 <= value <= 1):
        raise ArgumentError(f"{name} must lie in [0, 1], but {value} came.")


def require_labels(labels: Sequence[str], expected: int) -> None:
    """Refuse names that are missing, repeated or not as many as expected."""
    if len(labels) != expected or not all(labels):
        raise ArgumentError(
            f"labels must name each of {expected} columns, but {', '.join(labels) or 'none'} came."
        )
    require_different("labels", labels)


def require_different(name: str, values: Sequence[str]) -> None:
    """Refuse values that come more than once; `name` says what they are."""
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ArgumentError(
            f"{name} must differ from each other, but '{repeated[0]}' came more than once."
        )


def plain(record: Any) -> dict[str, Any]:
    """Return a dataclass as JSON values; an Interval becomes `name` and `name_ci`."""
    values: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Interval):
            values[field.name] = value.value
            values[f"{field.name}_ci"] = None if value.low is None else [value.low, value.high]
        else:
            values[field.name] = _lists(value)
    return values


def _lists(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_lists(entry) for entry in value]
    return plain(value) if is_dataclass(value) else value


def _restore(kind: type[Record], values: dict[str, Any]) -> Record:
    """Undo `plain`."""
    restored: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        value = values[field.name]
        if f"{field.name}_ci" in values:
            value = Interval(value, *(values[f"{field.name}_ci"] or (None, None)))
        elif field.name == "calibration":
            value = tuple(_restore(CalibrationBin, entry) for entry in value)
        elif field.name == "micro":
            value = _restore(Averages, value)
        restored[field.name] = _tuples(value)
    return kind(**restored)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value
