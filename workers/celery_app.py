"""The worker's composition: Celery's configuration, and what happens when a worker starts and stops.

    celery -A workers.celery_app worker -Q cpu        one worker serves one queue

This module is imported by the worker (the parent) and by each of its slots (spawned processes of the pool).
"""

import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from celery import Celery
from celery.signals import celeryd_after_setup, setup_logging, worker_shutdown, worker_shutting_down

from app import bootstrap
from app.errors import ConfigurationError
from app.queue import QUEUES, celery_settings
from app.settings import Settings
from workers.maintenance.sweep import sweep_attempts
from workers.presence import Presence
from workers.self_test import try_confinement
from workers.workplace import open_workplace

NVIDIA_DEVICE = Path("/dev/nvidiactl")

log = logging.getLogger(__name__)
settings = Settings()
app = Celery("strop", include=["workers.tasks"])
app.conf.update(celery_settings(settings), worker_concurrency=settings.worker_slots)

_presences: list[Presence] = []


@setup_logging.connect
def _log_to_standard_error(**_: object) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


@celeryd_after_setup.connect
def _begin(sender: str, instance: object, **_: object) -> None:
    """Before the first slot starts: look at the walls, tidy up after the dead, register."""
    del sender, instance
    queue = _queue()
    workplace = open_workplace(settings, worker_pid=os.getpid())
    try:
        bootstrap.prepare(workplace.database, settings)
    except ConfigurationError as error:
        _refuse(str(error))
    sweep_attempts(workplace)
    test = try_confinement(workplace)
    if not test.reaches(settings.sandbox_min_level):
        found = f"{test.level} (got out by: {', '.join(test.escapes)})" if test.escapes else test.level
        _refuse(f"a child is confined by {found} here, STROP_SANDBOX_MIN_LEVEL asks for {settings.sandbox_min_level}")
    log.info("children are confined by %s", test.level)
    presence = Presence(
        workplace.database,
        workplace.worker_id,
        queue=queue,
        sandbox=test.level,
        every_seconds=settings.heartbeat_seconds,
    )
    presence.begin()
    _presences.append(presence)


@worker_shutting_down.connect
def _leave(**_: object) -> None:
    """The slots see within a second that the worker is gone from the table, and give their jobs back."""
    for presence in _presences:
        presence.leave()


@worker_shutdown.connect
def _end(**_: object) -> None:
    """All slots have ended: to take the interpreter down piece by piece would only keep who waits for us waiting."""
    logging.shutdown()
    os._exit(0)


def _queue() -> str:
    served = [name for name in QUEUES if name in app.amqp.queues.consume_from]
    if len(served) != 1:
        _refuse("a worker serves one queue: give -Q cpu or -Q gpu")
    if served == ["gpu"] and not NVIDIA_DEVICE.exists():
        _refuse("this machine has no NVIDIA device for -Q gpu")
    return served[0]


def _refuse(reason: str) -> NoReturn:
    print(f"strop worker: {reason}", file=sys.stderr)  # noqa: T201 - the one line an operator must see
    sys.exit(78)  # EX_CONFIG
