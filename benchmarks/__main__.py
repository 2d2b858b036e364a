"""What Strop is worth, and what it costs. Prints tables, and writes bench.json.

    python -m benchmarks [models] [calibration] [training] [ablation] [distillation] [rounding] [service]
                         [recovery] [searching] [pruning] [replacing] [pictures] [zoo]

The last five run only where they are named: they take long, packages of their own, or write into docs/.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    ablation,
    calibration,
    distillation,
    pictures,
    pruning,
    recovery,
    replacing,
    rounding,
    searching,
    service,
    training,
)
from benchmarks.models import run as models
from benchmarks.table import Row, show
from benchmarks.zoo import run as zoo

PARTS: dict[str, Callable[[], list[Row]]] = {
    "models": models.run,
    "calibration": calibration.run,
    "training": training.run,
    "ablation": ablation.run,
    "rounding": rounding.run,
    "distillation": distillation.run,
    "service": service.run,
    "recovery": recovery.run,
    "searching": searching.run,
    "pruning": pruning.run,
    "replacing": replacing.run,
    "pictures": pictures.run,
    "zoo": zoo.run,
}
UNASKED = ("models", "calibration", "training", "ablation", "distillation", "rounding", "service", "recovery")


def main(names: list[str]) -> None:
    results = {}
    for name in names or UNASKED:
        rows = PARTS[name]()
        show(name, rows)
        results[name] = rows
    Path("bench.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
