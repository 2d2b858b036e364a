"""API processes as they run in production, for faults that need one: kill -9, two replicas, shutdown."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.app.service import NO_BROKER


@dataclass
class Replica:
    process: subprocess.Popen[bytes]
    url: str

    def wait(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)


@contextmanager
def replica(home: Path, database_url: str = "", **settings: str) -> Iterator[Replica]:
    """One uvicorn process on a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    names = {"home": str(home), "database_url": database_url, "broker_url": NO_BROKER, "min_free_bytes": "0"}
    environment = {f"STROP_{name.upper()}": value for name, value in {**names, "auto_migrate": "1", **settings}.items()}
    command = [
        sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app_from_environment", "--port", str(port),
        "--log-level", "warning", "--timeout-graceful-shutdown", "2",
    ]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=Path(__file__).parents[2])
    try:
        url = f"http://127.0.0.1:{port}"
        _await(url, process)
        yield Replica(process, url)
    finally:
        process.kill()
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the API did not start"
        try:
            if httpx2.get(f"{url}/livez").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise AssertionError("the API did not answer")
