"""DICOM films of made patients: a phantom, whose it is and when it was taken."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from cxr_core.images import Radiograph
from cxr_core.phantom import Opacity, thorax

ILL: Sequence[Opacity] = (Opacity(0.29, 0.64, 0.12, 0.9), Opacity(0.7, 0.5, 0.12, 0.9))


def dicom(
    day: str = "",
    patient: str = "P-1",
    *,
    seed: int = 1,
    ill: bool = False,
    film: Radiograph | None = None,
) -> bytes:
    """A film of a patient and a day; unless one is given, a phantom of a seed's anatomy."""
    if film is None:
        film = thorax(256, 224, seed=seed, opacities=ILL if ill else ())
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[day, patient])
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientAge = "Doe^Jane", patient, "003Y"
    dataset.StudyDate, dataset.Modality, dataset.ViewPosition = day, "CR", "AP"
    dataset.Rows, dataset.Columns = film.pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.rint(film.pixels * 255).astype(np.uint8).tobytes()
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
