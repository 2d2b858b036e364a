"""What becomes of a job is decided by how its child ended, and nothing of the child is left afterwards."""

from pathlib import Path

import psutil
import pytest
from sqlalchemy import update

from app.database import Job
from tests.faults.child import HOSTILE, Act
from tests.workers.bench import (
    add_file,
    add_inspection,
    add_job,
    artifacts,
    ask_to_cancel,
    events,
    file_of,
    folders,
    job,
    meanwhile,
    story,
    strike_out,
    taken,
    work,
)
from workers.attempt import digest
from workers.child import MARK
from workers.supervise import run
from workers.workplace import Workplace

FILES = {"model.onnx", "report.json", "report.txt", "candidates/t01.onnx"}


@pytest.fixture(autouse=True)
def nothing_is_left(workplace: Workplace) -> object:
    """Whatever happens in a test: no process and no folder of an attempt survives it."""
    yield
    assert folders(workplace) == []
    assert survivors(workplace) == []


def survivors(workplace: Workplace) -> list[psutil.Process]:
    """Every process anywhere that was started for an attempt here, by whatever way it tried to leave."""
    processes = [psutil.Process(pid) for pid in psutil.pids() if str(workplace.attempts) in str(command_line(pid))]
    return [process for process in processes if process.is_running()]


def test_a_finished_job_has_its_files_verdict_and_story(workplace: Workplace) -> None:
    job_id = add_job(workplace)
    work(workplace)
    row = job(workplace, job_id)
    assert (row.state, row.error, row.lease_token) == ("succeeded", None, None)
    assert row.verdict["headline"] == "Nothing was done."
    assert row.sandbox == "none"
    assert set(artifacts(workplace, job_id)) == FILES
    assert story(workplace, job_id) == ["queued", "running", "succeeded"]


def test_published_bytes_have_the_digest_they_are_named_by(workplace: Workplace, tmp_path: Path) -> None:
    job_id = add_job(workplace)
    work(workplace)
    for number, sha256 in enumerate(artifacts(workplace, job_id).values()):
        workplace.storage.fetch(sha256, tmp_path / str(number))
        assert digest(tmp_path / str(number)) == sha256


def test_events_are_numbered_without_gaps_and_progress_is_told_at_most_once_a_second(workplace: Workplace) -> None:
    job_id = add_job(workplace, seconds=0.5)
    work(workplace)
    assert [event.seq for event in events(workplace, job_id)] == list(range(1, len(events(workplace, job_id)) + 1))
    assert len(events(workplace, job_id, "progress")) <= 2
    assert events(workplace, job_id, "stage")[0].data == {"stage": "baseline", "detail": "stand-in"}


def test_an_accepted_upload_becomes_ready_with_its_summary(workplace: Workplace) -> None:
    job_id = add_inspection(workplace)
    work(workplace)
    file = file_of(workplace, job_id)
    assert (file.state, file.error) == ("ready", None)
    assert file.summary["operators"] == {"Gemm": 1}
    assert job(workplace, job_id).state == "succeeded"


@pytest.mark.parametrize(
    ("act", "code"), [(Act.CRASH, "child_crashed"), (Act.VANISH, "child_crashed"), (Act.STARVED, "out_of_memory")]
)
def test_a_child_that_dies_is_tried_once_more_and_then_the_job_fails(workplace: Workplace, act: Act, code: str) -> None:
    job_id = add_job(workplace, act)
    work(workplace)
    row = job(workplace, job_id)
    assert (row.state, row.attempt, row.error["code"]) == ("failed", 2, code)
    assert story(workplace, job_id) == ["queued", "running", "queued", "running", "failed"]


def test_the_signal_that_killed_a_child_is_named(workplace: Workplace) -> None:
    job_id = add_job(workplace, Act.CRASH)
    work(workplace)
    assert "SIGSEGV" in job(workplace, job_id).error["detail"]


def test_a_crashed_job_still_offers_the_best_it_had(workplace: Workplace) -> None:
    job_id = add_job(workplace, Act.CRASH)
    work(workplace)
    assert set(artifacts(workplace, job_id)) == FILES
    assert job(workplace, job_id).verdict is not None


def test_a_failure_that_the_engine_understood_is_not_tried_again(workplace: Workplace) -> None:
    job_id = add_job(workplace, Act.FAIL)
    work(workplace)
    row = job(workplace, job_id)
    assert (row.state, row.attempt) == ("failed", 1)
    assert row.error == {
        "type": "about:blank",
        "title": "A test",
        "detail": "It was asked to fail.",
        "code": "test_failure",
        "remedy": "Ask for less.",
        "fault": "user",
    }


def test_a_child_that_needs_too_much_memory_is_ended(workplace: Workplace) -> None:
    small = workplace.settings.model_copy(update={"job_memory_bytes": 300 << 20})
    job_id = add_job(workplace, Act.HUNGRY)
    work(Workplace(small, workplace.database, workplace.storage, workplace.worker_id))
    row = job(workplace, job_id)
    assert (row.state, row.error["code"], row.crashes) == ("failed", "out_of_memory", 1)
    assert "0.3 GiB" in row.error["detail"]


def test_a_child_that_takes_too_long_is_ended_and_its_best_is_kept(workplace: Workplace) -> None:
    short = workplace.settings.model_copy(update={"job_max_seconds": 1})
    job_id = add_job(workplace, Act.STUBBORN)
    work(Workplace(short, workplace.database, workplace.storage, workplace.worker_id))
    assert job(workplace, job_id).error["code"] == "job_timeout"
    assert set(artifacts(workplace, job_id)) == FILES


@pytest.mark.parametrize("act", [Act.WORK, Act.STUBBORN, Act.FAMILY])
def test_a_cancel_ends_the_whole_tree_and_keeps_the_best_so_far(workplace: Workplace, act: Act) -> None:
    job_id = add_job(workplace, act)
    meanwhile(lambda: ask_to_cancel(workplace, job_id), lambda: bool(events(workplace, job_id, "progress")))
    work(workplace)
    assert job(workplace, job_id).state == "canceled"
    assert set(artifacts(workplace, job_id)) == FILES
    assert story(workplace, job_id)[-2:] == ["canceling", "canceled"]


def test_a_daemon_that_left_the_group_is_found_and_ended(workplace: Workplace) -> None:
    job_id = add_job(workplace, Act.DAEMON)
    work(workplace)
    assert job(workplace, job_id).state == "succeeded"
    assert survivors(workplace) == []


def test_a_child_that_does_not_exit_after_its_result_is_ended(workplace: Workplace) -> None:
    job_id = add_job(workplace, Act.LINGER)
    work(workplace)
    assert job(workplace, job_id).state == "succeeded"


@pytest.mark.parametrize("act", HOSTILE, ids=lambda act: act.name.lower())
def test_hostile_output_is_refused_and_nothing_of_it_is_published(workplace: Workplace, act: Act) -> None:
    job_id = add_job(workplace, act)
    work(workplace)
    row = job(workplace, job_id)
    assert (row.state, row.attempt, row.error["code"]) == ("failed", 1, "bad_output")


def test_a_leaving_worker_gives_its_job_back_uncharged(workplace: Workplace) -> None:
    job_id = add_job(workplace, Act.WORK)
    run(workplace, taken(workplace), lambda: bool(events(workplace, job_id, "progress")))
    row = job(workplace, job_id)
    assert (row.state, row.attempt) == ("queued", 0)
    assert artifacts(workplace, job_id) == {}


def test_a_worker_struck_from_the_table_gives_its_job_back(workplace: Workplace) -> None:
    job_id = add_job(workplace, Act.WORK)
    meanwhile(lambda: strike_out(workplace), lambda: bool(events(workplace, job_id, "progress")))
    run(workplace, taken(workplace), lambda: False)
    assert job(workplace, job_id).state == "queued"


def test_a_worker_that_lost_its_lease_writes_nothing(workplace: Workplace) -> None:
    job_id = add_job(workplace, Act.WORK)
    stale = taken(workplace)
    meanwhile(lambda: hand_over(workplace, stale.token, job_id), lambda: bool(events(workplace, job_id, "progress")))
    run(workplace, stale, lambda: False)
    row = job(workplace, job_id)
    assert (row.state, row.lease_token) == ("running", "of-somebody-else")
    assert artifacts(workplace, job_id) == {}


def test_a_damaged_input_is_found_before_anything_reads_it(workplace: Workplace) -> None:
    file_id = add_file(workplace)
    job_id = add_job(workplace, file_id=file_id)
    blob = next(path for path in (workplace.settings.home / "blobs").rglob("*") if path.is_file())
    blob.chmod(0o600)
    blob.write_bytes(b"something else")
    work(workplace)
    assert job(workplace, job_id).error["code"] == "storage_corrupt"


def test_the_upload_of_a_failed_inspection_is_rejected_with_the_same_problem(workplace: Workplace) -> None:
    job_id = add_inspection(workplace)
    blob = next(path for path in (workplace.settings.home / "blobs").rglob("*") if path.is_file())
    blob.unlink()
    work(workplace)
    file = file_of(workplace, job_id)
    assert (file.state, file.error) == ("rejected", job(workplace, job_id).error)


def test_a_full_disk_ends_the_job_with_a_remedy(workplace: Workplace) -> None:
    full = workplace.settings.model_copy(update={"min_free_bytes": 1 << 60})
    job_id = add_job(workplace, Act.WORK)
    work(Workplace(full, workplace.database, workplace.storage, workplace.worker_id))
    error = job(workplace, job_id).error
    assert (error["code"], error["type"]) == ("storage_full", "/v1/problems#storage_full")


def test_the_child_gets_no_secret_and_no_variable_of_ours(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROP_DATABASE_URL", "postgresql://user:canary@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    seen: dict[str, str] = {}
    job_id = add_job(workplace, Act.WORK)
    meanwhile(
        lambda: seen.update(survivors(workplace)[0].environ()), lambda: bool(events(workplace, job_id, "progress"))
    )
    run(workplace, taken(workplace), lambda: bool(seen))
    assert MARK in seen
    assert "canary" not in str(seen)
    assert seen["ORT_DISABLE_TELEMETRY"] == "1"


def hand_over(workplace: Workplace, token: str, job_id: str) -> None:
    with workplace.database.write() as session:
        mine = update(Job).where(Job.id == job_id, Job.lease_token == token)
        session.execute(mine.values(lease_token="of-somebody-else"))


def command_line(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []
