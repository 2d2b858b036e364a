"""The API's composition root: settings in, an ASGI app out.

uvicorn --factory app.main:create_app_from_environment
"""

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from types import FrameType

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from app import bootstrap, failpoints, intake
from app.api import events, files, jobs, results, system
from app.api.bodies import FileKind
from app.api.polls import Polls
from app.errors import ConfigurationError
from app.http import openapi, problems
from app.http.guards import LoopbackOnly, RequestId, SmallBodies
from app.http.keys import KeysOnly, check_exposure, configured, scheme
from app.http.metrics import MeasureRequests, Metrics
from app.services import Services, compose
from app.settings import Settings

VERSION = "0.1.0"
LAST_LOOK_SECONDS = 2.0


def create_app(settings: Settings) -> FastAPI:
    """Compose the service; the database is brought up to date or refused here, before the first request."""
    check_exposure(settings)
    failpoints.arm(settings.failpoints)
    services = compose(settings)
    bootstrap.prepare(services.database, settings)
    intake.sweep(services.staging)
    app = FastAPI(
        title="Strop",
        version=VERSION,
        summary="ONNX in, a faster ONNX out, with the evidence.",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.services = services
    app.state.polls = Polls(services.jobs)
    app.state.metrics = Metrics(services)
    app.openapi = lambda: openapi.document(app)
    problems.install(app)
    _open_doors(app)
    _add_guards(app, settings)
    return app


def create_app_from_environment() -> FastAPI:
    """For uvicorn; a wrong configuration ends in one clear line."""
    try:
        return create_app(Settings())
    except (ConfigurationError, ValidationError) as error:
        sys.exit(str(error))


def _open_doors(app: FastAPI) -> None:
    guarded = [files.doors(FileKind.MODEL), files.doors(FileKind.DATASET), jobs.router, events.router, results.router]
    for router in (*guarded, system.guarded):
        app.include_router(router, dependencies=[Depends(scheme)])
    app.include_router(system.public)


def _add_guards(app: FastAPI, settings: Settings) -> None:
    """The last one added stands outermost."""
    app.add_middleware(SmallBodies)
    if keys := configured(settings):
        app.add_middleware(KeysOnly, keys=keys, open_to_all=_open_to_all(app))
    else:
        app.add_middleware(LoopbackOnly)
    app.add_middleware(MeasureRequests, metrics=app.state.metrics)
    app.add_middleware(RequestId)


def _open_to_all(app: FastAPI) -> frozenset[str]:
    public = {route.path for route in system.public.routes if isinstance(route, APIRoute)}
    return frozenset({*public, app.openapi_url or ""})


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    services.hints.start()
    watching = asyncio.create_task(services.watcher.run())
    _drain_on_signals(asyncio.get_running_loop(), services.watcher.drain)
    try:
        yield
    finally:
        services.watcher.drain()
        await asyncio.wait({watching}, timeout=LAST_LOOK_SECONDS)  # its query gives its connection back first
        watching.cancel()
        await run_in_threadpool(services.hints.stop)
        services.database.engine.dispose()


def _drain_on_signals(loop: asyncio.AbstractEventLoop, drain: Callable[[], None]) -> None:
    """End long polls and event streams as soon as the server is told to stop, or it would wait for them."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)

        def handle(received: int, frame: FrameType | None, previous=previous) -> None:  # noqa: ANN001
            loop.call_soon_threadsafe(drain)
            if callable(previous):
                previous(received, frame)

        signal.signal(number, handle)


def _operation_id(route: APIRoute) -> str:
    return route.name
