"""A worker believes what was denied, not what a child says of itself."""

import json
import os
from pathlib import Path

import pytest

from workers.self_test import DENIES, try_confinement
from workers.workplace import Workplace

ALL = sorted(set().union(*DENIES.values()))


@pytest.mark.parametrize(
    ("escape", "level"),
    [
        (None, "landlock+seccomp"),
        ("internet_socket", "landlock"),
        ("read_outside", "rlimits"),
        ("exceed_memory", "none"),
    ],
)
def test_the_level_is_the_strongest_whose_attempts_were_all_denied(
    workplace: Workplace, tmp_path: Path, escape: str | None, level: str
) -> None:
    (tmp_path / "probes.json").write_text(json.dumps({name: name != escape for name in ALL}))
    found = try_confinement(workplace)
    assert found.level == level
    assert found.escapes == ((escape,) if escape else ())
    assert found.reaches(level)


def test_a_child_that_does_not_start_has_no_walls(workplace: Workplace) -> None:
    broken = workplace.settings.model_copy(update={"engine_command": "/bin/false"})
    found = try_confinement(Workplace(broken, workplace.database, workplace.storage, "me"))
    assert found.level == "none"
    assert not found.reaches("rlimits")


def test_nothing_of_the_self_test_is_left(workplace: Workplace) -> None:
    try_confinement(workplace)
    assert not list(workplace.settings.home.glob("self-test*"))


def test_what_a_killed_worker_left_is_removed_and_what_another_one_tests_is_not(workplace: Workplace) -> None:
    left, others = (workplace.settings.home / f"self-test-{name}" for name in ("left", "others"))
    for folder in (left, others):
        (folder / "work").mkdir(parents=True)
    os.utime(left, (1, 1))
    try_confinement(workplace)
    assert (left.exists(), others.exists()) == (False, True)
