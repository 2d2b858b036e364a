"""Keep a measurement on the same cores, so that the scheduler moves neither rival."""

import os
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


def pin_to_cores(threads: int) -> None:
    """Bind this process to as many CPUs as it has threads, each on a core of its own as far as there are cores."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, chosen_cpus(allowed, threads, {cpu: core_of(cpu) for cpu in allowed}))


def chosen_cpus(allowed: list[int], threads: int, cores: dict[int, str]) -> set[int]:
    """The last CPUs, since the first ones serve interrupts; a core's second hardware thread only when all are taken."""
    backwards = allowed[::-1]
    leaders = list({cores[cpu]: cpu for cpu in allowed}.values())[::-1]
    followers = [cpu for cpu in backwards if cpu not in leaders]
    return set((leaders + followers)[: max(threads, 1)])


def core_of(cpu: int) -> str:
    """Which CPUs share its core, such as 0-1; the CPU itself where the kernel does not tell."""
    try:
        return (TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)
