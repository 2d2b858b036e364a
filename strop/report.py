"""The evidence of a job, as a mapping with shortcuts to what is asked first."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from strop.models import Interval, Verdict


class Report(Mapping[str, Any]):
    """All of report.json by its own names, such as `report["baseline"]["latency"]["median_ms"]`."""

    def __init__(self, data: dict[str, Any], fetch: Callable[[str], bytes]) -> None:
        self._data = data
        self._fetch = fetch  # the same report as another media type

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"<Report {self.verdict.outcome}: {self.verdict.headline}>"

    def _repr_html_(self) -> str:
        from html import escape

        return f'<iframe srcdoc="{escape(self.html)}" width="100%" height="800" sandbox="allow-scripts"></iframe>'

    @property
    def verdict(self) -> Verdict:
        return Verdict.parse(self["verdict"])

    @property
    def improved(self) -> bool:
        return self.verdict.improved

    @property
    def speedup(self) -> Interval | None:
        """Time of the original over that of the offered file."""
        return _interval(self["comparison"].get("speedup"))

    @property
    def accuracy_drop(self) -> Interval | None:
        """Loss of the metric; positive is worse."""
        return _interval(self["comparison"].get("accuracy_drop"))

    @cached_property
    def text(self) -> str:
        """The report for a terminal."""
        return self._fetch("text/plain").decode()

    @cached_property
    def html(self) -> str:
        return self._fetch("text/html").decode()

    def save_html(self, path: str | Path) -> Path:
        """The report as one page that needs no network."""
        path = Path(path)
        path.write_text(self.html, encoding="utf-8")
        return path


def _interval(data: Mapping[str, Any] | None) -> Interval | None:
    return None if data is None else Interval.parse(data)
