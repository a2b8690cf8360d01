"""DICOM to a film and to the facts that may leave; identifiers stay apart."""

import re
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_core.images import film
from cxr_core.images.film import MAX_AGE_YEARS, Facts, check_bytes
from cxr_core.images.grey import grey_table, named_windows
from cxr_core.images.header import BIG_ENDIAN, DEFLATED, GREY, NATIVE, read_header, word
from cxr_core.images.pixels import read_codes, read_colour
from cxr_core.images.raster import luminance

MANUFACTURER = "cxr_core"  # what DICOM files that are written here say of their maker
# Only these are parsed: identifiers are not even read, so that none can leave.
_PICTURE = (
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns "
    "BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue "
    "PixelPaddingRangeLimit RescaleSlope RescaleIntercept ModalityLUTSequence WindowCenter "
    "WindowWidth WindowCenterWidthExplanation VOILUTFunction VOILUTSequence PixelData "
    "RedPaletteColorLookupTableDescriptor "
    "GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor "
    "RedPaletteColorLookupTableData GreenPaletteColorLookupTableData "
    "BluePaletteColorLookupTableData"
)
_FACTS = (
    "PatientAge PatientSex ViewPosition ViewCodeSequence BodyPartExamined Modality "
    "ImagerPixelSpacing PixelSpacing PixelSpacingCalibrationType NominalScannedPixelSpacing"
)
# In the order of the fields of `film.StudyReference`.
IDENTIFIERS = (
    "PatientID PatientName StudyInstanceUID SeriesInstanceUID SOPInstanceUID StudyDate StudyTime "
    "StudyID AccessionNumber ReferringPhysicianName PatientBirthDate PatientSex SOPClassUID "
    "IssuerOfPatientID"
)


def dicom_dataset(data: bytes, names: str) -> tuple[Any, str]:
    """Parse the elements named in `names`, and no others.

    Returns:
        The pydicom data set (it stays inside this module), and its transfer syntax.
    """
    from pydicom import config, dcmread
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.tag import Tag

    # pydicom would warn of every odd value in the header ('62' for an age). What we use we
    # check ourselves. A setting, because warnings.catch_warnings is not safe in threads.
    config.settings.reading_validation_mode = config.IGNORE
    stream = BytesIO(data)
    read_preamble(stream, force=True)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    syntax = str(meta.get("TransferSyntaxUID") or "")
    if syntax != DEFLATED:
        dataset = dcmread(BytesIO(data), force=True, specific_tags=names.split())
        if not syntax:  # no file meta: pydicom has found out how numbers are written
            syntax = NATIVE[1] if dataset.original_encoding[1] else BIG_ENDIAN
        return dataset, syntax
    # Inflated here, because pydicom would inflate without a limit.
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflate.decompress(data[stream.tell() :], film.MAX_BYTES)
    if inflate.unconsumed_tail:
        check_bytes(film.MAX_BYTES + 1)
    tags = [Tag(name) for name in names.split()]
    return read_dataset(BytesIO(body), False, True, specific_tags=tags), syntax


def is_dicom(data: bytes) -> bool:
    """Tell DICOM by its prefix, or, where preamble or file meta are missing, by its first tag.

    Such files start with group 0002 or 0008, little or big endian, and then either with
    two letters (explicit VR) or with a length that lies inside the file (implicit VR).
    """
    if data[128:132] == b"DICM":
        return True
    if len(data) < 132 or data[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08"):
        return False
    explicit = re.fullmatch(rb"AE|AS|CS|DA|DT|LO|OB|PN|SH|SQ|ST|TM|UI|UL|UN|US", data[4:6])
    inside = data[1] == 0 and int.from_bytes(data[4:8], "little") < min(len(data), 4096)
    return bool(explicit) or inside


def read_dicom(data: bytes) -> tuple[NDArray[np.float32], Facts]:
    """Decode a DICOM film into float32 (H, W) in [0, 1]."""
    dataset, syntax = dicom_dataset(data, f"{_PICTURE} {_FACTS}")
    header = read_header(dataset, syntax)
    known = _header_facts(dataset)
    if header.photometric not in GREY:
        pixels, colourfulness = luminance(Image.fromarray(read_colour(dataset, header)))
        facts = Facts("DICOM", 8, header.photometric, colourfulness=colourfulness, **known)
        return pixels, facts
    codes = read_codes(dataset, header)
    table, window = grey_table(dataset, header, codes)
    if window is not None:
        known["windows"] = named_windows(dataset, header.photometric)
    return table[codes], Facts("DICOM", header.stored, header.photometric, window, **known)


# View codes of DICOM PS3.16 CID 4010, in SNOMED CT and in the older SRT codes.
_VIEW_CODES = {
    "399348003": "AP",
    "R-10206": "AP",
    "272479007": "PA",
    "R-10214": "PA",
    "399173006": "LL",
    "R-10236": "LL",
    "399198007": "RL",
    "R-10232": "RL",
}


def _header_facts(dataset: Any) -> dict[str, Any]:
    """Collect the facts that may leave; what is absent or ill-formed is None."""
    sex = word(dataset, "PatientSex")
    spacing, spacing_at = _spacing(dataset)
    view = word(dataset, "ViewPosition")
    codes = dataset.get("ViewCodeSequence")
    if view is None and codes:
        view = _VIEW_CODES.get(str(codes[0].get("CodeValue") or ""))
    return {
        "view": view,
        "age_years": _age(dataset),
        "sex": sex if sex in ("F", "M", "O") else None,
        "body_part": word(dataset, "BodyPartExamined"),
        "modality": word(dataset, "Modality"),
        "pixel_spacing_mm": spacing,
        "spacing_at": spacing_at,
    }


def _age(dataset: Any) -> float | None:
    """Read '045Y', '006M', '010W' or '003D' in years; so is a bare number, as NIH writes it."""
    text = str(dataset.get("PatientAge") or "").strip().upper()
    found = re.fullmatch(r"(\d{1,3})([YMWD]?)", text)
    if not found:
        return None
    years = int(found[1]) / {"M": 12, "W": 52.1775, "D": 365.2425}.get(found[2], 1)
    return years if years <= MAX_AGE_YEARS else None


def _spacing(dataset: Any) -> tuple[tuple[float, float] | None, str | None]:
    """Return millimetres between rows and between columns, and where they hold.

    Reference: DICOM PS3.3 10.7.1.1 to 10.7.1.3.
    """
    stated, detector, scanned = (
        _pair(dataset, name)
        for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    )
    if stated is None and detector is not None:
        return detector, "detector"
    if stated is None:
        return scanned, "scanned" if scanned else None
    if word(dataset, "PixelSpacingCalibrationType") in ("GEOMETRY", "FIDUCIAL"):
        return stated, "patient"
    for uncorrected, place in ((detector, "detector"), (scanned, "scanned")):
        if uncorrected is not None:
            alike = np.allclose(stated, uncorrected, rtol=1e-4)
            return stated, place if alike else "patient"
    return stated, "unknown"


def _pair(dataset: Any, name: str) -> tuple[float, float] | None:
    """Return two positive numbers; None for what is absent or ill-formed."""
    value = dataset.get(name)
    if value is None or isinstance(value, (str, float)) or len(value) != 2:
        return None
    row, column = float(value[0]), float(value[1])
    if np.isfinite(row) and np.isfinite(column) and min(row, column) > 0:
        return row, column
    return None
