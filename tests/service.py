"""The real service, one for all tests that talk to it: `strop serve` in a folder of its own, on a free port."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from strop import Strop
from strop.serve import embedded

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


@dataclass(frozen=True)
class RunningService:
    url: str
    home: Path

    @property
    def process(self) -> psutil.Process:
        """`strop serve` itself; its children are the parts."""
        return psutil.Process(int((self.home / "serve.lock").read_text()))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    home = tmp_path_factory.mktemp("service")
    with embedded(home) as url:
        yield RunningService(url, home)


@pytest.fixture
def strop(service: RunningService) -> Iterator[Strop]:
    with Strop(service.url) as client:
        yield client


def wait_until_ready(url: str) -> None:
    """After one of its parts was killed."""
    with httpx2.Client(transport=httpx2.HTTPTransport(retries=5), trust_env=False, timeout=30) as client:
        while client.get(f"{url}/readyz").json()["status"] != "ready":
            pass
