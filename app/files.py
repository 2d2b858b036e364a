"""Uploaded models and data sets: registered with the job that inspects them, listed, and deleted when unused.

Each upload is a file row of its own; equal contents share one blob.
"""

from pathlib import Path

from sqlalchemy import String, cast, delete, or_, select, update
from sqlalchemy.orm import Session

from app import blobs, pages
from app.database import FINAL, Database, File, FileState, Job, JobState
from app.errors import FILE_IN_USE, NOT_FOUND, Problem
from app.events import clock
from app.ids import is_id, new_id
from app.jobs import OPTIMIZE, enqueue
from app.pages import Page
from app.queue import Hints
from app.storage import Storage

PREFIX = {"model": "mdl", "dataset": "dat"}
INSPECTION_QUEUE = "cpu"
INSPECTION_PRIORITY = 10


class Files:
    """What the doors may do with files."""

    def __init__(self, database: Database, storage: Storage, hints: Hints) -> None:
        self._database = database
        self._storage = storage
        self._hints = hints

    def register(self, path: Path, sha256: str, *, kind: str, name: str) -> File:
        """Store a received file and queue its inspection."""
        self._storage.put(path, sha256)
        file_id = new_id(PREFIX[kind])
        with self._database.write() as session:
            blobs.keep(session, self._storage, path, sha256)
            now = clock(session)
            session.add(
                File(id=file_id, kind=kind, name=name, sha256=sha256, state=FileState.INSPECTING, created_at=now)
            )
            session.flush()
            hint = enqueue(session, _inspection(session, file_id, kind))
        self._hints.send(INSPECTION_QUEUE, hint)
        return self.get(file_id, kind)

    def get(self, file_id: str, kind: str) -> File:
        with self._database.read() as session:
            return _find(session, file_id, kind)

    def page(self, kind: str, *, limit: int, cursor: str | None) -> Page[File]:
        with self._database.read() as session:
            return pages.fetch(session, select(File).where(File.kind == kind), File, limit=limit, cursor=cursor)

    def inspection(self, file_id: str) -> tuple[str, int] | None:
        """Id and version of the job that still inspects this file."""
        if not is_id(file_id):
            return None
        rows = select(Job.id, Job.version).where(Job.file_id == file_id, Job.work != OPTIMIZE)
        with self._database.read() as session:
            row = session.execute(rows.where(Job.state.not_in(FINAL))).first()
            return (row.id, row.version) if row else None

    def delete(self, file_id: str, kind: str) -> None:
        """Forget a file that no unfinished job reads; its bytes go when nothing else refers to them."""
        with self._database.write() as session:
            file = _find(session, file_id, kind, lock=True)
            if user := session.scalar(_unfinished_users(file_id)):
                raise Problem(FILE_IN_USE, f"{user} still needs {file_id}.")
            digests = {sha256 for sha256 in (file.sha256, file.canonical_sha256) if sha256}
            session.execute(delete(Job).where(Job.file_id == file_id, Job.work != OPTIMIZE))
            session.execute(update(Job).where(Job.file_id == file_id).values(file_id=None))
            session.execute(delete(File).where(File.id == file_id))
        for sha256 in digests:
            blobs.collect(self._database, self._storage, sha256)


def _find(session: Session, file_id: str, kind: str, *, lock: bool = False) -> File:
    locking = {"of": File} if lock else None
    file = session.get(File, file_id, with_for_update=locking) if is_id(file_id) else None
    if file is None or file.kind != kind:
        raise Problem(NOT_FOUND, f"There is no {kind} with this id.")
    return file


def _inspection(session: Session, file_id: str, kind: str) -> Job:
    return Job(
        id=new_id("job"),
        work=f"inspect_{kind}",
        queue=INSPECTION_QUEUE,
        priority=INSPECTION_PRIORITY,
        state=JobState.QUEUED,
        request={},
        file_id=file_id,
        created_at=clock(session),
    )


def _unfinished_users(file_id: str):  # noqa: ANN202 - the type of an SQL expression says nothing
    """Jobs that still read the file: optimizations in any unfinished state, an inspection once it runs."""
    reads = or_(Job.file_id == file_id, cast(Job.request, String).contains(f'"{file_id}"', autoescape=True))
    busy = or_(Job.work == OPTIMIZE, Job.state != JobState.QUEUED)
    return select(Job.id).where(Job.state.not_in(FINAL), reads, busy).limit(1)
