"""What leaves the program as a file: readings, explanations and evaluations.

One reading (`ReadingRecord`) leaves as a page to print (`reading_pdf`), as a DICOM structured
report (`structured_report`) and picture (`secondary_capture`) for the archive, as FHIR
(`reading_fhir`) and as rows (`reading_csv`).

`export_explanation` writes the picture of an explanation. An evaluation leaves as a report
to print (`evaluation_pdf`), as numbers (`evaluation_csv`, `evaluation_json`) and as pictures
(`figures_zip`): values go in, bytes come out, the same for the same values. None of these
needs TensorFlow, the network or a film.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cxr_core.export.explanation import export_explanation
from cxr_core.export.fhir import reading_fhir
from cxr_core.export.filing import unfileable
from cxr_core.export.numbers import evaluation_csv, evaluation_json
from cxr_core.export.pictures import figures_zip
from cxr_core.export.reading_record import Finding, ReadingRecord, ShownMap
from cxr_core.export.reading_table import reading_csv
from cxr_core.export.secondary import secondary_capture
from cxr_core.export.structured import structured_report

if TYPE_CHECKING:
    from cxr_core.export.document import evaluation_pdf, predictions_digest
    from cxr_core.export.reading_page import reading_pdf

__all__ = [
    "Finding",
    "ReadingRecord",
    "ShownMap",
    "evaluation_csv",
    "evaluation_json",
    "evaluation_pdf",
    "export_explanation",
    "figures_zip",
    "predictions_digest",
    "reading_csv",
    "reading_fhir",
    "reading_pdf",
    "secondary_capture",
    "structured_report",
    "unfileable",
]

_ON_PAPER = {
    "evaluation_pdf": "document",
    "predictions_digest": "document",
    "reading_pdf": "reading_page",
}


def __getattr__(name: str) -> Any:
    """Load what lays out pages, and with it reportlab, when somebody prints: it takes a moment."""
    if name in _ON_PAPER:
        return getattr(import_module(f"{__name__}.{_ON_PAPER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
