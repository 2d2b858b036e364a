"""A job as its pollers see it: a version that was rendered once is not rendered again.

Most polls find nothing new. They cost one query for the job's version; what belongs to that version lies here.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from app.api.bodies import JobBody
from app.database import FINAL
from app.jobs import Jobs, JobView

MOST_KEPT = 256


@dataclass(frozen=True)
class Look:
    """One version of a job."""

    version: int
    is_final: bool
    tag: str
    body: bytes

    @classmethod
    def of(cls, view: JobView) -> "Look":
        job = view.job
        body = JobBody.of(view).model_dump_json().encode()
        return cls(job.version, job.state in FINAL, tag(job.id, job.version), body)


class Polls:
    """The looks taken last, of all jobs; safe for threads."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._looks: OrderedDict[str, Look] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, job_id: str) -> Look:
        """The job as it is now."""
        version = self._jobs.version(job_id)
        with self._lock:
            kept = self._looks.get(job_id)
        return kept if kept is not None and kept.version == version else self._keep(self._jobs.view(job_id))

    def _keep(self, view: JobView) -> Look:
        look = Look.of(view)
        with self._lock:
            self._looks[view.job.id] = look
            self._looks.move_to_end(view.job.id)
            while len(self._looks) > MOST_KEPT:
                self._looks.popitem(last=False)
        return look


def tag(job_id: str, version: int) -> str:
    """A weak entity tag: it says whether there is news, not how the JSON is spelled."""
    return f'W/"{job_id}.{version}"'
