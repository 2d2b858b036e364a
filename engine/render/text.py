"""The report in a terminal: at most 100 columns, no colour, the verdict first."""

import textwrap
from collections.abc import Iterable, Sequence

from engine import words
from engine.render.comparison import side_by_side
from engine.render.tables import before_and_after
from engine.report import Outcome, Report, Trial, TrialState

WIDTH = 100
NARROWEST = 20  #: a last column


def render_text(report: Report) -> str:
    """All of it, ending with a newline."""
    parts = [_verdict(report), _figures(report), _trials(report), _why(report), _how(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(report: Report) -> str:
    title = report.verdict.outcome.replace("_", " ").upper()
    title += "" if report.verdict.complete else " (not finished)"
    lines = [title, *_wrapped(report.verdict.headline), *_bullets(report.verdict.reasons)]
    return "\n".join(lines)


def _figures(report: Report) -> str:
    if report.verdict.outcome is Outcome.COMPARED:
        beside = side_by_side(report)
        names = [_printable(name) for name in beside.names]
        return _table(["", *names], [[name, *cells] for name, cells in beside.rows])
    rows = before_and_after(report)
    if report.verdict.outcome is not Outcome.IMPROVED:
        return _table(["", "original"], [[row.name, row.before] for row in rows])
    cells = [[row.name, row.before, row.after, row.change, row.spread] for row in rows]
    return _table(["", "original", "optimized", "change", "95 %"], cells)


def _trials(report: Report) -> str:
    if report.verdict.outcome in (Outcome.COMPARED, Outcome.ANALYZED):
        return ""
    if not report.trials:
        return "No candidate was tried."
    chosen = report.verdict.chosen
    rows = [
        [
            f"{'→ ' if trial.id == chosen else '  '}{trial.id}",
            *_trial_figures(report, trial),
            str(trial.state),
            _printable(trial.label),
        ]
        for trial in report.trials
        if trial.state is not TrialState.SCREENED
    ]
    table = _table(["  trial", "speed", "loss", "size", "state", "what"], rows, left={0, 4, 5})
    screened = len(report.trials) - len(rows)
    formats = "format" if screened == 1 else "formats"
    return f"{table}\n  {screened} more {formats} left behind after a quick look" if screened else table


def _trial_figures(report: Report, trial: Trial) -> list[str]:
    comparison = trial.comparison
    speedup = comparison.speedup.value if comparison and comparison.speedup else None
    drop = comparison.accuracy_drop.value if comparison and comparison.accuracy_drop else None
    size = trial.figures.size_bytes if trial.figures else None
    return [words.factor(speedup), words.loss(drop, report.baseline.accuracy), words.size(size)]


def _why(report: Report) -> str:
    if not report.findings and not report.warnings:
        return ""
    findings = _bullets(finding.text for finding in report.findings)
    title = "Why" if report.verdict.outcome in (Outcome.IMPROVED, Outcome.NO_IMPROVEMENT) else "What stands out"
    return "\n".join([title, *findings, *_bullets(f"Warning: {one}" for one in report.warnings)])


def _how(report: Report) -> str:
    machine, target = report.environment.machine, report.recipe.target
    text = (
        f"Measured on {machine.cpu}, {target.threads} thread{'s' if target.threads > 1 else ''}, batch "
        f"{target.batch_size}, {report.environment.execution_provider}, sandbox {report.environment.sandbox}, "
        f"in {words.seconds(report.elapsed_seconds)}."
    )
    return "\n".join(_wrapped(text))


# ── layout ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Iterable[int] = (0,)) -> str:
    """Columns two spaces apart, as wide as their widest cell, figures to the right; the last goes on below itself."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(line for row in [head, *rows] for line in _row(row, widths, left))


def _row(cells: Sequence[str], widths: Sequence[int], left: Iterable[int]) -> list[str]:
    """What does not fit into the last column goes on below its beginning."""
    *others, last = [
        cell.ljust(width) if column in left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    begin = "".join(f"{cell}  " for cell in others)
    width = max(WIDTH, len(begin) + NARROWEST)
    lines = textwrap.wrap(last.rstrip(), width, initial_indent=begin, subsequent_indent=" " * len(begin))
    return lines or [begin.rstrip()]


def _bullets(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in _wrapped(text, first="· ", rest="  ")]


def _wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(_printable(text), WIDTH, initial_indent=first, subsequent_indent=rest)


def _printable(text: str) -> str:
    """Escape sequences and line breaks in a user's names must not reach the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
