"""Real processes share a host."""

import multiprocessing
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from engine.measure.lock import HostLock

SPAWN = multiprocessing.get_context("spawn")
LONG = 20.0


def compute(path: Path, log: Path, ready: Event, stop: Event) -> None:
    """Compute in batches, and note every batch that ran while somebody measured."""
    lock = HostLock(path)
    with lock.computing():
        ready.set()
        while not stop.is_set():
            if (path.parent / "measuring").exists():
                log.write_text("disturbed")
            time.sleep(0.002)
            lock.pause()


def measure(path: Path, log: Path, seconds: float) -> None:
    """Measure, and note if somebody else did at the same time."""
    mark = path.parent / "measuring"
    with HostLock(path).measuring():
        if mark.exists():
            log.write_text("two at once")
        mark.touch()
        time.sleep(seconds)
        mark.unlink()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return tmp_path / "measure.lock"


def test_a_measurement_gets_in_between_batches_and_is_not_disturbed(host: Path, tmp_path: Path) -> None:
    log, stop = tmp_path / "log", SPAWN.Event()
    ready = [SPAWN.Event() for _ in range(3)]
    workers = [SPAWN.Process(target=compute, args=(host, log, event, stop)) for event in ready]
    for worker in workers:
        worker.start()
    assert all(event.wait(LONG) for event in ready)
    for _ in range(5):
        measure(host, log, 0.02)
    stop.set()
    for worker in workers:
        worker.join(LONG)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert not log.exists()


def test_only_one_measures_at_a_time(host: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    measurers = [SPAWN.Process(target=measure, args=(host, log, 0.05)) for _ in range(4)]
    for measurer in measurers:
        measurer.start()
    for measurer in measurers:
        measurer.join(LONG)
    assert [measurer.exitcode for measurer in measurers] == [0] * 4
    assert not log.exists()


def measure_in_turn(path: Path, ready: Event, go: Event) -> None:
    lock = HostLock(path)
    with lock.computing():
        ready.set()
        go.wait(LONG)
        for _ in range(20):
            with lock.measuring():
                pass


def test_jobs_that_compute_and_measure_never_wait_for_one_another_for_ever(host: Path) -> None:
    go, ready = SPAWN.Event(), [SPAWN.Event() for _ in range(3)]
    jobs = [SPAWN.Process(target=measure_in_turn, args=(host, event, go)) for event in ready]
    for job in jobs:
        job.start()
    assert all(event.wait(LONG) for event in ready)
    go.set()
    for job in jobs:
        job.join(LONG)
    assert [job.exitcode for job in jobs] == [0, 0, 0]


def hold_for_ever(path: Path, ready: Event) -> None:
    with HostLock(path).measuring():
        ready.set()
        time.sleep(1000)


def test_a_killed_measurement_frees_the_host(host: Path) -> None:
    ready = SPAWN.Event()
    holder = SPAWN.Process(target=hold_for_ever, args=(host, ready))
    holder.start()
    assert ready.wait(LONG)
    holder.kill()
    with HostLock(host).measuring():
        assert not holder.is_alive() or holder.join(LONG) is None


def test_a_computing_job_sees_that_a_measurement_waits(host: Path, tmp_path: Path) -> None:
    lock = HostLock(host)
    with lock.computing():
        assert not lock.wanted()
        measurer = SPAWN.Process(target=measure, args=(host, tmp_path / "log", 0.0))
        measurer.start()
        deadline = time.monotonic() + LONG
        while not lock.wanted() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.wanted()
        lock.pause()
        assert not lock.wanted()
    measurer.join(LONG)
    assert measurer.exitcode == 0


def test_without_a_path_nothing_is_waited_for() -> None:
    lock = HostLock(None)
    with lock.computing(), lock.measuring():
        lock.pause()
        assert not lock.wanted()
