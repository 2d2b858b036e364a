"""A request body on its way into an `Intake`: raw, or as the field `file` of a form.

The event loop only gathers chunks; a thread hashes and writes one batch while the next one comes in. Memory stays at
two batches whatever the size of the file.
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from app import errors
from app.errors import Problem
from app.intake import Intake

BATCH_BYTES = 4 << 20


async def stream_into(intake: Intake, request: Request) -> str | None:
    """Write the whole body; the file name that a form gave."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(errors.UNSUPPORTED_ENCODING, "The body has a Content-Encoding.")
    if announced := request.headers.get("content-length"):
        await run_in_threadpool(intake.announce, int(announced))
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data":
        await _write(intake, request.stream())
        return None
    form = _FormFile(options.get(b"boundary"))
    await _write(intake, form.chunks(request.stream()))
    return form.name


async def _write(intake: Intake, chunks: AsyncIterator[bytes]) -> None:
    writing: asyncio.Task[None] | None = None
    batch: list[bytes] = []
    gathered = 0
    try:
        async for chunk in chunks:
            batch.append(chunk)
            gathered += len(chunk)
            if gathered >= BATCH_BYTES:
                if writing is not None:
                    await writing
                writing = asyncio.create_task(run_in_threadpool(intake.write, batch))
                batch, gathered = [], 0
    finally:
        if writing is not None:
            await writing
    await run_in_threadpool(intake.write, batch)


class _FormFile:
    """Picks the bytes of the one part called `file` out of a multipart body."""

    def __init__(self, boundary: bytes | None) -> None:
        if not boundary:
            raise Problem(errors.INVALID_MULTIPART, "The Content-Type names no boundary.")
        self.name: str | None = None
        self._found: list[bytes] = []
        self._taking = self._seen = self._complete = False
        self._header_name = self._header_value = b""
        self._disposition = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise Problem(errors.INVALID_MULTIPART, "The boundary is too long.") from error

    async def chunks(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in body:
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise Problem(errors.INVALID_MULTIPART, "The body is no well-formed multipart form.") from error
            found, self._found = self._found, []
            for chunk in found:
                yield chunk
        if not self._complete:
            raise Problem(errors.INVALID_MULTIPART, "The form ends before its last boundary.")
        if not self._seen:
            raise Problem(errors.INVALID_MULTIPART, "There is no field `file`.")

    def _begin_part(self) -> None:
        self._taking = False
        self._disposition = b""

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        _kind, options = parse_options_header(self._disposition)
        if options.get(b"name") != b"file":
            return
        if self._seen:
            raise Problem(errors.INVALID_MULTIPART, "There are several fields `file`.")
        self._taking = self._seen = True
        self.name = options.get(b"filename", b"").decode("utf-8", "replace")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._taking:
            self._found.append(data[start:end])

    def _end(self) -> None:
        self._complete = True
