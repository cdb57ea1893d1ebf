"""Progress of a search: a live panel on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, TextIO

from ....system.durations import format_duration
from ....system.plurals import pluralize
from ....workers.protocol import Evaluation
from ...evolution.candidate import candidate_name
from ...runs.progress_snapshot import HurdleCounts
from .display import LinePrinter, LivePanel, NoDisplay, WorkerTable, choose_display, facts_grid
from .sparkline import sparkline, steps_in_columns

if TYPE_CHECKING:  # rich is loaded when a panel is drawn
    from rich.console import Console, ConsoleOptions, RenderableType

    from ...evolution.best_candidate import BestCandidate
    from ...runs.progress_snapshot import ProgressSnapshot

__all__ = [
    "OUTCOME_WORDS",
    "SearchLines",
    "SearchPanel",
    "beats_baseline",
    "best_against_baseline",
    "format_outcomes",
    "search_display",
]

LINE_SECONDS = 60.0
"""Seconds between two lines about the search."""

_CURVE_COLUMNS = 60
"""Largest width of the curve of the lowest loss, in characters."""

_ORDER = ("ok", "stopped_at_hurdle", "rejected", "non_finite", "timeout", "out_of_memory")

OUTCOME_WORDS = {"ok": "trained in full", "stopped_at_hurdle": "stopped at a hurdle", "non_finite": "non-finite"}
"""Outcomes in words; other outcomes are shown by their name."""


def search_display(
    stream: TextIO, quiet: bool = False
) -> LivePanel[ProgressSnapshot] | LinePrinter[ProgressSnapshot] | NoDisplay:
    """Return the display of a search for a stream; see `choose_display`."""
    return choose_display(stream, SearchPanel, SearchLines, quiet)


class SearchLines(LinePrinter["ProgressSnapshot"]):
    """A line for each new best candidate that is better than the baseline, and a line about the search each minute."""

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        self._seen: BestCandidate | None = None
        self._told: tuple[int, float] | None = None
        self._next = LINE_SECONDS
        self._started = False

    def observe(self, state: ProgressSnapshot) -> None:
        best = state.best if beats_baseline(state) else None
        seen, self._seen = self._seen, best
        minute = state.elapsed_seconds >= self._next
        if best is not None and (seen is None or (best.id != seen.id and best.fitness_nats < seen.fitness_nats)):
            self._tell_best(state, best, "new best" if self._started else "best so far")  # a resumed run may have one
        elif best is not None and minute and (best.id, best.loss_nats) != self._told:
            self._tell_best(state, best, "the best is now")  # a training with another random seed has corrected it
        self._started = True
        if minute:
            self._next = (state.elapsed_seconds // LINE_SECONDS + 1) * LINE_SECONDS
            none = " · none better than the baseline yet" if state.baseline_losses and best is None else ""
            self.tell(f"{format_duration(state.elapsed_seconds)} {_counts(state)}{none}")

    def _tell_best(self, state: ProgressSnapshot, best: BestCandidate, news: str) -> None:
        self._told = best.id, best.loss_nats
        self.tell(f"{format_duration(state.elapsed_seconds)} {news}: {best_against_baseline(state)}")


class SearchPanel(LivePanel["ProgressSnapshot"]):
    """Time left, counts, hurdles, the best candidate, the lowest loss so far, the workers, and the last results."""

    def draw(self, state: ProgressSnapshot, seconds: float) -> list[RenderableType]:
        from rich.text import Text

        left = format_duration(math.ceil(max(state.budget_seconds - state.elapsed_seconds - seconds, 0.0)))
        facts: list[tuple[str, RenderableType]] = [
            ("time", Text.assemble((f"{left} left", "bold"), f" of {format_duration(state.budget_seconds)}")),
            ("trials", Text(_counts(state))),
            ("hurdles", Text(format_hurdles(state.hurdles))),
            ("best", Text(best_against_baseline(state))),
        ]
        if state.baseline_losses and any(loss < fmean(state.baseline_losses) for _, loss in state.improvements):
            facts.append(("lowest", LossCurve(state)))
        return [facts_grid([(name, text) for name, text in facts if not isinstance(text, Text) or text.plain])]

    def draw_workers(self, state: ProgressSnapshot) -> RenderableType:
        return WorkerTable(state.workers, candidate_name)

    def format_event(self, state: ProgressSnapshot) -> str:
        assert state.last is not None
        return f"{format_duration(state.elapsed_seconds):>8}  {_format_result(*state.last)}"


@dataclass(frozen=True, slots=True)
class LossCurve:
    """The lowest loss after each trial as a line of block characters that starts at the baseline's mean."""

    state: ProgressSnapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.text import Text

        state, start = self.state, fmean(self.state.baseline_losses)
        length = max(state.trials, 1)
        ends = (f"{start:.4f} ", f" {min([start, *(loss for _, loss in state.improvements)]):.4f} nats")
        room = min(options.max_width - len("".join(ends)), _CURVE_COLUMNS)
        curve = sparkline(steps_in_columns(start, state.improvements, length, room))
        yield Text.assemble(ends[0], (curve, "green"), ends[1], no_wrap=True, overflow="ellipsis")


def format_hurdles(hurdles: Sequence[HurdleCounts]) -> str:
    """Format how many candidates passed each hurdle.

    >>> format_hurdles([HurdleCounts(20, 11), HurdleCounts(11, 6)])
    '11 of 20 passed hurdle 1 · 6 of 11 hurdle 2'
    """
    parts = [f"{passed} of {reached} hurdle {number}" for number, (reached, passed) in enumerate(hurdles, start=1)]
    return " · ".join(parts).replace(" hurdle", " passed hurdle", 1)


def format_outcomes(outcomes: Mapping[str, int]) -> str:
    """Format the number of trials with each outcome; reasons of rejection are summed.

    >>> format_outcomes({"ok": 3, "rejected:causality": 1, "rejected:finiteness": 1})
    '3 trained in full · 2 rejected'
    """
    sums: dict[str, int] = {}
    for outcome, count in outcomes.items():
        kind = outcome.partition(":")[0]
        sums[kind] = sums.get(kind, 0) + count
    kinds = [*(kind for kind in _ORDER if kind in sums), *(kind for kind in sums if kind not in _ORDER)]
    return " · ".join(f"{sums[kind]} {OUTCOME_WORDS.get(kind, kind.replace('_', ' '))}" for kind in kinds)


def beats_baseline(state: ProgressSnapshot) -> bool:
    """Return whether the best candidate has a lower fitness than the baseline, by which the search ranks."""
    losses = state.baseline_losses
    return state.best is not None and bool(losses) and state.best.fitness_nats < fmean(losses)


def best_against_baseline(state: ProgressSnapshot) -> str:
    """Format the best candidate's loss and its difference to the baseline's mean, as the leaderboard has them."""
    losses, best = state.baseline_losses, state.best
    spread = f" ± {stdev(losses):.4f}" if len(losses) > 1 else ""
    baseline = (
        f"baseline {fmean(losses):.4f}{spread} nats (n={len(losses)})" if losses else "the baseline is still training"
    )
    if best is None:
        return f"none yet; {baseline}"
    bits = best.bits_per_byte
    words = f"#{best.id} {best.loss_nats:.4f} nats" + (f", {bits:.4f} bits/byte" if bits is not None else "")
    if losses:
        words += f"; {_difference(best, best.loss_nats - fmean(losses))}"
        if best.fitness_nats > best.loss_nats:
            words += f" at equal steps, {_difference(best, best.fitness_nats - fmean(losses))} at equal time,"
        words += f" against the {baseline}"
    return words


def _difference(best: BestCandidate, delta: float) -> str:
    """Format a difference of losses in both units."""
    if best.bits_per_byte is None or not best.loss_nats:
        return f"{delta:+.4f} nats"
    return f"{delta:+.4f} nats, {delta * best.bits_per_byte / best.loss_nats:+.4f} bits/byte"


def _counts(state: ProgressSnapshot) -> str:
    """Format the numbers of candidates and of trials. Trials include repeated trainings and those of the baseline."""
    candidates = pluralize(state.candidates, "candidate")
    ended, minutes = sum(state.outcomes.values()), state.elapsed_seconds / 60.0
    if not ended:
        return candidates
    rate = f" ({ended / minutes:.1f} a minute)" if minutes > 0.5 else ""
    return f"{candidates} · {pluralize(ended, 'trial')}{rate}: {format_outcomes(state.outcomes)}"


def _format_result(candidate_id: int, evaluation: Evaluation) -> str:
    name, kind = candidate_name(candidate_id), evaluation.kind
    if kind == "ok" and evaluation.loss_nats is not None:
        return f"{name} trained in full: {evaluation.loss_nats:.4f} nats"
    if kind == "stopped_at_hurdle" and evaluation.hurdle_losses:
        return f"{name} stopped at hurdle {len(evaluation.hurdle_losses)}: {evaluation.hurdle_losses[-1]:.4f} nats"
    return f"{name} {evaluation.outcome.replace('_', ' ')}: {evaluation.message}"
