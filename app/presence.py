"""Which workers are alive: one rewrites its row at every heartbeat, so a row gone quiet belongs to a dead one."""

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from app.database import Worker
from app.events import clock
from app.settings import Settings

LOST_AFTER_HEARTBEATS = 6


def is_alive(session: Session, settings: Settings) -> ColumnElement[bool]:
    """A condition on `workers`."""
    return Worker.last_seen_at > clock(session) - LOST_AFTER_HEARTBEATS * settings.heartbeat_seconds
