"""The routes: what a request may bring, what it is answered, and with which status."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from cxr_core.attribution import get_method
from cxr_core.screening import Answer
from cxr_core.service.batcher import Batcher
from cxr_core.service.desk import Desk
from cxr_core.service.limits import Refused, status_of, too_slow
from cxr_core.service.schemas import (
    ANSWERED,
    REFUSED,
    UNREAD,
    Alive,
    Answered,
    AskedAnswer,
    AskedMap,
    Failed,
    Model,
    Ready,
    Unread,
    body,
    examples,
    failures,
)
from cxr_core.service.settings import MOST_FILMS
from cxr_core.service.uploads import Film, announced, read_films

open_routes = APIRouter()  # to all who reach the service
closed_routes = APIRouter()  # to those with the token, where there is one
T = TypeVar("T")
Responses = dict[int | str, dict[str, Any]]

_METRICS: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_ANSWER: Responses = {200: {"content": examples(answered=ANSWERED, refused=REFUSED)}}
_ANSWERS: Responses = {200: {"content": examples(batch=[ANSWERED, UNREAD])}}
_UNREAD: Responses = {
    status: {"model": Unread | Failed, "content": examples(film=UNREAD)} for status in (413, 422)
}
_MAP: Responses = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}
_TURNED_AWAY = failures(400, 401, 404, 408, 411, 413, 422, 429, 500, 503, 504)


class Json(JSONResponse):
    """JSON in ASCII, so that no file name can break the stream; never NaN."""

    def render(self, content: Any) -> bytes:
        """Write an object."""
        return json.dumps(content, allow_nan=False).encode("ascii")


@open_routes.get("/health", response_model=Alive)
async def health() -> Response:
    """Say that the process answers."""
    return Json({"ok": True})


@open_routes.get("/ready", response_model=Ready, responses=failures(503))
async def ready(request: Request) -> Response:
    """Say whether the models and the gate are loaded; 503 until they are."""
    desk = _desk(request)
    notes = desk.notes()
    return Json({"ready": True, "models": list(desk.settings.models), "notes": notes})


@closed_routes.get("/metrics", response_class=Response, responses=_METRICS | failures(401))
async def metrics(request: Request) -> Response:
    """Tell Prometheus what was asked, answered and turned away."""
    told = generate_latest(_desk(request).metrics.registry)
    return Response(told, media_type=CONTENT_TYPE_LATEST)


@closed_routes.get("/models", response_model=list[Model], responses=failures(401, 503))
async def models(request: Request) -> Response:
    """List the models that answer here: what they are for, and what they are not for."""
    desk = _desk(request)
    cards = [desk.model(name).classifier.card for name in desk.settings.models]
    facts = [name for name in Model.model_fields if name not in ("model", "notes")]
    notes = desk.notes()
    return Json(
        [
            {"model": card.name, "notes": notes[card.name]}
            | {name: getattr(card, name) for name in facts}
            for card in cards
        ]
    )


@closed_routes.post(
    "/predict",
    response_model=Answered,
    responses=_TURNED_AWAY | _UNREAD | _ANSWER,
    openapi_extra=body(several=False),
)
async def predict(request: Request, asked: Annotated[AskedAnswer, Query()]) -> Response:
    """Answer one film as `predict --json` does: the file of a form, or the body as it is.

    A film that the gate refuses is answered with 200, its report and no predictions. A film
    sent as it is may be named by `Content-Disposition: attachment; filename="film.png"`.
    """
    model = _desk(request).model(asked.model)
    (answer,) = await _answers(request, model, asked, 1)
    status = 200 if answer.error is None else status_of(answer.error)
    return Json(answer.to_json(model.classifier.card.name), status)


@closed_routes.post(
    "/predict/batch",
    response_model=list[Answered | Unread],
    responses=_TURNED_AWAY | _ANSWERS,
    openapi_extra=body(several=True),
)
async def predict_batch(request: Request, asked: Annotated[AskedAnswer, Query()]) -> Response:
    """Answer the files of a form, in order; a film that cannot be read never stops the rest."""
    model = _desk(request).model(asked.model)
    answers = await _answers(request, model, asked, MOST_FILMS)
    return Json([answer.to_json(model.classifier.card.name) for answer in answers])


@closed_routes.post(
    "/explain",
    response_class=Response,
    responses=_TURNED_AWAY | _MAP,
    openapi_extra=body(several=False),
)
async def explain(request: Request, asked: Annotated[AskedMap, Query()]) -> Response:
    """Draw where the evidence for a label lies over one film, in the film's own size.

    As on the command line, nothing is withheld, whatever the gate or the operating point say.
    """
    desk = _desk(request)
    model = desk.model(asked.model)
    model.classifier.card.position(asked.label)  # a wrong name is told before the wait
    get_method(asked.method)

    async def draw(films: list[Film]) -> bytes:
        return await desk.explain(films[0], model, asked.label, asked.method)

    return Response(await _serve(request, 1, draw), media_type="image/png")


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def _answers(request: Request, model: Batcher, asked: AskedAnswer, most: int) -> list[Answer]:
    """Answer the films of a request, in order."""
    one = partial(_desk(request).answer, model=model, gate=not asked.no_gate)

    async def answer(films: list[Film]) -> list[Answer]:
        return await asyncio.gather(*map(one, films))

    return await _serve(request, most, answer)


async def _serve(
    request: Request, most: int, answer: Callable[[list[Film]], Coroutine[Any, Any, T]]
) -> T:
    """Take films in, if there are places, and have them answered, each step within its time.

    Work that takes too long keeps its places until it ends, so that no more is ever under way
    than there are places for.
    """
    desk = _desk(request)
    patience = desk.settings.patience
    client = request.client.host if request.client else ""
    with ExitStack() as held:
        held.enter_context(desk.places.taken(films=1, size=announced(request)))
        desk.rates.spend(client, 1)
        films = await _in_time(request, most, patience)
        if len(films) > 1:
            held.enter_context(desk.places.taken(films=len(films) - 1))
            desk.rates.spend(client, len(films) - 1)
        work = asyncio.create_task(answer(films))
        work.add_done_callback(partial(_ended, held=held.pop_all()))
    done, _ = await asyncio.wait({work}, timeout=patience)
    if not done:
        raise too_slow(patience)
    return work.result()


async def _in_time(request: Request, most: int, patience: float) -> list[Film]:
    try:
        async with asyncio.timeout(patience):
            return await read_films(request, most)
    except TimeoutError:
        told = f"The upload took more than {patience:g} s; send it again, or a smaller film."
        raise Refused(408, "slow", told) from None


def _ended(work: asyncio.Task[Any], held: ExitStack) -> None:
    """Free the places of work that is done, also of work that nobody waits for any more."""
    held.close()
    if not work.cancelled():
        work.exception()
