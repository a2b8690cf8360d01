"""Where the bound comes from below which a map is withheld: agreement on validation films."""

from pathlib import Path

from cxr_core.cards import load_card
from cxr_core.classifier import load_classifier
from cxr_core.faithfulness.withholding import bound, measure_agreement

# The models of our own and the films that they learned from; replicas have no say.
MODELS = {
    "pediatric-pneumonia": "pediatric_pneumonia",
    "pediatric-type": "pediatric_pneumonia",
    "adult-abnormality": "nih_chestxray14",
    "adult-findings": "nih_chestxray14",
    "covid-radiography": "covid_radiography",
}


def measure(data: Path) -> str | None:
    """Measure each model on its flagged validation films, and apply the rule."""
    if not all((data / folder).is_dir() for folder in MODELS.values()):
        return None
    lines = [
        "| model | flagged films | compared | 5th percentile | median | below the bound |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    found = {
        name: measure_agreement(load_classifier(name), data / folder)
        for name, folder in MODELS.items()
    }
    least = bound(each.fifth for each in found.values())
    for name, each in found.items():
        below = sum(value < least for value in each.values)
        lines.append(
            f"| {name} {load_card(name).version} | {each.films} | {len(each.values)} | "
            f"{each.fifth:.2f} | {each.median:.2f} | {below} |"
        )
    lines.append(f"| **Bound**: the largest 5th percentile, rounded down | | | {least:.1f} | | |")
    return "\n".join(lines)
