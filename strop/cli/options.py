"""Options that several commands share, and what is checked before anything is sent."""

import math
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


def a_model(value: str) -> str:
    return _existing(value, "mdl_")


def a_dataset(value: str | None) -> str | None:
    return None if value is None else _existing(a_word(value) or "", "dat_")


def a_place(path: Path | None) -> Path | None:
    """Complain about the place for a result before hours are spent on it."""
    if path is not None and path.is_dir():
        raise typer.BadParameter(f"{path} is a folder, name a file")
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.absolute().parent}")
    return path


def a_word(value: str | None) -> str | None:
    """An option with nothing after it is a mistake, mostly an unset variable of the shell; it is not left out."""
    if value is not None and not value.strip():
        raise typer.BadParameter("it is empty (a shell variable that is not set?); give a value, or leave it out")
    return value


def some_steps(value: str | None) -> str | None:
    if value is not None and not all(name.strip() for name in value.split(",")):
        raise typer.BadParameter(
            f"{value!r} names no step in some place (a shell variable that is not set?); "
            "name steps as in simplify_graph,quantize_static, or leave it out"
        )
    return value and ",".join(name.strip() for name in value.split(","))


def a_number(value: float | None) -> float | None:
    """`nan` and `inf` are numbers to Python, and lie in every range; they are no answer to how much or how long."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def a_budget(minutes: float | None) -> float | None:
    if minutes is not None and minutes <= 0:
        raise typer.BadParameter(f"must be more than 0, not {minutes:g}")
    return a_number(minutes)


def _existing(value: str, prefix: str) -> str:
    if not value.startswith(prefix) and not Path(value).is_file():
        raise typer.BadParameter(f"there is no file {value}")
    return value


Url: TypeAlias = Annotated[str, typer.Option("--url", envvar="STROP_URL", help="Where the service answers.")]
ApiKey: TypeAlias = Annotated[
    str | None, typer.Option("--api-key", envvar="STROP_API_KEY", help="If the service asks for one.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")]
Timeout: TypeAlias = Annotated[
    float | None,
    typer.Option("--timeout", min=0, callback=a_number, help="Wait at most so many seconds; the job goes on."),
]
JobId: TypeAlias = Annotated[str, typer.Argument(metavar="JOB", help="Such as job_0123456789abcdef.")]
Model: TypeAlias = Annotated[
    str, typer.Argument(metavar="MODEL", callback=a_model, help="An ONNX file, or mdl_… uploaded before.")
]
Output: TypeAlias = Annotated[
    Path | None, typer.Option("--output", "-o", callback=a_place, help="Where the faster ONNX file goes.")
]
Html: TypeAlias = Annotated[
    Path | None, typer.Option("--html", callback=a_place, help="Where the report goes, as a page.")
]
