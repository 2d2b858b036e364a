"""`python -m benchmarks [models] [service]`: what Strop is worth, and what the service costs. Writes bench.json."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import models, service
from benchmarks.table import Row, show

PARTS: dict[str, Callable[[], list[Row]]] = {"models": models.run, "service": service.run}


def main(names: list[str]) -> None:
    results = {}
    for name in names or PARTS:
        rows = PARTS[name]()
        show(name, rows)
        results[name] = rows
    Path("bench.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
