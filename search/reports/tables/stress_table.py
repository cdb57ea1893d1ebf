"""Results of a stress test as a table for the console."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...studies.stress_result import (
    LARGEST_SCALE,
    SCORE_LIMIT,
    ActivationPeak,
    ActivationStats,
    Failure,
    StressResult,
    quantity,
)
from ..console import number_table, print_facts

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["print_stress"]


def print_stress(name: str, lines: Sequence[StressResult], console: Console) -> None:
    """Print a row for each model, then the meaning of the columns."""
    titles = ("layers", "length", "precision", "loss", "largest", "score", "gradient", "ratio", "inputs", "weights")
    table = number_table((*titles, "verdict"), left=("verdict",), wrap=("verdict",))
    for line in lines:
        setting, last = line.setting, line.trained or line.initial
        style = "" if line.verdict == "safe" else "bold red" if line.verdict.startswith("breaks") else "yellow"
        table.add_row(
            str(setting.layers),
            str(setting.length),
            setting.precision,
            " → ".join("–" if loss is None else f"{loss:.2f}" for loss in line.losses),
            quantity(last.activations[0].value),
            _score(last),
            quantity(last.gradient_norm),
            "–" if last.gradient_ratio is None else f"{last.gradient_ratio:.1f}",
            _factor(line.inputs, line),
            _factor(line.weights, line),
            line.verdict,
            style=style,
        )
    steps = lines[0].steps
    console.print(f"[bold]{name}[/], trained {steps} steps", soft_wrap=True)
    console.print(table)
    console.print()
    last = lines[-1].trained or lines[-1].initial
    shifted = last.score is not None and last.open_score is None
    facts = [
        ("largest", f"largest value in any block, in the last model at {_where(last.activations[0])}"),
        ("score", f"largest input of an EXP, which overflows at {SCORE_LIMIT}{_protection(shifted)}"),
        ("ratio", "largest gradient norm of a layer divided by the smallest"),
        (
            "inputs",
            f"smallest factor on the first layer's input that breaks it (up to {LARGEST_SCALE:g}); weights: on kernels",
        ),
    ]
    print_facts(facts, console)


def _score(snapshot: ActivationStats) -> str:
    return "none" if snapshot.score is None else quantity(snapshot.score.value)


def _protection(shifted: bool) -> str:
    return " without a shift: every EXP here belongs to a softmax, which subtracts the maximum" * shifted


def _factor(found: Failure | None, line: StressResult) -> str:
    if line.training is not None:
        return "–"
    return "holds" if found is None else f"×{found.at:.3g}"


def _where(peak: ActivationPeak) -> str:
    return f"{peak.node}, layer {peak.layer}"
