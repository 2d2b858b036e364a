"""Workers, children and hints die at every point; each job still ends once, and nothing of an attempt is left."""

import contextlib
import random
import shutil
import signal
import time

import psutil
import pytest
from redis import Redis
from sqlalchemy import delete

from app.database import Outbox
from app.queue import producer, send_hint
from app.settings import Settings
from tests.faults.child import Act
from tests.faults.cluster import Cluster, Part, until
from tests.faults.figures import FULL, report, size, spread
from tests.faults.ledger import Ledger, processes_of

pytestmark = pytest.mark.xdist_group("faults")

POINTS = (
    "claim.after_commit",
    "child.started",
    "child.running",
    "publish.after_blobs",
    "publish.before_commit",
    "publish.after_commit",
)
QUICK_POINTS = ("publish.before_commit",)
SHORT_LEASE = {"lease_seconds": "1", "heartbeat_seconds": "0.2", "worker_slots": "1"}


def armed(cluster: Cluster, place: str, **settings: str) -> Part:
    """The first worker, alone at work, and stopped by the first job that reaches this place."""
    first = cluster.worker[0]
    first.kill()
    freeze_others(cluster)
    first.start(failpoints=f"{place}=stop", **settings)
    return first


def freeze_others(cluster: Cluster) -> None:
    for other in cluster.worker[1:]:
        cluster.freeze(other)


def release_others(cluster: Cluster) -> None:
    for other in cluster.worker[1:]:
        other.signal(signal.SIGCONT)


def recover(cluster: Cluster, ledger: Ledger, job_id: str, following: str) -> float:
    """The others take the job of the worker that died; it starts meanwhile, and dies again where it is the quicker."""
    began, worker = time.monotonic(), cluster.worker[0]
    release_others(cluster)
    worker.start(failpoints=f"{following}=stop", **SHORT_LEASE)
    until(lambda: ledger.is_over(job_id) or worker.stopped_processes(), "somebody has the job")
    if not ledger.is_over(job_id):
        worker.kill()
        until(lambda: ledger.is_over(job_id), "the job has ended")
        worker.start(failpoints=f"{following}=stop", **SHORT_LEASE)
    took = time.monotonic() - began
    freeze_others(cluster)
    return took


def test_r05_a_worker_killed_at_any_point_neither_loses_nor_doubles_a_job(cluster: Cluster, ledger: Ledger) -> None:
    points, rounds = (POINTS, 10) if FULL else (QUICK_POINTS, 1)
    places = [place for place in points for _ in range(rounds)]
    worker, recovery = armed(cluster, places[0], **SHORT_LEASE), []
    for place, following in zip(places, [*places[1:], places[0]], strict=True):
        job_id = ledger.submit(seconds=0.2)
        until(worker.stopped_processes, f"the worker stands at {place}")
        worker.kill()
        recovery.append(recover(cluster, ledger, job_id, following))
    worker.kill()
    audit, count = ledger.audit(), len(places)
    result = f"lost {len(audit.lost)}, doubled {len(audit.doubled)}; recovery {spread(recovery)}"
    report("R05", result, count=count, faults=count)
    assert {story.job.state for story in ledger.stories()} == {"succeeded"}
    assert audit.clean


def test_r06_a_killed_child_is_tried_once_more_and_then_its_signal_is_named(cluster: Cluster, ledger: Ledger) -> None:
    count = size(3, 20)
    for _ in range(count):
        ledger.submit(Act.WORK)

    def kill_children() -> bool:
        for child in processes_of(cluster):
            with contextlib.suppress(psutil.Error):
                child.kill()
        return all(story.job.finished_at for story in ledger.stories())

    until(kill_children, "every job has ended", 120)
    audit, stories = ledger.audit(), ledger.stories()
    right = [s for s in stories if s.job.error["code"] == "child_crashed" and "SIGKILL" in s.job.error["detail"]]
    report("R06", f"right reason {len(right)}", count=count, faults=2 * count)
    assert len(right) == count
    assert {story.executions for story in stories} == {2}
    assert audit.clean


def test_r07_a_job_that_crashes_every_time_is_given_up_and_harms_no_other(cluster: Cluster, ledger: Ledger) -> None:
    count = size(3, 20)
    poison = [ledger.submit(Act.CRASH) for _ in range(count)]
    neighbours = [ledger.submit() for _ in range(2 * count)]
    ledger.wait()
    audit = ledger.audit()
    attempts = max(ledger.story(job_id).executions for job_id in poison)
    harmed = [job_id for job_id in neighbours if ledger.story(job_id).job.state != "succeeded"]
    report("R07", f"attempts at most {attempts}, neighbours failed {len(harmed)}", count=count, faults=2 * count)
    assert attempts <= 2
    assert harmed == []
    assert audit.clean


def sleep_with_a_result(cluster: Cluster, ledger: Ledger, stale: Part) -> str:
    """A job whose worker stopped just before its publication."""
    while True:
        freeze_others(cluster)
        job_id = ledger.submit(seconds=1.5)
        until(stale.stopped_processes, "the worker stands before its publication")
        if cluster.writable:
            return job_id
        stale.signal(signal.SIGCONT)  # its heartbeat was just writing: let this one go
        release_others(cluster)
        until(lambda job_id=job_id: ledger.is_over(job_id), "the job has ended")


def stale_publish(cluster: Cluster, ledger: Ledger, stale: Part) -> bool:
    """A worker sleeps through its lease with a result in its hand and wakes while another works. Did it publish?"""
    job_id = sleep_with_a_result(cluster, ledger, stale)
    held = ledger.story(job_id).job.attempt
    release_others(cluster)
    until(lambda: ledger.story(job_id).job.attempt > held, "another worker has the job")
    stale.signal(signal.SIGCONT)
    until(lambda: ledger.is_over(job_id), "the job has ended")
    return held in {artifact.attempt for artifact in ledger.story(job_id).artifacts}


def test_r09_a_worker_that_slept_through_its_lease_publishes_nothing(cluster: Cluster, ledger: Ledger) -> None:
    count = size(1, 20)
    worker = armed(cluster, "publish.after_blobs")
    until(lambda: cluster.workers_present() >= 1, "the worker is there")
    stale = sum(stale_publish(cluster, ledger, worker) for _ in range(count))
    worker.kill()
    audit = ledger.audit()
    report("R09", f"stale publications {stale}, lost {len(audit.lost)}", count=count, faults=count)
    assert stale == 0
    assert audit.clean


def test_r12_a_broker_that_forgets_everything_loses_nothing(cluster: Cluster, ledger: Ledger) -> None:
    waiting = size(10, 100)
    for _ in range(4):
        ledger.submit(seconds=2)
    until(lambda: any(story.job.state == "running" for story in ledger.stories()), "jobs are running")
    for _ in range(waiting):
        ledger.submit()
    cluster.broker.kill()
    shutil.rmtree(cluster.folder / "appendonlydir")
    cluster.broker.start()
    waited = ledger.wait(120)
    audit = ledger.audit()
    report("R12", f"lost {len(audit.lost)}; all done after {waited:.1f} s", count=waiting + 4, faults=1)
    assert audit.clean


def swallow_hints(cluster: Cluster, ledger: Ledger, count: int) -> None:
    """As if a worker had died between taking each hint from the broker and claiming a job."""
    for worker in cluster.worker:
        cluster.freeze(worker)
    with Redis(unix_socket_path=str(cluster.socket)) as broker:
        broker.client_kill_filter(_type="normal", skipme=True)  # or a waiting worker gets the first hint all the same
        for _ in range(count):
            ledger.submit()
        time.sleep(0.3)
        broker.flushall()
    with cluster.workplace.database.write() as session:
        session.execute(delete(Outbox))
    for worker in cluster.worker:
        worker.signal(signal.SIGCONT)


def test_r17_swallowed_hints_are_made_up_for(cluster: Cluster, ledger: Ledger) -> None:
    count = size(5, 100)
    swallow_hints(cluster, ledger, count)
    waited = ledger.wait(60)
    audit = ledger.audit()
    report("R17", f"lost {len(audit.lost)}; all done after {waited:.1f} s", count=count, faults=count)
    assert audit.clean


def test_r19_a_storm_of_hints_runs_each_job_once(cluster: Cluster, ledger: Ledger) -> None:
    count, storm = size(5, 50), size(20, 100)
    jobs = [ledger.submit(seconds=0.1) for _ in range(count)]
    sender = producer(Settings(home=cluster.home, broker_url=cluster.environment["STROP_BROKER_URL"]))
    queues = ["cpu"] * (count * storm)
    random.shuffle(queues)
    for queue in queues:
        send_hint(sender, queue)
    ledger.wait(120)
    audit = ledger.audit()
    executions = sum(ledger.story(job_id).executions for job_id in jobs)
    report("R19", f"executions {executions}", count=count, faults=count * storm)
    assert executions == count
    assert audit.clean
