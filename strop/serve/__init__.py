"""The embedded service: Valkey, API, worker and maintenance as one command, `strop serve`.

Linux and macOS. The parts are subprocesses named by module, so that the client alone installs none of them.
"""

from strop.serve.embedded import embedded

__all__ = ["embedded"]
