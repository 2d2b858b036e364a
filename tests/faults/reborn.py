"""An API that is there again at once whenever it dies: `python -m tests.faults.reborn PORT`.

A parent imports the service and holds the listening socket; each child that it forks composes the API anew and serves
until it is killed. So a hundred deaths do not cost a hundred starts of Python.
"""

import os
import socket
import sys
from typing import NoReturn

import uvicorn

from app.main import create_app_from_environment
from strop.serve.tether import tie_to_parent


def main(port: int) -> NoReturn:
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        child = os.fork()
        if child == 0:
            serve(listener)
        os.waitpid(child, 0)


def serve(listener: socket.socket) -> NoReturn:
    tie_to_parent()
    server = uvicorn.Server(uvicorn.Config(create_app_from_environment, factory=True, access_log=False))
    server.run(sockets=[listener])
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
