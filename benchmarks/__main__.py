"""Measure, print, and write the tables of BENCHMARKS.md anew (between its markers)."""

import argparse
import os
import platform
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import (
    accuracy,
    adults,
    domains,
    familiarity,
    gate,
    peers,
    pretraining,
    prior,
    readers,
    runtime,
    screen,
    service,
    speed,
    training,
    viewer,
    withholding,
)

PAGE = Path(__file__).parents[1] / "BENCHMARKS.md"
SECTIONS = {
    "accuracy": accuracy.measure,
    "sources": accuracy.sources,
    "adults": adults.measure,
    "domains": domains.measure,
    "gate": gate.measure,
    "familiarity-ways": familiarity.compare,
    "familiarity": familiarity.measure,
    "withholding": withholding.measure,
    "prior": prior.measure,
    "baselines": accuracy.baselines,
    "speed": speed.measure,
    "runtime": runtime.measure,
    "screen": screen.measure,
    "service": service.measure,
    "peers": peers.measure,
    "readers": readers.measure,
    "training": training.measure,
    "viewer": viewer.measure,
    "pretraining": pretraining.measure,
}
# What depends on the machine.
MEASURED_HERE = {"speed", "runtime", "screen", "service", "peers", "readers", "training", "viewer"}
# Take half an hour and more: measured only when asked for by name.
SLOW = {"pretraining", "familiarity-ways"}


def machine() -> str:
    """Say what this was measured on."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"model name\s*: (.+)", info.read_text())
        name = match[1] if match else name
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}"


def write(section: str, table: str) -> None:
    """Replace what stands between the section's markers."""
    page = PAGE.read_text("utf-8")
    start, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    before, rest = page.split(start)
    after = rest.split(end)[1]
    PAGE.write_text(f"{before}{start}\n{table}\n{end}{after}", "utf-8")


def main() -> None:
    """Run the sections asked for, or all but the slow ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], metavar="SECTION")
    parser.add_argument("--data", type=Path, default=PAGE.parents[1] / "shared" / "data")
    options = parser.parse_args()
    for section in options.sections or [name for name in SECTIONS if name not in SLOW]:
        table = SECTIONS[section](options.data)
        if table is None:
            print(f"{section}: left as it is, the real films are not here ({options.data}).")
            continue
        if section in MEASURED_HERE:
            table = f"{machine()}.\n\n{table}"
        print(f"\n## {section}\n\n{table}")
        write(section, table)


main()
