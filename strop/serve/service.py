"""All parts together: started in order, watched, stopped in under five seconds.

Valkey, then the migrations, then API, worker and maintenance at once. The listening socket is ours and outlives an API.
"""

import os
import socket
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from threading import Event

import httpx2

from strop.serve import parts
from strop.serve.home import CannotServe, Home
from strop.serve.process import Process

START_SECONDS = 120.0
STOP_SECONDS = 3.5  # for all but Valkey, which is stopped last
VALKEY_STOP_SECONDS = 0.7
LOOK_SECONDS = 0.2
LOGGED_BY = {"broker": "valkey", "database": "api", "storage": "api"}  #: whose log tells of it


class Service:
    """A running service; made by `running`."""

    def __init__(self, url: str, processes: list[Process]) -> None:
        self.url = url
        self._processes = processes

    def watch(self, stop: Event, say: Callable[[str], None]) -> None:
        """Start again what dies, until told to stop."""
        while not stop.wait(LOOK_SECONDS):
            for process in self._processes:
                if message := process.revive():
                    say(message)


@contextmanager
def running(home: Home, *, host: str, port: int, slots: int | None, stop: Event) -> Generator[Service]:
    """The service in this folder, ready for work, for as long as the block runs."""
    parts.check_installed()
    _check_guarded(host)
    with home.held() as run, ExitStack() as started, _listen(host, port) as listener:
        environment = parts.environment(home, run, slots)

        def start(*wanted: parts.Part, stop_seconds: float = STOP_SECONDS) -> list[Process]:
            processes = [Process(part, home, run, environment) for part in wanted]
            started.callback(_stop, processes, stop_seconds)
            for process in processes:
                process.start()
            return processes

        broker = (
            [] if "STROP_BROKER_URL" in os.environ else start(parts.valkey(home, run), stop_seconds=VALKEY_STOP_SECONDS)
        )
        Process(parts.migrations(), home, run, environment).run()
        others = start(parts.api(listener.fileno()), parts.worker(), parts.maintenance())
        service = Service(_url(listener), broker + others)
        _wait_until_ready(service.url, broker + others, stop)
        yield service


def _check_guarded(host: str) -> None:
    if not _is_loopback(host) and not os.environ.get("STROP_API_KEYS"):
        raise CannotServe(
            f"{host} can be reached from other machines, so a key is needed: "
            "set STROP_API_KEYS to one or more secrets, separated by commas"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = f"{host} port {port} cannot be listened on ({error.strerror})"
        raise CannotServe(f"{reason}; is another service there? Name another one with --port") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it; else answers wait 40 ms
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _wait_until_ready(url: str, processes: list[Process], stop: Event) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while not stop.is_set():
        for process in processes:
            if not process.alive:
                raise process.failed()
        lacking = _lacking(url)
        if not lacking:
            return
        if time.monotonic() > ends_at:
            raise CannotServe(f"the service was not ready after {START_SECONDS:.0f} s: {_told(lacking, processes)}")
        time.sleep(LOOK_SECONDS)


def _lacking(url: str) -> dict[str, str]:
    """What is not ready yet, by its part, and how it is; empty once all is."""
    try:
        answer = httpx2.get(f"{url}/readyz", trust_env=False, timeout=2.0)
    except httpx2.TransportError:
        return {"api": "does not answer yet"}
    body = answer.json()
    if answer.status_code != httpx2.codes.OK:
        return {"api": body.get("detail", f"answers with {answer.status_code}")}
    return {name: state for name, state in body["checks"].items() if state != "ok"}


def _told(lacking: Mapping[str, str], processes: list[Process]) -> str:
    """With the last line that each part wrote, which says what it is at."""
    said = []
    for name, state in lacking.items():
        process = next((each for each in processes if each.part.name == LOGGED_BY.get(name, name)), processes[0])
        said.append(f"{name}: {state}; the last line of {process.log} says:\n{process.last_words(1) or '(nothing)'}")
    return "\n".join(said) + "\nA busy machine may just need longer: start it again when it has calmed down."


def _stop(processes: list[Process], within_seconds: float) -> None:
    """Ask all, wait for all, end those that stay, and what they left in their groups."""
    for process in processes:
        process.terminate()
    ends_at = time.monotonic() + within_seconds
    for process in processes:
        process.wait(ends_at)
        process.kill()
