"""What the doors answer with, and how rows become it."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from app.database import FINAL, File, FileState, Job, JobState
from app.jobs import JobView
from engine.recipe import JobRequest
from engine.report import DatasetSummary, ModelSummary, Trial, Verdict


class FileKind(StrEnum):
    MODEL = "model"
    DATASET = "dataset"


class JobError(BaseModel):
    """Why a file was rejected or a job failed: a problem object that says whose fault it was."""

    type: str = "about:blank"
    title: str
    detail: str
    code: str
    remedy: str = ""
    fault: str = Field("service", description="`user`: change what was sent; `service`: ours.")


class FileBody(BaseModel):
    """An uploaded file."""

    id: str
    kind: FileKind
    name: str
    state: FileState
    size_bytes: int
    sha256: str
    summary: ModelSummary | DatasetSummary | None = Field(None, description="What inspection found, once ready.")
    error: JobError | None = Field(None, description="Why it was rejected.")
    created_at: datetime

    @classmethod
    def of(cls, file: File) -> "FileBody":
        return cls(
            id=file.id,
            kind=FileKind(file.kind),
            name=file.name,
            state=FileState(file.state),
            size_bytes=file.blob.size_bytes,
            sha256=file.sha256,
            summary=_summary(file),
            error=_error(file.error),
            created_at=moment(file.created_at),
        )


class FilePage(BaseModel):
    items: list[FileBody]
    next_cursor: str | None = None


class JobLinks(BaseModel):
    """Where to go from here; null where nothing is to be had now."""

    self: str
    events: str
    cancel: str | None
    model: str | None
    report: str | None
    candidates: str | None
    bundle: str | None


class JobBody(BaseModel):
    """One optimization."""

    id: str
    name: str | None
    state: JobState
    model: str = Field(description="The model it was asked to optimize.")
    request: JobRequest
    attempt: int = Field(description="How often it was started; more than once only after a crash of ours.")
    stage: str | None = Field(None, description="A stable word such as baseline or measuring.")
    detail: str | None = None
    progress: float | None = Field(None, ge=0, le=1)
    eta_seconds: float | None = None
    trials: list[Trial] | None = Field(None, description="What was tried so far; left out of lists.")
    verdict: Verdict | None = None
    error: JobError | None = None
    sandbox: str | None = Field(None, description="Confinement reached by the job's process.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    links: JobLinks

    @classmethod
    def of(cls, view: JobView) -> "JobBody":
        job, progress = view.job, view.job.progress or {}
        state = JobState(job.state)
        return cls(
            id=job.id,
            name=job.name,
            state=state,
            model=job.request["model"],
            request=JobRequest.model_validate(job.request),
            attempt=job.attempt,
            stage=progress.get("stage"),
            detail=progress.get("detail"),
            progress=1.0 if state is JobState.SUCCEEDED else progress.get("fraction"),
            eta_seconds=None if state in FINAL else progress.get("eta_seconds"),
            trials=None if view.trials is None else [Trial.model_validate(trial) for trial in view.trials],
            verdict=Verdict.model_validate(job.verdict) if job.verdict else None,
            error=_error(job.error),
            sandbox=job.sandbox,
            created_at=moment(job.created_at),
            started_at=_moment_or_none(job.started_at),
            finished_at=_moment_or_none(job.finished_at),
            links=_links(job, view.artifacts),
        )


class JobPage(BaseModel):
    items: list[JobBody]
    next_cursor: str | None = None


class CandidateBody(BaseModel):
    """One file of the Pareto set."""

    trial: Trial
    size_bytes: int = Field(description="With the weights that lie beside a model of more than 2 GiB.")
    sha256: str = Field(description="Of the .onnx file.")
    href: str


class CandidatePage(BaseModel):
    items: list[CandidateBody]


class StepBody(BaseModel):
    """One kind of step and its options."""

    kind: str
    title: str
    options: dict[str, Any] = Field(description="JSON Schema of the options.")


class StepPage(BaseModel):
    items: list[StepBody]


class KindBody(BaseModel):
    """One kind of problem that the service may answer with."""

    code: str
    status: int
    title: str
    remedy: str


class KindPage(BaseModel):
    items: list[KindBody]


class Health(BaseModel):
    status: str
    checks: dict[str, str] = {}


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _moment_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


def _summary(file: File) -> ModelSummary | DatasetSummary | None:
    if not file.summary:
        return None
    return (ModelSummary if file.kind == FileKind.MODEL else DatasetSummary).model_validate(file.summary)


def _error(stored: dict[str, Any] | None) -> JobError | None:
    return JobError.model_validate(stored) if stored else None


def _links(job: Job, artifacts: frozenset[str]) -> JobLinks:
    path = f"/v1/jobs/{job.id}"
    return JobLinks(
        self=path,
        events=f"{path}/events",
        cancel=None if JobState(job.state) in FINAL else f"{path}/cancel",
        model=f"{path}/model" if "model.onnx" in artifacts else None,
        report=f"{path}/report" if "report.json" in artifacts else None,
        candidates=f"{path}/candidates" if artifacts else None,
        bundle=f"{path}/bundle" if artifacts else None,
    )
