"""Headers that carry meaning: digests, preferences, entity tags, names of downloads, accepted media types."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

from fastapi import Header

from app.errors import INVALID_HEADER, Problem

LONGEST_WAIT_SECONDS = 60
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_SHA256 = re.compile(r"(?:^|,)\s*sha-256\s*=\s*:([A-Za-z0-9+/=]*):", re.IGNORECASE)
_KEY = re.compile(r'"([\x21\x23-\x5b\x5d-\x7e ]{1,255})"|([\x21\x23-\x5b\x5d-\x7e]{1,255})')

Prefer = Annotated[
    str | None,
    Header(description="`wait=N`: answer after at most N seconds (60 at most), earlier if there is news."),
]
IfNoneMatch = Annotated[str | None, Header(description="Entity tags; 304 if one is still right.")]


def wait_seconds(prefer: str | None) -> int:
    """Seconds that `Prefer: wait=N` asks for, capped; 0 without it."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT_SECONDS) if found else 0


def idempotency_key(value: str | None) -> str | None:
    """The key, as a quoted structured string or bare."""
    if value is None:
        return None
    found = _KEY.fullmatch(value.strip())
    if found is None:
        raise Problem(INVALID_HEADER, "Idempotency-Key holds 1 to 255 printable ASCII characters.")
    return found[1] or found[2]


def expected_sha256(*digests: str | None) -> str | None:
    """The SHA-256 that Repr-Digest or Content-Digest announces, in hexadecimal; other algorithms are ignored."""
    for value in digests:
        found = _SHA256.search(value or "")
        if found is None:
            continue
        try:
            digest = base64.b64decode(found[1], validate=True)
        except binascii.Error as error:
            raise Problem(INVALID_HEADER, "The sha-256 digest is not Base64.") from error
        if len(digest) != 32:
            raise Problem(INVALID_HEADER, "A sha-256 digest has 32 bytes.")
        return digest.hex()
    return None


def representation_digest(sha256: str) -> str:
    """RFC 9530, for a response."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def content_disposition(name: str) -> str:
    """An attachment with this name, whatever characters it holds (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def matches(if_none_match: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names this entity tag; weakly compared, as RFC 9110 asks."""
    listed = [part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")]
    return "*" in listed or tag.removeprefix("W/") in listed


def clean_name(name: str) -> str:
    """A name for people: no control characters, no folders, at most 255 characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(character for character in last if character.isprintable()).strip()[:255]


def preferred(accept: str | None, offered: Sequence[str]) -> str | None:
    """The offered media type that Accept prefers (RFC 9110, 12.5.1), the first of equals; None where none is wanted."""
    ranges = [_range(part) for part in (accept or "*/*").split(",") if part.strip()]
    qualities = {form: _quality(form, ranges) for form in offered}
    best = max(offered, key=lambda form: qualities[form])
    return best if qualities[best] > 0 else None


def _range(part: str) -> tuple[str, float]:
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((piece.removeprefix("q=") for piece in parameters if piece.startswith("q=")), "1")
    try:
        return media_range, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return media_range, 0.0


def _quality(form: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that covers this form."""
    for covering in (form, form.partition("/")[0] + "/*", "*/*"):
        named = [quality for media_range, quality in ranges if media_range == covering]
        if named:
            return max(named)
    return 0.0
