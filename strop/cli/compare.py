"""`strop compare` and `strop analyze`: models side by side, or one by itself; nothing is changed."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from strop.cli.optimize import BatchSize, Data, Evaluation, Labels, Metric, Minutes, Name, Threads, Wait
from strop.cli.options import ApiKey, Html, Json, Model, Quiet, Timeout, Url, a_model
from strop.cli.output import leave_running, print_job, print_report, sent
from strop.cli.places import named_by_options
from strop.client import DEFAULT_URL, Strop
from strop.job import Job
from strop.progress import follow
from strop.recipe import recipe as compose
from strop.report import Report


def models(values: list[str]) -> list[str]:
    return [a_model(value) for value in values]


Models: TypeAlias = Annotated[
    list[str],
    typer.Argument(metavar="MODEL…", callback=models, help="Two ONNX files or more, or mdl_…; the first is the base."),
]


def compare(
    models: Models,
    *,
    data: Data = None,
    evaluation: Evaluation = None,
    labels: Labels = None,
    minutes: Minutes = None,
    threads: Threads = None,
    batch_size: BatchSize = None,
    metric: Metric = None,
    name: Name = None,
    html: Html = None,
    wait: Wait = True,
    timeout: Timeout = None,
    as_json: Json = False,
    quiet: Quiet = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Measure models side by side: which is faster by how much, and what else differs."""
    if len(models) < 2:
        raise typer.BadParameter("give two models or more")
    silent = quiet or as_json
    with Strop(url, api_key) as strop, named_by_options():
        first, *others = (sent(strop.upload_model, each, quiet=silent) for each in models)
        data, evaluation = (each and sent(strop.upload_dataset, each, quiet=silent) for each in (data, evaluation))
        what = compose(compare=others, minutes=minutes, threads=threads, batch_size=batch_size, metric=metric)
        job = strop.submit(first, what, data=data, evaluation=evaluation, labels=labels, name=name)
        if wait:
            print_report(job, finished(job, html, timeout, quiet=silent), as_json=as_json, quiet=quiet)
        else:
            print_job(job, as_json=as_json)


def analyze(
    model: Model,
    *,
    data: Data = None,
    minutes: Minutes = None,
    threads: Threads = None,
    batch_size: BatchSize = None,
    name: Name = None,
    html: Html = None,
    wait: Wait = True,
    timeout: Timeout = None,
    as_json: Json = False,
    quiet: Quiet = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Measure and explain a model as it is: its time by operators, its activations, and which steps may help."""
    silent = quiet or as_json
    with Strop(url, api_key) as strop, named_by_options():
        model_id = sent(strop.upload_model, model, quiet=silent)
        data_id = data and sent(strop.upload_dataset, data, quiet=silent)
        what = compose(analyze=True, minutes=minutes, threads=threads, batch_size=batch_size)
        job = strop.submit(model_id, what, data=data_id, name=name)
        if wait:
            print_report(job, finished(job, html, timeout, quiet=silent), as_json=as_json, quiet=quiet)
        else:
            print_job(job, as_json=as_json)


def finished(job: Job, html: Path | None, timeout: float | None, *, quiet: bool) -> Report:
    """Wait for the job, and take its report."""
    with leave_running(job):
        follow(job, quiet=quiet, timeout=timeout)
    job.raise_for_state()
    report = job.report()
    if html:
        report.save_html(html)
    return report
