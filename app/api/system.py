"""The doors about the service itself: catalogue, problems, health, figures, pages for people."""

import inspect
import os
import uuid
from functools import cache
from typing import Any, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import exists, select
from sqlalchemy.exc import SQLAlchemyError

from app.api.bodies import Health, KindBody, KindPage, StepBody, StepPage
from app.api.dependencies import ServicesDep
from app.errors import KINDS, NOT_READY, Problem
from app.http import site
from app.http.headers import preferred
from app.http.keys import configured
from app.http.problems import documented
from app.presence import is_alive
from app.services import Services
from engine.recipe import Recipe, Step

guarded = APIRouter(tags=["service"], responses=documented(401))
public = APIRouter(tags=["service"])


@guarded.get("/v1/steps")
def list_steps() -> StepPage:
    """Every kind of step with its options, as a JSON Schema."""
    return StepPage(items=list(catalogue()))


@guarded.post("/v1/recipes/check", response_model_exclude_none=True, responses=documented(400, 413, 415, 422))
def check_recipe(recipe: Recipe) -> Recipe:
    """The recipe with all that it leaves out filled in, or what is wrong with it; nothing is kept."""
    return recipe


@guarded.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@public.get("/v1/problems")
def list_problems() -> KindPage:
    """Every kind of problem that the service answers with."""
    return KindPage(items=[KindBody(**vars(kind)) for _code, kind in sorted(KINDS.items())])


@public.get("/livez")
def livez() -> Health:
    """The process answers."""
    return Health(status="alive")


@public.get("/readyz", responses=documented(503))
def readyz(services: ServicesDep) -> Health:
    """Database and storage work; without a broker or a worker jobs only start later, which is `degraded`."""
    checks = {"database": _database(services), "storage": _storage(services)}
    broken = [f"{name}: {state}" for name, state in checks.items() if state != "ok"]
    if broken:
        raise Problem(NOT_READY, "; ".join(broken))
    checks["broker"] = "ok" if services.hints.broker_answers() else "unreachable"
    checks["worker"] = "ok" if _somebody_works(services) else "none seen"
    return Health(status="ready" if set(checks.values()) == {"ok"} else "degraded", checks=checks)


@public.get("/", include_in_schema=False)
def landing(request: Request, services: ServicesDep) -> Response:
    """Where to go from here: a page for a browser, else JSON."""
    if preferred(request.headers.get("accept"), ["application/json", "text/html"]) == "text/html":
        return site.welcome(str(request.base_url).rstrip("/"), asks_for_key=bool(configured(services.settings)))
    return JSONResponse({"service": "Strop", "doors": list(site.PLACES)}, headers={"Vary": "Accept"})


@public.get("/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    """The doors on one page that needs no network."""
    return site.doors(request.app.openapi())


@cache
def catalogue() -> tuple[StepBody, ...]:
    """The steps in the order of the grammar."""
    return tuple(_step(kind) for kind in get_args(get_args(Step)[0]))


def _step(kind: Any) -> StepBody:
    schema = kind.model_json_schema()
    schema["properties"].pop("kind")
    return StepBody(kind=kind.model_fields["kind"].default, title=inspect.cleandoc(kind.__doc__), options=schema)


def _database(services: Services) -> str:
    try:
        with services.database.read() as session:
            session.execute(select(1))
    except SQLAlchemyError:
        return "unreachable"
    return "ok"


def _somebody_works(services: Services) -> bool:
    with services.database.read() as session:
        return bool(session.scalar(select(exists().where(is_alive(session, services.settings)))))


def _storage(services: Services) -> str:
    """Uploads are staged in a folder whatever the storage is, so both must work."""
    probe = services.staging / f".{uuid.uuid4().hex}"
    try:
        services.storage.check()
        probe.write_bytes(os.urandom(16))
    except OSError as error:
        return f"not writable ({error.strerror})"
    finally:
        probe.unlink(missing_ok=True)  # a full disk takes the name and not the bytes
    return "ok"
