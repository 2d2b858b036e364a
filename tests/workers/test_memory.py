"""The real engine under limits that are smaller than what it takes itself: told as that, never a hang or a crash."""

from pathlib import Path

import pytest

from engine.protocol import tells_of_memory
from tests.workers.bench import add_file, add_job, job, work
from workers.problems import of_crash
from workers.workplace import Workplace

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


@pytest.mark.parametrize("mebibytes", [1, 100])
def test_a_limit_that_not_even_the_libraries_fit_into_is_told_as_that(workplace: Workplace, mebibytes: int) -> None:
    small = workplace.settings.model_copy(update={"job_memory_bytes": mebibytes << 20, "engine_command": ""})
    job_id = add_job(workplace, file_id=add_file(workplace, (DIGITS / "model.onnx").read_bytes()), minutes=1)
    work(Workplace(small, workplace.database, workplace.storage, workplace.worker_id))
    row = job(workplace, job_id)
    assert (row.state, row.error["code"]) == ("failed", "out_of_memory")
    assert "STROP_JOB_MEMORY_BYTES" in row.error["remedy"]


@pytest.mark.parametrize(
    "words",
    [
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc",
        "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.",
        "ImportError: /lib/libx.so: failed to map segment from shared object",
        "bfc_arena.cc:360 AllocateRawInternal Failed to allocate memory for requested buffer of size 2457600",
    ],
)
def test_a_library_that_dies_for_want_of_memory_is_told_as_that(words: str) -> None:
    assert tells_of_memory(words)
    assert of_crash(-6, words, 1 << 30)["code"] == "out_of_memory"


def test_another_crash_is_not() -> None:
    assert of_crash(-11, "Segmentation fault", 1 << 30)["code"] == "child_crashed"
