"""Hints that somebody still has to send. A hint too many wakes a slot that finds nothing; one too few costs seconds."""

from celery import Celery
from sqlalchemy import delete, func, select, update

from app.database import Job, Outbox
from app.events import clock
from app.failpoints import reach
from app.queue import QUEUES, send_hint
from workers.claim import claimable
from workers.workplace import Workplace

BATCH = 100
RETRY_SECONDS = 5.0  # after a relay that died with a hint in its hand, or a broker that was away
HINTS_AT_ONCE = 8  # so many idle slots are woken; each works on until nothing is left


def relay(workplace: Workplace, sender: Celery) -> None:
    """Send the hints of the outbox whose time has come. One that is sent twice because we died does no harm."""
    with workplace.database.write() as session:
        now = clock(session)
        due = select(Outbox.id).where(Outbox.next_try_at <= now).order_by(Outbox.created_at).limit(BATCH)
        mine = update(Outbox).where(Outbox.id.in_(due.with_for_update(skip_locked=True).scalar_subquery()))
        values = {"next_try_at": now + RETRY_SECONDS, "tries": Outbox.tries + 1}
        hints = session.execute(mine.values(values).returning(Outbox.id, Outbox.queue)).all()
    for outbox_id, queue in hints:
        send_hint(sender, queue)
        reach("relay.after_publish")
        with workplace.database.write() as session:
            session.execute(delete(Outbox).where(Outbox.id == outbox_id))


def remind(workplace: Workplace, sender: Celery) -> None:
    """Wake workers for jobs that wait while no hint does: a broker or a worker has lost it."""
    for queue in QUEUES:
        with workplace.database.read() as session:
            waiting = session.scalars(select(func.count()).select_from(Job).where(*claimable(session, queue))).one()
        if waiting and not _hints_waiting(sender, queue):
            for _ in range(min(waiting, HINTS_AT_ONCE)):
                send_hint(sender, queue)


def _hints_waiting(sender: Celery, queue: str) -> bool:
    with sender.connection_for_write() as connection:
        return bool(connection.default_channel.client.llen(queue))
