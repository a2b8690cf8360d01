"""What clients ask and get, as the OpenAPI document shows it.

The objects themselves are made where the command line makes them; tests hold both to these.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cxr_core.attribution import list_methods
from cxr_core.service.settings import MOST_FILMS


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AskedModel(_Shape):
    """Which model is asked."""

    model: str | None = Field(None, description="May be left out where one model is served.")


class AskedAnswer(AskedModel):
    """How a film is asked about."""

    no_gate: bool = Field(False, description="Answer films that the gate refuses, too.")


class AskedMap(AskedModel):
    """What is to be explained."""

    label: str = Field(description="One of the model's labels, as /models names them.")
    method: str = Field("grad-cam", description=f"One of {', '.join(list_methods())}.")


class LabelAnswer(_Shape):
    """The answer for one label."""

    label: str
    probability: float = Field(ge=0, le=1, description="Calibrated.")
    operating_point: float | None = Field(
        ge=0, le=1, description="From here on the label is flagged; null where the largest wins."
    )
    flag: bool
    cannot_tell: bool


class Check(_Shape):
    """One thing that the gate looked at."""

    name: str
    value: float | str | None
    limit: str
    verdict: Literal["ok", "caution", "refuse"]
    reason: str
    mend: str


class Gate(_Shape):
    """Whether the model may speak about this film."""

    verdict: Literal["ok", "caution", "refuse"]
    checks: list[Check]


class Answered(_Shape):
    """A film that was read: as `predict --json` prints it. Refused, it has no predictions."""

    file: str
    ok: Literal[True]
    model: str
    predictions: list[LabelAnswer]
    gate: Gate


class Unread(_Shape):
    """A film that cannot be read: as `predict --json` prints it."""

    file: str
    ok: Literal[False]
    error: str
    code: str


class Failed(_Shape):
    """A request that was not served: why, and what to do, in one sentence."""

    ok: Literal[False]
    error: str
    code: str


class Model(_Shape):
    """What a model may be asked about; more is on its card."""

    model: str
    version: str
    labels: list[str]
    operating_points: list[float | None]
    views: list[str]
    age_range: tuple[float, float] | None
    intended_use: str
    not_for: list[str]
    limits: list[str]
    notes: list[str] = Field(
        description="Where its decisions and its weights do not belong together; else empty."
    )


class Alive(_Shape):
    """The process answers."""

    ok: Literal[True]


class Ready(_Shape):
    """Every model and the gate are loaded, and have looked at a film."""

    ready: Literal[True]
    models: list[str]
    notes: dict[str, list[str]] = Field(description="By model, as in /models.")


_CAUTION = {
    "name": "age",
    "value": None,
    "limit": "1 to 5 years",
    "verdict": "caution",
    "reason": "The file does not say how old the patient is.",
    "mend": "Use this answer only for ages 1 to 5 years.",
}
_COLOURED = {
    "name": "colour",
    "value": 0.41,
    "limit": "at most 0.08",
    "verdict": "refuse",
    "reason": "The picture is coloured, so it is not a plain radiograph.",
    "mend": "Use the film's own file, not a photograph.",
}
_PNEUMONIA = {
    "label": "Pneumonia",
    "probability": 0.91,
    "operating_point": 0.47,
    "flag": True,
    "cannot_tell": False,
}
ANSWERED: dict[str, Any] = {
    "file": "film.png",
    "ok": True,
    "model": "pediatric-pneumonia",
    "predictions": [_PNEUMONIA],
    "gate": {"verdict": "caution", "checks": [_CAUTION]},
}
REFUSED: dict[str, Any] = ANSWERED | {
    "predictions": [],
    "gate": {"verdict": "refuse", "checks": [_COLOURED]},
}
UNREAD: dict[str, Any] = {
    "file": "film.txt",
    "ok": False,
    "error": "film.txt: The file is plain text, not a picture; choose a DICOM, PNG, JPEG, TIFF or "
    "BMP file.",
    "code": "unreadable",
}
# Each error's own example, by status.
FAILED: dict[int, tuple[str, str]] = {
    400: ("cut-short", "The upload broke off; send it again."),
    401: ("token", "The token is missing or wrong; send 'Authorization: Bearer TOKEN'."),
    404: ("unknown-name", "There is no model named 'x'. Known: pediatric-pneumonia."),
    408: ("slow", "The upload took more than 60 s; send it again, or a smaller film."),
    411: ("length", "The request does not say how long it is; send a Content-Length, not chunks."),
    413: ("too-large", "The request has 300 MB, the limit is 256 MB; send fewer films at once, or "
     "smaller ones."),
    422: ("argument", "The query parameter 'label' is missing."),
    429: ("rate", "More than 600 films a minute came from this address; send the next in 1 s."),
    500: ("error", "Something failed here and was noted; nothing was answered."),
    503: ("busy", "There is no room for more films at this moment; send again in 1 s."),
    504: ("timeout", "There was no answer within 60 s; ask again, or for a cheaper method."),
}  # fmt: skip


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors a route may answer with, each with its example."""
    told: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        code, sentence = FAILED[status]
        example = {"ok": False, "error": sentence, "code": code}
        told[status] = {"model": Failed, "content": {"application/json": {"example": example}}}
    for status in {429, 503} & told.keys():
        seconds = {"schema": {"type": "integer"}, "description": "Seconds to wait."}
        told[status]["headers"] = {"Retry-After": seconds}
    return told


def examples(**named: Any) -> dict[str, Any]:
    """Write examples of JSON as OpenAPI wants them."""
    return {"application/json": {"examples": {key: {"value": one} for key, one in named.items()}}}


def body(*, several: bool) -> dict[str, Any]:
    """Describe what a route takes: a form with files, or one film as it is."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    films = {"type": "array", "items": file, "minItems": 1, "maxItems": MOST_FILMS}
    form = {
        "type": "object",
        "properties": {"film": films if several else file},
        "required": ["film"],
        "additionalProperties": False,
    }
    content = {"multipart/form-data": {"schema": form}}
    if not several:
        content["application/octet-stream"] = {"schema": file}
    return {"requestBody": {"required": True, "content": content}}
