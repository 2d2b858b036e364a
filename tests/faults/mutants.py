"""The same service with one protection taken out, to show that the tests would see its absence.

python -m tests.faults.mutants                  maintenance that never reminds: hints that were swallowed stay lost
celery -A tests.faults.mutants worker           a worker that publishes without naming its lease
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app import events
from app.database import JobState
from workers import settle
from workers.celery_app import app
from workers.maintenance import __main__ as maintenance

__all__ = ["app"]


def unfenced(
    session: Session,
    job_id: str,
    to: JobState,
    *,
    token: str,
    values: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> bool:
    """`app.events.transition` without the predicate that keeps stale workers out."""
    del token
    return events.transition(session, job_id, to, values=values, data=data)


settle.transition = unfenced
app.conf.update(include=["workers.tasks", __name__])  # or the slots, which are spawned, would not know of it
maintenance.remind = lambda _workplace, _sender: None

if __name__ == "__main__":
    maintenance.main()
