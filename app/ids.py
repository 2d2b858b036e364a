"""Ids of rows: a prefix that says what it is, and 80 random bits."""

import re
import uuid

_FORM = re.compile(r"[a-z]{3}_[0-9a-z]{1,40}")


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:20]}"


def is_id(text: str) -> bool:
    """Whether this could be one of ours; anything else never reaches the database."""
    return _FORM.fullmatch(text) is not None
