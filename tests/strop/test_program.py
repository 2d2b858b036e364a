"""A hint names the program as it can be typed."""

import sys
from pathlib import Path

import pytest

from strop.cli.program import called


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "strop"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    return path


def test_a_program_on_the_path_is_named_alone(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    assert called(str(program)) == "strop"


def test_a_program_elsewhere_is_named_as_it_was_called(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(program.parents[1])
    assert called("bin/strop") == "bin/strop"
    monkeypatch.setenv("PATH", str(program.parent))
    assert called(".venv/bin/strop") == ".venv/bin/strop"  # another one than that which the shell finds


def test_a_module_is_named_as_python_runs_it() -> None:
    assert called("/x/strop/__main__.py") == f"{sys.executable} -m strop"
