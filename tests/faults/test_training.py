"""Jobs that train, with the real engine: killed in the midst of it, out of memory, out of time."""

import io
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import psutil
import pytest

from app.database import JobState
from engine.report import Report, Trial
from tests.faults.child import Act
from tests.faults.cluster import Cluster, Part, until
from tests.faults.figures import FULL, report, size, spread
from tests.faults.ledger import Ledger, processes_of
from tests.faults.test_workers import POINTS
from tests.models import Net, mlp
from workers.aside import Aside

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(3600 if FULL else 900)]

STEPS = 1500  #: of a perceptron, at least
LONG_SECONDS = 6.0  #: of a training that can be killed in its midst, however fast the machine
SEED = 20261124
MIDWAY = "training"  #: a place as those where failpoints are: in the midst of the steps
JOB_SECONDS = 900.0  #: at most, on a machine that may be busy
BOX_BYTES = 600 << 20  #: a job without training fits into it
ENDLESS_SECONDS = 25.0


class TrainingLedger(Ledger):
    """Each of its jobs teaches a perceptron by labels, so many steps long."""

    content = mlp().model().SerializeToString()
    learning: dict[str, Any] = {"steps": STEPS, "batch_size": 16, "learning_rate": 0.001}  # noqa: RUF012 - replaced
    minutes = 10.0

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.data = self.upload("datasets", self.samples())

    def samples(self) -> bytes:
        """Labels that a perceptron can learn."""
        features = np.random.default_rng(0).standard_normal((300, 20)).astype(np.float32)
        return saved(features=features, labels=features[:, :5].argmax(1))

    def body(self, act: Act, seconds: float) -> dict[str, Any]:
        del act, seconds  # of the stand-in
        steps = [{"kind": "distill", "labels": True, **self.learning}]
        data, budget = {"calibration": self.data}, {"minutes": self.minutes}
        return {"model": self.model, "data": data, "steps": steps, "budget": budget}

    def trained(self, job_id: str) -> Trial:
        """What came of the training, as the report tells it."""
        (stored,) = [one for one in self.story(job_id).artifacts if one.name == "report.json"]
        content = b"".join(self.cluster.workplace.storage.open(stored.sha256))
        (trial,) = Report.model_validate_json(content).trials
        return trial


class WideLedger(TrainingLedger):
    """Its network is small as a file, and large while gradients are kept."""

    learning = {"steps": 50, "batch_size": 256, "learning_rate": 0.001}  # noqa: RUF012 - replaced

    def __init__(self, cluster: Cluster) -> None:
        net = Net()
        x = net.input("features", ["batch", 4, 64, 64])
        for came in (4, *[16] * 7):
            x = net.op("Relu", net.conv(x, (came, 16)))
        net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), (16, 4), name="scores")
        self.content = net.output("scores", ["batch", 4]).model().SerializeToString()
        super().__init__(cluster)

    def samples(self) -> bytes:
        features = np.random.default_rng(0).standard_normal((900, 4, 64, 64)).astype(np.float32)
        return saved(features=features, labels=features.mean((2, 3)).argmax(1))


class EndlessLedger(TrainingLedger):
    """Its jobs train for longer than anybody waits."""

    learning = {"steps": 1_000_000, "batch_size": 64, "learning_rate": 0.001}  # noqa: RUF012 - replaced
    minutes = 600.0


Opened = Callable[[type[TrainingLedger]], TrainingLedger]


def saved(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One API and one worker, with the engine; a lease is short, but not on a busy machine."""
    settings = {"STROP_LEASE_SECONDS": "8", "STROP_HEARTBEAT_SECONDS": "0.5"}
    found = Cluster(tmp_path_factory.mktemp("training"), engine="", settings=settings)
    yield found
    found.kill_all()


@pytest.fixture
def opened(cluster: Cluster) -> Iterator[Opened]:
    """Ledgers of these kinds, closed afterwards."""
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(closing(kind(cluster)))


def begun(cluster: Cluster, **settings: str) -> Part:
    """The only worker, started anew with these settings."""
    cluster.start()
    (worker,) = cluster.worker
    worker.kill()
    worker.start(**settings)
    until(lambda: cluster.workers_present() >= 1, "the worker is there")
    return worker


# ── killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def kill_at(place: str, cluster: Cluster, ledger: TrainingLedger, after: int = 1) -> tuple[str, int, float]:
    """A job whose worker was killed at this place: its id, the step then known to be kept, seconds to its new start.

    In the midst of a training: when so many steps are kept.
    """
    worker = begun(cluster, **({} if place == MIDWAY else {"failpoints": f"{place}=stop"}))
    job_id = ledger.submit()
    aside = Aside.of(cluster.workplace, job_id)
    if place == MIDWAY:
        until(lambda: kept_step(aside) >= after, "a training was put aside", JOB_SECONDS)
    else:
        until(worker.stopped_processes, f"the worker stands at {place}", JOB_SECONDS)
    step = kept_step(aside)
    worker.kill()
    until(lambda: not processes_of(cluster), "the child has died with its worker")
    killed_at = time.monotonic()
    worker.start()
    until(lambda: ledger.is_over(job_id) or ledger.story(job_id).executions == 2, "the job is taken again")
    recovery = time.monotonic() - killed_at
    ledger.wait(JOB_SECONDS)
    return job_id, step, recovery


def kept_step(aside: Aside) -> int:
    """Up to which the training was put aside; 0 where it was not yet."""
    for snapshot in aside.folder.glob("training*.npz"):
        with np.load(snapshot, allow_pickle=False) as stored:
            return json.loads(str(stored["arr_0"]))["course"]["step"]
    return 0


def went_on_from(trial: Trial) -> int:
    """The step; 0 where it began anew."""
    assert trial.training
    found = re.search(r"went on from step (\d+)", " ".join(trial.training.notes))
    return int(found[1]) if found else 0


def test_r05_a_killed_training_goes_on_and_comes_to_the_same_bits(cluster: Cluster, opened: Opened) -> None:
    rounds, chance = size(1, 10), random.Random(SEED)
    begun(cluster)
    ledger = opened(TrainingLedger)
    wanted, recovery, saved_steps = undisturbed(ledger), [], []
    assert wanted.training
    steps = wanted.training.steps
    for _ in range(rounds):
        job_id, step, seconds = kill_at(MIDWAY, cluster, ledger, after=int(chance.uniform(0.01, 0.7) * steps))
        found = ledger.trained(job_id)
        assert went_on_from(found) >= step > 0
        assert found.sha256 == wanted.sha256
        assert held_out(found) == held_out(wanted)
        saved_steps.append(went_on_from(found) / steps)
        recovery.append(seconds)
    audit = ledger.audit()
    result = f"lost {len(audit.lost)}, doubled {len(audit.doubled)}, other bits 0; "
    result += f"{min(saved_steps):.0%} to {max(saved_steps):.0%} of the steps not repeated; recovery {spread(recovery)}"
    report("R05 training", result, count=rounds, faults=rounds)
    assert audit.clean


def undisturbed(ledger: TrainingLedger) -> Trial:
    """A training that nothing happens to, and so long that something can; the ledger's next ones are as long."""
    while True:
        job_id = ledger.submit()
        ledger.wait(JOB_SECONDS)
        found = ledger.trained(job_id)
        assert found.training
        if found.training.seconds >= LONG_SECONDS / 2:
            return found
        longer = int(found.training.steps * LONG_SECONDS / max(found.training.seconds, 0.1))
        ledger.learning = ledger.learning | {"steps": longer}


def held_out(trial: Trial) -> list[tuple[int, float]]:
    assert trial.training
    return [(point.step, point.held_out) for point in trial.training.curve]


@pytest.mark.skipif(not FULL, reason="part of make faults")
@pytest.mark.parametrize("place", POINTS)
def test_r05_a_worker_that_trains_may_die_anywhere(cluster: Cluster, opened: Opened, place: str) -> None:
    rounds = size(1, 10)
    begun(cluster)
    ledger, recovery = opened(TrainingLedger), []
    ledger.learning = ledger.learning | {"steps": 200}
    for _ in range(rounds):
        _, _, seconds = kill_at(place, cluster, ledger)
        recovery.append(seconds)
    audit, states = ledger.audit(), {story.job.state for story in ledger.stories()}
    result = f"lost {len(audit.lost)}, doubled {len(audit.doubled)}; recovery {spread(recovery)}"
    report(f"R05 training, {place}", result, count=rounds, faults=rounds)
    assert states == {JobState.SUCCEEDED}
    assert audit.clean


# ── beyond its memory, and its time ──────────────────────────────────────────────────────────────────────────────────


def test_r08_a_training_beyond_its_memory_is_told_as_that(cluster: Cluster, opened: Opened) -> None:
    count = size(1, 20)
    worker = begun(cluster, job_memory_bytes=str(BOX_BYTES))
    ledger = opened(WideLedger)
    before = resident(worker)
    for _ in range(count):
        job_id = ledger.submit()
        ledger.wait(JOB_SECONDS)
        story = ledger.story(job_id)
        assert (story.job.state, story.job.error["code"]) == (JobState.FAILED, "out_of_memory"), story.job.error
        assert [event.data["stage"] for event in story.events if event.type == "stage"][-1] == "training"
    grown, audit = resident(worker) - before, ledger.audit()
    result = f"told as that {count}; the worker grew by {grown >> 20} MiB"
    report("R08 training", result, count=count, faults=count)
    assert grown < 64 << 20
    assert audit.clean


def resident(part: Part) -> int:
    """Bytes of the worker itself and its slots, children of attempts left out."""
    own = [psutil.Process(part.pid), *psutil.Process(part.pid).children(recursive=True)]
    return sum(process.memory_info().rss for process in own if "celery" in " ".join(process.cmdline()))


def test_r44_a_training_without_end_is_ended_and_leaves_no_process(cluster: Cluster, opened: Opened) -> None:
    count = size(1, 10)
    begun(cluster, job_max_seconds=str(int(ENDLESS_SECONDS)))
    ledger, overshoot = opened(EndlessLedger), []
    for _ in range(count):
        job_id = ledger.submit()
        ledger.wait(JOB_SECONDS)
        story = ledger.story(job_id)
        assert (story.job.state, story.job.error["code"]) == (JobState.FAILED, "job_timeout")
        assert story.executions == 1
        assert "model.onnx" in {artifact.name for artifact in story.artifacts}, "the best so far is offered"
        overshoot.append(story.job.finished_at - story.job.started_at - ENDLESS_SECONDS)
    audit = ledger.audit()
    report("R44 training", f"survivors {len(audit.leftovers)}; too long by {spread(overshoot)}", count=count, faults=0)
    assert audit.clean
