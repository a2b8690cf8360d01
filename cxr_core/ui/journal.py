"""The site's records as the pages use them: what cannot be kept never stops a reading."""

from collections import defaultdict
from collections.abc import Mapping

import streamlit as st

from cxr_core import records
from cxr_core.errors import RecordsError
from cxr_core.records import Opinion, Read, Records

COMMENTED = "comment"  # beside the verdicts: that somebody wrote something
Remarks = Mapping[str, frozenset[str]]
"""By test film: the verdicts of its readers, and whether one of them wrote a comment."""


def wanted() -> bool:
    """Say whether the site keeps records."""
    return records.wanted()


def opened() -> Records | None:
    """Return the site's records; None when it keeps none.

    Raises:
        RecordsError: When they cannot be opened; the next call tries again.
    """
    return _open(records.default_url()) if wanted() else None


@st.cache_resource(max_entries=1, show_spinner=False)
def _open(url: str) -> Records:
    found = Records(url)
    found.retain_as_told()
    return found


def keep(*entries: Read | Opinion) -> str:
    """Keep entries, where the site keeps records; return why that failed, "" when it did not."""
    try:
        found = opened()
        if found is not None:
            found.add(*entries)
    except RecordsError as error:
        return str(error)
    return ""


def opinions(digest: str) -> list[Opinion]:
    """Return what readers said of a film; nothing where there are no records to ask."""
    try:
        found = opened()
        return found.opinions(digest) if found is not None else []
    except RecordsError:
        return []


def remarks(model: str) -> Remarks:
    """Return what readers said of the test films of a model; nothing without records."""
    try:
        found = opened()
        said = found.remarks(model) if found is not None else []
    except RecordsError:
        return {}
    kinds: dict[str, set[str]] = defaultdict(set)
    for film, verdict, commented in said:
        kinds[film] |= {verdict} if verdict else set()
        kinds[film] |= {COMMENTED} if commented else set()
    return {film: frozenset(found) for film, found in kinds.items() if found}
