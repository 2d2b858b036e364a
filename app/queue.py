"""Wake-up hints over Celery: the database is the queue, a hint only makes a worker look at it sooner.

A hint may be lost, late or doubled without any effect on an outcome. So a door only drops it into a short line, and a
thread of its own sends it: a broker that is down, or that swallows packets, never slows a request. What it could not
send stays in the outbox, for the relay of `workers.maintenance`.
"""

import contextlib
import logging
import queue
import threading
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu import Queue
from kombu.exceptions import KombuError, OperationalError
from redis import Redis, RedisError
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from app.database import Database, Outbox
from app.settings import Settings

WAKE = "workers.tasks.wake"
QUEUES = ("cpu", "gpu")
VISIBILITY_SECONDS = 3600
LONGEST_LINE = 1000
log = logging.getLogger(__name__)


def celery_settings(settings: Settings) -> dict[str, Any]:
    """What API, workers and maintenance configure alike; each line is explained in docs/decisions.md."""
    return {
        "broker_url": settings.broker_url,
        "result_backend": None,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_protocol": 2,
        "task_acks_late": False,  # the lease in the database is the guarantee
        "task_reject_on_worker_lost": False,
        "task_create_missing_queues": False,
        "task_queues": [Queue(name) for name in QUEUES],
        "task_default_queue": QUEUES[0],
        "task_publish_retry": False,  # the relay retries
        "task_time_limit": settings.job_max_seconds + 120,
        "worker_pool_start_method": "spawn",
        "worker_proc_alive_timeout": 60,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_max_tasks_per_child": 100,
        "worker_soft_shutdown_timeout": 25,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": False,  # any client of the broker could shut workers down
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_pool_acquire_timeout": 5,
        "visibility_timeout": VISIBILITY_SECONDS,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "global_keyprefix": "strop:",
        },
    }


def producer(settings: Settings) -> Celery:
    """A Celery app that only sends, and gives up within about a second."""
    app = Celery("strop")
    shared = celery_settings(settings)
    impatient = {"socket_timeout": 1, "socket_connect_timeout": 1, "max_retries": 0}
    app.conf.update({**shared, "broker_transport_options": {**shared["broker_transport_options"], **impatient}})
    return app


def send_hint(sender: Celery, queue_name: str) -> None:
    """Tell one worker of that queue to look for work; raises what the broker raises."""
    sender.send_task(WAKE, args=[queue_name], queue=queue_name, retry=False, ignore_result=True)


class Hints:
    """Sends hints from one background thread, and strikes each one sent from the outbox."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._sender = producer(settings)
        self._database = database
        self._broker_url = settings.broker_url
        self._line: queue.Queue[tuple[str, str] | None] = queue.Queue(LONGEST_LINE)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after the hint in its hand; what waits behind it stays in the outbox."""
        self._stopping = True
        with contextlib.suppress(queue.Full):
            self._line.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def send(self, queue_name: str, outbox_id: str) -> None:
        """Never waits: a full line drops the hint, and the relay finds it in the outbox."""
        try:
            self._line.put_nowait((queue_name, outbox_id))
        except queue.Full:
            log.warning("too many hints wait for the broker; the relay will send this one")

    def broker_answers(self) -> bool:
        """Whether the broker answers within half a second."""
        try:
            with Redis.from_url(_redis_url(self._broker_url), socket_timeout=0.5, socket_connect_timeout=0.5) as client:
                return bool(client.ping())
        except (RedisError, ValueError):
            return False

    def _run(self) -> None:
        while (hint := self._line.get()) is not None and not self._stopping:
            queue_name, outbox_id = hint
            try:
                send_hint(self._sender, queue_name)
                with self._database.write() as session:
                    session.execute(delete(Outbox).where(Outbox.id == outbox_id))
            except (KombuError, OperationalError, RedisError, SQLAlchemyError, OSError) as error:
                log.warning("a hint waits for the relay: %s", error)


def _redis_url(broker_url: str) -> str:
    """Celery's spelling of a socket's address in the words of redis-py."""
    parts = urlsplit(broker_url)
    return f"unix://{parts.path}" if parts.scheme == "redis+socket" else broker_url
