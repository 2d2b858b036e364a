"""One cluster for all fault tests that can share it; each test finds every part of it running, and leaves an audit."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import figures
from tests.faults.cluster import Cluster
from tests.faults.ledger import Ledger
from tests.postgres import postgres  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """On SQLite, or with STROP_FAULTS_DATABASE=postgres on a Postgres."""
    on_postgres = os.environ.get("STROP_FAULTS_DATABASE") == "postgres"
    url = request.getfixturevalue("postgres") if on_postgres else ""
    found = Cluster(tmp_path_factory.mktemp("cluster"), database_url=url, apis=2, workers=2)
    yield found
    found.kill_all()


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """Two APIs, two workers of two slots, maintenance and a Valkey on SQLite, behind the stand-in child."""
    shared.start()
    return shared


@pytest.fixture
def ledger(cluster: Cluster) -> Iterator[Ledger]:
    found = Ledger(cluster)
    yield found
    found.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The full number of faults takes minutes where the quick one takes seconds."""
    for item in items if figures.FULL else ():
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1200))


def pytest_sessionfinish() -> None:
    figures.write()
