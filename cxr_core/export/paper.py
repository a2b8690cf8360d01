"""A4 pages: letters, tables, pictures and the foot of each page. It knows nothing of models.

Whatever is written is escaped, so that no text becomes markup. The letters are those of the
figures and travel inside the file; what they lack (Chinese, for one) comes out as boxes.
"""

from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from itertools import count
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import (
    HRFlowable,
    Image,
    KeepInFrame,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
)

from cxr_core.figures import PALETTES, font_file
from cxr_core.wording import printable

PLAIN, BOLD = "DejaVuSans", "DejaVuSans-Bold"
INK = PALETTES["light"]
MARGIN = 18 * mm
FOOT = 22 * mm  # height of the margin below, which holds the foot
WIDTH = A4[0] - 2 * MARGIN
COLUMN = WIDTH / 2 - 3 * mm  # of two side by side
PAGE = A4[1] - MARGIN - FOOT - 14  # height of what stands on a page, within its frame's padding

# Paragraphs that the outline of the document lists, and how deep.
OUTLINE = {"title": 0, "section": 0, "heading": 1}

Flowable = Any  # reportlab has no types


@cache
def styles() -> dict[str, Any]:
    """Return the kinds of paragraph by name, after making the letters known."""
    for name, bold in ((PLAIN, False), (BOLD, True)):
        pdfmetrics.registerFont(TTFont(name, str(font_file(bold))))
    pdfmetrics.registerFontFamily(PLAIN, PLAIN, BOLD, PLAIN, BOLD)
    body = ParagraphStyle("body", fontName=PLAIN, fontSize=9, leading=13.5, textColor=INK.text)

    def like(name: str, **changes: Any) -> Any:
        return ParagraphStyle(name, parent=body, **changes)

    heading = {"fontName": BOLD, "keepWithNext": 1}
    made = (
        body,
        like("over", fontSize=8.5, textColor=INK.muted),
        like("title", fontName=BOLD, fontSize=20, leading=26, spaceAfter=3),
        like("answer", fontName=BOLD, fontSize=13, leading=17, spaceAfter=3),
        like("lead", fontSize=10.5, leading=15.5, spaceAfter=6),
        like("section", **heading, fontSize=14, leading=19, spaceAfter=4),
        like("heading", **heading, fontSize=10, leading=14, spaceBefore=11, spaceAfter=3),
        like("note", fontSize=8, leading=11.5, textColor=INK.muted, spaceAfter=3),
        like("item", leftIndent=9, bulletIndent=0, spaceAfter=1.5),
        like("bullet", fontSize=7.5, leading=10, leftIndent=8, bulletIndent=0, spaceAfter=1),
        like("notice", fontName=BOLD, fontSize=8.5, leading=12, textColor=INK.flagged),
        like("cell", fontSize=8, leading=11),
        like("muted", fontSize=8, leading=11, textColor=INK.muted),
        like("number", fontSize=8, leading=11, alignment=2),
        like("bounds", fontSize=8, leading=11, alignment=2, textColor=INK.muted),
        like("column", fontSize=7.5, leading=10, textColor=INK.muted),
        like("column-right", fontSize=7.5, leading=10, alignment=2, textColor=INK.muted),
    )
    return {style.name: style for style in made}


def paragraph(words: str, style: str = "body") -> Flowable:
    """Set words in one of `styles`."""
    return Paragraph(escape(printable(words)), styles()[style])


def two_lines(first: str, second: str) -> Flowable:
    """Set a number over its interval."""
    small = f'<br/><font size="6.5" color="{INK.muted}">{escape(second)}</font>' if second else ""
    return Paragraph(escape(first) + small, styles()["number"])


def sentences(words: Sequence[str], style: str = "item") -> list[Flowable]:
    """Set sentences as a list with bullets."""
    kind = styles()[style]
    return [Paragraph(escape(printable(one)), kind, bulletText="•") for one in words]


def rule() -> Flowable:
    """Draw a thin line across the page."""
    return HRFlowable(width="100%", thickness=0.6, color=HexColor(INK.line), spaceAfter=8)


def gap(height: float = 4 * mm) -> Flowable:
    """Leave white; `height` in points."""
    return Spacer(1, height)


def picture(png: bytes, width: float = COLUMN) -> Flowable:
    """Show a PNG at a width in points, in its own proportions."""
    across, down = ImageReader(BytesIO(png)).getSize()
    return Image(BytesIO(png), width, width * down / across)


def picture_within(png: bytes, width: float, height: float) -> Flowable:
    """Show a PNG as large as it fits into a width and a height in points."""
    across, down = ImageReader(BytesIO(png)).getSize()
    return picture(png, min(width, height * across / down))


def side_by_side(left: Flowable, right: Flowable) -> Flowable:
    """Put two things into two columns of one row, which share their upper edge."""
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("ALIGN", (1, 0), (1, 0), "RIGHT"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 6 * mm),
    ]
    return Table([[left, right]], [WIDTH / 2, WIDTH / 2], style=style)


def columns(sides: Sequence[Sequence[Flowable]], widths: Sequence[float]) -> Flowable:
    """Set lists of things beside each other, flush with the left edges of their columns.

    Args:
        sides: What stands below each other in each column.
        widths: Of the columns, in points, with the white to the right of them.
    """
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3 * mm),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
    ]
    return Table([[list(side) for side in sides]], widths, style=style, hAlign="LEFT")


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[Flowable]],
    widths: Sequence[float],
    *,
    right: Sequence[int] = (),
    width: float = WIDTH,
) -> Flowable:
    """Set rows under titles that come again on each page.

    Args:
        titles: One for each column; none at all leaves the row of titles out.
        rows: Cells as `paragraph` makes them.
        widths: Shares of the width, which add up to 1.
        right: Columns whose titles stand on the right, as numbers do.
        width: Of the whole, in points.
    """
    head = [
        paragraph(title, "column-right" if column in right else "column")
        for column, title in enumerate(titles)
    ]
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (0, -1), 0),
        ("LEFTPADDING", (1, 0), (-1, -1), 5),
        ("RIGHTPADDING", (0, 0), (-2, -1), 5),
        ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 1.8),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.2),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(INK.line)),
    ]
    return Table(
        [*([head] if head else []), *rows],
        [share * width for share in widths],
        style=style,
        repeatRows=1 if head else 0,
        hAlign="LEFT",
        splitInRow=1,  # else a cell higher than a page could not be set at all
    )


def room_left(story: Sequence[Flowable]) -> float:
    """Return the height in points that a story leaves free on one page; less than 0 when none."""
    spaces = sum(one.getSpaceBefore() + one.getSpaceAfter() for one in story)
    return float(PAGE - spaces - sum(one.wrap(WIDTH, PAGE)[1] for one in story))


def one_page(story: Sequence[Flowable]) -> Flowable:
    """Put a story on one page; what is too much for it is set smaller."""
    return KeepInFrame(WIDTH, PAGE, list(story), mode="shrink")


def print_pages(
    story: Callable[[], list[Flowable]], *, title: str, subject: str, foot: tuple[str, str]
) -> bytes:
    """Set a story on A4 pages, the same bytes for the same story.

    Args:
        story: Makes what is to be set; asked twice, for how many pages there are is known
            only at the end.
        title: Of the document.
        subject: What it is about, in a few words.
        foot: Two lines below each page; the first is followed by the number of the page.
    """
    pages = _print(story(), title, subject, foot, 0)[1]
    return _print(story(), title, subject, foot, pages)[0]


def _print(
    story: list[Flowable], title: str, subject: str, foot: tuple[str, str], pages: int
) -> tuple[bytes, int]:
    """Return the document and how many pages it has."""
    buffer = BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=MARGIN - 6,  # a frame pads what it holds by 6 points
        rightMargin=MARGIN - 6,
        topMargin=MARGIN,
        bottomMargin=FOOT,
        title=printable(title),
        subject=printable(subject),
        author="cxr_core",
        creator="cxr_core",
        lang="en-GB",
        invariant=1,  # no date, no random identifier
    )
    places = count()

    def draw_foot(canvas: Any, _: Any) -> None:
        _draw_foot(canvas, foot, pages)

    def mark(flowable: Flowable) -> None:
        _add_to_outline(document.canv, flowable, f"place-{next(places)}")

    document.afterFlowable = mark
    document.build(story, onFirstPage=draw_foot, onLaterPages=draw_foot)
    return buffer.getvalue(), document.page


def _draw_foot(canvas: Any, foot: tuple[str, str], pages: int) -> None:
    """Write the two lines of the foot, and which page of how many this is."""
    number = f"page {canvas.getPageNumber()} of {pages}"
    canvas.saveState()
    canvas.setStrokeColor(HexColor(INK.line))
    canvas.setLineWidth(0.6)
    canvas.line(MARGIN, FOOT - 4 * mm, A4[0] - MARGIN, FOOT - 4 * mm)
    canvas.setFillColor(HexColor(INK.muted))
    canvas.setFont(PLAIN, 7)
    room = WIDTH - canvas.stringWidth(number, PLAIN, 7) - 12
    canvas.drawString(MARGIN, FOOT - 8 * mm, _fitted(foot[0], room))
    canvas.drawRightString(A4[0] - MARGIN, FOOT - 8 * mm, number)
    canvas.drawString(MARGIN, FOOT - 11.5 * mm, _fitted(foot[1], WIDTH))
    canvas.restoreState()


def _fitted(words: str, room: float) -> str:
    """Shorten a line that is too long for its room, and show that something is missing."""
    kept = printable(words)[:400]
    if pdfmetrics.stringWidth(kept, PLAIN, 7) <= room:
        return kept
    while kept and pdfmetrics.stringWidth(f"{kept}…", PLAIN, 7) > room:
        kept = kept[:-1]
    return f"{kept}…"


def _add_to_outline(canvas: Any, flowable: Flowable, key: str) -> None:
    """Let a reader on a screen jump to the title, to each section and to each heading."""
    style = getattr(getattr(flowable, "style", None), "name", "")
    if style in OUTLINE:
        canvas.bookmarkPage(key)
        canvas.addOutlineEntry(flowable.getPlainText(), key, OUTLINE[style])
