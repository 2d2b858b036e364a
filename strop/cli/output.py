"""Results on standard output, chatter on standard error."""

import json
import shlex
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from strop.cli.exits import Code, say
from strop.cli.program import called
from strop.errors import Unreachable
from strop.job import Job
from strop.models import FileBody
from strop.progress import printable, transfer
from strop.report import Report


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_job(job: Job, *, as_json: bool) -> None:
    """Its id, for the next command."""
    if as_json:
        print_json({"job": asdict(job.body)})
    else:
        typer.echo(job.id)


def print_report(job: Job, report: Report, *, as_json: bool, quiet: bool = False) -> None:
    if as_json:
        print_json({"job": asdict(job.body), "report": dict(report)})
    elif quiet:
        typer.echo(job.id)
    else:
        typer.echo(report.text)


def print_table(rows: Iterable[Sequence[object]], *headings: str) -> None:
    """Columns without a frame, one line a row, for eyes and for `awk`."""
    cells = [
        ["" if cell is None else printable(cell) for cell in row] for row in ([headings] if headings else []) + [*rows]
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def sent(upload: Callable[..., FileBody], source: str, *, quiet: bool) -> str:
    """The id of a file, uploaded now unless it was before."""
    if not Path(source).is_file():
        return source  # an id; the options were checked
    before, after = f"hashing {source}", f"inspecting {source}"
    with transfer(f"uploading {source}", before=before, after=after, quiet=quiet) as on_progress:
        return upload(source, on_progress=on_progress).id


@contextmanager
def leave_running(job: Job, output: Path | None = None) -> Generator[None]:
    """Ctrl+C, the end of our patience, or a service that is away ends the watching and not the job."""
    try:
        yield
    except (KeyboardInterrupt, TimeoutError) as error:
        is_timeout = isinstance(error, TimeoutError)
        say(f"{error}" if is_timeout else f"\n{job.id} goes on.")
        say(how_to_go_on(job, output))
        raise typer.Exit(Code.TIMEOUT if is_timeout else Code.INTERRUPTED) from None
    except Unreachable:
        say(f"{job.id} goes on as soon as the service is back.\n{how_to_go_on(job, output)}")
        raise


def how_to_go_on(job: Job, output: Path | None = None) -> str:
    return (
        f"  to watch it:  {called()} watch {job.id}\n"
        f"  to stop it:   {called()} cancel {job.id}\n"
        f"  to take what it found, once it has ended:  {how_to_take(job, output)}"
    )


def how_to_take(job: Job, output: Path | None = None) -> str:
    return f"{called()} download {job.id} -o {shlex.quote(str(output or 'faster.onnx'))}"
