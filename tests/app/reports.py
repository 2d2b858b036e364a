"""A trial and a report as the engine writes them, as small as they can be."""

from typing import Any

from engine.recipe import Goal, Minimize, Recipe, SimplifyGraph
from engine.report import Comparison, Environment, Figures, Machine, Outcome, Report, Trial, TrialState, Verdict
from tests.app.service import SUMMARY

FIGURES = Figures(size_bytes=10, parameters=1, macs=None)
MACHINE = Machine(cpu="a CPU", flags=[], cores=2, memory_bytes=1, os="Linux", versions={})


def trial(name: str) -> dict[str, Any]:
    found = Trial(
        id=name, steps=[SimplifyGraph()], label="simplified", state=TrialState.KEPT, reason="1.2 times faster"
    )
    return found.model_dump(mode="json")


def report(*trials: str) -> dict[str, Any]:
    verdict = Verdict(outcome=Outcome.IMPROVED, minimize=Minimize.LATENCY, headline="1.2 times faster", reasons=[])
    environment = Environment(machine=MACHINE, sandbox="none", execution_provider="CPU", seeds={}, digests={})
    found = Report(
        created_at="2026-11-24T00:00:00Z",
        verdict=verdict,
        recipe=Recipe(goal=Goal()),
        reproduce=[],
        model=SUMMARY,
        baseline=FIGURES,
        optimized=FIGURES,
        comparison=Comparison(),
        trials=[Trial.model_validate(trial(name)) for name in trials],
        environment=environment,
    )
    return found.model_dump(mode="json")
