"""The site's records as the pages use them: what cannot be kept never stops a reading."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

import streamlit as st

from cxr_core import records
from cxr_core.errors import ArgumentError, RecordsError
from cxr_core.records import Event, Opinion, Read, films
from cxr_core.records.settings import DAYS

if TYPE_CHECKING:  # the first page does not wait for SQLAlchemy
    from cxr_core.records import Records

COMMENTED = "comment"  # beside the verdicts: that somebody wrote something
Remarks = Mapping[str, frozenset[str]]
"""By test film: the verdicts of its readers, and whether one of them wrote a comment."""


def wanted() -> bool:
    """Say whether the site keeps records."""
    return records.wanted()


def opened() -> "Records | None":
    """Return the site's records; None when it keeps none.

    Raises:
        RecordsError: When they cannot be opened, or the site's retention time is wrong or cannot
            be kept to; the next call tries again.
    """
    if wanted():
        return _open(records.default_url(), _today())
    if films.stored_at_all():
        _forget_films(_today())
    return None


def _today() -> date:
    return date.today()


@st.cache_resource(max_entries=1, show_spinner=False)
def _open(url: str, day: date) -> "Records":
    """Open the records, each day anew: a server runs for months, and rows leave by their age."""
    found = records.Records(url)
    try:
        found.retain_as_told()
    except ArgumentError as error:  # how long is not known: nothing is kept, and reading goes on
        raise RecordsError(
            f"Nothing is recorded, since the environment variable {DAYS} is wrong. {error} Mend "
            "it, and start the app again."
        ) from error
    return found


@st.cache_resource(max_entries=1, show_spinner=False)
def _forget_films(day: date) -> None:
    """Forget stored films by their age where no journal would, each day anew."""
    try:
        days = records.days_wanted()
    except ArgumentError as error:
        raise RecordsError(
            f"No film is stored, since the environment variable {DAYS} is wrong. {error} Mend it, "
            "and start the app again."
        ) from error
    if days is not None:
        films.forget_older(days)


def keep(*entries: Read | Opinion | Event) -> str:
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


def revealed(digest: str, model: str, reader: str) -> bool:
    """Say whether a model's answer on a film stood before a reader; no without records."""
    try:
        found = opened()
        events = found.events(digest) if found is not None else []
    except RecordsError:
        return False
    told = ("revealed", model, reader)
    return any((one.what, one.model, one.reader) == told for one in events)


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


def listed(most: int, days: float | None) -> list[Event]:
    """Return the newest films on the list, as `Records.listed`; none without records."""
    try:
        found = opened()
        return found.listed(most, days) if found is not None else []
    except RecordsError:
        return []


def standing() -> int:
    """Count all films on the list, however old; none without records."""
    try:
        found = opened()
        return found.standing() if found is not None else 0
    except RecordsError:
        return 0


def known_of(
    digests: Sequence[str], model: str, version: str
) -> tuple[Mapping[str, Read], Mapping[str, str]]:
    """Return a model's answers on films as they came, and when readers looked at them, by digest.

    Both are empty where there are no records to ask.
    """
    try:
        found = opened()
        if found is not None:
            return found.latest(model, version, digests), found.looked_at(digests)
    except RecordsError:
        pass
    return {}, {}


def answer(digest: str, model: str, version: str) -> Read | None:
    """Return a model's answer on a film as it came; None when there is none, or nobody knows."""
    return known_of([digest], model, version)[0].get(digest)


def cleared() -> frozenset[str]:
    """Return which films were taken off the worklist; none where there are no records to ask."""
    try:
        found = opened()
        return found.cleared() if found is not None else frozenset()
    except RecordsError:
        return frozenset()


def said_of(model: str) -> list[Opinion]:
    """Return what readers said with a model, oldest first; nothing without records.

    Raises:
        RecordsError: When they cannot be read.
    """
    found = opened()
    return found.opinions(model=model) if found is not None else []


def first(opinions: Sequence[Opinion]) -> list[Opinion]:
    """Return what each reader first said of a finding of a film before the answer was shown.

    Who reads a film again has seen the answer, so that later ones do not count.
    """
    firsts: dict[tuple[str, str, str], Opinion] = {}
    for one in opinions:
        if one.before:
            firsts.setdefault((one.digest, one.label, one.reader), one)
    return list(firsts.values())
