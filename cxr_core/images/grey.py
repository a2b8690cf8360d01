"""Stored DICOM values to grey: modality LUT, VOI LUT or window, polarity, padding."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import UnreadableImage, UnsupportedImage
from cxr_core.images.film import needed_bits
from cxr_core.images.header import Header, number, numbers, shorts, words


def grey_table(
    dataset: Any, header: Header, codes: NDArray[Any]
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
            grey = grey / (2 ** needed_bits(int(grey.max())) - 1)
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


def _padding(dataset: Any, header: Header, stored: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the stored values that stand for no picture at all.

    Reference: DICOM PS3.3 C.7.5.1.1.2.
    """
    first = shorts(dataset, "PixelPaddingValue")[:1]
    if not first:
        return np.zeros(len(stored), np.bool_)
    limit = shorts(dataset, "PixelPaddingRangeLimit")[:1] or first
    # Writers often give the bit pattern of a negative value where the value itself belongs.
    size = 2**header.allocated
    ends = [end - size if header.signed and end >= size // 2 else end for end in first + limit]
    return (stored >= min(ends)) & (stored <= max(ends))


def _modality(dataset: Any, header: Header, stored: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn stored values into what the detector meant."""
    if dataset.get("ModalityLUTSequence"):
        return _look_up(dataset.ModalityLUTSequence[0], stored, header.signed)
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if slope == 0:
        raise UnreadableImage(
            "The DICOM header's RescaleSlope is 0, which would make every pixel alike; export "
            "the film again."
        )
    return stored * (1.0 if slope is None else slope) + (intercept or 0.0)


def _look_up(item: Any, values: NDArray[np.float64], signed: bool) -> NDArray[np.float64]:
    """Send values through a DICOM look-up table; beyond its ends, its end values hold."""
    count, first, bits = shorts(item, "LUTDescriptor")
    count = count or 2**16
    first -= 2**16 if signed and first >= 2**15 else 0
    entries = np.array(shorts(item, "LUTData"), np.float64)
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
    centre, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if centre is None and width is None:
        return None
    least = 1.0 if _voi_function(dataset) == "LINEAR" else np.finfo(np.float32).tiny
    if centre is None or width is None or width < least:
        raise UnreadableImage(
            f"The DICOM header's window cannot be used: centre {centre}, width {width}; export "
            "the film with a width of at least 1."
        )
    return centre, width


def named_windows(dataset: Any, photometric: str) -> tuple[tuple[str, float, float], ...]:
    """Return the windows of the header that lie within the first: name, black and white.

    The first is what `grey_table` applied; black and white are shares of it. What reaches
    beyond it was clipped, so that a wider window would show less than it promises; and only
    straight windows are shares of one another.

    Reference: DICOM PS3.3 C.11.2.1.2.
    """
    function = _voi_function(dataset)
    straight, step = function.startswith("LINEAR"), float(function == "LINEAR")
    centres, widths = (numbers(dataset, name) for name in ("WindowCenter", "WindowWidth"))
    names = words(dataset, "WindowCenterWidthExplanation")
    begin, whole = centres[0] - widths[0] / 2, widths[0] - step
    found = [(names[0] if names else "", 0.0, 1.0)]
    for k, (centre, width) in enumerate(zip(centres, widths, strict=False)):
        low = (centre - width / 2 - begin) / (whole or 1.0)
        high = low + (width - step) / (whole or 1.0)
        if k and straight and -1e-6 <= low < high <= 1 + 1e-6:
            found.append((names[k] if k < len(names) else "", low, high))
    if photometric == "MONOCHROME1":
        found = [(name, 1 - high, 1 - low) for name, low, high in found]
    return tuple(found)


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
    header: Header,
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
