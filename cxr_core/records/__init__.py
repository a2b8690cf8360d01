"""What was read, what the models answered, and what the reader made of it: a journal.

Rows are only ever added: a trigger of the database refuses to change one. They leave by the
retention time of the site (CXR_RECORDS_DAYS, looked at when the journal is opened), or when
somebody asks that a film be forgotten (`python -m cxr_core records erase`), and then the
journal says so. It holds digests of files, never a film, an age or an identifier; the name of
a file only where the site says so (CXR_RECORDS_NAMES=1). A comment is what the reader wrote,
and test films go by the names of the model's own record.

SQLite in one file by default, or any database that SQLAlchemy knows, by its URL in
CXR_RECORDS ("off" keeps nothing). A write is committed before the call returns, so that a
crash loses nothing that was reported as kept; several processes may write at once. Films
themselves are stored only in a folder that the site names, without what their headers say of
the patient (`films`).
"""

from typing import TYPE_CHECKING, Any

from cxr_core.records.entries import (
    CONFIDENCES,
    MOST_CHARACTERS,
    STANCES,
    VERDICTS,
    Event,
    Opinion,
    Read,
    Stance,
    Verdict,
)
from cxr_core.records.settings import (
    MOST_DAYS,
    days_wanted,
    default_url,
    names_wanted,
    wanted,
)

if TYPE_CHECKING:
    from cxr_core.records.journal import Records

__all__ = [
    "CONFIDENCES",
    "MOST_CHARACTERS",
    "MOST_DAYS",
    "STANCES",
    "VERDICTS",
    "Event",
    "Opinion",
    "Read",
    "Records",
    "Stance",
    "Verdict",
    "days_wanted",
    "default_url",
    "names_wanted",
    "wanted",
]


def __getattr__(name: str) -> Any:
    """Load the journal, and with it SQLAlchemy, when somebody opens one: it takes a moment."""
    if name == "Records":
        from cxr_core.records.journal import Records

        return Records
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
