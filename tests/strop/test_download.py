import random
from pathlib import Path

import pytest

from strop import DigestMismatch, Strop, Unreachable
from tests.strop.servers import FileServer, cut_at_random, serving

CONTENT = random.Random(0).randbytes(1 << 20)


def fetch(url: str, target: Path, patience_seconds: float = 30) -> Path:
    with Strop(url, patience_seconds=patience_seconds) as strop:
        return strop.download_file("mdl_1", target)


@pytest.mark.parametrize("seed", range(10))
def test_a_download_that_breaks_at_random_points_arrives_whole(tmp_path: Path, seed: int) -> None:
    files = FileServer(CONTENT)
    with serving(files) as origin, cut_at_random(origin, seed, longest=len(CONTENT) // 4, cuts=4) as url:
        target = fetch(url, tmp_path / "model.onnx")
    assert target.read_bytes() == CONTENT
    assert len(files.requests) == 5
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_is_replaced_meanwhile_arrives_new_and_whole(tmp_path: Path) -> None:
    files = FileServer(CONTENT)
    files.stops_after = 1000
    with serving(files) as url:
        with pytest.raises(Unreachable):
            fetch(url, tmp_path / "model.onnx", patience_seconds=0)
        files.content, files.stops_after = CONTENT[::-1], None
        target = fetch(url, tmp_path / "model.onnx")
    assert target.read_bytes() == CONTENT[::-1]
    assert list(tmp_path.iterdir()) == [target]


def test_the_next_attempt_goes_on_where_one_gave_up(tmp_path: Path) -> None:
    files = FileServer(CONTENT)
    files.stops_after = 600_000
    with serving(files) as url:
        with pytest.raises(Unreachable):
            fetch(url, tmp_path / "model.onnx", patience_seconds=0)
        files.stops_after = None
        target = fetch(url, tmp_path / "model.onnx")
    assert target.read_bytes() == CONTENT
    assert files.bytes_sent == len(CONTENT) + 1  # the last byte is asked for again, so that no range is empty


def test_wrong_bytes_are_never_kept(tmp_path: Path) -> None:
    files = FileServer(CONTENT)
    files.claimed_sha256 = "0" * 64
    with serving(files) as url, pytest.raises(DigestMismatch, match="expected SHA-256 0000"):
        fetch(url, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    files = FileServer(CONTENT)
    files.claimed_sha256 = "0" * 64
    with serving(files) as url, pytest.raises(DigestMismatch):
        fetch(url, target)
    assert target.read_bytes() == b"old"


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with serving(FileServer(CONTENT)) as url, Strop(url) as strop:
        strop.download_file("mdl_1", tmp_path / "model.onnx", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
