"""What the engine tells its supervisor: one JSON object per line, on a stream that nothing else can write to."""

import os
import threading
from collections.abc import Callable

from engine.errors import ModelRejected
from engine.protocol import MAX_LINE_BYTES, Event

Emit = Callable[[Event], None]


def claim_standard_output() -> Emit:
    """Keep standard output for events; what libraries print there from now on goes to standard error.

    Any thread may emit.
    """
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    one_at_a_time = threading.Lock()

    def emit(event: Event) -> None:
        line = event.model_dump_json().encode() + b"\n"
        if len(line) > MAX_LINE_BYTES:
            detail = f"What there is to say of it takes {len(line)} bytes; {MAX_LINE_BYTES} are allowed."
            raise ModelRejected("description_too_long", detail, "Give inputs, outputs and operators shorter names.")
        with one_at_a_time:
            stream.write(line)
            stream.flush()

    return emit
