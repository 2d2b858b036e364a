"""Start a probe and wait for its answer; a probe that dies becomes an error that says how."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from engine.errors import StepFailed
from engine.measure.lock import HostLock
from engine.measure.probe.spec import Spec, write_spec

LOOK_S = 0.05  #: how often a waiting measurement of another job is looked for
MOST_SECONDS = 1800.0
LONGEST_DETAIL = 500
ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
REMEDY = (
    "Nothing is wrong with the rest of the job; this file is left out. Run the model in ONNX Runtime to see it fail."
)


def run_probe(spec: Spec, *, seconds: float = MOST_SECONDS, lock: HostLock | None = None) -> dict[str, Any]:
    """The probe's answer. With a lock the probe is held while another job measures. Raises StepFailed."""
    with tempfile.TemporaryDirectory(prefix="probe-") as name:
        question, answer, errors = (Path(name) / part for part in ("spec.json", "result.json", "errors.txt"))
        write_spec(spec, question)
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-I", "-m", "engine.measure.probe", str(question), str(answer)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=os.environ | ENVIRONMENT,
            )
        _wait(process, spec, time.monotonic() + seconds, lock)
        if process.returncode:
            raise _failure(spec, process.returncode, errors)
        return json.loads(answer.read_text())


def _wait(process: subprocess.Popen[bytes], spec: Spec, deadline: float, lock: HostLock | None) -> None:
    while process.poll() is None:
        left = deadline - time.monotonic()
        if left <= 0:
            process.kill()
            process.wait()
            raise _error(spec, "probe_timed_out", "it did not end in time")
        if lock is not None and lock.wanted():
            _hold(process, lock)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(left, LOOK_S) if lock else left)


def _hold(process: subprocess.Popen[bytes], lock: HostLock) -> None:
    """Let the measurement in only once the probe has really stopped, or ended."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    lock.pause()
    process.send_signal(signal.SIGCONT)


def _failure(spec: Spec, status: int, errors: Path) -> StepFailed:
    lines = errors.read_text(errors="replace").strip().splitlines() or ["no message"]
    said = "".join(character for character in lines[-1] if character.isprintable())[:LONGEST_DETAIL]
    if status >= 0:
        return _error(spec, "probe_failed", said)
    hint = "the system was perhaps out of memory" if -status == signal.SIGKILL else f"it said: {said}"
    what = f"ONNX Runtime's process was ended by {signal.Signals(-status).name}; {hint}"
    return _error(spec, "probe_crashed", what)


def _error(spec: Spec, code: str, what: str) -> StepFailed:
    return StepFailed(code, f"Probe “{spec.kind}” of {Path(spec.model).name}: {what}.", REMEDY)
