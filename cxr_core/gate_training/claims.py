"""What a gate's card and record say in words, with every count taken from what was dealt.

Only what holds of every training stands here. What happened to one network, such as an
earlier scoring, is written into its own card and record by hand.
"""

from collections.abc import Mapping
from pathlib import Path

from cxr_core.gate_training.films import CHILDREN, MISFILED, Collection
from cxr_core.gate_training.fit import BETWEEN, CUT, FILM_WINDOWS, ONE_SIDE
from cxr_core.gate_training.record import FEW, FULL_SIZE, PICTURES, WRONGLY_TAGGED, Source


def limits(frontal: Mapping[str, Collection], others: Collection) -> tuple[str, ...]:
    """Say what the gate cannot do: sentences for its card."""
    return (
        *_few(others),
        "A mirrored film is told by the side of the heart: situs inversus looks alike, so that it "
        "is only a caution.",
        "It knows the kinds of pictures it was shown; one that nobody thought of may pass.",
        "Many films of which one side is cut away pass; the record has the rates by side. "
        f"Whether a chest is whole it learned from films of which {FILM_WINDOWS[CUT][1]:.0%} of "
        f"the area or less was left, or {ONE_SIDE[CUT][0]:.0%} of one side or more was cut away: "
        f"one with {ONE_SIDE[BETWEEN][0]:.0%} to {ONE_SIDE[BETWEEN][1]:.0%} of a side missing may "
        "pass or not.",
        "It looks within borders of one grey; borders with writing on them, or of two greys, are "
        "part of the picture to it.",
        f"Frontal films of {len(frontal.keys() - {CHILDREN})} collections trained it, and films "
        "of the same collections test it; the few DICOM files claim nothing for other hospitals.",
    )


def _few(others: Collection) -> tuple[str, ...]:
    """Name the kinds of pictures of which there are too few to claim anything."""
    folders = [film.file.partition("/")[0] for film in (*others.train, *others.test)]
    counts = {name: sum(map(folders.count, kinds)) for name, kinds in PICTURES.items()}
    told = [f"{count} {name}" for name, count in counts.items() if count < FEW]
    if not told:
        return ()
    return (f"At hand were only {' and '.join(told)}: of these kinds it claims nothing.",)


def protocol(data: Path, groups: Mapping[str, Source]) -> str:
    """Say how films and pictures were dealt and scored.

    Args:
        data: The folder of all data.
        groups: The frontal films that are scored, by group.
    """
    sentences = [
        "Frontal films: the test films of the shipped classifiers, and "
        f"{len(groups[FULL_SIZE])} pediatric films at hand at full size with all films of their "
        "patients, trained and chose nothing. Other pictures: dealt by file into thirds; the "
        "shipped network trained on two of them and is scored on the last; 'three deals' are "
        "three trainings, each scored on the third it left out. The limits come from frontal "
        "validation films, each training with its own. NIH films of patients under 18 years are "
        "dealt in thirds like the other pictures, by patient. Left out: trainings without any "
        "picture of that kind, scored on all of them. A file that cannot be read is counted as "
        "unreadable, apart from n.",
    ]
    if (data / "dicom" / WRONGLY_TAGGED).is_file():
        sentences.append(
            f"{WRONGLY_TAGGED} is in no group: its header says MONOCHROME1 of a film that is "
            "MONOCHROME2, so that it is read inverted, and refused for that as it should be."
        )
    misfiled = [name for name in sorted(MISFILED) if (data / "not_chest_xray" / name).is_file()]
    if misfiled:
        sentences.append(f"Taken out, for it is a chest film: {', '.join(misfiled)}.")
    return " ".join(sentences)
