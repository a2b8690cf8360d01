"""What a DICOM header says about its picture, checked before anything is decoded."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr_core.errors import UnreadableImage, UnsupportedImage
from cxr_core.images.film import check_size

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"

# Which pydicom plug-in decodes what. JPEG goes to Pillow, the most tested on hostile files;
# RLE to pydicom itself, because pylibjpeg panics on damaged runs (a BaseException).
PLUGINS_OF = {
    "1.2.840.10008.1.2.4.50": "pillow",
    _JPEG_EXTENDED: "pillow",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pydicom",
}

# Lossless JPEG and JPEG-LS, which only GDCM decodes here, in a process of its own.
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
COMPRESSED = (*PLUGINS_OF, *_JPEG_LOSSLESS, *JPEG_LS)
TRANSFER_SYNTAXES = (*NATIVE, DEFLATED, *COMPRESSED)
GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


@dataclass(frozen=True)
class Header:
    """The numbers that say how pixel data lies in its bytes."""

    syntax: str
    photometric: str
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool


def read_header(dataset: Any, syntax: str) -> Header:
    """Read the picture's numbers and refuse what cannot be read, before any decoding.

    Reference: DICOM PS3.3 C.7.6.3 (Image Pixel module).
    """
    photometric = str(dataset.get("PhotometricInterpretation") or "").strip().upper()[:16]
    if "Rows" not in dataset and "PixelData" not in dataset:
        kind = word(dataset, "Modality")
        if kind is None:
            raise UnreadableImage(
                "The DICOM file is cut short or has no picture; export or copy the film again."
            )
        raise UnsupportedImage(
            f"The DICOM file holds no picture (its modality is {kind}); choose the film itself."
        )
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    check_size(rows, columns, integer(dataset, "NumberOfFrames", 1))
    allocated = integer(dataset, "BitsAllocated")
    stored = integer(dataset, "BitsStored", allocated)
    header = Header(
        syntax,
        photometric,
        rows,
        columns,
        integer(dataset, "SamplesPerPixel", 1),
        allocated,
        stored,
        integer(dataset, "HighBit", stored - 1),
        integer(dataset, "PixelRepresentation", 0) == 1,
    )
    _check_header(header)
    if "PixelData" not in dataset:
        raise UnreadableImage(
            "The DICOM file ends before its pixel data; export it from the archive again."
        )
    return header


def _check_header(header: Header) -> None:
    """Refuse pictures of a kind that is not read, and numbers that contradict each other."""
    colour = header.photometric in _COLOUR
    if not colour and header.photometric not in (*GREY, "PALETTE COLOR"):
        came = f"is '{header.photometric}'" if header.photometric else "is missing"
        raise UnsupportedImage(
            f"The DICOM header's photometric interpretation {came}, so black and white cannot "
            f"be told apart; known are {', '.join((*GREY, *_COLOUR))} and PALETTE COLOR. "
            "Export the film again with the right tag."
        )
    if header.syntax not in TRANSFER_SYNTAXES:
        raise UnsupportedImage(
            f"The DICOM transfer syntax {header.syntax[:64]} is not read; export the film "
            "uncompressed or as JPEG 2000."
        )
    if header.syntax == _JPEG_EXTENDED and header.stored != 8:
        raise UnsupportedImage(
            f"The film is compressed as {header.stored}-bit JPEG (extended process), which no "
            "decoder here reads correctly; export it uncompressed or as JPEG 2000."
        )
    if header.allocated not in (8, 16) or (colour and header.allocated != 8):
        raise UnsupportedImage(
            f"The film has {header.allocated} bits per sample as {header.photometric}; 8 and 16 "
            "are read for grey films, 8 for colour."
        )
    fits = 1 <= header.stored <= header.high_bit + 1 <= header.allocated
    if not fits or header.samples != (3 if colour else 1):
        raise UnreadableImage(
            f"The DICOM header contradicts itself: {header.stored} bits stored of "
            f"{header.allocated}, highest bit {header.high_bit}, {header.samples} samples per "
            f"pixel as {header.photometric}; export the film again."
        )


def integer(dataset: Any, name: str, default: int | None = None) -> int:
    """Return one whole number, not negative, or the default where it is absent."""
    value = dataset.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or value < 0:
        raise UnreadableImage(
            f"The DICOM header's {name} is missing or not one whole number; export the film again."
        )
    return int(value)


def number(dataset: Any, name: str) -> float | None:
    """Return the first value of a decimal string; None where it is absent or empty."""
    value = dataset.get(name)
    if value is None or value == "":
        return None
    first = value if isinstance(value, (int, float, str)) else next(iter(value), None)
    if first is None or not np.isfinite(float(first)):
        raise UnreadableImage(
            f"The DICOM header's {name} is not a finite number; export the film again."
        )
    return float(first)


def numbers(dataset: Any, name: str) -> list[float]:
    """Return all values of a decimal string; what is no finite number among them is NaN."""
    found = []
    for value in _values(dataset, name):
        try:
            found.append(float(value))
        except (TypeError, ValueError):
            found.append(float("nan"))
    return [value if np.isfinite(value) else float("nan") for value in found]


def words(dataset: Any, name: str) -> list[str]:
    """Return all values of a text that are code strings, upper case; others are empty."""
    return [_code_string(value) or "" for value in _values(dataset, name)]


def _values(dataset: Any, name: str) -> list[Any]:
    value = dataset.get(name)
    if value is None:
        return []
    return [value] if isinstance(value, (int, float, str)) else list(value)


def shorts(dataset: Any, name: str) -> list[int]:
    """Return 16-bit numbers; empty where they are absent.

    Where the standard leaves signedness to the pixels, implicit VR gives pydicom no way
    to tell, and it hands back bytes.
    """
    value = dataset.get(name)
    if isinstance(value, bytes):
        little = dataset.original_encoding[1] is not False
        return [int(word) for word in np.frombuffer(value, "<u2" if little else ">u2")]
    if value is None or isinstance(value, (int, float)):
        return [] if value is None else [int(value)]
    return [int(word) for word in value]


def word(dataset: Any, name: str) -> str | None:
    """Return a code string, upper case; None for what is not one, as free text may name people.

    Reference: DICOM PS3.5 6.2 (CS).
    """
    return _code_string(dataset.get(name))


def _code_string(value: Any) -> str | None:
    text = str(value or "").strip().upper()
    return text if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else None
