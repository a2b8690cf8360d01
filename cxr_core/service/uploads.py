"""The films of one request, in memory: nothing that a client sends touches the disk."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, parse_options_header
from starlette.requests import ClientDisconnect

from cxr_core.service.limits import MOST_BYTES, Refused

_FORM = b"multipart/form-data"


@dataclass(frozen=True)
class Film:
    """One film as it came.

    Attributes:
        file: The name it was given; empty where there was none.
        data: The whole file.
    """

    file: str
    data: bytes = field(repr=False)


def announced(request: Request) -> int:
    """Return how many bytes a request announces.

    Raises:
        Refused: When it announces none, or too many.
    """
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or len(length) > 18:
        raise Refused(
            411,
            "length",
            "The request does not say how long it is; send a Content-Length, not chunks.",
        )
    if int(length) > MOST_BYTES:
        raise Refused(
            413,
            "too-large",
            f"The request has {int(length) / 2**20:.0f} MB, the limit is "
            f"{MOST_BYTES // 2**20} MB; send fewer films at once, or smaller ones.",
        )
    return int(length)


async def read_films(request: Request, most: int) -> list[Film]:
    """Read the files of a form, or the one film that is the whole body.

    Args:
        request: Whose length is known and allowed.
        most: Films that it may bring.

    Raises:
        Refused: When it breaks off, is no proper form, or brings no film or too many.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != _FORM:
        _, named = parse_options_header(request.headers.get("content-disposition"))
        data = b"".join([chunk async for chunk in _chunks(request)])
        return [Film(_text(named.get(b"filename")), data)]
    films = await _files(request, options.get(b"boundary"), most)
    if not films:
        raise Refused(422, "form", "The form holds no file; send the film as a file, named 'film'.")
    return films


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body, and not more of it than was announced."""
    left = announced(request)
    try:
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                raise Refused(400, "length", "More came than was announced; send it again.")
            yield chunk
    except ClientDisconnect:
        raise Refused(400, "cut-short", "The upload broke off; send it again.") from None


async def _files(request: Request, boundary: bytes | None, most: int) -> list[Film]:
    films: list[Film] = []
    ends: list[bool] = []

    def on_file(file: File) -> None:
        if len(films) == most:
            raise Refused(
                422, "too-many", f"More than {most} films came at once; send them in several parts."
            )
        file.file_object.seek(0)
        films.append(Film(_text(file.file_name), file.file_object.read()))

    def on_field(field: Any) -> None:
        raise Refused(
            422,
            "form",
            f"The form holds a field '{_text(field.field_name)}', which is no file; what is asked "
            "of a film stands in the address, after '?'.",
        )

    try:
        # Whatever its size, a file stays in memory: the whole request is bounded already.
        limits = {"MAX_MEMORY_FILE_SIZE": MOST_BYTES, "UPLOAD_ERROR_ON_BAD_CTE": True}
        form = _FORM.decode()
        parser = FormParser(
            form, on_field, on_file, lambda: ends.append(True), boundary, config=limits
        )
        async for chunk in _chunks(request):
            parser.write(chunk)
        parser.finalize()
    except FormParserError:
        ends.clear()
    if not ends:
        raise Refused(
            400, "form", "The form is damaged or cut short; send multipart/form-data (RFC 7578)."
        )
    return films


def _text(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "replace")
