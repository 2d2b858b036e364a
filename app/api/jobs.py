"""Jobs: submit, look, wait, cancel, delete."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from starlette.concurrency import run_in_threadpool

from app.admission import files_named
from app.api.bodies import JobBody, JobPage
from app.api.dependencies import Cursor, Limit, PollsDep, ServicesDep
from app.api.files import inspected
from app.api.polls import tag
from app.database import FINAL, JobState
from app.http import headers
from app.http.problems import documented
from app.jobs import JobView
from engine.recipe import JobRequest

RETRY_AFTER_SECONDS = 2
PATIENCE_WITH_INSPECTIONS_SECONDS = 5
router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=documented(401))
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="The same key makes one job, however often it is sent within a day."),
]
State = Annotated[JobState | None, Query(description="Only jobs in this state.")]


@router.post("", status_code=202, responses=documented(400, 409, 413, 415, 422))
async def create_job(
    body: JobRequest, services: ServicesDep, response: Response, idempotency_key: Key = None
) -> JobBody:
    """Queue one optimization of an uploaded model; everything that can be checked is checked first."""
    key = headers.idempotency_key(idempotency_key)
    for file_id in files_named(body):
        await inspected(services, file_id, PATIENCE_WITH_INSPECTIONS_SECONDS)
    created = await run_in_threadpool(services.jobs.create, body, key)
    if created.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    view = await run_in_threadpool(services.jobs.view, created.job_id)
    response.headers["Location"] = f"/v1/jobs/{view.job.id}"
    return _described(view, response)


@router.get("", responses=documented(422))
def list_jobs(services: ServicesDep, limit: Limit = 50, cursor: Cursor = None, state: State = None) -> JobPage:
    """All jobs, newest first."""
    views, next_cursor = services.jobs.page(limit=limit, cursor=cursor, state=state)
    return JobPage(items=[JobBody.of(view) for view in views], next_cursor=next_cursor)


@router.get(
    "/{job_id}", responses={**documented(404), 304: {"description": "Nothing has changed"}}, response_model=JobBody
)
async def get_job(
    job_id: str,
    services: ServicesDep,
    polls: PollsDep,
    prefer: headers.Prefer = None,
    if_none_match: headers.IfNoneMatch = None,
) -> Response:
    """One job as it is now, or with `Prefer: wait=N` as it is at its next change."""
    look = await run_in_threadpool(polls.look, job_id)
    described: dict[str, str] = {}
    if seconds := headers.wait_seconds(prefer):
        described["Preference-Applied"] = f"wait={seconds}"
        client_is_behind = if_none_match is not None and not headers.matches(if_none_match, look.tag)
        if not (client_is_behind or look.is_final):
            await services.watcher.changed(job_id, look.version, seconds)
            look = await run_in_threadpool(polls.look, job_id)
    described |= _headers(look.tag, is_final=look.is_final)
    if headers.matches(if_none_match, look.tag):
        return Response(status_code=304, headers=described)
    return Response(look.body, media_type="application/json", headers=described)


@router.post("/{job_id}/cancel", status_code=202, responses=documented(404, 409))
def cancel_job(job_id: str, services: ServicesDep, response: Response) -> JobBody:
    """End a job; what it has found so far is kept."""
    return _described(services.jobs.cancel(job_id), response)


@router.delete("/{job_id}", status_code=204, responses=documented(404, 409))
def delete_job(job_id: str, services: ServicesDep) -> None:
    """Forget an ended job and its files."""
    services.jobs.delete(job_id)


def _described(view: JobView, response: Response) -> JobBody:
    job = view.job
    response.headers.update(_headers(tag(job.id, job.version), is_final=job.state in FINAL))
    return JobBody.of(view)


def _headers(entity_tag: str, *, is_final: bool) -> dict[str, str]:
    return {"ETag": entity_tag} | ({} if is_final else {"Retry-After": str(RETRY_AFTER_SECONDS)})
