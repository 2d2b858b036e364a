"""The report of a job as it stands: from the first checkpoint, which offers the original, to the last one."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from engine.explain import findings
from engine.measure.session import PROVIDERS
from engine.pipeline.checkpoint import offered
from engine.pipeline.final import Final
from engine.pipeline.neutral import analyzed, compared
from engine.pipeline.start import Start
from engine.pipeline.trials import Candidate, Trials
from engine.pipeline.verdict import verdict
from engine.recipe import Recipe
from engine.report import (
    ActivationLayer,
    Comparison,
    Environment,
    Interval,
    LatencySeries,
    Profile,
    Report,
    Trial,
    Verdict,
)


@dataclass
class Evidence:
    recipe: Recipe
    start: Start
    trials: Trials
    sandbox: str
    final: Final | None = None
    profile_before: Profile | None = None
    profiles: dict[str, Profile] = field(default_factory=dict)  #: of the offered file, or of models that are compared
    activations: list[ActivationLayer] = field(default_factory=list)  #: of the original
    out_of_time: bool = False

    def report(self, elapsed_seconds: float) -> Report:
        chosen = self.trials.candidates[self.trials.chosen] if self.trials.chosen else None
        offer = chosen or self.trials.original
        noise_floor = self.final.noise_floor if self.final else self.start.bench.noise_floor
        judged = self._verdict(noise_floor)
        report = Report(
            created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            verdict=judged,
            recipe=self.recipe,
            name=self.start.name,
            reproduce=list(offer.steps),
            model=self.start.summary,
            baseline=self.trials.original.figures,
            optimized=offer.figures,
            comparison=offer.comparison if chosen else Comparison(),
            series=self._series(),
            trials=self._rows(),
            profile_before=self.profile_before,
            profile_after=self.profiles.get(self.trials.chosen or ""),
            activations=self.activations,
            warnings=self._warnings(chosen),
            environment=self._environment(),
            elapsed_seconds=round(elapsed_seconds, 2),
        )
        return report.model_copy(update={"findings": findings(report)})

    def _verdict(self, noise_floor: Interval | None) -> Verdict:
        complete = self.final is not None
        if self.recipe.compare:
            return compared(self.trials, self.start.name, noise_floor, complete=complete)
        if self.recipe.analyze:
            figures = self.trials.original.figures
            return analyzed(self.start.summary, figures, self.profile_before, self.start.name, complete=complete)
        return verdict(self.trials, noise_floor, complete=complete, out_of_time=self.out_of_time)

    def _series(self) -> list[LatencySeries]:
        """Raw samples of the offered file; where none is offered, of the one that came closest."""
        if self.final is None or not self.final.series:
            return []
        return self.final.series.get(self.trials.chosen or "", next(iter(self.final.series.values())))

    def _rows(self) -> list[Trial]:
        files = set(offered(self.trials))
        return [row.model_copy(update=self._of_row(row.id, is_offered=row.id in files)) for row in self.trials.rows()]

    def _of_row(self, name: str, *, is_offered: bool) -> dict[str, object]:
        """What the table of trials does not know."""
        profile = self.profiles.get(name) if self.recipe.compare else None
        return {"profile": profile, **({"file": f"{name}.onnx"} if is_offered else {})}

    def _warnings(self, chosen: Candidate | None) -> list[str]:
        bench = self.start.bench
        warnings = [*self.start.summary.warnings, *self.start.material.warnings, *bench.warnings]
        return list(dict.fromkeys([*warnings, *(chosen.warnings if chosen else bench.doubts)]))

    def _environment(self) -> Environment:
        material, target = self.start.material, self.recipe.target
        return Environment(
            machine=self.start.machine,
            sandbox=self.sandbox,
            execution_provider=PROVIDERS[target.device][0],
            seeds={"recipe": self.recipe.seed},
            digests=self.start.digests,
            calibration_samples=len(material.calibration),
            evaluation_samples=len(self.start.bench.samples),
            data_source=material.source,
            noise_floor=self.final.noise_floor if self.final else self.start.bench.noise_floor,
        )
