"""One piece of work in a process of its own: `python -I -m engine ATTEMPT`.

Reads ATTEMPT/request.json, locks itself in, works in ATTEMPT/work, and writes events as JSON lines on standard output
(`engine.protocol`). Libraries that could start threads or read a user's file are imported after the doors are shut.
"""

import errno
import os
import sys
import tempfile
import traceback
from pathlib import Path

from engine.confine import confine
from engine.errors import EngineError
from engine.events import claim_standard_output
from engine.measure.lock import HostLock
from engine.protocol import EngineRequest, Failed, Fault, Stage, tells_of_memory
from engine.surroundings import Surroundings
from engine.works import WORKS

CRASHED = 70  #: BSD's EX_SOFTWARE: an error of ours that nobody foresaw
OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main(folder: str) -> int:
    """Exit status: 0 after `finished`, 1 after `failed`, 70 after an error that nobody foresaw."""
    try:
        return _run(folder)
    except Exception:  # noqa: BLE001 - the one place where any error ends
        traceback.print_exc()
        return CRASHED


def _run(folder: str) -> int:
    supervisor = os.getppid()
    attempt = Path(folder).resolve()
    request = EngineRequest.model_validate_json((attempt / "request.json").read_bytes())
    lock = HostLock(Path(request.measurement_lock) if request.measurement_lock else None)
    emit = claim_standard_output()
    sandbox = confine(attempt, request.confinement, supervisor) if request.confinement else "none"
    _move_into(attempt / "work")
    emit(Stage(stage="starting", sandbox=sandbox))
    return _work(request, Surroundings(attempt, lock, emit, sandbox))


def _move_into(work: Path) -> None:
    """Libraries leave files where they run, where they think home is, and where temporary files go."""
    os.chdir(work)
    tempfile.tempdir = str(work)
    os.environ.update(HOME=str(work), TMPDIR=str(work), ORT_DISABLE_TELEMETRY="1")
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # torch's threads would spin: on a busy host a minute, not seconds


def _work(request: EngineRequest, here: Surroundings) -> int:
    """Do it; a failure that was understood becomes the last event."""
    try:
        here.emit(WORKS[request.work](request, here))
    except EngineError as error:
        here.emit(_out_of_memory() if tells_of_memory(error.detail) else error.event())
    except MemoryError:
        here.emit(_out_of_memory())
    except OSError as error:
        here.emit(_exhausted(error))
    else:
        return 0
    return 1


def _out_of_memory() -> Failed:
    return Failed(
        code="out_of_memory",
        title="The work needs more memory than a job may use",
        detail="An allocation failed under the job's memory limit.",
        remedy="Use a smaller model, a smaller batch size or fewer samples, or run the service with a higher limit.",
        fault=Fault.USER,
    )


def _exhausted(error: OSError) -> Failed:
    """The system had no more of something; any other error of the system is raised again."""
    if error.errno == errno.ENOMEM:
        return _out_of_memory()
    if error.errno not in OUT_OF_SPACE:
        raise error
    return Failed(
        code="out_of_disk",
        title="The work needs more disk than there is",
        detail=f"Writing a file failed: {os.strerror(error.errno)}.",
        remedy="Free some disk space or raise the service's file limit, then send the job again.",
        fault=Fault.SERVICE,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
