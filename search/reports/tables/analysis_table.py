"""Results of an analysis: a table for the console, and a page with the figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ....system.files import write_output
from ...refinement.analysis_result import LayerAnalysis, ModelAnalysis
from ...refinement.paired_difference import PairedDifference
from ..console import Layout, print_facts, print_table, print_text
from ..figures.analysis_figure import analysis_html
from ..formatting import format_number
from ..pages.page import PagePart, render_parts, try_page

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["analysis_rows", "format_difference", "print_analysis", "write_analysis_page"]

_LAYOUT = Layout(drop=("cosine", "linear, bits/byte", "removed, bits/byte"))
"""How the table adapts to a narrow console; `--json` has all values."""

FACTS = (
    (
        "linearity",
        "share of the variance of a layer's output that a linear map of its input explains, on text not used to fit it",
    ),
    ("block", "linearity of what the layer adds to its input, without the residual"),
    ("removed", "rise of the loss without the layer, ± two standard errors over windows of the text"),
    ("linear", "rise of the loss if the linear map replaces the layer, ± two standard errors"),
)
"""Meaning of the columns."""


def print_analysis(analysis: ModelAnalysis, console: Console) -> None:
    """Print a row for each layer, then the meaning of the columns."""
    print_text(_headline(analysis), console, "bold")
    print_table(analysis_rows(analysis), console, _LAYOUT)
    console.print()
    print_facts([*FACTS, ("text", _method(analysis))], console)


def write_analysis_page(analysis: ModelAnalysis, folder: Path) -> str:
    """Write `analysis.html`, and return its path, or why it was not written."""

    def write(page: Path) -> None:
        notes = [f"{name.capitalize()}: {meaning}." for name, meaning in FACTS]
        part = PagePart("Layers", analysis_rows(analysis), notes=notes, figure=analysis_html(analysis))
        text = render_parts(
            "analyze", analysis.name, _headline(analysis), f"Held-out text: {_method(analysis)}.", [part]
        )
        write_output(page, text)

    return try_page(folder / "analysis.html", write)


def analysis_rows(analysis: ModelAnalysis) -> list[dict[str, str]]:
    """Return the table as text by title; bits per byte are left out for ids without text."""
    rows = [_cells(analysis, layer) for layer in analysis.layers]
    if analysis.bits_per_nat is not None:
        return rows
    return [{title: cell for title, cell in row.items() if "bits" not in title} for row in rows]


def format_difference(found: PairedDifference, digits: int = 4) -> str:
    """Format a difference and two standard errors; `not finite` if the loss is not finite."""
    if found.mean is None:
        return "not finite"
    half = "" if found.error is None else f" ± {2.0 * found.error:.{digits}f}"
    return f"{found.mean:+.{digits}f}{half}"


def _cells(analysis: ModelAnalysis, layer: LayerAnalysis) -> dict[str, str]:
    bits = analysis.in_bits
    return {
        "layer": str(layer.layer),
        "linearity": format_number(layer.linearity),
        "block": format_number(layer.block_linearity),
        "cosine": format_number(layer.cosine),
        "removed, nats": format_difference(layer.removed),
        "removed, bits/byte": format_number(bits(layer.removed.mean), "+.4f"),
        "linear, nats": format_difference(layer.linearized),
        "linear, bits/byte": format_number(bits(layer.linearized.mean), "+.4f"),
    }


def _headline(analysis: ModelAnalysis) -> str:
    bits = "" if analysis.bits_per_byte is None else f" ({analysis.bits_per_byte:.4f} bits/byte)"
    return f"{analysis.name}: loss {analysis.loss_nats:.4f} nats{bits}"


def _method(analysis: ModelAnalysis) -> str:
    return (
        f"{analysis.data}, maps of {analysis.width} channels fitted on {analysis.fitted_tokens:,} tokens, "
        f"scores and losses on {analysis.scored_tokens:,} other tokens"
    )
