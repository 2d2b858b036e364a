"""The self-test of the confinement: from inside, try what a hostile model would try, and say what was denied.

Each attempt is a function that raises OSError or MemoryError where a wall holds, and returns where it got through. None
does harm if it gets through: the files it touches are its own request's, and the parent is only looked at.
"""

import ctypes
import mmap
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from engine.confine import HEADROOM_BYTES, PROCESSES, die_with
from engine.protocol import Confinement

_libc = ctypes.CDLL(None, use_errno=True)
_IO_URING_SETUP = 425
_PTRACE_SEIZE = 0x4206  # attaches without stopping
_CLONE_NEWUSER = 0x10000000
_CLONE = {"x86_64": 56, "aarch64": 220}


def break_out(attempt: Path, limits: Confinement) -> dict[str, bool]:
    """Name of each attempt, and whether it was denied."""
    outside, work = attempt / "request.json", attempt / "work"
    attempts: dict[str, Callable[[], object]] = {
        "read_system_file": Path("/etc/passwd").read_bytes,
        "read_outside": outside.read_bytes,
        "read_parent_environment": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        "list_outside": lambda: list(attempt.parent.iterdir()),
        "write_outside": lambda: (attempt / "escaped").write_bytes(b""),
        "write_input": lambda: (attempt / "inputs" / "escaped").write_bytes(b""),
        "hard_link_in": lambda: os.link(outside, work / "hard"),
        "symbolic_link_in": lambda: _read_through_link(outside, work / "soft"),
        "rename_in": lambda: outside.rename(work / "moved"),
        "make_device": lambda: os.mknod(work / "device", 0o600 | 0o020000, os.makedev(1, 1)),
        "execute_own_file": lambda: _execute(work / "own"),
        "internet_socket": lambda: socket.socket(socket.AF_INET).close(),
        "unix_socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "io_uring": lambda: _call(_IO_URING_SETUP, 1, ctypes.create_string_buffer(120)),
        "trace_parent": lambda: _checked(_libc.ptrace(_PTRACE_SEIZE, os.getppid(), 0, 0)),
        "signal_parent": lambda: os.kill(os.getppid(), 0),
        "new_namespace": lambda: _checked(_libc.unshare(_CLONE_NEWUSER)),
        "clone_namespace": _clone_into_namespace,
        "leave_group": lambda: _in_child(os.setsid),
        "exceed_memory": lambda: _exceed_memory(limits),
        "exceed_file_size": lambda: _exceed_file_size(limits, work / "large"),
        "fork_bomb": _fork_without_end,
    }
    return {name: _is_denied(attempt) for name, attempt in attempts.items()}


def _is_denied(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, MemoryError):
        return True
    return False


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _call(number: int, *arguments: object) -> int:
    return _checked(_libc.syscall(number, *arguments))


def _read_through_link(target: Path, link: Path) -> bytes:
    link.symlink_to(target)
    return link.read_bytes()


def _execute(program: Path) -> None:
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    subprocess.run([program], check=False)


def _clone_into_namespace() -> None:
    flags = ctypes.c_ulong(_CLONE_NEWUSER | signal.SIGCHLD)
    pid = _call(_CLONE[os.uname().machine], flags, None, None, None, None)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _in_child(action: Callable[[], object]) -> None:
    """The group's leader may not call setsid anyway, so a child tries."""
    pid = os.fork()
    if pid == 0:
        os._exit(1 if _is_denied(action) else 0)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise PermissionError("denied in a child")


def _exceed_memory(limits: Confinement) -> None:
    mmap.mmap(-1, (limits.memory_bytes or 1 << 30) + HEADROOM_BYTES).close()


def _exceed_file_size(limits: Confinement, path: Path) -> None:
    with path.open("wb") as file:
        file.truncate((limits.file_bytes or 1 << 30) + 1)
    path.unlink()


def _fork_without_end() -> None:
    """Bounded by the confinement's own number of processes; children wait until all are killed."""
    children, parent = [], os.getpid()
    try:
        for _ in range(PROCESSES + 1):
            pid = os.fork()
            if pid == 0:
                die_with(parent)  # whoever is killed in the midst of this kills none of them
                signal.pause()
            children.append(pid)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
