"""Bad networks and odd servers, real ones on loopback."""

import hashlib
import random
import select
import socket
import socketserver
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler


class Server(socketserver.ThreadingTCPServer):
    """One thread a connection; that the other side goes away is no news here."""

    def handle_error(self, *_: object) -> None:
        error = sys.exception()
        if error and not isinstance(error, ConnectionError):
            raise error


class FileServer:
    """Serves one file, in ranges if asked; the file and what is said of it can be changed meanwhile."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.claimed_sha256: str | None = None  # instead of the true one
        self.statuses: list[int] = []  # to answer first, in this order
        self.requests: list[str] = []  # method and path, and the range asked for
        self.bytes_sent = 0
        self.stops_after: int | None = None  # bytes, then the connection breaks

    @property
    def sha256(self) -> str:
        return self.claimed_sha256 or hashlib.sha256(self.content).hexdigest()

    def first_byte(self, wanted: str, if_range: str | None) -> int:
        is_same = if_range in (None, f'"{self.sha256}"')
        return int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and is_same else 0

    def headers(self, first: int) -> dict[str, str]:
        digest = b64encode(bytes.fromhex(self.sha256)).decode()
        whole = {"ETag": f'"{self.sha256}"', "Repr-Digest": f"sha-256=:{digest}:"}
        size = len(self.content)
        return whole | ({"Content-Range": f"bytes {first}-{size - 1}/{size}"} if first else {})


@contextmanager
def serving(files: FileServer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            files.requests.append(f"{self.command} {self.path} {wanted}".strip())
            if files.statuses:
                self._answer(files.statuses.pop(0), b"", {"Retry-After": "0"})
                return
            first = files.first_byte(wanted, self.headers.get("If-Range"))
            self._answer(206 if first else 200, files.content[first:], files.headers(first))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.do_GET()

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            body = body[: files.stops_after]
            self.wfile.write(body)
            files.bytes_sent += len(body)
            if files.stops_after is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with running(Server(("127.0.0.1", 0), Handler)) as url:
        yield url


@contextmanager
def cut_at_random(url: str, seed: int, longest: int, cuts: int) -> Iterator[str]:
    """A way to a server on which so many connections break, each after some bytes towards the client."""
    host, port = url.removeprefix("http://").split(":")
    generator = random.Random(seed)
    budgets = [generator.randrange(1, longest) for _ in range(cuts)]

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            budget = budgets.pop() if budgets else 1 << 62
            with socket.create_connection((host, int(port))) as upstream:
                while budget > 0:
                    for ready in select.select([self.request, upstream], [], [])[0]:
                        data = ready.recv(min(65536, budget) if ready is upstream else 65536)
                        if not data:
                            return
                        (self.request if ready is upstream else upstream).sendall(data)
                        budget -= len(data) if ready is upstream else 0

    with running(Server(("127.0.0.1", 0), Handler)) as way:
        yield way


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
