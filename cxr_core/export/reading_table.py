"""A reading as rows for a spreadsheet: one for each label, with all digits."""

import csv
from io import StringIO
from typing import Any

from cxr_core.export.reading_record import Finding, ReadingRecord
from cxr_core.wording import printable

FILM = ("film_sha256", "read_at", "model", "version", "gate", "mended")
ANSWER = ("label", "probability", "operating_point", "flag", "cannot_tell", "decision")
BAND = ("cannot_tell_from", "cannot_tell_to")
RECORD = ("test_films", "test_films_with_it")
SHARES = ("sensitivity", "specificity")
COLUMNS = (
    *(*FILM, *ANSWER, *BAND, *RECORD),
    *(f"{name}{end}" for name in SHARES for end in ("", "_low", "_high")),
    "headline",
)
# A spreadsheet takes a cell that begins so for a formula.
FORMULA = ("=", "+", "-", "@")


def reading_csv(record: ReadingRecord) -> bytes:
    """Write a reading, UTF-8; of a refused film one row without a label.

    A cell is empty where there is nothing to say. "headline" is the answer, or why there is none.
    """
    lines = StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in record.findings or (None,):
        writer.writerow(map(_safe, _row(record, one)))
    return lines.getvalue().encode()


def _row(record: ReadingRecord, one: Finding | None) -> list[Any]:
    film = [record.film.digest, record.at.isoformat(), record.card.name, record.card.version]
    film += [record.gate.verdict, " ".join(record.mended)]
    if one is None:
        return [*film, *[""] * (len(COLUMNS) - len(film) - 1), record.headline]
    answer, shares = one.answer, [getattr(one.record, name) for name in SHARES]
    said = [answer.label, answer.probability, answer.operating_point, answer.flag]
    said += [answer.cannot_tell, one.decision, *(one.band or (None, None))]
    test = [one.record.n, one.record.positives]
    test += [value for share in shares for value in (share.value, share.low, share.high)]
    return [*film, *said, *test, record.headline]


def _safe(cell: Any) -> Any:
    """Write words on one line, and so that no spreadsheet runs them."""
    if not isinstance(cell, str):
        return cell
    words = printable(cell)
    return f"'{words}" if words.lstrip().startswith(FORMULA) else words
