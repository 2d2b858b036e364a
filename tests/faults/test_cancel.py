"""A cancel at every boundary of a job's life ends it once, and takes its whole family of processes along."""

import signal
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from tests.faults.child import Act
from tests.faults.cluster import Cluster, Part, until
from tests.faults.figures import report, size, spread
from tests.faults.ledger import Ledger, processes_of
from tests.faults.test_workers import POINTS

pytestmark = pytest.mark.xdist_group("faults")

BOUNDARIES = ("queued", *POINTS, "ended")


@pytest.fixture
def stepper(cluster: Cluster) -> Part:
    """The only worker, which stops at each boundary until it is told to go on."""
    for worker in cluster.worker:
        worker.kill()
    first = cluster.worker[0]
    first.start(failpoints=";".join(f"{place}=stop" for place in POINTS), lease_seconds="20")
    until(lambda: cluster.workers_present() >= 1, "the worker is there")
    return first


def cancel_at(boundary: str, cluster: Cluster, ledger: Ledger, stepper: Part) -> tuple[int, str]:
    """Step a job to a boundary, cancel it there, and let it go on: the answer's status and the final state."""
    if boundary == "queued":
        cluster.freeze(stepper)
    job_id = ledger.submit()
    if boundary in POINTS:
        step_to(boundary, ledger, stepper, job_id)
    if boundary == "ended":
        go_on(cluster, ledger, stepper, job_id)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ledger.cancel, job_id)  # waits for a writer that stands inside its transaction
        wait([answer], timeout=0.1 if boundary == "publish.before_commit" else 2)
        go_on(cluster, ledger, stepper, job_id)
        return answer.result(), ledger.story(job_id).job.state


def step_to(boundary: str, ledger: Ledger, stepper: Part, job_id: str) -> None:
    for place in POINTS[: POINTS.index(boundary) + 1]:
        until(lambda: stepper.stopped_processes() or ledger.is_over(job_id), f"{place} is reached")
        if place != boundary:
            resume(stepper)


def resume(stepper: Part) -> None:
    for process in stepper.stopped_processes():
        process.resume()


def go_on(cluster: Cluster, ledger: Ledger, stepper: Part, job_id: str) -> None:
    """Release it again and again: it may have been stopped while a heartbeat held SQLite's one write lock."""

    def over() -> bool:
        resume(stepper)
        return ledger.is_over(job_id)

    stepper.signal(signal.SIGCONT)
    until(over, "the job has ended")
    until(lambda: resume(stepper) or not any(cluster.workplace.attempts.iterdir()), "the worker has left the attempt")


def test_r67_a_cancel_at_any_boundary_ends_in_exactly_one_state(
    cluster: Cluster, ledger: Ledger, stepper: Part
) -> None:
    rounds, conflicts = size(1, 75), []  # of 8 boundaries: 600 cancels
    for boundary in BOUNDARIES * rounds:
        status, state = cancel_at(boundary, cluster, ledger, stepper)
        allowed = {(202, "canceled"), (409, "succeeded")}
        if (status, state) not in allowed:
            conflicts.append(f"at {boundary}: {status}, {state}")
    audit, count = ledger.audit(), rounds * len(BOUNDARIES)
    stepper.kill()
    report("R67", f"conflicts {len(conflicts)}, doubled {len(audit.doubled)}", count=count, faults=count)
    assert conflicts == []
    assert audit.clean


def test_r69_a_cancel_leaves_no_process_of_the_family(cluster: Cluster, ledger: Ledger) -> None:
    count, times = size(2, 50), []
    for _ in range(count):
        job_id = ledger.submit(Act.FAMILY)
        until(lambda: len(processes_of(cluster)) >= 5, "the grandchildren are there")
        assert ledger.cancel(job_id) == 202
        times.append(until(lambda job_id=job_id: ledger.is_over(job_id), "the job has ended"))
    survivors = processes_of(cluster)
    audit = ledger.audit()
    report("R69", f"survivors {len(survivors)}; canceled within {spread(times)}", count=count, faults=count)
    assert survivors == []
    assert {story.job.state for story in ledger.stories()} == {"canceled"}
    assert audit.clean
