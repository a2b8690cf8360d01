"""Labels as codes that other systems know.

SNOMED CT where it has the very finding that a label names (DICOM PS3.16 and the HL7 patient
summary use these codes), else 99CXR, our own: "Hernia" does not say of what, "No Finding" means
none of one model's labels, and for thickening of the pleura no code could be confirmed.
"""

import re
from dataclasses import dataclass
from hashlib import sha256

from cxr_core.wording import spoken

SNOMED, PRIVATE = "SCT", "99CXR"
PRIVATE_NAME = "cxr_core, a second opinion on chest radiographs"
LONGEST_NAME = 64  # of a name or a meaning in DICOM (PS3.5, LO)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.()+ -]{0,63}")


@dataclass(frozen=True)
class Term:
    """One coded concept.

    Attributes:
        value: Its code.
        scheme: Whose code, as DICOM designates it.
        meaning: In words, at most 64 characters.
    """

    value: str
    scheme: str
    meaning: str


_SNOMED = {
    "abnormal": ("408574004", "Imaging result abnormal"),
    "atelectasis": ("46621007", "Atelectasis"),
    "bacterial pneumonia": ("53084003", "Bacterial pneumonia"),
    "cardiomegaly": ("8186001", "Cardiomegaly"),
    "consolidation": ("95436008", "Lung consolidation"),
    "covid-19": ("840539006", "COVID-19"),
    "edema": ("19242006", "Pulmonary edema"),
    "effusion": ("60046008", "Pleural effusion"),
    "emphysema": ("87433001", "Pulmonary emphysema"),
    "fibrosis": ("51615001", "Fibrosis of lung"),
    "infiltration": ("409609008", "Radiologic infiltrate of lung"),
    "mass": ("309529002", "Lung mass"),
    "nodule": ("786838002", "Nodule of lung"),
    "normal": ("408573005", "Imaging result normal"),
    "pneumonia": ("233604007", "Pneumonia"),
    "pneumothorax": ("36118008", "Pneumothorax"),
    "viral pneumonia": ("75570004", "Viral pneumonia"),
}
OPERATING_POINT = Term("operating-point", PRIVATE, "Operating point")
CANNOT_TELL = Term("cannot-tell", PRIVATE, "Cannot tell")


def term_of(label: str) -> Term:
    """Return the code of a label; a private one where no terminology has the very finding."""
    known = _SNOMED.get(label.replace("_", " ").lower())
    if known is not None:
        return Term(known[0], SNOMED, known[1])
    # A code may hold no backslash and few characters; a label of a user's own folder anything.
    plain = _PLAIN.fullmatch(label)
    value = label if plain else sha256(label.encode("utf-8", "replace")).hexdigest()[:16]
    return Term(value, PRIVATE, one_line(spoken(label), LONGEST_NAME) or value)


def one_line(words: str, most: int) -> str:
    """Make words fit an element of DICOM: no control character, no backslash, no blank at the end.

    Args:
        words: Any text.
        most: Characters that are kept.
    """
    shown = (letter if letter.isprintable() and letter != "\\" else " " for letter in words)
    return "".join(shown).strip()[:most].rstrip()
