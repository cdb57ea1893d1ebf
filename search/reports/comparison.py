"""A comparison as a table for the console and as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...system.files import write_output
from ..results.speedup import Speedup
from ..results.statistics import Estimate
from ..studies.compare import Comparison, ComparisonRow
from .figures.comparison_figure import curves_figure, differences_figure
from .page import template, try_page
from .phrases import count, number

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["BUDGET_UNITS", "print_comparison", "render_comparison", "write_comparison"]

BUDGET_UNITS = {
    "reference_seconds": "reference seconds",
    "cpu_seconds": "CPU seconds",
    "wall_seconds": "seconds of wall clock",
    "steps": "steps",
}
"""Units of a trial's budget, as a sentence has them."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The table, what it rests on, and what a reader must know."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", collapse_padding=True)
    cells = [_cells(row, comparison) for row in comparison.rows]
    titles = _fitting(cells, console.width if console.is_terminal else None)
    console.width = max(console.width, _width(cells, titles)) if not console.is_terminal else console.width
    for title in titles:
        table.add_column(title, justify="left" if title in ("name", "verdict") else "right", no_wrap=True)
    styles = {"better": "green", "worse": "red", "": "bold"}
    for row, words in zip(comparison.rows, cells, strict=True):
        table.add_row(*(words[title] for title in titles), style=styles.get(row.verdict, ""))
    console.print(table)
    console.print()
    console.print(_how(comparison), style="dim", soft_wrap=True, markup=False)
    for note in comparison.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)


def write_comparison(comparison: Comparison, folder: Path) -> str:
    """Write `comparison.json` and the page `comparison.html` to a folder; the page's place, or why there is none.

    Raises:
        UsageError: the JSON cannot be written.
    """
    write_output(folder / "comparison.json", json.dumps(comparison.to_dict(), allow_nan=False) + "\n")
    return try_page(folder / "comparison.html", lambda page: write_output(page, render_comparison(comparison)))


def render_comparison(comparison: Comparison) -> str:
    """The comparison as HTML text."""
    cells = [_cells(row, comparison) for row in comparison.rows]
    return template("comparison.html.j2").render(
        title=" · ".join(row.name for row in comparison.rows),
        headline=_headline(comparison),
        how=_how(comparison),
        curves=curves_figure(comparison, BUDGET_UNITS[comparison.config.trial.unit]),
        differences=differences_figure(comparison),
        titles=list(cells[0]),
        rows=[
            (row.verdict.replace(" ", "-"), list(words.values()))
            for row, words in zip(comparison.rows, cells, strict=True)
        ],
        notes=comparison.notes,
        sweep=[
            (name, [(f"{factor:g}", number(loss)) for factor, loss in tried])
            for name, tried in comparison.sweep.items()
        ],
        sections=comparison.config.to_dict(),
        facts=_facts(comparison),
    )


def _cells(row: ComparisonRow, comparison: Comparison) -> dict[str, str]:
    """One row as text, by the title of its column; columns that would say the same of all are left out."""
    swept, matched = bool(comparison.sweep), len({one.unit for one in comparison.rows}) > 1
    failed = any(one.failures for one in comparison.rows)
    cells = {
        "name": row.name,
        "unit": str(row.unit) if matched else None,
        "rate": f"{row.learning_rate:.3g}{'*' if row.at_edge else ''}" if swept else None,
        "test bits/byte": _estimate(row.test_bits_per_byte),
        "vs baseline": "–" if row.name == comparison.baseline else _estimate(row.difference, "+.4f"),
        "verdict": row.verdict,
        "speedup": "–" if row.name == comparison.baseline else _speedup(row.speedup),
        "parameters": count(row.parameters),
        "MFLOPs/token": number(None if row.flops_per_token is None else row.flops_per_token / 1e6, ".3g"),
        "step ms": number(row.step_ms, ".1f"),
        "steps": number(row.steps, ",.0f"),
        "MiB": number(None if row.peak_memory_bytes is None else row.peak_memory_bytes / 2**20, ",.0f"),
        "epochs": number(row.epochs, ".2f"),
        "failed": str(len(row.failures) or "–") if failed else None,
    }
    return {title: words for title, words in cells.items() if words is not None}


def _fitting(cells: Sequence[dict[str, str]], columns: int | None) -> list[str]:
    """The titles that fit a terminal; what gives way stands on the page."""
    titles = list(cells[0])
    for title in ("MiB", "steps", "epochs", "MFLOPs/token", "parameters"):
        if columns is not None and _width(cells, titles) > columns and title in titles:
            titles.remove(title)
    return titles


def _width(cells: Sequence[dict[str, str]], titles: Sequence[str]) -> int:
    """Columns a table of these titles takes."""
    return sum(3 + max(len(title), *(len(words[title]) for words in cells)) for title in titles)


def _estimate(estimate: Estimate | None, form: str = ".4f") -> str:
    if estimate is None:
        return "–"
    half = estimate.half_width
    return format(estimate.mean, form) + ("" if half is None else f" ± {half:.4f}")


def _speedup(found: Speedup | None) -> str:
    if found is None or found.factor is None:
        return "–"
    interval = "" if found.low is None or found.high is None else f" ({_factor(found.low)}–{_factor(found.high)})"
    return f"{found.bound}{_factor(found.factor)}{interval}"


def _factor(value: float) -> str:
    return f"{value:.2f}" if 0.005 <= value < 99.5 else ">99" if value > 1 else "<0.01"


def _how(comparison: Comparison) -> str:
    trial, repeats = comparison.config.trial, len(comparison.seeds)
    how = (
        f"{trial.budget:g} {BUDGET_UNITS[trial.unit]} of training each, {repeats} repeat{'s' * (repeats != 1)}, "
        f"{comparison.config.data.source}, on {comparison.device or 'no device'}"
    )
    if repeats < 2:
        return how
    return f"{how}; ± and () are 95% intervals, differences paired by seed with the noise pooled over all programs"


def _headline(comparison: Comparison) -> str:
    better = [row for row in comparison.rows if row.verdict == "better" and row.difference is not None]
    if not better:
        return f"Nothing here is shown to be better than {comparison.baseline}"
    best = min(better, key=lambda row: row.difference.mean if row.difference else 0.0)
    assert best.difference is not None
    factor = best.speedup.factor if best.speedup is not None else None
    faster = "" if factor is None else f", at {_factor(factor)} times its speed"
    return f"{best.name} is {-best.difference.mean:.4f} bits/byte below {comparison.baseline}{faster}"


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    allowance = comparison.allowance_seconds
    facts: Sequence[tuple[str, str | None]] = (
        ("baseline", comparison.baseline),
        ("random seeds", ", ".join(map(str, comparison.seeds))),
        ("budget", f"{comparison.config.trial.budget:g} {BUDGET_UNITS[comparison.config.trial.unit]}"),
        ("a step of the baseline is charged", None if allowance is None else f"{1000 * allowance:.2f} ms"),
        ("text", f"{comparison.config.data.source} (hash {comparison.dataset_hash[:16]})"),
        ("device", comparison.device),
    )
    return [(name, words) for name, words in facts if words is not None]
