"""Pages that stay right while rows come and go: newest first, continued after a row and never by a number.

The cursor is opaque to clients: the `created_at` and `id` of the last row shown.
"""

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from app.database import File, Job
from app.errors import INVALID_CURSOR, Problem
from app.ids import is_id

Row = TypeVar("Row", File, Job)


@dataclass(frozen=True)
class Page(Generic[Row]):
    items: list[Row]
    next_cursor: str | None


def fetch(session: Session, rows: Select[Row], table: type[Row], *, limit: int, cursor: str | None) -> Page[Row]:
    """One page of these rows; `next_cursor` is null on the last."""
    place = tuple_(table.created_at, table.id)
    if cursor:
        rows = rows.where(place < tuple_(*_decode(cursor)))
    found = list(session.scalars(rows.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)))
    shown = found[:limit]
    return Page(shown, _encode(shown[-1]) if len(found) > limit else None)


def _encode(row: File | Job) -> str:
    return base64.urlsafe_b64encode(json.dumps([row.created_at, row.id]).encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[float, str]:
    try:
        created_at, row_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(created_at, float) and math.isfinite(created_at) and isinstance(row_id, str) and is_id(row_id):
            return created_at, row_id
    except (binascii.Error, ValueError, TypeError, RecursionError):
        pass
    raise Problem(INVALID_CURSOR, "The cursor could not be read.")
