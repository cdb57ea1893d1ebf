"""Findings of the doctor as tables for the console."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

    from ...doctor.environment import Finding

__all__ = ["print_findings"]

_STYLES = {"failed": "bold red", "warning": "yellow"}


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print a table for each group. Reasons of warnings and failures wrap; the others are cut to one line."""
    from rich.table import Table
    from rich.text import Text

    width = max(len(finding.check) for finding in findings)
    for group, members in groupby(findings, key=lambda finding: finding.group):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left", header_style="bold")
        table.add_column(group, min_width=width, no_wrap=True)
        table.add_column("verdict", min_width=8, no_wrap=True)
        table.add_column("reason")
        for finding in members:
            brief = finding.verdict not in _STYLES
            reason = Text(finding.reason, no_wrap=brief, overflow="ellipsis" if brief else "fold")
            table.add_row(Text(finding.check), Text(finding.verdict, _STYLES.get(finding.verdict, "")), reason)
        console.print(table)
        console.print()
