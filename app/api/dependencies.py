"""What doors ask for by type."""

from typing import Annotated

from fastapi import Depends, Query, Request

from app.services import Services


def services(request: Request) -> Services:
    return request.app.state.services


ServicesDep = Annotated[Services, Depends(services)]
Limit = Annotated[int, Query(ge=1, le=200, description="Rows of one page at most.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")]
