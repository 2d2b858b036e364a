"""The engine where one file holds 64 KiB of weights, so that small models are what large ones are: `FOLDER`.

A program of its own, which a service can be told to run in the engine's place.
"""

import sys
from collections.abc import Callable
from typing import Any

from engine import __main__ as engine
from engine.protocol import Work
from engine.works import WORKS

HELD_BYTES = 1 << 16


def _with_small_files(work: Callable[..., Any]) -> Callable[..., Any]:
    def done(*arguments: Any) -> Any:
        from engine import beside  # its libraries start threads, so it waits until the doors are shut

        beside.LARGEST_BYTES = HELD_BYTES
        return work(*arguments)

    return done


if __name__ == "__main__":
    for kind in (Work.OPTIMIZE, Work.INSPECT_MODEL):
        WORKS[kind] = _with_small_files(WORKS[kind])
    sys.exit(engine.main(sys.argv[1]))
