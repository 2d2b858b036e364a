"""What a person sees while bytes move and a job works: bars on a terminal, one line for each stage elsewhere."""

import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from strop.job import Job
from strop.models import JobState
from strop.upload import Progress

LINE_SECONDS = 15.0
SCREENED = "screened"  #: the state of a candidate that was only looked at quickly


def console(*, stderr: bool = True) -> Console:
    """For everything that is not a result, unless told otherwise."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def printable(text: object) -> str:
    """Names come from files of strangers; they never steer the terminal."""
    return "".join(each if each.isprintable() else "\ufffd" for each in str(text))


@contextmanager
def transfer(label: str, *, before: str = "", after: str = "", quiet: bool = False) -> Generator[Progress | None]:
    """A bar for one file, with other words before its first byte and after its last where those take time too.

    The callback that it gives takes bytes done and bytes in all.
    """
    screen = console()
    if quiet:
        yield None
    elif not screen.is_terminal:
        screen.print(Text(printable(label)))
        yield None
    else:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Bars(*columns, TimeRemainingColumn(), console=screen) as bars:
            task = bars.add_task(printable(before or label), total=None)

            def on_progress(done: int, total: int | None) -> None:
                words = after if after and done == total else label
                bars.update(task, description=printable(words), completed=done, total=total)

            yield on_progress


def follow(job: Job, *, quiet: bool = False, timeout: float | None = None) -> Job:
    """Show what a job does until it has ended, however it ended."""
    screen = console()
    if quiet:
        job.wait(timeout)
    elif screen.is_terminal:
        _follow_with_bar(job, screen, timeout)
    else:
        _follow_with_lines(job, screen, timeout)
    return job


def _follow_with_bar(job: Job, screen: Console, timeout: float | None) -> None:
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Bars(*columns, TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=screen, transient=True) as bars:
        task = bars.add_task("", total=1.0, left="")
        shown = 0
        for _ in job.changes(timeout):
            for line in trial_lines(job.trials[shown:]):
                screen.print(line)
            shown = len(job.trials)
            bars.update(task, description=_stage(job), completed=job.progress, left=_time_left(job))


def _follow_with_lines(job: Job, screen: Console, timeout: float | None) -> None:
    """A line for each new stage; how a long one goes, every few seconds."""
    shown, last, told_at = 0, "", -math.inf
    for _ in job.changes(timeout):
        for line in trial_lines(job.trials[shown:]):
            screen.print(line)
        shown = len(job.trials)
        words = _stage(job)
        is_new = words.partition(":")[0] != last.partition(":")[0]
        if words != last and (is_new or time.monotonic() > told_at + LINE_SECONDS):
            screen.print(Text(words))
            last, told_at = words, time.monotonic()


def _stage(job: Job) -> str:
    """What it does, in words; a job that waits or has ended says so."""
    words = [job.stage, job.body.detail] if job.state == JobState.RUNNING else [job.state]
    return ": ".join(printable(each) for each in words if each) or "running"


def _time_left(job: Job) -> str:
    if job.eta_seconds is None or job.is_final:
        return ""
    minutes, seconds = divmod(round(job.eta_seconds), 60)
    return f"about {minutes} min {seconds:02} s left" if minutes else f"about {seconds} s left"


def trial_lines(trials: Sequence[dict[str, Any]], notes: Mapping[str, str] | None = None) -> list[Text]:
    """A line each, with a note of the trial's where there is one, and one for all that a quick look left behind."""
    notes = notes or {}
    lines = [
        _trial_line(trial, notes.get(trial.get("id", ""), "")) for trial in trials if trial.get("state") != SCREENED
    ]
    screened = len(trials) - len(lines)
    if screened:
        lines.append(Text(f"  {screened} {'format' if screened == 1 else 'formats'} left behind after a quick look"))
    return lines


def _trial_line(trial: dict[str, Any], note: str) -> Text:
    """One candidate with the figures that it was judged by."""
    facts = _figures(trial) or printable(trial.get("reason", ""))
    state = printable(trial.get("state", ""))
    style = {"kept": "green", "failed": "red"}.get(state, "dim")
    head = f"  {printable(trial.get('id', ''))}  {printable(trial.get('label', ''))}"
    return Text.assemble(
        head, "  ", (state, style), f"  {facts}" if facts else "", (f"  ← {note}" if note else "", "bold")
    )


def _figures(trial: dict[str, Any]) -> str:
    comparison = trial.get("comparison") or {}
    facts = []
    if speedup := comparison.get("speedup"):
        facts.append(f"{speedup['value']:.2f} times as fast ({speedup['low']:.2f}–{speedup['high']:.2f})")
    if drop := comparison.get("accuracy_drop"):
        facts.append(_drop(drop["value"], (trial.get("figures") or {}).get("accuracy") or {}))
    return ", ".join(facts)


def _drop(value: float, accuracy: dict[str, Any]) -> str:
    """In the words of the report: shares count in points of 100, noise in percent of the signal."""
    metric, unit = printable(accuracy.get("metric", "accuracy")), printable(accuracy.get("unit", ""))
    if unit == "share":
        points = round(100 * value, 2) + 0.0  # never a negative zero
        amount, unit = f"{points:g}", "point" if abs(points) == 1 else "points"
    else:
        factor, unit = (100, "% noise") if unit == "dB" else (1, unit)
        amount = _digits(factor * value)
    return f"{metric}: {'0' if value == 0 else amount.replace('-', '−')} {unit}".rstrip() + " lost"


def _digits(value: float) -> str:
    """Three that are significant."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
