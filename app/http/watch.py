"""Waiting for jobs to change without holding a thread or a connection: one query asks for all who wait.

`changed` returns as soon as a job's version differs from the one its caller has seen; the database is asked a few times
a second, and only while somebody waits. When the service drains, all waits end at once.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

LOOK_EVERY_SECONDS = 0.2
log = logging.getLogger(__name__)


class Watcher:
    def __init__(self, versions: Callable[[Collection[str]], dict[str, int]]) -> None:
        self._versions = versions
        self._waiting: defaultdict[str, dict[asyncio.Future[None], int]] = defaultdict(dict)
        self._somebody_waits = asyncio.Event()
        self.draining = False

    async def changed(self, job_id: str, seen: int, seconds: float) -> bool:
        """Whether the job's version became another than `seen` (or the job was deleted) within that time."""
        if self.draining:
            return False
        future = asyncio.get_running_loop().create_future()
        self._waiting[job_id][future] = seen
        self._somebody_waits.set()
        try:
            await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return False
        finally:
            self._forget(job_id, future)
        return not self.draining

    async def run(self) -> None:
        """Look again and again, until the service drains."""
        while not self.draining:
            await self._somebody_waits.wait()
            if not self.draining:
                await asyncio.sleep(LOOK_EVERY_SECONDS)
                await self._look()

    def drain(self) -> None:
        """End all waits, now and from now on."""
        self.draining = True
        self._somebody_waits.set()
        for futures in self._waiting.values():
            for future in futures:
                _wake(future)

    async def _look(self) -> None:
        asked = list(self._waiting)
        try:
            versions = await run_in_threadpool(self._versions, asked)
        except SQLAlchemyError as error:
            log.warning("the watcher could not ask the database: %s", error)
            return
        for job_id in asked:
            for future, seen in self._waiting.get(job_id, {}).items():
                if job_id not in versions or versions[job_id] > seen:
                    _wake(future)

    def _forget(self, job_id: str, future: asyncio.Future[None]) -> None:
        self._waiting[job_id].pop(future, None)
        if not self._waiting[job_id]:
            del self._waiting[job_id]
        if not self._waiting and not self.draining:
            self._somebody_waits.clear()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
