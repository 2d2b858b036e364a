"""What every test may rely on: no telemetry, no network but loopback, one thread per native pool."""

import os

os.environ.update(ORT_DISABLE_TELEMETRY="1", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NO_COLOR="1")
