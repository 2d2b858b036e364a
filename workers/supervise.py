"""One attempt at one job: prepare its folder, watch its child, kill what is left of it, settle what came of it.

The loop here never touches the database; the lease's own thread does (`workers.lease`). So a database that hangs cannot
keep a child alive whose lease has run out.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.failpoints import reach
from app.storage import is_full
from engine.protocol import Checkpoint, Event, Failed, Finished, Progress, Stage, TrialDone
from workers import problems
from workers.aside import Aside
from workers.attempt import Unprepared, attempt_folder, origin, prepare, seconds
from workers.child import Child, Misbehaved
from workers.claim import Claim
from workers.lease import Lease
from workers.outcome import End, Outcome
from workers.settle import settle
from workers.workplace import Workplace, memory_limit

TICK_SECONDS = 0.1
CHECK_SECONDS = 1.0  # memory of the tree, free disk
LINGER_SECONDS = 5.0  # from the last event to the child's exit
GRACE_SECONDS = 1.0  # from SIGTERM to SIGKILL where nobody waits for a clean end
EVENTS_PER_ATTEMPT = 10_000
ENDS = (End.FINISHED, End.CANCELED)  # of an attempt, after which there is no other, and what it found is sound
PROGRESS_STEP = 0.005  # smaller steps are shown, but not told as events

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    seconds: float
    memory_bytes: int
    min_free_bytes: int
    cancel_grace_seconds: float


def run(workplace: Workplace, taken: Claim, draining: Callable[[], bool]) -> None:
    """Carry one claimed job to its end, or as far as the lease goes."""
    reach("claim.after_commit")
    settings = workplace.settings
    lease = Lease(
        workplace.database,
        taken,
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
    )
    aside = Aside.of(workplace, taken.job_id, origin(workplace.database, taken))
    with attempt_folder(workplace, taken) as folder, lease:
        outcome = _attempt(workplace, taken, folder, lease, draining, aside=aside)
        log.info("job %s, attempt %d: %s", taken.job_id, taken.attempt, outcome.end)
        if outcome.end is not End.LOST and lease.settle():
            settle(workplace, taken, lease, folder, outcome)
            if outcome.end in ENDS:
                aside.hand_on()


def _attempt(
    workplace: Workplace,
    taken: Claim,
    folder: Path,
    lease: Lease,
    draining: Callable[[], bool],
    *,
    aside: Aside,
) -> Outcome:
    settings = workplace.settings
    try:
        prepare(workplace, taken, folder)
        aside.give(folder)
    except Unprepared as refusal:
        return Outcome(End.FAILED, problem=refusal.problem)
    except OSError as error:
        return Outcome(End.FAILED, problem=problems.storage_full()) if is_full(error) else Outcome(End.UNAVAILABLE)
    except Exception:  # the one supervisor: whatever the storage raised, the job must get an end
        log.exception("job %s could not be prepared", taken.job_id)
        return Outcome(End.UNAVAILABLE)
    limits = Limits(
        seconds=seconds(workplace, taken),
        memory_bytes=memory_limit(settings),
        min_free_bytes=settings.min_free_bytes // 2,
        cancel_grace_seconds=settings.cancel_grace_seconds,
    )
    with Child(workplace.command, folder) as child:
        reach("child.started")
        outcome = Watch(child, folder, lease, limits, draining, aside=aside).watch()
        if outcome.end is End.CRASHED:
            log.warning(
                "job %s: the child %s\n%s", taken.job_id, problems.describe_exit(child.returncode), child.last_words
            )
        return outcome


class Watch:
    """Watches one child until it ends or has to."""

    def __init__(
        self,
        child: Child,
        folder: Path,
        lease: Lease,
        limits: Limits,
        draining: Callable[[], bool],
        *,
        aside: Aside,
    ) -> None:
        self._child = child
        self._folder = folder
        self._lease = lease
        self._limits = limits
        self._draining = draining
        self._aside = aside
        self._deadline = time.monotonic() + limits.seconds
        self._check_at = 0.0
        self._last_event_at: float | None = None
        self._last: Finished | Failed | None = None
        self._checkpoint: str | None = None
        self._progress: dict[str, object] = {}
        self._told_fraction = 0.0
        self._told_at = 0.0
        self._events = 0

    def watch(self) -> Outcome:
        try:
            outcome = self._until_it_must_end()
            self._child.stop(self._grace(outcome))
            if outcome is None or outcome.end is not End.LOST:
                self._hear(self._child.rest())
        except Misbehaved as error:
            self._child.stop(grace_seconds=0)
            outcome = Outcome(End.FAILED, problem=problems.bad_output(str(error)))
        outcome = outcome or self._result()
        return outcome.with_checkpoint(self._checkpoint)

    def _until_it_must_end(self) -> Outcome | None:
        """None when the child has come to its own end."""
        while True:
            self._hear(self._child.read(TICK_SECONDS))
            outcome = self._interruption()
            if outcome is not None or self._is_over():
                return outcome

    def _is_over(self) -> bool:
        """The child itself has ended, or has said its last word and lingers."""
        if self._child.ended:
            return True
        return self._last_event_at is not None and time.monotonic() > self._last_event_at + LINGER_SECONDS

    def _interruption(self) -> Outcome | None:
        if self._lease.lost:
            return Outcome(End.LOST)
        if self._last is not None:
            return None
        if self._lease.canceling:
            return Outcome(End.CANCELED)
        if self._lease.draining or self._draining():
            return Outcome(End.DRAINED)
        if time.monotonic() > self._deadline:
            return Outcome(End.FAILED, problem=problems.job_timeout(self._limits.seconds))
        return self._exhaustion()

    def _exhaustion(self) -> Outcome | None:
        if time.monotonic() < self._check_at:
            return None
        self._check_at = time.monotonic() + CHECK_SECONDS
        self._aside.take(self._folder)
        if self._child.resident_bytes() > self._limits.memory_bytes:
            return Outcome(End.CRASHED, problem=problems.out_of_memory(self._limits.memory_bytes))
        disk = os.statvfs(self._folder)
        if disk.f_bavail * disk.f_frsize < self._limits.min_free_bytes:
            return Outcome(End.FAILED, problem=problems.storage_full())
        return None

    def _grace(self, outcome: Outcome | None) -> float:
        if outcome is None or outcome.end is End.LOST:
            return 0
        return self._limits.cancel_grace_seconds if outcome.end is End.CANCELED else GRACE_SECONDS

    def _result(self) -> Outcome:
        """What a child that ended by itself has left."""
        match self._last, self._child.returncode:
            case Finished() as finished, _:
                return Outcome(End.FINISHED, finished=finished)
            case Failed() as failed, _:
                return Outcome(End.FAILED, problem=problems.of_event(failed))
            case _, code:
                return Outcome(
                    End.CRASHED, problem=problems.of_crash(code, self._child.last_words, self._limits.memory_bytes)
                )

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            self._events += 1
            if self._events > EVENTS_PER_ATTEMPT:
                raise Misbehaved(f"it reported more than {EVENTS_PER_ATTEMPT} events")
            self._hear_one(event)

    def _hear_one(self, event: Event) -> None:
        match event:
            case Stage():
                reach("child.running")
                self._stage(event)
            case Progress():
                self._advance(event)
            case TrialDone():
                self._lease.tell("trial", event.model_dump(mode="json", exclude={"type"}))
            case Checkpoint():
                self._checkpoint = event.directory
            case Finished() | Failed():
                self._last, self._last_event_at = event, time.monotonic()

    def _stage(self, event: Stage) -> None:
        self._progress |= {"stage": event.stage, "detail": event.detail}
        columns: dict[str, object] = {"progress": dict(self._progress)}
        if event.sandbox is not None:
            columns["sandbox"] = event.sandbox
        self._lease.tell("stage", {"stage": event.stage, "detail": event.detail}, **columns)

    def _advance(self, event: Progress) -> None:
        figures = {"fraction": event.fraction, "eta_seconds": event.eta_seconds}
        self._progress |= figures
        now = time.monotonic()
        if now < self._told_at + 1 or abs(event.fraction - self._told_fraction) < PROGRESS_STEP:
            self._lease.show(progress=dict(self._progress))
            return
        self._told_at, self._told_fraction = now, event.fraction
        self._lease.tell("progress", figures, progress=dict(self._progress))
