"""Bytes as a response: whole or one range, verifiable, and never interpreted by a browser.

The entity tag is the content's SHA-256, so a resumed download can ask with If-Range and is sure to get the same file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.errors import RANGE_NOT_SATISFIABLE, Problem
from app.http import headers

_ONE_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Content(Protocol):
    """The bytes, from an offset on, as many as wanted or all."""

    def __call__(self, offset: int = 0, length: int | None = None, /) -> Iterator[bytes]: ...


@dataclass(frozen=True)
class Download:
    """What is sent, and how it is called."""

    sha256: str
    size: int
    media_type: str
    name: str
    inline: bool = False  #: shown by a browser instead of saved


def documented(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The answers with bytes, for a door's `responses`."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}
    return {
        200: {"description": "The whole file", "content": content},
        206: {"description": "The range asked for", "content": content},
        304: {"description": "The client has it already"},
    }


def respond(request: Request, content: Content, download: Download) -> Response:
    """200 with everything, 206 with a range, 304 where the client has it, 416 where the range lies outside."""
    tag = f'"{download.sha256}"'
    fixed = _fixed_headers(download, tag)
    if headers.matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=fixed)
    if request.method == "HEAD":  # opens nothing
        return Response(None, 200, {**fixed, "Content-Length": str(download.size)}, download.media_type)
    wanted = _wanted_range(request, tag, download.size)
    if wanted is None:
        fixed["Content-Length"] = str(download.size)
        return StreamingResponse(content(), 200, fixed, download.media_type)
    first, last = wanted
    fixed["Content-Length"] = str(last - first + 1)
    fixed["Content-Range"] = f"bytes {first}-{last}/{download.size}"
    return StreamingResponse(content(first, last - first + 1), 206, fixed, download.media_type)


def _fixed_headers(download: Download, tag: str) -> dict[str, str]:
    disposition = {} if download.inline else {"Content-Disposition": headers.content_disposition(download.name)}
    return {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Repr-Digest": headers.representation_digest(download.sha256),
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": SANDBOX,
        **disposition,
    }


def _wanted_range(request: Request, tag: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a single satisfiable range; None for all. Several ranges, or nonsense, mean all."""
    found = _ONE_RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or found.groups() == ("", ""):
        return None
    if request.headers.get("if-range", tag) != tag:
        return None
    start, end = found.groups()
    first = int(start) if start else max(size - int(end), 0)
    last = min(int(end), size - 1) if start and end else size - 1
    if start and end and int(end) < int(start):
        return None
    if first >= size:
        raise Problem(
            RANGE_NOT_SATISFIABLE, f"The file has {size} bytes.", headers={"Content-Range": f"bytes */{size}"}
        )
    return first, last
