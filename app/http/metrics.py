"""Figures for Prometheus: request durations counted here, everything about jobs read from the database.

Labels are route templates and states, never ids or names, so the number of series is bounded.
"""

import shutil
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.database import Database, Job, JobState, Outbox
from app.events import clock
from app.services import Services

FRESH_SECONDS = 5.0
METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})


class Metrics:
    """One registry per app, so that several apps may live in one process."""

    def __init__(self, services: Services) -> None:
        self.registry = CollectorRegistry()
        self.duration = Histogram(
            "http_request_duration_seconds",
            "Time to answer a request, streams to their end.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.registry.register(_Store(services))


class MeasureRequests:
    """Observes how long each request took, by its route's template."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.duration.labels(method, route, str(status)).observe(time.perf_counter() - began)


class _Store(Collector):
    """What the database and the disk say now; asked at most every few seconds."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._read_at = float("-inf")
        self._families: list[Metric] = []

    def collect(self) -> Iterator[Metric]:
        if time.monotonic() - self._read_at > FRESH_SECONDS:
            self._families = self._read()
            self._read_at = time.monotonic()
        yield from self._families

    def describe(self) -> list[Metric]:
        return []

    def _read(self) -> list[Metric]:
        free = shutil.disk_usage(self._services.settings.home).free
        disk = GaugeMetricFamily("strop_storage_free_bytes", "Free space where the home folder lies.", value=free)
        try:
            return [disk, *_job_figures(self._services.database)]
        except SQLAlchemyError:
            return [disk]


def _job_figures(database: Database) -> list[Metric]:
    with database.read() as session:
        now = clock(session)
        counts = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
        waiting = session.scalar(select(now - func.min(Job.created_at)).where(Job.state == JobState.QUEUED))
        unsent = session.scalar(select(now - func.min(Outbox.created_at)))
    jobs = GaugeMetricFamily("strop_jobs", "Jobs by state, inspections included.", labels=["state"])
    for state in JobState:
        jobs.add_metric([state.value], counts.get(state.value, 0))
    return [
        jobs,
        GaugeMetricFamily("strop_oldest_queued_seconds", "How long the oldest queued job has waited.", waiting or 0),
        GaugeMetricFamily("strop_outbox_oldest_seconds", "Age of the oldest hint not yet sent.", unsent or 0),
    ]
