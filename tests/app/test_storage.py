"""One contract, two storages: a local folder and S3."""

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.blobs import collect, collect_all, collect_strays, keep
from app.database import Base, Blob, Database, File
from app.errors import ConfigurationError
from app.events import clock
from app.storage import LocalStorage, S3Storage, Storage, open_storage
from tests.app.s3 import s3_server, s3_url  # noqa: F401 - fixtures
from tests.app.service import running, settings_for

CONTENT = random.Random(1).randbytes(40_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SHARD = SHA256[:2]


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(tmp_path / "blobs")
    return S3Storage(request.getfixturevalue("s3_url"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


def test_bytes_come_back_whole_and_in_parts(storage: Storage, source: Path, tmp_path: Path) -> None:
    storage.put(source, SHA256)
    source.unlink()
    assert storage.size(SHA256) == len(CONTENT)
    assert b"".join(storage.open(SHA256)) == CONTENT
    assert b"".join(storage.open(SHA256, 5_000_001, 3_000_000)) == CONTENT[5_000_001:8_000_001]
    assert b"".join(storage.open(SHA256, len(CONTENT))) == b""
    storage.fetch(SHA256, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == CONTENT


def test_chunks_are_small_whatever_the_size(storage: Storage, source: Path) -> None:
    storage.put(source, SHA256)
    assert max(len(chunk) for chunk in storage.open(SHA256)) <= 8 << 20


def test_putting_twice_and_deleting_twice_do_no_harm(storage: Storage, source: Path) -> None:
    storage.put(source, SHA256)
    storage.put(source, SHA256)
    storage.delete(SHA256)
    storage.delete(SHA256)
    with pytest.raises(FileNotFoundError):
        storage.size(SHA256)


def test_a_missing_blob_is_noticed_before_the_first_chunk(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open(SHA256)
    with pytest.raises(FileNotFoundError):
        storage.fetch(SHA256, tmp_path / "x")


def test_writers_of_the_same_content_do_not_disturb_each_other(storage: Storage, tmp_path: Path) -> None:
    content = CONTENT[:1_000_000]
    sha256 = hashlib.sha256(content).hexdigest()
    sources = [tmp_path / str(number) for number in range(8)]
    for path in sources:
        path.write_bytes(content)
    writers = [threading.Thread(target=storage.put, args=(path, sha256)) for path in sources]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert b"".join(storage.open(sha256)) == content


def test_what_was_put_is_listed_by_its_time_and_its_first_digits(storage: Storage, source: Path) -> None:
    storage.put(source, SHA256)
    now = time.time()
    assert storage.put_between(SHARD, now - 60, now + 60) == [SHA256]
    assert storage.put_between(SHARD, now + 60, now + 120) == storage.put_between(SHARD, now - 120, now - 60) == []
    assert storage.put_between("00", now - 60, now + 60) == []


def test_a_local_blob_that_is_put_again_counts_as_new(source: Path, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "blobs")
    storage.put(source, SHA256)
    age(storage, SHA256)
    storage.put(source, SHA256)
    assert storage.put_between(SHARD, time.time() - 60, time.time() + 60) == [SHA256]


def test_a_local_blob_leaves_no_half_file_and_cannot_be_written(source: Path, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "blobs")
    storage.put(source, SHA256)
    found = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert found == [tmp_path / "blobs" / SHA256[:2] / SHA256]
    assert found[0].stat().st_mode & 0o222 == 0


def test_a_storage_is_named_by_its_url(tmp_path: Path) -> None:
    assert isinstance(open_storage("", tmp_path), LocalStorage)
    s3 = open_storage("s3://bucket/a/b?endpoint=http://127.0.0.1:1", tmp_path)
    assert isinstance(s3, S3Storage)
    assert (s3.bucket, s3.prefix, s3.endpoint) == ("bucket", "a/b", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="STROP_STORAGE_URL"):
        open_storage("ftp://x", tmp_path)


FORKING = """
import os, sys
from pathlib import Path
from app.storage import S3Storage
storage = S3Storage(sys.argv[1])
child = os.fork()
if child == 0:
    storage.put(Path(sys.argv[2]), sys.argv[3])
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_s3_is_not_touched_before_its_first_use_so_that_a_fork_survives(s3_url: str, source: Path) -> None:  # noqa: F811
    subprocess.run([sys.executable, "-c", FORKING, s3_url, str(source), SHA256], check=True, timeout=60)
    assert S3Storage(s3_url).size(SHA256) == len(CONTENT)


def test_a_service_on_s3_takes_and_gives_files(tmp_path: Path, s3_url: str) -> None:  # noqa: F811
    with running(settings_for(tmp_path / "home", storage_url=s3_url), tmp_path / "worker") as service:
        model = service.upload_model(b"\x08\x08" + CONTENT)
        part = service.http.get(f"/v1/models/{model}/content", headers={"Range": "bytes=2-1000001"})
        assert part.content == CONTENT[:1_000_000]
        assert service.http.get(f"/v1/models/{model}/content").content[2:] == CONTENT
        assert service.http.delete(f"/v1/models/{model}").status_code == 204
        assert service.services.settings.home.joinpath("staging").exists()
        assert list((tmp_path / "home" / "staging").iterdir()) == []


def test_the_usual_variables_alone_lead_to_an_s3_over_http(
    s3_server: str,  # noqa: F811
    s3_url: str,  # noqa: F811
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    storage = S3Storage(s3_url.partition("?")[0])
    storage.put(source, SHA256)
    assert storage.size(SHA256) == len(CONTENT)


@pytest.mark.parametrize("broken", ["s3://no-such-bucket?endpoint={server}", "s3://b?endpoint=http://127.0.0.1:1"])
def test_without_its_s3_the_service_says_so_and_leaves_nothing_behind(
    tmp_path: Path,
    s3_server: str,  # noqa: F811
    s3_url: str,  # noqa: F811
    broken: str,
) -> None:
    settings = settings_for(tmp_path / "home", storage_url=broken.format(server=s3_server))
    with running(settings, tmp_path / "worker") as service:
        answer = service.http.post("/v1/models", content=b"\x08\x08" + CONTENT[:1000])
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert service.http.get("/readyz").status_code == 503
        assert service.http.get("/v1/models").json()["items"] == []
        assert list(service.services.staging.iterdir()) == []


@pytest.fixture
def database(database_url: str) -> Database:
    database = Database(database_url)
    Base.metadata.create_all(database.engine)
    yield database
    database.engine.dispose()


def refer(database: Database, storage: Storage, path: Path, file_id: str) -> None:
    with database.write() as session:
        keep(session, storage, path, SHA256)
        session.add(File(id=file_id, kind="model", name="x", sha256=SHA256, state="ready", created_at=clock(session)))


def test_a_blob_lives_as_long_as_something_refers_to_it(database: Database, tmp_path: Path, source: Path) -> None:
    storage = LocalStorage(tmp_path / "blobs")
    storage.put(source, SHA256)
    refer(database, storage, source, "mdl_1")
    assert not collect(database, storage, SHA256)
    with database.write() as session:
        session.delete(session.get(File, "mdl_1"))
    assert collect_all(database, storage, older_than_seconds=60) == 0
    assert collect_all(database, storage, older_than_seconds=-1) == 1
    with pytest.raises(FileNotFoundError):
        storage.size(SHA256)


def test_a_blob_collected_between_put_and_commit_is_put_again(database: Database, tmp_path: Path, source: Path) -> None:
    storage = LocalStorage(tmp_path / "blobs")
    storage.put(source, SHA256)
    assert collect(database, storage, SHA256)
    refer(database, storage, source, "mdl_2")
    assert storage.size(SHA256) == len(CONTENT)
    with database.read() as session:
        assert session.get(Blob, SHA256) is not None


@pytest.mark.parametrize("name", [SHA256, f"{SHA256}.0123"])
def test_old_bytes_without_a_row_are_removed_and_new_ones_kept(
    database: Database, tmp_path: Path, source: Path, name: str
) -> None:
    begin_long_ago(database)
    storage = LocalStorage(tmp_path / "blobs")
    storage.put(source, name)
    assert collect_strays(database, storage, SHARD, older_than_seconds=60) == 0
    age(storage, name)
    assert collect_strays(database, storage, SHARD, older_than_seconds=60) == 1
    assert [path for path in storage.root.rglob("*") if path.is_file()] == []


def test_a_young_or_empty_database_judges_no_older_bytes(database: Database, tmp_path: Path, source: Path) -> None:
    storage = LocalStorage(tmp_path / "blobs")
    storage.put(source, SHA256)
    age(storage, SHA256)
    assert collect_strays(database, storage, SHARD, older_than_seconds=60) == 0
    begin_long_ago(database, at=2000)
    assert collect_strays(database, storage, SHARD, older_than_seconds=60) == 0


def test_old_bytes_with_a_row_are_no_strays(database: Database, tmp_path: Path, source: Path) -> None:
    begin_long_ago(database)
    storage = LocalStorage(tmp_path / "blobs")
    storage.put(source, SHA256)
    refer(database, storage, source, "mdl_1")
    age(storage, SHA256)
    assert collect_strays(database, storage, SHARD, older_than_seconds=60) == 0
    assert storage.size(SHA256) == len(CONTENT)


def test_an_upload_of_the_content_of_an_old_stray_survives_its_collection(
    database: Database, tmp_path: Path, source: Path
) -> None:
    """The collector saw the stray as old, and comes while the upload stands between `put` and its commit."""
    storage = LocalStorage(tmp_path / "blobs")
    storage.put(source, SHA256)
    with database.write() as session:
        keep(session, storage, source, SHA256)
        collector = threading.Thread(target=collect, args=(database, storage, SHA256))
        collector.start()
        collector.join(0.5)
        assert collector.is_alive(), "it waits for the upload's transaction"
        session.add(File(id="mdl_1", kind="model", name="x", sha256=SHA256, state="ready", created_at=clock(session)))
    collector.join()
    assert storage.size(SHA256) == len(CONTENT)


def age(storage: LocalStorage, name: str) -> None:
    """As if it had lain there for years."""
    os.utime(storage.root / name[:2] / name, (1000, 1000))


def begin_long_ago(database: Database, at: float = 0) -> None:
    """As if the service had kept its first blob then."""
    with database.write() as session:
        session.add(Blob(sha256="0" * 64, size_bytes=1, created_at=at))
