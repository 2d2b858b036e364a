"""The folder of one attempt: what the child may read, what it is asked, and where it may write.

The folder is named by the lease token, so nobody but its supervisor ever opens it while the lease lives, and the sweep
knows by the name whether it is dead. Inputs are hard links of blobs where that is possible; their digests are checked
before any parser sees them.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from app.database import Database, File
from engine.protocol import MODEL, Confinement, EngineRequest, OtherModel, Work
from engine.recipe import JobRequest
from workers import problems
from workers.claim import Claim
from workers.workplace import Workplace, cores

INSPECTION_SECONDS = 600.0  # gigabytes are read several times
CHUNK_BYTES = 1 << 20


class Unprepared(Exception):
    """The attempt cannot start, for the reason in `problem`."""

    def __init__(self, problem: problems.Problem) -> None:
        super().__init__(problem["detail"])
        self.problem = problem


@contextmanager
def attempt_folder(workplace: Workplace, taken: Claim) -> Iterator[Path]:
    """A fresh folder that is gone afterwards, whatever happened inside."""
    folder = workplace.attempts / taken.token
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def prepare(workplace: Workplace, taken: Claim, folder: Path) -> EngineRequest:
    """Put the inputs and the request into the folder. Raises Unprepared, OSError or what the storage raises."""
    (folder / "inputs").mkdir()
    (folder / "work").mkdir()
    request = _inspection(taken) if taken.work is not Work.OPTIMIZE else _optimization(workplace.database, taken)
    for name, file_id in _inputs(taken).items():
        _fetch(workplace, file_id, folder / "inputs" / name, original=taken.work is not Work.OPTIMIZE)
    request = request.model_copy(
        update={
            "measurement_lock": str(workplace.measurement_lock),
            "confinement": _confinement(workplace, seconds(workplace, taken)),
        }
    )
    (folder / "request.json").write_text(request.model_dump_json())
    return request


def seconds(workplace: Workplace, taken: Claim) -> float:
    """Wall time after which the attempt is ended from outside; the engine minds its budget itself, well before."""
    if taken.work is not Work.OPTIMIZE:
        return min(INSPECTION_SECONDS, workplace.settings.job_max_seconds)
    left = _seconds_left(taken)
    return min(left + max(60.0, 0.25 * left), workplace.settings.job_max_seconds)


def _seconds_left(taken: Claim) -> float:
    minutes = JobRequest.model_validate(taken.request).budget.minutes
    return max(1.0, 60.0 * minutes - taken.worked_seconds)


def _inputs(taken: Claim) -> dict[str, str]:
    """Name in the folder → id of the file."""
    if taken.work is not Work.OPTIMIZE:
        return {"upload": taken.file_id or ""}
    request = JobRequest.model_validate(taken.request)
    inputs = {MODEL: request.model, **{name: file_id for file_id, name in _others(request).items()}}
    if request.data:
        inputs["calibration.npz"] = request.data.calibration
        if request.data.evaluation:
            inputs["evaluation.npz"] = request.data.evaluation
    return inputs


def _others(request: JobRequest) -> dict[str, str]:
    """Id of each model that is named beside the first → its name in the folder."""
    ids = dict.fromkeys(request.other_models().values())
    return {file_id: f"other-{number}.onnx" for number, file_id in enumerate(ids, start=1)}


def origin(database: Database, taken: Claim) -> str | None:
    """A name for the files that a search works on, by their digests: the model's own, and one of all others.

    None where nothing is searched: steps that a user asks for are taken.
    """
    request = JobRequest.model_validate(taken.request) if taken.work is Work.OPTIMIZE else None
    if request is None or request.goal is None:
        return None
    digests = {name: _digest(database, file_id, original=False) or "" for name, file_id in _inputs(taken).items()}
    model = digests.pop(MODEL)
    return f"{model}-{hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]}"


def _inspection(taken: Claim) -> EngineRequest:
    is_model = taken.work is Work.INSPECT_MODEL
    return EngineRequest(
        work=taken.work,
        model="inputs/upload" if is_model else None,
        calibration=None if is_model else "inputs/upload",
    )


def _optimization(database: Database, taken: Claim) -> EngineRequest:
    request = JobRequest.model_validate(taken.request)
    data, others = request.data, _others(request)
    names = _names(database, [request.model, *others])
    return EngineRequest(
        work=Work.OPTIMIZE,
        recipe=request.recipe(),
        model=f"inputs/{MODEL}",
        model_name=names.get(request.model, request.model),
        others={
            file_id: OtherModel(path=f"inputs/{name}", name=names.get(file_id, file_id))
            for file_id, name in others.items()
        },
        calibration="inputs/calibration.npz" if data else None,
        evaluation="inputs/evaluation.npz" if data and data.evaluation else None,
        labels=data.labels if data else None,
        seconds_left=_seconds_left(taken),
    )


def _names(database: Database, file_ids: list[str]) -> dict[str, str]:
    """What the users called these files."""
    with database.read() as session:
        rows = session.execute(select(File.id, File.name).where(File.id.in_(file_ids)))
        return {row.id: row.name for row in rows if row.name}


def _confinement(workplace: Workplace, wall_seconds: float) -> Confinement:
    settings = workplace.settings
    return Confinement(
        memory_bytes=settings.job_memory_bytes,
        file_bytes=settings.max_upload_bytes,
        cpu_seconds=int(2 * wall_seconds * cores()) + 60,
    )


def _fetch(workplace: Workplace, file_id: str, destination: Path, *, original: bool) -> None:
    sha256 = _digest(workplace.database, file_id, original=original)
    if sha256 is None:
        raise Unprepared(problems.input_missing(file_id))
    try:
        workplace.storage.fetch(sha256, destination)
    except FileNotFoundError as missing:
        raise Unprepared(problems.storage_corrupt(file_id)) from missing
    if digest(destination) != sha256:
        raise Unprepared(problems.storage_corrupt(file_id))


def _digest(database: Database, file_id: str, *, original: bool) -> str | None:
    with database.read() as session:
        file = session.get(File, file_id)
        if file is None:
            return None
        return file.sha256 if original else file.canonical_sha256 or file.sha256


def digest(path: Path) -> str:
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
    return sha256.hexdigest()
