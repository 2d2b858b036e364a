"""A real API on loopback, and a stand-in for its workers that moves jobs by the same guarded updates."""

import hashlib
import io
import socket
import threading
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from sqlalchemy import insert, update

from app.blobs import keep
from app.database import Artifact, File, FileState, Job, JobState
from app.events import append_event, transition
from app.main import create_app
from app.services import Services
from app.settings import Settings
from engine.report import ArrayInfo, DatasetSummary, ModelSummary, StepFit, TensorInfo

MODEL_BYTES = b"\x08\x08" + b"a graph" * 20
NO_BROKER = "redis://127.0.0.1:1/0"
SUMMARY = ModelSummary(
    inputs=[TensorInfo(name="image", dtype="float32", shape=["batch", 1, 8, 8])],
    outputs=[TensorInfo(name="logits", dtype="float32", shape=["batch", 10])],
    opset=17,
    ir_version=8,
    operators={"Conv": 2},
    nodes=2,
    parameters=100,
    size_bytes=len(MODEL_BYTES),
    expected_memory_bytes=1000,
    steps=[
        StepFit(kind="simplify_graph", applies=True),
        StepFit(kind="quantize_static", applies=True),
        StepFit(kind="quantize_dynamic", applies=False, reason="no MatMul weight with more than 1024 values"),
    ],
)
ARRAYS = [
    ArrayInfo(name="image", dtype="float32", shape=[100, 1, 8, 8]),
    ArrayInfo(name="labels", dtype="int64", shape=[100]),
]


def settings_for(home: Path, database_url: str = "", **changes: Any) -> Settings:
    return Settings(
        home=home, database_url=database_url, auto_migrate=True, broker_url=NO_BROKER, min_free_bytes=0, **changes
    )


def npz_bytes(**members: bytes) -> bytes:
    """An archive that looks like an .npz from outside."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in (members or {"image": b"\x93NUMPY"}).items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content)
    return held.getvalue()


@dataclass
class Service:
    """A running API: `http` is how a user sees it, the methods are what its workers would do."""

    http: httpx2.Client
    services: Services
    url: str
    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)

    def upload_model(self, content: bytes = MODEL_BYTES, *, summary: ModelSummary | None = SUMMARY) -> str:
        """Id of an uploaded model, inspected unless `summary` is None."""
        return self._upload("/v1/models", content, summary)

    def upload_dataset(self, arrays: list[ArrayInfo] | None = None) -> str:
        summary = DatasetSummary(samples=100, arrays=arrays or ARRAYS, size_bytes=1000)
        return self._upload("/v1/datasets", npz_bytes(), summary)

    def submit(self, **changes: Any) -> dict[str, Any]:
        """The body of a new job."""
        body = {"goal": {"minimize": "latency"}, **changes}
        body.setdefault("model", self.upload_model() if "model" not in body else None)
        answer = self.http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def settle(self, file_id: str, *, summary: Any = None, error: Mapping[str, Any] | None = None) -> None:
        """End the inspection of a file."""
        inspection = self.services.files.inspection(file_id)
        assert inspection is not None
        self.start(inspection[0])
        state = FileState.REJECTED if error else FileState.READY
        with self.services.database.write() as session:
            values = {"state": state, "summary": summary and summary.model_dump(mode="json"), "error": error}
            session.execute(update(File).where(File.id == file_id).values(**values))
            assert transition(session, inspection[0], JobState.SUCCEEDED, token=self.tokens[inspection[0]])

    def start(self, job_id: str) -> None:
        token = uuid.uuid4().hex
        with self.services.database.write() as session:
            values = {"lease_token": token, "lease_owner": "test", "attempt": Job.attempt + 1}
            assert transition(session, job_id, JobState.RUNNING, values=values)
        self.tokens[job_id] = token

    def tell(self, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
        with self.services.database.write() as session:
            append_event(session, job_id, kind, data)

    def finish(self, job_id: str, to: JobState = JobState.SUCCEEDED, **files: bytes) -> None:
        """End a running job with these files (`model_onnx=…` is model.onnx, `candidates__t01_onnx` in its folder)."""
        with self.services.database.write() as session:
            for name, content in files.items():
                self._publish(session, job_id, name.replace("__", "/").replace("_", "."), content)
            assert transition(session, job_id, to, token=self.tokens[job_id])

    def _publish(self, session: Any, job_id: str, name: str, content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.folder / sha256
        path.write_bytes(content)
        self.services.storage.put(path, sha256)
        keep(session, self.services.storage, path, sha256)
        session.execute(insert(Artifact).values(job_id=job_id, name=name, sha256=sha256, attempt=1))

    def _upload(self, door: str, content: bytes, summary: Any) -> str:
        answer = self.http.post(door, content=content)
        assert answer.status_code == 201, answer.text
        file_id = answer.json()["id"]
        if summary is not None:
            self.settle(file_id, summary=summary)
        return file_id


@contextmanager
def running(settings: Settings, folder: Path) -> Iterator[Service]:
    """The API under uvicorn, in a thread of this process."""
    app = create_app(settings)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)  # early requests wait for the server instead of being refused
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    folder.mkdir(exist_ok=True)
    with httpx2.Client(base_url=url, timeout=30) as http:
        yield Service(http, app.state.services, url, folder)
    server.should_exit = True
    thread.join(timeout=10)
    listener.close()
    assert not thread.is_alive()
