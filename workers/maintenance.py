"""What keeps the promises when something died: `python -m workers.maintenance`. Any number of them may run.

    relay     sends the hints that the outbox still holds
    remind    sends hints where jobs wait and no hint does, because a broker or a worker lost it
    reap      takes jobs from workers that were not heard of within their lease
    sweep     ends processes and removes folders of attempts that nobody supervises
    expire    forgets what is older than the retention (`workers.expiry`)

Each is a guarded change of the database, so running it twice, late or together with another changes nothing.
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import bootstrap
from app.database import Job, JobState, Outbox
from app.errors import ConfigurationError
from app.events import HOLDING_A_LEASE, clock, transition
from app.failpoints import arm, reach
from app.queue import QUEUES, producer, send_hint
from app.services import compose
from app.settings import Settings
from engine.protocol import Work
from workers import problems
from workers.claim import claimable
from workers.expiry import expire
from workers.settle import Ending, end_inspection
from workers.sweep import sweep_attempts
from workers.workplace import Workplace, open_workplace

BATCH = 100
RELAY_SECONDS = 1.0
EXPIRE_SECONDS = 600.0
RETRY_SECONDS = 5.0  # a relay that died with a hint in its hand
HINTS_AT_ONCE = 8  # so many idle slots are woken; each works on until nothing is left

log = logging.getLogger(__name__)


def relay(workplace: Workplace, sender: Celery) -> None:
    """Send the hints whose time has come. One that is sent twice because we died in between does no harm."""
    with workplace.database.write() as session:
        now = clock(session)
        due = select(Outbox.id).where(Outbox.next_try_at <= now).order_by(Outbox.created_at).limit(BATCH)
        mine = update(Outbox).where(Outbox.id.in_(due.with_for_update(skip_locked=True).scalar_subquery()))
        values = {"next_try_at": now + RETRY_SECONDS, "tries": Outbox.tries + 1}
        hints = session.execute(mine.values(values).returning(Outbox.id, Outbox.queue)).all()
    for outbox_id, queue in hints:
        send_hint(sender, queue)
        reach("relay.after_publish")
        with workplace.database.write() as session:
            session.execute(delete(Outbox).where(Outbox.id == outbox_id))


def remind(workplace: Workplace, sender: Celery) -> None:
    """Wake workers for jobs that wait while no hint does."""
    for queue in QUEUES:
        with workplace.database.read() as session:
            waiting = session.scalars(select(func.count()).select_from(Job).where(*claimable(session, queue))).one()
        if waiting and not _hints_waiting(sender, queue):
            for _ in range(min(waiting, HINTS_AT_ONCE)):
                send_hint(sender, queue)


def reap(workplace: Workplace) -> int:
    """Give the jobs of lost workers to others, or end those that were tried often enough. How many there were."""
    with workplace.database.write() as session:
        lost = (
            select(Job)
            .where(Job.state.in_(HOLDING_A_LEASE), Job.lease_expires_at < clock(session))
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        jobs = session.scalars(lost).all()
        for job in jobs:
            _reap_one(session, job)
        return len(jobs)


def _reap_one(session: Session, job: Job) -> None:
    state, problem = JobState.QUEUED, None
    if job.state == JobState.CANCELING:
        state = JobState.CANCELED
    elif job.attempt >= job.max_attempts:
        state, problem = JobState.FAILED, problems.worker_lost(job.attempt)
    log.warning("job %s: its worker %s was lost; now %s", job.id, job.lease_owner, state)
    job_id, token, file_id, work = job.id, job.lease_token, job.file_id, job.work
    session.expunge(job)
    data = {"reason": "worker_lost"}
    if not transition(session, job_id, state, token=token, values={"error": problem, "progress": None}, data=data):
        raise RuntimeError(f"the locked row of {job_id} changed")
    if work != Work.OPTIMIZE and state is not JobState.QUEUED:
        end_inspection(session, file_id, state, Ending(state, problem))


def _hints_waiting(sender: Celery, queue: str) -> bool:
    with sender.connection_for_write() as connection:
        channel = connection.default_channel
        return bool(channel.client.llen(queue))


@dataclass
class Duty:
    """Something to do every so often."""

    do: Callable[[], object]
    every_seconds: float
    due_at: float = field(default=0.0)

    def do_if_due(self) -> None:
        if time.monotonic() < self.due_at:
            return
        self.due_at = time.monotonic() + self.every_seconds
        try:
            self.do()
        except (SQLAlchemyError, OperationalError, RedisError, OSError) as error:
            log.warning("%s: %s", type(error).__name__, error)


def duties(workplace: Workplace) -> list[Duty]:
    settings = workplace.settings
    sender, services = producer(settings), compose(settings)
    often = settings.reaper_seconds
    return [
        Duty(lambda: relay(workplace, sender), min(RELAY_SECONDS, often)),
        Duty(lambda: reap(workplace), often),
        Duty(lambda: remind(workplace, sender), often),
        Duty(lambda: sweep_attempts(workplace), often),
        Duty(lambda: expire(services), EXPIRE_SECONDS),
    ]


def keep_doing(todo: list[Duty], stopping: threading.Event) -> None:
    tick = min(duty.every_seconds for duty in todo)
    while not stopping.wait(tick):
        for duty in todo:
            duty.do_if_due()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings()
    arm(settings.failpoints)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    workplace = open_workplace(settings, worker_pid=0)
    try:
        bootstrap.prepare(workplace.database, settings)
    except ConfigurationError as error:
        sys.exit(f"strop maintenance: {error}")
    keep_doing(duties(workplace), stopping)


if __name__ == "__main__":
    main()
