"""Progress on the console: a small live panel on a terminal, plain occasional lines elsewhere.

Both take what the controller tells its observer (`RunState`) and lines about slow preparations. Neither writes to
stdout, which belongs to results.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Protocol, TextIO

from ....system.durations import format_duration
from ....workers.protocol import Evaluation, WorkerStatus
from ...evolution.candidate import BASELINE_ID

if TYPE_CHECKING:  # rich is loaded when a panel is drawn
    from rich.console import RenderableType

    from ...runs.controller import RunState

__all__ = ["Display", "LineDisplay", "LiveDisplay", "best_against_baseline", "format_outcomes", "make_display"]

LINE_SECONDS = 60.0
"""How often plain lines say where the search stands, when nothing else happens."""

_BAR = 18
_EVENTS = 5
_WORKERS = 16
_ORDER = ("ok", "stopped_at_hurdle", "rejected", "non_finite", "timeout", "out_of_memory")
_WORDS = {"ok": "trained in full", "stopped_at_hurdle": "stopped at a hurdle", "non_finite": "non-finite"}


class Display(Protocol):
    """Where progress goes; a context manager."""

    def observe(self, state: RunState) -> None:
        """Take in the run's state; called several times a second."""
        ...

    def tell(self, line: str) -> None:
        """Say something about the preparations."""
        ...

    def __enter__(self) -> Display: ...

    def __exit__(self, *_: object) -> None: ...


def make_display(stream: TextIO) -> Display:
    """The display that suits a stream."""
    return LiveDisplay(stream) if stream.isatty() else LineDisplay(stream)


class LineDisplay:
    """Plain lines: each new best, and once a minute where the search stands."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self._best: float | None = None
        self._next = LINE_SECONDS
        self._began = False

    def observe(self, state: RunState) -> None:
        best = None if state.best is None else state.best[1]
        if best is not None and best != self._best:
            self._best = best
            news = "new best" if self._began else "best so far"  # a resumed run knows one already
            self.tell(f"{format_duration(state.elapsed_seconds)} {news}: {best_against_baseline(state)}")
        self._began = True
        if state.elapsed_seconds >= self._next:
            self._next = (state.elapsed_seconds // LINE_SECONDS + 1) * LINE_SECONDS
            self.tell(f"{format_duration(state.elapsed_seconds)} {_counts(state)}")

    def tell(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class LiveDisplay:
    """A panel of a few lines, drawn anew four times a second: time left, counts, the best, workers, what happened."""

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.live import Live

        self._state: RunState | None = None
        self._seen_at = 0.0
        self._told = ""
        self._events: deque[str] = deque(maxlen=_EVENTS)
        self._live = Live(
            console=Console(file=stream),
            get_renderable=self.panel,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def observe(self, state: RunState) -> None:
        known = state.last if self._state is None else self._state.last  # a resumed run's last trial is no news
        if state.last is not None and state.last is not known:
            self._events.append(f"{format_duration(state.elapsed_seconds):>8}  {_event(*state.last)}")
        self._state, self._seen_at = state, time.monotonic()

    def tell(self, line: str) -> None:
        self._told = line

    def panel(self) -> RenderableType:
        """What stands on the terminal now."""
        from rich.console import Group
        from rich.text import Text

        state = self._state
        if state is None:
            return Text(f"{self._told or 'starting'} ...", style="dim")
        elapsed = state.elapsed_seconds + time.monotonic() - self._seen_at
        left = max(state.budget_seconds - elapsed, 0.0)
        head = Text.assemble(
            (f"{format_duration(math.ceil(left))} left", "bold"),
            f" of {format_duration(state.budget_seconds)}   {_counts(state)}",
        )
        best = Text.assemble(("best  ", "dim"), best_against_baseline(state))
        events = [Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in self._events]
        return Group(head, best, _workers(state.workers), *events)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def format_outcomes(outcomes: Mapping[str, int]) -> str:
    """How many trials ended how, in words; reasons of rejection are summed.

    >>> format_outcomes({"ok": 3, "rejected:causality": 1, "rejected:finiteness": 1})
    '3 trained in full · 2 rejected'
    """
    sums: dict[str, int] = {}
    for outcome, count in outcomes.items():
        kind = outcome.partition(":")[0]
        sums[kind] = sums.get(kind, 0) + count
    kinds = [*(kind for kind in _ORDER if kind in sums), *(kind for kind in sums if kind not in _ORDER)]
    return " · ".join(f"{sums[kind]} {_WORDS.get(kind, kind.replace('_', ' '))}" for kind in kinds)


def best_against_baseline(state: RunState) -> str:
    """The best candidate's loss against the baseline's mean and spread, in words."""
    losses = state.baseline_losses
    spread = f" ± {stdev(losses):.4f}" if len(losses) > 1 else ""
    baseline = (
        f"baseline {fmean(losses):.4f}{spread} nats (n={len(losses)})" if losses else "the baseline is still training"
    )
    if state.best is None:
        return f"none yet; {baseline}"
    number, loss = state.best
    bits = state.best_bits_per_byte
    words = f"#{number} {loss:.4f} nats" + (f", {bits:.4f} bits/byte" if bits is not None else "")
    if losses:
        delta = loss - fmean(losses)
        in_bits = f", {delta * bits / loss:+.4f} bits/byte" if bits is not None and loss else ""
        words += f"; {delta:+.4f} nats{in_bits} against the {baseline}"
    return words


def _counts(state: RunState) -> str:
    ended = sum(state.outcomes.values())
    minutes = state.elapsed_seconds / 60.0
    rate = f" ({ended / minutes:.1f} trials a minute)" if ended and minutes > 0.5 else ""
    words = format_outcomes(state.outcomes)
    return f"{state.candidates} candidate{'s' * (state.candidates != 1)}{rate}" + (f"   {words}" if words else "")


def _workers(workers: tuple[WorkerStatus, ...]) -> RenderableType:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for status in workers[:_WORKERS]:
        share = min(status.spent / status.budget, 1.0) if status.budget else 0.0
        candidate = "" if status.candidate_id is None else _name(status.candidate_id)
        filled = round(share * _BAR)
        bar = "━" * filled + "─" * (_BAR - filled) if status.candidate_id is not None else ""
        loss = "" if status.loss_nats is None else f"{status.loss_nats:.3f} nats"
        table.add_row(
            f"[dim]worker {status.worker}[/]",
            status.phase,
            candidate,
            f"[cyan]{bar}[/]",
            f"{share:4.0%}" * bool(bar),
            loss,
        )
    if len(workers) > _WORKERS:
        table.add_row(f"[dim]and {len(workers) - _WORKERS} more[/]")
    return table


def _event(candidate_id: int, evaluation: Evaluation) -> str:
    name, kind = _name(candidate_id), evaluation.kind
    if kind == "ok" and evaluation.loss_nats is not None:
        return f"{name} trained in full: {evaluation.loss_nats:.4f} nats"
    if kind == "stopped_at_hurdle" and evaluation.hurdle_losses:
        return f"{name} stopped at hurdle {len(evaluation.hurdle_losses)}: {evaluation.hurdle_losses[-1]:.4f} nats"
    return f"{name} {evaluation.outcome.replace('_', ' ')}: {evaluation.message}"


def _name(candidate_id: int) -> str:
    return "baseline" if candidate_id == BASELINE_ID else f"#{candidate_id}"
