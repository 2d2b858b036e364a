"""`strop jobs`, `show`, `watch`, `cancel`, `report`, `download`: what was asked for, and what came of it."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.exits import say
from strop.cli.options import ApiKey, Html, JobId, Json, Quiet, Timeout, Url, a_place
from strop.cli.output import how_to_take, leave_running, print_job, print_json, print_table
from strop.cli.program import called
from strop.client import DEFAULT_URL, Strop
from strop.job import Job
from strop.models import JobState
from strop.progress import console, follow, printable, transfer, trial_lines


def jobs(
    state: Annotated[JobState | None, typer.Option("--state", help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List jobs, the newest first."""
    with Strop(url, api_key) as strop:
        found = list(islice(strop.jobs(state), limit))
    if as_json:
        print_json([asdict(job.body) for job in found])
        return
    rows = ((job.id, job.state, f"{job.progress:.0%}", job.body.created_at, job.name, _result(job)) for job in found)
    print_table(rows, "JOB", "STATE", "DONE", "CREATED", "NAME", "RESULT")


def show(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Show one job: its state, what it does now, what it tried."""
    with Strop(url, api_key) as strop:
        job = strop.job(job_id)
        files = [] if as_json else _files(job)
    if as_json:
        print_json({"job": asdict(job.body)})
        return
    chosen = printable((job.body.verdict or {}).get("chosen") or "")
    rows = {
        "job": job.id,
        "name": job.name,
        "state": job.state,
        "stage": ": ".join(part for part in (job.stage, job.body.detail) if part),
        "done": f"{job.progress:.0%}",
        "model": job.body.model,
        "created": job.body.created_at,
        "finished": job.body.finished_at,
        "result": _result(job),
        "chosen": chosen,
        "files": ", ".join(files),
    }
    print_table((name, value) for name, value in rows.items() if value)
    screen = console(stderr=False)
    for line in trial_lines(job.trials, dict.fromkeys(files, "has a file") | {chosen: "chosen"}):
        screen.print(line)
    if files:
        name = chosen if chosen in files else files[0]
        say(f"  to take a file:  {called()} download {job.id} --candidate {name} -o {name}.onnx")


def watch(
    job_id: JobId,
    *,
    timeout: Timeout = None,
    as_json: Json = False,
    quiet: Quiet = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Follow a job to its end."""
    with Strop(url, api_key) as strop:
        job = strop.job(job_id)
        with leave_running(job):
            follow(job, quiet=quiet or as_json, timeout=timeout)
    print_job(job, as_json=as_json)
    silent = as_json or quiet
    if job.body.links.get("model") and not silent:
        say(f"  to take its model:  {how_to_take(job)}")
    job.raise_for_state()
    if not silent:
        say(_result(job))


def cancel(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Stop a job; what it has found so far is kept."""
    with Strop(url, api_key) as strop:
        print_job(strop.job(job_id).cancel(), as_json=as_json)


def report(
    job_id: JobId, html: Html = None, as_json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None
) -> None:
    """Print the evidence."""
    with Strop(url, api_key) as strop:
        evidence = strop.job(job_id).report()
        if html:
            typer.echo(evidence.save_html(html))
        elif as_json:
            print_json(dict(evidence))
        else:
            typer.echo(evidence.text)


def download(
    job_id: JobId,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", callback=a_place, help="Where the file goes.")],
    candidate: Annotated[str | None, typer.Option("--candidate", help="Another file it found, such as t03.")] = None,
    bundle: Annotated[bool, typer.Option("--bundle", help="Everything in a zip.")] = False,
    quiet: Quiet = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Download the faster model; after a break, the same command goes on where it stopped."""
    if candidate and bundle:
        raise typer.BadParameter("give either --candidate or --bundle")
    with Strop(url, api_key) as strop, transfer(f"downloading {output}", quiet=quiet) as on_progress:
        job = strop.job(job_id)
        if candidate:
            job.download_candidate(candidate, output, on_progress)
        elif bundle:
            job.download_bundle(output, on_progress)
        else:
            job.download_model(output, on_progress)
    typer.echo(output)


def _files(job: Job) -> list[str]:
    """The trials whose files can be downloaded."""
    if not (job.body.links.get("candidates") and job.body.links.get("report")):
        return []
    return [printable(candidate["trial"]["id"]) for candidate in job.candidates()]


def _result(job: Job) -> str:
    """How it ended, in a sentence."""
    if job.error:
        return printable(job.error.detail or job.error.title)
    return printable((job.body.verdict or {}).get("headline", ""))
