"""What a model gets wrong, in words: the confusions of its own test films.

From the test record alone, no image and no TensorFlow: which films are missed or flagged by
mistake, which answers are confused, whether a high score excludes a mistake, and in which
group of patients mistakes are more frequent than in all others.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.calibration import TOLERATED
from cxr_core.evaluation import EvaluationReport, LabelReport, wilson
from cxr_core.predictions import PredictionTable, flagged, group_names, groupings
from cxr_core.ranking import Interval
from cxr_core.wording import means_absence, percent, spoken

Flags = NDArray[np.bool_]
Band = tuple[float, float] | None

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


@dataclass(frozen=True)
class Coverage:
    """Whether a cannot-tell band kept its promise on films that did not choose it.

    Attributes:
        label: Its name.
        positives: Films with the finding.
        missed: Of these, told "no" outside the band.
        negatives: Films without it.
        alarmed: Of these, told "yes" outside the band.
        undecided: Films in the band.
    """

    label: str
    positives: int
    missed: int
    negatives: int
    alarmed: int
    undecided: int

    @property
    def shares(self) -> tuple[Interval, Interval]:
        """The shares missed and alarmed, with 95 % Wilson intervals."""
        return wilson(self.missed, self.positives), wilson(self.alarmed, self.negatives)

    @property
    def held(self) -> bool:
        """Whether neither share lies clearly, by its interval, above what was promised."""
        return all(share.low is None or share.low <= TOLERATED for share in self.shares)

    @property
    def verdict(self) -> str:
        """What the promise came to: "failed", "held", or too few films of a kind to say so."""
        if not self.held:
            return "failed"
        few = min(self.positives, self.negatives) < 1 / TOLERATED
        return "can neither fail nor hold on so few films" if few else "held"

    def to_json(self) -> dict[str, Any]:
        """Return the counts, and what follows from them, as plain JSON values."""
        missed, alarmed = (asdict(share) for share in self.shares)
        follows = {"missed_share": missed, "alarmed_share": alarmed}
        return asdict(self) | follows | {"promised": TOLERATED, "held": self.held}


def coverage(
    table: PredictionTable,
    operating_points: Sequence[float | None],
    bands: Sequence[Band],
    *,
    exclusive: bool = False,
) -> tuple[Coverage, ...]:
    """Count what is told wrongly outside of each label's cannot-tell band.

    Args:
        table: Test films, with K labels.
        operating_points: K thresholds; a label without one tells nobody yes.
        bands: K bands; labels that have none are left out.
        exclusive: The largest score decides (softmax).

    Raises:
        ArgumentError: When thresholds do not fit, as `predictions.flagged`.
    """
    counted = []
    for k, (label, point, band) in enumerate(
        zip(table.labels, operating_points, bands, strict=True)
    ):
        if band is None:
            continue
        scores, truth = table.y_score[:, k], table.y_true[:, k] == 1
        inside = (scores >= band[0]) & (scores <= band[1])
        yes = flagged(table, label, point, exclusive=exclusive)
        yes = np.zeros(len(truth), bool) if yes is None else yes
        counts = (truth, truth & ~yes & ~inside, ~truth, ~truth & yes & ~inside, inside)
        counted.append(Coverage(label, *(int(films.sum()) for films in counts)))
    return tuple(counted)


def coverage_in_words(measured: Sequence[Coverage], where: str = "on test") -> list[str]:
    """Say whether the cannot-tell bands kept their promise; of many, name those that failed.

    Args:
        measured: As `coverage` counts.
        where: On which films, in words.
    """
    promise = (
        f"Outside its cannot-tell band at most {100 * TOLERATED:.0f} % of either kind of film "
        "should be told wrongly"
    )
    if len(measured) == 1:
        return [f"{promise}. {where[:1].upper()}{where[1:]}: {_kept(measured[0])}"]
    failed = [one for one in measured if one.verdict == "failed"]
    held = sum(one.verdict == "held" for one in measured)
    few = len(measured) - len(failed) - held
    told = f"{promise}: held {where} for {held} of {len(measured)} labels"
    told += f", too few films to tell for {few}." if few else "."
    named = measured if len(measured) <= MOST else failed
    return [told, *map(_kept, named)] if measured else []


def _kept(one: Coverage) -> str:
    """Say how many films of either kind were told wrongly, and whether that is too many."""
    told = []
    if one.positives:
        share = percent(one.missed, one.positives)
        told.append(f"{one.missed} of {_films(one.label, one.positives)} told no ({share})")
    if one.negatives:
        share = percent(one.alarmed, one.negatives)
        told.append(f"{one.alarmed} of {one.negatives} others told yes ({share})")
    return (
        f"{', '.join(told)}; {one.undecided} of {one.positives + one.negatives} films lay in the "
        f"band: the promise {one.verdict}."
    )


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
