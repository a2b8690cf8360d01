"""From the bytes of a file to one radiograph.

What the bytes are is read from the bytes, never from the file's name. Headers are
checked before anything is decoded, because films come from strangers: size, frames,
depth and the length of the pixel data must agree with the limits below and with each
other. Whatever a decoder raises leaves this module as one sentence of an `ImageError`.

How grey values become [0, 1], 0 being air-black and 1 bone-white:

- 8-bit rasters: 0..255. Colour becomes luminance (ITU-R 601); alpha lies on black.
- Deeper whole-number rasters: 0..2^b - 1, where b is the number of bits that the
  largest value needs (at least 8). So 12-bit data in a 16-bit PNG is not a dark film.
- Float rasters inside [0, 1] as they are; others, and signed ones with values below
  zero, from their smallest to their largest value.
- DICOM: modality LUT or rescale, then the VOI LUT or else the first window, then
  MONOCHROME1 is inverted, then padding is painted black. Without either, 8-bit films
  span their whole range, as the same film does as a PNG; deeper ones span the 0.5 to
  99.5 percentile of what is not padding, so that a burned-in marker or a few hot pixels
  do not darken the film.
"""

import hashlib
import struct
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import ImageError, UnreadableImage, UnsupportedImage
from cxr_core.images.dicom import IDENTIFIERS, dicom_dataset, is_dicom, read_dicom
from cxr_core.images.film import (
    MAX_AGE_YEARS,
    MAX_BYTES,
    MAX_PIXELS,
    MIN_SIDE,
    Facts,
    Radiograph,
    StudyReference,
    check_bytes,
    check_contrast,
)
from cxr_core.images.header import TRANSFER_SYNTAXES
from cxr_core.images.raster import read_raster

__all__ = [
    "MAX_AGE_YEARS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "TRANSFER_SYNTAXES",
    "Facts",
    "Radiograph",
    "StudyReference",
    "load_radiograph",
    "read_radiograph",
    "read_study_reference",
]

# What decoders raise on damaged input. Pillow, pydicom and their plug-ins promise no common
# family: bad chunks give SyntaxError, bad offsets LookupError or TypeError, C++ code
# RuntimeError. Their warnings are errors too where the host asks for that (`-W error`).
_DECODER_ERRORS: tuple[type[Exception], ...] = (
    OSError,  # also Pillow's UnidentifiedImageError and most truncation
    EOFError,
    ValueError,  # also UnicodeError
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,  # with its kinds: what a decoder cannot do, and recursion
    SyntaxError,
    MemoryError,
    AssertionError,
    struct.error,
    zlib.error,
    subprocess.SubprocessError,
    Warning,
)


def load_radiograph(path: Path) -> Radiograph:
    """Read one film from disk.

    Args:
        path: Any file; its name does not matter.

    Raises:
        ImageError: In one sentence, why it cannot be read.
    """
    try:
        if not path.is_file():
            raise UnreadableImage(f"There is no file '{path}'; check the path.")
        check_bytes(path.stat().st_size)
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(
            f"'{path}' cannot be opened ({error.strerror}); check that it may be read."
        ) from error
    return read_radiograph(data, path.name)


def read_radiograph(data: bytes, filename: str = "") -> Radiograph:
    """Decode one film.

    Args:
        data: The whole file: PNG, JPEG, TIFF, BMP or DICOM.
        filename: Named in errors; nothing else is made of it.

    Raises:
        ImageError: In one sentence, why it cannot be read.
    """
    try:
        pixels, facts = _decode(data)
        check_contrast(pixels)
    except ImageError as error:
        if not filename:
            raise
        raise type(error)(f"{filename}: {error}") from error
    pixels.flags.writeable = False
    return Radiograph(pixels, facts, hashlib.sha256(data).hexdigest())


def read_study_reference(data: bytes) -> StudyReference | None:
    """Read who and which study a DICOM file belongs to; None for any other file.

    Raises:
        ImageError: If it is DICOM, but damaged.
    """
    if not is_dicom(data):
        return None
    try:
        dataset, _ = dicom_dataset(data, IDENTIFIERS)
        return StudyReference(*(_as_text(dataset.get(name)) for name in IDENTIFIERS.split()))
    except _decoder_errors("DICOM"):
        # Without its cause: a decoder's message may quote the patient.
        raise UnreadableImage(
            "The DICOM header is damaged; export the file from the archive again."
        ) from None


def _as_text(value: Any) -> str:
    """Write one element of a header; several values as DICOM parts them, by a backslash."""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return ("\\".join(map(str, value)) if several else str(value or "")).strip()


def _decode(data: bytes) -> tuple[NDArray[np.float32], Facts]:
    """Sniff and decode, turning whatever a decoder raises into a sentence."""
    check_bytes(len(data))
    form = _sniff(data)
    try:
        return read_dicom(data) if form == "DICOM" else read_raster(data, form)
    except _decoder_errors(form) as error:
        raise UnreadableImage(
            f"The {form} data is damaged or cut short; export or copy the file again."
        ) from error


def _decoder_errors(form: str) -> tuple[type[Exception], ...]:
    """Return what decoding `form` may raise; evaluated only once something was raised."""
    if form != "DICOM":
        return _DECODER_ERRORS
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (*_DECODER_ERRORS, BytesLengthException, InvalidDicomError)


_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"BM": "BMP",
}

# Files people take for films, so that the error can say what came.
_OTHERS = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture or a video",
    b"\x00\x00\x00\x0cjP  ": "a bare JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a bare JPEG 2000 picture",
}


def _sniff(data: bytes) -> str:
    """Name the format of `data`, or say what it is instead."""
    if is_dicom(data):
        return "DICOM"
    for magic, form in _MAGIC.items():
        if data.startswith(magic):
            return form
    what = next((words for magic, words in _OTHERS.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        what = "a HEIC, AVIF or video file"
    if what:
        raise UnsupportedImage(
            f"The file is {what}, whatever its name says; export the film as DICOM or PNG."
        )
    raise UnreadableImage(
        f"The file is {_describe(data)}, not a picture; choose a DICOM, PNG, JPEG, TIFF or BMP "
        "file."
    )


def _describe(data: bytes) -> str:
    """Say in words what unknown bytes look like."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html", b"<?xml", b"<svg")):
        return "a web page or XML text"
    printable = set(range(32, 127)) | {9, 10, 13}
    return "plain text" if set(head) <= printable else "of no known format"
