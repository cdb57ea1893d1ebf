"""Results of a comparison: a table for the console and one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ....system.files import write_output
from ....workers.position_buckets import bucket_names
from ...results.speedup import Speedup
from ...studies.comparison_result import Comparison, ComparisonRow
from ..console import Layout, print_table, print_text
from ..figures.comparison_figure import curves_figure, differences_figure, positions_figure
from ..formatting import (
    BUDGET_UNITS,
    LOSS_UNITS,
    format_budget,
    format_count,
    format_estimate,
    format_number,
    format_trainings,
)
from .page import template, try_page

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["print_comparison", "render_comparison", "write_comparison"]

_LAYOUT = Layout(
    left=("name", "verdict"),
    shrink={"name": 14},
    tail=("name",),
    wrap={"verdict": 8},
    drop=(
        *("MiB", "steps", "epochs", "MFLOPs/token", "parameters", "step ms", "unit", "rate", "speedup"),
        *(f"test {unit}" for unit in LOSS_UNITS),
        "failed",
    ),
)
"""How the table adapts to a narrow console; the page has all columns."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the table, how the programs were trained, and notes for the reader."""
    cells = [_cells(row, comparison) for row in comparison.rows]
    styles = {"better": "green", "worse": "red", "": "bold"}
    print_table(cells, console, _LAYOUT, [styles.get(row.verdict, "") for row in comparison.rows])
    console.print()
    if positions := _cells_by_position(comparison):
        print_text("test loss in nats per token, by position in the sequence", console)
        print_table(
            positions,
            console,
            Layout(left=("name",), shrink={"name": 14}, tail=("name",), drop=tuple(positions[0])[1:-1]),
        )
        console.print()
    print_text(_format_method(comparison), console, "dim")
    for note in comparison.notes:
        print_text(f"note: {note}", console)


def write_comparison(comparison: Comparison, folder: Path) -> str:
    """Write `comparison.json` and the page `comparison.html` to a folder.

    Returns:
        Path of the page, or why it was not written.

    Raises:
        UsageError: the JSON cannot be written.
    """
    write_output(folder / "comparison.json", json.dumps(comparison.to_dict(), allow_nan=False) + "\n")
    return try_page(folder / "comparison.html", lambda page: write_output(page, render_comparison(comparison)))


def render_comparison(comparison: Comparison) -> str:
    """Return the comparison as HTML text."""
    cells = [_cells(row, comparison) for row in comparison.rows]
    return template("comparison.html.j2").render(
        title=" · ".join(row.name for row in comparison.rows),
        headline=_headline(comparison),
        method=_format_method(comparison),
        curves=curves_figure(comparison, BUDGET_UNITS[comparison.config.trial.unit]),
        differences=differences_figure(comparison),
        positions=positions_figure(comparison),
        titles=list(cells[0]),
        rows=[
            (row.verdict.replace(" ", "-"), list(words.values()))
            for row, words in zip(comparison.rows, cells, strict=True)
        ],
        unit=LOSS_UNITS[comparison.loss_unit],
        notes=comparison.notes,
        sweep=[
            (name, [(f"{factor:g}", format_number(loss)) for factor, loss in tried])
            for name, tried in comparison.sweep.items()
        ],
        sections=comparison.config.to_dict(),
        facts=_facts(comparison),
    )


def _cells(row: ComparisonRow, comparison: Comparison) -> dict[str, str]:
    """Return a row as text, by column. Columns with the same value for all programs are left out."""
    swept, matched = bool(comparison.sweep), len({one.unit for one in comparison.rows}) > 1
    failed = any(one.failures for one in comparison.rows)
    unit = comparison.loss_unit
    cells = {
        "name": row.name,
        "unit": str(row.unit) if matched else None,
        "rate": f"{row.learning_rate:.3g}{'*' if row.at_edge else ''}" if swept else None,
        f"test {unit}": format_estimate(row.test_loss_nats if unit == "nats" else row.test_bits_per_byte, ".4f"),
        "vs baseline": "–" if row.name == comparison.baseline else format_estimate(row.difference),
        "verdict": row.verdict,
        "speedup": "–" if row.name == comparison.baseline else _speedup(row.speedup),
        "parameters": format_count(row.parameters),
        "MFLOPs/token": format_number(None if row.flops_per_token is None else row.flops_per_token / 1e6, ".3g"),
        "step ms": format_number(row.step_ms, ".1f"),
        "steps": format_number(row.steps, ",.0f"),
        "MiB": format_number(None if row.peak_memory_bytes is None else row.peak_memory_bytes / 2**20, ",.0f"),
        "epochs": format_number(row.epochs, ".2f"),
        "failed": str(len(row.failures) or "–") if failed else None,
    }
    return {title: words for title, words in cells.items() if words is not None}


def _cells_by_position(comparison: Comparison) -> list[dict[str, str]]:
    """Return the test loss of each program by position, as text; empty if no program has one."""
    names = bucket_names(comparison.config.model.length)
    return [
        {"name": row.name, **dict(zip(names, (f"{loss:.3f}" for loss in row.test_losses_by_position), strict=True))}
        for row in comparison.rows
        if len(row.test_losses_by_position) == len(names)
    ]


def _speedup(found: Speedup | None) -> str:
    if found is None or found.factor is None:
        return "–"
    interval = "" if found.low is None or found.high is None else f" ({_factor(found.low)}–{_factor(found.high)})"
    return f"{found.bound}{_factor(found.factor)}{interval}"


def _factor(value: float) -> str:
    return f"{value:.2f}" if 0.005 <= value < 99.5 else ">99" if value > 1 else "<0.01"


def _format_method(comparison: Comparison) -> str:
    repeats = len(comparison.seeds)
    method = format_trainings(comparison.config, repeats, comparison.device)
    if repeats < 2:
        return method
    return f"{method}; ± and () are 95% intervals, differences paired by random seed, noise pooled over all programs"


def _headline(comparison: Comparison) -> str:
    better = [row for row in comparison.rows if row.verdict == "better" and row.difference is not None]
    if not better:
        return f"No program is shown to be better than {comparison.baseline}"
    best = min(better, key=lambda row: row.difference.mean if row.difference else 0.0)
    assert best.difference is not None
    factor = best.speedup.factor if best.speedup is not None else None
    speedup = "" if factor is None else f", with a speedup factor of {_factor(factor)}"
    return f"{best.name} is {-best.difference.mean:.4f} {comparison.loss_unit} below {comparison.baseline}{speedup}"


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    allowance = comparison.allowance_seconds
    facts: Sequence[tuple[str, str | None]] = (
        ("baseline", comparison.baseline),
        ("random seeds", ", ".join(map(str, comparison.seeds))),
        ("budget", format_budget(comparison.config.trial)),
        ("charge for a step of the baseline", None if allowance is None else f"{1000 * allowance:.2f} ms"),
        ("text", f"{comparison.config.data.source} (hash {comparison.dataset_hash[:16]})"),
        ("device", comparison.device),
    )
    return [(name, words) for name, words in facts if words is not None]
