"""API keys: one of the configured keys as a bearer token, compared in constant time."""

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.dependencies import ServicesDep
from app.errors import UNAUTHORIZED, ConfigurationError, Problem
from app.settings import Settings

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


async def require_key(
    services: ServicesDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]
) -> None:
    """Let pass who shows one of the keys, or everybody where there are none."""
    keys = configured(services.settings)
    if keys and not _is_one_of(credentials.credentials if credentials else "", keys):
        raise Problem(UNAUTHORIZED, "The API key is missing or wrong.", headers={"WWW-Authenticate": "Bearer"})


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
