"""API keys: one of the configured keys as a bearer token, compared in constant time.

The key is asked for before the body is read, so that who has none learns nothing, not even that the JSON is wrong. What
is open to all is a list; everything else, also what does not exist, needs a key.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Sequence

from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import UNAUTHORIZED, ConfigurationError, Problem
from app.http import problems
from app.settings import Settings

#: For the contract only; `KeysOnly` checks.
scheme = HTTPBearer(auto_error=False, description="One of STROP_API_KEYS; not needed on loopback without keys.")


def configured(settings: Settings) -> list[str]:
    return [key.strip() for key in settings.api_keys.split(",") if key.strip()]


def check_exposure(settings: Settings) -> None:
    """Never listen to other machines without keys."""
    if not configured(settings) and not _is_loopback(settings.host):
        raise ConfigurationError(
            f"STROP_HOST={settings.host} is reachable from other machines, so it needs keys: "
            "set STROP_API_KEYS to one or more keys, separated by commas, or STROP_HOST=127.0.0.1."
        )


class KeysOnly:
    """Lets pass who shows one of the keys, and everybody to what is open to all."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], open_to_all: Collection[str]) -> None:
        self.app = app
        self.keys = keys
        self.open_to_all = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.open_to_all or self._is_known(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        headers = {"WWW-Authenticate": "Bearer"}
        problem = Problem(UNAUTHORIZED, "The API key is missing or wrong.", headers=headers)
        await problems.render(Request(scope), problem)(scope, receive, send)

    def _is_known(self, headers: Headers) -> bool:
        kind, shown = get_authorization_scheme_param(headers.get("authorization"))
        return kind.lower() == "bearer" and _is_one_of(shown, self.keys)


def _is_one_of(shown: str, keys: Sequence[str]) -> bool:
    digest = _digest(shown)
    return any([hmac.compare_digest(digest, _digest(key)) for key in keys])  # noqa: C419 - always compare all


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
