"""What a model gets wrong, in words: the confusions of its own test films.

From the test record alone, no image and no TensorFlow: which films are missed or flagged by
mistake, which answers are confused, whether a high score excludes a mistake, and in which
group of patients mistakes are more frequent than in all others.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cxr_core.evaluation import EvaluationReport, LabelReport, wilson
from cxr_core.predictions import PredictionTable, flagged, group_names, groupings
from cxr_core.wording import means_absence, percent, spoken

Flags = NDArray[np.bool_]

# Scores as good as certain: at most, and at least.
SURE_OF_NONE, SURE = 0.1, 0.9
# Fewer films than this are too few to call a share of them high.
FEW = 10
# Findings, or pairs of answers, named at most.
MOST = 3
# Labels that say how a film is, not what is on it.
ADJECTIVES = ("abnormal", "normal")


def mistakes_in_words(report: EvaluationReport, table: PredictionTable) -> list[str]:
    """Say what a model gets wrong on the films that it was tested on.

    Args:
        report: Its record.
        table: The predictions that the record was made of.

    Returns:
        Sentences, the gravest first, each with its counts and 95 % Wilson interval.

    Raises:
        UnknownName: When the table lacks a label of the report.
    """
    if report.matrix is not None:
        return list(_confusions(report))
    decided = [one for one in report.labels if one.confusion is not None]
    if len(report.labels) == 1:
        told = [_rates(one) for one in decided]
    else:
        told = list(_worst(decided))
    told += _undecided(report)
    for one in decided:
        if not means_absence(one.label) and len(report.labels) == 1:
            told += _certain(one, table)
            told += _groups(one, table)
    return told


def _confusions(report: EvaluationReport) -> Iterator[str]:
    """Name the pairs of answers most often confused, by their share of the films."""
    names, pairs = [one.label for one in report.labels], []
    for true, row in enumerate(report.matrix or ()):
        for called, count in enumerate(row):
            if true != called and count:
                pairs.append((count / sum(row), count, sum(row), names[true], names[called]))
    for _, count, films, true_name, called_name in sorted(pairs, reverse=True)[:MOST]:
        yield (
            f"Of {_films(true_name, films)}, {count} "
            f"{_were(count)} called {spoken(called_name)} ({percent(count, films)})."
        )


def _rates(one: LabelReport) -> str:
    """Say how many films with and without a finding are judged wrongly."""
    (cleared, alarmed), (missed, hit) = one.confusion or ((0, 0), (0, 0))
    told = []
    if missed + hit:
        which = _films(one.label, missed + hit)
        told.append(f"misses {missed} of {which} ({percent(missed, missed + hit)})")
    if cleared + alarmed:
        kind = "other films" if one.label.lower() in ADJECTIVES else "films without it"
        others = f"{cleared + alarmed} {kind}"
        told.append(f"flags {alarmed} of {others} ({percent(alarmed, cleared + alarmed)})")
    return f"It {' and '.join(told)}."


def _worst(decided: Sequence[LabelReport]) -> Iterator[str]:
    """Name the findings most often missed, and those most often flagged by mistake."""
    misses, alarms = [], []
    for one in decided:
        (cleared, alarmed), (missed, hit) = one.confusion or ((0, 0), (0, 0))
        if means_absence(one.label):
            continue
        misses.append((missed, missed + hit, one.label))
        alarms.append((alarmed, cleared + alarmed, one.label))
    for verb, rates in (("Misses", misses), ("Flags without reason", alarms)):
        enough = [rate for rate in rates if rate[0] and rate[1] >= FEW]
        enough.sort(key=lambda rate: -rate[0] / rate[1])
        if enough:
            said = [
                f"{spoken(label)} in {count} of {films} films ({percent(count, films)})"
                for count, films, label in enough[:MOST]
            ]
            yield f"{verb} most often: {_listed(said)}."


def _undecided(report: EvaluationReport) -> list[str]:
    """Name the findings that are never flagged, and those hardly told apart."""
    never = [spoken(one.label) for one in report.labels if one.confusion is None]
    blind = [
        spoken(one.label)
        for one in report.labels
        if one.auroc.low is not None and one.auroc.low <= 0.5
    ]
    told = []
    if never:
        told.append(f"Never flags {_listed(never)}: there is no operating point.")
    if blind:
        told.append(
            f"Whether it recognises {_listed(blind)} at all is not shown: the interval of the "
            "AUROC reaches 0.5."
        )
    return told


def _certain(one: LabelReport, table: PredictionTable) -> Iterator[str]:
    """Say how often a score as good as certain is wrong, where films score so at all."""
    scores, truth = _column(one, table)
    says = _decisions(one, table)
    kinds = (
        (f"{SURE:.2f} or more", scores >= SURE, says & ~truth, "flagged by mistake"),
        (f"{SURE_OF_NONE:.2f} or less", scores <= SURE_OF_NONE, ~says & truth, "missed"),
    )
    for bound, certain, wrong, what in kinds:
        films, count = int(certain.sum()), int((certain & wrong).sum())
        if films >= FEW:
            yield (
                f"Of {films} films that score {bound}, {count} {_were(count)} {what} "
                f"({percent(count, films)})."
            )
        else:
            yield f"Too few films score {bound} to say how often that is wrong ({films})."


def _groups(one: LabelReport, table: PredictionTable) -> Iterator[str]:
    """Name each group whose share of mistakes lies clearly above that of all other films."""
    _, truth = _column(one, table)
    says = _decisions(one, table)
    kinds = (("films without it that are flagged", ~truth, says), ("films missed", truth, ~says))
    for by in groupings(table):
        names = np.array(group_names(table, by))
        for what, films, wrong in kinds:
            for name in sorted(set(names.tolist())):
                here, there = films & (names == name), films & (names != name)
                if min(here.sum(), there.sum()) >= FEW and _above(wrong, here, there):
                    yield (
                        f"{what[:1].upper()}{what[1:]}, by {by}: {name} "
                        f"{_share(wrong, here)}, others {_share(wrong, there)}."
                    )


def _above(wrong: Flags, here: Flags, there: Flags) -> bool:
    """Say whether the interval of one share lies wholly above that of another."""
    low = wilson(int(wrong[here].sum()), int(here.sum())).low
    high = wilson(int(wrong[there].sum()), int(there.sum())).high
    return low is not None and high is not None and low > high


def _share(wrong: Flags, films: Flags) -> str:
    count, total = int(wrong[films].sum()), int(films.sum())
    return f"{count} of {total} ({percent(count, total)})"


def _column(one: LabelReport, table: PredictionTable) -> tuple[NDArray[np.float64], Flags]:
    column = table.labels.index(one.label)
    return table.y_score[:, column], table.y_true[:, column] == 1


def _decisions(one: LabelReport, table: PredictionTable) -> Flags:
    decided = flagged(table, one.label, one.operating_point)
    return np.zeros(len(table.files), bool) if decided is None else decided


def _films(label: str, number: int) -> str:
    """Count films with a finding: "12 films with pneumonia", "12 abnormal films"."""
    if label.lower() in ADJECTIVES:
        return f"{number} {label.lower()} films"
    return f"{number} films with {spoken(label)}"


def _listed(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
