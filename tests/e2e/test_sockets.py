import os
import time
from typing import NamedTuple

import psutil

from strop import Strop
from tests.service import DIGITS, RunningService

STEP = {"kind": "quantize_static", "activations": "unsigned", "weight_range": "reduced", "calibration": "minmax"}


class Connection(NamedTuple):
    program: str
    local: tuple[str, int] | tuple[()]
    remote: tuple[str, int] | tuple[()]


def test_no_process_of_ours_talks_to_anybody_but_its_own_parts(engine_service: RunningService) -> None:
    """ONNX Runtime phones home when a session is made, unless it is told not to; this would see it."""
    ours = ("127.0.0.1", int(engine_service.url.rpartition(":")[2]))
    connections: set[Connection] = set()
    engines: set[int] = set()
    left_behind: list[str] = []
    with Strop(engine_service.url) as strop:
        data = strop.upload_dataset(DIGITS / "calibration.npz")
        job = strop.optimize(DIGITS / "model.onnx", data=data, steps=[STEP], minutes=0.3)
        while not job.refresh().is_final:
            for process in engine_service.process.children(recursive=True):
                connections |= connections_of(process)
                engines |= {process.pid} if is_engine(process) else set()
            files = (name for _, _, names in os.walk(engine_service.home) for name in names)  # folders come and go
            left_behind += [name for name in files if name.endswith(".ses")]
            time.sleep(0.05)
        assert job.succeeded
    assert len(engines) > 1  # the engine and its probes were looked at
    assert connections  # and so was the API
    assert [each for each in connections if each.local != ours or each.remote[:1] not in {(), ("127.0.0.1",)}] == []
    assert left_behind == []


def is_engine(process: psutil.Process) -> bool:
    try:
        return any(word.startswith("engine") for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def connections_of(process: psutil.Process) -> set[Connection]:
    """Every internet socket of a process, TCP and UDP, whether connected, listening or only bound."""
    try:
        found = process.net_connections(kind="inet")
        return {Connection(process.name(), tuple(each.laddr), tuple(each.raddr)) for each in found}
    except psutil.NoSuchProcess:
        return set()
