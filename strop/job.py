"""One optimization: watch it, wait for it, stop it, take what it found."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from strop.download import download, unpacked
from strop.errors import JobCanceled, JobFailed, Unreachable
from strop.models import FINAL, Event, JobBody, JobState, Problem
from strop.report import Report
from strop.transport import Backoff, Transport
from strop.upload import Progress

POLL_SECONDS = 30.0
SHORTEST_POLL_SECONDS = 0.2
HELD_SECONDS = 10.0  # longer than a vain try to connect: the connection was a good one, and its break is a new one


class Job:
    """A job as it stood when the service was last asked; `refresh`, `wait` and `events` ask again."""

    def __init__(self, transport: Transport, body: JobBody, etag: str = "") -> None:
        self._transport = transport
        self._door = f"/v1/jobs/{body.id}"
        self._etag = etag  # of the body, so that the service can tell what is news to us
        self.body = body

    @classmethod
    def of(cls, transport: Transport, answer: httpx2.Response) -> "Job":
        return cls(transport, JobBody.parse(answer.json()), answer.headers.get("ETag", ""))

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state} {self.progress:.0%} {self.stage or ''}>".replace(" >", ">")

    @property
    def id(self) -> str:
        return self.body.id

    @property
    def name(self) -> str | None:
        return self.body.name

    @property
    def state(self) -> JobState:
        return JobState(self.body.state)

    @property
    def stage(self) -> str | None:
        """What it does now, in one stable word."""
        return self.body.stage

    @property
    def progress(self) -> float:
        """Share that is done, 0 to 1."""
        return 1.0 if self.succeeded else self.body.progress or 0.0

    @property
    def eta_seconds(self) -> float | None:
        return self.body.eta_seconds

    @property
    def trials(self) -> list[dict[str, Any]]:
        """What was tried so far, each with its figures."""
        return self.body.trials or []

    @property
    def is_final(self) -> bool:
        return self.body.state in FINAL

    @property
    def succeeded(self) -> bool:
        return self.state == JobState.SUCCEEDED

    @property
    def error(self) -> Problem | None:
        return None if self.body.error is None else Problem.parse(self.body.error)

    def refresh(self) -> "Job":
        self._read(self._transport.get(self._door))
        return self

    def wait(self, timeout: float | None = None) -> "Job":
        """Until the job has ended, however it ended. TimeoutError is this client's own; the job goes on."""
        for _ in self.changes(timeout):
            pass
        return self

    def changes(self, timeout: float | None = None) -> Iterator["Job"]:
        """This job as it is now, and again whenever it has changed, until it has ended."""
        ends_at = math.inf if timeout is None else time.monotonic() + timeout
        yield self
        while not self.is_final:
            left = ends_at - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self.id} is {self.state} after {timeout:g} s of waiting; it goes on")
            self._poll(math.ceil(min(POLL_SECONDS, left)))
            yield self

    def _poll(self, seconds: int) -> None:
        """Ask once; the service answers at the next change."""
        asked_at = time.monotonic()
        headers = {"Prefer": f"wait={seconds}", "If-None-Match": self._etag} if self._etag else {}
        self._read(self._transport.get(self._door, headers=headers))
        if not self.is_final:
            time.sleep(max(0.0, SHORTEST_POLL_SECONDS - (time.monotonic() - asked_at)))

    def _read(self, answer: httpx2.Response) -> None:
        if answer.status_code != httpx2.codes.NOT_MODIFIED:
            self.body = JobBody.parse(answer.json())
            self._etag = answer.headers.get("ETag", "")

    def result(self, timeout: float | None = None) -> Report:
        """Wait, then the report; raises JobFailed or JobCanceled where the job did not succeed."""
        self.wait(timeout)
        self.raise_for_state()
        return self.report()

    def raise_for_state(self) -> None:
        if self.state == JobState.CANCELED:
            raise JobCanceled(self.id, self.error or Problem(title="The job was canceled", code="canceled"))
        if self.state == JobState.FAILED:
            raise JobFailed(self.id, self.error or Problem())

    def events(self, after: int = 0) -> Iterator[Event]:
        """The story of the job, from its beginning or after an event, to its end; broken connections are mended."""
        backoff: Backoff | None = None
        while True:
            had_ended, began_at = self.is_final, time.monotonic()
            try:
                for event in self._transport.events(f"{self._door}/events", after):
                    after, backoff = event.seq, None
                    yield event
                    if event.is_final:
                        self.refresh()
                        return
                if had_ended:
                    return  # the service had nothing more to tell
            except httpx2.TransportError:
                pass  # taken up again below, as when the service ends the stream because it restarts
            had_held = time.monotonic() - began_at > HELD_SECONDS
            backoff = self._paused(None if had_held else backoff)
            self.refresh()

    def _paused(self, backoff: Backoff | None) -> Backoff:
        """Wait after a break; patience begins at the first one, however long no event came before it."""
        backoff = backoff or self._transport.backoff()
        if not backoff.pause():
            raise Unreachable(self._transport.url, "the stream of events broke off")
        return backoff

    def cancel(self) -> "Job":
        """Ask the job to stop; it may take some seconds, and keeps the best it has found."""
        self._read(self._transport.post(f"{self._door}/cancel", repeatable=True))
        return self

    def delete(self) -> None:
        """Forget an ended job and its files."""
        self._transport.delete(self._door)

    def report(self) -> Report:
        def fetch(media_type: str) -> bytes:
            return self._transport.get(f"{self._door}/report", headers={"Accept": media_type}).content

        answer = self._transport.get(f"{self._door}/report", headers={"Accept": "application/json"})
        return Report(answer.json(), fetch)

    def candidates(self) -> list[dict[str, Any]]:
        """The files that no other beats in both speed and accuracy."""
        return self._transport.get(f"{self._door}/candidates").json()["items"]

    def download_model(self, path: str | Path, on_progress: Progress | None = None) -> Path:
        """The best ONNX file, its digest verified; the original where nothing was better.

        Where a model is larger than 2 GiB, its weights are put beside it; a path that ends in .zip gets both in one.
        """
        return unpacked(download(self._transport, f"{self._door}/model", Path(path), on_progress))

    def download_candidate(self, trial: str, path: str | Path, on_progress: Progress | None = None) -> Path:
        """Another file that was found, as `download_model` has it."""
        return unpacked(download(self._transport, f"{self._door}/candidates/{trial}", Path(path), on_progress))

    def download_bundle(self, path: str | Path, on_progress: Progress | None = None) -> Path:
        """A zip of all: model, candidates, report."""
        return download(self._transport, f"{self._door}/bundle", Path(path), on_progress)
