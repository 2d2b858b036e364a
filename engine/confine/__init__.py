"""The child locks itself in before it reads a user's file.

    rlimits    address space, file size, CPU time, processes, open files, no core dumps
    Landlock   reads the interpreter, its libraries and the inputs; writes only its work folder; no TCP, no signals out
    seccomp    no sockets (socketpair stays), no ptrace, mounts, namespaces, modules, io_uring, clocks or reboots

Nothing of it needs a package or a privilege, and all of it is inherited by the probes that the engine starts. A kernel
without Landlock or seccomp gets what is left, and the level reached says so: rlimits, seccomp, landlock or
landlock+seccomp. It is called before any library that starts threads is imported, because Landlock holds only for the
thread that asks and for what that thread starts later. `engine.confine.breakout` tries to get out.

Address space is no measure of memory: libraries set aside hundreds of megabytes that they never touch, and where the
last of it is refused some of them try forever (OpenBLAS as it loads) or crash. So it ends well above what the job may
use, where only an enormous request meets it, and the supervisor ends a job that has more than its share resident.
"""

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Callable
from pathlib import Path

from engine.confine.landlock import restrict_files
from engine.confine.seccomp import refuse_system_calls
from engine.protocol import Confinement

HEADROOM_BYTES = 4 << 30  #: address space above the job's memory: code, stacks, and what libraries only set aside
PROCESSES = 512  #: processes and threads the job may add to those its user already runs; root is exempt in the kernel
OPEN_FILES = 1024

_libc = ctypes.CDLL(None, use_errno=True)


def confine(attempt: Path, limits: Confinement, parent_pid: int) -> str:
    """Give up what the job does not need, for good, and say which walls stand: `landlock+seccomp` at best."""
    if _threads(Path("/proc/self")) > 1:
        raise RuntimeError("confine before any thread is started: another thread would stay outside")
    _limit_resources(limits)
    _drop_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    walls = []
    if limits.landlock and _holds(lambda: restrict_files(attempt)):
        walls.append("landlock")
    if limits.seccomp and _holds(refuse_system_calls):
        walls.append("seccomp")
    die_with(parent_pid)
    return "+".join(walls) or "rlimits"


def _holds(wall: Callable[[], None]) -> bool:
    try:
        wall()
    except OSError:
        return False
    return True


# ── limits, capabilities, the parent ─────────────────────────────────────────────────────────────────────────────────


def _limit_resources(limits: Confinement) -> None:
    wanted = {
        resource.RLIMIT_AS: None if limits.memory_bytes is None else limits.memory_bytes + HEADROOM_BYTES,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: _tasks_of_this_user() + PROCESSES,
    }
    for kind, value in wanted.items():
        if value is not None:
            _, hard = resource.getrlimit(kind)
            limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (limit, limit))


def _tasks_of_this_user() -> int:
    """Threads are counted, as the kernel does for RLIMIT_NPROC."""
    total, uid = 0, os.getuid()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == uid:
                total += _threads(process)
        except OSError:  # it ended meanwhile, or belongs to somebody who hides it
            continue
    return total


def _threads(process: Path) -> int:
    return sum(1 for _ in (process / "task").iterdir())


_CAP_VERSION_3 = 0x20080522
_KEPT_CAPABILITIES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: files by mode; Landlock still decides


def _drop_capabilities() -> None:
    """A service run as root keeps none of root's powers; nothing changes for another user."""
    header = struct.pack("=Ii", _CAP_VERSION_3, 0)
    data = ctypes.create_string_buffer(struct.pack("=6I", *[0] * 6))
    if _libc.capget(header, data):
        return
    effective, permitted, *_ = struct.unpack("=6I", data.raw[:24])
    kept = struct.pack("=6I", effective & _KEPT_CAPABILITIES, permitted & _KEPT_CAPABILITIES, 0, 0, 0, 0)
    _libc.capset(header, kept)


_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def die_with(parent_pid: int) -> None:
    """A parent that is killed takes its child along, such as the supervisor us; it may have died before this line."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
