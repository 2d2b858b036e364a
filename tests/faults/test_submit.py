"""A job answered with 202 is never lost, and one request never makes two jobs: the API dies around its commit."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.cluster import Cluster
from tests.faults.figures import report, size, spread
from tests.faults.ledger import Ledger

pytestmark = pytest.mark.xdist_group("faults")


def crash_while_submitting(cluster: Cluster, ledger: Ledger, place: str, count: int, *, retry: bool) -> list[str]:
    """Kill the first replica at a place inside each POST; the client may turn to the second with the same key."""
    keys = [uuid.uuid4().hex for _ in range(count)]
    with cluster.mortal_api(place):
        for key in keys:
            assert ledger.send(key, api=0) is None
            if retry:
                assert ledger.send(key, api=1) is not None
    return keys


def test_r01_an_api_that_dies_between_commit_and_hint_loses_nothing(cluster: Cluster, ledger: Ledger) -> None:
    count, began = size(1, 50), time.monotonic()
    crash_while_submitting(cluster, ledger, "submit.after_commit", count, retry=False)
    waited = ledger.wait()
    audit, stories = ledger.audit(), ledger.stories()
    delays = [story.job.started_at - story.job.created_at for story in stories]
    report("R01", f"lost {len(audit.lost)}; extra delay {spread(delays)}", count=count, faults=count)
    assert len(stories) == count, f"{time.monotonic() - began:.0f} s, waited {waited:.0f} s"
    audit.ghosts.clear()  # their clients never heard an answer
    assert audit.clean


def test_r02_an_api_that_dies_inside_the_transaction_leaves_one_job_per_key(cluster: Cluster, ledger: Ledger) -> None:
    count = size(1, 50)
    crash_while_submitting(cluster, ledger, "submit.before_commit", count, retry=True)
    ledger.wait()
    audit = ledger.audit()
    duplicates = len(ledger.stories()) - count
    report("R02", f"ghosts {len(audit.ghosts)}, duplicates {duplicates}", count=count, faults=count)
    assert duplicates == 0
    assert audit.clean


def test_r03_an_api_that_dies_before_it_answers_returns_the_same_job(cluster: Cluster, ledger: Ledger) -> None:
    count = size(1, 50)
    crash_while_submitting(cluster, ledger, "submit.before_response", count, retry=True)
    ledger.wait()
    audit = ledger.audit()
    duplicates = len(ledger.stories()) - count
    report("R03", f"ghosts {len(audit.ghosts)}, duplicates {duplicates}", count=count, faults=count)
    assert duplicates == 0
    assert audit.clean


def test_r15_without_a_broker_jobs_are_taken_looked_at_and_canceled(cluster: Cluster, ledger: Ledger) -> None:
    count, times = size(10, 100), []
    cluster.broker.kill()
    for _ in range(count):
        began = time.monotonic()
        ledger.submit()
        times.append(time.monotonic() - began)
    canceled = next(iter(ledger.accepted.values()))
    assert ledger.cancel(canceled) == 202
    assert ledger.get(canceled)["state"] == "canceled"
    time.sleep(size(0, 60))
    cluster.broker.start()
    ledger.wait(120)
    audit = ledger.audit()
    report(
        "R15", f"accepted {len(ledger.accepted)}, lost {len(audit.lost)}; submit {spread(times)}", count=count, faults=1
    )
    assert len(ledger.accepted) == count
    assert audit.clean


def test_r22_sqlite_with_two_apis_and_two_workers_shows_nobody_a_lock(cluster: Cluster, ledger: Ledger) -> None:
    count, pollers = size(40, 500), size(8, 50)
    times: list[float] = []

    def submit(number: int) -> str:
        began = time.monotonic()
        job_id = ledger.submit(apis=(number % 2,))
        times.append(time.monotonic() - began)
        return job_id

    def poll(number: int) -> None:
        while len(times) < count:
            for job_id in list(ledger.accepted.values())[:5]:
                ledger.get(job_id, api=number % 2)
            time.sleep(0.05)

    with ThreadPoolExecutor(8 + pollers) as pool:
        polls = [pool.submit(poll, number) for number in range(pollers)]
        list(pool.map(submit, range(count)))
        for done in polls:
            done.result()
    ledger.wait(300)
    audit = ledger.audit()
    errors = sum(number for status, number in ledger.statuses.items() if status >= 500)
    report("R22", f"5xx {errors}, lost {len(audit.lost)}; submit {spread(times)}", count=count, faults=0)
    assert errors == 0
    assert audit.clean


def test_r65_many_requests_with_one_key_at_two_replicas_make_one_job(cluster: Cluster, ledger: Ledger) -> None:
    rounds, parallel = size(2, 20), size(20, 100)
    with ThreadPoolExecutor(size(10, 32)) as pool:
        for _ in range(rounds):
            key = uuid.uuid4().hex
            answers = set(pool.map(lambda number, key=key: ledger.send(key, api=number % 2), range(parallel)))
            assert len(answers - {None}) == 1
    ledger.wait()
    audit = ledger.audit()
    jobs = len(ledger.stories())
    report("R65", f"jobs {jobs}, statuses {dict(ledger.statuses)}", count=rounds, faults=rounds * parallel)
    assert jobs == rounds
    assert set(ledger.statuses) <= {202, 409}
    assert audit.clean
