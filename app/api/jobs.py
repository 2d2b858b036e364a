"""Jobs: submit, look, wait, cancel, delete."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from starlette.concurrency import run_in_threadpool

from app.admission import files_named
from app.api.bodies import JobBody, JobPage
from app.api.dependencies import Cursor, Limit, ServicesDep
from app.api.files import inspected
from app.database import FINAL, JobState
from app.http import headers
from app.http.problems import documented
from app.jobs import JobView
from app.services import Services
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
    response: Response,
    prefer: headers.Prefer = None,
    if_none_match: headers.IfNoneMatch = None,
) -> JobBody | Response:
    """One job as it is now, or with `Prefer: wait=N` as it is at its next change."""
    view = await run_in_threadpool(services.jobs.view, job_id)
    seconds = headers.wait_seconds(prefer)
    if seconds:
        response.headers["Preference-Applied"] = f"wait={seconds}"
        view = await _news(services, view, if_none_match, seconds)
    if headers.matches(if_none_match, _tag(view)):
        return Response(status_code=304, headers={"ETag": _tag(view), "Retry-After": str(RETRY_AFTER_SECONDS)})
    return _described(view, response)


@router.post("/{job_id}/cancel", status_code=202, responses=documented(404, 409))
def cancel_job(job_id: str, services: ServicesDep, response: Response) -> JobBody:
    """End a job; what it has found so far is kept."""
    return _described(services.jobs.cancel(job_id), response)


@router.delete("/{job_id}", status_code=204, responses=documented(404, 409))
def delete_job(job_id: str, services: ServicesDep) -> None:
    """Forget an ended job and its files."""
    services.jobs.delete(job_id)


async def _news(services: Services, view: JobView, if_none_match: str | None, seconds: float) -> JobView:
    """The job once it differs from what the client has seen, at the latest after that time."""
    job = view.job
    client_is_behind = if_none_match is not None and not headers.matches(if_none_match, _tag(view))
    if client_is_behind or JobState(job.state) in FINAL:
        return view
    await services.watcher.changed(job.id, job.version, seconds)
    return await run_in_threadpool(services.jobs.view, job.id)


def _described(view: JobView, response: Response) -> JobBody:
    response.headers["ETag"] = _tag(view)
    if JobState(view.job.state) not in FINAL:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return JobBody.of(view)


def _tag(view: JobView) -> str:
    return f'W/"{view.job.id}.{view.job.version}"'
