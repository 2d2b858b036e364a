"""Does each duty of maintenance when it is due, until it is told to stop."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kombu.exceptions import OperationalError
from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app import bootstrap, intake
from app.errors import ConfigurationError
from app.failpoints import arm
from app.queue import producer
from app.services import Services, compose
from app.settings import Settings
from workers.maintenance.expiry import DAY_SECONDS, SHARDS, expire, expire_strays
from workers.maintenance.hints import relay, remind
from workers.maintenance.reaper import reap
from workers.maintenance.sweep import sweep_attempts
from workers.workplace import Workplace, open_workplace

RELAY_SECONDS = 1.0
EXPIRE_SECONDS = 600.0

log = logging.getLogger(__name__)


@dataclass
class Duty:
    """Something to do every so often; a part of the service that is away is no reason to stop."""

    do: Callable[[], object]
    every_seconds: float
    due_at: float = 0.0

    def do_if_due(self) -> None:
        if time.monotonic() < self.due_at:
            return
        self.due_at = time.monotonic() + self.every_seconds
        try:
            self.do()
        except (SQLAlchemyError, OperationalError, RedisError, OSError) as error:
            log.warning("%s: %s", type(error).__name__, error)


def duties(workplace: Workplace, services: Services) -> list[Duty]:
    settings = workplace.settings
    sender = producer(settings)
    often = settings.reaper_seconds
    return [
        Duty(lambda: relay(workplace, sender), min(RELAY_SECONDS, often)),
        Duty(lambda: reap(workplace), often),
        Duty(lambda: remind(workplace, sender), often),
        Duty(lambda: sweep_attempts(workplace), often),
        Duty(lambda: intake.sweep(services.staging), EXPIRE_SECONDS),
        Duty(lambda: expire(services), EXPIRE_SECONDS),
        Duty(lambda: expire_strays(services), DAY_SECONDS / SHARDS),
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
    keep_doing(duties(workplace, compose(settings)), stopping)


if __name__ == "__main__":
    main()
