"""The one seam to the network: requests go out, answers come back, and what can be tried again is tried again.

A request is repeated when nothing was sent, or when sending it twice does no harm. For how long depends on what is
likely: a service that never answered is probably not running, one that has answered is probably restarting.
"""

import json
import logging
import random
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import httpx2

from strop.errors import Unreachable, error_for
from strop.models import Event, Problem

FIRST_PATIENCE_SECONDS = 2.0
ANSWER_SECONDS = 60.0
STREAM_SILENCE_SECONDS = 45.0  # the service sends a comment every 15
LONGEST_PAUSE_SECONDS = 5.0

log = logging.getLogger(__name__)

TRY_AGAIN = frozenset({429, 502, 503, 504})
NOTHING_WAS_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout)


class Backoff:
    """Growing pauses with jitter until patience runs out."""

    def __init__(self, patience_seconds: float) -> None:
        self._ends_at = time.monotonic() + patience_seconds
        self._tries = 0

    @property
    def is_fresh(self) -> bool:
        """Nothing has been tried again yet."""
        return self._tries == 0

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._ends_at - time.monotonic())

    def pause(self, at_least: float = 0.0) -> bool:
        """Sleep before the next try, or say that there shall be none."""
        seconds = max(at_least, min(LONGEST_PAUSE_SECONDS, 0.2 * 2**self._tries) * random.uniform(0.5, 1.0))
        if time.monotonic() + seconds > self._ends_at:
            return False
        self._tries += 1
        time.sleep(seconds)
        return True


class Transport:
    def __init__(self, url: str, api_key: str | None, user_agent: str, patience_seconds: float) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self._patience_seconds = patience_seconds
        headers = {"User-Agent": user_agent}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._client = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=5.0),
            trust_env=not _is_loopback(self.url),  # a proxy never reaches this machine's own loopback
        )
        self._reached = False

    def close(self) -> None:
        self._client.close()

    def get(
        self,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        return self._send(self._client.build_request("GET", path, params=params, headers=headers), repeatable=True)

    def delete(self, path: str) -> None:
        self._send(self._client.build_request("DELETE", path), repeatable=True)

    def post(
        self,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> httpx2.Response:
        return self._send(self._client.build_request("POST", path, json=body, headers=headers), repeatable=repeatable)

    def upload(
        self, path: str, content: Iterable[bytes], *, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> httpx2.Response:
        """Send a large body; not repeated once it has begun, as a second one would be another upload."""
        patient = httpx2.Timeout(10 * ANSWER_SECONDS, connect=5.0)
        request = self._client.build_request(
            "POST", path, content=content, params=params, headers=headers, timeout=patient
        )
        return self._send(request, repeatable=False)

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Generator[httpx2.Response]:
        """An answer whose body is read piece by piece; reading it may raise httpx2.TransportError."""
        response = self._send(self._client.build_request("GET", path, headers=headers), repeatable=True, stream=True)
        try:
            yield response
        finally:
            response.close()

    def events(self, path: str, after: int) -> Iterator[Event]:
        """Server-sent events with a sequence number above `after`, until the stream ends or breaks."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        silence = httpx2.Timeout(STREAM_SILENCE_SECONDS, connect=5.0)
        with self._client.sse(path, headers=headers, timeout=silence) as source:
            _check(source.response)
            if source.response.status_code == httpx2.codes.NO_CONTENT:
                return  # the story was told to its end
            for message in source:
                if message.data:  # else it only says how soon to come back
                    yield Event(int(message.id), message.event, json.loads(message.data))

    def backoff(self) -> Backoff:
        first = min(FIRST_PATIENCE_SECONDS, self._patience_seconds)
        return Backoff(self._patience_seconds if self._reached else first)

    def _send(self, request: httpx2.Request, *, repeatable: bool, stream: bool = False) -> httpx2.Response:
        backoff = self.backoff()
        while True:
            try:
                response = self._client.send(request, stream=stream)
            except httpx2.TransportError as error:
                may_repeat = repeatable or isinstance(error, NOTHING_WAS_SENT)
                if self._reached and may_repeat and backoff.is_fresh:
                    log.warning(
                        "no answer from %s (%s); trying again, up to %.0f s", self.url, _reason(error), backoff.left
                    )
                if not (may_repeat and backoff.pause()):
                    raise Unreachable(self.url, _reason(error)) from error
                continue
            self._reached = True
            again = repeatable and response.status_code in TRY_AGAIN
            if not (again and backoff.pause(_retry_after(response))):
                return _check(response)
            response.close()


def _check(response: httpx2.Response) -> httpx2.Response:
    """The answer, or the problem that it tells raised as an error."""
    if response.status_code < 400:
        return response
    response.read()
    response.close()
    raise error_for(_problem(response))


def _problem(response: httpx2.Response) -> Problem:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {"title": f"HTTP {response.status_code} {response.reason_phrase}", "detail": response.text[:200]}
    return Problem.parse({"status": response.status_code, **body})


def _retry_after(response: httpx2.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0


def _reason(error: httpx2.TransportError) -> str:
    return str(error) or type(error).__name__


def _is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
