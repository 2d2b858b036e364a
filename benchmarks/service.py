"""What the service costs: each figure beside the plainest thing that does the same work, in the same run.

upload        a 2 GiB file over HTTP            against  cp + sha256sum of it on the same disk
memory        of the API process meanwhile      against  what it was before
polls         GET of a job, per second          against  an empty FastAPI endpoint under the same uvicorn
start         submit answered → child started   (seconds)
whole job     quantize_static through HTTP      against  the same engine, called without a service
"""

import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np
import psutil

from benchmarks.models.job import run_engine
from benchmarks.table import Row
from engine.recipe import QuantizeStatic, Recipe
from strop import Job, Strop
from strop.serve import embedded

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
FILES = (DIGITS / "model.onnx", DIGITS / "calibration.npz", DIGITS / "test.npz")
UPLOAD_BYTES = 2 << 30
ROUNDS = 3
POLL_SECONDS, POLL_CONNECTIONS = 5.0, 4
MIB = 1 << 20


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        with embedded(folder / "home") as url, Strop(url) as strop:
            return [*_upload(url, folder), *_polls(url, _job(strop)), _start(strop), _whole_job(strop, folder)]


def _job(strop: Strop) -> Job:
    model, calibration, evaluation = FILES
    return strop.optimize(model, data=calibration, evaluation=evaluation, steps=["quantize_static"]).wait()


# ── upload ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _upload(url: str, folder: Path) -> list[Row]:
    source = folder / "big.npz"
    np.savez(source, x=np.ones((UPLOAD_BYTES // 4096, 1024), np.float32))
    api = _process("app.main")
    before, peak = api.memory_info().rss, Peak(api)
    plain, sent = [], []
    with peak.watching():
        for _ in range(ROUNDS):
            plain.append(_seconds(lambda: _copy_and_hash(source, folder / "copy")))
            sent.append(_seconds(lambda: _post(url, source)))
            time.sleep(10)  # the inspection of what was sent is not the upload's cost
    ratio = statistics.median(one / other for one, other in zip(sent, plain, strict=True))
    return [
        {
            "what": "upload of 2 GiB ÷ (cp + sha256sum)",
            "ratio": f"{ratio:.2f}",
            "ours": f"{statistics.median(sent):.1f} s",
            "plain": f"{statistics.median(plain):.1f} s",
        },
        {
            "what": "API memory, peak while uploading − before",
            "ratio": f"{peak.bytes / before:.2f}",
            "ours": f"{peak.bytes / MIB:.0f} MiB",
            "plain": f"{before / MIB:.0f} MiB",
        },
    ]


def _copy_and_hash(source: Path, target: Path) -> None:
    subprocess.run(["cp", str(source), str(target)], check=True)
    subprocess.run(["sha256sum", str(source)], check=True, stdout=subprocess.DEVNULL)
    target.unlink()


def _post(url: str, source: Path) -> None:
    """Only the bytes on the wire and their answer."""
    headers = {"Content-Length": str(source.stat().st_size)}
    with source.open("rb") as file:
        chunks = iter(lambda: file.read(MIB), b"")
        answer = httpx2.post(
            f"{url}/v1/datasets", params={"name": source.name}, content=chunks, headers=headers, timeout=120
        )
    answer.raise_for_status()


class Peak:
    """The largest resident set seen of a process."""

    def __init__(self, process: psutil.Process) -> None:
        self.bytes = 0
        self._process = process
        self._done = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.bytes = max(self.bytes, self._process.memory_info().rss)


# ── polls ────────────────────────────────────────────────────────────────────────────────────────────────────────────

EMPTY = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/')\ndef read() -> dict[str, str]:\n    return {}\n"


def _polls(url: str, job: Job) -> list[Row]:
    with _empty_service() as empty:
        pairs = [(_per_second(f"{url}/v1/jobs/{job.id}"), _per_second(f"{empty}/")) for _ in range(ROUNDS)]
    ours, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
    return [
        {
            "what": "status polls per second ÷ an empty FastAPI endpoint",
            "ratio": f"{statistics.median(one / other for one, other in pairs):.2f}",
            "ours": f"{ours:.0f} /s",
            "plain": f"{plain:.0f} /s",
        }
    ]


@contextmanager
def _empty_service() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "empty.py").write_text(EMPTY)
        command = [sys.executable, "-m", "uvicorn", "empty:app", "--port", "8997", "--no-access-log"]
        process = subprocess.Popen([*command, "--log-level", "error"], cwd=folder)
        try:
            _until(lambda: _answers("http://127.0.0.1:8997/"))
            yield "http://127.0.0.1:8997"
        finally:
            process.terminate()
            process.wait()


def _per_second(address: str) -> float:
    """Requests answered over some connections that stay open, each client in its own process."""
    command = [sys.executable, "-m", "benchmarks.service", address]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(POLL_CONNECTIONS)]
    return sum(int(client.communicate()[0]) for client in clients) / POLL_SECONDS


def _poll(address: str) -> int:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc)
    count, end = 0, time.monotonic() + POLL_SECONDS
    while time.monotonic() < end:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == http.HTTPStatus.OK, answer.status
        count += 1
    return count


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _start(strop: Strop) -> Row:
    """From the answer to a submit to the first word of the child, by the service's own clock."""
    delays = []
    for _ in range(ROUNDS):
        events = list(_job(strop).events())
        moments = {event.type: datetime.fromisoformat(event.data["at"]) for event in reversed(events)}
        delays.append((moments["stage"] - moments["state"]).total_seconds())
    return {
        "what": "submit → child at work (no plain twin)",
        "ratio": "",
        "ours": f"{statistics.median(delays):.2f} s",
        "plain": "",
    }


def _whole_job(strop: Strop, folder: Path) -> Row:
    """From the submit to the final state, against the engine alone on the same files; both in turns."""
    model, calibration, evaluation = FILES
    uploaded = strop.upload_model(model), strop.upload_dataset(calibration), strop.upload_dataset(evaluation)
    recipe = Recipe(steps=[QuantizeStatic()])
    through, alone = [], []
    for number in range(ROUNDS):
        through.append(_seconds(lambda: _optimize(strop, uploaded)))
        alone.append(_seconds(lambda: run_engine(recipe, folder / f"attempt-{number}", *FILES)))  # noqa: B023
    return {
        "what": "whole job through the service ÷ engine alone",
        "ratio": f"{statistics.median(one / other for one, other in zip(through, alone, strict=True)):.2f}",
        "ours": f"{statistics.median(through):.1f} s",
        "plain": f"{statistics.median(alone):.1f} s",
    }


def _optimize(strop: Strop, files: tuple) -> None:
    model, calibration, evaluation = files
    strop.optimize(model, data=calibration, evaluation=evaluation, steps=["quantize_static"]).wait()


# ── plain things ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _seconds(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def _process(module: str) -> psutil.Process:
    children = psutil.Process().children(recursive=True)
    return next(child for child in children if any(module in word for word in child.cmdline()))


def _until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.1)


def _answers(address: str) -> bool:
    parts = urlsplit(address)
    try:
        connection = http.client.HTTPConnection(parts.netloc, timeout=1)
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False


if __name__ == "__main__":
    print(_poll(sys.argv[1]))
