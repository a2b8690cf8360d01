"""Bytes to radiograph: depth, polarity, windows, facts, and everything that must be refused."""

import dataclasses
import gzip
import hashlib
import io
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, config, dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from cxr_core import images
from cxr_core.errors import (
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    UnreadableImage,
    UnsupportedImage,
)
from cxr_core.images import load_radiograph, read_radiograph, read_study_reference
from cxr_core.phantom import thorax

GREY = np.rint(thorax(48, 40, seed=3).pixels * 255).astype(np.uint8)
DEEP = (GREY.astype(np.uint16) * 257)[::-1].copy()  # 16 bits, every one of them used
DEEP[0, 0], DEEP[0, 1] = 0, 65535

# ---------------------------------------------------------------- making files


def encoded(array: NDArray[Any] | Image.Image, form: str = "PNG", **options: Any) -> bytes:
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def tiff(pixels: NDArray[Any], photometric: int = 1) -> bytes:
    """An uncompressed little-endian TIFF; Pillow would not write white-is-zero as it is."""
    kinds = {"u": 1, "i": 2, "f": 3}
    tags = (
        (256, pixels.shape[1]), (257, pixels.shape[0]), (258, 8 * pixels.itemsize), (259, 1),
        (262, photometric), (273, 8), (277, 1), (278, pixels.shape[0]), (279, pixels.nbytes),
        (339, kinds[pixels.dtype.kind]),
    )  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = struct.pack("<2sHI", b"II", 42, 8 + pixels.nbytes)
    return start + pixels.tobytes() + struct.pack("<H", len(tags)) + entries + bytes(4)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises many pixels and holds none."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


NAME, IDENTIFIER, DATE = "ZEBEDEE^QUILLON", "MRN-7741-XQ", "19870213"


def dicom(
    pixels: NDArray[Any] | bytes = GREY,
    *,
    bits: int = 8,
    syntax: str = ExplicitVRLittleEndian,
    preamble: bool = True,
    meta: bool = True,
    **elements: Any,
) -> bytes:
    """A CR film; None removes an element, (VR, value) writes it without validation."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.826.0.1.3.77"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.1.77", "1.2.826.0.1.2.77"
    dataset.PatientName, dataset.PatientID, dataset.StudyDate = NAME, IDENTIFIER, DATE
    dataset.PatientBirthDate, dataset.InstitutionName = "19510607", "Saint Elsewhere"
    dataset.Modality, dataset.PhotometricInterpretation = "CR", "MONOCHROME2"
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * (-(-bits // 8)), bits, bits - 1
    dataset.Rows, dataset.Columns = GREY.shape
    if isinstance(pixels, np.ndarray):
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.BitsAllocated = 8 * pixels.itemsize
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        pixels = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    vr = "OB" if dataset.BitsAllocated == 8 or syntax.startswith("1.2.840.10008.1.2.4") else "OW"
    dataset.add(DataElement("PixelData", vr, pixels + bytes(len(pixels) % 2)))
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        elif isinstance(value, tuple) and isinstance(value[0], str):
            dataset.add(DataElement(name, *value, validation_mode=config.IGNORE))
        else:
            setattr(dataset, name, value)
    return written(dataset, syntax, preamble=preamble, meta=meta)


def written(dataset: Dataset, syntax: str, *, preamble: bool, meta: bool) -> bytes:
    stream = io.BytesIO()
    if not meta:
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        dataset.save_as(stream, implicit_vr=implicit, little_endian=little)
        return stream.getvalue()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    if "PixelData" in dataset:
        dataset["PixelData"].is_undefined_length = syntax.startswith("1.2.840.10008.1.2.4")
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()[0 if preamble else 132 :]


def pixels_of(data: bytes) -> NDArray[np.float32]:
    return read_radiograph(data).pixels


def close(data: bytes, expected: NDArray[Any], tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(pixels_of(data), expected, atol=tolerance, rtol=0)


def linear(values: NDArray[Any], centre: float, width: float) -> NDArray[np.float64]:
    """PS3.3 C.11.2.1.2.1, word by word, for an output of 0 to 1."""
    x = values.astype(np.float64)
    y = ((x - (centre - 0.5)) / (width - 1) + 0.5) * (1 - 0) + 0
    y = np.where(x <= centre - 0.5 - (width - 1) / 2, 0, y)
    return np.where(x > centre - 0.5 + (width - 1) / 2, 1, y)


# ---------------------------------------------------------------- rasters

COLOUR = Image.fromarray(GREY).convert("RGB")
EXACT = {
    "grey png": encoded(GREY),
    "rgb png": encoded(COLOUR),
    "opaque alpha png": encoded(COLOUR.convert("RGBA")),
    "grey alpha png": encoded(Image.fromarray(GREY).convert("LA")),
    "palette png": encoded(Image.fromarray(GREY).convert("P")),
    "bmp": encoded(GREY, "BMP"),
    "rgb bmp": encoded(COLOUR, "BMP"),
    "tiff": tiff(GREY),
    "lzw tiff": encoded(GREY, "TIFF", compression="tiff_lzw"),
    "deflated tiff": encoded(GREY, "TIFF", compression="tiff_deflate"),
    "rgb tiff": encoded(COLOUR, "TIFF"),
    "white-is-zero tiff": tiff(255 - GREY, photometric=0),
    "float tiff": tiff(GREY.astype(np.float32) / 255),
    "dicom": dicom(GREY),
}


@pytest.mark.parametrize("name", EXACT)
def test_the_same_film_reads_the_same_from_every_format(name: str) -> None:
    radiograph = read_radiograph(EXACT[name])
    np.testing.assert_allclose(radiograph.pixels, GREY / 255, atol=1e-6)
    assert radiograph.pixels.dtype == np.float32
    assert radiograph.facts.colourfulness == 0


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_reads_within_its_own_loss(mode: str) -> None:
    data = encoded(Image.fromarray(GREY).convert(mode), "JPEG", quality=98)
    close(data, GREY / 255, 0.05)
    assert read_radiograph(data).facts.format == "JPEG"


def test_a_black_and_white_picture_is_zero_and_one() -> None:
    close(encoded(Image.fromarray(GREY > 128)), (GREY > 128).astype(float))


@pytest.mark.parametrize(
    "write",
    [
        encoded,
        tiff,
        lambda deep: encoded(Image.fromarray(deep), "TIFF", compression="tiff_lzw"),
        lambda deep: encoded(Image.fromarray(deep.astype(">u2")), "TIFF"),
        lambda deep: tiff(np.uint16(65535) - deep, photometric=0),
    ],
    ids=["png", "tiff", "lzw tiff", "big-endian tiff", "white-is-zero tiff"],
)
def test_sixteen_bits_are_kept(write: Callable[[NDArray[Any]], bytes]) -> None:
    radiograph = read_radiograph(write(DEEP))
    np.testing.assert_allclose(radiograph.pixels, DEEP / 65535, atol=1e-7)
    assert len(np.unique(radiograph.pixels)) == len(np.unique(DEEP)) > 100
    assert radiograph.facts.bits == 16


@pytest.mark.parametrize(
    ("largest", "bits"), [(200, 8), (255, 8), (256, 9), (1023, 10), (4095, 12), (30000, 15)]
)
def test_low_bits_in_a_deep_file_are_not_a_dark_film(largest: int, bits: int) -> None:
    film = np.rint(GREY / GREY.max() * largest).astype(np.uint16)
    radiograph = read_radiograph(encoded(film))
    assert radiograph.facts.bits == bits
    np.testing.assert_allclose(radiograph.pixels, film / (2**bits - 1), atol=1e-6)
    assert radiograph.pixels.max() > 0.5


def test_floats_beyond_one_and_values_below_zero_span_their_range() -> None:
    expected = (GREY - GREY.min()) / (GREY.max() - GREY.min())
    close(tiff(GREY.astype(np.float32) * 37 - 500), expected, 1e-5)
    close(tiff(GREY.astype(np.int16) - 90), expected, 1e-6)
    close(tiff(GREY.astype(np.int32) * 1000 - 90), expected, 1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_numbers_are_refused(bad: float) -> None:
    film = GREY.astype(np.float32) / 255
    film[5, 5] = bad
    with pytest.raises(UnreadableImage, match="not numbers"):
        read_radiograph(tiff(film))


def test_colour_becomes_luminance_and_its_colourfulness_is_measured() -> None:
    film = np.zeros((20, 20, 3), np.uint8)
    film[:10, :, 0] = 255
    radiograph = read_radiograph(encoded(film))
    assert radiograph.pixels[0, 0] == pytest.approx(0.299, abs=0.003)
    assert radiograph.facts.colourfulness == pytest.approx(0.5)
    assert radiograph.facts.photometric_interpretation == "RGB"


def test_transparent_pixels_lie_on_black() -> None:
    film = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
    film[:, 20:, 3] = 0
    film[:5, :, 3] = 128
    expected = GREY / 255 * film[:, :, 3] / 255
    close(encoded(film), expected, 0.006)
    palette = Image.fromarray(GREY).convert("P")
    close(
        encoded(palette, transparency=int(GREY[30, 20])),
        np.where(GREY == GREY[30, 20], 0, GREY) / 255,
    )


TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda film: film,
    2: np.fliplr,
    3: lambda film: np.rot90(film, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda film: np.rot90(film, -1),
    7: lambda film: np.rot90(film, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_exif_orientation_is_honoured(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if form == "JPEG" else {}
    data = encoded(GREY, form, exif=exif, **options)
    close(data, TURNS[orientation](GREY) / 255, 0.02 if form == "JPEG" else 1e-6)


def test_only_the_photograph_is_taken_from_a_phones_multi_picture_jpeg() -> None:
    preview = Image.fromarray(GREY[::2, ::2])
    data = encoded(GREY, "MPO", save_all=True, append_images=[preview], quality=98)
    close(data, GREY / 255, 0.05)


def test_pixels_are_read_only_and_the_digest_is_of_the_file() -> None:
    data = encoded(GREY)
    for bytes_ in (data, dicom(GREY), dicom(DEEP, bits=16), encoded(DEEP)):
        radiograph = read_radiograph(bytes_)
        assert radiograph.digest == hashlib.sha256(bytes_).hexdigest()
        with pytest.raises(ValueError, match="read-only"):
            radiograph.pixels[0, 0] = 1


@pytest.mark.parametrize("name", ["film.dcm", "film.jpg", "film", "film.txt"])
def test_the_files_name_means_nothing(name: str) -> None:
    data = encoded(GREY)
    assert read_radiograph(data, name).facts == read_radiograph(data).facts
    assert read_radiograph(dicom(GREY), "film.png").facts.format == "DICOM"


def test_a_tiff_that_is_also_dicom_is_dicom() -> None:
    data = tiff(GREY)[:128].ljust(128, b"\0") + dicom(GREY)[128:]
    assert read_radiograph(data).facts.format == "DICOM"


def test_a_film_in_a_file_reads_as_its_bytes_do(tmp_path: Path) -> None:
    path = tmp_path / "film.bin"
    path.write_bytes(encoded(GREY))
    np.testing.assert_array_equal(load_radiograph(path).pixels, pixels_of(encoded(GREY)))


def test_many_threads_read_alike() -> None:
    files = [*EXACT.values(), dicom(DEEP, bits=16)] * 3
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(read_radiograph, files))
    for data, radiograph in zip(files, together, strict=True):
        np.testing.assert_array_equal(radiograph.pixels, pixels_of(data))


# ---------------------------------------------------------------- what is refused


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("film.png", data)
    return stream.getvalue()


def animated() -> bytes:
    return encoded(GREY, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)])


def pages() -> bytes:
    return encoded(GREY, "TIFF", save_all=True, append_images=[Image.fromarray(255 - GREY)])


def damaged(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


REFUSED: dict[str, tuple[bytes, type[ImageError], str]] = {
    "empty.png": (b"", UnreadableImage, "empty"),
    "notes.png": (b"Dear colleague,\nplease find the film below.\n", UnreadableImage, "plain text"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", UnreadableImage, "web page"),
    "noise.png": (bytes(range(200, 256)) * 9, UnreadableImage, "no known format"),
    "report.jpg": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", UnsupportedImage, "PDF"),
    "study.dcm": (zipped(encoded(GREY)), UnsupportedImage, "ZIP"),
    "film.nii.gz": (gzip.compress(bytes(500)), UnsupportedImage, "gzip"),
    "film.gif": (encoded(GREY, "GIF"), UnsupportedImage, "GIF"),
    "film.webp": (encoded(COLOUR, "WEBP"), UnsupportedImage, "WebP"),
    "film.jp2": (encoded(GREY, "JPEG2000"), UnsupportedImage, "JPEG 2000"),
    "IMG_1.heic": (b"\0\0\0\x18ftypheic" + bytes(300), UnsupportedImage, "HEIC"),
    "dot.png": (encoded(np.zeros((1, 1), np.uint8)), ImageTooSmall, "1 x 1"),
    "thumbnail.png": (encoded(GREY[:15]), ImageTooSmall, "40 x 15"),
    "black.png": (encoded(np.zeros((64, 64), np.uint8)), ImageTooSmall, "no contrast"),
    "white.jpg": (encoded(np.full((64, 64), 255, np.uint8), "JPEG"), ImageTooSmall, "no contrast"),
    "flat.dcm": (dicom(np.full((64, 64), 77, np.uint8)), ImageTooSmall, "no contrast"),
    "flat16.png": (encoded(np.full((64, 64), 7777, np.uint16)), ImageTooSmall, "no contrast"),
    "bomb.png": (png_header(20_000, 20_000), ImageTooLarge, "20000 x 20000"),
    "line.png": (png_header(2_000_000_000, 1), ImageTooLarge, "2000000000 x 1"),
    "bomb.dcm": (dicom(Rows=20_000, Columns=20_000), ImageTooLarge, "20000 x 20000"),
    "animated.png": (animated(), ImageTooLarge, "2 frames"),
    "pages.tif": (pages(), ImageTooLarge, "2 frames"),
    "frames.dcm": (dicom(NumberOfFrames=3), ImageTooLarge, "3 frames"),
    "cut.png": (damaged(encoded(GREY)), UnreadableImage, "cut short"),
    "cut.jpg": (damaged(encoded(GREY, "JPEG")), UnreadableImage, "cut short"),
    "cut.bmp": (damaged(encoded(GREY, "BMP")), UnreadableImage, "cut short"),
    "cut.tif": (damaged(encoded(GREY, "TIFF")), UnreadableImage, "cut short"),
    "cut.dcm": (damaged(dicom(GREY)), UnreadableImage, "cut short"),
    "headless.png": (encoded(GREY)[:20], UnreadableImage, "cut short"),
    "headless.dcm": (dicom(GREY)[:140], UnreadableImage, "cut short"),
    "swapped.jpg": (b"\xff\xd8\xff\xe0" + encoded(GREY)[20:], UnreadableImage, "damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_film_gives_one_sentence(name: str) -> None:
    data, kind, words = REFUSED[name]
    with pytest.raises(ImageError) as caught:
        read_radiograph(data, name)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(f"{name}: The ")
    assert words in message
    assert message.endswith(".")
    assert "\n" not in message and len(message) < 300


def test_a_jpeg_that_promises_too_many_pixels_is_refused() -> None:
    data = bytearray(encoded(GREY, "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">2H", 20_000, 20_000)
    with pytest.raises(ImageTooLarge):
        read_radiograph(bytes(data))


def test_too_many_bytes_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)  # sparse: takes no room
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("the file was read"))
    with pytest.raises(ImageTooLarge, match="256 MB"):
        load_radiograph(path)


def test_too_many_bytes_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.film, "MAX_BYTES", 1000)
    with pytest.raises(ImageTooLarge):
        read_radiograph(encoded(GREY))


def test_a_deflated_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    film = np.tile(GREY, (20, 20))
    data = dicom(film, syntax=DeflatedExplicitVRLittleEndian)
    close(data, film / 255)
    monkeypatch.setattr(images.film, "MAX_BYTES", film.size // 2)
    assert len(data) < images.film.MAX_BYTES
    with pytest.raises(ImageTooLarge):
        read_radiograph(data)


def test_the_limit_on_pixels_is_below_what_makes_pillow_warn_twice_over() -> None:
    assert images.MAX_PIXELS < 20_000 * 20_000
    assert images.MAX_PIXELS > 25_000_000  # a digitised film plate


@pytest.mark.parametrize("name", ["", "nowhere.png"])
def test_a_path_without_a_film_gives_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableImage, match="check the path"):
        load_radiograph(tmp_path / name)


# ---------------------------------------------------------------- DICOM: grey values


@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_monochrome1_and_monochrome2_give_the_same_radiograph(bits: int, syntax: str) -> None:
    top = 2**bits - 1
    film = np.rint(GREY / 255 * top).astype(np.uint8 if bits == 8 else np.uint16)
    window = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
    positive = dicom(film, bits=bits, syntax=syntax, **window)
    inverted = (top - film).astype(film.dtype)
    negative = dicom(
        inverted, bits=bits, syntax=syntax, PhotometricInterpretation="MONOCHROME1", **window
    )
    close(positive, linear(film, 2 ** (bits - 1), 2**bits))
    np.testing.assert_allclose(pixels_of(positive), pixels_of(negative), atol=1e-6)
    facts = read_radiograph(negative).facts
    assert facts.bits == bits
    assert facts.photometric_interpretation == "MONOCHROME1"
    assert facts.window == (2 ** (bits - 1), 2**bits)


FILM = np.rint(GREY / 255 * 4095).astype(np.uint16)


@pytest.mark.parametrize(
    ("centre", "width"), [(2048, 4096), (1500, 900), (700.5, 33.25), (2000, 1)]
)
def test_linear_windows_follow_the_standard(centre: float, width: float) -> None:
    expected = linear(FILM, centre, width) if width > 1 else FILM > centre - 0.5
    close(dicom(FILM, bits=12, WindowCenter=centre, WindowWidth=width), expected)


def test_other_voi_functions_follow_the_standard() -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    x = (FILM.astype(float) - 2000) / 1000
    close(dicom(FILM, bits=12, VOILUTFunction="LINEAR_EXACT", **window), np.clip(x + 0.5, 0, 1))
    close(dicom(FILM, bits=12, VOILUTFunction="SIGMOID", **window), 1 / (1 + np.exp(-4 * x)))
    close(dicom(FILM, bits=12, VOILUTFunction="LINEAR", **window), linear(FILM, 2000, 1000))
    with pytest.raises(UnsupportedImage, match="CUBIC"):
        read_radiograph(dicom(FILM, bits=12, VOILUTFunction="CUBIC", **window))


def test_the_first_of_several_windows_is_applied() -> None:
    data = dicom(FILM, bits=12, WindowCenter=[1500, 40], WindowWidth=[900, 400])
    close(data, linear(FILM, 1500, 900))
    assert read_radiograph(data).facts.window == (1500, 900)


@pytest.mark.parametrize(
    ("centre", "width"),
    [("1000", "0"), ("1000", "-5"), ("1000", "0.5"), ("1000", "nan"), ("nan", "100"), ("inf", "10"),
     ("1000", None), (None, "100"), ("1000", "")],
)  # fmt: skip
def test_windows_that_cannot_be_used_are_refused(centre: str | None, width: str | None) -> None:
    window = {
        name: ("DS", value)
        for name, value in (("WindowCenter", centre), ("WindowWidth", width))
        if value is not None
    }
    with pytest.raises(UnreadableImage, match=r"Window|window"):
        read_radiograph(dicom(FILM, bits=12, **window))


def test_empty_windows_are_no_windows() -> None:
    data = dicom(GREY, WindowCenter=("DS", ""), WindowWidth=("DS", ""))
    close(data, GREY / 255)
    assert read_radiograph(data).facts.window is None


def test_signed_values_and_rescale_come_before_the_window() -> None:
    film = (FILM.astype(np.int32) - 2048).astype(np.int16)
    window = {"WindowCenter": 300, "WindowWidth": 5000}
    rescale = {"RescaleSlope": 1.5, "RescaleIntercept": -70, **window}
    close(dicom(film, bits=16, **window), linear(film, 300, 5000))
    close(dicom(film, bits=12, **window), linear(film, 300, 5000))
    close(dicom(film, bits=12, **rescale), linear(film * 1.5 - 70, 300, 5000))
    close(dicom(FILM, bits=12, **rescale), linear(FILM * 1.5 - 70, 300, 5000))


def test_a_negative_slope_turns_grey_round() -> None:
    close(dicom(GREY, RescaleSlope=-1, RescaleIntercept=255), 1 - GREY / 255)
    with pytest.raises(UnreadableImage, match="RescaleSlope"):
        read_radiograph(dicom(GREY, RescaleSlope=0))
    with pytest.raises(UnreadableImage, match=r"not numbers|damaged"):
        read_radiograph(dicom(FILM, bits=12, RescaleSlope=("DS", "1e308"), RescaleIntercept=0))


def test_eight_bits_without_a_window_read_as_their_png_does() -> None:
    film = (GREY // 2).astype(np.uint8)
    np.testing.assert_array_equal(pixels_of(dicom(film)), pixels_of(encoded(film)))


def test_deep_films_without_a_window_span_their_own_range() -> None:
    film = (GREY.astype(np.uint16) * 5 + 300).astype(np.uint16)
    low, high = np.percentile(film, [0.5, 99.5])
    close(dicom(film, bits=16), np.clip((film - low) / (high - low), 0, 1), 0.02)
    spoilt = film.copy()
    spoilt[10, 10] = 65535  # one hot pixel
    np.testing.assert_allclose(
        pixels_of(dicom(spoilt, bits=16))[20:], pixels_of(dicom(film, bits=16))[20:], atol=0.02
    )


def test_a_small_film_on_a_wide_background_keeps_its_contrast() -> None:
    film = np.zeros((400, 400), np.uint16)
    film[:16, :16] = np.arange(256).reshape(16, 16) + 1000  # 0.16 % of the pixels
    assert len(np.unique(pixels_of(dicom(film, bits=16)))) == 257


def test_unused_bits_are_masked_and_shifted_away() -> None:
    noise = np.random.default_rng(0).integers(0, 16, FILM.shape).astype(np.uint16)
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    plain = pixels_of(dicom(FILM, bits=12, **window))
    close(dicom(FILM | (noise << 12), bits=12, **window), plain)
    close(dicom((FILM << 4) | noise, bits=12, HighBit=15, **window), plain)


def look_up_table(entries: NDArray[Any] | list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add(DataElement("LUTDescriptor", "US", [len(entries) % 65536, first, bits]))
    item.add(DataElement("LUTData", "US", [int(entry) for entry in entries]))
    return item


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_the_voi_lut_is_looked_up_beyond_its_ends_too(syntax: str) -> None:
    curve = np.rint(4095 * np.linspace(0, 1, 2001) ** 2).astype(int)
    expected = curve[np.clip(FILM.astype(int) - 1000, 0, 2000)] / 4095
    data = dicom(FILM, bits=12, syntax=syntax, VOILUTSequence=[look_up_table(curve, 1000, 12)])
    close(data, expected)


def test_the_voi_lut_goes_before_the_window() -> None:
    table = look_up_table(np.arange(4096)[::-1], 0, 12)
    data = dicom(FILM, bits=12, VOILUTSequence=[table], WindowCenter=100, WindowWidth=10)
    close(data, (4095 - FILM) / 4095)
    assert read_radiograph(data).facts.window is None


def test_the_modality_lut_goes_before_the_window_and_reads_signed_ends() -> None:
    film = (FILM.astype(np.int32) - 2048).astype(np.int16)
    table = look_up_table(np.arange(4096) // 2, 65536 - 2048, 16)
    data = dicom(film, bits=12, ModalityLUTSequence=[table], WindowCenter=1000, WindowWidth=1500)
    close(data, linear((film.astype(int) + 2048) // 2, 1000, 1500))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_tables_may_be_written_as_words(syntax: str) -> None:
    entries = np.arange(4096)[::-1].astype(">u2" if syntax == ExplicitVRBigEndian else "<u2")
    item = Dataset()
    item.add(DataElement("LUTDescriptor", "US", [4096, 0, 12]))
    item.add(DataElement("LUTData", "OW", entries.tobytes()))
    data = dicom(FILM, bits=12, syntax=syntax, VOILUTSequence=[item])
    close(data, (4095 - FILM) / 4095)


def test_eight_bit_tables_may_be_packed_in_words() -> None:
    entries = np.arange(256, dtype=np.uint8)[::-1]
    item = Dataset()
    item.add(DataElement("LUTDescriptor", "US", [256, 0, 8]))
    item.add(DataElement("LUTData", "OW", entries.tobytes()))
    close(dicom(GREY, VOILUTSequence=[item]), (255 - GREY.astype(int)) / 255)


def test_a_table_that_is_too_short_is_refused() -> None:
    item = look_up_table(range(10), 0, 12)
    item.LUTDescriptor = [4096, 0, 12]
    with pytest.raises(UnreadableImage, match="10 of 4096"):
        read_radiograph(dicom(FILM, bits=12, VOILUTSequence=[item]))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_padding_is_black_and_does_not_count(photometric: str, syntax: str) -> None:
    film = (GREY.astype(np.uint16) * 3 + 5000).astype(np.uint16)
    padded = film.copy()
    padded[:4] = 63000
    padded[4:8] = 63005
    common = {"bits": 16, "syntax": syntax, "PhotometricInterpretation": photometric}
    data = dicom(padded, PixelPaddingValue=63000, PixelPaddingRangeLimit=63005, **common)
    assert (pixels_of(data)[:8] == 0).all()
    np.testing.assert_allclose(pixels_of(data)[8:], pixels_of(dicom(film[8:], **common)), atol=1e-6)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_padding_may_be_negative(syntax: str) -> None:
    film = GREY.astype(np.int16)
    film[:8] = -2000
    padding = ("US", 65536 - 2000) if syntax == ExplicitVRLittleEndian else ("SS", -2000)
    common = {"bits": 16, "syntax": syntax, "PhotometricInterpretation": "MONOCHROME1"}
    data = dicom(film, PixelPaddingValue=padding, **common)
    assert (pixels_of(data)[:8] == 0).all()
    assert np.median(pixels_of(data)[8:]) > 0.3


# ---------------------------------------------------------------- DICOM: how it is written


def by_gdcm(data: bytes, syntax: str, folder: Path) -> bytes:
    """Compress with GDCM, which can what pydicom cannot."""
    import gdcm  # after Pillow: see the comment in images.py

    source, target = folder / "source.dcm", folder / "target.dcm"
    source.write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target.read_bytes()


@pytest.mark.parametrize(
    "syntax",
    [RLELossless, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless],
    ids=lambda uid: uid.name,
)
@pytest.mark.parametrize("bits", [8, 12])
def test_lossless_compression_changes_nothing(syntax: str, bits: int, tmp_path: Path) -> None:
    plain = dicom(GREY if bits == 8 else FILM, bits=bits)
    compressed = by_gdcm(plain, syntax, tmp_path)
    np.testing.assert_array_equal(pixels_of(compressed), pixels_of(plain))


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_eight_bit_jpeg_in_dicom_reads_as_the_jpeg_does(syntax: str) -> None:
    jpeg = encoded(GREY, "JPEG", quality=95)
    np.testing.assert_array_equal(
        pixels_of(dicom(encapsulate([jpeg]), syntax=syntax)), pixels_of(jpeg)
    )


@pytest.mark.parametrize("share", [0.5, 0.99])
@pytest.mark.parametrize(
    "syntax",
    [RLELossless, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless],
    ids=lambda uid: uid.name,
)
def test_a_compressed_frame_cut_short_is_refused(syntax: str, share: float, tmp_path: Path) -> None:
    dataset = dcmread(io.BytesIO(by_gdcm(dicom(FILM, bits=12), syntax, tmp_path)))
    fragment = dataset.PixelData[16:]
    dataset.PixelData = encapsulate([fragment[: int(len(fragment) * share)]])
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(UnreadableImage, match=r"damaged|cut short|beyond"):
        read_radiograph(stream.getvalue())


@pytest.mark.parametrize(
    "data",
    [
        dicom(GREY, preamble=False),
        dicom(GREY, meta=False),
        dicom(GREY, meta=False, syntax=ImplicitVRLittleEndian),
        dicom(
            DEEP,
            bits=16,
            meta=False,
            syntax=ExplicitVRBigEndian,
            WindowCenter=32768,
            WindowWidth=65536,
        ),
        dicom(GREY, syntax=DeflatedExplicitVRLittleEndian),
    ],
    ids=["no preamble", "no meta", "no meta, implicit", "no meta, big endian", "deflated"],
)
def test_dicom_is_recognised_however_it_starts(data: bytes) -> None:
    radiograph = read_radiograph(data)
    assert radiograph.facts.format == "DICOM"
    expected = GREY / 255 if radiograph.facts.bits == 8 else DEEP / 65535
    np.testing.assert_allclose(radiograph.pixels, expected, atol=1e-4)
    assert read_study_reference(data) is not None


RGB = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_colour_dicom_reads_as_the_same_png(syntax: str) -> None:
    expected = read_radiograph(encoded(RGB))
    common = {"syntax": syntax, "PhotometricInterpretation": "RGB"}
    by_pixel = read_radiograph(dicom(RGB, PlanarConfiguration=0, **common))
    planes = RGB.transpose(2, 0, 1).tobytes()
    by_plane = read_radiograph(dicom(planes, SamplesPerPixel=3, PlanarConfiguration=1, **common))
    for radiograph in (by_pixel, by_plane):
        np.testing.assert_array_equal(radiograph.pixels, expected.pixels)
        assert radiograph.facts.colourfulness == pytest.approx(expected.facts.colourfulness)
        assert radiograph.facts.photometric_interpretation == "RGB"


def test_luma_and_chroma_read_as_the_picture_they_stand_for() -> None:
    ybr = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    data = dicom(ybr, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=0)
    close(data, pixels_of(encoded(RGB)), 0.02)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_palette_colour_reads_as_the_picture_it_stands_for(syntax: str) -> None:
    tables: dict[str, Any] = {}
    for colour, shift in (("Red", 0), ("Green", 85), ("Blue", 170)):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        table = ((np.arange(256) + shift) % 256 * 257).astype("<u2").tobytes()
        tables[f"{colour}PaletteColorLookupTableData"] = table
    data = dicom(GREY, syntax=syntax, PhotometricInterpretation="PALETTE COLOR", **tables)
    index = GREY.astype(int)
    colours = np.dstack([index, (index + 85) % 256, (index + 170) % 256]).astype(np.uint8)
    close(data, pixels_of(encoded(colours)), 0.01)


# ---------------------------------------------------------------- DICOM: what is refused

JPEG_OF_ANOTHER_SIZE = encapsulate([encoded(np.tile(GREY, (2, 2)), "JPEG")])
REFUSED_DICOM: dict[str, tuple[bytes, type[ImageError], str]] = {
    "missing photometric": (dicom(PhotometricInterpretation=None), UnsupportedImage, "is missing"),
    "unknown photometric": (
        dicom(PhotometricInterpretation="MONOCHROME3"), UnsupportedImage, "MONOCHROME3"),
    "no picture": (dicom(PixelData=None, Rows=None), UnsupportedImage, "CR"),
    "no pixel data": (dicom(PixelData=None), UnreadableImage, "before its pixel data"),
    "no rows": (dicom(Rows=None), UnreadableImage, "Rows"),
    "rows twice": (dicom(Rows=("US", [48, 48])), UnreadableImage, "Rows"),
    "nothing": (dicom(Rows=0), ImageTooSmall, "40 x 0"),
    "too few bytes": (dicom(GREY.tobytes()[:-9]), UnreadableImage, "1,912 of 1,920"),
    "32 bits": (dicom(BitsAllocated=32, BitsStored=32, HighBit=31), UnsupportedImage, "32 bits"),
    "deep colour": (
        dicom(np.dstack([FILM] * 3), bits=16, PhotometricInterpretation="RGB"),
        UnsupportedImage, "16 bits"),
    "more stored than allocated": (
        dicom(BitsStored=12, HighBit=11), UnreadableImage, "contradicts"),
    "no bits": (dicom(BitsStored=0, HighBit=0), UnreadableImage, "contradicts"),
    "grey with three samples": (dicom(SamplesPerPixel=3), UnreadableImage, "contradicts"),
    "colour with one": (dicom(PhotometricInterpretation="RGB"), UnreadableImage, "contradicts"),
    "12-bit extended JPEG": (
        dicom(encapsulate([bytes(99)]), bits=12, syntax=JPEGExtended12Bit),
        UnsupportedImage, "12-bit JPEG"),
    "a video": (
        dicom(encapsulate([bytes(99)]), syntax=MPEG2MPML), UnsupportedImage, "transfer syntax"),
    "another size inside": (
        dicom(JPEG_OF_ANOTHER_SIZE, syntax=JPEGBaseline8Bit), UnreadableImage, "80 x 96"),
    "no frame inside": (
        dicom(encapsulate([b"\0\0"]), syntax=JPEGBaseline8Bit), UnreadableImage, "damaged"),
    "a table of nothing": (dicom(VOILUTSequence=[Dataset()]), UnreadableImage, "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_DICOM)
def test_dicom_that_cannot_be_trusted_gives_one_sentence(name: str) -> None:
    data, kind, words = REFUSED_DICOM[name]
    with pytest.raises(ImageError) as caught:
        read_radiograph(data)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_damaged_lossless_frame_does_not_end_the_process(tmp_path: Path) -> None:
    data = bytearray(by_gdcm(dicom(FILM, bits=12), JPEGLSLossless, tmp_path))
    start = data.index(b"\xff\xda") + 12
    refused = 0
    for seed in range(4):
        bad = bytearray(data)
        for at in np.random.default_rng(seed).integers(start, len(bad) - 40, 30):
            bad[at] ^= 0x5A
        try:
            read_radiograph(bytes(bad))
        except ImageError:
            refused += 1
    assert refused


# ---------------------------------------------------------------- facts and identifiers


@pytest.mark.parametrize(
    ("age", "years"),
    [("045Y", 45), ("006M", 0.5), ("000D", 0), ("026W", 0.498), ("81", 81), ("414Y", None),
     ("old", None), ("", None)],
)  # fmt: skip
def test_ages_are_in_years(age: str, years: float | None) -> None:
    facts = read_radiograph(dicom(PatientAge=("AS", age))).facts
    assert facts.age_years == (None if years is None else pytest.approx(years, abs=0.001))


def test_the_facts_of_the_header_are_kept() -> None:
    data = dicom(
        PatientSex="F", ViewPosition="pa", BodyPartExamined="CHEST", PatientAge="045Y",
        ImagerPixelSpacing=[0.143, 0.15], PixelSpacing=[0.2, 0.2],
    )  # fmt: skip
    facts = read_radiograph(data).facts
    assert (facts.sex, facts.view, facts.body_part, facts.modality) == ("F", "PA", "CHEST", "CR")
    assert facts.pixel_spacing_mm == (0.2, 0.2)
    assert facts.colourfulness == 0


@pytest.mark.parametrize(
    ("elements", "spacing", "place"),
    [
        ({"ImagerPixelSpacing": [0.143, 0.15]}, (0.143, 0.15), "detector"),
        ({"ImagerPixelSpacing": [0.1, 0.1], "PixelSpacing": [0.1, 0.1]}, (0.1, 0.1), "detector"),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.18, 0.18]}, (0.18, 0.18), "patient"),
        (
            {
                "ImagerPixelSpacing": [0.2, 0.2],
                "PixelSpacing": [0.2, 0.2],
                "PixelSpacingCalibrationType": "FIDUCIAL",
            },
            (0.2, 0.2),
            "patient",
        ),
        ({"PixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "unknown"),
        ({"NominalScannedPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "scanned"),
        (
            {"NominalScannedPixelSpacing": [0.2, 0.3], "PixelSpacing": [0.2, 0.3]},
            (0.2, 0.3),
            "scanned",
        ),
        ({"ImagerPixelSpacing": [0.1, 0.1], "PixelSpacing": [0, 0]}, (0.1, 0.1), "detector"),
        ({}, None, None),
    ],
)
def test_a_spacing_is_known_with_the_place_where_it_holds(
    elements: dict[str, Any], spacing: tuple[float, float] | None, place: str | None
) -> None:
    """Reference: DICOM PS3.3 10.7.1.1."""
    facts = read_radiograph(dicom(**elements)).facts
    assert (facts.pixel_spacing_mm, facts.spacing_at) == (spacing, place)


@pytest.mark.parametrize("polarity", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
def test_a_further_window_shows_what_the_film_through_it_would(
    polarity: str, function: str
) -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    centres, widths = [2048, 1800, 2300], [3000, 901, 801]
    told = {"PhotometricInterpretation": polarity, "VOILUTFunction": function}
    names = ["NORMAL", "Dr. Quillon's own, by hand", "HARDER"]
    film = read_radiograph(
        dicom(
            ramp, bits=12, WindowCenter=centres, WindowWidth=widths,
            WindowCenterWidthExplanation=("LO", names), **told,
        )
    )  # fmt: skip
    assert [name for name, _, _ in film.facts.windows] == ["NORMAL", "", "HARDER"]
    for (_, low, high), centre, width in zip(film.facts.windows, centres, widths, strict=True):
        alone = read_radiograph(
            dicom(ramp, bits=12, WindowCenter=centre, WindowWidth=width, **told)
        )
        shown = ((film.pixels - low) / (high - low)).clip(0, 1)
        np.testing.assert_allclose(shown, alone.pixels, atol=1e-4)


@pytest.mark.parametrize(
    ("elements", "count"),
    [
        ({"WindowCenter": [2048, 2048], "WindowWidth": [1000, 3000]}, 1),  # wider than the first
        ({"WindowCenter": [2048, 2048], "WindowWidth": [3000, 1000]}, 2),
        (
            {
                "WindowCenter": [2048, 2048],
                "WindowWidth": [3000, 1000],
                "VOILUTFunction": "SIGMOID",
            },
            1,
        ),
        ({"WindowCenter": [2048, 2048], "WindowWidth": [3000]}, 1),
        ({"WindowCenter": [2048, 2048], "WindowWidth": [1, 1]}, 1),
        ({}, 0),
    ],
)
def test_only_windows_within_the_first_are_offered(elements: dict[str, Any], count: int) -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    assert len(read_radiograph(dicom(ramp, bits=12, **elements)).facts.windows) == count


def test_facts_that_make_no_sense_are_unknown() -> None:
    data = dicom(
        PatientSex=("CS", "X"), ViewPosition=("CS", "Dr. Quillon, please repeat!"),
        BodyPartExamined="", PixelSpacing=[0, 0], Modality=("CS", ["CR", "DX"]),
    )  # fmt: skip
    facts = read_radiograph(data).facts
    assert (facts.sex, facts.view, facts.body_part, facts.modality) == (None, None, None, None)
    assert facts.pixel_spacing_mm is None


@pytest.mark.parametrize(
    ("code", "view"), [("R-10214", "PA"), ("399348003", "AP"), ("399173006", "LL"), ("X", None)]
)
def test_the_view_may_be_coded(code: str, view: str | None) -> None:
    item = Dataset()
    item.CodeValue = code
    assert read_radiograph(dicom(ViewCodeSequence=[item])).facts.view == view


def test_no_identifier_reaches_the_radiograph() -> None:
    radiograph = read_radiograph(dicom(PatientAge="045Y"))
    told = repr(dataclasses.asdict(dataclasses.replace(radiograph, pixels=None)))
    for secret in (NAME, "ZEBEDEE", IDENTIFIER, DATE, "1951", "1.2.826", "Elsewhere"):
        assert secret not in told
    fields = {field.name for field in dataclasses.fields(images.Facts)}
    assert not {"patient_id", "patient_name", "study_date", "accession_number"} & fields


@pytest.mark.parametrize("name", REFUSED_DICOM)
def test_no_identifier_reaches_an_error(name: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_radiograph(REFUSED_DICOM[name][0])
    error: BaseException | None = caught.value
    while error:
        for secret in ("ZEBEDEE", IDENTIFIER, DATE):
            assert secret not in str(error)
        error = error.__cause__ or error.__context__


def test_the_study_reference_says_whose_film_it_is() -> None:
    reference = read_study_reference(dicom(GREY))
    assert reference == images.StudyReference(
        IDENTIFIER,
        NAME,
        "1.2.826.0.1.1.77",
        "1.2.826.0.1.2.77",
        "1.2.826.0.1.3.77",
        DATE,
        birth_date="19510607",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
    )
    for secret in (IDENTIFIER, "ZEBEDEE", DATE, "19510607", "1.2.826.0.1.1.77"):
        assert secret not in repr(reference) + str(reference)
    issued = read_study_reference(dicom(GREY, IssuerOfPatientID="NORTH"))
    assert issued is not None and issued.issuer == "NORTH" and "NORTH" not in repr(issued)
    silent = read_study_reference(dicom(GREY, PatientName=None, PatientID="", StudyDate=None))
    assert silent is not None
    assert (silent.patient_name, silent.patient_id, silent.study_date) == ("", "", "")
    twice = read_study_reference(dicom(GREY, PatientID=("LO", ["A", "B"])))
    assert twice is not None
    assert twice.patient_id == "A\\B", "as DICOM writes two values, which no identifier may be"
    assert read_study_reference(encoded(GREY)) is None
    assert read_study_reference(b"") is None


def test_a_png_is_read_without_pydicom_and_pillow_outlives_gdcm(tmp_path: Path) -> None:
    """GDCM loaded before the system's zlib makes every later PNG corrupt memory."""
    (tmp_path / "film.png").write_bytes(encoded(GREY))
    (tmp_path / "film.dcm").write_bytes(dicom(GREY))
    code = """
import sys
from pathlib import Path
from cxr_core.images import load_radiograph
from cxr_core.phantom import png_bytes
folder = Path(sys.argv[1])
png = load_radiograph(folder / "film.png")
assert not {"pydicom", "gdcm", "tensorflow"} & set(sys.modules)
film = load_radiograph(folder / "film.dcm")
import gdcm
for _ in range(3):
    (folder / "film.png").write_bytes(png_bytes(film))
    assert (load_radiograph(folder / "film.png").pixels == png.pixels).all()
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


# ---------------------------------------------------------------- damaged at random

SOUND = {
    "png": EXACT["grey png"],
    "deep png": encoded(DEEP),
    "palette png": EXACT["palette png"],
    "jpeg": encoded(COLOUR, "JPEG"),
    "tiff": EXACT["lzw tiff"],
    "bmp": EXACT["rgb bmp"],
    "dicom": dicom(FILM, bits=12, WindowCenter=2000, WindowWidth=4000, PatientAge="045Y"),
    "implicit dicom": dicom(FILM, bits=12, syntax=ImplicitVRLittleEndian, meta=False),
    "lut dicom": dicom(FILM, bits=12, VOILUTSequence=[look_up_table(range(300), 0, 12)]),
    "deflated dicom": dicom(GREY, syntax=DeflatedExplicitVRLittleEndian),
    "jpeg dicom": dicom(encapsulate([encoded(GREY, "JPEG")]), syntax=JPEGBaseline8Bit),
    "palette dicom": dicom(
        GREY,
        PhotometricInterpretation="PALETTE COLOR",
        **{
            f"{colour}PaletteColorLookupTable{part}": value
            for colour in ("Red", "Green", "Blue")
            for part, value in (("Descriptor", [256, 0, 8]), ("Data", bytes(range(256))))
        },
    ),
}


@pytest.mark.parametrize("name", SOUND)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    in_header=st.booleans(),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damage_raises_nothing_but_image_errors(
    name: str, edits: list[tuple[float, int]], in_header: bool, kept: float
) -> None:
    data = bytearray(SOUND[name])
    reach = min(len(data), 1400) if in_header else len(data)
    for where, value in edits:
        data[int(where * (reach - 1))] = value
    damaged_data = bytes(data[: int(len(data) * kept)])
    try:
        radiograph = read_radiograph(damaged_data)
    except ImageError as error:
        assert str(error).endswith(".")
    else:
        assert np.isfinite(radiograph.pixels).all()
        assert 0 <= radiograph.pixels.min() < radiograph.pixels.max() <= 1
    try:
        read_study_reference(damaged_data)
    except ImageError as error:
        assert str(error).endswith(".")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    head=st.sampled_from(
        [b"", *images._MAGIC, bytes(128) + b"DICM", b"\x08\0\5\0CS", b"\2\0\0\0UL"]
    ),
    tail=st.binary(max_size=400),
)
def test_bytes_of_any_kind_raise_nothing_but_image_errors(head: bytes, tail: bytes) -> None:
    with pytest.raises(ImageError):
        read_radiograph(head + tail)


# ---------------------------------------------------------------- real films

DICOM_FILES = {
    "cr_chest_mono1_10bit": 10, "cr_chest_mono1_15bit_jpeg2000": 15,
    "cr_chest_mono1_no_file_meta": 10, "cr_tibia_mono1_jpeg2000": 10,
    "nih_bodypart_says_ribcage": 8, "nih_effusion": 8, "nih_no_finding": 8,
    "rsna_pa_mono1_jpeg": 8, "rsna_pa_mono2_jpeg": 8,
}  # fmt: skip


@pytest.mark.parametrize("name", DICOM_FILES)
def test_real_dicom_films_are_read(data: Path, name: str) -> None:
    radiograph = load_radiograph(data / "dicom" / f"{name}.dcm")
    assert radiograph.facts.bits == DICOM_FILES[name]
    assert radiograph.pixels.std() > 0.1
    if "chest" in name:  # lungs darker than the mediastinum: polarity is right
        rows = radiograph.pixels[radiograph.pixels.shape[0] // 2 :][:20].mean(axis=0)
        width = len(rows)
        spine, lungs = rows[width // 2 - 9 : width // 2 + 9], rows[width // 4 : width // 4 + 18]
        assert spine.mean() > lungs.mean() + 0.1


def test_a_real_12_bit_jpeg_says_what_to_do(data: Path) -> None:
    with pytest.raises(UnsupportedImage, match="export it uncompressed or as JPEG 2000"):
        load_radiograph(data / "dicom" / "cr_tibia_jpeg_extended_12bit.dcm")


def test_a_wrong_polarity_tag_is_believed(data: Path) -> None:
    right = load_radiograph(data / "dicom" / "rsna_pa_mono2_jpeg.dcm")
    wrong = load_radiograph(data / "dicom" / "rsna_pa_mono1_jpeg.dcm")
    np.testing.assert_allclose(right.pixels, 1 - wrong.pixels, atol=1e-6)
    assert right.facts.view == "PA" and right.facts.age_years == 62
    assert right.facts.pixel_spacing_mm == (0.168, 0.168)


def test_missing_file_meta_changes_nothing(data: Path) -> None:
    whole = load_radiograph(data / "dicom" / "cr_chest_mono1_10bit.dcm")
    bare = load_radiograph(data / "dicom" / "cr_chest_mono1_no_file_meta.dcm")
    np.testing.assert_array_equal(whole.pixels, bare.pixels)
    assert whole.facts == bare.facts


def test_real_photographs_are_colourful_and_real_films_are_not(data: Path) -> None:
    photo = next((data / "not_chest_xray" / "photo").iterdir())
    film = next((data / "pediatric_fullres" / "NORMAL").iterdir())
    assert load_radiograph(photo).facts.colourfulness > 0.05
    assert load_radiograph(film).facts.colourfulness < 0.01
