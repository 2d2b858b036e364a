"""The report as one HTML file that opens with the network off.

No script, no font, no image and no link leaves the page, and its policy forbids them: the only style is the one whose
digest stands in the policy. Names in models and data are data, so everything is escaped, and what cannot be printed is
replaced.
"""

import base64
import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from engine import words
from engine.goal import gain
from engine.render import charts
from engine.render.comparison import side_by_side
from engine.render.learning import learning
from engine.render.mixed import mixed
from engine.render.profiles import profiles
from engine.render.replaced import replaced
from engine.render.tables import before_and_after
from engine.render.work import roofline, work_against_time
from engine.report import Outcome, Report

TEMPLATES = Path(__file__).parent / "templates"
LONGEST_NAME = 120
OPERATORS_LISTED = 200
UNITS = re.compile(r"(?<=\d) (?=[%×]|(?:[µm]?s|[kMG]?B|dB)\b)")
KEPT = {"\n", "\u00a0"}  #: not printable to Python, and no harm to the page
BADGES: dict[Outcome, str] = {
    Outcome.IMPROVED: "Improved",
    Outcome.NO_IMPROVEMENT: "No improvement",
    Outcome.COMPARED: "Compared",
    Outcome.ANALYZED: "Analyzed",
}
TURNS: dict[Outcome, str] = {Outcome.COMPARED: "all files in turn", Outcome.ANALYZED: ""}
TONES: dict[Outcome, str] = {Outcome.IMPROVED: "improved", Outcome.NO_IMPROVEMENT: "unimproved"}


def render_html(report: Report) -> str:
    """The whole page."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    outcome = report.verdict.outcome
    improved = outcome is Outcome.IMPROVED
    files = profiles(report)
    page = _environment().get_template("report.html.j2")
    return page.render(
        words=words,
        state_words=charts.state_words,
        most_operators=OPERATORS_LISTED,
        turns=TURNS.get(outcome, "both files in turn"),
        report=report,
        improved=improved,
        badge=BADGES[outcome],
        tone=TONES.get(outcome, "neutral"),
        beside=side_by_side(report) if outcome is Outcome.COMPARED else None,
        analyzed=outcome is Outcome.ANALYZED,
        gain=gain(report.verdict.minimize, report.baseline, report.optimized, report.comparison),
        style=Markup(style),  # noqa: S704 - our own file
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        rows=before_and_after(report),
        bars=charts.bars(report),
        pareto=charts.pareto(report),
        latencies=charts.latencies(report.series, *_names(report)),
        files=files,
        layers=[(file.name, charts.layers(file.profile)) for file in files],
        mixture=mixed(report),
        replacing=replaced(report),
        learning=learning(report),
        work=work_against_time(report),
        roofs=roofline(report),
        kinds=charts.kinds([file.profile for file in files]),
        recipe=json.dumps(_again(report), indent=2, ensure_ascii=False),
    )


def _names(report: Report) -> tuple[str, str]:
    """Of the two files whose runs are drawn."""
    outcome = report.verdict.outcome
    if outcome is Outcome.COMPARED:
        return report.name, next((trial.label for trial in report.trials if trial.figures), "")
    return "Original", "Optimized" if outcome is Outcome.IMPROVED else "Best candidate"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {"name": _shortened, "pairs": pairwise, "unbroken": _unbroken}
    return environment


def _printable(value: object) -> object:
    """Control characters, direction overrides and lone surrogates from a user's file never reach the page."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(character if character.isprintable() or character in KEPT else "\ufffd" for character in value)


def _shortened(name: str) -> str:
    """Both ends of a long name: that is where layers differ."""
    if len(name) <= LONGEST_NAME:
        return name
    half = LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half:]}"


def _unbroken(text: str) -> str:
    """A number stays on the line of its unit."""
    return UNITS.sub("\u00a0", text)


# ── to reproduce ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _again(report: Report) -> dict[str, object]:
    """A job request that makes the offered file again; where nothing was better, the one that was asked for."""
    recipe = report.recipe
    if report.reproduce:
        recipe = recipe.model_copy(update={"steps": report.reproduce, "goal": None})
    sets = [name.removesuffix(" data") for name in report.environment.digests if name.endswith(" data")]
    data = {"data": dict.fromkeys(sets, "dat_…")} if sets else {}
    return {"model": "mdl_…", **data, **recipe.model_dump(mode="json", exclude_none=True)}
