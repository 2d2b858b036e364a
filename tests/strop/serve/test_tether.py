import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import strop.serve.tether

TETHER = Path(strop.serve.tether.__file__)
SLEEP = [sys.executable, "-I", "-S", "-c", "import time; print('up', flush=True); time.sleep(600)"]
PORTABLE = f"""
import sys
sys.path.insert(0, {str(TETHER.parent)!r})
import tether
tether.watch_parent(int(sys.argv[1]), sys.argv[2:])
"""
WAYS = {"kernel": [sys.executable, "-I", "-S", str(TETHER)], "portable": [sys.executable, "-I", "-S", "-c", PORTABLE]}


@pytest.mark.parametrize("way", WAYS)
def test_a_tethered_process_dies_with_its_parent(way: str) -> None:
    parent_code = f"import os, subprocess, time; subprocess.run({WAYS[way]!r} + [str(os.getpid())] + {SLEEP!r})"
    parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"up\n"
        family = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
        _, alive = psutil.wait_procs(family, timeout=20)
    assert family
    assert alive == []


@pytest.mark.parametrize("way", WAYS)
def test_a_request_to_end_reaches_a_tethered_process(way: str) -> None:
    command = [*WAYS[way], str(psutil.Process().pid), *SLEEP]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        process.terminate()
        _, alive = psutil.wait_procs(family[1:], timeout=20)
        process.wait(timeout=20)
    assert alive == []


def test_what_is_tethered_to_a_parent_that_has_gone_does_not_start() -> None:
    done = subprocess.run([*WAYS["kernel"], "1", *SLEEP], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
