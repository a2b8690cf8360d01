"""A reading on one page of A4, as somebody lays it beside the film: no patient's name on it."""

from collections.abc import Mapping, Sequence

from reportlab.lib.units import mm

from cxr_core import overlays
from cxr_core.export import paper
from cxr_core.export.paper import COLUMN, WIDTH, Flowable, paragraph
from cxr_core.export.reading_record import Decision, ReadingRecord
from cxr_core.figures import colour_bar
from cxr_core.ranking import Interval
from cxr_core.wording import NOTICE, spoken

SIDE = 1000  # pixels of a film on paper: 300 for each inch of a column
LOWEST = 40 * mm  # height of the pictures, however little room there is
PICTURE, BAR = 64 * mm, 36 * mm  # widths of a picture at most, and of the bar of colours
DECISIONS: dict[Decision, str] = {
    "flag": "Flag",
    "no flag": "No flag",
    "undecided": "Undecided",
}
EXCLUSIVE: dict[Decision, str] = DECISIONS | {"flag": "Largest", "no flag": "Not largest"}
# Letters of one fact, limit or caution that the page has room for.
MOST_LETTERS = 300


def reading_pdf(record: ReadingRecord) -> bytes:
    """Compose a reading as a PDF of one A4 page, the same for the same reading."""
    drawn = _drawn(record)

    def story() -> list[Flowable]:
        above, below = _above(record), _below(record)
        room = paper.room_left([*above, paper.gap(2 * mm), *below])
        pictures = _pictures(record, drawn, max(room, LOWEST))
        return [paper.one_page([*above, *pictures, *below])]

    return paper.print_pages(
        story,
        title=f"Second opinion by {record.card.name}, version {record.card.version}",
        subject=NOTICE,
        foot=(
            f"{record.card.name} · version {record.card.version} · {NOTICE}",
            f"SHA-256 of the film's file: {record.film.digest}",
        ),
    )


# --- the answer ---


def _above(record: ReadingRecord) -> list[Flowable]:
    told = [
        paragraph(f"Second opinion on a chest film · {_when(record)}", "over"),
        paragraph(record.headline, "answer"),
        paragraph(NOTICE, "notice"),
    ]
    said = [*record.detail, *record.mended]
    return [*told, *(paragraph(one, "note") for one in said), paper.gap(2 * mm)]


def _when(record: ReadingRecord) -> str:
    return f"read on {record.at:%Y-%m-%d at %H:%M %Z}".strip()


# --- the film and its map ---


def _drawn(record: ReadingRecord) -> tuple[bytes, bytes | None]:
    """Draw the film, and with its map where one was shown, as PNG."""
    grey = overlays.thumbnail(record.film.pixels, SIDE)
    over = record.shown.over(grey) if record.shown is not None else None
    return overlays.png(grey), None if over is None else overlays.png(over)


def _pictures(
    record: ReadingRecord, drawn: tuple[bytes, bytes | None], height: float
) -> list[Flowable]:
    """Show the film, at most `height` points high, and its map; say beside them what they are."""
    shown = [paper.picture_within(png, PICTURE, height) for png in drawn if png]
    widths = [one.drawWidth + 4 * mm for one in shown]
    sides = [*([one] for one in shown), _captions(record)]
    return [paper.columns(sides, [*widths, WIDTH - sum(widths)]), paper.gap(2 * mm)]


def _captions(record: ReadingRecord) -> list[Flowable]:
    """Say what the pictures are, or why there is no map."""
    told = [paragraph(f"The film. {record.facts}", "note"), paper.gap(2 * mm)]
    if record.shown is None:
        return [*told, paragraph(record.not_shown or "No map was shown.", "note")]
    bar = paper.picture(colour_bar(record.shown.found.signed, "light"), BAR)
    bar.hAlign = "LEFT"
    return [*told, bar, paragraph(f"{record.shown.title}.", "cell")]


# --- the findings and the model ---


def _below(record: ReadingRecord) -> list[Flowable]:
    told = [] if record.shown is None else [paragraph(record.shown.caption, "note")]
    if record.findings:
        told += [_findings(record), paper.gap(1 * mm), paragraph(_table_note(record), "note")]
    return [*told, paper.columns([_model(record), _limits(record)], [WIDTH / 2, WIDTH / 2])]


def _findings(record: ReadingRecord) -> Flowable:
    """List every label, those not flagged too, with the test record of such answers."""
    words = EXCLUSIVE if record.exclusive else DECISIONS
    rows = [
        (
            paragraph(_capital(spoken(one.answer.label)), "cell"),
            paragraph(one.written[0], "number"),
            paragraph(one.written[1] or "none", "number"),
            paragraph("–".join(f"{end:.2f}" for end in one.band or ()), "number"),
            paragraph(_decided(words[one.decision], one.answer.cannot_tell), "cell"),
            paragraph(_share(one.record.sensitivity), "number"),
            paragraph(_share(one.record.specificity), "number"),
            paragraph(str(one.record.positives), "number"),
        )
        for one in record.findings
    ]
    told = ("Finding", "Probability", "Operating point", "Cannot tell between", "Answer")
    titles = (*told, "Sensitivity", "Specificity", "With it")
    widths = (0.165, 0.105, 0.1, 0.115, 0.12, 0.165, 0.165, 0.065)
    return paper.table(titles, rows, widths, right=(1, 2, 3, 5, 6, 7))


def _table_note(record: ReadingRecord) -> str:
    return (
        f"Sensitivity and specificity of such answers on the model's {record.scored} "
        f"{record.split} films, with 95 % intervals, and how many of these had it; elsewhere "
        "they may differ."
    )


def _decided(decision: str, cannot_tell: bool) -> str:
    """Write a decision, and beside it that the model cannot tell: as the bars on screen do."""
    return f"{decision}, cannot tell" if cannot_tell else decision


def _model(record: ReadingRecord) -> list[Flowable]:
    card = record.card
    ages = "not known"
    if card.age_range is not None:
        ages = "{:g} to {:g} years".format(*card.age_range)
    return [
        paragraph("The model", "heading"),
        _facts(
            {
                "Name": f"{card.name}, version {card.version}",
                "Made for": card.intended_use,
                "Not for": " ".join(card.not_for),
                "Ages, views": f"{ages}; {', '.join(card.views) or 'not known'}",
                "Operating point": card.operating_rule.partition(";")[0],
            }
        ),
    ]


def _limits(record: ReadingRecord) -> list[Flowable]:
    """Say what speaks against relying on the answer, and what readers said of it."""
    told = [paragraph("Known limits", "heading"), *_listed(record.card.limits)]
    cautions = [one for one in record.cautions if record.findings]
    if cautions:
        told += [paragraph("Checks of this film", "heading"), *_listed(cautions)]
    if record.opinions:
        told += [paragraph("Readers' opinions", "heading"), *_listed(record.opinions)]
    return told


def _facts(facts: Mapping[str, str]) -> Flowable:
    rows = [
        (paragraph(name, "muted"), paragraph(_shortened(words), "cell"))
        for name, words in facts.items()
    ]
    return paper.table((), rows, (0.22, 0.78), width=COLUMN)


def _listed(sentences: Sequence[str]) -> list[Flowable]:
    return paper.sentences([_shortened(one) for one in sentences], "bullet")


def _shortened(words: str) -> str:
    return words if len(words) <= MOST_LETTERS else f"{words[:MOST_LETTERS].rstrip()}…"


def _capital(words: str) -> str:
    """Begin with a capital, and leave the others as they are: COVID-19."""
    return f"{words[:1].upper()}{words[1:]}"


def _share(share: Interval) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "not known"
    return f"{share.value:.2f} ({share.low:.2f}–{share.high:.2f})"
