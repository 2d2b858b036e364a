"""Where the service found a fault, in the words of who typed the command: `--minutes` instead of `/budget/minutes`."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from strop.errors import InvalidRequest

#: What makes each part of a request, whether there is a recipe or not …
FILES = {
    "/model": "MODEL",
    "/data/calibration": "--data",
    "/data/evaluation": "--evaluation",
    "/data/labels": "--labels",
    "/name": "--name",
}
#: … and where there is none.
WISHES = {
    "/goal": "--goal",
    "/steps": "--steps",
    "/limits/accuracy_drop": "--max-drop",
    "/budget/minutes": "--minutes",
    "/target/threads": "--threads",
    "/target/batch_size": "--batch-size",
    "/metric": "--metric",
    "/seed": "--seed",
}


@contextmanager
def named_by_options(recipe: Path | None = None) -> Generator[None]:
    """A refused request names its faults by the options that made them; those of a recipe, by their places in it."""
    options = FILES if recipe else FILES | WISHES
    try:
        yield
    except InvalidRequest as error:
        errors = [_named(fault, options, recipe) for fault in error.problem.errors]
        raise type(error)(replace(error.problem, errors=errors)) from error


def _named(fault: Mapping[str, str], options: Mapping[str, str], recipe: Path | None) -> dict[str, str]:
    pointer = fault.get("pointer", "")
    for place, option in options.items():
        if pointer == place or pointer.startswith(place + "/"):
            return {"parameter": option, "detail": fault["detail"]}
    return dict(fault) | ({"pointer": f"{recipe} {pointer}".rstrip()} if recipe else {})
