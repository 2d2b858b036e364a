"""A stand-in for the engine that speaks its protocol and does, within milliseconds, what a test asks of it.

    python -I -S child.py REPORT.json ATTEMPT

It runs behind the real supervisor. What to do is told by the recipe's seed, `act + 100 * milliseconds` (see `standin`).
Only the standard library is used, so that it starts quickly; it is not confined, to be as bad as a child can be.
"""

import ctypes
import json
import os
import shutil
import signal
import sys
import time
from enum import IntEnum
from pathlib import Path


class Act(IntEnum):
    SUCCEED = 0
    CRASH = 1  #: by SIGSEGV
    VANISH = 2  #: exit code 3 without a last word
    FAIL = 3  #: a failure that was understood
    WORK = 4  #: a checkpoint, then busy until somebody ends it
    STUBBORN = 5  #: the same, and SIGTERM is ignored
    FAMILY = 6  #: the same, with grandchildren that ignore SIGTERM
    DAEMON = 7  #: succeeds, and leaves a process that has left its group and its session
    HUNGRY = 8  #: allocates until somebody ends it
    STARVED = 9  #: dies as a native allocator does
    LINGER = 10  #: succeeds, but does not exit
    ABORT = 11  #: by SIGABRT

    SYMBOLIC_LINK = 20
    HARD_LINK = 21
    PIPE = 22
    SPARSE = 23
    STRANGE_NAME = 24
    LINKED_FOLDER = 25
    LONG_LINE = 26
    NO_JSON = 27
    OUTSIDE = 28  #: announces a folder that is not its own
    BAD_REPORT = 29
    NO_RESULT = 30
    FLOOD = 31  #: too many events
    NO_MODEL = 32
    STRANGE_CANDIDATE = 33


HOSTILE = [act for act in Act if act >= Act.SYMBOLIC_LINK]


def main() -> None:
    report, attempt = Path(sys.argv[1]), Path(sys.argv[2])
    request = json.loads((attempt / "request.json").read_text())
    say(type="stage", stage="baseline", detail="stand-in", sandbox="none")
    if request["work"] == "self_test":
        say(type="finished", probes=json.loads(report.with_name("probes.json").read_text()))
    elif request["work"] == "inspect_model":
        say(type="finished", model=json.loads(report.read_text())["model"])
    elif request["work"] == "inspect_dataset":
        say(type="finished", dataset={"samples": 8, "arrays": [], "size_bytes": 8})
    else:
        milliseconds, number = divmod(request["recipe"]["seed"], 100)
        perform(Act(number), milliseconds / 1000, attempt, report)


def perform(act: Act, seconds: float, attempt: Path, report: Path) -> None:
    for step in range(1, 6):
        time.sleep(seconds / 5)
        say(type="progress", fraction=step / 10, eta_seconds=seconds * (5 - step) / 5)
    checkpoint(attempt, report)
    misbehave = {
        Act.CRASH: lambda: os.kill(os.getpid(), signal.SIGSEGV),
        Act.ABORT: lambda: os.kill(os.getpid(), signal.SIGABRT),
        Act.VANISH: lambda: sys.exit(3),
        Act.FAIL: fail,
        Act.WORK: wait,
        Act.STUBBORN: stubborn,
        Act.FAMILY: family,
        Act.DAEMON: daemon,
        Act.HUNGRY: hungry,
        Act.STARVED: starve,
        Act.LONG_LINE: lambda: print("x" * (2 << 20), flush=True),
        Act.NO_JSON: lambda: print("hello", flush=True),
        Act.OUTSIDE: lambda: say(type="checkpoint", directory="work/out/../../inputs"),
        Act.NO_RESULT: lambda: say(type="checkpoint", directory="work/out/0009"),
        Act.FLOOD: lambda: [say(type="progress", fraction=0.5) for _ in range(20_000)],
    }.get(act)
    if misbehave:
        misbehave()
    if act in HOSTILE:
        spoil(act, attempt / "work" / "out" / "0001")
    say(type="finished")
    if act is Act.LINGER:
        wait()


def say(**event: object) -> None:
    print(json.dumps(event), flush=True)


def checkpoint(attempt: Path, report: Path) -> None:
    out = attempt / "work" / "out" / "0001"
    (out / "candidates").mkdir(parents=True)
    model = (attempt / "inputs" / "model.onnx").read_bytes()
    (out / "model.onnx").write_bytes(model)
    (out / "candidates" / "t01.onnx").write_bytes(model)
    shutil.copyfile(report, out / "report.json")
    (out / "report.txt").write_text(f"made by process {os.getpid()}")  # no two attempts write the same
    say(type="checkpoint", directory="work/out/0001")


def spoil(act: Act, out: Path) -> None:
    model = out / "model.onnx"
    spoils = {
        Act.SYMBOLIC_LINK: lambda: replaced(model).symlink_to("/etc/passwd"),
        Act.HARD_LINK: lambda: os.link(out.parents[2] / "request.json", replaced(model)),
        Act.PIPE: lambda: os.mkfifo(replaced(model)),
        Act.SPARSE: lambda: os.truncate(model, 1 << 40),
        Act.NO_MODEL: lambda: replaced(model),
        Act.STRANGE_NAME: (out / "..\n<script>").touch,
        Act.LINKED_FOLDER: lambda: out.symlink_to(out.rename(out.with_name("0002"))),
        Act.BAD_REPORT: lambda: (out / "report.json").write_text('{"verdict": "excellent"}'),
        Act.STRANGE_CANDIDATE: (out / "candidates" / "t01.sh").touch,
    }
    spoils.get(act, lambda: None)()


def replaced(path: Path) -> Path:
    path.unlink()
    return path


def fail() -> None:
    say(type="failed", code="test_failure", title="A test", detail="It was asked to fail.", remedy="Ask for less.")
    sys.exit(1)


def wait() -> None:
    while True:
        time.sleep(60)


def stubborn() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait()


def family() -> None:
    for _ in range(2):
        if os.fork() == 0:
            os.fork()
            stubborn()
    wait()


def daemon() -> None:
    """The classic way out: the parent of the daemon is gone, and so are its group and its session."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.environ.clear()
            for descriptor in (1, 2):
                os.close(descriptor)
            wait()
        os._exit(0)
    time.sleep(0.1)


def hungry() -> None:
    hoard = []
    while True:
        hoard.append(bytes([1]) * (64 << 20))
        time.sleep(0.01)


def starve() -> None:
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
    sys.stderr.flush()
    ctypes.CDLL(None).abort()


if __name__ == "__main__":
    main()
