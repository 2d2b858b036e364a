"""`strop gate`: an exit code for a build, from a comparison made now or a report made before."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from strop.cli.compare import finished
from strop.cli.exits import Code
from strop.cli.optimize import BatchSize, Data, Evaluation, Labels, Metric, Minutes, Threads
from strop.cli.options import ApiKey, Html, Json, Quiet, Timeout, Url, a_model, a_number
from strop.cli.output import print_json, sent
from strop.cli.places import named_by_options
from strop.client import DEFAULT_URL, Strop
from strop.gate import Judgement, Unjudged, judge
from strop.recipe import recipe as compose

MinSpeedup: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--min-speedup", min=0, callback=a_number, help="Times as fast as OLD that NEW must be; 1 if no line is."
    ),
]
MaxDrop: TypeAlias = Annotated[
    float | None,
    typer.Option("--max-drop", min=0, callback=a_number, help="Accuracy that may be lost; 0.01 is one point."),
]
Strict: TypeAlias = Annotated[
    bool, typer.Option("--strict", help="Fail too where the interval holds the line, so that it is not sure.")
]
ReportFile: TypeAlias = Annotated[
    Path | None, typer.Option("--report", exists=True, dir_okay=False, help="A report.json instead of two models.")
]


def gate(
    old: Annotated[str | None, typer.Argument(metavar="OLD", help="The model as it was.")] = None,
    new: Annotated[str | None, typer.Argument(metavar="NEW", help="The model as it is now.")] = None,
    *,
    report_file: ReportFile = None,
    min_speedup: MinSpeedup = None,
    max_drop: MaxDrop = None,
    strict: Strict = False,
    data: Data = None,
    evaluation: Evaluation = None,
    labels: Labels = None,
    minutes: Minutes = None,
    threads: Threads = None,
    batch_size: BatchSize = None,
    metric: Metric = None,
    html: Html = None,
    timeout: Timeout = None,
    as_json: Json = False,
    quiet: Quiet = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Exit with 7 where NEW is too slow or lost too much; one line for the log of a build."""
    if (report_file is None) == (old is None or new is None):
        raise typer.BadParameter("give either two models or --report")
    if min_speedup is None and max_drop is None:
        min_speedup = 1.0
    if report_file is not None:
        report = _read(report_file)
    else:
        what = compose(compare=[], minutes=minutes, threads=threads, batch_size=batch_size, metric=metric)
        with Strop(url, api_key) as strop, named_by_options():
            silent = quiet or as_json
            first, second = (sent(strop.upload_model, a_model(each or ""), quiet=silent) for each in (old, new))
            data, evaluation = (each and sent(strop.upload_dataset, each, quiet=silent) for each in (data, evaluation))
            what["compare"] = [second]
            job = strop.submit(first, what, data=data, evaluation=evaluation, labels=labels)
            report = finished(job, html, timeout, quiet=silent)
    _tell(report, min_speedup, max_drop, strict=strict, as_json=as_json)


def _tell(
    report: Mapping[str, Any], min_speedup: float | None, max_drop: float | None, *, strict: bool, as_json: bool
) -> None:
    """Print the judgement, and exit by it; what cannot be judged has not passed."""
    try:
        judgement = judge(report, min_speedup=min_speedup, max_drop=max_drop, strict=strict)
    except Unjudged as error:
        typer.echo(f"gate FAILED: {error}")
        raise typer.Exit(Code.CROSSED) from error
    if as_json:
        print_json(_as_json(judgement))
    else:
        typer.echo(judgement)
    if not judgement.passed:
        raise typer.Exit(Code.CROSSED)


def _as_json(judgement: Judgement) -> dict[str, Any]:
    lines = [{"outcome": line.outcome, "words": line.words} for line in judgement.lines]
    return {"passed": judgement.passed, "strict": judgement.strict, "lines": lines}


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_bytes())
        return {"verdict": report["verdict"], **report}
    except (ValueError, TypeError, KeyError) as error:
        raise typer.BadParameter(f"{path} is no report.json of a job") from error
