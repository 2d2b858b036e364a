"""Which walls stand around a child here? One real child tries to break out, before the worker takes its first job."""

import contextlib
import logging
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from engine.protocol import Confinement, EngineRequest, Event, Finished, Work
from workers.child import Child, Misbehaved
from workers.workplace import Workplace

SECONDS = 60.0
FORGOTTEN_SECONDS = 10 * SECONDS
FOLDER = "self-test-"
log = logging.getLogger(__name__)
#: From weak to strong: each level denies its own attempts and those of all levels before it.
DENIES: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "rlimits": frozenset({"exceed_memory", "exceed_file_size"}),
    "landlock": frozenset({
        "read_system_file", "read_outside", "list_outside", "write_outside", "write_input", "hard_link_in",
        "symbolic_link_in", "rename_in", "execute_own_file",
    }),
    "landlock+seccomp": frozenset({
        "internet_socket", "unix_socket", "io_uring", "trace_parent", "new_namespace", "clone_namespace",
    }),
}  # fmt: skip


@dataclass(frozen=True)
class SelfTest:
    level: str  #: the strongest that held in every attempt
    escapes: tuple[str, ...]  #: what succeeded, at whatever level it is denied

    def reaches(self, wanted: str) -> bool:
        levels = list(DENIES)
        return levels.index(self.level) >= levels.index(wanted)


def try_confinement(workplace: Workplace) -> SelfTest:
    """Start one confined child that attacks its walls. A child that fails to tell has no walls."""
    _forget_earlier(workplace.settings.home)
    log.info("testing the sandbox of jobs, which takes long on a busy machine")
    folder = workplace.settings.home / f"{FOLDER}{uuid.uuid4().hex}"
    (folder / "inputs").mkdir(parents=True)
    (folder / "work").mkdir()
    confinement = Confinement(memory_bytes=workplace.settings.job_memory_bytes, file_bytes=1 << 20, cpu_seconds=60)
    request = EngineRequest(work=Work.SELF_TEST, confinement=confinement)
    (folder / "request.json").write_text(request.model_dump_json())
    try:
        with Child(workplace.command, folder) as child:
            return _judge(_events(child))
    except Misbehaved:
        return SelfTest("none", ("it broke the protocol",))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _forget_earlier(home: Path) -> None:
    """The folders of tests whose worker was killed; a younger one may be another worker's."""
    for folder in home.glob(f"{FOLDER}*"):
        with contextlib.suppress(FileNotFoundError):  # another worker forgets it too
            if time.time() - folder.stat().st_mtime > FORGOTTEN_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _events(child: Child) -> list[Event]:
    events: list[Event] = []
    for _ in range(int(SECONDS / 0.1)):
        events += child.read(0.1)
        if child.ended:
            break
    return events + child.rest()


def _judge(events: list[Event]) -> SelfTest:
    """By what was denied, not by what the child says of itself."""
    probes = next((event.probes for event in events if isinstance(event, Finished)), None)
    if probes is None:
        return SelfTest("none", ("it did not finish",))
    level = "none"
    for name, attempts in DENIES.items():
        if not all(probes.get(attempt, False) for attempt in attempts):
            break
        level = name
    return SelfTest(level, tuple(sorted(name for name, denied in probes.items() if not denied)))
