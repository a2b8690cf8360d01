"""Words that screen and paper share: labels, shares and counts as they read inside a sentence."""

from cxr_core.evaluation import LabelReport, wilson

NOTICE = "For research and education. Not a diagnosis; not a medical device."
# Labels of which the films that have them are the healthy ones.
ABSENCE = {"normal", "no finding"}


def printable(words: str) -> str:
    """Put a blank for whatever no page can show: control characters, half characters."""
    return "".join(letter if letter.isprintable() else " " for letter in words)


def spoken(label: str) -> str:
    """Write a label as it reads inside a sentence: "pleural thickening", "COVID-19"."""
    words = label.replace("_", " ").split()
    return " ".join(word if word[1:] != word[1:].lower() else word.lower() for word in words)


def percent(count: int, films: int) -> str:
    """Write a share of films and its 95 % Wilson interval: "91.9 %, 87.7-94.7"."""
    share = wilson(count, films)
    low, high = share.low or 0.0, share.high or 0.0
    return f"{100 * count / films:.1f} %, {100 * low:.1f}-{100 * high:.1f}"


def means_absence(label: str) -> bool:
    """Say whether a label means that nothing was found, so that flagging it is good news."""
    return label.replace("_", " ").lower() in ABSENCE


def summary_sentences(report: LabelReport) -> tuple[str, ...]:
    """Say in words what was decided of films without and with the finding.

    Where the largest score decides, a film is called by a label rather than flagged.
    """
    if report.confusion is None:
        return report.notes
    (cleared, alarmed), (missed, flagged) = report.confusion
    if means_absence(report.label) and report.operating_point is not None:
        normal, abnormal = flagged + missed, alarmed + cleared
        return (
            f"Called normal: {_share_words(flagged, normal, '')}",
            f"and {_share_words(alarmed, abnormal, ' not')}",
        )
    if report.operating_point is None:
        return (
            f"Called {report.label}: {_share_words(flagged, flagged + missed, '')}",
            f"and {_share_words(alarmed, alarmed + cleared, ' not')}",
        )
    return (
        _share_sentence("without", report.label, cleared, cleared + alarmed, "cleared"),
        _share_sentence("with", report.label, flagged, flagged + missed, "flagged"),
    )


def _share_sentence(kind: str, label: str, count: int, films: int, verb: str) -> str:
    if not films:
        return f"No film {kind} {label} was scored."
    return (
        f"Of {films} film{'s' * (films > 1)} {kind} {label}, {count} "
        f"{'was' if count == 1 else 'were'} {verb} ({percent(count, films)})."
    )


def _share_words(count: int, films: int, negation: str) -> str:
    if not films:
        return f"there is no film that is{negation}."
    which = f"film that is{negation}" if films == 1 else f"films that are{negation}"
    return f"{count} of the {films} {which} ({percent(count, films)})."
