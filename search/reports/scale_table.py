"""A ladder of scales as a table: a column for each scale, a line for each pair of scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..evolution.candidate import BASELINE_ID
from ..results.scale_ladder import Agreement, Ladder, ScaleResult
from ..results.statistics import Estimate

if TYPE_CHECKING:  # rich is loaded when a table is drawn
    from rich.table import Table

__all__ = ["format_agreement", "format_scale_result", "ladder_notes", "ladder_table"]


def ladder_table(ladder: Ladder) -> Table:
    """Programs against scales: rank, and difference to the baseline on the test text in bits per byte."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("id", justify="right", no_wrap=True)
    for label in ladder.labels:
        table.add_column(label, justify="right")
    for name in ladder.names:
        results = [ladder.at(place, name) for place in range(len(ladder.scales))]
        bold = name == "baseline" or name in ladder.better_everywhere
        table.add_row(name, *map(format_scale_result, results), style="bold" if bold else "")
    return table


def format_scale_result(entry: ScaleResult | None) -> str:
    """A cell: rank and difference to the baseline, or why there is none."""
    if entry is None:
        return "–"
    row = entry.result
    if entry.unfit:
        return "does not fit"
    if row.failed:
        return f"failed {row.failed} of {row.trainings}"
    rank = f"{row.rank}."
    if row.candidate_id == BASELINE_ID:
        return f"{rank} {row.test_bits_per_byte:.4f} bits/byte"
    return rank if row.difference is None else f"{rank} {_difference(row.difference)}"


def format_agreement(ladder: Ladder, agreement: Agreement) -> str:
    """How far two scales agree on the order, in a sentence."""
    between = f"{ladder.labels[agreement.lower]} → {ladder.labels[agreement.upper]}"
    if agreement.kendall_tau is None or agreement.spearman_rho is None:
        return f"{between}: no rank correlation of {agreement.programs} programs"
    return (
        f"{between}: rank correlation Kendall's tau {agreement.kendall_tau:+.2f}, "
        f"Spearman {agreement.spearman_rho:+.2f} (n = {agreement.programs} programs)"
    )


def ladder_notes(ladder: Ladder) -> list[str]:
    """What stands below the table: correlations, what does not fit and why, and who is better at every scale."""
    notes = [format_agreement(ladder, agreement) for agreement in ladder.agreements]
    notes += [words for place in range(len(ladder.scales)) if (words := _trained(ladder, place))]
    for label, results in zip(ladder.labels, ladder.results, strict=True):
        notes += [f"{entry.result.name} does not fit {label}: {entry.unfit}" for entry in results if entry.unfit]
    refits = [entry.result.name for results in ladder.results for entry in results if entry.rescaled]
    if refits:
        notes.append(f"the scale of queries was brought to each width for {_listed(list(dict.fromkeys(refits)))}")
    widths, rates = {scale.width for scale in ladder.scales}, {scale.learning_rate for scale in ladder.scales}
    if len(widths) > 1 and len(rates) == 1:
        notes.append(
            f"all widths were trained at the learning rate {rates.pop():g}; wider models may want a lower one, and "
            "programs differ in how they bear this: learning_rate= gives a scale its own"
        )
    better = ladder.better_everywhere
    verdict = f"{_listed(better)} on every scale" if better else "nobody on every scale"
    return [*notes, f"confirmed better than the baseline: {verdict}"]


def _trained(ladder: Ladder, place: int) -> str:
    """How far a scale's budget took the baseline: the same seconds are fewer steps of a larger model."""
    baseline = ladder.at(place, "baseline")
    if baseline is None or not baseline.result.steps or baseline.result.epochs is None:
        return ""
    times = f"{baseline.result.epochs:,.2g} times"
    return f"{ladder.labels[place]}: {baseline.result.steps:,.0f} steps of the baseline, the text read {times}"


def _difference(difference: Estimate) -> str:
    half = "" if difference.half_width is None else f" ± {difference.half_width:.4f}"
    return f"{difference.mean:+.4f}{half}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
