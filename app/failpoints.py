"""Faults that the fault tests inject, and nobody else: `STROP_FAILPOINTS="submit.after_commit=kill"`.

`reach(name)` marks a place where a crash would hurt. It does nothing unless the setting arms that place with `kill`
(SIGKILL to this process), `stop` (SIGSTOP, until somebody continues or kills it) or `sleep:SECONDS`.
"""

import os
import signal
import time

NAMES = frozenset({
    "submit.before_commit",
    "submit.after_commit",
    "submit.before_response",
    "claim.after_commit",
    "child.started",
    "child.running",
    "publish.after_blobs",
    "publish.before_commit",
    "publish.after_commit",
    "relay.after_publish",
})  # fmt: skip

_armed: dict[str, str] = {}


def arm(setting: str) -> None:
    """Read the setting once, where the process is composed."""
    faults = dict(part.strip().split("=", 1) for part in setting.split(";" if ";" in setting else ",") if part.strip())
    if unknown := set(faults) - NAMES:
        raise ValueError(f"STROP_FAILPOINTS names no known place: {', '.join(sorted(unknown))}")
    _armed.clear()
    _armed.update(faults)


def reach(name: str) -> None:
    """Suffer the fault armed for this place, if any."""
    fault = _armed.get(name)
    if fault is None:
        return
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault.startswith("sleep:"):
        time.sleep(float(fault.removeprefix("sleep:")))
