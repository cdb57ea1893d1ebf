"""Findings of the doctor as tables for the console."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ..console import print_text

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

    from ...doctor.environment import Finding

__all__ = ["print_findings"]

_STYLES = {"failed": "bold red", "warning": "yellow"}


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print a table for each group.

    On a terminal, reasons of warnings and failures wrap; all other reasons are cut to one line.
    """
    longest = max(len(finding.check) for finding in findings)
    for group, members in groupby(findings, key=lambda finding: finding.group):
        if console.is_terminal:
            _print_table(group, list(members), min(longest, console.width * 2 // 5), console)
        else:
            print_text(f"{group:<{longest}}  verdict   reason", console)
            for finding in members:
                print_text(f"{finding.check:<{longest}}  {finding.verdict:<8}  {finding.reason}", console)
        console.print()


def _print_table(group: str, members: Sequence[Finding], width: int, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(group, width=width)
    table.add_column("verdict", min_width=8, no_wrap=True)
    table.add_column("reason")
    for finding in members:
        brief = finding.verdict not in _STYLES
        reason = Text(finding.reason, no_wrap=brief, overflow="ellipsis" if brief else "fold")
        table.add_row(Text(finding.check), Text(finding.verdict, _STYLES.get(finding.verdict, "")), reason)
    console.print(table)
