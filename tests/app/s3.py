"""An S3 server on loopback with one empty bucket per test."""

import uuid
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A STROP_STORAGE_URL; the credentials are in the environment, as for any S3 client."""
    return make_bucket(s3_server, monkeypatch)


def make_bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    import httpx2

    bucket = f"bucket-{uuid.uuid4().hex}"
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    assert httpx2.put(f"{server}/{bucket}").status_code == 200
    return f"s3://{bucket}/strop?endpoint={server}"
