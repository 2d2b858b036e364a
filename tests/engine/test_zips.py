"""Archives that bite: each is refused before a member is opened."""

import zipfile
from pathlib import Path

import pytest

from engine.errors import DataRejected
from engine.zips import open_archive


def build(path: Path, *names: str, content: bytes = b"hello", compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name) if "\\" not in name else _raw(name), content, compression)
    return path


def _raw(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = name
    return info


def code(path: Path) -> str:
    with pytest.raises(DataRejected) as caught, open_archive(path, DataRejected):
        pass
    return caught.value.code


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "C:x", "a\\b"])
def test_names_that_leave_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    assert code(build(tmp_path / "a.zip", name)) == "archive_unsafe"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "A"), ("é", "e\u0301")])
def test_names_that_look_alike_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    assert code(build(tmp_path / "a.zip", *names)) == "archive_unsafe"


def test_links_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert code(tmp_path / "a.zip") == "archive_unsafe"


def test_odd_compression_is_refused(tmp_path: Path) -> None:
    assert code(build(tmp_path / "a.zip", "x", compression=zipfile.ZIP_LZMA)) == "archive_unsafe"


def test_bombs_are_refused_before_they_inflate(tmp_path: Path) -> None:
    path = build(tmp_path / "a.zip", "x", content=bytes(65 << 20), compression=zipfile.ZIP_DEFLATED)
    assert code(path) == "archive_bomb"


def test_a_size_that_lies_is_noticed_while_inflating(tmp_path: Path) -> None:
    path = build(tmp_path / "a.zip", "x", content=bytes(5000), compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    central = data.rfind(b"PK\x01\x02")
    data[central + 24 : central + 28] = (10_000).to_bytes(4, "little")
    path.write_bytes(data)
    with open_archive(path, DataRejected) as archive, pytest.raises(DataRejected) as caught:
        archive.extract(archive.members[0], tmp_path / "out")
    assert caught.value.code == "archive_unreadable"


def test_a_member_that_overlaps_another_is_refused(tmp_path: Path) -> None:
    path = build(tmp_path / "a.zip", "aa", "bb")
    data = bytearray(path.read_bytes())
    second = data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = (0).to_bytes(4, "little")
    path.write_bytes(data)
    assert code(path) in ("archive_unsafe", "archive_unreadable")


def test_a_broken_checksum_is_noticed(tmp_path: Path) -> None:
    path = build(tmp_path / "a.zip", "x", content=b"hello world")
    path.write_bytes(path.read_bytes().replace(b"hello world", b"jello world"))
    with open_archive(path, DataRejected) as archive, pytest.raises(DataRejected):
        archive.extract(archive.members[0], tmp_path / "out")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = build(tmp_path / "a.zip", "x")
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(signature) + offset] |= 1
    path.write_bytes(data)
    assert code(path) == "archive_unsafe"


def test_a_central_directory_that_disagrees_with_a_member_is_refused(tmp_path: Path) -> None:
    path = build(tmp_path / "a.zip", "x")
    data = bytearray(path.read_bytes())
    data[data.find(b"PK\x03\x04") + 8] = zipfile.ZIP_DEFLATED
    path.write_bytes(data)
    assert code(path) == "archive_unreadable"


@pytest.mark.parametrize("cut", [10, 30, 60])
def test_a_truncated_archive_is_refused(cut: int, tmp_path: Path) -> None:
    path = build(tmp_path / "a.zip", "x", content=b"hello" * 20)
    path.write_bytes(path.read_bytes()[:-cut])
    assert code(path) == "archive_unreadable"


def test_a_huge_central_directory_is_not_read(tmp_path: Path) -> None:
    path = build(tmp_path / "a.zip", "x")
    data = bytearray(path.read_bytes())
    data[-10:-6] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(data)
    assert code(path) == "archive_unreadable"
