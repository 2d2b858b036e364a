"""The real service for tests: `strop serve` in a folder of its own, on a free port.

`service` works with the stand-in for the engine, so that a job takes milliseconds and does what a test wants;
`engine_service` works with the engine. Each is started once; tests that use them share one xdist group.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from strop import Strop
from strop.serve import embedded
from tests.faults.standin import MODEL, command

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


@dataclass(frozen=True)
class RunningService:
    url: str
    home: Path

    @property
    def process(self) -> psutil.Process:
        """`strop serve` itself; its children are the parts."""
        return psutil.Process(int((self.home / "serve.lock").read_text()))

    def part(self, word: str) -> psutil.Process:
        """The part whose command line holds this word."""
        return next(child for child in self.process.children() if word in " ".join(child.cmdline()))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    home = tmp_path_factory.mktemp("service")
    with embedded(home, environment=with_standin(tmp_path_factory.mktemp("standin"))) as url:
        yield RunningService(url, home)


@pytest.fixture(scope="session")
def engine_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    home = tmp_path_factory.mktemp("engine-service")
    with embedded(home) as url:
        yield RunningService(url, home)


@pytest.fixture
def strop(service: RunningService) -> Iterator[Strop]:
    with Strop(service.url) as client:
        yield client


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file that the service takes for a model; only the stand-in reads it."""
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    return path


def with_standin(folder: Path) -> dict[str, str]:
    """The environment of a service whose engine is the stand-in."""
    return {"STROP_ENGINE_COMMAND": command(folder), "STROP_SANDBOX_MIN_LEVEL": "none"}
