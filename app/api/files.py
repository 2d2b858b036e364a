"""Models and data sets: the same doors twice, since a file is a file."""

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from app import sniff
from app.api.bodies import FileBody, FileKind, FilePage
from app.api.dependencies import Cursor, Limit, ServicesDep
from app.database import File
from app.errors import DIGEST_MISMATCH, Problem
from app.http import download, headers
from app.http.download import Download
from app.http.problems import documented
from app.http.upload import stream_into
from app.intake import receive
from app.services import Services

REFUSE = {FileKind.MODEL: sniff.refuse_model, FileKind.DATASET: sniff.refuse_dataset}
SUFFIX = {FileKind.MODEL: ".onnx", FileKind.DATASET: ".npz"}
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            },
        },
    }
}
UPLOAD_PROBLEMS = documented(400, 413, 415, 422, 507)
Name = Annotated[str, Query(max_length=255, description="A name for people.")]
DIGEST = "`sha-256=:BASE64:`; the upload is refused if it differs."


class UploadHeaders(BaseModel):
    repr_digest: str | None = Field(None, description=DIGEST)
    content_digest: str | None = Field(None, description=DIGEST)
    prefer: str | None = Field(
        None, description="`wait=N`: answer once the file is inspected, after N seconds at most."
    )


async def receive_file(request: Request, services: Services, kind: FileKind, name: str, expected: str | None) -> File:
    """Take one file in: staged, sniffed, verified, stored and registered."""
    settings = services.settings
    limits = {"max_bytes": settings.max_upload_bytes, "min_free_bytes": settings.min_free_bytes}
    with receive(services.staging, refuse=REFUSE[kind], **limits) as intake:
        form_name = await stream_into(intake, request)
        sha256 = await run_in_threadpool(intake.finish)
        if expected not in {None, sha256}:
            raise Problem(DIGEST_MISMATCH, f"The SHA-256 of the received bytes is {sha256}.")
        shown = headers.clean_name(name or form_name or "") or kind.value
        return await run_in_threadpool(services.files.register, intake.path, sha256, kind=kind.value, name=shown)


async def inspected(services: Services, file_id: str, seconds: float) -> None:
    """Return once the file's inspection has ended, or after that time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        running = await run_in_threadpool(services.files.inspection, file_id)
        if running is None or not await services.watcher.changed(*running, left):
            return


def doors(kind: FileKind) -> APIRouter:
    """The doors of one kind of file."""
    plural = f"{kind}s"
    router = APIRouter(prefix=f"/v1/{plural}", tags=[plural], responses=documented(401))

    @router.post("", status_code=201, operation_id=f"upload_{kind}", openapi_extra=UPLOAD, responses=UPLOAD_PROBLEMS)
    async def upload(
        request: Request,
        services: ServicesDep,
        response: Response,
        sent: Annotated[UploadHeaders, Header()],
        name: Name = "",
    ) -> FileBody:
        """Send a file, as the raw body or as the form field `file`; it is inspected at once."""
        expected = headers.expected_sha256(sent.repr_digest, sent.content_digest)
        file = await receive_file(request, services, kind, name, expected)
        response.headers["Location"] = f"/v1/{plural}/{file.id}"
        return await _settled(services, file.id, kind, response, sent.prefer)

    @router.get("", operation_id=f"list_{plural}", responses=documented(422))
    def page(services: ServicesDep, limit: Limit = 50, cursor: Cursor = None) -> FilePage:
        """What was uploaded, newest first."""
        found = services.files.page(kind, limit=limit, cursor=cursor)
        return FilePage(items=[FileBody.of(file) for file in found.items], next_cursor=found.next_cursor)

    @router.get("/{file_id}", operation_id=f"get_{kind}", responses=documented(404))
    async def get(file_id: str, services: ServicesDep, response: Response, prefer: headers.Prefer = None) -> FileBody:
        """One file: its state and what inspection found."""
        return await _settled(services, file_id, kind, response, prefer)

    @router.head("/{file_id}/content", include_in_schema=False)
    @router.get(
        "/{file_id}/content",
        operation_id=f"download_{kind}",
        response_class=StreamingResponse,
        responses={**documented(404, 416), **download.documented("application/octet-stream")},
    )
    def content(file_id: str, request: Request, services: ServicesDep) -> Response:
        """The file as it was uploaded."""
        file = services.files.get(file_id, kind)
        name = file.name if "." in file.name else file.name + SUFFIX[kind]
        found = Download(file.sha256, file.blob.size_bytes, "application/octet-stream", name)
        return download.respond(request, partial(services.storage.open, found.sha256), found)

    @router.delete("/{file_id}", status_code=204, operation_id=f"delete_{kind}", responses=documented(404, 409))
    def delete(file_id: str, services: ServicesDep) -> None:
        """Forget a file that no unfinished job reads."""
        services.files.delete(file_id, kind)

    return router


async def _settled(
    services: Services, file_id: str, kind: FileKind, response: Response, prefer: str | None
) -> FileBody:
    if seconds := headers.wait_seconds(prefer):
        response.headers["Preference-Applied"] = f"wait={seconds}"
        await inspected(services, file_id, seconds)
    return FileBody.of(await run_in_threadpool(services.files.get, file_id, kind))
