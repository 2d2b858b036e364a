"""Exit codes, and the one place where an error becomes one.

  0  done; also where no faster model was found, as that is an answer
  1  the job failed or was canceled, or the service failed
  2  wrong usage, or bad input
  3  no such job or file, or no right to it
  4  waited longer than --timeout; the job goes on
  5  no faster model was found, and --require-improvement was given
  6  no service answers
  7  `strop gate`: a line was crossed, or there was nothing to judge
130  Ctrl+C; a submitted job goes on
"""

from enum import IntEnum
from typing import Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from strop.cli.program import as_called
from strop.errors import InvalidRequest, NotFound, StropError, Unauthorized, Unreachable
from strop.progress import console


class Code(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMEOUT = 4
    NO_IMPROVEMENT = 5
    UNREACHABLE = 6
    CROSSED = 7
    INTERRUPTED = 130


#: The first class that an error is an instance of decides.
CODES: dict[type[Exception], Code] = {
    InvalidRequest: Code.USAGE,
    NotFound: Code.NOT_FOUND,
    Unauthorized: Code.NOT_FOUND,
    Unreachable: Code.UNREACHABLE,
    StropError: Code.FAILED,
    TimeoutError: Code.TIMEOUT,
    OSError: Code.USAGE,
}


class Commands(TyperGroup):
    """The commands, whose errors end in a sentence and a code instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output has gone, such as `head`
        except (StropError, OSError) as error:
            say_error(as_called(str(error)))
            code = next(code for kind, code in CODES.items() if isinstance(error, kind))
            raise typer.Exit(code) from error


def say(message: str) -> None:
    """Chatter, on standard error."""
    console().print(Text(message))


def say_error(message: str) -> None:
    console().print(Text.assemble(("Error: ", "bold red"), message))
