"""What doors ask for by type. Each is `async` because FastAPI sends a plain function to a thread, at every request."""

from typing import Annotated

from fastapi import Depends, Query, Request

from app.api.polls import Polls
from app.services import Services


async def services(request: Request) -> Services:
    return request.app.state.services


async def polls(request: Request) -> Polls:
    return request.app.state.polls


ServicesDep = Annotated[Services, Depends(services)]
PollsDep = Annotated[Polls, Depends(polls)]
Limit = Annotated[int, Query(ge=1, le=200, description="Rows of one page at most.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")]
