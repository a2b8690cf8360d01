"""The application around the routes: who may ask, and how every error is told."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from cxr_core.errors import ArgumentError, CxrError
from cxr_core.service.desk import Desk
from cxr_core.service.limits import Refused, status_of
from cxr_core.service.routes import Json, closed_routes, open_routes
from cxr_core.service.watch import Watch, log_failure

_ABOUT = (
    "A second opinion on chest radiographs over HTTP. For research, not for diagnosis. Every "
    "error is one sentence and a code that stays."
)


def create_app(desk: Desk) -> FastAPI:
    """Make the application around a desk, which opens and closes with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        desk.open()
        yield
        await asyncio.to_thread(desk.close)

    # No pages of documentation: they would load their scripts from elsewhere.
    app = FastAPI(
        title="A second opinion on chest radiographs",
        description=_ABOUT,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.desk = desk
    app.include_router(open_routes)
    token = desk.settings.token
    app.include_router(closed_routes, dependencies=[Depends(_bearer_of(token))] if token else [])
    app.add_middleware(Watch, metrics=desk.metrics)
    for kind in (CxrError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _told)
    return app


def _bearer_of(token: str) -> Callable[..., None]:
    """Make the check of every request's token."""
    scheme = HTTPBearer(auto_error=False, description="The token that the service was given.")

    def bearer(
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)],
    ) -> None:
        came = credentials.credentials if credentials else ""
        if not hmac.compare_digest(came.encode(), token.encode()):
            raise Refused(
                401,
                "token",
                "The token is missing or wrong; send 'Authorization: Bearer TOKEN'.",
                WWW_Authenticate="Bearer",
            )

    return bearer


def _told(_: Request, error: Exception) -> Response:
    """Answer any error with its sentence; what nobody foresaw is noted, and not quoted."""
    match error:
        case CxrError():
            headers, status = (
                error.headers if isinstance(error, Refused) else None,
                status_of(error),
            )
            if status == 500:
                log_failure(error)
            return _failed(status, error.code, str(error), headers)
        case RequestValidationError():
            return _failed(422, ArgumentError.code, _misasked(error.errors()[0]))
        case HTTPException():
            code = {404: "not-found", 405: "method"}.get(error.status_code, "error")
            told = "There is nothing at this address, or not by this method; see /openapi.json."
            return _failed(error.status_code, code, told, error.headers)
    log_failure(error)
    return _failed(500, "error", "Something failed here and was noted; nothing was answered.")


def _failed(
    status: int, code: str, sentence: str, headers: Mapping[str, str] | None = None
) -> Response:
    return Json({"ok": False, "error": sentence, "code": code}, status, headers)


def _misasked(problem: dict[str, Any]) -> str:
    """Say what is wrong with a query parameter."""
    name = problem["loc"][-1]
    if problem["type"] == "missing":
        return f"The query parameter '{name}' is missing; see /openapi.json."
    if problem["type"] == "extra_forbidden":
        return f"There is no query parameter '{name}' here; /openapi.json names those there are."
    return f"The query parameter '{name}' cannot be used: {problem['msg'].lower()}."
