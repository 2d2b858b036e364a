"""Which blobs are wanted: the rows that name bytes in the storage, and their end when nothing refers to them.

A blob's row exists only once its bytes are durable, and its bytes are removed only while no other writer can begin to
refer to them: `keep` and `collect` take the same lock (SQLite: its single writer; Postgres: an advisory lock).
"""

from pathlib import Path

from sqlalchemy import delete, exists, func, insert, select
from sqlalchemy.orm import Session

from app.database import Artifact, Blob, Database, File
from app.events import clock
from app.storage import Storage


def keep(session: Session, storage: Storage, path: Path, sha256: str) -> None:
    """Refer to these bytes from the caller's write transaction, which must also add the row that needs them.

    Call `storage.put` before the transaction. It is repeated here only if the blob was collected in between.
    """
    _lock(session, sha256)
    try:
        size = storage.size(sha256)
    except FileNotFoundError:
        storage.put(path, sha256)
        size = storage.size(sha256)
    if session.get(Blob, sha256) is None:
        session.execute(insert(Blob).values(sha256=sha256, size_bytes=size, created_at=clock(session)))


def collect(database: Database, storage: Storage, sha256: str) -> bool:
    """Remove a blob that no file and no artifact refers to; running it twice, or crashing in it, does no harm."""
    with database.write() as session:
        _lock(session, sha256)
        if session.scalar(select(_is_referenced(sha256))):
            return False
        storage.delete(sha256)
        session.execute(delete(Blob).where(Blob.sha256 == sha256))
        return True


def collect_all(database: Database, storage: Storage, *, older_than_seconds: float) -> int:
    """Remove every unreferenced blob older than that: what crashes and expiry left behind. How many were removed."""
    with database.read() as session:
        candidates = session.scalars(
            select(Blob.sha256).where(
                Blob.created_at < clock(session) - older_than_seconds,
                ~exists().where(File.sha256 == Blob.sha256),
                ~exists().where(File.canonical_sha256 == Blob.sha256),
                ~exists().where(Artifact.sha256 == Blob.sha256),
            )
        ).all()
    return sum(collect(database, storage, sha256) for sha256 in candidates)


def collect_strays(database: Database, storage: Storage, shard: str, *, older_than_seconds: float) -> int:
    """Remove what lies in one 256th of the storage without a row: left by a crash between `put` and the commit.

    An upload of the same content that is about to commit waits for the lock in `keep`, and puts its bytes again. Bytes
    older than every row are left alone, so that a service started by mistake with an empty database removes nothing.
    """
    with database.read() as session:
        oldest, now = session.execute(select(func.min(Blob.created_at), clock(session))).one()
    if oldest is None:
        return 0
    names = storage.put_between(shard, after=oldest, before=now - older_than_seconds)
    with database.read() as session:
        known = set(session.scalars(select(Blob.sha256).where(Blob.sha256.startswith(shard))))
    return sum(collect(database, storage, name) for name in names if name not in known)


def _is_referenced(sha256: str):  # noqa: ANN202 - the type of an SQL expression says nothing
    return (
        exists().where(File.sha256 == sha256)
        | exists().where(File.canonical_sha256 == sha256)
        | exists().where(Artifact.sha256 == sha256)
    )


def _lock(session: Session, sha256: str) -> None:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(int(sha256[:15], 16))))
