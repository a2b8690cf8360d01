"""What a radiograph is, and the limits that every file has to keep."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import ImageTooLarge, ImageTooSmall, UnreadableImage

MAX_BYTES = 256 * 2**20  # of one file; a 16-bit film of 60 MP uncompressed has half of that
MAX_PIXELS = 100_000_000  # the largest digitised film plates have about 25 MP
MIN_SIDE = 16  # pixels
MIN_CONTRAST = 1.5 / 255  # spread of [0, 1] below which a film shows nothing: one grey step
MAX_AGE_YEARS = 130.0  # ages beyond are typing errors (the NIH set has patients of 414)


@dataclass(frozen=True)
class Facts:
    """What the file says about its film; never who the patient is.

    Attributes:
        format: "PNG", "JPEG", "TIFF", "BMP" or "DICOM".
        bits: Depth that the film was kept at.
        photometric_interpretation: As in the file; grey rasters are "MONOCHROME2",
            or "MONOCHROME1" where a TIFF says that white is zero.
        window: Centre and width from the header that were applied, if any.
        view: "PA", "AP", "LL", ..., where the header says so.
        age_years: Age when the film was taken.
        sex: "F", "M" or "O".
        body_part: Body part examined, upper case.
        modality: "CR", "DX", ...
        pixel_spacing_mm: Between rows and between columns.
        spacing_at: Where that spacing holds: at the "detector", as a film was "scanned", in the
            "patient" (corrected for magnification), or "unknown"; None without spacing.
        windows: The header's windows, each a name (may be empty) and the pixels' values that
            become black and white; only those that lie within the first, which was applied.
        colourfulness: Mean over pixels of the largest minus the smallest channel, in
            [0, 1]; 0 for grey.
    """

    format: str
    bits: int
    photometric_interpretation: str
    window: tuple[float, float] | None = None
    view: str | None = None
    age_years: float | None = None
    sex: str | None = None
    body_part: str | None = None
    modality: str | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    spacing_at: str | None = None
    windows: tuple[tuple[str, float, float], ...] = ()
    colourfulness: float = 0.0


@dataclass(frozen=True)
class Radiograph:
    """One film.

    Attributes:
        pixels: float32 (H, W) in [0, 1], 0 = air-black, 1 = bone-white, read-only.
        facts: What the file says about the film.
        digest: SHA-256 of the file's bytes, in hexadecimal.
    """

    pixels: NDArray[np.float32]
    facts: Facts
    digest: str


@dataclass(frozen=True, repr=False)
class StudyReference:
    """Whose film it is, kept apart from the film; empty where the header is silent.

    It belongs to one reader's session; only exports, and what finds a patient's films among those
    of that session (`prior`), take it. Printed it shows nothing, so that no log or traceback can
    name a patient.

    Attributes are the elements of the header, as text (DICOM PS3.3 C.7.1.1, C.7.2.1, C.12.1).
    """

    patient_id: str
    patient_name: str
    study_uid: str
    series_uid: str
    sop_uid: str
    study_date: str
    study_time: str = ""
    study_id: str = ""
    accession_number: str = ""
    referring_physician: str = ""
    birth_date: str = ""
    sex: str = ""
    sop_class_uid: str = ""
    issuer: str = ""


def check_bytes(count: int) -> None:
    """Refuse files that are empty or too large to be one film."""
    if count == 0:
        raise UnreadableImage("The file is empty; export or copy it again.")
    if count > MAX_BYTES:
        raise ImageTooLarge(
            f"The file has {count / 2**20:.0f} MB, the limit is {MAX_BYTES // 2**20} MB; "
            "export a single film, compressed or at lower resolution."
        )


def check_size(height: int, width: int, frames: int) -> None:
    """Refuse what must not be decoded; called on the header alone."""
    if frames > 1:
        raise ImageTooLarge(
            f"The file holds {frames} frames or pages, and one film is read at a time; "
            "export each one to its own file."
        )
    if height * width > MAX_PIXELS:
        raise ImageTooLarge(
            f"The film has {width} x {height} pixels, the limit is {MAX_PIXELS // 10**6} "
            "million; export it at lower resolution."
        )
    if min(height, width) < MIN_SIDE:
        raise ImageTooSmall(
            f"The film has {width} x {height} pixels, at least {MIN_SIDE} x {MIN_SIDE} are "
            "needed; export the original rather than a thumbnail."
        )


def check_contrast(pixels: NDArray[np.float32]) -> None:
    """Refuse films whose pixels are all alike."""
    glance = pixels[::16, ::16]  # nearly every film shows its contrast there already
    if float(glance.max()) - float(glance.min()) >= MIN_CONTRAST:
        return
    if float(pixels.max()) - float(pixels.min()) < MIN_CONTRAST:
        raise ImageTooSmall(
            f"The film has no contrast: all of its pixels are as bright as {pixels.max():.2f}; "
            "check the exposure or the export."
        )


def needed_bits(largest: int) -> int:
    """Count the bits that the largest value of a film needs, at least 8."""
    return max(8, largest.bit_length())
