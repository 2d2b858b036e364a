"""What a user types, such as `strop optimize model.onnx`: one file a group of commands, exit codes in `exits`."""

from typing import Annotated

import typer

from strop.cli import compare, exits, files, gate, jobs, optimize, serve
from strop.version import VERSION

EPILOG = (
    "Exit codes: 0 done · 1 job failed · 2 usage or bad input · 3 not found or no right · 4 timeout · "
    "5 no improvement, where one was required · 6 no service · 7 a line was crossed (gate) · 130 Ctrl+C"
)

app = typer.Typer(
    cls=exits.Commands,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve.serve)
app.command()(optimize.optimize)
app.command()(compare.compare)
app.command()(compare.analyze)
app.command()(gate.gate)
app.command()(files.inspect)
app.command()(jobs.jobs)
app.command()(jobs.show)
app.command()(jobs.watch)
app.command()(jobs.cancel)
app.command()(jobs.report)
app.command()(jobs.download)
app.command()(files.steps)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"strop {VERSION}")
        raise typer.Exit


@app.callback()
def strop(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Takes a trained ONNX model and gives back one that is faster where it will be served, with the evidence."""


def main() -> None:
    app()
