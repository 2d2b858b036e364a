"""What a job has left: the model, the report in three forms, the candidates, and a bundle of it all."""

import json
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from app.api.bodies import CandidateBody, CandidatePage
from app.api.dependencies import ServicesDep
from app.database import FINAL, Artifact, JobState
from app.errors import NO_RESULT, NOT_ACCEPTABLE, RESULT_NOT_READY, Problem
from app.http import download
from app.http.bundle import measured, part
from app.http.download import Download
from app.http.headers import preferred
from app.http.problems import documented
from app.services import Services
from engine.report import Report, Trial

REPORTS = {"application/json": "report.json", "text/html": "report.html", "text/plain": "report.txt"}
ONNX = "application/octet-stream"
ZIP = "application/zip"
MISSING = documented(404, 409)
FORMS = {
    **download.documented("application/octet-stream"),
    200: {
        "description": "The report in one of its forms",
        "model": Report,
        "content": {"text/html": {"schema": {"type": "string"}}, "text/plain": {"schema": {"type": "string"}}},
    },
}
router = APIRouter(prefix="/v1/jobs", tags=["results"], responses=documented(401))


@router.head("/{job_id}/model", include_in_schema=False)
@router.get(
    "/{job_id}/model",
    response_class=StreamingResponse,
    responses={**MISSING, **documented(416), **download.documented(ONNX)},
)
def download_optimized_model(job_id: str, request: Request, services: ServicesDep) -> Response:
    """The optimized ONNX file; the original where nothing was better."""
    return _respond(request, services, _artifact(services, job_id, "model.onnx"), ONNX, f"{job_id}.onnx")


@router.head("/{job_id}/report", include_in_schema=False)
@router.get(
    "/{job_id}/report",
    response_class=StreamingResponse,
    responses={**MISSING, **documented(406, 416), **FORMS},
)
def download_report(job_id: str, request: Request, services: ServicesDep) -> Response:
    """The evidence, as JSON, as one HTML page or as text, whichever `Accept` prefers."""
    media_type = preferred(request.headers.get("accept"), list(REPORTS))
    if media_type is None:
        raise Problem(NOT_ACCEPTABLE, f"The report can be had as {', '.join(REPORTS)}.")
    artifact = _artifact(services, job_id, REPORTS[media_type])
    typed = media_type if media_type == "application/json" else f"{media_type}; charset=utf-8"
    response = _respond(request, services, artifact, typed, artifact.name, inline=True)
    response.headers["Vary"] = "Accept"
    return response


@router.get("/{job_id}/candidates", responses=MISSING)
def list_candidates(job_id: str, services: ServicesDep) -> CandidatePage:
    """The Pareto set: every file that no other one beats."""
    report = _report(services, _artifact(services, job_id, "report.json"))
    trials = {trial["id"]: Trial.model_validate(trial) for trial in report["trials"]}
    found = [
        CandidateBody(
            trial=trials[name],
            size_bytes=artifact.blob.size_bytes,
            sha256=artifact.sha256,
            href=f"/v1/jobs/{job_id}/candidates/{name}",
        )
        for artifact in services.jobs.artifacts(job_id)
        if (name := _candidate(artifact)) in trials
    ]
    return CandidatePage(items=found)


@router.head("/{job_id}/candidates/{trial}", include_in_schema=False)
@router.get(
    "/{job_id}/candidates/{trial}",
    response_class=StreamingResponse,
    responses={**MISSING, **documented(416), **download.documented(ONNX)},
)
def download_candidate(job_id: str, trial: str, request: Request, services: ServicesDep) -> Response:
    """One file of the Pareto set."""
    artifact = _artifact(services, job_id, f"candidates/{trial}.onnx")
    return _respond(request, services, artifact, ONNX, f"{job_id}-{trial}.onnx")


@router.head("/{job_id}/bundle", include_in_schema=False)
@router.get(
    "/{job_id}/bundle",
    response_class=StreamingResponse,
    responses={**MISSING, **documented(416), **download.documented(ZIP)},
)
def download_bundle(job_id: str, request: Request, services: ServicesDep) -> Response:
    """All files of a job in one zip; all are read once before its first byte, for the digest."""
    _artifact(services, job_id, "report.json")
    members = tuple(sorted((artifact.name, artifact.sha256) for artifact in services.jobs.artifacts(job_id)))
    sha256, size = measured(services.storage, members)
    found = Download(sha256, size, ZIP, f"{job_id}.zip")
    return download.respond(request, partial(part, services.storage, members), found)


def _artifact(services: Services, job_id: str, name: str) -> Artifact:
    job = services.jobs.get(job_id)
    artifact = services.jobs.artifact(job_id, name)
    if artifact is not None:
        return artifact
    if JobState(job.state) not in FINAL:
        raise Problem(RESULT_NOT_READY, f"{job_id} is {job.state}.", headers={"Retry-After": "2"})
    raise Problem(NO_RESULT, f"{job_id} is {job.state} and has no {name}.")


def _respond(
    request: Request, services: Services, artifact: Artifact, media_type: str, name: str, *, inline: bool = False
) -> Response:
    found = Download(artifact.sha256, artifact.blob.size_bytes, media_type, name, inline)
    return download.respond(request, partial(services.storage.open, artifact.sha256), found)


def _report(services: Services, artifact: Artifact) -> dict[str, Any]:
    return json.loads(b"".join(services.storage.open(artifact.sha256)))


def _candidate(artifact: Artifact) -> str:
    """The trial whose file this is; empty for other files."""
    folder, _, file = artifact.name.partition("/")
    return file.removesuffix(".onnx") if folder == "candidates" else ""
