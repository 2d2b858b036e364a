"""Keeps a claimed job ours, on a thread that does nothing else.

Every write of an attempt before its end goes through here: heartbeats, progress and the events of the story, each
guarded by the lease token. The thread looks for a cancel every second and renews every `heartbeat_seconds`.

If the database cannot be reached, the work goes on until the lease has run out by our own monotonic clock; then
`lost` is true, whoever supervises the child kills it, and nothing more is written: somebody else may have the job.
"""

import logging
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Row, exists, select, update
from sqlalchemy.exc import SQLAlchemyError

from app.database import Database, Job, JobState, Worker
from app.events import append_event, clock
from workers.claim import Claim

LOOK_SECONDS = 1.0  # how soon a cancel is seen

SEEN = (Job.state, exists().where(Worker.id == Job.lease_owner).label("serving"))

log = logging.getLogger(__name__)


class Lease:
    def __init__(self, database: Database, taken: Claim, *, lease_seconds: float, heartbeat_seconds: float) -> None:
        self._database = database
        self._claim = taken
        self._lease_seconds = lease_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._expires = time.monotonic() + lease_seconds
        self._renew_at = time.monotonic() + heartbeat_seconds
        self._taken_away = False
        self._canceling = False
        self._draining = False
        self._stopping = False
        self._untold: list[tuple[str, Mapping[str, Any]]] = []
        self._columns: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{taken.job_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def lost(self) -> bool:
        return self._taken_away or time.monotonic() > self._expires

    @property
    def canceling(self) -> bool:
        """The user has asked for the end."""
        return self._canceling

    @property
    def draining(self) -> bool:
        """The worker has struck itself from the table `workers`: it is leaving."""
        return self._draining

    def tell(self, kind: str, data: Mapping[str, Any], **columns: Any) -> None:
        """Add an event to the story, and set columns of the job; written soon, in this order."""
        with self._changed:
            self._untold.append((kind, data))
            self._columns |= columns
            self._changed.notify_all()

    def show(self, **columns: Any) -> None:
        """Set columns of the job with the next renewal."""
        with self._changed:
            self._columns |= columns

    def settle(self) -> bool:
        """Wait until all that was told is written; False if the lease was lost before."""
        with self._changed:
            while self._untold and not self.lost:
                self._changed.wait(0.1)
        return not self.lost

    def _keep(self) -> None:
        while not (self._stopping or self.lost):
            self._beat()
            with self._changed:
                if not (self._untold or self._stopping):
                    self._changed.wait(min(LOOK_SECONDS, self._heartbeat_seconds))

    def _beat(self) -> None:
        try:
            if self._untold or time.monotonic() >= self._renew_at:
                self._renew()
            else:
                self._look()
        except SQLAlchemyError as error:
            log.warning("job %s: the database cannot be reached (%s)", self._claim.job_id, type(error).__name__)
            time.sleep(min(0.5, self._heartbeat_seconds))

    def _renew(self) -> None:
        begun = time.monotonic()
        with self._changed:
            events, columns = list(self._untold), dict(self._columns)
        with self._database.write() as session:
            values = {
                "heartbeat_at": clock(session),
                "lease_expires_at": clock(session) + self._lease_seconds,
                **columns,
            }
            if columns and not events:
                values["version"] = Job.version + 1
            row = session.execute(update(Job).where(*self._mine()).values(values).returning(*SEEN)).one_or_none()
            for kind, data in events if row else ():
                append_event(session, self._claim.job_id, kind, data)
        self._learn(row)
        if row is not None:
            self._expires, self._renew_at = begun + self._lease_seconds, begun + self._heartbeat_seconds
        self._told(events, columns)

    def _look(self) -> None:
        with self._database.read() as session:
            self._learn(session.execute(select(*SEEN).where(*self._mine())).one_or_none())

    def _mine(self) -> tuple[Any, ...]:
        return Job.id == self._claim.job_id, Job.lease_token == self._claim.token

    def _learn(self, row: Row[str, bool] | None) -> None:
        self._taken_away = row is None
        if row is not None:
            state, serving = row
            self._canceling, self._draining = state == JobState.CANCELING, not serving

    def _told(self, events: list[tuple[str, Mapping[str, Any]]], columns: dict[str, Any]) -> None:
        with self._changed:
            del self._untold[: len(events)]
            if self._columns == columns:
                self._columns = {}
            self._changed.notify_all()
