"""What a check found, in words."""

from cxr_core.local_check.honesty import Line
from cxr_core.local_check.measured import LocalCheck
from cxr_core.local_check.suggestion import as_shipped
from cxr_core.mistakes import coverage_in_words
from cxr_core.ranking import Interval
from cxr_core.wording import spoken


def in_words(found: LocalCheck) -> list[str]:
    """Say what a check found: what holds, what does not, what would change; then the notes."""
    table = found.films.table
    told = [
        f"{len(table.files)} films of {len(set(table.patients))} patients, {found.films.source}, "
        f"answered by '{found.card.name}' (version {found.card.version})."
    ]
    for one, line in zip(found.report.labels, found.lines, strict=True):
        told.append(
            f"{one.label}: {one.positives} of {one.n} films have it; AUROC {_span(one.auroc, 3)}; "
            f"sensitivity {_span(one.sensitivity)}, specificity {_span(one.specificity)}; ECE "
            f"{one.ece:.3f}. {_line_in_words(line)}"
        )
    told += coverage_in_words(found.held, "on these films")
    told += _suggestion_in_words(found)
    return [*told, *found.notes]


def _line_in_words(line: Line) -> str:
    """Say whether the shipped calibration holds."""
    verdicts: dict[bool | None, str] = {
        True: "Nothing speaks against its calibration here",
        False: "Its calibration does not hold here",
        None: "Whether its calibration holds cannot be said from these films",
    }
    return (
        f"{verdicts[line.holds]}: slope {_span(line.slope)} (honest 1), shift "
        f"{_span(line.shift)} (honest 0)."
    )


def _suggestion_in_words(found: LocalCheck) -> list[str]:
    anew, card = found.suggestion, found.card
    if anew is None:
        return ["No operating point is suggested."]
    told = []
    for label, point in zip(card.labels, as_shipped(card, anew.decision), strict=True):
        if label not in anew.labels:
            continue
        one = anew.report.label(label)
        own = card.operating_points[card.position(label)]
        where = "the largest wins" if card.activation == "softmax" else _points(point, own)
        told.append(
            f"By the card's own rule, {spoken(label)}: {where}. On films of other patients that "
            f"gives sensitivity {_span(one.sensitivity)}, specificity {_span(one.specificity)}, "
            f"ECE {one.ece:.3f}."
        )
    return told


def _points(point: float | None, own: float | None) -> str:
    """Say where to flag instead of where the model does, both on the model's own scale."""
    old = "never" if own is None else f"from {own:.3f}"
    if point is None:
        return f"no operating point, for it would flag too many films; the model flags {old}"
    return f"flag from {point:.3f}, as this model counts, instead of {old}"


def _span(value: Interval, digits: int = 2) -> str:
    """Write a number with its interval; "not known" without one."""
    if value.value is None:
        return "not known"
    bounds = "" if value.low is None else f" ({value.low:.{digits}f} to {value.high:.{digits}f})"
    return f"{value.value:.{digits}f}{bounds}"
