"""A job's story as server-sent events, from any point on, without a gap.

The stream reads the event table, so it survives a restart and another replica can go on with it. Between two looks it
holds neither a thread nor a connection.
"""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import ServicesDep
from app.database import FINAL, Job, JobEvent, JobState
from app.errors import INVALID_HEADER, Problem
from app.http.problems import documented
from app.services import Services

KEEPALIVE_SECONDS = 15
RECONNECT_MILLISECONDS = 2000
LAST_SEQ = 2**62
LONGEST_NUMBER = 19
NO_CACHE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
STREAM = {200: {"description": "The stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}}}
router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=documented(401))


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={**documented(400, 404, 422), **STREAM, 204: {"description": "The story was told to its end"}},
)
async def job_events(
    job_id: str,
    services: ServicesDep,
    since: Annotated[int, Query(ge=0, le=LAST_SEQ, description="Only events after this one.")] = 0,
    last_event_id: Annotated[str | None, Header(description="As browsers send it when they reconnect.")] = None,
) -> Response:
    """Events `state`, `stage`, `progress` and `trial` as they happen, ids counting from 1."""
    after = _number(last_event_id, since)
    job = await run_in_threadpool(services.jobs.get, job_id)
    left = await run_in_threadpool(services.jobs.events, job_id, after)
    if JobState(job.state) in FINAL and not left:
        return Response(status_code=204)
    return StreamingResponse(_story(services, job, after), 200, NO_CACHE, "text/event-stream")


async def _story(services: Services, job: Job, after: int) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RECONNECT_MILLISECONDS)
    seen = 0  # a version that no job has
    while not services.watcher.draining:
        if not await services.watcher.changed(job.id, seen, KEEPALIVE_SECONDS):
            yield KEEPALIVE_COMMENT
        seen = (await run_in_threadpool(services.jobs.versions, [job.id])).get(job.id, 0)
        while events := await run_in_threadpool(services.jobs.events, job.id, after):
            for event in events:
                yield _message(event)
                after = event.seq
                if _ends(event):
                    return
        if seen == 0:  # deleted meanwhile
            return


def _message(event: JobEvent) -> bytes:
    at = datetime.fromtimestamp(event.at, UTC).isoformat().replace("+00:00", "Z")
    return format_sse_event(event=event.type, id=str(event.seq), data_str=json.dumps({**event.data, "at": at}))


def _ends(event: JobEvent) -> bool:
    return event.type == "state" and JobState(event.data["state"]) in FINAL


def _number(last_event_id: str | None, since: int) -> int:
    if not last_event_id:
        return since
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < LONGEST_NUMBER):
        raise Problem(INVALID_HEADER, "Last-Event-ID is no number of an event.")
    return int(last_event_id)
