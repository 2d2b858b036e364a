"""`strop serve`: the whole service on this machine, in one command."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_data_path

from strop.cli.exits import say
from strop.cli.options import Json
from strop.cli.program import called
from strop.version import VERSION


def serve(
    home: Annotated[
        Path | None, typer.Option("--home", envvar="STROP_HOME", file_okay=False, help="Folder of all its data.")
    ] = None,
    host: Annotated[str, typer.Option("--host", envvar="STROP_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", envvar="STROP_PORT", min=0, max=65535, help="Port to listen on; 0 takes a free one."),
    ] = 8000,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Jobs at a time, one place being kept for uploads.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the service here: API, worker, broker and database, until Ctrl+C."""
    from strop.serve.home import Home
    from strop.serve.service import running

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stop.set())
    folder = Home(home or user_data_path("strop"))
    if not as_json:
        say(f"Strop {VERSION} is starting …")
    with running(folder, host=host, port=port, slots=slots, stop=stop) as service:
        if as_json and not stop.is_set():
            typer.echo(json.dumps({"url": service.url, "home": str(folder.path), "pid": os.getpid()}))
        elif not stop.is_set():
            say(_welcome(service.url, folder.path))
        service.watch(stop, say)
        if not as_json:
            say("Stopping; unfinished jobs go on at the next start.")


def _welcome(url: str, home: Path) -> str:
    return f"""
  Service    {url}
  API docs   {url}/docs
  Data       {home}
  Logs       {home / "logs"}

Try:  {called()} optimize model.onnx --data data.npz --max-drop 0.01 -o faster.onnx
Press Ctrl+C to stop.
"""
