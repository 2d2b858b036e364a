"""What an attempt leaves of its search to later ones: the table, the files, and which plans were carried out how far.

    trials.json        the table, written whole after every step
    trial-t03.onnx     files that are needed to go on, linked

Both lie in the folder that the next attempt at the job finds again, and so do later jobs on the same model and data. A
budget may differ: what was tried stays tried. A table of a recipe that differs in anything else, of another machine or
version is left alone, and so is a file whose digest is not the one in the table: its step is taken again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ValidationError

from engine import beside
from engine.digest import sha256
from engine.pipeline.plan import Pipeline, ends
from engine.pipeline.trials import Candidate
from engine.recipe import Recipe, Step
from engine.report import Machine, Trial, TrialState

TABLE, FILE, FORMAT = "trials.json", "trial-{}.onnx", 1
MOST_FILES = 8  #: the folder takes few files, and trainings keep theirs there too
ORIGINAL = "original"


class Row(BaseModel):
    trial: Trial
    warnings: list[str]


class Taken(BaseModel):
    """The beginning of a plan, and the candidate that came of it."""

    steps: list[Step]
    candidate: str


class Cost(BaseModel):
    step: Step
    seconds: float


class Table(BaseModel):
    key: str
    candidates: list[Row]
    files: list[str]  #: ids of the candidates whose files are kept
    rest: list[Trial]
    taken: list[Taken]
    costs: list[Cost]


@dataclass(frozen=True)
class Memory:
    folder: Path
    key: str

    @classmethod
    def of(cls, folder: Path, recipe: Recipe, machine: Machine, digests: Mapping[str, str]) -> Self:
        told = [
            recipe.model_dump_json(exclude={"budget"}),
            machine.cpu,
            json.dumps([machine.versions, dict(digests), FORMAT]),
        ]
        return cls(folder, hashlib.sha256("\n".join(told).encode()).hexdigest())

    def write(self, pipeline: Pipeline) -> None:
        """All that is known after a step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        trials = pipeline.trials
        kept = [name for name in _needed(pipeline) if self._keep(trials.candidates[name])]
        table = Table(
            key=self.key,
            files=kept,
            candidates=[
                Row(trial=one.row(TrialState.KEPT, ""), warnings=list(one.warnings))
                for one in trials.candidates.values()
            ],
            rest=list(trials.rest.values()),
            taken=[Taken(steps=list(steps), candidate=one.id) for steps, one in pipeline.taken.items()],
            costs=[Cost(step=steps[-1], seconds=pipeline.costs[type(steps[-1])]) for steps in pipeline.taken],
        )
        draft = self.folder / f"{TABLE}.draft"
        draft.write_text(table.model_dump_json())
        draft.rename(self.folder / TABLE)
        wanted = {FILE.format(name) for name in kept}
        for path in self.folder.glob(FILE.format("*")):
            if path.name not in wanted:
                path.unlink()

    def _keep(self, candidate: Candidate) -> bool:
        """Whether its file lies in the folder now; links cost nothing, and no step writes into a file of another."""
        target = self.folder / FILE.format(candidate.id)
        if not candidate.path.exists() or beside.is_apart(candidate.path):
            return False
        if target.exists() and (target.samefile(candidate.path) or sha256(target) == candidate.sha256):
            return True
        draft = target.with_name(f"{target.name}.draft")
        draft.unlink(missing_ok=True)
        try:
            os.link(candidate.path, draft)
        except OSError:  # a file system without links
            shutil.copyfile(candidate.path, draft)
        draft.rename(target)
        return True

    def recall(self, pipeline: Pipeline) -> int:
        """Fill the table with what an earlier attempt or job left; the number of trials that need not be made again."""
        table = self._table()
        if table is None:
            return 0
        known = {row.trial.id: _candidate(row, self.folder / FILE.format(row.trial.id)) for row in table.candidates}
        lost = {name for name in table.files if not _is_whole(known[name])}
        pipeline.trials.restore([one for name, one in known.items() if name not in lost], table.rest)
        known[ORIGINAL] = pipeline.trials.original
        pipeline.taken |= {tuple(one.steps): known[one.candidate] for one in table.taken if one.candidate not in lost}
        pipeline.costs |= {type(cost.step): cost.seconds for cost in table.costs}
        return len(known) - 1 - len(lost)

    def _table(self) -> Table | None:
        """None where there is none, or it is another's or broken."""
        try:
            table = Table.model_validate_json((self.folder / TABLE).read_bytes())
        except (OSError, ValidationError):
            return None
        return table if table.key == self.key else None


def _is_whole(candidate: Candidate) -> bool:
    return candidate.path.exists() and sha256(candidate.path) == candidate.sha256


def _needed(pipeline: Pipeline) -> list[str]:
    """Ids of candidates whose files are needed to go on: the best one, the last one, what plans build on, the rest.

    The beginnings of plans come before their ends.
    """
    trials, taken = pipeline.trials, pipeline.taken
    last = ends(taken)
    begun = sorted((plan for plan in taken if plan not in last), key=len)
    bases = [taken[steps].id for steps in [*list(taken)[-1:], *begun]]
    wanted = [trials.chosen, *bases, *(one.id for one in trials.ranked())]
    named = [name for name in dict.fromkeys(wanted) if name in trials.candidates]
    return [name for name in named if trials.candidates[name].path.exists()][:MOST_FILES]


def _candidate(row: Row, path: Path) -> Candidate:
    trial = row.trial
    assert trial.figures is not None and trial.comparison is not None and trial.sha256 is not None, "it was measured"
    return Candidate(
        id=trial.id,
        path=path,
        steps=tuple(trial.steps),
        label=trial.label,
        figures=trial.figures,
        comparison=trial.comparison,
        sha256=trial.sha256,
        layers=tuple(trial.layers),
        training=trial.training,
        replacements=trial.replacements,
        warnings=tuple(row.warnings),
        seconds=trial.seconds,
    )
