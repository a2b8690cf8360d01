"""PNG, JPEG, TIFF and BMP to grey."""

from io import BytesIO
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

from cxr_core.errors import UnreadableImage
from cxr_core.images.film import Facts, check_size, needed_bits

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


def read_raster(data: bytes, form: str) -> tuple[NDArray[np.float32], Facts]:
    """Decode a PNG, JPEG, TIFF or BMP film into float32 (H, W) in [0, 1]."""
    image = _PLUGINS[form](BytesIO(data))
    check_size(image.height, image.width, getattr(image, "n_frames", 1))
    white_is_zero = form == "TIFF" and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels, bits = _deep(np.asarray(image))
        if white_is_zero:  # Pillow inverts these at 8 bits only
            np.subtract(1, pixels, out=pixels)
        photometric = "MONOCHROME1" if white_is_zero else "MONOCHROME2"
        return pixels, Facts(form, bits, photometric)
    pixels, colourfulness = luminance(image)
    photometric = "MONOCHROME2" if image.mode in ("1", "L", "LA", "La") else "RGB"
    photometric = "MONOCHROME1" if white_is_zero else photometric
    return pixels, Facts(form, 8, photometric, colourfulness=colourfulness)


def luminance(image: Any) -> tuple[NDArray[np.float32], float]:
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
    bits = needed_bits(int(high)) if values.dtype.kind in "iu" else 32
    if values.dtype.kind in "iu" and low >= 0 and bits <= 16:
        return np.divide(values, np.float32(2**bits - 1), dtype=np.float32), bits
    span = high - low or 1.0
    return ((values.astype(np.float64) - low) / span).astype(np.float32), bits
