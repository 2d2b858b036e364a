"""The walls around a job hold, and stand no higher than asked for. Each test confines a child of its own."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from engine.protocol import Confinement

PRELUDE = """
import json, os, sys
from pathlib import Path
from engine.confine.breakout import break_out
from engine.confine import confine
from engine.protocol import Confinement
attempt, limits = Path(sys.argv[1]), Confinement.model_validate_json(sys.argv[2])
level = confine(attempt, limits, os.getppid())
os.chdir(attempt / "work")
"""
MIB = 1 << 20


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "request.json").write_text("{}")
    return tmp_path


def run_confined(attempt: Path, limits: Confinement, script: str) -> subprocess.CompletedProcess[str]:
    program = PRELUDE + textwrap.dedent(script)
    command = [sys.executable, "-I", "-c", program, str(attempt), limits.model_dump_json()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def level_reached(attempt: Path, limits: Confinement) -> str:
    return run_confined(attempt, limits, "print(level)").stdout.strip()


def require(attempt: Path, level: str) -> None:
    reached = level_reached(attempt, Confinement())
    if level not in reached:
        pytest.skip(f"this kernel reaches only {reached}")


def test_every_escape_is_denied(attempt: Path) -> None:
    require(attempt, "landlock+seccomp")
    limits = Confinement(memory_bytes=4096 * MIB, file_bytes=MIB)
    result = run_confined(attempt, limits, "print(json.dumps(break_out(attempt, limits)))")
    denied = json.loads(result.stdout)
    exempt = {"fork_bomb"} if os.getuid() == 0 else set()  # the kernel never limits root's processes
    assert [name for name, held in denied.items() if not held and name not in exempt] == []
    assert not (attempt / "escaped").exists()


def test_the_probes_can_see_an_open_door(attempt: Path) -> None:
    limits = Confinement(landlock=False, seccomp=False)
    result = run_confined(attempt, limits, "print(level); print(json.dumps(break_out(attempt, limits)))")
    level, denied = result.stdout.splitlines()
    assert level == "rlimits"
    open_doors = {name for name, held in json.loads(denied).items() if not held}
    assert {"read_system_file", "read_outside", "write_outside", "unix_socket", "leave_group"} <= open_doors


def test_each_wall_can_stand_alone(attempt: Path) -> None:
    require(attempt, "landlock+seccomp")
    assert level_reached(attempt, Confinement(seccomp=False)) == "landlock"
    assert level_reached(attempt, Confinement(landlock=False)) == "seccomp"


def test_a_child_that_it_starts_stays_inside_and_can_work(attempt: Path) -> None:
    require(attempt, "landlock")
    result = run_confined(
        attempt,
        Confinement(),
        """
        import subprocess
        inner = "import numpy, onnxruntime; print(numpy.ones(2).sum()); open(%r)" % str(attempt / "request.json")
        done = subprocess.run([sys.executable, "-I", "-c", inner], capture_output=True, text=True)
        print(done.stdout, done.stderr.splitlines()[-1])
        """,
    )
    assert "2.0" in result.stdout and "PermissionError" in result.stdout


def test_the_standard_library_keeps_its_socket_pairs(attempt: Path) -> None:
    result = run_confined(attempt, Confinement(), "import asyncio; asyncio.run(asyncio.sleep(0)); print('ran')")
    assert "ran" in result.stdout


def test_it_refuses_to_confine_only_one_of_several_threads(attempt: Path) -> None:
    script = """
        import os, sys, threading
        from pathlib import Path
        from engine.confine import confine
        from engine.protocol import Confinement
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        confine(Path(sys.argv[1]), Confinement(), os.getppid())
    """
    command = [sys.executable, "-I", "-c", textwrap.dedent(script), str(attempt)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "before any thread is started" in result.stderr


def test_a_child_whose_supervisor_is_gone_ends_at_once(attempt: Path) -> None:
    script = PRELUDE.replace("os.getppid()", "1234567890") + "print('still here')"
    command = [sys.executable, "-I", "-c", script, str(attempt), "{}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == -9 and result.stdout == ""


def test_a_child_dies_with_its_supervisor(attempt: Path) -> None:
    script = PRELUDE + "print(os.getpid(), flush=True); import time; time.sleep(60)"
    parent = "import subprocess, sys, time; subprocess.Popen([sys.executable, *sys.argv[1:]]); time.sleep(60)"
    command = [sys.executable, "-c", parent, "-I", "-c", script, str(attempt), "{}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        supervisor.kill()
        supervisor.stdout.read()  # returns once the child has closed its end, too
    assert not Path(f"/proc/{child}/cwd").exists()


def test_who_is_killed_amid_the_fork_bomb_leaves_no_child(attempt: Path) -> None:
    program = PRELUDE + "from engine.confine.breakout import _fork_without_end\n_fork_without_end()"
    command = [sys.executable, "-I", "-c", program, str(attempt), Confinement().model_dump_json()]
    with subprocess.Popen(command) as bomb:
        children: list[psutil.Process] = []
        while len(children) < 5 and bomb.poll() is None:
            children = psutil.Process(bomb.pid).children()
        bomb.kill()
    assert children
    assert psutil.wait_procs(children, timeout=30)[1] == []
