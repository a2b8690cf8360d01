"""Which objects of an archive are films that may be read here."""

from cxr_core.images.dicom import MANUFACTURER, dicom_dataset

# DICOM PS3.4 B.5: as they are looked at, not as the detector gave them ("for processing").
FILMS = {
    "1.2.840.10008.5.1.4.1.1.1": "computed radiography",
    "1.2.840.10008.5.1.4.1.1.1.1": "digital X-ray, for presentation",
    "1.2.840.10008.5.1.4.1.1.7": "secondary capture",
}
MODALITIES = ("CR", "DX", "DR")


def is_ours(data: bytes) -> bool:
    """Say whether a DICOM file, which can be read, was made by `export`.

    An archive that passes on what it gets would otherwise send an answer back as a new film.
    """
    dataset, _ = dicom_dataset(data, "Manufacturer")
    return str(dataset.get("Manufacturer") or "").strip() == MANUFACTURER
