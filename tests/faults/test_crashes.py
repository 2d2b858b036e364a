"""The whole service is killed at random instants of a mixed workload and started again."""

import random
import threading
import time

import pytest

from tests.faults.child import Act
from tests.faults.cluster import Cluster
from tests.faults.figures import report, size
from tests.faults.ledger import Ledger

pytestmark = pytest.mark.xdist_group("faults")

MIXTURE = (Act.SUCCEED, Act.SUCCEED, Act.SUCCEED, Act.FAIL, Act.CRASH, Act.DAEMON)
SEED = 20261124


def test_r24_killing_everything_at_random_instants_loses_and_doubles_nothing(cluster: Cluster, ledger: Ledger) -> None:
    crashes, chance = size(1, 20), random.Random(SEED)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            ledger.submit(chance.choice(MIXTURE), seconds=chance.uniform(0, 0.5), apis=(0, 1))
            time.sleep(chance.uniform(0, 0.2))

    client = threading.Thread(target=work)
    client.start()
    for _ in range(crashes):
        time.sleep(chance.uniform(0.2, 2))
        cluster.kill_all()
        cluster.start()
    done.set()
    client.join()
    ledger.wait(180)
    audit = ledger.audit()
    jobs = len(ledger.accepted)
    report("R24", f"lost {len(audit.lost)}, doubled {len(audit.doubled)}, seed {SEED}", count=jobs, faults=crashes)
    assert audit.clean
