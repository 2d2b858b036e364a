import os
import stat
from pathlib import Path

import pytest

from strop.serve.home import LARGEST_LOG_BYTES, LONGEST_SOCKET_PATH, CannotServe, Home


def test_only_one_service_holds_a_folder_and_the_other_is_told_which(tmp_path: Path) -> None:
    with Home(tmp_path).held(), pytest.raises(CannotServe, match=f"process {os.getpid()} already serves"):
        Home(tmp_path).held().__enter__()
    with Home(tmp_path).held():
        pass  # free again


@pytest.mark.parametrize("depth", [1, 12])
def test_sockets_lie_in_a_private_folder_whose_path_the_kernel_can_take(tmp_path: Path, depth: int) -> None:
    home = tmp_path.joinpath(*["a-long-name"] * depth)
    with Home(home).held() as run:
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        assert len(str(run / "valkey.sock")) <= LONGEST_SOCKET_PATH
        assert run.is_relative_to(home) == (depth == 1)
    assert not run.exists()


def test_models_and_data_are_kept_from_other_users(tmp_path: Path) -> None:
    with Home(tmp_path / "home").held():
        assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotServe, match="cannot be used"):
        Home(tmp_path / "file").held().__enter__()


def test_a_log_that_has_grown_large_starts_anew(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.logs.mkdir()
    with home.log("api").open("wb") as log:
        log.truncate(LARGEST_LOG_BYTES + 1)
    assert not home.log("api").exists()
    assert (home.logs / "api.log.1").exists()
