"""What the framework, the disk and the database raise becomes a problem too."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, HTTPException
from sqlalchemy import text
from starlette.testclient import TestClient

from app.database import Database
from app.http import problems


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A small app whose doors break in real ways."""
    app = FastAPI()
    problems.install(app)
    database = Database(f"sqlite:///{tmp_path / 'x.sqlite3'}")

    @app.get("/full-disk")
    def full_disk() -> None:
        Path("/dev/full").write_bytes(b"x")

    @app.get("/no-file")
    def no_file() -> None:
        (tmp_path / "secret-name").read_bytes()

    @app.get("/full-database")
    def full_database() -> None:
        with database.write() as session:
            session.execute(text("PRAGMA max_page_count = 2"))
            session.execute(text("CREATE TABLE t (x)"))
            session.execute(text("INSERT INTO t VALUES (zeroblob(1000000))"))

    @app.get("/wrong-sql")
    def wrong_sql() -> None:
        with database.write() as session:
            session.execute(text("CREATE TABLE u (x NOT NULL)"))
            session.execute(text("INSERT INTO u VALUES (NULL)"))

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418, "short and stout", headers={"X-Tea": "green"})

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    database.engine.dispose()


@pytest.mark.parametrize(
    ("door", "status", "code"),
    [
        ("/full-disk", 507, "storage_full"),
        ("/full-database", 507, "storage_full"),
        ("/no-file", 500, "internal_error"),
        ("/wrong-sql", 500, "internal_error"),
        ("/teapot", 418, "http_418"),
    ],
)
def test_it_becomes_a_problem(client: TestClient, door: str, status: int, code: str) -> None:
    answer = client.get(door)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret-name" not in answer.text
    assert answer.json().get("instance") is None


def test_headers_of_the_framework_are_kept(client: TestClient) -> None:
    assert client.get("/teapot").headers["x-tea"] == "green"
