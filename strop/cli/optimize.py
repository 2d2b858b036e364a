"""`strop optimize`: the whole journey in one command."""

import json
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from strop.cli.exits import Code, say
from strop.cli.options import (
    ApiKey,
    Html,
    Json,
    Model,
    Output,
    Quiet,
    Timeout,
    Url,
    a_budget,
    a_dataset,
    a_number,
    a_word,
    some_steps,
)
from strop.cli.output import how_to_take, leave_running, print_job, print_report, sent
from strop.cli.places import named_by_options
from strop.client import DEFAULT_URL, Strop
from strop.job import Job
from strop.progress import follow, printable, transfer
from strop.recipe import recipe as compose
from strop.report import Report

EXAMPLE = 'write for example {"steps": [{"kind": "simplify_graph"}], "budget": {"minutes": 20}}'

Data: TypeAlias = Annotated[
    str | None, typer.Option("--data", callback=a_dataset, help="An .npz of samples by input name, or dat_….")
]
Evaluation: TypeAlias = Annotated[
    str | None,
    typer.Option("--evaluation", callback=a_dataset, help="Other samples, to measure accuracy on; or dat_…."),
]
Labels: TypeAlias = Annotated[
    str | None, typer.Option("--labels", callback=a_word, help="Array of the labels, if not found by name.")
]
Goal: TypeAlias = Annotated[
    str | None, typer.Option("--goal", callback=a_word, help="latency (the default), size or memory.")
]
Steps: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--steps", callback=some_steps, help="Do these steps instead, such as simplify_graph,quantize_static."
    ),
]
MaxDrop: TypeAlias = Annotated[
    float | None,
    typer.Option("--max-drop", min=0, max=1, callback=a_number, help="Accuracy that may be lost; 0.01 is one point."),
]
Minutes: TypeAlias = Annotated[
    float | None, typer.Option("--minutes", callback=a_budget, help="Time for the whole job: above 0, to 1440.")
]
Threads: TypeAlias = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads it will be served with; 1 if not given.")
]
BatchSize: TypeAlias = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Samples in one run; 1 if not given.")
]
Metric: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--metric",
        callback=a_word,
        help="top1, top5, f1, miou, mse, mae, cosine; agreement or sqnr without labels; chosen if not given.",
    ),
]
Seed: TypeAlias = Annotated[int | None, typer.Option("--seed", min=0, help="Of every random choice; 0 if not given.")]
RecipeFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--recipe", exists=True, dir_okay=False, help="Goal or steps, limits, budget and target from a JSON file."
    ),
]
Name: TypeAlias = Annotated[str | None, typer.Option("--name", help="A name for people.")]
Wait: TypeAlias = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until the job has ended.")]
OnlyImproved: TypeAlias = Annotated[
    bool, typer.Option("--require-improvement", help="Exit with 5, and write no model, if none is faster.")
]


def optimize(
    model: Model,
    *,
    data: Data = None,
    evaluation: Evaluation = None,
    labels: Labels = None,
    goal: Goal = None,
    steps: Steps = None,
    max_drop: MaxDrop = None,
    minutes: Minutes = None,
    threads: Threads = None,
    batch_size: BatchSize = None,
    metric: Metric = None,
    seed: Seed = None,
    recipe: RecipeFile = None,
    name: Name = None,
    output: Output = None,
    html: Html = None,
    wait: Wait = True,
    only_improved: OnlyImproved = False,
    timeout: Timeout = None,
    as_json: Json = False,
    quiet: Quiet = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Upload a model, have it made faster, and print the evidence."""
    if data is None and (evaluation or labels):
        raise typer.BadParameter("--evaluation and --labels need --data")
    wishes = {"goal": goal, "max_drop": max_drop, "minutes": minutes, "metric": metric, "seed": seed}
    wishes |= {"threads": threads, "batch_size": batch_size, "steps": steps and steps.split(",")}
    what = _recipe(recipe, wishes)
    silent = quiet or as_json
    with Strop(url, api_key) as strop, named_by_options(recipe):
        strop.check(what)
        model_id = sent(strop.upload_model, model, quiet=silent)
        data_id, evaluation_id = (
            each and sent(strop.upload_dataset, each, quiet=silent) for each in (data, evaluation)
        )
        job = strop.submit(model_id, what, data=data_id, evaluation=evaluation_id, labels=labels, name=name)
        if not wait:
            print_job(job, as_json=as_json)
            return
        with leave_running(job, output):
            follow(job, quiet=silent, timeout=timeout)
        report = _take(job, output, html, only_improved=only_improved, quiet=silent)
        print_report(job, report, as_json=as_json, quiet=quiet)
    if only_improved and not report.improved:
        raise typer.Exit(Code.NO_IMPROVEMENT)


def _recipe(file: Path | None, wishes: dict[str, Any]) -> dict[str, Any]:
    """What the options say, or what the file says; both at once would leave it open who wins."""
    given = [name.replace("_", "-") for name, value in wishes.items() if value is not None]
    if file is None:
        if wishes["goal"] and wishes["steps"]:
            raise typer.BadParameter("give either --goal or --steps")
        return compose(**wishes)
    if given:
        raise typer.BadParameter(f"--recipe already says what --{given[0]} would")
    return _read(file)


def _read(file: Path) -> dict[str, Any]:
    try:
        what = json.loads(file.read_bytes())
    except ValueError as error:
        raise typer.BadParameter(f"recipes are JSON, and {file} is not ({error}); {EXAMPLE}") from error
    if not isinstance(what, dict):
        raise typer.BadParameter(f"{file} does not hold a JSON object; {EXAMPLE}")
    return what


def _take(job: Job, output: Path | None, html: Path | None, *, only_improved: bool, quiet: bool) -> Report:
    """Store what the job found where the user wants it."""
    if not job.succeeded and (job.body.verdict or {}).get("outcome") == "improved":
        say(f"The best found before it ended can be had: {how_to_take(job, output)}")
    job.raise_for_state()
    report = job.report()
    if html:
        report.save_html(html)
    if output and (report.improved or not only_improved):
        with transfer(f"downloading {output}", quiet=quiet) as on_progress:
            job.download_model(output, on_progress)
    if not report.improved:
        headline = printable(report.verdict.headline)
        say(f"{headline} {output} holds the original." if output and not only_improved else headline)
    return report
