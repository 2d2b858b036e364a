"""What an attempt leaves of its search to later ones: the table, the files, and which plans were carried out how far.

    trials.json        the table, written whole after every step
    trial-t03.onnx     files that are needed to go on, linked

Both lie in the folder that the next attempt at the job finds again, and so do later jobs on the same model and data. A
budget may differ: what was tried stays tried, but for a step that had been cut short. A table of a recipe that differs
in anything else, of other samples, another machine or version is left alone. A step is taken again where its file is
not the one in the table and something may be built on it; what only stood beside others stays in the table as a row.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ValidationError

from engine import beside
from engine.digest import sha256
from engine.pipeline.plan import TAKING, Pipeline, ends
from engine.pipeline.trials import Candidate
from engine.recipe import Learning, Recipe, Step
from engine.report import Machine, Trial, TrialState

TABLE, FILE, FORMAT = "trials.json", "trial-{}.onnx", 2
MOST_FILES = 16  #: the folder takes few files, and trainings keep theirs there too
ORIGINAL = "original"


class Row(BaseModel):
    trial: Trial
    warnings: list[str]


class Taken(BaseModel):
    """The beginning of a plan, and the candidate that came of it."""

    steps: list[Step]
    candidate: str


class CutShort(BaseModel):
    """A plan whose last step had not enough of something, and the ids of what it made."""

    steps: list[Step]
    trials: list[str]


class Cost(BaseModel):
    step: Step
    seconds: float


class Table(BaseModel):
    key: str
    candidates: list[Row]
    files: list[str]  #: ids of the candidates whose files are kept
    rest: list[Trial]
    taken: list[Taken]
    cut_short: list[CutShort]
    costs: list[Cost]


@dataclass(frozen=True)
class Memory:
    folder: Path
    key: str

    @classmethod
    def of(cls, folder: Path, recipe: Recipe, machine: Machine, digests: Mapping[str, str]) -> Self:
        """`digests` are those of the files, and of the samples in their parts."""
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
            cut_short=[CutShort(steps=list(steps), trials=ids) for steps, ids in pipeline.cut_short.items()],
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
        if not (target.exists() and (target.samefile(candidate.path) or sha256(target) == candidate.sha256)):
            _link(candidate.path, target)
        return True

    def recall(self, pipeline: Pipeline) -> int:
        """Fill the table with what an earlier attempt or job left; the number of trials that need not be made again."""
        table = self._table()
        if table is None:
            return 0
        again = self._made_again(table)
        folder = pipeline.bench.folder / "restored"
        folder.mkdir(exist_ok=True)
        known = {row.trial.id: _candidate(row, folder / FILE.format(row.trial.id)) for row in table.candidates}
        known = {name: candidate for name, candidate in known.items() if name not in again}
        for name in set(table.files) & known.keys():  # links of its own: what is let go of here, is still needed there
            _link(self.folder / FILE.format(name), known[name].path)
        pipeline.trials.restore(
            [candidate for name, candidate in known.items() if name in table.files],
            [trial for trial in table.rest if trial.id not in again],
            gone=[candidate for name, candidate in known.items() if name not in table.files],
        )
        known[ORIGINAL] = pipeline.trials.original
        undone = [tuple(one.steps) for one in table.cut_short]
        pipeline.taken |= {
            tuple(one.steps): known[one.candidate]
            for one in table.taken
            if one.candidate in known and not any(tuple(one.steps)[: len(plan)] == plan for plan in undone)
        }
        pipeline.costs |= {type(cost.step): cost.seconds for cost in table.costs}
        return len(known) - 1

    def _made_again(self, table: Table) -> set[str]:
        """Ids of trials that do not count: cut short, or with a file that is needed and not whole."""
        kept = {row.trial.id: row.trial.sha256 for row in table.candidates if row.trial.id in table.files}
        torn = {name for name, digest in kept.items() if not _is_whole(self.folder / FILE.format(name), digest)}
        plans = {tuple(one.steps): one.candidate for one in table.taken}
        last = ends(plans)
        needed = {plans[plan] for plan in plans if plan not in last or isinstance(plan[-1], TAKING)}
        undone = {name for one in table.cut_short for name in one.trials}
        return {*undone, *torn, *(needed - kept.keys())} - {ORIGINAL}

    def _table(self) -> Table | None:
        """None where there is none, or it is another's or broken."""
        try:
            table = Table.model_validate_json((self.folder / TABLE).read_bytes())
        except (OSError, ValidationError):
            return None
        return table if table.key == self.key else None


def _is_whole(path: Path, digest: str | None) -> bool:
    return path.exists() and sha256(path) == digest


def _link(path: Path, target: Path) -> None:
    """Under its name in one step; a copy where the file system has no links."""
    draft = target.with_name(f"{target.name}.draft")
    draft.unlink(missing_ok=True)
    try:
        os.link(path, draft)
    except OSError:
        shutil.copyfile(path, draft)
    draft.rename(target)


def _needed(pipeline: Pipeline) -> list[str]:
    """Ids of candidates whose files are needed to go on: the best one, the last one, what plans build on, the rest.

    The beginnings of plans come before their ends, what was taught before the rest, since it took longest to make, and
    what may still be taught before what is quantized.
    """
    trials, taken = pipeline.trials, pipeline.taken
    last = ends(taken)
    begun = sorted((plan for plan in taken if plan not in last), key=lambda plan: (not _is_taught(plan), len(plan)))
    to_teach = [plan for plan in last if isinstance(plan[-1], TAKING)]
    bases = [taken[steps].id for steps in [*list(taken)[-1:], *begun, *to_teach]]
    wanted = [trials.chosen, *bases, *(one.id for one in trials.ranked())]
    named = [name for name in dict.fromkeys(wanted) if name in trials.candidates]
    return [name for name in named if trials.candidates[name].path.exists()][:MOST_FILES]


def _is_taught(plan: Sequence[Step]) -> bool:
    return isinstance(plan[-1], Learning)


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
