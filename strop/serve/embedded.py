"""A service for the length of a `with` block: for demonstrations, tests and benchmarks."""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from strop.serve.home import CannotServe
from strop.serve.process import tethered

STOP_SECONDS = 15.0


@contextmanager
def embedded(home: str | Path, *, port: int = 0, environment: Mapping[str, str] | None = None) -> Generator[str]:
    """Run `strop serve` in a folder, on a free port unless one is named; gives the URL once it is ready for work."""
    command = (sys.executable, "-P", "-m", "strop", "serve", "--json", "--home", str(home), "--port", str(port))
    process = subprocess.Popen(tethered(command), stdout=subprocess.PIPE, env=os.environ | dict(environment or {}))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise CannotServe(f"the service in {home} did not start")
        yield json.loads(line)["url"]
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
