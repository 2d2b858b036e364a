"""The doors about the service itself: catalogue, problems, health, figures, a page for people."""

import html
import inspect
import os
import uuid
from functools import cache
from typing import Any, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import exists, select
from sqlalchemy.exc import SQLAlchemyError

from app.api.bodies import Health, KindBody, KindPage, StepBody, StepPage
from app.api.dependencies import ServicesDep
from app.errors import KINDS, NOT_READY, Problem
from app.http.problems import documented
from app.presence import is_alive
from app.services import Services
from engine.recipe import Step

guarded = APIRouter(tags=["service"], responses=documented(401))
public = APIRouter(tags=["service"])


@guarded.get("/v1/steps")
def list_steps() -> StepPage:
    """Every kind of step with its options, as a JSON Schema."""
    return StepPage(items=list(catalogue()))


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
def landing() -> dict[str, Any]:
    """Where to go from here."""
    doors = ("/docs", "/openapi.json", "/v1/models", "/v1/datasets", "/v1/jobs", "/v1/steps", "/v1/problems", "/readyz")
    return {"service": "Strop", "doors": list(doors)}


@public.get("/docs", include_in_schema=False, response_class=HTMLResponse)
def docs(request: Request) -> str:
    """The doors on one page that needs no network."""
    return _page(request.app.openapi())


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


def _page(contract: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{method.upper()}</td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(door.get('description', ''))}</td></tr>"
        for path, doors in contract["paths"].items()
        for method, door in doors.items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Strop</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td{padding:.2rem 1rem .2rem 0;vertical-align:top}</style>"
        "<h1>Strop over HTTP</h1><p>The full contract is <a href=/openapi.json>openapi.json</a>, the steps a job may "
        "take are at <a href=/v1/steps>/v1/steps</a>, what may go wrong at <a href=/v1/problems>/v1/problems</a>.</p>"
        f"<table>{rows}</table></html>"
    )
