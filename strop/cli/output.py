"""Results on standard output, chatter on standard error."""

import json
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from strop.cli.exits import Code, say
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


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns without a frame; never cut where another program reads them."""
    screen = Console(highlight=False)
    if not screen.is_terminal:
        screen.width = 10_000
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(cell)) for cell in row))
    screen.print(table)


def sent(upload: Callable[..., FileBody], source: str, *, quiet: bool) -> str:
    """The id of a file, uploaded now unless it was before."""
    if not Path(source).is_file():
        return source  # an id; the options were checked
    with transfer(f"uploading {source}", quiet=quiet) as on_progress:
        return upload(source, on_progress=on_progress).id


@contextmanager
def leave_running(job: Job) -> Generator[None]:
    """Ctrl+C ends the watching and not the job."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"\nJob {job.id} goes on. Watch it: strop watch {job.id}\nStop it:  strop cancel {job.id}")
        raise typer.Exit(Code.INTERRUPTED) from None
