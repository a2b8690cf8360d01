"""How the numbers of a record are written: their names, digits and intervals."""

from cxr_core.evaluation import ThresholdReport
from cxr_core.ranking import Interval

ABBREVIATIONS = {"ppv", "npv", "auroc", "auprc", "mcc", "ece"}
SMALL = 0.1  # probabilities below this need three digits


def title(name: str) -> str:
    """Write the name of a number as a heading."""
    return name.upper() if name in ABBREVIATIONS else name.replace("_", " ").capitalize()


def rest(share: Interval) -> Interval:
    """Return 1 - share, with its interval."""
    if share.value is None or share.low is None or share.high is None:
        return Interval(None if share.value is None else 1 - share.value, None, None)
    return Interval(1 - share.value, 1 - share.high, 1 - share.low)


def words(share: Interval, digits: int = 2) -> tuple[str, str]:
    """Write a number and its interval; "not known" and "" where there is none."""
    if share.value is None:
        return "not known", ""
    if share.low is None or share.high is None:
        return f"{share.value:.{digits}f}", ""
    between = "-" if share.low >= 0 else " to "  # no dash beside a minus
    return f"{share.value:.{digits}f}", f"{share.low:.{digits}f}{between}{share.high:.{digits}f}"


def with_bounds(share: Interval, digits: int = 2) -> str:
    """Write a number and its interval, if it has one, in one piece: "0.62 (0.43-0.80)"."""
    value, bounds = words(share, digits)
    return f"{value} ({bounds})" if bounds else value


def rule(report: ThresholdReport) -> str:
    """Say in words what decides."""
    if report.confusion is None:
        return "no operating point"
    if report.operating_point is None:
        return "the largest probability"
    return f"threshold {point(report)}"


def point(report: ThresholdReport) -> str:
    """Write the threshold of a report with as many digits as it needs; "none" without one."""
    value = report.operating_point
    return "none" if value is None else probability(value)


def probability(value: float) -> str:
    """Write a threshold or a bound of scores in [0, 1] with as many digits as it needs.

    Of a rare finding two digits would often read 0.00, so there are three below 0.1.
    """
    return f"{value:.3f}" if value < SMALL else f"{value:.2f}"
