"""Results of a rank reduction: tables for the console, and a page with the figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ....system.files import write_output
from ....system.plurals import pluralize
from ...refinement.paired_difference import PairedDifference
from ...refinement.refinement_result import BYTES, RefinementResult, Scores, TokenGroup, TriedReduction
from ..console import Layout, print_facts, print_table, print_text
from ..figures.refinement_figure import refinement_html
from ..pages.page import PagePart, render_parts, try_page
from .analysis_table import format_difference

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["print_refinement", "write_refinement_page"]

_LEFT = ("matrix", "tokens")
_REDUCTIONS = Layout(left=_LEFT, shrink={"matrix": 16}, drop=("error", "share"))
_GROUPS = Layout(left=_LEFT, drop=("ids", "scored", "accuracy before", "loss before"))

SHOWN = 12
"""Number of reductions in the table if none is kept; it then has the best ones."""


def print_refinement(result: RefinementResult, console: Console) -> None:
    """Print the verdict, the kept reductions, and the scores on the reporting part by token frequency."""
    print_text(f"{result.name}: {result.verdict}", console, "bold")
    heading, rows = _reductions(result)
    print_text(heading, console)
    print_table(rows, console, _REDUCTIONS)
    if result.groups:
        console.print()
        print_text(f"Scores on the reporting part ({result.reporting_tokens:,} tokens), before and after:", console)
        print_table(_groups(result.groups), console, _GROUPS)
    console.print()
    print_facts(_facts(result), console)


def write_refinement_page(result: RefinementResult, folder: Path) -> str:
    """Write `refinement.html`, and return its path, or why it was not written."""

    def write(page: Path) -> None:
        heading, rows = _reductions(result)
        facts = [f"{name.capitalize()}: {text}." for name, text in _facts(result)]
        every = [_cells(result, tried) for tried in result.tried]
        parts = [
            PagePart("By frequency of the token", _groups(result.groups), _LEFT, facts),
            PagePart(heading.rstrip(":"), rows, _LEFT),
            PagePart("Each reduction alone, on the choosing part", every, _LEFT, figure=refinement_html(result)),
        ]
        method = f"{result.data}, chosen by {result.criterion} on {result.choosing_tokens:,} tokens of held-out text"
        headline = f"{result.name}: {result.verdict}"
        write_output(page, render_parts("refine", result.name, headline, f"{method}.", parts))

    return try_page(folder / "refinement.html", write)


def _reductions(result: RefinementResult) -> tuple[str, list[dict[str, str]]]:
    """Return a heading and the kept reductions, or the best ones if none is kept."""
    count = f"{pluralize(len(result.tried), 'reduction')} tried"
    if result.kept:
        part = f"the choosing part ({result.choosing_tokens:,} tokens)"
        heading = f"{count}, {len(result.kept)} kept; scores after each on {part}:"
        return heading, [_cells(result, kept) for kept in result.kept]
    by_loss = result.criterion == "loss"
    best = sorted(result.tried, key=lambda each: each.scores.loss_nats if by_loss else -each.scores.accuracy)[:SHOWN]
    heading = f"{count}; the best {len(best)}, each alone, on the choosing part ({result.choosing_tokens:,} tokens):"
    return heading, [_cells(result, tried) for tried in best]


def _cells(result: RefinementResult, tried: TriedReduction) -> dict[str, str]:
    reduction, scores = tried.reduction, tried.scores
    return {
        "layer": str(reduction.layer),
        "matrix": reduction.matrix,
        "share": f"{reduction.share:g}",
        "rank": f"{reduction.rank} of {reduction.largest_rank}",
        "error": f"{reduction.relative_error:.3f}",
        "loss, nats": f"{scores.loss_nats:.4f}",
        "change": f"{scores.loss_nats - result.original.loss_nats:+.5f}",
        "accuracy": f"{scores.accuracy:.2%}",
        "parameters": f"{reduction.kept_parameters - reduction.parameters:+,}",
    }


def _groups(groups: Sequence[TokenGroup]) -> list[dict[str, str]]:
    return [
        {
            "tokens": group.name,
            "ids": f"{group.ids:,}",
            "scored": f"{group.tokens:,}",
            "loss before": f"{group.before.loss_nats:.4f}",
            "loss change, nats": format_difference(group.loss_change, digits=5),
            "accuracy before": f"{group.before.accuracy:.2%}",
            "accuracy change, points": _points(group.accuracy_change),
        }
        for group in groups
    ]


def _points(change: PairedDifference) -> str:
    if change.mean is None:
        return "not finite"
    half = "" if change.error is None else f" ± {200.0 * change.error:.2f}"
    return f"{100.0 * change.mean:+.2f}{half}"


def _facts(result: RefinementResult) -> list[tuple[str, str]]:
    saved = result.saved_parameters
    facts = [("original", f"{_scores(result.original)} on the choosing part")]
    if result.kept:
        fewer = f"{BYTES * saved:,} bytes saved ({saved / result.parameters:.1%})"
        counts = f"{result.parameters - saved:,} of {result.parameters:,} parameters"
        facts.append(("factored", f"{counts}, {fewer}, with the kept matrices as two factors"))
    if result.groups:
        facts.append(("groups", "common, middle and rare ids make up a third of the training text each"))
        facts.append(("±", "two standard errors over windows of the text"))
        if result.bits_per_nat is not None and (change := result.groups[0].loss_change.mean) is not None:
            facts.append(("bits/byte", f"{result.bits_per_nat * change:+.4f} on the reporting part"))
    return facts


def _scores(scores: Scores) -> str:
    return f"loss {scores.loss_nats:.4f} nats, accuracy {scores.accuracy:.2%}"
