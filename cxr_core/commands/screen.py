"""`screen`: answer an archive."""

import argparse
import time
from pathlib import Path
from typing import Any

from cxr_core.commands.output import Commands, ShownProgress, tell_belonging
from cxr_core.errors import ArgumentError


def add_screen(commands: Commands) -> None:
    """Add `screen`."""
    command = commands.add_parser("screen", help="answer an archive, as Parquet")
    command.add_argument("films", nargs="+", metavar="FOLDER|GLOB|@LIST")
    command.add_argument("--model", required=True)
    command.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.parquet")
    command.add_argument("--contours", action="store_true", help="outline what was flagged")
    command.add_argument("--engine", choices=("local", "ray"), default="local")
    command.add_argument("--address", help="of the Ray cluster")
    command.set_defaults(run=_screen)


def _screen(options: argparse.Namespace) -> None:
    if (options.engine == "ray") != (options.address is not None):
        raise ArgumentError("--engine ray and --address go together; give both, or neither.")
    from cxr_core.cards import load_card
    from cxr_core.screening.cluster import on_cluster
    from cxr_core.screening.job import here, job_of, screen_archive

    job = job_of(options.model, options.films, contours=options.contours)
    tell_belonging(load_card(options.model))
    engine = on_cluster(job, options.address) if options.address else here(job)
    told = screen_archive(job, options.output, engine, _Pace())
    print(f"{_in_words(told)} Wrote {options.output}")


def _in_words(told: Any) -> str:
    """Say in a line what became of the films."""
    copies = f"; {told.duplicates:,} are copies of another" if told.duplicates else ""
    return (
        f"{told.films:,} films: {told.answered:,} answered, {told.flagged:,} of them with a flag; "
        f"{told.refused:,} refused; {told.unread:,} not read{copies}."
    )


class _Pace:
    """Progress with films a second and the time left; what was done before does not count."""

    def __init__(self) -> None:
        """Wait for the first call, from which the time counts."""
        self._show = ShownProgress()
        self._began: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Tell how far it is."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
        seconds, films = now - self._began[0], done - self._began[1]
        pace = ""
        if films and seconds:
            left = f"{_duration((total - done) * seconds / films)} left"
            when = left if done < total else f"in {_duration(seconds)}"
            pace = f" ({films / seconds:.3g} a second, {when})"
        self._show(f"Films{pace}", done, total)


def _duration(seconds: float) -> str:
    """Write a time as people say it: 8 s, 3 min, 5 h 20 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"
