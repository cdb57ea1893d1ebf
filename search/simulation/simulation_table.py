"""Summary of a simulation as text for the console."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...system.durations import format_duration
from ...system.plurals import pluralize
from ..reports.console import Layout, print_facts, print_table, print_text
from ..runs.controller_time import CONTROLLER_PHASES
from .found_program import PAYING_GAIN
from .simulation_summary import Checkpoint, SimulationSummary

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["print_simulation"]


def print_simulation(summary: SimulationSummary, proposals: str, console: Console) -> None:
    """Print the facts, the controller's cost by phase, and how the cost and the sizes grew.

    Args:
        summary: summary of the simulation.
        proposals: `real` or `copies`.
        console: console to print on.
    """
    print_facts(_facts(summary), console)
    print_text("\nCost of the controller for each trial", console)
    print_table(_phases(summary), console, Layout(left=("phase", "work"), wrap={"work": 20}))
    if not summary.is_steady:
        note = "The simulated time is shorter than three full trials, so the rates are those of the start of a search."
        print_text(f"\n{note}", console)
    if len(summary.growth) > 1:
        print_text("\nGrowth", console)
        print_table(_growth(summary.growth), console, Layout(drop=("memory", "store")))
    print_text(f"\n{_left_out(proposals)}", console)


def _facts(summary: SimulationSummary) -> list[tuple[str, str]]:
    budget = format_duration(summary.budget_seconds)
    covered = "all of it" if summary.complete else f"{format_duration(summary.simulated_seconds)} of it, at the limit"
    facts = [
        ("workers", f"{summary.workers:,}"),
        ("budget", f"{budget}; simulated: {covered}, in {format_duration(summary.real_seconds)}"),
        (
            "candidates",
            f"{summary.candidates:,}, of which {summary.reused:,} equal an earlier one and are not trained",
        ),
        ("trials", f"{summary.trials:,}: {_outcomes(summary)}"),
        ("lost trials", f"{summary.unaccounted:,}"),
        ("utilisation", f"{summary.utilisation:.2%} of the workers' time is spent in trials"),
        (
            "throughput",
            f"{summary.trials_per_day:,.0f} trials a day; a trial takes {format_duration(summary.mean_trial_seconds)}",
        ),
        ("hurdles", f"save {summary.hurdle_savings:.0%} of the training time of these trials"),
        ("store", f"{format_bytes(summary.store_bytes)}, {_each(summary.store_bytes, summary.trials)} a trial"),
        ("memory", f"{format_bytes(summary.memory_bytes)} in the controller's process"),
        (
            "controller",
            f"{summary.controller_trials_per_second:,.0f} trials a second of CPU time: enough for "
            f"{summary.largest_workers:,} workers with such trials",
        ),
        ("", f"or for {summary.workers:,} workers with trials of {format_duration(summary.shortest_trial_seconds)}"),
    ]
    if (found := summary.found).candidate_id:
        facts.append(
            (
                "found",
                f"#{found.candidate_id}; true gain over the baseline {found.gain:+.3f} nats at equal steps, "
                f"{found.time_gain:+.3f} at equal time",
            )
        )
        facts.append(
            (
                "mutations",
                f"{pluralize(found.edits, 'mutation')} trained; {found.paying_edits:,} of them to the end and "
                f"{PAYING_GAIN} nats better than the parent, at equal steps and at equal time",
            )
        )
    if (whole := summary.whole_budget) is not None:
        facts.append(
            (
                f"in {budget}",
                f"about {whole['trials']:,} trials, a store of {format_bytes(whole['store_bytes'])}, "
                f"{format_bytes(whole['memory_bytes'])} of memory, and "
                f"{format_duration(whole['controller_seconds'])} of the controller's CPU time, if growth continues",
            )
        )
    return facts


def format_bytes(size: float) -> str:
    """Return a size with its unit.

    >>> format_bytes(11_600), format_bytes(75e9)
    ('12 kB', '75 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000.0:
            return f"{size:.3g} {unit}" if unit != "kB" else f"{size:.0f} {unit}"
        size /= 1000.0
    return f"{size:.3g} TB"


def _outcomes(summary: SimulationSummary) -> str:
    parts = [f"{number:,} {kind.replace('_', ' ')}" for kind, number in summary.outcomes.items()]
    return ", ".join([*parts, f"{summary.cancelled:,} cut off at the end"])


def _each(size: float, number: int) -> str:
    return format_bytes(size / max(number, 1))


def _phases(summary: SimulationSummary) -> list[dict[str, str]]:
    rows = [
        {
            "phase": each.phase,
            "CPU ms": f"{each.cpu_ms:.2f}",
            "wall ms": "–" if each.wall_ms is None else f"{each.wall_ms:.2f}",
            "share": f"{each.share:.0%}",
            "work": CONTROLLER_PHASES.get(each.phase, "the rest of the loop"),
        }
        for each in summary.phases
    ]
    total = sum(each.cpu_ms for each in summary.phases)
    return [*rows, {"phase": "all", "CPU ms": f"{total:.2f}", "wall ms": "", "share": "", "work": ""}]


def _growth(growth: Sequence[Checkpoint]) -> list[dict[str, str]]:
    rows, before = [], Checkpoint(0.0, 0, 0.0, 0, 0)
    for each in growth:
        trials = each.trials - before.trials
        milliseconds = 1000.0 * (each.controller_seconds - before.controller_seconds) / max(trials, 1)
        rows.append(
            {
                "trials": f"{each.trials:,}",
                "simulated": format_duration(each.virtual_seconds),
                "CPU ms per new trial": f"{milliseconds:.2f}",
                "store": format_bytes(each.store_bytes),
                "memory": format_bytes(each.memory_bytes),
            }
        )
        before = each
    return rows


def _left_out(proposals: str) -> str:
    children = (
        " Children are copies of their parents' programs: mutations and checks of programs are also left out."
        if proposals == "copies"
        else ""
    )
    return (
        "Simulated: losses, step times and faults are drawn from recorded trainings and say nothing about programs. "
        "Left out: training, Ray, waits for the disk, and confirmations at the end." + children
    )
