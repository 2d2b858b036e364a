"""The Python client: upload, ask, wait, take.

with Strop() as strop:
    job = strop.optimize("model.onnx", data="data.npz", max_drop=0.01)
    report = job.result()
    print(report.speedup, report.verdict.headline)
    job.download_model("faster.onnx")
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeAlias

from strop.download import download
from strop.job import Job
from strop.models import FileBody, JobBody, JobState
from strop.recipe import StepLike, models_named, recipe
from strop.transport import Transport
from strop.upload import Progress, inspected, saved_arrays, upload
from strop.version import VERSION

DEFAULT_URL = "http://127.0.0.1:8000"
MODELS, DATASETS, JOBS = "/v1/models", "/v1/datasets", "/v1/jobs"

NOT_OF_THE_RECIPE = frozenset({"model", "data", "name"})

#: A path is uploaded on the way; an id, or what an upload returned, is used as it is.
ModelLike: TypeAlias = str | Path | FileBody
#: As above, or arrays by the names of the model's inputs.
DataLike: TypeAlias = ModelLike | Mapping[str, Any]


class Strop:
    """A service that optimizes ONNX models.

    A service that was there and is gone is waited for, `patience_seconds` long; one never seen, two seconds at most.
    """

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None, *, patience_seconds: float = 60.0) -> None:
        self._transport = Transport(url, api_key, f"strop/{VERSION}", patience_seconds)

    @property
    def url(self) -> str:
        return self._transport.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Strop {self.url}>"

    def close(self) -> None:
        self._transport.close()

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def optimize(
        self,
        model: ModelLike,
        *,
        data: DataLike | None = None,
        evaluation: DataLike | None = None,
        labels: str | None = None,
        goal: str | None = None,
        steps: Sequence[StepLike] | None = None,
        max_drop: float | None = None,
        minutes: float | None = None,
        threads: int = 1,
        batch_size: int = 1,
        metric: str | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> Job:
        """Ask for a faster model: by these steps, or, without steps, by whatever serves the goal best."""
        what = recipe(
            goal=goal,
            steps=steps,
            max_drop=max_drop,
            minutes=minutes,
            threads=threads,
            batch_size=batch_size,
            metric=metric,
            seed=seed,
        )
        return self.submit(model, what, data=data, evaluation=evaluation, labels=labels, name=name)

    def compare(
        self,
        models: Sequence[ModelLike],
        *,
        data: DataLike | None = None,
        evaluation: DataLike | None = None,
        labels: str | None = None,
        minutes: float | None = None,
        threads: int = 1,
        batch_size: int = 1,
        metric: str | None = None,
        name: str | None = None,
    ) -> Job:
        """Measure models side by side, against the first; nothing is changed, and none is called better."""
        first, *others = models
        if not others:
            raise ValueError("give two models or more")
        ids = [self._model_id(model) for model in others]
        what = recipe(compare=ids, minutes=minutes, threads=threads, batch_size=batch_size, metric=metric)
        return self.submit(first, what, data=data, evaluation=evaluation, labels=labels, name=name)

    def analyze(
        self,
        model: ModelLike,
        *,
        data: DataLike | None = None,
        minutes: float | None = None,
        threads: int = 1,
        batch_size: int = 1,
        name: str | None = None,
    ) -> Job:
        """Measure and explain a model as it is: where its time goes, its activations, and which steps may help."""
        what = recipe(analyze=True, minutes=minutes, threads=threads, batch_size=batch_size)
        return self.submit(model, what, data=data, name=name)

    def submit(
        self,
        model: ModelLike,
        recipe: Mapping[str, Any],
        *,
        data: DataLike | None = None,
        evaluation: DataLike | None = None,
        labels: str | None = None,
        name: str | None = None,
    ) -> Job:
        """Ask for a recipe in the service's own grammar; one job comes of it, however often the network breaks."""
        if data is None and (evaluation is not None or labels is not None):
            raise ValueError("evaluation and labels need data")
        others = [other for _, other in models_named(recipe)]
        if not all(map(_is_uploaded, (model, data, evaluation, *others))):
            self.check(recipe)
        request = {**self._with_uploads(recipe), "model": self._model_id(model)}
        if data is not None:
            sources = {"calibration": data, "evaluation": evaluation}
            ids = {part: self._dataset_id(source) for part, source in sources.items() if source is not None}
            request["data"] = ids | ({"labels": labels} if labels else {})
        if name:
            request["name"] = name
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        answer = self._transport.post(JOBS, body=request, headers=headers, repeatable=True)
        return Job.of(self._transport, answer)

    def check(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe with all that it leaves out; raises InvalidRequest if it is wrong, before a file is sent for it,
        and FileNotFoundError if it names a model by a path where there is none.

        A whole job request will do; its model, data and name are not looked at.
        """
        what = {name: value for name, value in recipe.items() if name not in NOT_OF_THE_RECIPE}
        checked = self._transport.post("/v1/recipes/check", body=what, repeatable=True).json()
        for place, model in models_named(what):
            if not (_is_uploaded(model) or Path(model).is_file()):
                raise FileNotFoundError(f"{place}: there is no file {model}")
        return checked

    def job(self, job_id: str) -> Job:
        return Job.of(self._transport, self._transport.get(f"{JOBS}/{job_id}"))

    def jobs(self, state: JobState | str | None = None) -> Iterator[Job]:
        """All jobs, or those in a state, the newest first."""
        for item in self._pages(JOBS, {"state": str(state)} if state else {}):
            yield Job(self._transport, JobBody.parse(item))

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def upload_model(
        self, path: str | Path, *, name: str | None = None, on_progress: Progress | None = None
    ) -> FileBody:
        """Upload a model and wait until it has been inspected; raises Rejected with the reason if it is refused."""
        return self._upload(MODELS, Path(path), name, on_progress)

    def upload_dataset(
        self, data: str | Path | Mapping[str, Any], *, name: str | None = None, on_progress: Progress | None = None
    ) -> FileBody:
        """Upload an .npz, or arrays by the names of the model's inputs, and wait until it has been inspected."""
        with ExitStack() as stack:
            path = stack.enter_context(saved_arrays(data)) if isinstance(data, Mapping) else Path(data)
            return self._upload(DATASETS, path, name, on_progress)

    def inspect(self, model: ModelLike) -> FileBody:
        """What a model is and which steps apply to it: `.summary`."""
        return self.file(self._model_id(model))

    def file(self, file_id: str) -> FileBody:
        return FileBody.parse(self._transport.get(f"{_door_of(file_id)}/{file_id}").json())

    def models(self) -> Iterator[FileBody]:
        return map(FileBody.parse, self._pages(MODELS, {}))

    def datasets(self) -> Iterator[FileBody]:
        return map(FileBody.parse, self._pages(DATASETS, {}))

    def download_file(self, file_id: str, path: str | Path, on_progress: Progress | None = None) -> Path:
        """An uploaded file as it was uploaded."""
        return download(self._transport, f"{_door_of(file_id)}/{file_id}/content", Path(path), on_progress)

    def delete_file(self, file_id: str) -> None:
        self._transport.delete(f"{_door_of(file_id)}/{file_id}")

    # ── the service ──────────────────────────────────────────────────────────────────────────────────────────────────

    def steps(self) -> list[dict[str, Any]]:
        """The catalogue: what each step does and its options."""
        return self._transport.get("/v1/steps").json()["items"]

    def _upload(self, door: str, path: Path, name: str | None, on_progress: Progress | None) -> FileBody:
        return inspected(self._transport, door, upload(self._transport, door, path, name or path.name, on_progress))

    def _model_id(self, model: ModelLike) -> str:
        if isinstance(model, FileBody):
            return model.id
        return str(model) if _is_uploaded(model) else self.upload_model(model).id

    def _with_uploads(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe with an id for each path of a model that it names."""
        what = dict(recipe)
        if what.get("compare") is not None:
            what["compare"] = [self._model_id(model) for model in what["compare"]]
        if what.get("steps") is not None:
            what["steps"] = [self._with_upload(step) for step in what["steps"]]
        return what

    def _with_upload(self, step: Any) -> Any:
        uses = isinstance(step, Mapping) and step.get("kind") == "use_model" and "model" in step
        return {**step, "model": self._model_id(step["model"])} if uses else step

    def _dataset_id(self, data: DataLike) -> str:
        if isinstance(data, FileBody):
            return data.id
        return str(data) if _is_uploaded(data) else self.upload_dataset(data).id

    def _pages(self, door: str, params: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._transport.get(door, params={**params, **({"cursor": cursor} if cursor else {})}).json()
            yield from page["items"]
            cursor = page["next_cursor"]


def _is_uploaded(source: DataLike | None) -> bool:
    """Nothing, what an upload returned, or an id, unless a file is called so."""
    if isinstance(source, str):
        return source.startswith(("mdl_", "dat_")) and not Path(source).exists()
    return source is None or isinstance(source, FileBody)


def _door_of(file_id: str) -> str:
    return MODELS if file_id.startswith("mdl_") else DATASETS
