"""Results of an ablation: a table for the console, files, and one self-contained HTML page with a forest plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ....primitives.programs.pretty_printer import format_program
from ....primitives.programs.program_json import dna_to_json
from ....system.files import write_output
from ....system.plurals import pluralize
from ...studies.ablation import Ablation, Effect, effect_verdict
from ..console import Layout, print_table, print_text
from ..figures.ablation_figure import forest_figure
from ..formatting import LOSS_UNITS, format_budget, format_estimate, format_trainings
from .page import template, try_page

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["headline", "print_ablation", "render_ablation", "write_ablation"]

_LAYOUT = Layout(left=("change", "verdict"), wrap={"change": 20, "verdict": 9}, drop=("insertion", "#"))
"""How the table adapts to a narrow console; the page has all columns."""


def print_ablation(ablation: Ablation, console: Console) -> None:
    """Print the table, the minimal program, and notes for the reader."""
    rows = [_cells(effect) for effect in ablation.effects]
    styles = [{"helps": "green", "harms": "red"}.get(effect.verdict, "") for effect in ablation.effects]
    whole = ("", "all of them", "", format_estimate(ablation.whole), effect_verdict(ablation.whole))
    rows, styles = [*rows, whole], [*styles, "bold"]
    if ablation.control is not None:
        noise = ("", "no-op: x(x - mean) in a norm", format_estimate(ablation.control), "", "noise")
        rows, styles = [*rows, noise], [*styles, "dim"]
    titles = ("#", "change", "ablation", "insertion", "verdict")
    print_table([dict(zip(titles, row, strict=True)) for row in rows], console, _LAYOUT, styles)
    console.print()
    for line in _sentences(ablation):
        print_text(line, console)


def write_ablation(ablation: Ablation, folder: Path) -> str:
    """Write `ablation.json`, `minimal.json` (a DNA, as `check` and `compare` read it) and the page `ablation.html`.

    Returns:
        Path of the page, or why it was not written.

    Raises:
        UsageError: the JSON cannot be written.
    """
    write_output(folder / "ablation.json", json.dumps(ablation.to_dict(), allow_nan=False) + "\n")
    write_output(folder / "minimal.json", dna_to_json(ablation.minimal) + "\n")
    return try_page(folder / "ablation.html", lambda page: write_output(page, render_ablation(ablation)))


def render_ablation(ablation: Ablation) -> str:
    """Return the ablation as HTML text."""
    return template("ablation.html.j2").render(
        title=ablation.name,
        headline=headline(ablation),
        method=_format_method(ablation),
        unit=ablation.loss_unit,
        figure=forest_figure(ablation),
        rows=[(effect.verdict, _cells(effect)) for effect in ablation.effects],
        whole=format_estimate(ablation.whole),
        whole_verdict=effect_verdict(ablation.whole),
        control=None if ablation.control is None else format_estimate(ablation.control),
        noted=[(effect.change.number, effect.ablation_note, effect.insertion_note) for effect in _noted(ablation)],
        silent=ablation.silent,
        minimal=_minimal(ablation),
        rounds=[
            (
                ", ".join(map(str, each.kept)) or "none",
                format_estimate(each.cost),
                "taken" if each.accepted else "worse",
            )
            for each in ablation.rounds
        ],
        listing=format_program(ablation.minimal),
        notes=ablation.notes,
        sections=ablation.config.to_dict(),
        facts=_facts(ablation),
    )


def headline(ablation: Ablation) -> str:
    """Return the main result in one sentence."""
    helping = [effect for effect in ablation.effects if effect.verdict == "helps"]
    whole, changes = ablation.whole, pluralize(len(ablation.effects), "change")
    if whole.low is None:
        return f"{ablation.name} has {changes} with an effect on its function; one repeat cannot show which matter"
    if not whole.excludes_zero:
        return f"{ablation.name} is statistically indistinguishable from {ablation.baseline_name} in these trainings"
    direction = "below" if whole.mean > 0 else "above"
    start = f"{ablation.name} is {abs(whole.mean):.4f} {ablation.loss_unit} {direction} {ablation.baseline_name}"
    if not helping:
        return f"{start}; none of its {changes} is shown to matter alone"
    return f"{start}; of its {changes}, {len(helping)} {'is' if len(helping) == 1 else 'are'} shown to help"


# --- text ------------------------------------------------------------------------------------------------------


def _cells(effect: Effect) -> tuple[str, str, str, str, str]:
    insertion = format_estimate(effect.insertion)
    if effect.insertion is None and effect.insertion_note.startswith("alone"):
        insertion = "silent"
    return (
        str(effect.change.number),
        effect.change.description,
        format_estimate(effect.ablation),
        insertion,
        f"{effect.verdict}{'' if effect.kept else ', dropped'}",
    )


def _sentences(ablation: Ablation) -> list[str]:
    lines = [headline(ablation) + ".", _format_method(ablation) + "."]
    for effect in _noted(ablation):
        notes = [("without it", effect.ablation_note), ("alone", effect.insertion_note)]
        words = "; ".join(f"{when}: {note.removeprefix('alone ')}" for when, note in notes if note)
        lines.append(f"change {effect.change.number}, {words}.")
    if ablation.silent:
        lines.append(
            f"dropped without a training, because they do not change the function: {'; '.join(ablation.silent)}."
        )
    return [*lines, f"minimal: {_minimal(ablation)}", *(f"note: {note}" for note in ablation.notes)]


def _noted(ablation: Ablation) -> list[Effect]:
    return [effect for effect in ablation.effects if effect.ablation_note or effect.insertion_note]


def _minimal(ablation: Ablation) -> str:
    count, total = len(ablation.minimal_changes), len(ablation.effects)
    changes = pluralize(total, "change")
    silent = f", and without {len(ablation.silent)} silent ones" if ablation.silent else ""
    if count == total:
        return f"all {changes} stay{silent}."
    kept = ", ".join(map(str, ablation.minimal_changes))
    cost = f"{format_estimate(ablation.rounds[-1].cost)} {ablation.loss_unit}"
    if not count:
        return f"no change stays: the baseline is not shown to be worse ({cost} of loss)."
    return (
        f"{count} of {changes} ({kept}) {'stays' if count == 1 else 'stay'}{silent}; together not shown to be "
        f"worse than the candidate ({cost} of loss)."
    )


def _format_method(ablation: Ablation) -> str:
    repeats = len(ablation.seeds)
    trainings = format_trainings(ablation.config, repeats, ablation.device)
    method = f"gains in {LOSS_UNITS[ablation.loss_unit]} of the test text, positive if the change helps: {trainings}"
    if repeats < 2:
        return method
    return f"{method}; ± are 95% intervals that hold for all changes together, paired by random seed, noise pooled"


def _facts(ablation: Ablation) -> list[tuple[str, str]]:
    return [
        ("candidate", ablation.name),
        ("baseline", ablation.baseline_name),
        ("random seeds", ", ".join(map(str, ablation.seeds))),
        ("budget", format_budget(ablation.config.trial)),
        ("trainings", str(len({(training.arm.key, training.seed) for training in ablation.trainings}))),
        ("text", f"{ablation.config.data.source} (hash {ablation.dataset_hash[:16]})"),
        ("device", ablation.device),
    ]
