"""What clients were told, beside what the service has: the verdict after a fault test.

Each request is written down before it is sent and after it was answered, so that the comparison holds whatever died.
The audit joins that with the database, the storage, the attempt folders and the table of processes.
"""

import hashlib
import itertools
import json
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2
import psutil
from sqlalchemy import ColumnElement, exists, select

from app.database import FINAL, TRANSITIONS, Artifact, Job, JobEvent, JobState
from app.jobs import OPTIMIZE
from tests.faults.child import Act
from tests.faults.cluster import Cluster, until
from tests.faults.standin import MODEL, request

RETRY_SECONDS = 0.2


@dataclass
class Audit:
    """All of it empty is what is promised."""

    lost: list[str] = field(default_factory=list)  #: accepted, and not in a final state
    doubled: list[str] = field(default_factory=list)  #: ended or published more than once
    ghosts: list[str] = field(default_factory=list)  #: jobs that no request asked for
    illegal: list[str] = field(default_factory=list)  #: edges that do not exist, gaps in the story
    damaged: list[str] = field(default_factory=list)  #: published bytes without their digest
    leftovers: list[str] = field(default_factory=list)  #: leases, folders and processes of attempts

    @property
    def clean(self) -> bool:
        return self == Audit()


@dataclass
class Story:
    job: Job
    events: list[JobEvent]
    artifacts: list[Artifact]

    @property
    def states(self) -> list[str]:
        return [event.data["state"] for event in self.events if event.type == "state"]

    @property
    def executions(self) -> int:
        return self.states.count(JobState.RUNNING)


class Ledger:
    """Submits jobs the way a careful client does, and audits what became of them."""

    content = MODEL  #: of the model that is uploaded

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.accepted: dict[str, str] = {}  #: idempotency key → job
        self.statuses: Counter[int] = Counter()
        self._http = httpx2.Client(timeout=60, verify=False)
        self.model = self.upload("models", self.content)
        with cluster.workplace.database.read() as session:
            self._before = list(session.scalars(select(Job.id)))
        self._file = (cluster.folder / "ledger.jsonl").open("a")
        self._lock = threading.Lock()

    def body(self, act: Act, seconds: float) -> dict[str, Any]:
        """What is asked for."""
        return request(self.model, act, seconds=seconds)

    def send(self, key: str, act: Act = Act.SUCCEED, *, api: int = 0, seconds: float = 0) -> str | None:
        """One POST. The job's id, or None where no answer or no 202 came."""
        body = self.body(act, seconds)
        self._write(event="sent", key=key, api=api)
        try:
            url = f"{self.cluster.urls[api]}/v1/jobs"
            answer = self._http.post(url, json=body, headers={"Idempotency-Key": key})
        except httpx2.HTTPError as error:
            self._write(event="unanswered", key=key, error=type(error).__name__)
            return None
        job_id = answer.json()["id"] if answer.status_code == 202 else None
        self._write(event="answered", key=key, status=answer.status_code, job=job_id)
        self.statuses[answer.status_code] += 1
        if job_id:
            self.accepted[key] = job_id
        return job_id

    def submit(self, act: Act = Act.SUCCEED, *, seconds: float = 0, apis: tuple[int, ...] = (0,)) -> str:
        """Send until it is accepted, to one replica after another, always with the same key."""
        key, deadline = uuid.uuid4().hex, time.monotonic() + 60
        while time.monotonic() < deadline:
            for api in apis:
                if job_id := self.send(key, act, api=api, seconds=seconds):
                    return job_id
            time.sleep(RETRY_SECONDS)
        raise TimeoutError("no replica accepted the job within a minute")

    def get(self, job_id: str, api: int = 0) -> dict[str, Any]:
        answer = self._http.get(f"{self.cluster.urls[api]}/v1/jobs/{job_id}")
        self.statuses[answer.status_code] += 1
        return answer.json()

    def cancel(self, job_id: str, api: int = 0) -> int:
        status = self._http.post(f"{self.cluster.urls[api]}/v1/jobs/{job_id}/cancel").status_code
        self.statuses[status] += 1
        return status

    def wait(self, seconds: float = 60) -> float:
        """Until nothing is left to do; how long that took."""
        return until(lambda: not self._are_open(*self._of_this_test), "all jobs have ended", seconds)

    def is_over(self, job_id: str) -> bool:
        return not self._are_open(Job.id == job_id)

    def story(self, job_id: str) -> Story:
        return next(story for story in self._stories(Job.id == job_id))

    def stories(self) -> list[Story]:
        return self._mine()

    def audit(self) -> Audit:
        """Call it when nothing is left to do."""
        stories = self._mine()
        found = Audit(lost=[job for job in self.accepted.values() if job not in {s.job.id for s in stories}])
        for story in stories:
            self._judge(story, found)
        found.ghosts = sorted({s.job.id for s in stories} - set(self.accepted.values()))
        until(lambda: not self._leftovers(), "nothing of an attempt is left", 10) if self._leftovers() else None
        found.leftovers += self._leftovers()
        return found

    def close(self) -> None:
        self._file.close()
        self._http.close()

    def _judge(self, story: Story, found: Audit) -> None:
        job_id, states = story.job.id, story.states
        if story.job.state not in FINAL:
            found.lost.append(job_id)
        ends = [state for state in states if state in FINAL]
        if len(ends) > 1 or len({artifact.attempt for artifact in story.artifacts}) > 1:
            found.doubled.append(job_id)
        if story.job.state == JobState.SUCCEEDED and not story.artifacts:
            found.lost.append(job_id)
        if not _is_legal(story):
            found.illegal.append(f"{job_id}: {states}")
        found.damaged += [artifact.name for artifact in story.artifacts if not self._is_intact(artifact)]
        if story.job.lease_token is not None:
            found.leftovers.append(f"a lease of {job_id}")

    def _is_intact(self, artifact: Artifact) -> bool:
        sha256 = hashlib.sha256()
        for chunk in self.cluster.workplace.storage.open(artifact.sha256):
            sha256.update(chunk)
        return sha256.hexdigest() == artifact.sha256

    def _leftovers(self) -> list[str]:
        attempts = self.cluster.workplace.attempts
        folders = [f"folder {path.name}" for path in attempts.iterdir()]
        return folders + [f"process {process.pid}" for process in processes_of(self.cluster)]

    def _mine(self) -> list[Story]:
        return self._stories(*self._of_this_test)

    @property
    def _of_this_test(self) -> tuple[ColumnElement[bool], ...]:
        return Job.work == OPTIMIZE, Job.id.not_in(self._before)

    def _are_open(self, *wanted: ColumnElement[bool]) -> bool:
        """Whether any of these jobs has not ended; asked many times a second."""
        unfinished = exists().where(*wanted, Job.state.not_in(FINAL))
        with self.cluster.workplace.database.read() as session:
            return bool(session.scalar(select(unfinished)))

    def _stories(self, *wanted: ColumnElement[bool]) -> list[Story]:
        with self.cluster.workplace.database.read() as session:
            jobs = {job.id: Story(job, [], []) for job in session.scalars(select(Job).where(*wanted))}
            told = select(JobEvent).where(JobEvent.job_id.in_(list(jobs))).order_by(JobEvent.job_id, JobEvent.seq)
            for event in session.scalars(told):
                jobs[event.job_id].events.append(event)
            for artifact in session.scalars(select(Artifact).where(Artifact.job_id.in_(list(jobs)))):
                jobs[artifact.job_id].artifacts.append(artifact)
        return list(jobs.values())

    def upload(self, door: str, content: bytes) -> str:
        """The id of a file, once it was looked at."""
        url = f"{self.cluster.urls[-1]}/v1/{door}"
        body = self._http.post(f"{url}?name=m", content=content, headers={"Prefer": "wait=30"}).json()
        until(lambda: self._http.get(f"{url}/{body['id']}").json()["state"] != "inspecting", "it was looked at")
        body = self._http.get(f"{url}/{body['id']}").json()
        assert body.get("state") == "ready", body
        return body["id"]

    def _write(self, **line: object) -> None:
        with self._lock:
            self._file.write(json.dumps({"at": time.time(), **line}) + "\n")
            self._file.flush()


def processes_of(cluster: Cluster) -> list[psutil.Process]:
    """Children of attempts, wherever they went: their command line names the attempt's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(cluster.home / "attempts") in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.is_running()]


def _is_legal(story: Story) -> bool:
    states = [JobState(state) for state in story.states]
    edges = all(after in TRANSITIONS[before] for before, after in itertools.pairwise(states))
    gapless = [event.seq for event in story.events] == list(range(1, len(story.events) + 1))
    return edges and gapless and states[0] is JobState.QUEUED and states[-1] == story.job.state
