"""An answer in words, as a tired reader takes it in: pure functions, values in, text out.

The first word is always the answer (Flag, No flag, No answer), numbers have two digits
unless two would hide on which side of the operating point they lie.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

from cxr_core.attribution import COMPLETE, Attribution, get_method
from cxr_core.attribution.checks import DISAGREE, UNSTABLE, MapCheck, counterpart_of
from cxr_core.calibration import for_prevalence
from cxr_core.cards import ModelCard
from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.evaluation import CalibrationBin, EvaluationReport, LabelReport
from cxr_core.explanations import ExplanationReport
from cxr_core.gate import GateReport
from cxr_core.images import Facts, Radiograph
from cxr_core.mistakes import ADJECTIVES
from cxr_core.wording import ABSENCE, spoken

Tone = Literal["flag", "clear", "refused"]

UNTESTED = "Not tested for this model."
OUTDATED = "Not tested for this version of the model."
ADULT = 18.0
# Ages beyond which a model's range reads as open.
OLDEST = 90.0
# What is read from the borders alone is a caution from this share of the lead over chance.
SHORTCUT = 0.5
SEXES = {"F": "female", "M": "male", "O": "other sex"}
HARMLESS = ABSENCE
MEASURES = {"ece": "ECE", "brier": "Brier", "log_loss": "log loss"}
BEFORE_AFTER = ("before", "after")


@dataclass(frozen=True)
class Answer:
    """What the first line says.

    Attributes:
        tone: "flag", "clear" or "refused".
        unsure: The model cannot tell for a label that the headline names.
        lead: What the reader must know before the answer; may be empty.
        headline: The answer in one line.
        detail: What qualifies it, one sentence each; may be empty.
    """

    tone: Tone
    unsure: bool
    lead: str
    headline: str
    detail: tuple[str, ...]


def answer_in_words(
    card: ModelCard, gate: GateReport, prediction: Prediction | None, *, age_stated: bool
) -> Answer:
    """Say what a model makes of a film.

    Args:
        card: The model's.
        gate: The checks of the film.
        prediction: None when the film was refused.
        age_stated: Whether the file or the reader says how old the patient is.
    """
    if prediction is None:
        refusals = gate.by_verdict("refuse")
        mends = tuple(dict.fromkeys(check.mend for check in refusals if check.mend))
        others = tuple(check.reason for check in refusals[1:])
        headline = f"No answer: {_lower_first(refusals[0].reason)}"
        return Answer("refused", False, "", headline, others + mends)
    lead = ""
    if card.age_range is not None and not age_stated:
        lead = f"Age not stated; this model knows {age_group(card.age_range)}."
    named = _named(card, prediction)
    unsure = [one for one in named if one.cannot_tell]
    headline = _headline(card, prediction, named, bool(unsure))
    detail: tuple[str, ...] = ()
    if unsure:
        detail = (_unsure_sentence(card, [one.label for one in unsure]),)
    # The lead has said it already.
    cautions = (check for check in gate.by_verdict("caution") if not (check.name == "age" and lead))
    detail += tuple(f"Caution: {_lower_first(check.reason)}" for check in cautions)
    tone: Tone = "flag" if any(map(raises_alarm, prediction.labels)) else "clear"
    return Answer(tone, bool(unsure), lead, headline, detail)


def raises_alarm(answer: LabelPrediction) -> bool:
    """Tell an amber bar from a slate one: a flag, unless it says that all is well."""
    return answer.flag and spoken(answer.label) not in HARMLESS


def state_word(card: ModelCard, answer: LabelPrediction) -> str:
    """Name what one label's bar shows; never colour alone."""
    if card.activation == "softmax":
        word = "Largest" if answer.flag else ""
    else:
        word = "Flag" if answer.flag else "No flag"
    if not answer.cannot_tell:
        return word
    return f"{word}, cannot tell" if word else "Cannot tell"


def score(answer: LabelPrediction) -> str:
    """Write a probability, as `told_apart` does."""
    return told_apart(answer.probability, answer.operating_point)[0]


def told_apart(value: float, point: float | None) -> tuple[str, str | None]:
    """Write a probability and its operating point with digits that tell which is larger.

    Two digits, unless two would read alike; both get the same number. Neither certainty is
    ever written: 0.998 reads ">0.99".
    """
    digits = 2
    while point is not None and value != point and digits < 6:
        if f"{value:.{digits}f}" != f"{point:.{digits}f}":
            break
        digits += 1
    limit = None if point is None else f"{point:.{digits}f}"
    if digits == 2 and value > 0.995:
        return ">0.99", limit
    if digits == 2 and value < 0.005:
        return "<0.01", limit
    return f"{value:.{digits}f}", limit


def age_group(ages: tuple[float, float]) -> str:
    """Name the patients of an age range: "children of 1-5 years"."""
    low, high = ages
    who = "children" if high < ADULT else "adults" if low >= ADULT else "patients"
    span = f"{low:g} years and over" if high >= OLDEST else f"{low:g}-{high:g} years"
    return f"{who} of {span}"


def age_words(years: float) -> str:
    """Write an age: months below two years."""
    if years < 2:
        months = int(years * 12 + 1e-6)
        return f"{months} month{'s' * (months != 1)}"
    return f"{int(years)} years"


def facts_in_words(radiograph: Radiograph, age_years: float | None) -> str:
    """Put what is known of a film in one line; `age_years` as stated by file or reader."""
    facts = radiograph.facts
    height, width = radiograph.pixels.shape
    told = {
        "view": f"{facts.view} view" if facts.view else "",
        "age": f"age {age_words(age_years)}" if age_years is not None else "",
        "sex": SEXES.get(facts.sex or "", ""),
    }
    silent = [name for name, text in told.items() if not text]
    parts = [text for text in told.values() if text]
    parts += [f"{width} × {height} pixels", f"{facts.format}, {facts.bits} bit"]
    parts += _window_words(facts)
    if silent:
        *most, last = silent
        parts.append(f"{', '.join(most)} and {last} not stated" if most else f"{last} not stated")
    return f"{parts[0][:1].upper()}{parts[0][1:]}" + "".join(f" · {part}" for part in parts[1:])


def similar_in_words(similar: CalibrationBin, split: str = "test") -> str:
    """Say how many films that scored like this one had the finding."""
    observed = similar.observed
    if observed.value is None or observed.low is None or observed.high is None:
        return f"No {split} film scored like this."
    had = round(observed.value * similar.n)
    return (
        f"Of {similar.n} {split} films scoring like this, {had} had it "
        f"(95 % CI {100 * observed.low:.0f}-{100 * observed.high:.0f} %)."
    )


def steady_in_words(interval: tuple[float, float]) -> str:
    """Say how far an answer moves when its film is varied a little."""
    low, high = interval
    return f"{low:.2f} to {high:.2f} when the film is moved, turned or exposed a little otherwise"


def calibrated_in_words(card: ModelCard, label: str) -> str:
    """Say on which films probabilities mean what they say."""
    calibration = card.calibration
    if not calibration.films:
        return "Probabilities as the network gives them: nobody calibrated it."
    share = _share(calibration.prevalence[card.position(label)])
    having = spoken(label) if spoken(label) in ADJECTIVES else f"with {spoken(label)}"
    return f"Calibrated on {calibration.films:,} validation films, {share} {having}."


def can_be_elsewhere(card: ModelCard, label: str) -> bool:
    """Say whether a label's probability can be told for another prevalence.

    Not of labels of which the largest wins: another could win there, and a flag never moves
    by what a site says of itself.
    """
    known = card.calibration.prevalence
    return card.activation == "sigmoid" and bool(known) and 0 < known[card.position(label)] < 1


def elsewhere_in_words(card: ModelCard, answer: LabelPrediction, there: float) -> str:
    """Say what an answer becomes where a finding has another prevalence, and what that assumes."""
    here = card.calibration.prevalence[card.position(answer.label)]
    value = float(for_prevalence(answer.probability, here, there))
    point = answer.operating_point
    if point is not None:
        point = float(for_prevalence(point, here, there))
    name, (chance, limit) = spoken(answer.label), told_apart(value, point)
    shows = f"are {name}" if name in ADJECTIVES else f"show {name}"
    flag = f", operating point {limit}: the flag stays" if limit else ""
    return (
        f"Where {_share(there)} of films {shows}: {chance}{flag}. This takes "
        "for granted that such films, and all others, look there as they did in validation."
    )


def _share(value: float) -> str:
    """Write a share as a percentage with the digits that a small one needs."""
    return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"


def reliability_in_words(card: ModelCard) -> dict[str, str]:
    """Put how honest probabilities are before and after calibration in a line for each split."""
    told = {}
    for split, labels in card.training.get("reliability", {}).items():
        means = {
            name: [mean(one[when][measure] for one in labels.values()) for when in BEFORE_AFTER]
            for measure, name in MEASURES.items()
        }
        said = [f"{name} {before:.3f} → {after:.3f}" for name, (before, after) in means.items()]
        whose = f", means of {len(labels)} labels" if len(labels) > 1 else ""
        told[f"Calibration, {split}"] = f"{', '.join(said)} (before → after{whose})"
    return told


def method_name(method: str) -> str:
    """Write a method's name as its paper does."""
    return get_method(method).title


def record_in_words(report: LabelReport) -> str:
    """Put one label's test record in a line."""
    parts = [
        f"{name} {share.value:.2f} ({share.low:.2f}-{share.high:.2f})"
        for name, share in (
            ("sensitivity", report.sensitivity),
            ("specificity", report.specificity),
            ("AUROC", report.auroc),
        )
        if share.value is not None and share.low is not None and share.high is not None
    ]
    start = f"{report.n} films, {100 * report.prevalence:.0f} % with {spoken(report.label)}"
    return ", ".join([start, *parts]) + "."


def shortcut_in_words(card: ModelCard, report: EvaluationReport) -> list[str]:
    """Say what the same network scores when it never sees the middle of a film, where known.

    A caution, when the borders alone keep half of the lead over chance.
    """
    control = card.training.get("control", {})
    told = []
    for label, (borders, *_) in control.get("auroc", {}).items():
        seen = report.label(label).auroc.value
        if borders is None or seen is None:
            continue
        close = borders - 0.5 >= SHORTCUT * (seen - 0.5)
        told.append(
            f"{'Caution: the' if close else 'The'} same network scores AUROC {borders:.2f} for "
            f"{spoken(label)} with the lungs blacked out, {seen:.2f} with them"
            + (": much of its answer may not come from the lungs." if close else ".")
        )
    return told


def unexplained_in_words(prediction: Prediction | None, label: str | None) -> str:
    """Say why no explanation is shown."""
    if prediction is None or label is None:
        return "No explanation: the model gave no answer for this film."
    return (
        f"No explanation: {spoken(label)} was not flagged, and a map of what was not found would "
        "point at nothing."
    )


def contradiction(method: str, check: MapCheck) -> str:
    """Say that another method contradicts a map beyond the bound; empty when it does not."""
    if check.agreement is None or check.agreement >= DISAGREE:
        return ""
    return (
        f"Map withheld: on this film {spoken(method_name(method))} and {_compared(method)} point "
        f"at different places (agreement {check.agreement:.2f}, least {DISAGREE:.2f})."
    )


def tested_in_words(known: tuple[ExplanationReport, bool] | None, label: str, method: str) -> str:
    """Say what was measured of a model's maps, in a sentence.

    Args:
        known: What was, and whether it holds for the present weights; None when nobody measured.
        label: Whose evidence a map shows.
        method: That made it.
    """
    if known is None:
        return UNTESTED
    report, current = known
    return report.verdict(method, label) if current else OUTDATED


def map_in_words(found: Attribution, tested: str, check: MapCheck | None) -> str:
    """Say what a map shows and how far it holds.

    Args:
        found: The map.
        tested: What was measured of such maps of this model, as a sentence.
        check: What was measured on this film; None while it is not known.
    """
    if not found.values.any():
        return "The map is empty: no region raised the score by itself."
    method = get_method(found.method)
    of = f" of the opposite score, for no {spoken(found.label)}" if found.absence else ""
    said = [f"{method.title}{of}: {method.shows}.", found.note or "", tested]
    here = [*_completeness(found), *(_check_words(found.method, check) if check else ())]
    if here:
        said.append(f"On this film: {', '.join(here)}.")
    return " ".join(filter(None, said))


def _completeness(found: Attribution) -> list[str]:
    """Say that the parts of a map add up; where they do not, its note says so."""
    if found.relative_gap is None or found.relative_gap > COMPLETE:
        return []
    return [f"its parts add up to the score within {max(100 * found.relative_gap, 0.1):.1f} %"]


def _check_words(method: str, check: MapCheck) -> Iterator[str]:
    """Say what a check found, in plain words with its numbers; nothing of what is not known."""
    if check.agreement is not None:
        if check.agreement < DISAGREE:
            yield f"contradicts {_compared(method)} ({check.agreement:.2f})"
        else:
            yield f"agreement with {_compared(method)} {check.agreement:.2f} of at most 1"
    if check.stability is not None:
        steady = "not steady" if check.stability < UNSTABLE else "steady"
        yield f"{steady} when the film is moved a little ({check.stability:.2f})"
    if check.outside is None:
        yield "the lungs were not found"
    elif check.outside > 0.5:
        yield (
            f"{100 * check.outside:.0f} % of it outside the lungs, so that the score may rest on "
            "something else"
        )
    else:
        yield f"{100 * check.outside:.0f} % of it outside the lungs"


def _compared(method: str) -> str:
    return spoken(method_name(counterpart_of(method)))


def region_in_words(before: LabelPrediction, after: LabelPrediction) -> str:
    """Say how an answer moves without a region of the film."""
    return f"Without this region: {spoken(before.label)} {score(before)} → {score(after)}."


def _named(card: ModelCard, prediction: Prediction) -> list[LabelPrediction]:
    """Choose the labels that the headline names: those flagged, else the nearest to it."""
    answers = sorted(prediction.labels, key=_margin, reverse=True)
    if card.activation == "softmax":
        return [max(answers, key=lambda one: one.probability)]
    return [one for one in answers if one.flag] or answers[:1]


def _margin(answer: LabelPrediction) -> float:
    return answer.probability - (answer.operating_point or 0.0)


def _headline(
    card: ModelCard, prediction: Prediction, named: list[LabelPrediction], unsure: bool
) -> str:
    first, rest = named[0], len(prediction.labels)
    if card.activation == "softmax":
        word = "Cannot tell; nearest" if unsure else "Most likely"
        return f"{word}: {spoken(first.label)} {score(first)}, the largest of {rest}"
    if first.flag:
        word = "Flag" + (", but cannot tell" if unsure else "")
        said = ", ".join(f"{spoken(one.label)} {score(one)}" for one in named[:3])
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        if rest == 1:
            return f"{word}: {said}, {_point(first)}"
        return f"{word}: {said}{more} ({len(named)} of {rest} findings)"
    among = "" if rest == 1 else f" in {rest} findings"
    if unsure and spoken(first.label) not in HARMLESS:
        doubt = f"cannot exclude {spoken(first.label)}"
        return f"No flag{among}, but {doubt}: {score(first)}, {_point(first)}"
    word = f"No flag{among}" + (", but cannot tell" if unsure else "")
    nearest = "" if rest == 1 else "; nearest"
    return f"{word}{nearest}: {spoken(first.label)} {score(first)}, {_point(first)}"


def _point(answer: LabelPrediction) -> str:
    if answer.operating_point is None:
        return "no operating point"
    return f"operating point {told_apart(answer.probability, answer.operating_point)[1]}"


def _unsure_sentence(card: ModelCard, labels: Sequence[str]) -> str:
    """Say what the model cannot tell; of one finding, also the band, which the bars show too."""
    names = list(map(spoken, labels))
    if len(names) > 1:
        return (
            f"Where it scores {', '.join(names[:-1])} and {names[-1]}, neither answer was safe "
            "enough on validation films: read them without the model."
        )
    band = card.cannot_tell[card.position(labels[0])]
    low, high = band if band is not None else (0.0, 1.0)
    return (
        f"Between {low:.2f} and {high:.2f} neither answer on {names[0]} was safe enough on "
        "validation films: read it without the model."
    )


def _window_words(facts: Facts) -> list[str]:
    words = []
    if facts.window is not None:
        words.append(f"window {facts.window[0]:g} / {facts.window[1]:g}")
    if facts.photometric_interpretation == "MONOCHROME1":
        words.append("MONOCHROME1, shown white on black")
    return words


def _lower_first(sentence: str) -> str:
    """Continue a sentence with another, unless it begins with an abbreviation."""
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]
