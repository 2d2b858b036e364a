"""A download that is cut anywhere goes on where it stopped, and never mixes two files."""

import random

import httpx2
import pytest

from tests.faults.cluster import Cluster
from tests.faults.figures import report, size
from tests.faults.ledger import Ledger
from tests.faults.standin import MODEL, request

pytestmark = pytest.mark.xdist_group("faults")

SIZE = 3 << 20


def finished_job(ledger: Ledger, http: httpx2.Client, content: bytes) -> str:
    """The address of a result with exactly these bytes."""
    model = http.post("/v1/models?name=m", content=content, headers={"Prefer": "wait=30"}).json()
    job = http.post("/v1/jobs", json=request(model["id"]), headers={"Idempotency-Key": model["id"]}).json()
    ledger.accepted[model["id"]] = job["id"]
    ledger.wait()
    return f"/v1/jobs/{job['id']}/model"


def cut(http: httpx2.Client, address: str, length: int) -> tuple[bytes, str]:
    """The first bytes of a download that breaks off, and the entity tag."""
    got = b""
    with http.stream("GET", address) as answer:
        for chunk in answer.iter_bytes():
            got += chunk
            if len(got) >= length:
                break
        return got[:length], answer.headers["etag"]


def test_r36_a_cut_download_is_resumed_and_a_replaced_file_is_sent_whole(cluster: Cluster, ledger: Ledger) -> None:
    chance, count, wrong = random.Random(36), size(8, 50), 0
    content = MODEL + chance.randbytes(SIZE)
    with httpx2.Client(base_url=cluster.urls[0], timeout=60) as http:
        address = finished_job(ledger, http, content)
        other = finished_job(ledger, http, content[:-1])
        for number in range(count):
            start, tag = cut(http, address, chance.randrange(1, SIZE))
            replaced = number % 4 == 3  # as if another file had come to this address meanwhile
            resume = {"Range": f"bytes={len(start)}-", "If-Range": tag}
            answer = http.get(other if replaced else address, headers=resume)
            whole = answer.content if answer.status_code == 200 else start + answer.content
            expected = (200, content[:-1]) if replaced else (206, content)
            wrong += (answer.status_code, whole) != expected
    report("R36", f"wrong {wrong}", count=count, faults=count)
    assert wrong == 0
    assert ledger.audit().clean
