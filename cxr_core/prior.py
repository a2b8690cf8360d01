"""What changed between two films of one patient, as far as a model can tell.

Whose films they are is told by their headers (`related`), or by nobody. Probabilities are
shown; compared are log-odds before calibration, against the model's own repeatability
(`repeatability`). A difference below that limit is no change that anybody should read into the
films, even where it crosses the operating point.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import numpy as np

from cxr_core.cards import ModelCard
from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.images import StudyReference
from cxr_core.repeatability import log_odds
from cxr_core.wording import means_absence

Relation = Literal["earlier", "later", "undated", "another patient", "unchecked"]
_DATE, _SEX = re.compile(r"\d{8}"), re.compile("[MF]")
Verdict = Literal["more", "less", "within repeatability", "not known"]


def related(prior: StudyReference | None, current: StudyReference | None) -> Relation:
    """Say what one film is to another, as far as their headers tell.

    Returns:
        "earlier" or "later": of the same patient, by study date and time; "undated": of the
        same patient, but which came first is not known; "another patient": patient IDs,
        birth dates or sexes that both state contradict each other; "unchecked": no patient ID
        that both state has the same name, or without names the same birth date, beside it.
    """
    if prior is None or current is None:
        return "unchecked"
    ids = prior.patient_id.strip(), current.patient_id.strip()
    issuers = prior.issuer.strip(), current.issuer.strip()
    if all(issuers) and issuers[0] != issuers[1]:
        ids = "", ""  # numbers of two hospitals: neither the same nor another says anything
    told = (
        ids,
        _both(_DATE, prior.birth_date, current.birth_date),
        _both(_SEX, prior.sex.upper(), current.sex.upper()),
    )
    if any(one and other and one != other for one, other in told):
        return "another patient"
    names = _words(prior.patient_name), _words(current.patient_name)
    # An ID alone is no proof: devices write "0" or "ANONYMOUS", and hospitals count from one.
    alike = names[0] == names[1] if all(names) else all(told[1])
    if not all(ids) or not alike:
        return "unchecked"
    days = taken_on(prior), taken_on(current)
    if days[0] is None or days[1] is None:
        return "undated"
    first, second = ((day, one.study_time) for day, one in zip(days, (prior, current), strict=True))
    digits = min(len(first[1]), len(second[1]))  # "0900" may be any second of that minute
    if first[0] == second[0] and first[1][:digits] == second[1][:digits]:
        return "undated"
    return "earlier" if first < second else "later"


def _both(form: re.Pattern[str], one: str, other: str) -> tuple[str, str]:
    """Return two values where both are as they should be, else nothing to compare."""
    values = one.strip(), other.strip()
    return values if all(map(form.fullmatch, values)) else ("", "")


def _words(name: str) -> list[str]:
    """Return the parts of a name in any order and case, as two devices may write one."""
    return sorted(re.split(r"[\^\s=,]+", name.strip("^ ").upper())) if name.strip("^ ") else []


def taken_on(reference: StudyReference | None) -> date | None:
    """Return the day of a film's study; None where its header has none that can be."""
    try:
        return datetime.strptime(reference.study_date, "%Y%m%d").date() if reference else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Change:
    """What became of one finding.

    Attributes:
        before: The answer for the prior film.
        after: The answer for the current one.
        difference: Of the log-odds, before calibration; positive is more.
        limit: The model's repeatability coefficient; None when nobody measured it.
    """

    before: LabelPrediction
    after: LabelPrediction
    difference: float
    limit: float | None

    @property
    def label(self) -> str:
        """What is asked."""
        return self.after.label

    @property
    def verdict(self) -> Verdict:
        """Whether it is more or less than before, as far as the model's repeatability allows."""
        if self.limit is None:
            return "not known"
        if abs(self.difference) <= self.limit:
            return "within repeatability"
        return "more" if self.difference > 0 else "less"

    @property
    def changed(self) -> bool:
        """Whether the difference is beyond repeatability."""
        return self.verdict in ("more", "less")

    @property
    def crossed(self) -> bool:
        """Whether one film is flagged and the other is not."""
        return self.before.flag != self.after.flag


@dataclass(frozen=True)
class Comparison:
    """Two answers of one model, compared.

    Attributes:
        changes: One for each label; those beyond repeatability first. Among these, what is
            flagged now and was not comes first, then what is worse, then by how far they are.
        reason: Why there are none; empty where there are.
    """

    changes: tuple[Change, ...] = ()
    reason: str = ""

    @property
    def measured(self) -> bool:
        """Whether the model's repeatability is known."""
        return all(one.limit is not None for one in self.changes)


def changes(
    card: ModelCard,
    before: Prediction | None,
    after: Prediction | None,
    limits: Mapping[str, float],
) -> Comparison:
    """Compare what a model says of two films of one patient.

    Args:
        card: The model's.
        before: Of the prior film; None when it was refused.
        after: Of the current one; None when it was refused.
        limits: Its repeatability coefficients, by label; empty when nobody measured them.
    """
    if before is None or after is None:
        which = "The prior film" if after is not None else "This film"
        which = "Neither film" if before is None and after is None else which
        verb = "got an answer" if which == "Neither film" else "was refused"
        return Comparison(reason=f"No change is told: {which[0].lower()}{which[1:]} {verb}.")
    odds = [
        log_odds([one.logit for one in each.labels], card.activation) for each in (before, after)
    ]
    found = [
        Change(was, now, float(difference), limits.get(now.label))
        for was, now, difference in zip(before.labels, after.labels, odds[1] - odds[0], strict=True)
    ]
    return Comparison(tuple(sorted(found, key=_rank, reverse=True)))


def _rank(one: Change) -> tuple[bool, bool, bool, float]:
    limit = one.limit if one.limit else np.inf
    worse = (one.difference > 0) != means_absence(one.label)
    newly = worse and one.crossed
    return one.changed, newly, worse, abs(one.difference) / limit
