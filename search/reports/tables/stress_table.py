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
from ..console import Layout, print_facts, print_table, print_text

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["print_stress"]

_LAYOUT = Layout(
    left=("verdict",), wrap={"verdict": 14}, drop=("ratio", "gradient", "loss", "score", "weights", "inputs", "largest")
)
"""How the table adapts to a narrow console; `--json` has all values."""


def print_stress(name: str, lines: Sequence[StressResult], console: Console) -> None:
    """Print a row for each model, then the meaning of the columns."""
    print_text(f"{name}, trained {lines[0].steps} steps", console, "bold")
    print_table([_cells(line) for line in lines], console, _LAYOUT, [_style(line) for line in lines])
    console.print()
    last = lines[-1].trained or lines[-1].initial
    shifted = last.score is not None and last.open_score is None
    facts = [
        ("largest", f"largest value in any block, in the last model at {_where(last.activations[0])}"),
        ("score", f"largest input of an EXP, which overflows at {SCORE_LIMIT}{_protection(shifted)}"),
        ("ratio", "largest gradient norm of a layer divided by the smallest"),
        (
            "inputs",
            f"smallest factor on the first layer's input that breaks the model, up to {LARGEST_SCALE:g}; "
            "weights: on kernels",
        ),
    ]
    print_facts(facts, console)


def _cells(line: StressResult) -> dict[str, str]:
    setting, last = line.setting, line.trained or line.initial
    return {
        "layers": str(setting.layers),
        "length": str(setting.length),
        "precision": setting.precision,
        "loss": " → ".join("–" if loss is None else f"{loss:.2f}" for loss in line.losses),
        "largest": quantity(last.activations[0].value),
        "score": _score(last),
        "gradient": quantity(last.gradient_norm),
        "ratio": "–" if last.gradient_ratio is None else f"{last.gradient_ratio:.1f}",
        "inputs": _factor(line.inputs, line),
        "weights": _factor(line.weights, line),
        "verdict": line.verdict,
    }


def _style(line: StressResult) -> str:
    return "" if line.verdict == "safe" else "bold red" if line.verdict.startswith("breaks") else "yellow"


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
