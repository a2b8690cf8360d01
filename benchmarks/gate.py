"""What the gate does to films that nobody trained on, and what it costs for each film.

The rates come from the record that `python -m cxr_core train gate` wrote when it scored them,
what it cannot do from the gate's card; the time is measured here.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.speed import jpeg, timed
from cxr_core.cards import list_models, load_card, model_folder
from cxr_core.classifier import load_classifier
from cxr_core.gate import check
from cxr_core.images import Radiograph, read_radiograph
from cxr_core.phantom import sample_film
from cxr_core.preprocess import prepare

# What the record should show: of these groups, at most or at least so large a share.
WANTED = {
    ("refused", "frontal"): "<= 1 %",
    ("refused", "other"): ">= 97 %",
    ("refused", "fault"): ">= 98 %",
}
FRONTAL = ("pediatric", "NIH", "COVID", "DICOM", "computer-made", "films in even black")
# Parts of which little is missing may pass: nothing is wanted of them.
EITHER = "films without their lowest fifth"
FAULTS = ("turned", "upside down", "inverted")
CEILING_MS, CEILING_SHARE = 15, 0.30


def measure(data: Path) -> str | None:
    """Write the record's rates as a table, and measure the time; None without a gate."""
    folder = model_folder("gate")
    record = json.loads((folder / "evaluation.json").read_text("utf-8"))
    card = load_card("gate", kind="gate")
    dates = ", ".join(f"{one['date']} ({one['why']})" for one in record["scorings"])
    return "\n".join(
        [
            f"Gate {card.version}. Scored: {dates}. {record['protocol']}",
            "",
            "| pictures | network | counted | n | share (95 % interval) | wanted |",
            "|---|---|---|---:|---:|---:|",
            *(_row(rate) for rate in record["rates"]),
            "",
            "| frontal chest films against everything else, by the network alone | films | others "
            "| AUROC (95 % interval) | wanted |",
            "|---|---:|---:|---:|---:|",
            *(_area(area) for area in record["areas"]),
            "",
            "What it cannot do, by its card:",
            "",
            *(f"- {limit}" for limit in card.limits),
            "",
            *cost(),
        ]
    )


def _row(rate: dict[str, Any]) -> str:
    unread = f", {rate['unreadable']} unreadable" if rate["unreadable"] else ""
    cells = [rate["group"], rate["network"], rate["asked"], f"{rate['n']}{unread}"]
    if rate["note"]:
        return f"| {' | '.join(cells)} | {rate['count']} of {rate['n']}: {rate['note']} | |"
    told = f"{rate['share']:.1%} ({rate['low']:.1%}-{rate['high']:.1%})"
    return f"| {' | '.join(cells)} | {told} | {_wanted(rate)} |"


def _wanted(rate: dict[str, Any]) -> str:
    if rate["asked"] != "refused" or rate["group"] == EITHER:
        return ""
    kind = "other"
    if rate["group"].startswith(FRONTAL):
        kind = "frontal"
    elif rate["group"].startswith(FAULTS):
        kind = "fault"
    return WANTED["refused", kind]


def _area(area: dict[str, Any]) -> str:
    told = f"{area['auroc']:.4f} ({area['low']:.4f}-{area['high']:.4f})"
    return f"| {area['network']} | {area['films']} | {area['others']} | {told} | >= 0.995 |"


def cost() -> list[str]:
    """Time the whole gate on a small and a large film against the quickest shipped model."""
    films = {"256 x 224 px": _small(), "1,800 px wide": read_radiograph(jpeg())}
    card = load_card("pediatric-pneumonia")
    quickest, forward = _quickest_model(films["256 x 224 px"])
    rows = [
        "| time of the gate for one film | ms | over one forward pass of "
        f"{quickest} ({forward:.1f} ms) | wanted |",
        "|---|---:|---:|---:|",
    ]
    taken = timed({name: lambda film=film: check(film, card) for name, film in films.items()})
    for name, seconds in taken.items():
        ms = 1e3 * seconds
        limit = max(CEILING_MS, CEILING_SHARE * forward)
        rows.append(f"| {name} | {ms:.1f} | {ms / forward:.2f} | <= {limit:.0f} ms |")
    return rows


def _small() -> Radiograph:
    film = sample_film()
    pixels = film.pixels[::4, ::4].copy()
    return Radiograph(pixels, film.facts, film.digest)


def _quickest_model(film: Radiograph) -> tuple[str, float]:
    """Find the shipped model whose forward pass takes least: name and milliseconds."""
    tasks = {}
    for card in list_models():
        if not (model_folder(card.name) / "model.keras").is_file():
            continue
        classifier = load_classifier(card.name)
        pixels = prepare(film, card.preprocessing).pixels[None]
        tasks[card.name] = lambda c=classifier, x=pixels: c.forward(x)
    taken = timed(tasks)
    name = min(taken, key=taken.__getitem__)
    return name, 1e3 * taken[name]
