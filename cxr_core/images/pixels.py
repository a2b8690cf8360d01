"""Stored values out of DICOM pixel data, compressed or not."""

import struct
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import UnreadableImage, UnsupportedImage
from cxr_core.images.header import (
    BIG_ENDIAN,
    COMPRESSED,
    DEFLATED,
    JPEG_LS,
    NATIVE,
    PLUGINS_OF,
    Header,
    integer,
)

DECODE_SECONDS = 60  # for decoders in a process of their own


def read_codes(dataset: Any, header: Header) -> NDArray[Any]:
    """Return stored values as bit patterns (H, W) of `stored` bits, signed ones included.

    Unused bits may hold anything (overlays, once), and are masked.

    Reference: DICOM PS3.5 8.1.1.
    """
    mask = 2**header.stored - 1
    if header.syntax in COMPRESSED:
        values = _decompress(dataset.PixelData, header)
        limit = 2 ** (header.stored - header.signed)
        if values.max() >= limit or values.min() < -limit * header.signed:
            raise UnreadableImage(
                f"The film has values beyond the {header.stored} bits its DICOM header "
                "promises; export it again."
            )
        return values.view(f"u{values.itemsize}") & mask if header.signed else values
    order = ">" if header.syntax == BIG_ENDIAN else "<"
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


def _native(pixel_data: bytes, header: Header) -> memoryview:
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


def _decompress(pixel_data: bytes, header: Header) -> NDArray[Any]:
    """Decode compressed pixels into (H, W), or into RGB (H, W, 3) where they have colour."""
    from pydicom.encaps import get_frame

    frame = get_frame(pixel_data, 0, number_of_frames=1)
    size = _frame_size(frame)
    if size and size[:2] != (header.rows, header.columns):
        raise UnreadableImage(
            f"The DICOM header says {header.columns} x {header.rows} pixels, but its compressed "
            f"picture has {size[1]} x {size[0]}; export the film again."
        )
    if header.syntax in PLUGINS_OF:
        return _by_pydicom(pixel_data, header, PLUGINS_OF[header.syntax])
    return _by_gdcm(frame, header, size[2] if size else header.stored)


def _by_pydicom(pixel_data: bytes, header: Header, plugin: str, planar: int = 0) -> NDArray[Any]:
    from pydicom.pixels import get_decoder

    syntax = NATIVE[1] if header.syntax == DEFLATED else header.syntax
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


def _by_gdcm(frame: bytes, header: Header, precision: int) -> NDArray[Any]:
    """Decode one grey frame in a child process, for about a tenth of a second more.

    GDCM ends its process on many a damaged frame (C++ exceptions that nothing catches),
    and a server with it.
    """
    if header.samples != 1:
        raise UnsupportedImage(
            "The film is a colour picture in lossless JPEG, which is not read; export it "
            "uncompressed or as JPEG 2000."
        )
    jpeg_ls = header.syntax in JPEG_LS
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


def read_colour(dataset: Any, header: Header) -> NDArray[np.uint8]:
    """Return RGB (H, W, 3)."""
    if header.photometric != "PALETTE COLOR":
        if header.syntax in COMPRESSED:
            return _decompress(dataset.PixelData, header)
        planar = integer(dataset, "PlanarConfiguration", 0)
        return _by_pydicom(bytes(_native(dataset.PixelData, header)), header, "", planar)
    from pydicom.pixels import apply_color_lut

    colours = np.asarray(apply_color_lut(read_codes(dataset, header), dataset))
    return (colours >> 8 if colours.itemsize == 2 else colours).astype(np.uint8)
