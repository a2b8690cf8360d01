"""Answers as a Parquet table: the columns of `predict --csv`, and more."""

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cxr_core.cards import ModelCard
from cxr_core.screening.answers import Answer

COMPRESSION = "zstd"
Row = dict[str, Any]


def schema_of(card: ModelCard, contours: bool) -> pa.Schema:
    """Return the columns of a model's answers, without `duplicate_of`, which comes last.

    `gate_report` is JSON, as `predict --json` prints it; contours are lists of lines of [x, y].
    """
    fields = {
        "file": pa.string(),
        "ok": pa.bool_(),
        "gate": pa.string(),
        "error": pa.string(),
        "code": pa.string(),
        "digest": pa.string(),
        "gate_report": pa.string(),
    }
    for label in card.labels:
        fields[f"probability_{label}"] = pa.float64()
        fields[f"operating_point_{label}"] = pa.float64()
        fields[f"flag_{label}"] = pa.bool_()
        fields[f"cannot_tell_{label}"] = pa.bool_()
        if contours:
            fields[f"contours_{label}"] = pa.list_(pa.list_(pa.list_(pa.float32())))
    return pa.schema(fields, {"model": card.name, "version": card.version})


def row_of(answer: Answer) -> Row:
    """Return what one row holds; what is not known is left out."""
    row: Row = {"file": _text(answer.file), "ok": answer.error is None, "digest": answer.digest}
    if answer.error is not None:
        row |= {"error": _text(str(answer.error)), "code": answer.error.code}
    if answer.gate is not None:
        row["gate"] = answer.gate.verdict
        row["gate_report"] = json.dumps(answer.gate.to_json(), allow_nan=False)
    for said in answer.prediction.to_json() if answer.prediction else ():
        label = said.pop("label")
        row |= {f"{name}_{label}": value for name, value in said.items()}
    for label, lines in (answer.contours or {}).items():
        row[f"contours_{label}"] = [line.tolist() for line in lines]
    return row


def _text(text: str) -> str:
    """Write bytes of a file name that are no UTF-8 as escapes, as `predict --csv` does."""
    return text.encode("utf-8", "backslashreplace").decode()


def packed(rows: Sequence[Row], schema: pa.Schema) -> bytes:
    """Write rows as a Parquet file."""
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression=COMPRESSION)
    return buffer.getvalue()
