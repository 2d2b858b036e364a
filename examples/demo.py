"""The main job, end to end: `make demo`.

Starts the embedded service in a folder of its own, uploads the digits CNN and its data over HTTP, asks for the fastest
network within one point of top-1, follows the job, prints the report and stops everything.
"""

import sys
from pathlib import Path

from strop import Strop
from strop.progress import follow
from strop.serve import embedded

DIGITS = Path(__file__).parent / "digits"
OUTPUT = Path("demo-output")


def main() -> int:
    OUTPUT.mkdir(exist_ok=True)
    with embedded(OUTPUT / "service") as url, Strop(url) as strop:
        print(f"The service runs at {url}. Asking for the fastest digits CNN within one point of top-1 …")
        job = strop.optimize(
            DIGITS / "model.onnx",
            data=DIGITS / "calibration.npz",
            evaluation=DIGITS / "test.npz",
            goal="latency",
            max_drop=0.01,
            minutes=2,
        )
        follow(job)
        report = job.wait().report()
        print(report.text)
        model = job.download_model(OUTPUT / "faster.onnx")
        page = report.save_html(OUTPUT / "report.html")
    print(f"Faster model: {model}\nReport:       {page}")
    return 0 if job.state == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
