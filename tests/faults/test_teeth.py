"""Would these tests see a service without its protections? Each is taken out once, and the loss must show.

R01 needs the relay and the reminder, both parts of maintenance; R09 the lease token in the publishing transaction;
R17 the reminder. `tests.faults.mutants` is the service without the last two.
"""

from collections.abc import Iterator

import pytest

from tests.faults.cluster import PYTHON, Cluster, until
from tests.faults.figures import FULL
from tests.faults.ledger import Ledger
from tests.faults.test_submit import crash_while_submitting
from tests.faults.test_workers import armed, release_others, stale_publish, swallow_hints

pytestmark = [
    pytest.mark.xdist_group("faults"),
    pytest.mark.skipif(not FULL, reason="part of make faults"),
]


@pytest.fixture(scope="module")
def weakened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    mutants = "tests.faults.mutants"
    folder = tmp_path_factory.mktemp("weakened")
    found = Cluster(folder, apis=2, workers=2, worker_module=mutants, maintenance_module=mutants)
    yield found
    found.kill_all()


@pytest.fixture
def ledger(weakened: Cluster) -> Iterator[Ledger]:
    weakened.start()
    found = Ledger(weakened)
    yield found
    found.close()


def test_without_a_reminder_swallowed_hints_are_lost(weakened: Cluster, ledger: Ledger) -> None:
    swallow_hints(weakened, ledger, 3)
    with pytest.raises(TimeoutError):
        ledger.wait(4)
    assert len(ledger.audit().lost) == 3


def test_without_relay_and_reminder_a_job_whose_api_died_is_lost(weakened: Cluster, ledger: Ledger) -> None:
    weakened.maintenance.kill()
    crash_while_submitting(weakened, ledger, "submit.after_commit", 1, retry=False)
    with pytest.raises(TimeoutError):
        ledger.wait(4)
    assert len(ledger.audit().lost) == 1


def test_without_the_lease_token_a_stale_worker_publishes(weakened: Cluster, ledger: Ledger) -> None:
    weakened.maintenance.kill()
    weakened.maintenance.command = (*PYTHON, "workers.maintenance")
    weakened.maintenance.start()
    worker = armed(weakened, "publish.after_blobs")
    until(lambda: weakened.workers_present() >= 1, "the worker is there")
    assert stale_publish(weakened, ledger, worker)
    release_others(weakened)
