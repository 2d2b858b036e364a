"""The one task. A hint wakes a slot; the slot works until nothing is left that it may take.

What the message says is only a queue's name. Lost, late and doubled hints change when a job starts, and nothing else.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from celery.signals import worker_process_init
from sqlalchemy.exc import SQLAlchemyError

from app.failpoints import arm
from app.queue import QUEUES, WAKE
from app.settings import Settings
from workers.celery_app import app
from workers.claim import Claim, claim
from workers.supervise import run
from workers.workplace import Workplace, open_workplace

log = logging.getLogger(__name__)


@app.task(name=WAKE)
def wake(queue: str) -> None:
    if queue in QUEUES:
        with _told_to_stop() as stopping:
            while not stopping.is_set() and (taken := _claim(workplace(), queue)):
                run(workplace(), taken, stopping.is_set)


@cache
def workplace() -> Workplace:
    """Of this slot: a process of the pool, whose parent is the worker."""
    return open_workplace(Settings(), worker_pid=os.getppid())


@worker_process_init.connect
def _open_slot(**_: object) -> None:
    arm(workplace().settings.failpoints)


def _claim(place: Workplace, queue: str) -> Claim | None:
    settings = place.settings
    try:
        return claim(
            place.database,
            place.worker_id,
            queue,
            slots=settings.worker_slots,
            lease_seconds=settings.lease_seconds,
        )
    except SQLAlchemyError as error:
        log.warning("no job can be claimed: %s", type(error).__name__)
        return None


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """SIGTERM to this process, as when a whole unit is stopped, sets the event instead of raising in mid-commit."""
    stopping = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: stopping.set())
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)
