"""What an attempt leaves for the next one at the same job, with the real engine and a real kill."""

import io
import json
import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from sqlalchemy import delete, update

from app.database import File, Job, JobState
from app.jobs import OPTIMIZE
from engine.protocol import KEPT
from engine.recipe import JobRequest
from engine.recover.snapshot import NAME
from tests.faults.standin import MODEL
from tests.models import mlp
from tests.workers.bench import _add, add_file, add_job, artifacts, events, job, meanwhile, taken, work
from workers.aside import Aside
from workers.attempt import origin
from workers.maintenance.sweep import sweep_attempts
from workers.workplace import Workplace

SNAPSHOT = NAME.format("one")


def with_the_real_engine(workplace: Workplace) -> Workplace:
    settings = workplace.settings.model_copy(update={"engine_command": "", "lease_seconds": 20})
    return replace(workplace, settings=settings)


def training_job(place: Workplace, steps: int) -> str:
    """A perceptron that learns from labels."""
    random = np.random.default_rng(0)
    features = random.standard_normal((400, 20)).astype(np.float32)
    data = io.BytesIO()
    np.savez(data, features=features, labels=features[:, :5].argmax(1))
    body = {
        "model": add_file(place, mlp().model().SerializeToString()),
        "data": {"calibration": add_file(place, data.getvalue(), kind="dataset")},
        "steps": [{"kind": "distill", "labels": True, "steps": steps, "batch_size": 16, "learning_rate": 0.001}],
        "budget": {"minutes": 5},
    }
    request = JobRequest.model_validate(body)
    return _add(place, OPTIMIZE, request.model, request.model_dump(mode="json"))


def kill_the_child() -> None:
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            if "engine" in child.cmdline():
                os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # which says nothing of a training
@pytest.mark.timeout(900)  # two attempts at a whole job, on a machine that may be busy
def test_a_training_that_was_killed_goes_on_where_it_was(workplace: Workplace) -> None:
    place = with_the_real_engine(workplace)
    job_id = training_job(place, steps=8000)
    aside = Aside.of(place, job_id)
    meanwhile(kill_the_child, until=lambda: any(aside.folder.glob(NAME.format("*"))))
    work(place)
    row = job(place, job_id)
    assert (row.state, row.attempt) == (JobState.SUCCEEDED, 2), row.error
    path = next(place.settings.home.rglob(artifacts(place, job_id)["report.json"]))
    (trial,) = json.loads(path.read_text())["trials"]
    assert "interrupted, and went on from step" in trial["training"]["notes"][0]
    assert any(
        event.data["stage"] == "training" and "loss" in event.data["detail"] for event in events(place, job_id, "stage")
    )


def test_what_was_put_aside_goes_with_its_job(workplace: Workplace) -> None:
    waiting, ended = add_job(workplace), add_job(workplace)
    for job_id in (waiting, ended):
        put_aside(workplace, job_id)
    taken(workplace)
    sweep_attempts(workplace)
    assert Aside.of(workplace, waiting).folder.exists() and Aside.of(workplace, ended).folder.exists()
    work(workplace)
    sweep_attempts(workplace)
    assert not Aside.of(workplace, ended).folder.exists()


def put_aside(place: Workplace, job_id: str) -> Aside:
    """What an attempt that is over, but not the job, had put into its folder."""
    kept = place.attempts / job_id / "work" / KEPT
    kept.mkdir(parents=True)
    (kept / SNAPSHOT).write_bytes(b"a training")
    aside = Aside.of(place, job_id)
    aside.take(place.attempts / job_id)
    return aside


def given(place: Workplace) -> bool:
    """Whether the next job finds something in its folder."""
    claimed = taken(place)
    assert claimed is not None
    attempt = place.attempts / "another"
    Aside.of(place, claimed.job_id, origin(place.database, claimed)).give(attempt)
    return (attempt / "work" / KEPT / SNAPSHOT).exists()


@pytest.mark.parametrize(
    ("content", "searches", "found"),
    [(MODEL, True, True), (MODEL + b"another one", True, False), (MODEL, False, False)],
    ids=["the same model", "another model", "steps of the user's own"],
)
def test_a_search_on_the_same_files_finds_what_an_ended_one_had(
    workplace: Workplace, content: bytes, searches: bool, found: bool
) -> None:
    aside = put_aside(workplace, add_job(workplace, searches=True))
    work(workplace)
    assert not aside.folder.exists()
    add_job(workplace, file_id=add_file(workplace, content), searches=searches)  # uploaded once more
    sweep_attempts(workplace)
    assert given(workplace) == found


@pytest.mark.parametrize("why", ["the model is gone", "it is old"])
def test_what_was_handed_on_is_not_kept_for_long(workplace: Workplace, why: str) -> None:
    put_aside(workplace, add_job(workplace, searches=True))
    work(workplace)
    (handed_on,) = workplace.aside.iterdir()
    if why == "it is old":
        os.utime(handed_on, (0, 0))
    else:
        with workplace.database.write() as session:
            session.execute(update(Job).values(file_id=None))
            session.execute(delete(File))
    sweep_attempts(workplace)
    assert not handed_on.exists()


def test_a_new_attempt_finds_what_is_newest_and_no_drafts(tmp_path: Path) -> None:
    aside, first, second = Aside(tmp_path / "aside"), tmp_path / "first", tmp_path / "second"
    kept = first / "work" / KEPT
    kept.mkdir(parents=True)
    (kept / "training.draft").write_bytes(b"half written")
    for content in (b"old", b"new"):
        (kept / "draft").write_bytes(content)
        (kept / "draft").rename(kept / SNAPSHOT)
        aside.take(first)
    aside.give(second)
    found = {path.name: path.read_bytes() for path in (second / "work" / KEPT).iterdir()}
    assert found == {SNAPSHOT: b"new"}


def test_what_the_child_let_go_of_is_let_go_of(tmp_path: Path) -> None:
    aside, attempt = Aside(tmp_path / "aside"), tmp_path / "attempt"
    kept = attempt / "work" / KEPT
    kept.mkdir(parents=True)
    for name in ("first", "second"):
        (kept / name).write_bytes(b"a training")
    aside.take(attempt)
    (kept / "first").unlink()
    aside.take(attempt)
    assert [path.name for path in aside.folder.iterdir()] == ["second"]


def test_a_link_that_the_child_made_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"of somebody else")
    kept = tmp_path / "attempt" / "work" / KEPT
    kept.mkdir(parents=True)
    (kept / SNAPSHOT).symlink_to(secret)
    aside = Aside(tmp_path / "aside")
    aside.take(tmp_path / "attempt")
    assert not aside.folder.exists()
