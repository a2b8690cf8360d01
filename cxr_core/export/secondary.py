"""What the reader saw as a picture for the archive: the film, its map, and words below them.

The words lie below the film, not on it, so that nothing of it is hidden. It is for looking at,
not for measuring: at most 2048 pixels a side, without the spacing of the original.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cxr_core import overlays
from cxr_core.export.filing import (
    CAPTURE,
    SERIES_DESCRIPTION,
    Filing,
    dicom_uid,
    encoded,
    filing,
)
from cxr_core.export.reading_record import ReadingRecord
from cxr_core.export.terms import LONGEST_NAME, one_line
from cxr_core.figures import PALETTES, colour_bar, font_file
from cxr_core.images import StudyReference
from cxr_core.images.dicom import MANUFACTURER
from cxr_core.wording import NOTICE, printable

SERIES = 9902
SIDE, NARROWEST = 2048, 640  # pixels
# Of the letters, as a share of the picture's width.
LETTERS = 1 / 48
BAR_INCHES = 2.6  # width of `figures.colour_bar`
INK = PALETTES["dark"]


def secondary_capture(record: ReadingRecord, reference: StudyReference | None = None) -> bytes:
    """Write what the reader saw as a DICOM file, the same for the same reading.

    Args:
        record: The reading. A map that was withheld is not in it, and so not drawn.
        reference: Of the DICOM file that was uploaded; None for any other picture, which gets a
            study of its own.

    Raises:
        ArgumentError: When the film was refused, or its header does not say where it belongs.
    """
    record.require_answer("a secondary capture")
    place = filing(record, reference)
    image = _image(record, place)
    place.put_on(image, record)
    image.DateOfSecondaryCapture = image.ContentDate
    image.TimeOfSecondaryCapture = image.ContentTime
    image.ConversionType = "WSD"  # from a workstation
    image.BodyPartExamined = "CHEST"
    image.DerivationDescription = one_line(_derivation(record), 1024)
    # Which side is which nobody was asked: a film may be mirrored.
    image.PatientOrientation = None
    if not place.synthetic:
        image.SourceImageSequence = [_source(place)]
    return encoded(image)


def picture(record: ReadingRecord) -> NDArray[np.uint8]:
    """Draw the film with its map, and the answer below: RGB, uint8 (h, w, 3)."""
    film = _film(record)
    lines = _lines(record, film.shape[1])
    below = _below(record, lines, film.shape[1])
    return np.concatenate([film, np.asarray(below)])


def _image(record: ReadingRecord, place: Filing) -> Any:
    """Make the data set of the picture."""
    from highdicom.sc import SCImage

    return SCImage(
        pixel_array=picture(record),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        study_instance_uid=place.elements["StudyInstanceUID"],
        series_instance_uid=dicom_uid(record, f"series of {CAPTURE}"),
        series_number=SERIES,
        sop_instance_uid=dicom_uid(record, CAPTURE),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=one_line(record.card.name, LONGEST_NAME),
        software_versions=one_line(record.card.version, LONGEST_NAME),
        series_description=SERIES_DESCRIPTION,
        specific_character_set="ISO_IR 192",
    )


def _source(place: Filing) -> Any:
    from pydicom import Dataset

    source = Dataset()
    source.ReferencedSOPClassUID = place.source["SOPClassUID"]
    source.ReferencedSOPInstanceUID = place.source["SOPInstanceUID"]
    return source


def _derivation(record: ReadingRecord) -> str:
    shown = f" with the map {record.shown.title}" if record.shown is not None else ""
    return f"Film{shown}, drawn for reading. {NOTICE}"


def _film(record: ReadingRecord) -> NDArray[np.uint8]:
    """Draw the film, no larger than a screen and no smaller than its words need."""
    grey = overlays.thumbnail(record.film.pixels, SIDE)
    height, width = grey.shape
    if width < NARROWEST:
        size = (NARROWEST, max(1, round(height * NARROWEST / width)))
        grey = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))
    if record.shown is not None:
        return record.shown.over(grey)
    return np.repeat(grey[..., None], 3, axis=2)


@dataclass(frozen=True)
class _Line:
    words: str
    colour: str
    bold: bool = False


def _lines(record: ReadingRecord, width: int) -> list[_Line]:
    """Choose what stands below the film, broken to its width."""
    model = f"{record.card.name}, version {record.card.version}, {record.at:%Y-%m-%d %H:%M %Z}"
    shown = record.shown.title if record.shown is not None else record.not_shown
    said = [_Line(record.headline, INK.text, bold=True)]
    said += [_Line(words, INK.muted) for words in (shown, *record.mended, model) if words]
    said.append(_Line(NOTICE, INK.flagged, bold=True))
    return [
        replace(line, words=part)
        for line in said
        for part in _broken(printable(line.words), _letters(width, line.bold), 0.96 * width)
    ]


def _broken(words: str, letters: Any, room: float) -> list[str]:
    """Break words into lines that fit into `room` pixels."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and letters.getlength(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _below(record: ReadingRecord, lines: Sequence[_Line], width: int) -> Image.Image:
    """Write the lines on the dark, and what the colours of the map mean."""
    step, margin = round(1.5 * LETTERS * width), round(0.02 * width)
    bar = _bar(record, width)
    top = margin + (bar.height + margin if bar is not None else 0)
    paper = Image.new("RGB", (width, top + step * len(lines) + margin), INK.ground)
    if bar is not None:
        paper.paste(bar, (margin, margin), bar)
    pen = ImageDraw.Draw(paper)
    for number, line in enumerate(lines):
        place = (margin, top + number * step)
        pen.text(place, line.words, line.colour, _letters(width, line.bold))
    return paper


def _bar(record: ReadingRecord, width: int) -> Image.Image | None:
    """Draw the bar of the map's colours, two fifths of the width; None without a map."""
    if record.shown is None:
        return None
    dots = round(0.4 * width / BAR_INCHES)
    return Image.open(BytesIO(colour_bar(record.shown.found.signed, "dark", dots)))


def _letters(width: int, bold: bool) -> Any:
    return ImageFont.truetype(font_file(bold), max(12, round(LETTERS * width)))
