"""An ablation as a table for the console, as files, and as one self-contained HTML page with a forest plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ...primitives.pretty_printer import format_program
from ..results.statistics import Estimate
from ..studies.ablation import Ablation, Effect, effect_verdict
from .figures.ablation_figure import forest_figure

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console
from ...primitives.program_json import dna_to_json
from ...system.files import write_output
from .comparison import BUDGET_UNITS
from .page import template, try_page

__all__ = ["headline", "print_ablation", "render_ablation", "write_ablation"]


def print_ablation(ablation: Ablation, console: Console) -> None:
    """The table, the minimal program, and what a reader must know."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for title, side in (("#", "right"), ("change", "left"), ("ablation", "right"), ("insertion", "right")):
        table.add_column(title, justify=side, no_wrap=title != "change")  # type: ignore[arg-type]
    table.add_column("verdict")
    styles = {"helps": "green", "harms": "red"}
    for effect in ablation.effects:
        table.add_row(*_cells(effect), style=styles.get(effect.verdict, ""))
    table.add_row("", "all of them", "", _estimate(ablation.whole), effect_verdict(ablation.whole), style="bold")
    if ablation.control is not None:
        table.add_row("", "no-op: x(x - mean) in a norm", _estimate(ablation.control), "", "noise", style="dim")
    console.print(table)
    console.print()
    for line in _sentences(ablation):
        console.print(line, soft_wrap=True, markup=False)


def write_ablation(ablation: Ablation, folder: Path) -> str:
    """Write `ablation.json`, `minimal.json` (a DNA, as `check` and `compare` read it) and the page `ablation.html`.

    Returns:
        The page's place, or why there is none.

    Raises:
        UsageError: the JSON cannot be written.
    """
    write_output(folder / "ablation.json", json.dumps(ablation.to_dict(), allow_nan=False) + "\n")
    write_output(folder / "minimal.json", dna_to_json(ablation.minimal) + "\n")
    return try_page(folder / "ablation.html", lambda page: write_output(page, render_ablation(ablation)))


def render_ablation(ablation: Ablation) -> str:
    """The ablation as HTML text."""
    return template("ablation.html.j2").render(
        title=ablation.name,
        headline=headline(ablation),
        how=_how(ablation),
        figure=forest_figure(ablation),
        rows=[(effect.verdict, _cells(effect)) for effect in ablation.effects],
        whole=_estimate(ablation.whole),
        whole_verdict=effect_verdict(ablation.whole),
        control=None if ablation.control is None else _estimate(ablation.control),
        noted=[(effect.change.number, effect.ablation_note, effect.insertion_note) for effect in _noted(ablation)],
        silent=ablation.silent,
        minimal=_minimal(ablation),
        rounds=[
            (", ".join(map(str, each.kept)) or "none", _estimate(each.cost), "taken" if each.accepted else "worse")
            for each in ablation.rounds
        ],
        listing=format_program(ablation.minimal),
        notes=ablation.notes,
        sections=ablation.config.to_dict(),
        facts=_facts(ablation),
    )


def headline(ablation: Ablation) -> str:
    """What was found, in one honest sentence."""
    helping = [effect for effect in ablation.effects if effect.verdict == "helps"]
    whole, count = ablation.whole, len(ablation.effects)
    if whole.low is None:
        return f"{ablation.name} has {_changes(count)} with an effect on what it computes; one repeat cannot weigh them"
    if not whole.excludes_zero:
        return f"{ablation.name} is not told apart from {ablation.baseline_name} by these trainings"
    direction = "below" if whole.mean > 0 else "above"
    start = f"{ablation.name} is {abs(whole.mean):.4f} bits/byte {direction} {ablation.baseline_name}"
    if not helping:
        return f"{start}; no single one of its {_changes(count)} is shown to matter"
    return f"{start}; of its {_changes(count)}, {len(helping)} {'is' if len(helping) == 1 else 'are'} shown to help"


# --- words ------------------------------------------------------------------------------------------------------


def _cells(effect: Effect) -> tuple[str, str, str, str, str]:
    insertion = _estimate(effect.insertion)
    if effect.insertion is None and effect.insertion_note.startswith("alone"):
        insertion = "silent"
    return (
        str(effect.change.number),
        effect.change.description,
        _estimate(effect.ablation),
        insertion,
        f"{effect.verdict}{'' if effect.kept else ', dropped'}",
    )


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    half = estimate.half_width
    return f"{estimate.mean:+.4f}" + ("" if half is None else f" ± {half:.4f}")


def _sentences(ablation: Ablation) -> list[str]:
    lines = [headline(ablation) + ".", _how(ablation) + "."]
    for effect in _noted(ablation):
        notes = [("without it", effect.ablation_note), ("alone", effect.insertion_note)]
        words = "; ".join(f"{when}: {note.removeprefix('alone ')}" for when, note in notes if note)
        lines.append(f"change {effect.change.number}, {words}.")
    if ablation.silent:
        lines.append(f"dropped without a training, as they compute nothing: {'; '.join(ablation.silent)}.")
    return [*lines, f"minimal: {_minimal(ablation)}", *(f"note: {note}" for note in ablation.notes)]


def _noted(ablation: Ablation) -> list[Effect]:
    return [effect for effect in ablation.effects if effect.ablation_note or effect.insertion_note]


def _minimal(ablation: Ablation) -> str:
    count, total = len(ablation.minimal_changes), len(ablation.effects)
    silent = f", and without {len(ablation.silent)} silent ones" if ablation.silent else ""
    if count == total:
        return f"all {_changes(total)} stay{silent}."
    kept = ", ".join(map(str, ablation.minimal_changes))
    cost = _estimate(ablation.rounds[-1].cost)
    if not count:
        return f"no change stays: the baseline is not shown to be worse ({cost} bits/byte of loss)."
    return (
        f"{count} of {_changes(total)} ({kept}) {'stays' if count == 1 else 'stay'}{silent}; together not shown to be "
        f"worse than the candidate ({cost} bits/byte of loss)."
    )


def _changes(count: int) -> str:
    return f"{count} change{'s' * (count != 1)}"


def _how(ablation: Ablation) -> str:
    trial, repeats = ablation.config.trial, len(ablation.seeds)
    how = (
        "gains in bits/byte of the test text, positive where the change helps: "
        f"{trial.budget:g} {BUDGET_UNITS[trial.unit]} of training each, {repeats} repeat{'s' * (repeats != 1)}, "
        f"{ablation.config.data.source}, on {ablation.device or 'no device'}"
    )
    return how if repeats < 2 else f"{how}; ± are 95% intervals that hold together, paired by seed, the noise pooled"


def _facts(ablation: Ablation) -> list[tuple[str, str]]:
    trial = ablation.config.trial
    return [
        ("candidate", ablation.name),
        ("baseline", ablation.baseline_name),
        ("random seeds", ", ".join(map(str, ablation.seeds))),
        ("budget", f"{trial.budget:g} {BUDGET_UNITS[trial.unit]}"),
        ("trainings", str(len({(training.arm.key, training.seed) for training in ablation.trainings}))),
        ("text", f"{ablation.config.data.source} (hash {ablation.dataset_hash[:16]})"),
        ("device", ablation.device),
    ]
