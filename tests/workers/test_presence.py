"""A worker is in the table while it lives, and out of it before it stops."""

import time

from sqlalchemy import delete, select

from app.database import Worker
from workers.presence import Presence
from workers.workplace import Workplace


def seen(workplace: Workplace) -> dict[str, float]:
    with workplace.database.read() as session:
        return {row.id: row.last_seen_at for row in session.scalars(select(Worker))}


def test_a_worker_says_again_and_again_that_it_is_there_until_it_leaves(workplace: Workplace) -> None:
    presence = Presence(workplace.database, "me", queue="cpu", sandbox="landlock", every_seconds=0.05)
    presence.begin()
    first = seen(workplace)["me"]
    while seen(workplace)["me"] == first:
        time.sleep(0.02)
    presence.leave()
    assert "me" not in seen(workplace)


def test_a_worker_that_was_forgotten_meanwhile_signs_in_again(workplace: Workplace) -> None:
    presence = Presence(workplace.database, "me", queue="cpu", sandbox="landlock", every_seconds=0.05)
    presence.begin()
    with workplace.database.write() as session:
        session.execute(delete(Worker))
    while "me" not in seen(workplace):
        time.sleep(0.02)
    presence.leave()
