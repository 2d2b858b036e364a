"""`python -m benchmarks [models] [calibration] [service] [zoo]`: what Strop is worth, what it costs. Writes bench.json.

The zoo takes half an hour and packages of its own, so it runs only where it is named.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import calibration, service
from benchmarks.models import run as models
from benchmarks.table import Row, show
from benchmarks.zoo import run as zoo

PARTS: dict[str, Callable[[], list[Row]]] = {
    "models": models.run,
    "calibration": calibration.run,
    "service": service.run,
    "zoo": zoo.run,
}
UNASKED = ("models", "calibration", "service")


def main(names: list[str]) -> None:
    results = {}
    for name in names or UNASKED:
        rows = PARTS[name]()
        show(name, rows)
        results[name] = rows
    Path("bench.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
