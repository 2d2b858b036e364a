"""Waiting for jobs to change, and the end of it."""

import asyncio
import threading
import time
from collections.abc import Collection

from app.http.watch import Watcher

LONG_SECONDS = 20.0


class SlowDatabase:
    """Versions of jobs that take a while to be told."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answered = 0

    def versions(self, jobs: Collection[str]) -> dict[str, int]:
        self.asked.set()
        time.sleep(0.3)
        self.answered += 1
        return dict.fromkeys(jobs, 1)


async def _drained(database: SlowDatabase) -> list[bool]:
    """Drain in the midst of a query; what those who wait are told."""
    watcher = Watcher(database.versions)
    watching = asyncio.create_task(watcher.run())
    waiting = [asyncio.create_task(watcher.changed(job, 1, LONG_SECONDS)) for job in ("one", "two")]
    await asyncio.to_thread(database.asked.wait, LONG_SECONDS)
    watcher.drain()
    await asyncio.wait_for(watching, LONG_SECONDS)
    return [await each for each in waiting]


def test_a_query_under_way_is_answered_before_the_watcher_ends() -> None:
    database = SlowDatabase()
    assert asyncio.run(_drained(database)) == [False, False]
    assert database.answered == 1


def test_a_watcher_that_nobody_asks_ends_at_once() -> None:
    async def drained() -> None:
        watcher = Watcher(SlowDatabase().versions)
        watching = asyncio.create_task(watcher.run())
        await asyncio.sleep(0)
        watcher.drain()
        await asyncio.wait_for(watching, LONG_SECONDS)

    asyncio.run(drained())
