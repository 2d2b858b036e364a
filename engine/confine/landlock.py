"""Files by path, TCP and signals, taken away by Landlock (any ABI from 1; each adds what it can).

A path that is not granted does not exist for the job: other jobs' folders, the database, keys, other processes' /proc.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_PATH_BENEATH = 1
_EXECUTE, _WRITE, _READ, _LIST, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_FILE, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE  # rights that a rule for a single file may carry
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15}  # number of file rights known; newer kernels: 16
_NO_TCP = 0b11  # bind and connect are handled, and no rule allows any
_SCOPED = 0b11  # no abstract unix sockets and no signals to processes outside

READ = _READ | _LIST
RUN = READ | _EXECUTE
WORK = READ | _WRITE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _REFER


def restrict_files(attempt: Path) -> None:
    """For this thread and all that it starts; OSError where the kernel cannot."""
    abi = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        raise OSError(ctypes.get_errno(), "this kernel has no Landlock")
    handled = (1 << _RIGHTS_BY_ABI.get(abi, 16)) - 1
    attributes = struct.pack("=Q", handled)
    attributes += struct.pack("=Q", _NO_TCP) if abi >= 4 else b""
    attributes += struct.pack("=Q", _SCOPED) if abi >= 6 else b""
    ruleset = _checked(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        for path, rights in _rules(attempt):
            _allow(ruleset, path, rights & handled)
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _rules(attempt: Path) -> Iterable[tuple[Path, int]]:
    """What the job may do where; a path that this machine lacks is left out."""
    package = Path(__file__).resolve().parent.parent
    system = ["/usr", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/alternatives"]
    for name in {*system, sys.prefix, sys.base_prefix, package}:
        yield Path(name), RUN
    # An editable install puts the project's root on the path: its names may be listed, its files not be read.
    for entry in sys.path:
        yield Path(entry), _LIST
    facts = ["/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system", "/sys/bus/pci"]
    quotas = ["/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"]
    for name in [*facts, *quotas, "/etc/localtime", "/dev/urandom", "/dev/zero"]:
        yield Path(name), READ
    yield Path("/dev/null"), READ | _WRITE
    yield attempt / "inputs", READ
    yield attempt / "work", WORK


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = rights if path.is_dir() else rights & _OF_FILES
        if rights:
            rule = struct.pack("=Qi", rights, handle)
            _checked(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(handle)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
