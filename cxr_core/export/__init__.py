"""What leaves the program as a file: explanations and evaluations.

`export_explanation` writes the picture of an explanation. An evaluation leaves as a report
to print (`evaluation_pdf`), as numbers (`evaluation_csv`, `evaluation_json`) and as pictures
(`figures_zip`): values go in, bytes come out, the same for the same values. None of these
needs TensorFlow, the network or a film.
"""

from cxr_core.export.document import evaluation_pdf, predictions_digest
from cxr_core.export.explanation import export_explanation
from cxr_core.export.numbers import evaluation_csv, evaluation_json
from cxr_core.export.pictures import figures_zip

__all__ = [
    "evaluation_csv",
    "evaluation_json",
    "evaluation_pdf",
    "export_explanation",
    "figures_zip",
    "predictions_digest",
]
