"""Whose time the page takes apart: that of the original and of the offered file, or that of all models side by side."""

from dataclasses import dataclass
from typing import Literal

from engine.report import Outcome, Profile, Report


@dataclass(frozen=True)
class Profiled:
    name: str
    kind: Literal["before", "after"]
    profile: Profile


def profiles(report: Report) -> list[Profiled]:
    """The first one is what the others are measured against; files without a profile are left out."""
    if report.verdict.outcome is Outcome.COMPARED:
        found = [(report.name, report.profile_before), *((trial.label, trial.profile) for trial in report.trials)]
    else:
        found = [("Original", report.profile_before), ("Optimized", report.profile_after)]
    kinds: list[Literal["before", "after"]] = ["before", *["after"] * (len(found) - 1)]
    return [
        Profiled(name, kind, profile)
        for kind, (name, profile) in zip(kinds, found, strict=True)
        if profile and profile.operators
    ]
