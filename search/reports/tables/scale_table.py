"""Results of a scale ladder: a table with a column for each scale, and notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...evolution.candidate import BASELINE_ID
from ...results.scale_ladder import Agreement, Ladder, ScaleResult
from ..console import Layout, print_table
from ..formatting import format_estimate, format_number

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["format_agreement", "format_scale_result", "ladder_notes", "ladder_rows", "print_ladder"]


def print_ladder(ladder: Ladder, console: Console) -> None:
    """Print a table of programs and scales: rank, and difference to the baseline on the test text.

    If steps have a price, the differences at equal steps and at equal time are shown.
    """
    labels = ladder.labels
    layout = Layout(wrap=dict.fromkeys(labels, 16), drop=labels[1:-1])
    bold = ("baseline", *ladder.better_everywhere)
    print_table(ladder_rows(ladder), console, layout, ["bold" if name in bold else "" for name in ladder.names])


def ladder_rows(ladder: Ladder) -> list[dict[str, str]]:
    """Return a row of text for each program: its name, and its result at each scale by the label of the scale."""
    return [
        {"id": name} | {label: format_scale_result(ladder.at(place, name)) for place, label in enumerate(ladder.labels)}
        for name in ladder.names
    ]


def format_scale_result(entry: ScaleResult | None) -> str:
    """Format a cell: rank and differences to the baseline, or why they are missing."""
    if entry is None:
        return "–"
    row = entry.result
    if entry.unfit:
        return "does not fit"
    if row.failed:
        return f"failed {row.failed} of {row.trainings}"
    rank = f"{row.rank}."
    if row.candidate_id == BASELINE_ID:
        return f"{rank} {format_number(row.score)} {row.unit}"
    if row.difference is None:
        return rank
    if row.price is None:
        return f"{rank} {format_estimate(row.difference)}"
    return f"{rank} {format_estimate(row.difference)}, at equal time {format_estimate(row.equal_time_difference)}"


def format_agreement(ladder: Ladder, agreement: Agreement) -> str:
    """Format the rank correlation of two scales."""
    between = f"{ladder.labels[agreement.lower]} → {ladder.labels[agreement.upper]}"
    if agreement.kendall_tau is None or agreement.spearman_rho is None:
        return f"{between}: no rank correlation of {agreement.programs} programs"
    return (
        f"{between}: rank correlation Kendall's tau {agreement.kendall_tau:+.2f}, "
        f"Spearman {agreement.spearman_rho:+.2f} (n = {agreement.programs} programs)"
    )


def ladder_notes(ladder: Ladder) -> list[str]:
    """Return the notes below the table: correlations, programs that do not fit, and those better at every scale."""
    notes = [format_agreement(ladder, agreement) for agreement in ladder.agreements]
    notes += [words for place in range(len(ladder.scales)) if (words := _trained(ladder, place))]
    for label, results in zip(ladder.labels, ladder.results, strict=True):
        notes += [f"{entry.result.name} does not fit {label}: {entry.unfit}" for entry in results if entry.unfit]
    rescaled = [entry.result.name for results in ladder.results for entry in results if entry.rescaled]
    if rescaled:
        notes.append(f"the scale of queries was adapted to each width for {', '.join(dict.fromkeys(rescaled))}")
    widths, rates = {scale.width for scale in ladder.scales}, {scale.learning_rate for scale in ladder.scales}
    if len(widths) > 1 and len(rates) == 1:
        notes.append(
            f"all widths were trained at the learning rate {rates.pop():g}; wider models may want a lower one, and "
            "how much lower depends on the program; learning_rate= sets the rate of one scale"
        )
    better = ladder.better_everywhere
    verdict = f"{', '.join(better)} on every scale" if better else "none on every scale"
    return [*notes, f"confirmed better than the baseline: {verdict}"]


def _trained(ladder: Ladder, place: int) -> str:
    """Format the steps of the baseline within a scale's budget. A larger model takes fewer steps in the same time."""
    baseline = ladder.at(place, "baseline")
    if baseline is None or not baseline.result.steps or baseline.result.epochs is None:
        return ""
    times = f"{baseline.result.epochs:,.2g} times"
    return f"{ladder.labels[place]}: {baseline.result.steps:,.0f} steps of the baseline, the text read {times}"
