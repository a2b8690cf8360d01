"""What the app saw over time against what its models were tested on.

From the site's own records: how a model's scores are spread, week by week, against its test
films, and what the gate measures of the films, against the model's own (`reference`); how often
films were refused, flagged, or left untold; how often readers disagreed. Where films are too few
to tell a change from chance, it says so.

A change of scores is no proof of a fault: other patients come, and a test set is often richer
in findings than a clinic. It is a reason to look (`local_check`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_core.cards import Inputs, ModelCard
from cxr_core.errors import ArgumentError
from cxr_core.evaluation import plain, wilson
from cxr_core.predictions import PredictionTable
from cxr_core.ranking import Interval
from cxr_core.records import Opinion, Read
from cxr_core.wording import spoken

Verdict = Literal["steady", "caution", "drift", "too few"]
BINS = 10
# Customary limits of the population stability index: Siddiqi, Credit risk scorecards, 2006.
CAUTION, DRIFT = 0.1, 0.25
# The chance at which a table of comparisons may cry out though nothing has changed.
FALSE_ALARM = 0.05
# Where a bundle does not say what the gate measures on the model's own films, the first ones of a
# site stand for the usual ones.
FIRST_FILMS = 200
SOURCES = (
    "Limits: an index of 0.1 is a caution and one of 0.25 a drift (Siddiqi, Credit risk "
    "scorecards, 2006), but only where chance alone would not reach it (Yurdakul and Naranjo, "
    "Journal of Risk Model Validation 14, 2020), at 5 % over all comparisons of a table."
)

Floats = NDArray[np.float64]


# --- how far two sets of values differ ---


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far the values of some films are from those of reference.

    Attributes:
        what: Whose values these are: a finding, or a measure of films.
        n: Films seen.
        reference: Films they are compared with.
        psi: Population stability index, 0 where both are spread alike; None without films.
        chance: What it would reach by chance alone, at `FALSE_ALARM` over all comparisons, were
            each film another patient's.
        ks: Largest distance between the two distribution functions (Kolmogorov-Smirnov), 0 to 1.
        p_value: Of that distance, for this comparison alone, by Smirnov's limit: of few films,
            or of many that score alike, it is larger than the exact one.
        verdict: "too few" where chance alone could reach what counts as a drift.
    """

    what: str
    n: int
    reference: int
    psi: float | None
    chance: float | None
    ks: float | None
    p_value: float | None
    verdict: Verdict


def drift(what: str, reference: ArrayLike, seen: ArrayLike, *, comparisons: int = 1) -> Drift:
    """Compare the values of films with those of reference.

    Args:
        what: Whose values.
        reference: (M,) numbers.
        seen: (N,) numbers.
        comparisons: How many of these one table makes: `chance` allows for all of them.

    Raises:
        ArgumentError: On values that are no finite numbers, or fewer than one comparison.

    Reference:
        Yurdakul and Naranjo, Statistical properties of the population stability index, Journal
        of Risk Model Validation 14, 2020: under no change it is spread as chi-square of one
        degree of freedom less than there are bins, times 1/N + 1/M.
    """
    old, new = _numbers("reference", reference), _numbers("seen", seen)
    if comparisons < 1:
        raise ArgumentError(f"comparisons must be at least 1, but {comparisons} came.")
    counted: dict[str, Any] = {"what": what, "n": new.size, "reference": old.size}
    unknown: dict[str, Any] = dict.fromkeys(("psi", "chance", "ks", "p_value"))
    if not (old.size and new.size):
        return Drift(**counted, **unknown, verdict="too few")
    from scipy.special import chdtri, kolmogorov

    cells = _cells(old, new)
    index = _index(*cells)
    degrees = max(len(cells[0]) - 1, 1)
    quantile = float(chdtri(degrees, FALSE_ALARM / comparisons))
    chance = quantile * (1 / old.size + 1 / new.size)
    apart = _distance(old, new)
    return Drift(
        **counted,
        psi=index,
        chance=chance,
        ks=apart,
        p_value=float(kolmogorov(apart * (1 / old.size + 1 / new.size) ** -0.5)),
        verdict=_verdict(index, chance),
    )


def _numbers(name: str, values: ArrayLike) -> Floats:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ArgumentError(f"{name} must be a row of finite numbers, but {found.shape} came.")
    return found


def _cells(old: Floats, new: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count both in bins that hold about as many of the reference each; ties share a bin."""
    inner = np.unique(np.quantile(old, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    counts = [
        np.bincount(np.searchsorted(inner, values, "left"), minlength=len(inner) + 1)
        for values in (old, new)
    ]
    some = (counts[0] + counts[1]) > 0
    return counts[0][some], counts[1][some]


def _index(old: NDArray[np.int64], new: NDArray[np.int64]) -> float:
    """Return the population stability index of counts; half a film is added to every bin.

    Without it an empty bin would make the index infinite.
    """
    shares = [(counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (old, new)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _distance(old: Floats, new: Floats) -> float:
    """Return the largest distance between two empirical distribution functions."""
    everywhere = np.concatenate((old, new))
    shares = [
        np.searchsorted(np.sort(values), everywhere, "right") / values.size for values in (old, new)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def _verdict(index: float, chance: float) -> Verdict:
    if chance >= DRIFT:
        return "too few"
    if index < max(CAUTION, chance):
        return "steady"
    return "drift" if index >= DRIFT else "caution"


# --- what the records say ---


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How often a model flagged one finding.

    Attributes:
        label: Its name.
        flagged: Share of the films answered.
        undecided: Share of the films answered on which it could not tell.
    """

    label: str
    flagged: Interval
    undecided: Interval


@dataclass(frozen=True, kw_only=True)
class Finding(Rates):
    """What a model said of one finding in a period.

    Attributes:
        disagreed: Share of what readers said of it that goes against the model.
        scores: Against the test films.
    """

    disagreed: Interval
    scores: Drift


@dataclass(frozen=True, kw_only=True)
class Period:
    """What came in a period.

    Attributes:
        name: "all", or the Monday on which its week begins, ISO 8601.
        films: Different films that came.
        refused: Share that the gate refused.
        cautioned: Share of which it warned, without refusing.
        findings: By finding.
    """

    name: str
    films: int
    refused: Interval
    cautioned: Interval
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class MonitoringReport:
    """What the app saw with one version of a model.

    Attributes:
        model: Its name.
        version: Its version.
        whole: Everything.
        weeks: Week by week, oldest first; weeks without a film are left out.
        tested: What the model flagged of its test films, and where it could not tell, by finding.
        inputs: What the gate measured: against the model's own films where that is `known`, of
            later films against this site's first ones where not.
        known: The measures that are known of the model's own films.
        notes: What was left out, and how to read it, a sentence each.
    """

    model: str
    version: str
    whole: Period
    weeks: tuple[Period, ...]
    tested: tuple[Rates, ...]
    inputs: tuple[Drift, ...]
    known: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the object that `monitor --json` prints."""
        return plain(self)


def monitor(
    card: ModelCard,
    tested: PredictionTable,
    reads: Sequence[Read],
    opinions: Sequence[Opinion],
    usual: Inputs | None = None,
) -> MonitoringReport:
    """Compare what a model saw with what it was tested on.

    A film counts once, as it was last read. Test films, which readers may be shown, do not
    count, nor does what other versions of the model said: their scores mean something else.

    Args:
        card: The model's.
        tested: Its scores of its test films.
        reads: The site's answers, oldest first.
        opinions: What its readers said, oldest first.
        usual: What the gate measured on the model's own films; None where nobody did.
    """
    own = [one for one in reads if (one.model, one.version) == (card.name, card.version)]
    on_test = {one.digest for one in opinions if one.test_film}
    last = {one.digest: one for one in own if one.digest not in on_test}
    films = sorted(last.values(), key=lambda one: one.at)
    said = [one for one in _last_words(opinions, card) if one.digest not in on_test]
    weeks = sorted({_week(one.at) for one in films})
    comparisons = len(card.labels) * (1 + len(weeks))
    periods = [
        _period(
            name,
            [one for one in films if name in ("all", _week(one.at))],
            [one for one in said if name in ("all", _week(one.at))],
            card,
            tested,
            comparisons,
        )
        for name in ("all", *weeks)
    ]
    others = sum(one.model == card.name for one in reads) - len(own)
    measured = _measured(films)
    known = tuple(name for name in measured if usual is not None and usual.measures.get(name))
    return MonitoringReport(
        model=card.name,
        version=card.version,
        whole=periods[0],
        weeks=tuple(periods[1:]),
        tested=_on_test(card, tested),
        inputs=tuple(_inputs(measured, usual)),
        known=known,
        notes=(*_against(measured, known, usual), *_left_out(others, len(on_test))),
    )


def _week(at: str) -> str:
    """Return the Monday of the week of a moment, UTC."""
    day: date = datetime.fromisoformat(at).date()
    return (day - timedelta(days=day.weekday())).isoformat()


def _period(
    name: str,
    films: Sequence[Read],
    said: Sequence[Opinion],
    card: ModelCard,
    tested: PredictionTable,
    comparisons: int,
) -> Period:
    verdicts = [one.gate.get("verdict") for one in films]
    answers: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in films:
        for answer in one.predictions:
            answers[answer["label"]].append(answer)
    return Period(
        name=name,
        films=len(films),
        refused=wilson(verdicts.count("refuse"), len(films)),
        cautioned=wilson(verdicts.count("caution"), len(films)),
        findings=tuple(
            _finding(
                label,
                answers[label],
                [one for one in said if one.label == label],
                tested.y_score[:, tested.labels.index(label)],
                comparisons,
            )
            for label in card.labels
        ),
    )


def _finding(
    label: str,
    answers: Sequence[Mapping[str, Any]],
    said: Sequence[Opinion],
    tested: Floats,
    comparisons: int,
) -> Finding:
    scores = [answer["probability"] for answer in answers]
    against = [_disagrees(one) for one in said]
    return Finding(
        label=label,
        flagged=wilson(sum(bool(one["flag"]) for one in answers), len(answers)),
        undecided=wilson(sum(bool(one["cannot_tell"]) for one in answers), len(answers)),
        disagreed=wilson(against.count(True), len(against)),
        scores=drift(label, tested, scores, comparisons=comparisons),
    )


def _last_words(opinions: Iterable[Opinion], card: ModelCard) -> list[Opinion]:
    """Return what each reader last said for or against this version, on each film and finding."""
    last: dict[tuple[str, str, str], Opinion] = {}
    for one in opinions:
        ours = (one.model, one.version) == (card.name, card.version)
        if ours and _disagrees(one) is not None:
            last[one.digest, one.label, one.reader] = one
    return list(last.values())


def _disagrees(one: Opinion) -> bool | None:
    """Say whether a reader went against the model; None where they said neither."""
    if one.verdict is not None:  # who changed their mind agrees now
        return one.verdict == "disagree"
    if one.stance not in ("present", "absent") or one.flag is None:
        return None
    return (one.stance == "present") != one.flag


def _on_test(card: ModelCard, tested: PredictionTable) -> tuple[Rates, ...]:
    """Say what the model flagged of its test films, and where it could not tell."""
    films, found = len(tested.files), []
    for k, (label, point, band) in enumerate(
        zip(card.labels, card.operating_points, card.cannot_tell, strict=True)
    ):
        scores = tested.y_score[:, tested.labels.index(label)]
        largest = tested.y_score.argmax(axis=1) == k
        flags = scores >= point if point is not None else largest & (card.activation == "softmax")
        unsure = np.zeros(films, bool)
        if band is not None:
            unsure = (scores >= band[0]) & (scores <= band[1])
        flagged, undecided = (wilson(int(one.sum()), films) for one in (flags, unsure))
        found.append(Rates(label=label, flagged=flagged, undecided=undecided))
    return tuple(found)


def _measured(films: Sequence[Read]) -> dict[str, list[float]]:
    """Return what the gate measured of films, by the name of its check, oldest first."""
    measured: dict[str, list[float]] = defaultdict(list)
    for one in films:
        for check in one.gate.get("checks", ()):
            value = check["value"]
            if isinstance(value, int | float) and np.isfinite(value):
                measured[check["name"]].append(float(value))
    return dict(sorted(measured.items()))


def _inputs(measured: Mapping[str, list[float]], usual: Inputs | None) -> Iterator[Drift]:
    """Compare measures with those of the model's own films, or later with this site's first."""
    for name, values in measured.items():
        own = usual.measures.get(name, ()) if usual is not None else ()
        old, new = (own, values) if own else (values[:FIRST_FILMS], values[FIRST_FILMS:])
        yield drift(name, old, new, comparisons=len(measured))


def _against(
    measured: Mapping[str, list[float]], known: Sequence[str], usual: Inputs | None
) -> list[str]:
    """Say how to read the numbers, and what each is held against."""
    notes = [
        "A film counts once, as it was last read.",
        SOURCES,
        "A test set is often richer in findings than a clinic: a change of scores is a reason to "
        "look, no proof of a fault. A local check on labelled films decides.",
    ]
    if known and usual is not None:
        notes.append(
            f"Inputs are compared with {usual.films:,} validation films of the model, one of each "
            "patient, in the form in which they were published."
        )
    unknown = [name for name in measured if name not in known]
    if unknown:
        whose = f" ({', '.join(unknown)})" if known else ""
        notes.append(
            f"Not known of the model's own films{whose}: later films are compared with the first "
            f"{FIRST_FILMS} of this site. `python -m cxr_core reference` measures the model's own."
        )
    return notes


def _left_out(others: int, on_test: int) -> list[str]:
    notes = []
    if others:
        notes.append(f"Left out: {others:,} answers of other versions of this model.")
    if on_test:
        notes.append(f"Left out: {on_test:,} test films that readers were shown.")
    return notes


# --- in words ---


def in_words(report: MonitoringReport) -> list[str]:
    """Say what was seen, and what needs a look; then how to read it."""
    whole = report.whole
    if not whole.films:
        return [f"Nothing was read with '{report.model}' (version {report.version}) yet."]
    told = [
        f"{whole.films:,} films in {len(report.weeks)} weeks, read with '{report.model}' (version "
        f"{report.version}). Refused: {_share(whole.refused)}; read with a caution: "
        f"{_share(whole.cautioned)}."
    ]
    for one, test in zip(whole.findings, report.tested, strict=True):
        told.append(
            f"{one.label}: flagged {_share(one.flagged)} (test films {_share(test.flagged)}); "
            f"cannot tell {_share(one.undecided)} (test films {_share(test.undecided)}); readers "
            f"against it {_share(one.disagreed)}. Scores: {drift_in_words(one.scores)}"
        )
    for week in report.weeks:
        told += [
            f"Week of {week.name}, {spoken(one.label)}: {drift_in_words(one.scores)}"
            for one in week.findings
            if one.scores.verdict in ("caution", "drift")
        ]
    told += [f"Input, {one.what}: {drift_in_words(one)}" for one in report.inputs]
    return [*told, *report.notes]


def drift_in_words(one: Drift) -> str:
    """Say in a sentence whether values drifted, with the numbers behind it."""
    if one.psi is None or one.chance is None or one.ks is None or one.p_value is None:
        return f"nothing can be said, of {one.n} films against {one.reference}."
    if one.verdict == "too few":
        return (
            f"{one.n} films against {one.reference} are too few: chance alone may reach an index "
            f"of {one.chance:.2f} (here {one.psi:.2f}), where {DRIFT} counts as a drift."
        )
    words = {"steady": "steady", "caution": "caution, they change", "drift": "they have drifted"}
    return (
        f"{words[one.verdict]}; index {one.psi:.2f} (by chance up to {one.chance:.2f}), "
        f"Kolmogorov-Smirnov {one.ks:.2f}, p {one.p_value:.2g}, {one.n} films against "
        f"{one.reference}."
    )


def _share(share: Interval) -> str:
    """Write a share and its interval in per cent."""
    if share.value is None or share.low is None or share.high is None:
        return "not known"
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f}-{100 * share.high:.1f})"
