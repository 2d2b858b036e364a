"""What an attempt's end means for its job: one guarded transaction writes the state, the results and the event.

    finished              → succeeded, with its files          failed      → failed, with the last checkpoint's files
    crashed, unavailable  → queued again, or failed            canceled    → canceled, with the last checkpoint's files
    drained               → queued, not charged                lost        → nothing is written

Where the storage stays away, a success counts as `unavailable`, and other ends are written without files.
Whatever was wanted, a job that is being canceled ends canceled: the user's word stands once it is recorded.
"""

import itertools
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import insert, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.blobs import keep
from app.database import Artifact, File, FileState, JobState
from app.events import transition
from app.failpoints import reach
from app.storage import is_full
from engine.protocol import Finished, Work
from engine.report import Verdict
from workers import problems
from workers.claim import Claim, release
from workers.lease import Lease
from workers.outcome import End, Outcome
from workers.problems import Problem
from workers.publish import Output, Unacceptable, collect, collect_file, store
from workers.workplace import Workplace

CRASHES = 2  # attempts that may crash before the job fails
RETRY_SECONDS = 10.0  # times the attempt's number, after the storage failed
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between asking a storage that is away

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """What shall become of the job."""

    state: JobState
    problem: Problem | None = None
    outputs: tuple[Output, ...] = ()
    verdict: Verdict | None = None
    finished: Finished | None = None


def settle(workplace: Workplace, taken: Claim, lease: Lease, folder: Path, outcome: Outcome) -> None:
    """Decide and write, as long as the lease is ours. A job is settled at most once: the lease token sees to it.

    A storage that is away is waited for, since the result may have taken hours. The lease is renewed meanwhile.
    """
    give_up_at = time.monotonic() + workplace.settings.storage_patience_seconds
    pauses = itertools.chain(PAUSES, itertools.repeat(PAUSES[-1]))
    while not lease.lost:
        try:
            if not _retried(workplace, taken, outcome):
                _end(workplace, taken, _publishable(workplace, taken, folder, outcome))
        except SQLAlchemyError as error:
            log.warning("job %s is not settled yet: %s", taken.job_id, type(error).__name__)
            time.sleep(0.5)
        except OSError as error:
            log.warning("job %s could not be stored: %s", taken.job_id, error)
            leaving = lease.draining or lease.canceling
            if leaving or is_full(error) or time.monotonic() > give_up_at:
                outcome = _without_files(outcome, error, lease)
            else:
                _pause(lease, next(pauses))
        else:
            return


def _pause(lease: Lease, seconds: float) -> None:
    """Sleep, but not through the moments in which somebody waits for us."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not (lease.lost or lease.draining or lease.canceling):
        time.sleep(0.1)


def _without_files(outcome: Outcome, error: OSError, lease: Lease) -> Outcome:
    """What an attempt comes to whose files the storage did not take: a success is tried again, or is none."""
    if outcome.end is not End.FINISHED:
        return outcome.with_checkpoint(None)
    if is_full(error):
        return Outcome(End.FAILED, problem=problems.storage_full())
    return Outcome(End.DRAINED if lease.draining else End.UNAVAILABLE)


def _retried(workplace: Workplace, taken: Claim, outcome: Outcome) -> bool:
    """Whether the job went back into the queue."""
    database, again = workplace.database, taken.attempt < taken.max_attempts
    match outcome.end:
        case End.DRAINED:
            return release(database, taken, reason="drained", charged=False)
        case End.UNAVAILABLE if again:
            delay = RETRY_SECONDS * taken.attempt
            return release(database, taken, reason="unavailable", charged=True, delay_seconds=delay)
        case End.CRASHED if again and taken.crashes + 1 < CRASHES:
            return release(database, taken, reason="crashed", charged=True, crashed=True)
    return False


def _publishable(workplace: Workplace, taken: Claim, folder: Path, outcome: Outcome) -> Ending:
    """Check and store what the child left. A result that is refused makes a success a failure, and nothing else."""
    ending = _wanted(outcome)
    try:
        return _with_files(workplace, taken, folder, outcome, ending)
    except Unacceptable as refusal:
        log.warning("job %s: %s", taken.job_id, refusal)
        if ending.state is JobState.SUCCEEDED:
            return Ending(JobState.FAILED, problems.bad_output(str(refusal)))
        return ending


def _wanted(outcome: Outcome) -> Ending:
    match outcome.end:
        case End.FINISHED:
            return Ending(JobState.SUCCEEDED, finished=outcome.finished)
        case End.CANCELED:
            return Ending(JobState.CANCELED)
    return Ending(JobState.FAILED, outcome.problem or problems.service_unavailable())


def _with_files(workplace: Workplace, taken: Claim, folder: Path, outcome: Outcome, ending: Ending) -> Ending:
    max_bytes = workplace.settings.max_upload_bytes
    outputs: list[Output] = []
    verdict = None
    if taken.work is Work.OPTIMIZE:
        if outcome.checkpoint is None:
            if ending.state is JobState.SUCCEEDED:
                raise Unacceptable("it reported success without a result")
            return ending
        result = collect(folder, outcome.checkpoint, max_bytes=max_bytes)
        outputs, verdict = result.outputs, result.report.verdict
    elif ending.finished and ending.finished.canonical:
        outputs = [collect_file(folder, ending.finished.canonical, max_bytes=max_bytes)]
    store(workplace.storage, outputs)
    reach("publish.after_blobs")
    return Ending(ending.state, ending.problem, tuple(outputs), verdict, ending.finished)


def _end(workplace: Workplace, taken: Claim, ending: Ending) -> None:
    with workplace.database.write() as session:
        state = _move(session, taken, ending)
        if state is None:
            return
        for output in sorted(ending.outputs, key=lambda output: output.sha256):
            keep(session, workplace.storage, output.path, output.sha256)
        if taken.work is Work.OPTIMIZE:
            _add_artifacts(session, taken, ending.outputs)
        else:
            end_inspection(session, taken.file_id, replace(ending, state=state))
        reach("publish.before_commit")
    reach("publish.after_commit")


def _move(session: Session, taken: Claim, ending: Ending) -> JobState | None:
    """The state reached, or None where the lease is no longer ours."""
    values: dict[str, Any] = {"verdict": ending.verdict.model_dump(mode="json") if ending.verdict else None}
    error = ending.problem if ending.state is JobState.FAILED else None
    data = {"code": error["code"]} if error else {}
    if transition(session, taken.job_id, ending.state, token=taken.token, values={**values, "error": error}, data=data):
        return ending.state
    if transition(session, taken.job_id, JobState.CANCELED, token=taken.token, values=values):
        return JobState.CANCELED
    return None


def _add_artifacts(session: Session, taken: Claim, outputs: tuple[Output, ...]) -> None:
    for output in outputs:
        session.execute(
            insert(Artifact).values(job_id=taken.job_id, name=output.name, sha256=output.sha256, attempt=taken.attempt)
        )


def end_inspection(session: Session, file_id: str | None, ending: Ending) -> None:
    """Say of the uploaded file what its inspection found."""
    finished = ending.finished
    values: dict[str, Any] = {"state": FileState.REJECTED, "error": ending.problem or problems.canceled()}
    if ending.state is JobState.SUCCEEDED and finished:
        summary = finished.model or finished.dataset
        values = {"state": FileState.READY, "summary": summary.model_dump(mode="json") if summary else None}
        if ending.outputs:
            values["canonical_sha256"] = ending.outputs[0].sha256
    session.execute(update(File).where(File.id == file_id, File.state == FileState.INSPECTING).values(values))
