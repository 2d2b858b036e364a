"""How this program is called here, so that a command in a hint can be typed as it is printed."""

import shlex
import shutil
import sys
from pathlib import Path


def called(typed: str | None = None) -> str:
    """`strop` where the shell finds this very program by that name, else as it was called just now."""
    typed = sys.argv[0] if typed is None else typed
    if Path(typed).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m strop"
    found = shutil.which("strop")
    is_found = found is not None and Path(typed).exists() and Path(found).samefile(typed)
    return "strop" if is_found else shlex.quote(typed)


def as_called(words: str) -> str:
    """With the commands that it names, such as `strop serve`, as they can be typed here."""
    return words.replace("`strop ", f"`{called()} ")
