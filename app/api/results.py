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
from app.http.bundle import Members, measured, part
from app.http.download import Download
from app.http.headers import preferred
from app.http.problems import documented
from app.services import Services
from engine.report import Report, Trial

REPORTS = {"application/json": "report.json", "text/html": "report.html", "text/plain": "report.txt"}
ONNX = "application/octet-stream"
ZIP = "application/zip"
LONGEST_TRIAL = 60  #: shown of the name that a client asked for
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
    responses={**MISSING, **documented(416), **download.documented(ONNX, ZIP)},
)
def download_optimized_model(job_id: str, request: Request, services: ServicesDep) -> Response:
    """The optimized ONNX file; the original where nothing was better. Above 2 GiB a zip of it and its weights."""
    return _model(request, services, job_id, "model.onnx", job_id)


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
    artifacts = services.jobs.artifacts(job_id)
    found = [
        CandidateBody(
            trial=trials[name],
            size_bytes=sum(each.blob.size_bytes for each in (artifact, *_weights_beside(artifacts, artifact.name))),
            sha256=artifact.sha256,
            href=f"/v1/jobs/{job_id}/candidates/{name}",
        )
        for artifact in artifacts
        if (name := _candidate(artifact)) in trials
    ]
    return CandidatePage(items=found)


@router.head("/{job_id}/candidates/{trial}", include_in_schema=False)
@router.get(
    "/{job_id}/candidates/{trial}",
    response_class=StreamingResponse,
    responses={**MISSING, **documented(416), **download.documented(ONNX, ZIP)},
)
def download_candidate(job_id: str, trial: str, request: Request, services: ServicesDep) -> Response:
    """One model of the Pareto set. Above 2 GiB a zip of it and its weights."""
    _check_offered(services, job_id, trial)
    return _model(request, services, job_id, f"candidates/{trial}.onnx", f"{job_id}-{trial}")


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
    return _zip(request, services, members, job_id)


def _check_offered(services: Services, job_id: str, trial: str) -> None:
    """Name the files that an ended job has, where one is asked for that it has not."""
    job = services.jobs.get(job_id)
    offered = sorted(filter(None, map(_candidate, services.jobs.artifacts(job_id))))
    if JobState(job.state) in FINAL and trial not in offered:
        there_are = f"there are files of {', '.join(offered)}" if offered else "it left no candidate's file"
        raise Problem(NO_RESULT, f"{job_id} has no file of {trial[:LONGEST_TRIAL]}; {there_are}.")


def _artifact(services: Services, job_id: str, name: str) -> Artifact:
    job = services.jobs.get(job_id)
    artifact = services.jobs.artifact(job_id, name)
    if artifact is not None:
        return artifact
    if JobState(job.state) not in FINAL:
        raise Problem(RESULT_NOT_READY, f"{job_id} is {job.state}.", headers={"Retry-After": "2"})
    raise Problem(NO_RESULT, f"{job_id} is {job.state} and has no {name}.")


def _model(request: Request, services: Services, job_id: str, name: str, called: str) -> Response:
    """A model is one file, or a zip of the file and the weights that lie beside it."""
    artifact = _artifact(services, job_id, name)
    beside = _weights_beside(services.jobs.artifacts(job_id), name)
    if not beside:
        return _respond(request, services, artifact, ONNX, f"{called}.onnx")
    members = tuple((each.name.rpartition("/")[2], each.sha256) for each in (artifact, *beside))
    return _zip(request, services, members, called)


def _zip(request: Request, services: Services, members: Members, called: str) -> Response:
    sha256, size = measured(services.storage, members)
    return download.respond(
        request, partial(part, services.storage, members), Download(sha256, size, ZIP, f"{called}.zip")
    )


def _weights_beside(artifacts: list[Artifact], name: str) -> list[Artifact]:
    """Files of a model that one file cannot hold; their names begin with its own."""
    return [artifact for artifact in artifacts if artifact.name.startswith(f"{name}.")]


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
    return file.removesuffix(".onnx") if folder == "candidates" and file.endswith(".onnx") else ""
