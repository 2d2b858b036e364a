"""Is this job worth a worker's time? Everything that the summaries of the files can answer is answered at submit.

    model       exists, is inspected and accepted, and at least one explicit step fits it
    others      models named beside it exist, are accepted, and have the same inputs and outputs
    data        exist, are accepted, hold one array per input of the right type and shape, and labels if the metric asks
    target      some worker serves its queue

The engine checks again what it reads; this only spares the user a job that cannot succeed.
"""

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app import errors
from app.database import File, FileState, Worker
from app.errors import Fault, Kind, Problem
from app.ids import is_id
from app.presence import is_alive
from app.settings import Settings
from engine.interface import difference
from engine.recipe import Data, Device, JobRequest, Metric
from engine.report import ArrayInfo, DatasetSummary, ModelSummary, StepFit, TensorInfo

METRICS_WITH_LABELS = frozenset({Metric.TOP1, Metric.TOP5, Metric.MIOU, Metric.F1})
#: How an array of labels is found when the request does not name it.
LABEL_NAMES = ("labels", "label", "y", "targets", "target")
#: Types that may be cast for one another, by the beginning of their NumPy names.
CASTS = {"float": "f", "int": "i", "uint": "i", "bool": "b", "str": "U", "string": "U"}


def check(session: Session, request: JobRequest, settings: Settings) -> None:
    """Raise the first Problem found. The files' rows stay locked, so that none is deleted before the job is written."""
    model = _model(session, request.model, "/model")
    _check_steps(request, model.steps)
    for pointer, file_id in request.other_models().items():
        _check_other(model, _model(session, file_id, pointer), file_id, pointer)
    if request.data is not None:
        _check_data(session, request.data, request.metric, model)
    elif request.metric in METRICS_WITH_LABELS:
        raise Problem(
            errors.LABELS_MISSING, f"{request.metric} needs data with labels.", [Fault("/data", "is missing")]
        )
    if request.target.device is Device.CUDA:
        _check_gpu(session, settings)


def files_named(request: JobRequest) -> list[str]:
    """Ids of the files that a request reads."""
    data = request.data
    return [
        request.model,
        *request.other_models().values(),
        *([data.calibration] if data else []),
        *([data.evaluation] if data and data.evaluation else []),
    ]


def _model(session: Session, file_id: str, pointer: str) -> ModelSummary:
    kinds = (errors.MODEL_NOT_FOUND, errors.MODEL_NOT_READY, errors.MODEL_REJECTED)
    return ModelSummary.model_validate(_ready_file(session, file_id, "model", pointer, kinds).summary)


def _check_other(model: ModelSummary, other: ModelSummary, file_id: str, pointer: str) -> None:
    if what := difference(model, other):
        detail = f"{file_id} cannot stand in for the first model: {what}."
        raise Problem(errors.INTERFACE_DIFFERS, detail, [Fault(pointer, what)])


def _dataset(session: Session, file_id: str, pointer: str) -> DatasetSummary:
    kinds = (errors.DATASET_NOT_FOUND, errors.DATASET_NOT_READY, errors.DATASET_REJECTED)
    return DatasetSummary.model_validate(_ready_file(session, file_id, "dataset", pointer, kinds).summary)


def _ready_file(session: Session, file_id: str, kind: str, pointer: str, kinds: tuple[Kind, Kind, Kind]) -> File:
    unknown, unready, rejected = kinds
    rows = select(File).where(File.id == file_id, File.kind == kind).with_for_update(read=True, of=File)
    file = session.scalar(rows) if is_id(file_id) else None
    if file is None:
        raise Problem(unknown, f"No {kind} has this id.", [Fault(pointer, f"no {kind} has this id")])
    if file.state == FileState.INSPECTING:
        raise Problem(unready, f"{file.id} is being inspected.", headers={"Retry-After": "2"})
    if file.state == FileState.REJECTED:
        reason = (file.error or {}).get("detail", "")
        raise Problem(rejected, f"{file.id} was rejected: {reason}", [Fault(pointer, reason)])
    return file


def _check_steps(request: JobRequest, fits: list[StepFit]) -> None:
    reasons = {fit.kind: fit.reason or "it has nothing to do" for fit in fits if not fit.applies}
    steps = request.steps or []
    unfit = [(index, step.kind) for index, step in enumerate(steps) if step.kind in reasons]
    if steps and len(unfit) == len(steps):
        faults = [Fault(f"/steps/{index}", f"{kind}: {reasons[kind]}") for index, kind in unfit]
        raise Problem(errors.STEP_DOES_NOT_APPLY, "; ".join(fault.detail for fault in faults), faults)


def _check_data(session: Session, data: Data, metric: Metric, model: ModelSummary) -> None:
    named = {"/data/calibration": data.calibration}
    if data.evaluation is not None:
        named["/data/evaluation"] = data.evaluation
    for pointer, file_id in named.items():
        dataset = _dataset(session, file_id, pointer)
        label = _label(dataset, data.labels, model)
        _check_arrays(dataset, label, model, pointer)
    if metric in METRICS_WITH_LABELS and label is None:  # of the last one, which is the one that is scored
        detail = f"{metric} needs labels, and no array is called {' or '.join(LABEL_NAMES)}."
        raise Problem(errors.LABELS_MISSING, detail, [Fault(pointer, detail)])


def _label(dataset: DatasetSummary, named: str | None, model: ModelSummary) -> str | None:
    """The array that holds the labels: the one named, or one that is called so and is no input."""
    names = [array.name for array in dataset.arrays]
    if named is None:
        inputs = {tensor.name for tensor in model.inputs}
        return next((name for name in LABEL_NAMES if name in names and name not in inputs), None)
    if named not in names:
        detail = f"There is no array {named!r}; there are {', '.join(map(repr, names))}."
        raise Problem(errors.LABELS_MISSING, detail, [Fault("/data/labels", detail)])
    return named


def _check_arrays(dataset: DatasetSummary, label: str | None, model: ModelSummary, pointer: str) -> None:
    arrays = {array.name: array for array in dataset.arrays if array.name != label}
    if len(model.inputs) == len(arrays) == 1:  # a lone array feeds a lone input, whatever it is called
        arrays = {model.inputs[0].name: next(iter(arrays.values()))}
    found = (_misfit(tensor, arrays) for tensor in model.inputs)
    misfits = [misfit for misfit in found if misfit is not None]
    if misfits:
        kind, detail = misfits[0]
        raise Problem(kind, detail, [Fault(pointer, said) for _, said in misfits])


def _misfit(tensor: TensorInfo, arrays: dict[str, ArrayInfo]) -> tuple[Kind, str] | None:
    """What is wrong with the array that feeds this input, in a sentence; None where it fits."""
    array = arrays.get(tensor.name)
    if array is None:
        there = ", ".join(map(repr, arrays)) or "none"
        return errors.DATASET_NAMES, f"Input {tensor.name!r} has no array; there are: {there}."
    if _cast(array.dtype) != _cast(tensor.dtype):
        return (
            errors.DATASET_DTYPE,
            f"Array {array.name!r} is {array.dtype}, input {tensor.name!r} takes {tensor.dtype}.",
        )
    if not _shape_fits(array.shape, tensor.shape):
        return errors.DATASET_SHAPE, f"Array {array.name!r} has shape {array.shape}, the input takes {tensor.shape}."
    return None


def _cast(dtype: str) -> str:
    return CASTS.get(dtype.rstrip("0123456789"), dtype)


def _shape_fits(array: list[int], tensor: list[int | str | None] | None) -> bool:
    """Axis 0 counts samples. A row is either part of the input's batch, or, with one axis more, the whole input."""
    if tensor is None:
        return True
    rows, wanted = array[1:], tensor if len(array) == len(tensor) + 1 else tensor[1:]
    return len(rows) == len(wanted) and all(
        not isinstance(fixed, int) or size == fixed for size, fixed in zip(rows, wanted, strict=True)
    )


def _check_gpu(session: Session, settings: Settings) -> None:
    alive = exists().where(Worker.queue == "gpu", is_alive(session, settings))
    if not session.scalar(select(alive)):
        fault = Fault("/target/device", "no GPU worker was seen lately")
        raise Problem(errors.NO_GPU_WORKER, "No worker of the queue gpu was seen lately.", [fault])
