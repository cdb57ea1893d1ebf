"""A ladder of scales as a table: a column for each rung, a line for each pair of rungs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..evolution.candidate import SEED_ID
from ..results.scale_ladder import Agreement, Climb, Ladder
from ..results.statistics import Estimate

if TYPE_CHECKING:  # rich is loaded when a table is drawn
    from rich.table import Table

__all__ = ["agreement_words", "climb_words", "ladder_notes", "ladder_table"]


def ladder_table(ladder: Ladder) -> Table:
    """Programs against rungs: rank, and difference to the seed in bits per byte of the test text, with its interval."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("id", justify="right", no_wrap=True)
    for label in ladder.labels:
        table.add_column(label, justify="right")
    for name in ladder.names:
        climbs = [ladder.at(place, name) for place in range(len(ladder.rungs))]
        bold = name == "seed" or name in ladder.better_everywhere
        table.add_row(name, *map(climb_words, climbs), style="bold" if bold else "")
    return table


def climb_words(climb: Climb | None) -> str:
    """A cell: rank and difference to the seed, or why there is none."""
    if climb is None:
        return "–"
    row = climb.result
    if climb.unfit:
        return "does not fit"
    if row.failed:
        return f"failed {row.failed} of {row.trainings}"
    rank = f"{row.rank}."
    if row.candidate_id == SEED_ID:
        return f"{rank} {row.test_bits_per_byte:.4f} bits/byte"
    return rank if row.difference is None else f"{rank} {_difference(row.difference)}"


def agreement_words(ladder: Ladder, agreement: Agreement) -> str:
    """How far two rungs agree on the order, in a sentence."""
    between = f"{ladder.labels[agreement.lower]} → {ladder.labels[agreement.upper]}"
    if agreement.kendall_tau is None or agreement.spearman_rho is None:
        return f"{between}: no rank correlation of {agreement.programs} programs"
    return (
        f"{between}: rank correlation Kendall's tau {agreement.kendall_tau:+.2f}, "
        f"Spearman {agreement.spearman_rho:+.2f} (n = {agreement.programs} programs)"
    )


def ladder_notes(ladder: Ladder) -> list[str]:
    """What stands below the table: correlations, what does not fit and why, and who is better at every rung."""
    notes = [agreement_words(ladder, agreement) for agreement in ladder.agreements]
    notes += [words for place in range(len(ladder.rungs)) if (words := _trained(ladder, place))]
    for label, climbs in zip(ladder.labels, ladder.climbs, strict=True):
        notes += [f"{climb.result.name} does not fit {label}: {climb.unfit}" for climb in climbs if climb.unfit]
    refits = [climb.result.name for climbs in ladder.climbs for climb in climbs if climb.refitted]
    if refits:
        notes.append(f"the scale of queries was brought to each width for {_listed(list(dict.fromkeys(refits)))}")
    widths, rates = {rung.width for rung in ladder.rungs}, {rung.learning_rate for rung in ladder.rungs}
    if len(widths) > 1 and len(rates) == 1:
        notes.append(
            f"all widths were trained at the learning rate {rates.pop():g}; wider models may want a lower one, and "
            "programs differ in how they bear this: learning_rate= gives a rung its own"
        )
    better = ladder.better_everywhere
    verdict = f"{_listed(better)} on every rung" if better else "nobody on every rung"
    return [*notes, f"confirmed better than the seed: {verdict}"]


def _trained(ladder: Ladder, place: int) -> str:
    """How far a rung's budget took the seed: the same seconds are fewer steps of a larger model."""
    seed = ladder.at(place, "seed")
    if seed is None or not seed.result.steps or seed.result.epochs is None:
        return ""
    times = f"{seed.result.epochs:,.2g} times"
    return f"{ladder.labels[place]}: {seed.result.steps:,.0f} steps of the seed, the text read {times}"


def _difference(difference: Estimate) -> str:
    half = "" if difference.half_width is None else f" ± {difference.half_width:.4f}"
    return f"{difference.mean:+.4f}{half}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
