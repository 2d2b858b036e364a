"""A worker's row in the table `workers`: who is alive, for which queue, behind which walls.

The row is more than a notice: claims lock it, and a worker that leaves strikes itself out first, which its slots see
within a second: they take nothing more, kill their children and give their jobs back.
"""

import logging
import socket
import threading

from sqlalchemy import delete, insert, update
from sqlalchemy.exc import SQLAlchemyError

from app.database import Database, Worker
from app.events import clock

log = logging.getLogger(__name__)


class Presence:
    def __init__(self, database: Database, worker_id: str, *, queue: str, sandbox: str, every_seconds: float) -> None:
        self._database = database
        self._worker_id = worker_id
        self._queue = queue
        self._sandbox = sandbox
        self._every_seconds = every_seconds
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="presence", daemon=True)

    def begin(self) -> None:
        """Register, and say so again and again from a thread of its own."""
        self._say()
        self._thread.start()

    def leave(self) -> None:
        self._leaving.set()
        try:
            with self._database.write() as session:
                session.execute(delete(Worker).where(Worker.id == self._worker_id))
        except SQLAlchemyError as error:
            log.warning("this worker could not sign off: %s", error)

    def _keep(self) -> None:
        while not self._leaving.wait(self._every_seconds):
            try:
                self._say()
            except SQLAlchemyError as error:
                log.warning("the database cannot be reached: %s", type(error).__name__)

    def _say(self) -> None:
        with self._database.write() as session:
            now = clock(session)
            mine = update(Worker).where(Worker.id == self._worker_id).values(last_seen_at=now)
            known = session.scalar(mine.returning(Worker.id))
            if known is None and not self._leaving.is_set():
                row = {"queue": self._queue, "host": socket.gethostname(), "sandbox": self._sandbox}
                session.execute(insert(Worker).values(id=self._worker_id, started_at=now, last_seen_at=now, **row))
