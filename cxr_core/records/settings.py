"""What a site says of its records, in variables of the environment; no database is needed here."""

import os
from pathlib import Path

from cxr_core.errors import ArgumentError

ENVIRONMENT, OFF = "CXR_RECORDS", "off"
DAYS, NAMES = "CXR_RECORDS_DAYS", "CXR_RECORDS_NAMES"
MOST_DAYS = 36_525  # a hundred years


def default_url() -> str:
    """Return where records are kept: as CXR_RECORDS says, else in the user's data folder."""
    told = os.environ.get(ENVIRONMENT, "")
    if told and told != OFF:
        return told
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return f"sqlite:///{home / 'cxr_core' / 'records.sqlite'}"


def wanted() -> bool:
    """Say whether the site keeps records at all."""
    return os.environ.get(ENVIRONMENT, "") != OFF


def names_wanted() -> bool:
    """Say whether the site keeps the names of files."""
    return os.environ.get(NAMES, "") == "1"


def days_wanted() -> float | None:
    """Return how long the site keeps records and films, as CXR_RECORDS_DAYS says; None for ever.

    Raises:
        ArgumentError: When it is no number of days.
    """
    told = os.environ.get(DAYS, "")
    if not told:
        return None
    try:
        days = float(told)
    except ValueError:
        days = float("nan")
    check_days(days)
    return days


def check_days(days: float) -> None:
    """Check a retention time.

    Raises:
        ArgumentError: When it is negative, or longer than anybody lives.
    """
    if not 0 <= days <= MOST_DAYS:
        raise ArgumentError(f"Records are kept for 0 to {MOST_DAYS:,} days, but {days} came.")
