"""How a supervisor and the engine talk: one request file in, JSON lines out.

    attempt/
      request.json            EngineRequest
      inputs/                 what the request names; the engine may only read it
      work/                   the engine's working, home and temporary directory; the only place it may write
        out/0001/  out/0002/  checkpoints: each holds all that a user may download

The engine writes one JSON object per line on standard output, each an `Event`. A checkpoint's folder is complete before
its event is written, so whoever kills the engine may publish the last one announced. Exit code 0 follows a
`finished` event, 1 follows a `failed` event; anything else is a crash.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engine.recipe import Recipe
from engine.report import DatasetSummary, ModelSummary, Trial

MAX_LINE_BYTES = 1 << 20
MODEL, REPORT_JSON, REPORT_HTML, REPORT_TEXT, CANDIDATES = (
    "model.onnx",
    "report.json",
    "report.html",
    "report.txt",
    "candidates",
)

KEPT = "kept"  #: in work/: what a later attempt at the same job finds again


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Work(StrEnum):
    OPTIMIZE = "optimize"
    INSPECT_MODEL = "inspect_model"
    INSPECT_DATASET = "inspect_dataset"
    SELF_TEST = "self_test"  #: try to break out of the confinement, and say what was denied


class Confinement(Message):
    """What the child takes from itself before it reads a user's file. Null leaves a limit off."""

    memory_bytes: int | None = None  #: that the work may use; the supervisor watches it, address space ends beyond it
    file_bytes: int | None = None  #: largest file it may write (RLIMIT_FSIZE)
    cpu_seconds: int | None = None  #: backstop behind the supervisor's clock (RLIMIT_CPU)
    landlock: bool = True
    seccomp: bool = True


class OtherModel(Message):
    path: str
    name: str  #: for people


class EngineRequest(Message):
    """All that the engine needs; paths are relative to the attempt's folder."""

    work: Work
    recipe: Recipe | None = None
    model: str | None = None
    model_name: str = Field("the original", description="For people.")
    others: dict[str, OtherModel] = Field({}, description="Models that the recipe names, by what it calls them.")
    calibration: str | None = None
    evaluation: str | None = None
    labels: str | None = None
    measurement_lock: str | None = Field(None, description="Absolute path; one measurement at a time on a host.")
    confinement: Confinement | None = Field(None, description="Null runs unconfined, as from a developer's shell.")
    seconds_left: float | None = Field(None, description="What is left of the budget, in seconds.")


#: what libraries say when an allocation was refused, as they raise or die of it
OUT_OF_MEMORY = (
    "MemoryError",
    "std::bad_alloc",
    "Cannot allocate memory",
    "Failed to allocate memory",
    "can't allocate memory",
    "OpenBLAS error: Memory allocation",
    "failed to map segment from shared object",
)


def tells_of_memory(words: str) -> bool:
    """Whether an error's words mean that memory ran out."""
    return any(mark in words for mark in OUT_OF_MEMORY)


class Fault(StrEnum):
    USER = "user"
    SERVICE = "service"


class Stage(Message):
    """A new stage of the work has begun."""

    type: Literal["stage"] = "stage"
    stage: str  #: stable word: inspecting, baseline, calibrating, quantizing, measuring, evaluating, reporting…
    detail: str = ""
    sandbox: str | None = None  #: confinement reached; in the first event only


class Progress(Message):
    """Share of the whole job that is done, and the time it still needs."""

    type: Literal["progress"] = "progress"
    fraction: float = Field(ge=0, le=1)
    eta_seconds: float | None = None


class TrialDone(Message):
    type: Literal["trial"] = "trial"
    trial: Trial


class Checkpoint(Message):
    """A complete result so far lies in this folder, relative to the attempt's folder."""

    type: Literal["checkpoint"] = "checkpoint"
    directory: str


class Finished(Message):
    """The last event of a success."""

    type: Literal["finished"] = "finished"
    model: ModelSummary | None = None
    dataset: DatasetSummary | None = None
    canonical: str | None = Field(None, description="Rewritten single-file model, if the upload was a bundle.")
    probes: dict[str, bool] | None = Field(None, description="Of a self-test: what was denied.")


class Failed(Message):
    """The last event of a failure that was understood."""

    type: Literal["failed"] = "failed"
    code: str  #: stable, snake_case, such as unknown_operator_domain
    title: str
    detail: str  #: what is wrong, naming the tensor, node or array
    remedy: str  #: what the user can do
    fault: Fault = Fault.USER


Event = Annotated[Stage | Progress | TrialDone | Checkpoint | Finished | Failed, Field(discriminator="type")]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
