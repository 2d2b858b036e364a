"""`tether.py PARENT COMMAND…`: becomes the command, and dies with the parent, however that dies.

Run as a file and without site-packages, so that it costs some milliseconds. On Linux the kernel keeps the promise
(`PR_SET_PDEATHSIG`); elsewhere this process stays and looks twice a second.
"""

import os
import signal
import subprocess
import sys
import time
from typing import NoReturn

PR_SET_PDEATHSIG = 1


def tie_to_parent() -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def watch_parent(parent: int, command: list[str]) -> int:
    """Run the command below us, and pass on the request to end."""
    child = subprocess.Popen(command, close_fds=False)
    signal.signal(signal.SIGTERM, lambda _number, _frame: child.terminate())
    while child.poll() is None and os.getppid() == parent:
        time.sleep(0.5)
    child.kill()
    return child.wait()


def become(parent: int, command: list[str]) -> NoReturn:
    tie_to_parent()
    if os.getppid() != parent:
        sys.exit(1)  # it died before the tie was made
    os.execv(command[0], command)  # noqa: S606 - this process becomes the command


def main(parent: int, command: list[str]) -> int:
    if sys.platform == "linux":
        become(parent, command)
    return watch_parent(parent, command)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
