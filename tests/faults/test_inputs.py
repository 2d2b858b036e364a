"""Hostile uploads against the real engine in its confined child: refused with a reason, and nothing leaks or runs."""

import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from app.settings import Settings
from tests.faults import hostile
from tests.faults.cluster import Cluster
from tests.faults.figures import FULL, report
from tests.faults.ledger import processes_of
from workers.self_test import DENIES, try_confinement
from workers.workplace import open_workplace

pytestmark = pytest.mark.xdist_group("faults")

BOX_BYTES = 2 << 30  # no inspection of a small file may need more


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One API and one worker, with the engine."""
    found = Cluster(tmp_path_factory.mktemp("engine"), engine="", settings={"STROP_LEASE_SECONDS": "20"})
    found.start()
    yield found
    found.kill_all()


@pytest.fixture
def http(cluster: Cluster) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=cluster.urls[0], timeout=120, headers={"Prefer": "wait=60"}) as client:
        yield client


def some(files: Iterable[tuple[str, bytes]], every: int) -> list[tuple[str, bytes]]:
    """All in the full run, each n-th in the quick one."""
    return list(files) if FULL else list(files)[::every]


def upload(http: httpx2.Client, door: str, content: bytes) -> tuple[int, dict[str, object]]:
    """The status and the body, once the file was looked at."""
    answer = http.post(f"/v1/{door}?name=x", content=content)
    body = answer.json()
    deadline = time.monotonic() + 120
    while body.get("state") == "inspecting" and time.monotonic() < deadline:
        body = http.get(f"/v1/{door}/{body['id']}").json()
    return answer.status_code, body


def is_refused(status: int, body: dict[str, object]) -> bool:
    """At the door, or by the inspection; always with a code and a remedy."""
    problem = body if status in {413, 415, 422} else body.get("error")
    return isinstance(problem, dict) and bool(problem.get("code")) and bool(problem.get("remedy"))


@contextmanager
def watched_memory(cluster: Cluster) -> Iterator[list[int]]:
    """Resident bytes of all children of attempts, taken again and again."""
    samples: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            samples.append(sum(resident(process) for process in processes_of(cluster)))

    thread = threading.Thread(target=watch)
    thread.start()
    yield samples
    done.set()
    thread.join()


def resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def test_r41_data_outside_of_the_upload_is_never_read(cluster: Cluster, http: httpx2.Client) -> None:
    secret = secrets.token_hex(16)
    canary = cluster.folder / "canary"
    canary.write_text(secret * 64)
    files = some(hostile.outside_data(canary), 15)
    answers = {name: upload(http, "models", content) for name, content in files}
    let_in = [name for name, answer in answers.items() if not is_refused(*answer)]
    leaks = [name for name, answer in answers.items() if secret in str(answer)]
    leaks += [path.name for path in cluster.home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    leaks += [path.name for path in cluster.folder.glob("*.log") if secret in path.read_text()]
    report("R41", f"leaked {len(leaks)}, let in {len(let_in)}", count=len(files), faults=len(files))
    assert leaks == []
    assert let_in == []


def test_r43_bombs_do_not_explode(cluster: Cluster, http: httpx2.Client) -> None:
    files = some(hostile.bombs(), 6)
    problems: list[str] = []
    with watched_memory(cluster) as peak:
        answers = {name: upload(http, "models", content) for name, content in files}
    for name, (status, body) in answers.items():
        if status >= 500 or body.get("state") == "inspecting":
            problems.append(name)
        if body.get("state") == "rejected" and not is_refused(status, body):
            problems.append(name)
    used = max(peak, default=0)
    report("R43", f"trouble {len(problems)}; memory at most {used >> 20} MiB", count=len(files), faults=len(files))
    assert problems == []
    assert used < BOX_BYTES
    assert http.get("/livez").status_code == 200


def test_r47_nothing_is_ever_unpickled(cluster: Cluster, http: httpx2.Client) -> None:
    canary = cluster.folder / "unpickled"
    files = some(hostile.pickles(canary), 7)
    doors = ("models", "datasets")
    answers = [(name, *upload(http, door, content)) for name, content in files for door in doors]
    let_in = [name for name, status, body in answers if not is_refused(status, body)]
    report("R47", f"executed {int(canary.exists())}, let in {len(let_in)}", count=len(answers), faults=len(answers))
    assert not canary.exists()
    assert let_in == []


def test_r51_a_child_cannot_break_out(tmp_path: Path) -> None:
    place = open_workplace(Settings(home=tmp_path / "home"), worker_pid=1)
    found = try_confinement(place)
    place.database.engine.dispose()
    denied = set().union(*(DENIES[level] for level in list(DENIES)[: list(DENIES).index(found.level) + 1]))
    escapes = denied & set(found.escapes)
    report("R51", f"escapes {len(escapes)} at {found.level}", count=len(denied), faults=len(denied))
    assert found.reaches("landlock")
    assert escapes == set()
