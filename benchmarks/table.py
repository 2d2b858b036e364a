"""Rows of a benchmark, printed as a table."""

from typing import TypeAlias

from rich.console import Console
from rich.table import Table

Row: TypeAlias = dict[str, str]


def show(title: str, rows: list[Row]) -> None:
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*row.values())
    Console(width=160).print(table)
