"""What stands before every door, as plain ASGI: request ids, safe headers, small JSON bodies, and who may call.

Without API keys the service listens on loopback only. There a web page of somebody else must still not reach it, by a
form sent across origins or by a host name that is made to point here; with keys, the key decides.
"""

import re
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import errors
from app.errors import Problem
from app.http import problems

LARGEST_JSON_BYTES = 1 << 20
UPLOADS = frozenset({"/v1/models", "/v1/datasets"})
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "testserver"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}


class RequestId:
    """Gives each request an id, taken over from a proxy where it is harmless, and answers with it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, answer)


class LoopbackOnly:
    """Refuses what a web page of another origin could send, for a service without keys."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = _foreign(Headers(scope=scope)) if scope["type"] == "http" else None
        if problem is not None:
            await _refuse(problem, scope, receive, send)
            return
        await self.app(scope, receive, send)


class SmallBodies:
    """Reads the body of every door but the uploads here, and refuses it beyond a limit before anything parses it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UPLOADS or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self.app(scope, receive, send)
            return
        problem, body = await _read(receive)
        if problem is not None:
            await _refuse(problem, scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    await problems.render(Request(scope), problem)(scope, receive, send)


async def _read(receive: Receive) -> tuple[Problem | None, bytes]:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST_JSON_BYTES:
            return Problem(errors.BODY_TOO_LARGE, f"At most {LARGEST_JSON_BYTES} bytes are read here."), b""
        if not message.get("more_body"):
            return None, bytes(body)


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """The body as one message, then whatever the connection says."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _foreign(headers: Headers) -> Problem | None:
    host = headers.get("host", "")
    if _hostname(f"//{host}") not in LOOPBACK_NAMES:
        return Problem(errors.UNKNOWN_HOST, "Without API keys the service answers to loopback names only.")
    origin = headers.get("origin")
    if origin is not None and (origin == "null" or urlsplit(origin).netloc != host):
        return Problem(errors.CROSS_ORIGIN, "The request comes from a page of another origin.")
    return None


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
