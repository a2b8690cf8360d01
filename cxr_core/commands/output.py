"""What the commands share: progress on stderr, JSON on stdout, numbers in words."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from cxr_core.errors import ArgumentError

# argparse names the type of its subparsers only privately.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class ShownProgress:
    """Show progress on stderr: a line that rewrites itself, or a line now and then in a log."""

    def __init__(self) -> None:
        """Find out whether somebody watches."""
        self._live = sys.stderr.isatty()
        self._last = float("-inf")

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell how far it is; `what` is the stage."""
        now = time.monotonic()
        finished = done == total or "loss" in what
        if not finished and now - self._last < (0.1 if self._live else 15):
            return
        self._last = now
        end = "\n" if finished or not self._live else ""
        start = "\r\x1b[K" if self._live else ""
        print(f"{start}{what}: {done} of {total}", end=end, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one line of strict JSON."""
    # ASCII, so that no file name can break the stream.
    print(json.dumps(value, allow_nan=False), flush=True)


def tell_belonging(card: Any) -> None:
    """Say on stderr where a model's decisions and its weights do not belong together."""
    from cxr_core.local_check import belonging

    for sentence in belonging(card):
        print(sentence, file=sys.stderr)


def touch(path: Path) -> None:
    """Make sure that a file can be written, before the work that fills it.

    Raises:
        ArgumentError: When it cannot.
    """
    try:
        path.open("a").close()
    except OSError as error:
        raise ArgumentError(
            f"'{path}' cannot be written ({error.strerror}); name a file in a folder that exists."
        ) from error


def headline(label: Any) -> str:
    """Put a label's numbers with their 95 % intervals in a line."""
    named = {
        "AUROC": label.auroc,
        "sensitivity": label.sensitivity,
        "specificity": label.specificity,
        "accuracy": label.accuracy,
    }
    return ", ".join(
        f"{name} {item.value:.3f} ({item.low:.3f}-{item.high:.3f})"
        if item.low is not None
        else f"{name} {item.value:.3f}"
        for name, item in named.items()
        if item.value is not None
    )


def share(value: float | None) -> str:
    """Write a share, or that nobody knows it."""
    return "not known" if value is None else f"{value:.3f}"


def print_list(title: str, lines: Sequence[str], empty: str = "none") -> None:
    """Print how many there are, and the first five."""
    print(f"{title}: {len(lines) or empty}")
    for line in lines[:5]:
        print(f"  {line}")
    if len(lines) > 5:
        print(f"  and {len(lines) - 5} more (all of them with --json)")
