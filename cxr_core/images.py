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
import re
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Pillow loads the system's zlib. It must come before GDCM, which pydicom imports: loaded the
# other way round, zlib binds to GDCM's own copy and corrupts memory in every other user.
from PIL import Image, ImageChops, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from cxr_core.errors import (
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    UnreadableImage,
    UnsupportedImage,
)

MAX_BYTES = 256 * 2**20  # of one file; a 16-bit film of 60 MP uncompressed has half of that
MAX_PIXELS = 100_000_000  # the largest digitised film plates have about 25 MP
MIN_SIDE = 16  # pixels
MIN_CONTRAST = 1.5 / 255  # spread of [0, 1] below which a film shows nothing: one grey step
DECODE_SECONDS = 60  # for decoders in a process of their own
MAX_AGE_YEARS = 130.0  # ages beyond are typing errors (the NIH set has patients of 414)

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
    RuntimeError,  # also NotImplementedError and RecursionError
    SyntaxError,
    MemoryError,
    AssertionError,
    struct.error,
    zlib.error,
    subprocess.SubprocessError,
    Warning,
)


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


@dataclass(frozen=True)
class StudyReference:
    """Whose film it is, kept apart from the film; empty where the header is silent."""

    patient_id: str
    patient_name: str
    study_uid: str
    series_uid: str
    sop_uid: str
    study_date: str


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
        _check_bytes(path.stat().st_size)
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
        _check_contrast(pixels)
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
    if not _is_dicom(data):
        return None
    try:
        dataset, _ = _dicom_dataset(data, _IDENTIFIERS)
        names = _IDENTIFIERS.split()
        return StudyReference(*(str(dataset.get(name) or "").strip() for name in names))
    except _decoder_errors("DICOM"):
        # Without its cause: a decoder's message may quote the patient.
        raise UnreadableImage(
            "The DICOM header is damaged; export the file from the archive again."
        ) from None


def _decode(data: bytes) -> tuple[NDArray[np.float32], Facts]:
    """Sniff and decode, turning whatever a decoder raises into a sentence."""
    _check_bytes(len(data))
    form = _sniff(data)
    try:
        return _read_dicom(data) if form == "DICOM" else _read_raster(data, form)
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


# ---------------------------------------------------------------- checks


def _check_bytes(count: int) -> None:
    """Refuse files that are empty or too large to be one film."""
    if count == 0:
        raise UnreadableImage("The file is empty; export or copy it again.")
    if count > MAX_BYTES:
        raise ImageTooLarge(
            f"The file has {count / 2**20:.0f} MB, the limit is {MAX_BYTES // 2**20} MB; "
            "export a single film, compressed or at lower resolution."
        )


def _check_size(height: int, width: int, frames: int) -> None:
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


def _check_contrast(pixels: NDArray[np.float32]) -> None:
    """Refuse films whose pixels are all alike."""
    if float(pixels.max()) - float(pixels.min()) < MIN_CONTRAST:
        raise ImageTooSmall(
            f"The film has no contrast: all of its pixels are as bright as {pixels.max():.2f}; "
            "check the exposure or the export."
        )


# ---------------------------------------------------------------- what the bytes are

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
    if _is_dicom(data):
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


def _is_dicom(data: bytes) -> bool:
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


# ---------------------------------------------------------------- rasters

# The plug-in classes rather than Image.open: it would warn of a decompression bomb before
# our own check of the size, and try formats that we do not read. JpegImageFile also takes
# the photograph itself from a phone's multi-picture JPEG and leaves its previews alone.
_PLUGINS: dict[str, Any] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
}
_TIFF_PHOTOMETRIC = 262


def _read_raster(data: bytes, form: str) -> tuple[NDArray[np.float32], Facts]:
    """Decode a PNG, JPEG, TIFF or BMP film into float32 (H, W) in [0, 1]."""
    image = _PLUGINS[form](BytesIO(data))
    _check_size(image.height, image.width, getattr(image, "n_frames", 1))
    white_is_zero = form == "TIFF" and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels, bits = _deep(np.asarray(image))
        if white_is_zero:  # Pillow inverts these at 8 bits only
            np.subtract(1, pixels, out=pixels)
        photometric = "MONOCHROME1" if white_is_zero else "MONOCHROME2"
        return pixels, Facts(form, bits, photometric)
    pixels, colourfulness = _luminance(image)
    photometric = "MONOCHROME2" if image.mode in ("1", "L", "LA", "La") else "RGB"
    photometric = "MONOCHROME1" if white_is_zero else photometric
    return pixels, Facts(form, 8, photometric, colourfulness=colourfulness)


def _luminance(image: Any) -> tuple[NDArray[np.float32], float]:
    """Reduce an 8-bit Pillow image of any mode to grey.

    Returns:
        float32 (H, W) in [0, 1], and its colourfulness in [0, 1].
    """
    colourfulness = 0.0
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
        image = image.convert(straight).convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("RGB")
    if image.mode not in ("1", "L"):
        colour = image.convert("RGB")
        colourfulness = _colourfulness(colour)
        image = colour
    grey = np.asarray(image if image.mode == "L" else image.convert("L"))
    return np.divide(grey, np.float32(255), dtype=np.float32), colourfulness


def _colourfulness(image: Any) -> float:
    """Average over an RGB image the largest minus the smallest channel, in [0, 1]."""
    red, green, blue = image.split()
    largest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    smallest = ImageChops.darker(ImageChops.darker(red, green), blue)
    counts = np.array(ImageChops.subtract(largest, smallest).histogram(), np.float64)
    return float(counts @ np.arange(256) / counts.sum() / 255)


def _deep(values: NDArray[Any]) -> tuple[NDArray[np.float32], int]:
    """Scale a film deeper than 8 bits by the rule at the top of this file.

    Returns:
        float32 (H, W) in [0, 1], and the bits it was kept at.
    """
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnreadableImage(
            "The film has pixels that are not numbers (NaN or infinite); export it again, "
            "with whole-number pixels."
        )
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return values.astype(np.float32), 32
    bits = _needed_bits(int(high)) if values.dtype.kind in "iu" else 32
    if values.dtype.kind in "iu" and low >= 0 and bits <= 16:
        return np.divide(values, np.float32(2**bits - 1), dtype=np.float32), bits
    span = high - low or 1.0
    return ((values.astype(np.float64) - low) / span).astype(np.float32), bits


def _needed_bits(largest: int) -> int:
    """Count the bits that the largest value of a film needs, at least 8."""
    return max(8, largest.bit_length())


# ---------------------------------------------------------------- DICOM

# Only these are parsed: identifiers are not even read, so that none can leave.
_PICTURE = (
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns "
    "BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue "
    "PixelPaddingRangeLimit RescaleSlope RescaleIntercept ModalityLUTSequence WindowCenter "
    "WindowWidth VOILUTFunction VOILUTSequence PixelData RedPaletteColorLookupTableDescriptor "
    "GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor "
    "RedPaletteColorLookupTableData GreenPaletteColorLookupTableData "
    "BluePaletteColorLookupTableData"
)
_FACTS = (
    "PatientAge PatientSex ViewPosition ViewCodeSequence BodyPartExamined Modality "
    "ImagerPixelSpacing PixelSpacing"
)
_IDENTIFIERS = "PatientID PatientName StudyInstanceUID SeriesInstanceUID SOPInstanceUID StudyDate"

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"

# Which pydicom plug-in decodes what. JPEG goes to Pillow, the most tested on hostile files;
# RLE to pydicom itself, because pylibjpeg panics on damaged runs (a BaseException).
_PLUGINS_OF = {
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
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_COMPRESSED = (*_PLUGINS_OF, *_JPEG_LOSSLESS, *_JPEG_LS)

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


@dataclass(frozen=True)
class _Header:
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


def _dicom_dataset(data: bytes, names: str) -> tuple[Any, str]:
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
    if syntax != _DEFLATED:
        dataset = dcmread(BytesIO(data), force=True, specific_tags=names.split())
        if not syntax:  # no file meta: pydicom has found out how numbers are written
            syntax = _NATIVE[1] if dataset.original_encoding[1] else _BIG_ENDIAN
        return dataset, syntax
    # Inflated here, because pydicom would inflate without a limit.
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflate.decompress(data[stream.tell() :], MAX_BYTES)
    if inflate.unconsumed_tail:
        _check_bytes(MAX_BYTES + 1)
    tags = [Tag(name) for name in names.split()]
    return read_dataset(BytesIO(body), False, True, specific_tags=tags), syntax


def _read_dicom(data: bytes) -> tuple[NDArray[np.float32], Facts]:
    """Decode a DICOM film into float32 (H, W) in [0, 1]."""
    dataset, syntax = _dicom_dataset(data, f"{_PICTURE} {_FACTS}")
    header = _header(dataset, syntax)
    known = _header_facts(dataset)
    if header.photometric not in _GREY:
        pixels, colourfulness = _luminance(Image.fromarray(_colour(dataset, header)))
        facts = Facts("DICOM", 8, header.photometric, colourfulness=colourfulness, **known)
        return pixels, facts
    codes = _codes(dataset, header)
    table, window = _grey_table(dataset, header, codes)
    return table[codes], Facts("DICOM", header.stored, header.photometric, window, **known)


def _header(dataset: Any, syntax: str) -> _Header:
    """Read the picture's numbers and refuse what cannot be read, before any decoding.

    Reference: DICOM PS3.3 C.7.6.3 (Image Pixel module).
    """
    photometric = str(dataset.get("PhotometricInterpretation") or "").strip().upper()[:16]
    if "Rows" not in dataset and "PixelData" not in dataset:
        kind = _word(dataset, "Modality")
        if kind is None:
            raise UnreadableImage(
                "The DICOM file is cut short or has no picture; export or copy the film again."
            )
        raise UnsupportedImage(
            f"The DICOM file holds no picture (its modality is {kind}); choose the film itself."
        )
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    _check_size(rows, columns, _integer(dataset, "NumberOfFrames", 1))
    allocated = _integer(dataset, "BitsAllocated")
    stored = _integer(dataset, "BitsStored", allocated)
    header = _Header(
        syntax,
        photometric,
        rows,
        columns,
        _integer(dataset, "SamplesPerPixel", 1),
        allocated,
        stored,
        _integer(dataset, "HighBit", stored - 1),
        _integer(dataset, "PixelRepresentation", 0) == 1,
    )
    _check_header(header)
    if "PixelData" not in dataset:
        raise UnreadableImage(
            "The DICOM file ends before its pixel data; export it from the archive again."
        )
    return header


def _check_header(header: _Header) -> None:
    """Refuse pictures of a kind that is not read, and numbers that contradict each other."""
    colour = header.photometric in _COLOUR
    if not colour and header.photometric not in (*_GREY, "PALETTE COLOR"):
        came = f"is '{header.photometric}'" if header.photometric else "is missing"
        raise UnsupportedImage(
            f"The DICOM header's photometric interpretation {came}, so black and white cannot "
            f"be told apart; known are {', '.join((*_GREY, *_COLOUR))} and PALETTE COLOR. "
            "Export the film again with the right tag."
        )
    if header.syntax not in (*_NATIVE, _DEFLATED, *_COMPRESSED):
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


def _integer(dataset: Any, name: str, default: int | None = None) -> int:
    """Return one whole number, not negative, or the default where it is absent."""
    value = dataset.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or value < 0:
        raise UnreadableImage(
            f"The DICOM header's {name} is missing or not one whole number; export the film again."
        )
    return int(value)


def _number(dataset: Any, name: str) -> float | None:
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


# ---------------------------------------------------------------- DICOM: pixels


def _codes(dataset: Any, header: _Header) -> NDArray[Any]:
    """Return stored values as bit patterns (H, W) of `stored` bits, signed ones included.

    Unused bits may hold anything (overlays, once), and are masked.

    Reference: DICOM PS3.5 8.1.1.
    """
    mask = 2**header.stored - 1
    if header.syntax in _COMPRESSED:
        values = _decompress(dataset.PixelData, header)
        limit = 2 ** (header.stored - header.signed)
        if values.max() >= limit or values.min() < -limit * header.signed:
            raise UnreadableImage(
                f"The film has values beyond the {header.stored} bits its DICOM header "
                "promises; export it again."
            )
        return values.view(f"u{values.itemsize}") & mask if header.signed else values
    order = ">" if header.syntax == _BIG_ENDIAN else "<"
    if order == ">" and header.allocated == 8 and dataset["PixelData"].VR != "OB":
        raise UnsupportedImage(
            "The film has 8-bit pixels in big-endian words, which are not read; export it as "
            "little endian."
        )
    kind = f"{order}u{header.allocated // 8}"
    values = np.frombuffer(_native(dataset.PixelData, header), kind)
    shift = header.high_bit + 1 - header.stored
    values = values >> shift if shift else values
    values = values & mask if header.stored < header.allocated else values
    return values.reshape(header.rows, header.columns)


def _native(pixel_data: bytes, header: _Header) -> memoryview:
    """Cut uncompressed pixels from what pads them, without a copy."""
    needed = header.rows * header.columns * header.samples * header.allocated // 8
    if header.photometric == "YBR_FULL_422":
        needed = needed * 2 // 3
    if len(pixel_data) < needed:
        raise UnreadableImage(
            f"The DICOM file is cut short: {len(pixel_data):,} of {needed:,} bytes of pixels "
            "are there; export or copy it again."
        )
    return memoryview(pixel_data)[:needed]


def _decompress(pixel_data: bytes, header: _Header) -> NDArray[Any]:
    """Decode compressed pixels into (H, W), or into RGB (H, W, 3) where they have colour."""
    from pydicom.encaps import get_frame

    frame = get_frame(pixel_data, 0, number_of_frames=1)
    size = _frame_size(frame)
    if size and size[:2] != (header.rows, header.columns):
        raise UnreadableImage(
            f"The DICOM header says {header.columns} x {header.rows} pixels, but its compressed "
            f"picture has {size[1]} x {size[0]}; export the film again."
        )
    if header.syntax in _PLUGINS_OF:
        return _by_pydicom(pixel_data, header, _PLUGINS_OF[header.syntax])
    return _by_gdcm(frame, header, size[2] if size else header.stored)


def _by_pydicom(pixel_data: bytes, header: _Header, plugin: str, planar: int = 0) -> NDArray[Any]:
    from pydicom.pixels import get_decoder

    syntax = _NATIVE[1] if header.syntax == _DEFLATED else header.syntax
    values, _ = get_decoder(syntax).as_array(
        pixel_data,
        index=0,
        decoding_plugin=plugin,
        rows=header.rows,
        columns=header.columns,
        samples_per_pixel=header.samples,
        photometric_interpretation=header.photometric,
        planar_configuration=planar,
        pixel_representation=int(header.signed),
        bits_allocated=header.allocated,
        bits_stored=header.stored,
        number_of_frames=1,
        pixel_keyword="PixelData",
    )
    return np.asarray(values)


# Bytes of one frame in, pixels out; what pydicom's GDCM plug-in does, without pydicom.
_GDCM_SCRIPT = """
import sys
import gdcm
syntax, photometric = sys.argv[1:3]
rows, columns, allocated, stored, signed = map(int, sys.argv[3:])
fragment = gdcm.Fragment()
fragment.SetByteStringValue(sys.stdin.buffer.read())
fragments = gdcm.SequenceOfFragments.New()
fragments.AddFragment(fragment)
element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
element.SetValue(fragments.__ref__())
image = gdcm.Image()
image.SetNumberOfDimensions(2)
image.SetDimensions((columns, rows, 1))
image.SetDataElement(element)
kind = gdcm.PhotometricInterpretation.GetPIType(photometric)
image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
image.SetPixelFormat(gdcm.PixelFormat(1, allocated, stored, stored - 1, signed))
sys.stdout.buffer.write(image.GetBuffer().encode("utf-8", "surrogateescape"))
"""


def _by_gdcm(frame: bytes, header: _Header, precision: int) -> NDArray[Any]:
    """Decode one grey frame in a child process, for about a tenth of a second more.

    GDCM ends its process on many a damaged frame (C++ exceptions that nothing catches),
    and a server with it.
    """
    if header.samples != 1:
        raise UnsupportedImage(
            "The film is a colour picture in lossless JPEG, which is not read; export it "
            "uncompressed or as JPEG 2000."
        )
    jpeg_ls = header.syntax in _JPEG_LS
    stored = precision if jpeg_ls else header.stored
    allocated = (8 if stored <= 8 else 16) if jpeg_ls else header.allocated
    numbers = (header.rows, header.columns, allocated, stored, int(header.signed))
    command = [sys.executable, "-P", "-c", _GDCM_SCRIPT, header.syntax, header.photometric]
    child = subprocess.run(
        command + [str(number) for number in numbers],
        input=frame,
        capture_output=True,
        timeout=DECODE_SECONDS,
        check=True,
    )
    kind = f"{'i' if header.signed else 'u'}{allocated // 8}"
    return np.frombuffer(child.stdout, kind).reshape(header.rows, header.columns)


def _frame_size(frame: bytes) -> tuple[int, int, int] | None:
    """Read rows, columns and bits from a compressed picture's own header, if it has one.

    A decoder allocates what this header says, whatever the DICOM header says.

    Reference: ITU-T T.81 B.2.2 (JPEG, also T.87 JPEG-LS), T.800 A.5.1 (JPEG 2000).
    """
    start = frame.find(b"\xff\x4f\xff\x51")
    if start >= 0 and not frame.startswith(b"\xff\xd8"):
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return bottom - top, right - left, (frame[start + 42] & 0x7F) + 1
    at = 2
    while frame.startswith(b"\xff\xd8") and at + 9 <= len(frame):
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            bits, rows, columns = struct.unpack_from(">B2H", frame, at + 4)
            return rows, columns, bits
        at += 1 if marker == 0xFF else 2 + length
    return None


def _colour(dataset: Any, header: _Header) -> NDArray[np.uint8]:
    """Return RGB (H, W, 3)."""
    if header.photometric != "PALETTE COLOR":
        if header.syntax in _COMPRESSED:
            return _decompress(dataset.PixelData, header)
        planar = _integer(dataset, "PlanarConfiguration", 0)
        return _by_pydicom(bytes(_native(dataset.PixelData, header)), header, "", planar)
    from pydicom.pixels import apply_color_lut

    colours = np.asarray(apply_color_lut(_codes(dataset, header), dataset))
    return (colours >> 8 if colours.itemsize == 2 else colours).astype(np.uint8)


# ---------------------------------------------------------------- DICOM: grey values


def _grey_table(
    dataset: Any, header: _Header, codes: NDArray[Any]
) -> tuple[NDArray[np.float32], tuple[float, float] | None]:
    """Work out the grey of every code, so that a film costs one look-up per pixel.

    Returns:
        float32 (2^stored,) in [0, 1], and the window applied, if any.

    Reference: DICOM PS3.3 C.11.1 (Modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2, C.7.5.1.1.2.
    """
    stored = np.arange(2**header.stored, dtype=np.float64)
    if header.signed:
        stored[len(stored) // 2 :] -= len(stored)
    padding = _padding(dataset, header, stored)
    with np.errstate(over="ignore", invalid="ignore"):  # checked below
        values = _modality(dataset, header, stored)
        window = None if dataset.get("VOILUTSequence") else _window(dataset)
        if window:
            grey = _windowed(values, *window, _voi_function(dataset))
        elif dataset.get("VOILUTSequence"):
            grey = _look_up(dataset.VOILUTSequence[0], values, signed=bool(values.min() < 0))
            grey = grey / (2 ** _needed_bits(int(grey.max())) - 1)
        else:
            grey = _full_range(values, header, codes, padding)
    if not np.isfinite(grey).all():
        raise UnreadableImage(
            "The DICOM header's rescale and window lead to values that are not numbers; export "
            "the film again."
        )
    if header.photometric == "MONOCHROME1":
        grey = 1 - grey
    grey[padding] = 0
    return grey.astype(np.float32), window


def _padding(dataset: Any, header: _Header, stored: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the stored values that stand for no picture at all.

    Reference: DICOM PS3.3 C.7.5.1.1.2.
    """
    first = _shorts(dataset, "PixelPaddingValue")[:1]
    if not first:
        return np.zeros(len(stored), np.bool_)
    limit = _shorts(dataset, "PixelPaddingRangeLimit")[:1] or first
    # Writers often give the bit pattern of a negative value where the value itself belongs.
    size = 2**header.allocated
    ends = [end - size if header.signed and end >= size // 2 else end for end in first + limit]
    return (stored >= min(ends)) & (stored <= max(ends))


def _shorts(dataset: Any, name: str) -> list[int]:
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


def _modality(dataset: Any, header: _Header, stored: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn stored values into what the detector meant."""
    if dataset.get("ModalityLUTSequence"):
        return _look_up(dataset.ModalityLUTSequence[0], stored, header.signed)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if slope == 0:
        raise UnreadableImage(
            "The DICOM header's RescaleSlope is 0, which would make every pixel alike; export "
            "the film again."
        )
    return stored * (1.0 if slope is None else slope) + (intercept or 0.0)


def _look_up(item: Any, values: NDArray[np.float64], signed: bool) -> NDArray[np.float64]:
    """Send values through a DICOM look-up table; beyond its ends, its end values hold."""
    count, first, bits = _shorts(item, "LUTDescriptor")
    count = count or 2**16
    first -= 2**16 if signed and first >= 2**15 else 0
    entries = np.array(_shorts(item, "LUTData"), np.float64)
    if bits <= 8 and len(entries) == -(-count // 2) < count:  # two 8-bit entries in each word
        entries = np.stack([entries % 256, entries // 256], axis=1).reshape(-1)
    if len(entries) < count or entries.min() < 0:
        raise UnreadableImage(
            f"A look-up table in the DICOM header has {len(entries)} of {count} entries; export "
            "the film again."
        )
    found: NDArray[np.float64] = entries[
        np.clip(np.rint(values) - first, 0, count - 1).astype(np.intp)
    ]
    return found


def _window(dataset: Any) -> tuple[float, float] | None:
    """Return centre and width of the first window, if the header has one."""
    centre, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if centre is None and width is None:
        return None
    least = 1.0 if _voi_function(dataset) == "LINEAR" else np.finfo(np.float32).tiny
    if centre is None or width is None or width < least:
        raise UnreadableImage(
            f"The DICOM header's window cannot be used: centre {centre}, width {width}; export "
            "the film with a width of at least 1."
        )
    return centre, width


def _voi_function(dataset: Any) -> str:
    return str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()[:16]


def _windowed(
    values: NDArray[np.float64], centre: float, width: float, function: str
) -> NDArray[np.float64]:
    """Apply a window.

    Reference: DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.
    """
    if function == "LINEAR":
        if width == 1:
            return (values > centre - 0.5).astype(np.float64)
        return ((values - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1)
    if function == "LINEAR_EXACT":
        return ((values - centre) / width + 0.5).clip(0, 1)
    if function == "SIGMOID":
        # 1 / (1 + exp(-4 x)), written so that it cannot overflow.
        curve: NDArray[np.float64] = np.tanh(2 * (values - centre) / width)
        return 0.5 + 0.5 * curve
    raise UnsupportedImage(
        f"The DICOM header's VOI LUT function is '{function}'; known are LINEAR, "
        "LINEAR_EXACT and SIGMOID. Export the film with one of them."
    )


def _full_range(
    values: NDArray[np.float64],
    header: _Header,
    codes: NDArray[Any],
    padding: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Span the film's own range where the header gives no window."""
    if header.stored <= 8:
        low, high = values.min(), values.max()
    else:
        counts = np.bincount(codes.reshape(-1), minlength=len(values))
        counts[padding] = 0
        order = np.argsort(values, kind="stable")
        share = np.cumsum(counts[order]) / max(1, counts.sum())
        low, high = values[order][np.searchsorted(share, (0.005, 0.995))]
        if low == high:  # hardly anything but background: the whole range after all
            low, high = values[counts > 0].min(initial=low), values[counts > 0].max(initial=high)
    grey: NDArray[np.float64] = (values - low) / (high - low or 1.0)
    return grey.clip(0, 1)


# ---------------------------------------------------------------- DICOM: facts

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
    sex = _word(dataset, "PatientSex")
    view = _word(dataset, "ViewPosition")
    codes = dataset.get("ViewCodeSequence")
    if view is None and codes:
        view = _VIEW_CODES.get(str(codes[0].get("CodeValue") or ""))
    return {
        "view": view,
        "age_years": _age(dataset),
        "sex": sex if sex in ("F", "M", "O") else None,
        "body_part": _word(dataset, "BodyPartExamined"),
        "modality": _word(dataset, "Modality"),
        "pixel_spacing_mm": _spacing(dataset),
    }


def _word(dataset: Any, name: str) -> str | None:
    """Return a code string, upper case; None for what is not one, as free text may name people.

    Reference: DICOM PS3.5 6.2 (CS).
    """
    text = str(dataset.get(name) or "").strip().upper()
    return text if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else None


def _age(dataset: Any) -> float | None:
    """Read '045Y', '006M', '010W' or '003D' in years; so is a bare number, as NIH writes it."""
    text = str(dataset.get("PatientAge") or "").strip().upper()
    found = re.fullmatch(r"(\d{1,3})([YMWD]?)", text)
    if not found:
        return None
    years = int(found[1]) / {"M": 12, "W": 52.1775, "D": 365.2425}.get(found[2], 1)
    return years if years <= MAX_AGE_YEARS else None


def _spacing(dataset: Any) -> tuple[float, float] | None:
    """Return millimetres between rows and between columns, at the detector if known."""
    for name in ("ImagerPixelSpacing", "PixelSpacing"):
        value = dataset.get(name)
        if value is None or isinstance(value, (str, float)) or len(value) != 2:
            continue
        row, column = float(value[0]), float(value[1])
        if np.isfinite(row) and np.isfinite(column) and min(row, column) > 0:
            return row, column
    return None
