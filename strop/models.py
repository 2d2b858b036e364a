"""What the service answers, as frozen values. Fields that this client does not know yet are left out, so that an old
client works with a new service."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self


class JobState(StrEnum):
    QUEUED = "queued"  #: waiting for a worker
    RUNNING = "running"  #: a worker holds its lease
    CANCELING = "canceling"  #: told to stop, not yet stopped
    SUCCEEDED = "succeeded"  #: final: its report and model can be downloaded
    FAILED = "failed"  #: final: `error` says why
    CANCELED = "canceled"  #: final: ended by the user


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED})


class Answer:
    """A dataclass that reads its own fields out of a JSON object."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        known = {each.name for each in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True)
class Problem(Answer):
    """Why something was not done (RFC 9457), or why a job or an uploaded file failed."""

    title: str = "The service failed"
    detail: str = ""
    code: str = "unknown"
    remedy: str = ""
    status: int = 0
    instance: str = ""
    fault: str = ""
    errors: list[dict[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.detail}" if self.detail and not self.errors else self.title]
        places = [(each.get("pointer") or each.get("parameter"), each.get("detail", "")) for each in self.errors]
        lines += [f"  {place}: {detail}" if place else f"  {detail}" for place, detail in places]
        if self.remedy:
            lines.append(f"  → {self.remedy}")
        return "\n".join(lines)


@dataclass(frozen=True)
class FileBody(Answer):
    """An uploaded model (`mdl_…`) or data set (`dat_…`)."""

    id: str
    kind: str
    name: str
    state: str
    size_bytes: int
    sha256: str
    created_at: str
    summary: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    @property
    def inspecting(self) -> bool:
        return self.state == "inspecting"

    @property
    def rejected(self) -> bool:
        return self.state == "rejected"


@dataclass(frozen=True)
class JobBody(Answer):
    """One optimization, as it stood when the service was asked."""

    id: str
    state: str
    model: str
    created_at: str
    name: str | None = None
    request: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0
    stage: str | None = None
    detail: str | None = None
    progress: float | None = None
    eta_seconds: float | None = None
    trials: list[dict[str, Any]] | None = None
    verdict: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    sandbox: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    links: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """One line of a job's story: `state`, `stage`, `progress` or `trial`."""

    seq: int
    type: str
    data: dict[str, Any]

    @property
    def is_final(self) -> bool:
        """After it nothing more happens to the job."""
        return self.type == "state" and self.data.get("state") in FINAL


@dataclass(frozen=True)
class Interval(Answer):
    """An estimate and its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict(Answer):
    """Is there a better file, and how sure is that?"""

    outcome: str
    headline: str
    minimize: str = "latency"
    reasons: list[str] = field(default_factory=list)
    within_limit: bool | None = None
    chosen: str | None = None
    complete: bool = True

    @property
    def improved(self) -> bool:
        return self.outcome == "improved"
